//! A given number of generated frames on every core, without a fuzzer: the same frames for the same seed, on any machine.
//!
//! `generated_frames FRAMES SEED` prints how many were answered, dropped and passed, and fails at the first wrong answer.

use std::{
    env,
    io::{self, Write as _},
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use announcer_ebpf::packet::Verdict;
use announcer_fuzz::{Entropy, check, frame, node};

/// Frames that share a stream of random numbers, and that a thread takes at once.
const CHUNK: u64 = 1 << 14;
/// More bytes than a node and a frame ever use up.
const BYTES: usize = 96;

/// How often what was answered.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    answered: u64,
    dropped: u64,
    passed: u64,
    malformed: u64,
    conflicts: u64,
}

fn main() -> ExitCode {
    let numbers: Option<Vec<u64>> = env::args().skip(1).map(|text| text.parse().ok()).collect();
    let Some(&[frames, seed]) = numbers.as_deref() else {
        eprintln!("usage: generated_frames FRAMES SEED");
        return ExitCode::from(2);
    };
    let start = Instant::now();
    let (next, done, total) = (AtomicU64::new(0), AtomicU64::new(0), Mutex::new(Tally::default()));
    let work = || {
        loop {
            let first = next.fetch_add(CHUNK, Ordering::Relaxed);
            if first >= frames {
                return;
            }
            let count = CHUNK.min(frames - first);
            let tally = chunk(seed, first, count);
            total.lock().unwrap_or_else(PoisonError::into_inner).add(&tally);
            done.fetch_add(count, Ordering::Relaxed);
        }
    };
    let sound = thread::scope(|scope| {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        let mut said = Instant::now();
        while !threads.iter().all(thread::ScopedJoinHandle::is_finished) {
            thread::sleep(Duration::from_millis(20));
            if said.elapsed() > Duration::from_secs(5) {
                said = Instant::now();
                let done = done.load(Ordering::Relaxed);
                println!(
                    "{done} of {frames} frames, {:.0} a second",
                    done as f64 / start.elapsed().as_secs_f64()
                );
                let _ = io::stdout().flush();
            }
        }
        threads.into_iter().filter_map(|thread| thread.join().err()).count() == 0
    });
    let seconds = start.elapsed().as_secs_f64();
    if !sound {
        return ExitCode::FAILURE;
    }
    let Tally { answered, dropped, passed, malformed, conflicts } =
        *total.lock().unwrap_or_else(PoisonError::into_inner);
    println!(
        "{} frames in {seconds:.1} s, seed {seed}, wrong answers 0: {answered} answered, {dropped} dropped, {passed} passed (of them {malformed} malformed, {conflicts} conflicts)",
        done.load(Ordering::Relaxed)
    );
    ExitCode::SUCCESS
}

/// The frames from number `first` on. A wrong answer panics, with the frame in its message.
fn chunk(seed: u64, first: u64, count: u64) -> Tally {
    let mut random = SplitMix(seed ^ first.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut tally = Tally::default();
    let mut bytes = [0; BYTES];
    for number in first..first + count {
        for word in bytes.chunks_exact_mut(8) {
            word.copy_from_slice(&random.next().to_le_bytes());
        }
        let mut entropy = Entropy(&bytes);
        let node = node(&mut entropy);
        let frame = frame(&mut entropy);
        let judged = std::panic::catch_unwind(|| check(node, &frame));
        let Ok((verdict, node)) = judged else {
            panic!("wrong answer to frame {number} of seed {seed}: {frame:02x?}");
        };
        match verdict {
            Verdict::Answer => tally.answered += 1,
            Verdict::Drop => tally.dropped += 1,
            Verdict::Pass => tally.passed += 1,
        }
        tally.malformed += u64::from(node.malformed);
        tally.conflicts += node.conflicts.len() as u64;
    }
    tally
}

/// Steele, Lea and Flood's generator: any seed is a good one.
struct SplitMix(u64);

// === impl SplitMix ===

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

// === impl Tally ===

impl Tally {
    fn add(&mut self, other: &Self) {
        let &Self { answered, dropped, passed, malformed, conflicts } = other;
        self.answered += answered;
        self.dropped += dropped;
        self.passed += passed;
        self.malformed += malformed;
        self.conflicts += conflicts;
    }
}

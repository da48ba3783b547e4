//! Questions at a fixed rate, whatever comes back, and a count of the answers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::support::{Client, link, socket::Wire};

/// Questions a second.
pub const RATE: u64 = 20_000;
const AT_ONCE: u64 = 64;

/// A sender and a counter on one interface of the client.
pub struct Flood {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<(u64, Duration)>,
    counter: JoinHandle<u64>,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Flooded {
    pub sent: u64,
    pub answered: u64,
    /// Questions a second, in the end.
    pub rate: f64,
}

impl Flood {
    /// Sends `question` from the client's interface; what `is_answer` likes is counted.
    pub fn start(
        client: &Client,
        interface: &'static str,
        question: Vec<u8>,
        is_answer: impl Fn(&[u8]) -> bool + Send + 'static,
    ) -> Self {
        // Sockets stay in the namespace they were opened in.
        let ethertype = u16::from_be_bytes([question[12], question[13]]);
        let (out, back) = client.run(move || {
            let ifindex = link(interface).id.0;
            (Wire::open(ifindex), Wire::listening(ifindex, ethertype))
        });
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(u64::MAX));
        let (stopping, all) = (stop.clone(), sent.clone());
        let sender = thread::spawn(move || {
            let begun = Instant::now();
            let mut count = 0;
            while !stopping.load(Ordering::Relaxed) {
                for _ in 0..AT_ONCE {
                    out.send(&question);
                }
                count += AT_ONCE;
                // Behind schedule it hurries, so that the rate holds on a busy machine, too.
                let due = begun + Duration::from_nanos(count * 1_000_000_000 / RATE);
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            all.store(count, Ordering::Relaxed);
            (count, begun.elapsed())
        });
        let counter = thread::spawn(move || {
            let mut answered = 0;
            // Half a second without a frame after the last question: what has not come by then is lost.
            loop {
                match back.receive(&is_answer) {
                    Some(_) => answered += 1,
                    None if sent.load(Ordering::Relaxed) != u64::MAX => return answered,
                    None => {}
                }
                if answered == sent.load(Ordering::Relaxed) {
                    return answered;
                }
            }
        });
        Self { stop, sender, counter }
    }

    /// Ends the questions, and waits for the last answers.
    pub fn stop(self) -> Flooded {
        self.stop.store(true, Ordering::Relaxed);
        let (sent, took) = self.sender.join().expect("the sender");
        let answered = self.counter.join().expect("the counter");
        Flooded { sent, answered, rate: sent as f64 / took.as_secs_f64() }
    }
}

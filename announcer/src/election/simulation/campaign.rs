//! Many worlds, on all CPUs, and what they add up to.

use std::{
    collections::BTreeMap,
    fmt,
    panic::{self, AssertUnwindSafe},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{kinds::Kinds, world::World};

/// How often progress is told.
const OFTEN: Duration = Duration::from_secs(5);

/// Which worlds.
#[derive(Clone, Copy, Debug)]
pub struct Campaign {
    pub first: u64,
    /// No more worlds than this.
    pub seeds: u64,
    /// No new world once so many hours are simulated.
    pub hours: f64,
    pub jobs: usize,
    /// Some worlds are followed for days.
    pub long: bool,
}

/// What was simulated.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub seeds: u64,
    pub hours: f64,
    /// Of them with faults.
    pub rough: f64,
    pub events: u64,
    pub gains: u64,
    pub fences: u64,
    pub early: u64,
    pub adopted: u64,
    pub doubles: u64,
}

impl Figures {
    fn add(&mut self, world: &World) {
        self.seeds += 1;
        self.hours += world.now as f64 / 3.6e12;
        self.rough += world.checks.rough_ns as f64 / 3.6e12;
        self.events += world.events();
        self.gains += world.checks.gains;
        self.fences += world.checks.fences;
        self.early += world.checks.fenced_early;
        self.adopted += world.checks.adopted;
        self.doubles += world.checks.doubles;
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seeds, hours, rough, events, gains, fences, early, adopted, doubles } = self;
        write!(
            f,
            "{seeds} seeds, {hours:.1} simulated cluster-hours ({rough:.1} under faults), {events} events, {gains} VIPs gained, {fences} nodes \
             fenced ({early} early), {adopted} adoptions, {doubles} answers doubled where that is allowed"
        )
    }
}

impl Campaign {
    /// Runs them. What was written, and the worlds that broke a promise, by seed; at most a few, for then it ends.
    pub fn run(self) -> (Figures, Kinds, BTreeMap<u64, String>) {
        let (next, over) = (AtomicU64::new(self.first), AtomicBool::new(false));
        let done = Mutex::new((Figures::default(), Kinds::default(), BTreeMap::new()));
        let start = Instant::now();
        let worker = || {
            while !over.load(Ordering::Relaxed) {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= self.first.saturating_add(self.seeds) {
                    return;
                }
                let mut world = World::new(seed, self.long, false);
                let result = run(&mut world);
                let Ok(mut done) = done.lock() else { return };
                done.0.add(&world);
                done.1.add(&world.checks.kinds);
                if let Err(broken) = result {
                    println!("seed {seed}: {broken}");
                    done.2.insert(seed, broken);
                }
                if done.0.hours >= self.hours || done.2.len() >= 10 {
                    over.store(true, Ordering::Relaxed);
                }
            }
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.jobs.max(1)).map(|_| scope.spawn(worker)).collect();
            let mut said = Instant::now();
            while workers.iter().any(|worker| !worker.is_finished()) {
                std::thread::sleep(Duration::from_millis(20));
                if said.elapsed() >= OFTEN {
                    said = Instant::now();
                    if let Ok(done) = done.lock() {
                        println!("{:6.0} s  {}", start.elapsed().as_secs_f64(), done.0);
                    }
                }
            }
        });
        done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A panic breaks a promise, too.
pub fn run(world: &mut World) -> Result<(), String> {
    let ended = panic::catch_unwind(AssertUnwindSafe(|| world.run()));
    ended.unwrap_or_else(|_| Err("panicked".to_owned()))
}

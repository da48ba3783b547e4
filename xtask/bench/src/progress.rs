//! A word now and then, so that nobody wonders whether it hangs.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Tells how far a part has come, every two seconds.
pub struct Progress {
    part: &'static str,
    rounds: usize,
    start: Instant,
    told: Mutex<Instant>,
}

impl Progress {
    const EVERY: Duration = Duration::from_secs(2);

    /// Says that a part of so many rounds begins.
    pub fn start(part: &'static str, rounds: usize) -> Self {
        eprintln!("{part}: {rounds} rounds");
        Self { part, rounds, start: Instant::now(), told: Mutex::new(Instant::now()) }
    }

    /// Round `round` begins.
    pub fn round(&self, round: usize) {
        self.tell(&format!("round {} of {}", round + 1, self.rounds));
    }

    /// Says `what`, if it has been silent for a while.
    pub fn tell(&self, what: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.elapsed() >= Self::EVERY {
            eprintln!("{}: {what}, after {:.0} s", self.part, self.start.elapsed().as_secs_f64());
            *told = Instant::now();
        }
    }
}

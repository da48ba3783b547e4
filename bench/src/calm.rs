//! Whether the machine leaves this thread alone: a virtual machine's neighbours, a sibling hyperthread and a governor
//! all make every instruction slower for a while, and no clock says so.

use std::{os::fd::AsFd, thread, time::Duration};

use anyhow::Result;

use crate::{
    frames,
    programs::Program,
    sys::{self, Kind},
};

/// Tells calm times from others by a fixed piece of work, an empty program run on a frame: in calm times it takes as
/// long as its best so far.
pub struct Calm {
    empty: Program,
    ifindex: u32,
    best: Duration,
    /// Measurements that were kept although the machine never was calm.
    restless: u32,
    kept: u32,
}

impl Calm {
    /// Runs of the empty program: about 100 µs.
    const REPEAT: u32 = 8000;
    /// A seventh slower than the best is not calm any more.
    const TOLERANCE: f64 = 1.15;
    const ATTEMPTS: u32 = 4;

    /// Takes CPU `cpu` for the calling thread, which runs before all others there, and learns how fast it can be.
    pub fn take(cpu: usize, ifindex: u32) -> Result<Self> {
        sys::pin_to_cpu(None, cpu)?;
        sys::set_first(true)?;
        let empty = Program::empty(Kind::Tcx)?;
        let mut calm = Self { empty, ifindex, best: Duration::MAX, restless: 0, kept: 0 };
        for _ in 0..200 {
            calm.best = calm.best.min(calm.work()?);
        }
        Ok(calm)
    }

    /// Measures until it was calm before and after, a few times at most.
    pub fn measure(&mut self, mut measure: impl FnMut() -> Result<Duration>) -> Result<Duration> {
        self.kept += 1;
        for _ in 0..Self::ATTEMPTS {
            let before = self.work()?;
            let took = measure()?;
            let after = self.work()?;
            self.best = self.best.min(before).min(after);
            if before.max(after) <= self.best.mul_f64(Self::TOLERANCE) {
                return Ok(took);
            }
            thread::sleep(Duration::from_millis(2));
        }
        self.restless += 1;
        measure()
    }

    /// The share of measurements that were kept although it was not calm.
    pub fn restless_share(&self) -> f64 {
        f64::from(self.restless) / f64::from(self.kept.max(1))
    }

    /// As a classifier: an XDP program's test run waits for two grace periods.
    fn work(&self) -> Result<Duration> {
        let before = sys::thread_time();
        sys::test_run(Kind::Tcx, self.empty.as_fd(), self.ifindex, &frames::udp4(), Self::REPEAT)?;
        Ok(sys::thread_time().saturating_sub(before))
    }
}

//! Busy loops: what a node's other work does to whoever needs a CPU to answer.

use std::{
    hint,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
};

use crate::{machine, sys};

/// Loops at nice 0, spread evenly over the CPUs. They end when this is dropped, or with the process.
pub struct Busy {
    stop: Arc<AtomicBool>,
    loops: Vec<JoinHandle<()>>,
}

impl Busy {
    /// Starts so many.
    pub fn start(loops: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |number: usize| {
            let stop = stop.clone();
            thread::spawn(move || {
                // One that can't be pinned is as busy elsewhere.
                sys::pin_to_cpu(None, number % machine::cpus()).unwrap_or_default();
                while !stop.load(Relaxed) {
                    (0..1000_u32).for_each(|n| assert!(hint::black_box(n) < 1000));
                }
            })
        };
        Self { loops: (0..loops).map(start).collect(), stop }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for busy in self.loops.drain(..) {
            busy.join().unwrap_or_default();
        }
    }
}

//! Something done over and over from a host of the lab, at a steady pace and before all other work of its CPU.

use std::{
    fs::File,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use announcer_tests::Machine;
use anyhow::{Context as _, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::trail;
use crate::sys;

/// A thread in a host's network that sends number after number. It ends when this is dropped.
pub struct Pacer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Vec<Duration>>>>,
}

/// Does `work` in the network of `host`, in a thread of its own.
pub fn within<T: Send>(host: &Machine, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let network = network(host)?;
    thread::scope(|scope| {
        let there = move || {
            enter(&network)?;
            work()
        };
        scope.spawn(there).join().map_err(|_| anyhow!("it has panicked"))?
    })
}

fn network(host: &Machine) -> Result<File> {
    File::open(host.netns_path()).with_context(|| format!("the network of {}", host.name()))
}

/// Takes the calling thread, which never comes back, into a network.
fn enter(network: &File) -> Result<()> {
    Ok(move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?)
}

impl Pacer {
    /// Sends the numbers from 0 on, one every `every`, by what `open` makes in the network of `host`. Whoever is late
    /// goes on from then, and does not catch up: what is sent in a burst says nothing about the time before it.
    pub fn start<S: FnMut(usize) -> Result<()>>(
        host: &Machine,
        every: Duration,
        open: impl FnOnce() -> Result<S> + Send + 'static,
    ) -> Result<Self> {
        let network = network(host)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let work = move || {
            enter(&network)?;
            let mut send = open()?;
            sys::set_first(true)?;
            let mut sent = Vec::with_capacity(1 << 16);
            let mut due = Instant::now();
            while !stopped.load(Relaxed) {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                let at = trail::now();
                send(sent.len())?;
                sent.push(at);
                due = (due + every).max(Instant::now());
            }
            Ok(sent)
        };
        let thread = thread::Builder::new().name("pacer".into()).spawn(work)?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Ends it: when each number was sent.
    pub fn finish(mut self) -> Result<Vec<Duration>> {
        self.stop.store(true, Relaxed);
        let thread = self.thread.take().context("it has ended before")?;
        thread.join().map_err(|_| anyhow!("the sending thread has panicked"))?
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().map(drop).unwrap_or_default();
        }
    }
}

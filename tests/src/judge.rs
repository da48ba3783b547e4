//! The judge: asks the LAN who has a VIP, over and over, as a client's neighbour cache would, and keeps
//! every answer. What it has seen is the truth about who answered when.

use std::{
    collections::BTreeSet,
    fs::File,
    net::IpAddr,
    os::fd::{AsFd as _, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{
    addresses::LanAddress,
    arp,
    machine::Machine,
    ndp, sys,
    verdict::{Answer, Verdict},
};

/// Questions that are due together, before answers are read.
const ASKED_AT_ONCE: usize = 16;

/// What a frame tells about who has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// A reply to the judge.
    Answer(IpAddr, [u8; 6]),
    /// An announcement to everybody.
    Announcement(IpAddr, [u8; 6]),
}

/// A judge at work. Dropping it ends its threads.
#[derive(Debug)]
pub struct Judge {
    seen: Arc<Mutex<Verdict>>,
    stop: Arc<AtomicBool>,
    start: Instant,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Judge {
    /// The usual time between two questions for one VIP.
    pub const EVERY: Duration = Duration::from_millis(20);

    /// Asks from the NIC `nic` of `host`, whose address there is `asker`, for each of `vips` every `every`, by ARP or Neighbour Solicitation.
    pub(crate) fn start(
        host: &Machine,
        nic: &'static str,
        asker: LanAddress,
        vips: &[IpAddr],
        every: Duration,
    ) -> Result<Self> {
        let mut judge = Self {
            seen: Arc::new(Mutex::new(Verdict::default())),
            stop: Arc::new(AtomicBool::new(false)),
            start: Instant::now(),
            threads: Vec::new(),
        };
        for is_v6 in [false, true] {
            let questions: Vec<(IpAddr, Vec<u8>)> = vips
                .iter()
                .filter(|vip| vip.is_ipv6() == is_v6)
                .map(|vip| match vip {
                    IpAddr::V4(target) => (*vip, arp::request(asker.mac(), asker.v4, *target).to_vec()),
                    IpAddr::V6(target) => {
                        (*vip, ndp::solicitation(asker.mac(), asker.v6(), *target).to_vec())
                    }
                })
                .collect();
            if questions.is_empty() {
                continue;
            }
            let netns =
                File::open(host.netns_path()).with_context(|| format!("the network of {}", host.name()))?;
            let watch = Watch {
                ethertype: if is_v6 { ndp::ETHERTYPE } else { arp::ETHERTYPE },
                vips: questions.iter().map(|(vip, _)| *vip).collect(),
                questions,
                nic,
                asker,
                every,
                start: judge.start,
                seen: judge.seen.clone(),
                stop: judge.stop.clone(),
            };
            let (ready, opened) = mpsc::sync_channel(1);
            judge.threads.push(std::thread::Builder::new().name("judge".into()).spawn(move || {
                // Only this thread moves; it ends with the judge.
                move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))?;
                let socket = watch.open_socket()?;
                let _ = ready.send(());
                watch.run(&socket)
            })?);
            if opened.recv().is_err() {
                // The thread has ended without a word: its result says why.
                return Err(judge.finish().err().unwrap_or_else(|| anyhow!("the judge ended at once")));
            }
        }
        Ok(judge)
    }

    /// The time since the judge's start, on the clock of its answers.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// What it has seen so far.
    pub fn so_far(&self) -> Verdict {
        let mut verdict = Verdict { watched: self.now(), ..locked(&self.seen).clone() };
        // Two threads, and the kernel's time stamps: nearly in order already.
        verdict.answers.sort_by_key(|answer| answer.at);
        verdict.announcements.sort_by_key(|answer| answer.at);
        verdict
    }

    /// The answers that came in from then on.
    pub fn answers_since(&self, from: Duration) -> Vec<Answer> {
        locked(&self.seen).answers.iter().filter(|answer| answer.at >= from).copied().collect()
    }

    /// Waits until somebody answers for `vip`, from now on; who it is.
    pub fn wait_answer(&self, vip: IpAddr, deadline: Duration) -> Result<Answer> {
        let from = self.now();
        crate::wait::until(&format!("an answer for {vip}"), deadline, || {
            Ok(locked(&self.seen)
                .answers
                .iter()
                .rfind(|answer| answer.vip == vip && answer.at >= from)
                .copied())
        })
    }

    /// Ends it, and returns all it has seen.
    pub fn finish(mut self) -> Result<Verdict> {
        let verdict = self.so_far();
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| anyhow!("the judge panicked"))?.context("the judge failed")?;
        }
        Ok(verdict)
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The questions of one address family, and where the answers go.
struct Watch {
    ethertype: u16,
    vips: BTreeSet<IpAddr>,
    questions: Vec<(IpAddr, Vec<u8>)>,
    nic: &'static str,
    asker: LanAddress,
    every: Duration,
    start: Instant,
    seen: Arc<Mutex<Verdict>>,
    stop: Arc<AtomicBool>,
}

impl Watch {
    fn open_socket(&self) -> Result<OwnedFd> {
        let any =
            rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
        let ifindex = rustix::net::netdevice::name_to_index(&any, self.nic)
            .with_context(|| format!("no {}", self.nic))?;
        sys::packet_socket(self.ethertype, ifindex).context("open a packet socket")
    }

    fn run(&self, socket: &OwnedFd) -> Result<()> {
        let mut round = Instant::now();
        let apart = self.every / u32::try_from(self.questions.len())?;
        let (mut next, mut due) = (0, round);
        let mut buffer = [0_u8; 256];
        while !self.stop.load(Ordering::Relaxed) {
            // Spread over the round, for a veth holds few frames: the rest of a burst of a thousand is lost.
            if Instant::now() >= due {
                let (vip, question) = &self.questions[next];
                rustix::net::send(socket, question, rustix::net::SendFlags::empty()).context("ask")?;
                *locked(&self.seen).asked.entry(*vip).or_default() += 1;
                (next, due) = (next + 1, due + apart);
                if next == self.questions.len() {
                    // Late or not, two questions for one VIP are never close: an answer belongs to one of them.
                    round = (round + self.every).max(Instant::now() + self.every / 2);
                    (next, due) = (0, round);
                }
                if due <= Instant::now() && next % ASKED_AT_ONCE != 0 {
                    continue;
                }
            }
            // Returns after 5 ms at the latest.
            let Some((length, age)) = sys::receive(socket, &mut buffer).context("listen")? else { continue };
            let at = self.start.elapsed().saturating_sub(age);
            self.note(at, buffer.get(..length).unwrap_or_default());
        }
        Ok(())
    }

    fn note(&self, at: Duration, frame: &[u8]) {
        let said = match self.ethertype {
            arp::ETHERTYPE => arp::parse(frame, self.asker.v4),
            _ => ndp::parse(frame, self.asker.v6()),
        };
        let asked_for = |vip: &IpAddr| self.vips.contains(vip);
        match said {
            Some(Said::Answer(vip, mac)) if asked_for(&vip) => {
                locked(&self.seen).answers.push(Answer { at, vip, mac });
            }
            Some(Said::Announcement(vip, mac)) if asked_for(&vip) => {
                locked(&self.seen).announcements.push(Answer { at, vip, mac });
            }
            _ => (),
        }
    }
}

/// The record stays readable if a thread panics: each entry is written in one step.
fn locked(seen: &Mutex<Verdict>) -> MutexGuard<'_, Verdict> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

//! The judge: asks the LAN who has a VIP, over and over, as a client's neighbour cache would, and keeps
//! every answer. What it has seen is the truth about who answered when.

use std::{
    collections::BTreeMap,
    fs::File,
    net::Ipv4Addr,
    os::fd::{AsFd as _, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{
    addresses::{LanAddress, format_mac},
    arp,
    machine::Machine,
    sys,
};

/// One answer to a question of the judge's, or one announcement that nobody had asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// When it came in, counted from the judge's start.
    pub at: Duration,
    /// The address it is about.
    pub vip: Ipv4Addr,
    /// Who has that address.
    pub mac: [u8; 6],
}

/// All that the judge has seen so far.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Questions asked, per VIP.
    pub asked: BTreeMap<Ipv4Addr, u64>,
    /// Replies to them, in order of arrival.
    pub answers: Vec<Answer>,
    /// Gratuitous ARP, both forms, in order of arrival.
    pub announcements: Vec<Answer>,
    /// How long the judge has been asking.
    pub watched: Duration,
}

impl Verdict {
    /// Replies for `vip`.
    pub fn answered(&self, vip: Ipv4Addr) -> impl Iterator<Item = &Answer> {
        self.answers.iter().filter(move |answer| answer.vip == vip)
    }

    /// Pairs of replies for one VIP, by different MACs, that came within `window` of each other. A VIP
    /// that moves gives one such pair if `window` is longer than the gap; two owners give many.
    pub fn two_macs_within(&self, window: Duration) -> Vec<(Answer, Answer)> {
        let mut last: BTreeMap<Ipv4Addr, BTreeMap<[u8; 6], Answer>> = BTreeMap::new();
        let mut pairs = Vec::new();
        for answer in &self.answers {
            let by_mac = last.entry(answer.vip).or_default();
            let close = |earlier: &&Answer| earlier.mac != answer.mac && answer.at - earlier.at <= window;
            pairs.extend(by_mac.values().filter(close).map(|earlier| (*earlier, *answer)));
            by_mac.insert(answer.mac, *answer);
        }
        pairs
    }

    /// The longest time without a reply for `vip`, from the first reply on (or from the start, if there is
    /// none) to the end.
    pub fn longest_silence(&self, vip: Ipv4Addr) -> Duration {
        let mut times = self.answered(vip).map(|answer| answer.at);
        let Some(mut before) = times.next() else { return self.watched };
        let mut longest = Duration::ZERO;
        for at in times.chain([self.watched]) {
            longest = longest.max(at.saturating_sub(before));
            before = at;
        }
        longest
    }

    /// Who answered for `vip` when: one entry each time that the MAC changed.
    pub fn owners(&self, vip: Ipv4Addr) -> Vec<Answer> {
        let mut owners: Vec<Answer> = Vec::new();
        for answer in self.answered(vip) {
            if owners.last().is_none_or(|owner| owner.mac != answer.mac) {
                owners.push(*answer);
            }
        }
        owners
    }

    /// Some lines for people.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        for (vip, asked) in &self.asked {
            let answered = self.answered(*vip).count();
            let silence = self.longest_silence(*vip).as_secs_f64();
            text += &format!("{vip}: asked {asked}, answered {answered}, longest silence {silence:.3} s");
            for owner in self.owners(*vip) {
                text += &format!("; from {:.3} s {}", owner.at.as_secs_f64(), format_mac(owner.mac));
            }
            text.push('\n');
        }
        text
    }
}

/// A judge at work. Dropping it ends its thread.
#[derive(Debug)]
pub struct ArpJudge {
    seen: Arc<Mutex<Verdict>>,
    stop: Arc<AtomicBool>,
    start: Instant,
    thread: Option<JoinHandle<Result<()>>>,
}

impl ArpJudge {
    /// The usual time between two questions for one VIP.
    pub const EVERY: Duration = Duration::from_millis(20);

    /// Asks from the LAN host `host` for each of `vips` every `every`.
    pub(crate) fn start(host: &Machine, address: LanAddress, vips: &[Ipv4Addr], every: Duration) -> Result<Self> {
        let netns = File::open(host.netns_path()).with_context(|| format!("the network of {}", host.name()))?;
        let mut judge = Self {
            seen: Arc::new(Mutex::new(Verdict::default())),
            stop: Arc::new(AtomicBool::new(false)),
            start: Instant::now(),
            thread: None,
        };
        let (seen, stop, start, vips) = (judge.seen.clone(), judge.stop.clone(), judge.start, vips.to_vec());
        let (ready, opened) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name("judge".into()).spawn(move || {
            // Only this thread moves; it ends with the judge.
            move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))?;
            let socket = open_socket()?;
            let _ = ready.send(());
            watch(&socket, address, &vips, every, start, &seen, &stop)
        })?;
        judge.thread = Some(thread);
        match opened.recv() {
            Ok(()) => Ok(judge),
            // The thread has ended without a word: its result says why.
            Err(_) => Err(judge.finish().err().unwrap_or_else(|| anyhow!("the judge ended at once"))),
        }
    }

    /// The time since the judge's start, on the clock of its answers.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// What it has seen so far.
    pub fn so_far(&self) -> Verdict {
        Verdict { watched: self.now(), ..locked(&self.seen).clone() }
    }

    /// Ends it, and returns all it has seen.
    pub fn finish(mut self) -> Result<Verdict> {
        let verdict = self.so_far();
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| anyhow!("the judge panicked"))?.context("the judge failed")?;
        }
        Ok(verdict)
    }
}

impl Drop for ArpJudge {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn open_socket() -> Result<OwnedFd> {
    let any = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    let ifindex = rustix::net::netdevice::name_to_index(&any, "eth0").context("no eth0")?;
    sys::packet_socket(arp::ETHERTYPE, ifindex).context("open a packet socket")
}

fn watch(
    socket: &OwnedFd,
    asker: LanAddress,
    vips: &[Ipv4Addr],
    every: Duration,
    start: Instant,
    seen: &Mutex<Verdict>,
    stop: &AtomicBool,
) -> Result<()> {
    let questions: Vec<_> = vips.iter().map(|vip| (vip, arp::request(asker.mac(), asker.v4, *vip))).collect();
    let mut next_round = Instant::now();
    let mut buffer = [0_u8; 128];
    while !stop.load(Ordering::Relaxed) {
        if Instant::now() >= next_round {
            for (vip, question) in &questions {
                rustix::net::send(socket, question, rustix::net::SendFlags::empty()).context("ask")?;
                *locked(seen).asked.entry(**vip).or_default() += 1;
            }
            next_round = (next_round + every).max(Instant::now());
        }
        // Returns after 5 ms at the latest; all that waits is taken before the next question.
        let Ok((length, _)) = rustix::net::recv(socket, &mut buffer[..], rustix::net::RecvFlags::empty()) else {
            continue;
        };
        let at = start.elapsed();
        let Some(said) = buffer.get(..length).and_then(arp::parse) else { continue };
        let answer = Answer { at, vip: said.ip, mac: said.mac };
        if !vips.contains(&said.ip) {
            continue;
        }
        if said.is_reply && said.target == asker.v4 {
            locked(seen).answers.push(answer);
        } else if said.ip == said.target {
            locked(seen).announcements.push(answer);
        }
    }
    Ok(())
}

/// The record stays readable if a thread panics: each entry is written in one step.
fn locked(seen: &Mutex<Verdict>) -> MutexGuard<'_, Verdict> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: Ipv4Addr = Ipv4Addr::new(10, 4, 11, 1);

    fn answer(milliseconds: u64, last_byte: u8) -> Answer {
        Answer { at: Duration::from_millis(milliseconds), vip: VIP, mac: [2, 0, 0, 0, 0, last_byte] }
    }

    #[test]
    fn two_owners_at_once_are_seen_and_a_move_after_the_window_is_not() {
        let moved = Verdict { answers: vec![answer(0, 1), answer(20, 1), answer(900, 2)], ..Verdict::default() };
        assert!(moved.two_macs_within(Duration::from_millis(100)).is_empty());
        assert_eq!(moved.owners(VIP), [answer(0, 1), answer(900, 2)]);

        let both = Verdict { answers: vec![answer(0, 1), answer(1, 2), answer(20, 1)], ..Verdict::default() };
        let expected = [(answer(0, 1), answer(1, 2)), (answer(1, 2), answer(20, 1))];
        assert_eq!(both.two_macs_within(Duration::from_millis(100)), expected);
    }

    #[test]
    fn silence_lasts_until_the_end_of_the_watch() {
        let verdict = Verdict {
            answers: vec![answer(100, 1), answer(150, 1)],
            watched: Duration::from_millis(1000),
            ..Verdict::default()
        };
        assert_eq!(verdict.longest_silence(VIP), Duration::from_millis(850));
        assert_eq!(Verdict { answers: vec![], ..verdict }.longest_silence(VIP), Duration::from_millis(1000));
    }
}

//! When to announce which VIP on which link: five rounds when it is taken, then periodically, paced. Pure.
//!
//! Whoever holds the [`Schedule`] pops what is due and sends it; nothing here knows a socket or a clock.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    time::{Duration, Instant},
};

use super::frames::announcement_frames;
use crate::vocabulary::{LinkId, Vip};

/// Rounds after a VIP is taken, MetalLB's number.
pub const ROUNDS: u8 = 5;
const LAST_ROUND: Round = Round::Burst(ROUNDS - 1);
/// From one round to the next: more than Linux's `arp locktime` of 1 s, so that each round can still correct a cache.
pub const SPACING: Duration = Duration::from_millis(1100);
/// RFC 5227 §1.1: a claim by another host is answered by at most one announcement in this time.
pub const DEFEND_INTERVAL: Duration = Duration::from_secs(10);

/// How much earlier than an even pace a frame may leave: a handful of VIPs goes out at once.
const BURST: Duration = Duration::from_millis(50);

/// Which of a VIP's announcements this is. In this order they leave when more are due than the rate allows: every
/// VIP's first comes before any VIP's second.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub enum Round {
    /// Round 0 to 4 after the VIP was taken, or its link came up.
    Burst(u8),
    /// The reminder that keeps switches' forwarding tables fresh.
    Periodic,
}

/// One announcement that is due: all frames of `vip` on `link`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Announcement {
    /// The address to announce.
    pub vip: Vip,
    /// Where.
    pub link: LinkId,
    /// Which of its announcements.
    pub round: Round,
}

/// All announcements to come.
#[derive(Debug)]
pub struct Schedule {
    pace: Pace,
    period: Option<Duration>,
    jitter: Jitter,
    entries: BTreeMap<(Vip, LinkId), Entry>,
    /// One queue per round, earliest first.
    queues: BTreeMap<Round, BTreeSet<Place>>,
    issued: u64,
}

/// A place in a queue; the number keeps the order of calls among equals.
type Place = (Instant, u64, Vip, LinkId);

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The next announcement; `None` once the rounds are done and there are no reminders, or the link is down.
    next: Option<(Round, Place)>,
    sent: Option<Instant>,
}

impl Schedule {
    /// `rate`: frames per second over all VIPs and links. `period`: reminder interval, ± 10 %; zero for none. `seed`
    /// of that jitter.
    pub fn new(rate: NonZeroU32, period: Duration, seed: u64) -> Self {
        Self {
            pace: Pace { interval: Duration::from_secs(1) / rate.get(), even: None },
            period: (!period.is_zero()).then_some(period),
            jitter: Jitter(seed),
            entries: BTreeMap::new(),
            queues: BTreeMap::new(),
            issued: 0,
        }
    }

    /// Starts (again) the five rounds of `vip` on `link`, the first at `now`.
    pub fn announce(&mut self, vip: Vip, link: LinkId, now: Instant) {
        let sent = self.take(vip, link).and_then(|entry| entry.sent);
        self.put(vip, link, Some((Round::Burst(0), now)), sent);
    }

    /// Goes on with the reminders of what an earlier agent has announced: the first comes after `now` by a period.
    pub fn keep(&mut self, vip: Vip, link: LinkId, now: Instant) {
        self.take(vip, link);
        let next = self.period.map(|period| (Round::Periodic, now + self.jitter.around(period)));
        self.put(vip, link, next, None);
    }

    /// Another host claimed `vip` on `link`: announce once, unless that was done in the last [`DEFEND_INTERVAL`]
    /// (RFC 5227 §2.4 (c)) or the five rounds are under way. Says whether an announcement is due now.
    pub fn defend(&mut self, vip: Vip, link: LinkId, now: Instant) -> bool {
        let Some(Entry { next, sent }) = self.entries.get(&(vip, link)).copied() else { return false };
        let under_way = matches!(next, Some((Round::Burst(_), _)));
        if under_way || sent.is_some_and(|at| now.saturating_duration_since(at) < DEFEND_INTERVAL) {
            return false;
        }
        self.take(vip, link);
        self.put(vip, link, Some((LAST_ROUND, now)), sent);
        true
    }

    /// Forgets `vip` on `link`: nothing more is announced for it.
    pub fn withdraw(&mut self, vip: Vip, link: LinkId) {
        self.take(vip, link);
    }

    /// `link` came up, or got another MAC: every VIP on it starts its five rounds again.
    pub fn link_up(&mut self, link: LinkId, now: Instant) {
        for vip in self.on(link) {
            self.announce(vip, link, now);
        }
    }

    /// `link` is gone: nothing more is announced there.
    pub fn link_gone(&mut self, link: LinkId) {
        for vip in self.on(link) {
            self.withdraw(vip, link);
        }
    }

    /// What could not be sent leaves again at `at`, in the same round, unless it was withdrawn or announced anew.
    pub fn again(&mut self, announcement: Announcement, at: Instant) {
        let Announcement { vip, link, round } = announcement;
        let Some(Entry { next, sent }) = self.entries.get(&(vip, link)).copied() else { return };
        if next.is_none_or(|(next, _)| next > round || next == Round::Periodic) {
            self.take(vip, link);
            self.put(vip, link, Some((round, at)), sent);
        }
    }

    /// The link of this announcement can't carry it: its VIP waits for [`Self::link_up`], at no cost to the rate.
    pub fn park(&mut self, announcement: Announcement) {
        let Announcement { vip, link, round: _ } = announcement;
        if let Some(Entry { sent, .. }) = self.take(vip, link) {
            self.pace.refund(announcement_frames(vip));
            self.put(vip, link, None, sent);
        }
    }

    /// When [`Self::pop_due`] has something next, the rate considered; `None` while nothing is scheduled.
    pub fn next_due(&self) -> Option<Instant> {
        let due = self.queues.values().filter_map(BTreeSet::first).map(|(due, ..)| *due).min()?;
        Some(self.pace.ready().map_or(due, |ready| due.max(ready)))
    }

    /// Takes the next announcement that is due at `now` and that the rate allows, and schedules the one after it.
    pub fn pop_due(&mut self, now: Instant) -> Option<Announcement> {
        if self.pace.ready().is_some_and(|ready| ready > now) {
            return None;
        }
        let firsts = self.queues.iter().filter_map(|(round, queue)| Some((*round, *queue.first()?)));
        let (round, (_, _, vip, link)) = { firsts }.find(|(_, (due, ..))| *due <= now)?;
        self.take(vip, link);
        self.pace.spend(announcement_frames(vip), now);
        let next = match (round, self.period) {
            (Round::Burst(n), _) if round < LAST_ROUND => Some((Round::Burst(n + 1), now + SPACING)),
            (_, Some(period)) => Some((Round::Periodic, now + self.jitter.around(period))),
            (_, None) => None,
        };
        self.put(vip, link, next, Some(now));
        Some(Announcement { vip, link, round })
    }

    /// How many pairs of VIP and link are announced.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is announced at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn on(&self, link: LinkId) -> Vec<Vip> {
        self.entries.keys().filter(|(_, on)| *on == link).map(|(vip, _)| *vip).collect()
    }

    fn take(&mut self, vip: Vip, link: LinkId) -> Option<Entry> {
        let entry = self.entries.remove(&(vip, link))?;
        if let Some((round, place)) = entry.next {
            self.queues.entry(round).or_default().remove(&place);
        }
        Some(entry)
    }

    fn put(&mut self, vip: Vip, link: LinkId, next: Option<(Round, Instant)>, sent: Option<Instant>) {
        self.issued += 1;
        let next = next.map(|(round, due)| (round, (due, self.issued, vip, link)));
        if let Some((round, place)) = next {
            self.queues.entry(round).or_default().insert(place);
        }
        self.entries.insert((vip, link), Entry { next, sent });
    }
}

/// The rate: frame after frame at an even interval, up to [`BURST`] early (the generic cell rate algorithm).
#[derive(Debug)]
struct Pace {
    interval: Duration,
    /// When the next frame would leave at an even pace.
    even: Option<Instant>,
}

impl Pace {
    fn ready(&self) -> Option<Instant> {
        self.even.and_then(|even| even.checked_sub(BURST))
    }

    fn spend(&mut self, frames: u32, now: Instant) {
        let from = self.even.map_or(now, |even| even.max(now));
        self.even = Some(from + self.interval * frames);
    }

    fn refund(&mut self, frames: u32) {
        self.even = self.even.and_then(|even| even.checked_sub(self.interval * frames));
    }
}

/// Differences between nodes and VIPs, so that reminders never come in step. SplitMix64: small, and no secret.
#[derive(Debug)]
struct Jitter(u64);

impl Jitter {
    /// 90 % to 110 % of `period`.
    fn around(&mut self, period: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let share = ((mixed ^ (mixed >> 31)) >> 32) as u32;
        period * 9 / 10 + (period / 5).mul_f64(f64::from(share) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests;

//! What must hold: never two kernels for one VIP; each VIP answered before long; nothing moves without a cause;
//! few writes.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    host::{MS, SECOND, Speaks},
    kinds::Kinds,
    setting::Fault,
    world::{Event, World},
};
use crate::{
    election::{Change, Request, lease::Record},
    vocabulary::Vip,
};

#[derive(Debug, Default)]
pub struct Checks {
    pub broken: Option<String>,
    pub restored_at: Option<u64>,
    /// When an outage that nobody may notice ends: the next one is not soon.
    pub outage_over: u64,
    /// UID and epoch of sessions that were ended before their lease was over.
    pub early: BTreeSet<(String, u64)>,
    /// When links or the segment last changed.
    pub rewired_at: Option<u64>,
    /// When a Lease was last edited by hand.
    pub edited_at: Option<u64>,
    /// When a Lease was last deleted by hand.
    pub deleted_at: Option<u64>,
    /// Since when two have answered for a VIP, where that is allowed for a while.
    doubled: BTreeMap<Vip, u64>,
    /// Since when a host answers for a VIP beside one that it hears.
    heard: BTreeMap<(Vip, usize), u64>,
    /// Who holds on to what another, which it did not hear, has taken, and when that one last answered too.
    deaf: BTreeMap<(Vip, usize), u64>,
    /// Who answers, since all is well.
    settled: BTreeMap<Vip, usize>,
    /// Writes when the quiet hours began.
    writes: Option<u64>,
    /// What was written.
    pub kinds: Kinds,
    /// How often a VIP came to a node.
    pub gains: u64,
    pub fences: u64,
    pub fenced_early: u64,
    pub doubles: u64,
    pub adopted: u64,
    /// Time under faults.
    pub rough_ns: u64,
}

/// Early fencing and restored stores may double an answer until the old owner has seen the new claim, or
/// has not been able to confirm its own for most of D_MAX.
const DOUBLE_ALLOWED: u64 = 60 * SECOND;
/// Until the kernel has told of a conflict, and the agent has acted on it.
const GIVES_WAY: u64 = 3 * SECOND;
/// The same, where requests are lost or late. Its lease ends before long, whatever it hears.
const SLOWLY: u64 = 15 * SECOND;
const D_MAX_NS: u64 = 60 * SECOND;

fn understood(record: &Record) -> bool {
    match record {
        Record::Session(session) => session.understood,
        Record::Claim(claim) => claim.understood,
    }
}

impl Checks {
    /// At most one answers for it.
    fn is_single(&mut self, vip: Vip) {
        self.doubled.remove(&vip);
        self.heard.retain(|(of, _), _| *of != vip);
    }

    /// What was settled in the quiet hours may change again.
    pub fn new_round(&mut self, unnoticed: bool) {
        self.writes = None;
        if !unnoticed {
            self.settled.clear();
        }
    }

    pub fn changed(&mut self, _now: u64, _host: usize, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Gained { .. } => self.gains += 1,
                Change::FencedPeer { .. } => self.fences += 1,
                Change::SessionLive { adopted, .. } if *adopted > 0 => self.adopted += 1,
                _ => {}
            }
        }
    }
}

impl World {
    fn answering(&self, vip: Vip) -> Vec<usize> {
        (0..self.hosts.len()).filter(|host| self.hosts[*host].answers(vip, self.now)).collect()
    }

    /// After a write to this host's maps: nobody else answers for what it answers for.
    pub fn check(&mut self, host: usize) {
        let boot = self.hosts[host].boot(self.now);
        let mine: Vec<Vip> = self.hosts[host].kernel.answered(boot).collect();
        for vip in mine {
            let by = self.answering(vip);
            if by.len() < 2 {
                self.checks.is_single(vip);
                continue;
            }
            self.checks.doubles += 1;
            let since = *self.checks.doubled.entry(vip).or_insert(self.now);
            let holds_on = by.iter().any(|host| self.hosts[*host].by_hold);
            // Who holds on gives way a lease after it was heard.
            let from = if holds_on { since } else { self.now };
            let lately = |at: u64| from.saturating_sub(at) < D_MAX_NS;
            // A restored store makes holders of the past look valid to an agent without memory of what followed.
            // Of one who holds on, cut off, a new history knows nothing, however late it is.
            let restored = self.checks.restored_at.is_some_and(|at| holds_on || lately(at));
            // A hand that writes "released" or a shorter lease is believed at once, by whoever sees it first.
            let edited = self.checks.edited_at.is_some_and(lately);
            // What is absent is believed if nobody answers, and not under `strict`.
            let deleted = self.checks.deleted_at.is_some_and(lately);
            let weak = restored || edited || deleted && !self.setting.strict;
            let brief = weak && self.now - since <= DOUBLE_ALLOWED.max(self.asks_for());
            // Who answers in another's place, or was fenced early, is silent as soon as it hears somebody, and has asked. The one that
            // it did not hear may have handed the VIP over to one that it hears.
            let hears: BTreeSet<usize> = by
                .iter()
                .filter(|one| {
                    by.iter().any(|other| other != *one && self.hear_each_other(vip, **one, *other))
                })
                .copied()
                .collect();
            self.checks.heard.retain(|(of, one), _| *of != vip || hears.contains(one));
            for one in &hears {
                self.checks.heard.entry((vip, *one)).or_insert(self.now);
            }
            // Also beside one that is left out below.
            let deaf = |one: &&usize| !hears.contains(*one) && self.may_answer_beside(**one, vip);
            let deaf: Vec<usize> = by.iter().filter(deaf).copied().collect();
            self.checks.deaf.extend(deaf.into_iter().map(|one| ((vip, one), self.now)));
            let gives_way = |one: &usize| {
                let host = &self.hosts[*one];
                let hears = self.checks.heard.get(&(vip, *one));
                let acts = host.agent.as_ref().is_some_and(|agent| !agent.paused);
                let asks = !host.cut && !host.refused && !self.weather.api_down;
                let rough = self.weather.loss > 0 || self.weather.late > 0;
                let within = if rough { SLOWLY } else { GIVES_WAY };
                let (provisional, early) = (self.is_provisional(*one, vip), self.is_fenced_early(*one));
                // An agent that is started hears it only then.
                let soon = hears.is_none_or(|since| self.now - since.max(&host.started_at) <= within);
                provisional && (!acts || soon) || early && (!acts || !asks || soon)
            };
            let rest: Vec<usize> = by.iter().filter(|one| !gives_way(one)).copied().collect();
            if !brief && rest.len() > 1 && !self.may_hold(vip, &rest) {
                let names: Vec<&str> = by.iter().map(|h| self.hosts[*h].machine_id.as_str()).collect();
                self.checks.broken = Some(format!("{vip} is answered by {names:?}"));
            }
        }
    }

    /// A write was made: who lets itself be fenced only strictly is never fenced early.
    pub fn committed(&mut self, request: &Request, before: Option<&Record>) {
        let (Request::Put(Record::Session(new)), Some(Record::Session(old))) = (request, before) else {
            return;
        };
        // A hand may have lowered the epoch of one that had been.
        let newly = |epoch: &u64| new.holder.is_none() && *epoch == old.epoch && old.early != Some(*epoch);
        let Some(epoch) = new.early.filter(newly) else {
            return;
        };
        if old.fencing != "early" {
            self.checks.broken = Some(format!("{} was fenced early, though it is {}", old.name, old.fencing));
        }
        self.checks.fenced_early += 1;
        self.checks.early.insert((new.uid.clone(), epoch));
    }

    /// Whether one of these holds on without a lease, or was fenced early, and none of the others was heard by it, or not for long enough to
    /// be asked and given way to.
    fn may_hold(&mut self, vip: Vip, by: &[usize]) -> bool {
        let lately = |at: u64| self.now - at < self.asks_for();
        let wire_is_new = self.checks.rewired_at.is_some_and(lately);
        let holds_on = |one: &&usize| self.may_answer_beside(**one, vip);
        let deaf =
            |one: &&usize| by.iter().all(|other| one == &other || !self.hear_each_other(vip, **one, *other));
        let deaf: Vec<usize> = by.iter().filter(holds_on).filter(deaf).copied().collect();
        // Whoever did not hear it may have handed the VIP over to one that does, and that asks nobody.
        let since = self.checks.doubled.get(&vip).copied().unwrap_or(self.now);
        let was_deaf =
            |one: &usize| self.checks.deaf.get(&(vip, *one)).is_some_and(|at| lately(since.max(*at)));
        let allowed = !deaf.is_empty() || by.iter().filter(holds_on).any(|one| wire_is_new || was_deaf(one));
        self.checks.deaf.extend(deaf.into_iter().map(|one| ((vip, one), self.now)));
        allowed
    }

    /// A machine writes this, which must be a Lease of its own protocol.
    pub fn check_written(&mut self, host: usize, record: &Record) {
        if !understood(record) {
            let who = &self.hosts[host].machine_id;
            self.checks.broken =
                Some(format!("{who} writes {}, which it does not understand", record.name()));
        }
    }

    /// A write has replaced one Lease with another: no protocol with another.
    pub fn check_replaced(&mut self, host: usize, before: Option<&Record>, now: Option<&Record>) {
        let (Some(before), Some(now)) = (before, now) else { return };
        if understood(before) != understood(now) {
            let who = &self.hosts[host].machine_id;
            self.checks.broken = Some(format!("{who} replaces {}, which it does not understand", now.name()));
        }
    }

    /// How long it takes until one that holds on has asked, and has given way.
    fn asks_for(&self) -> u64 {
        let large = self.setting.faults.contains(&Fault::Scale) || self.setting.policy.others > 0;
        if large { 120 * SECOND } else { 30 * SECOND }
    }

    /// A host has taken these, be it for a moment: whoever holds on to them and is not heard by it is deaf to it.
    pub fn note_deaf(&mut self, host: usize, changes: &[Change]) {
        for change in changes {
            let Change::Gained { vip, .. } = change else { continue };
            let holds_on =
                |one: &usize| self.may_answer_beside(*one, *vip) && !self.hear_each_other(*vip, *one, host);
            let deaf: Vec<usize> = self.answering(*vip).into_iter().filter(holds_on).collect();
            self.checks.deaf.extend(deaf.into_iter().map(|one| ((*vip, one), self.now)));
        }
    }

    /// Twice a second: who answers.
    pub fn sample(&mut self) {
        let quiet_from = self.round_at + self.setting.faults_for + self.setting.recovers_in;
        // Hours without an event need not be looked at twice a second: `check` sees every write.
        let often = if self.now > quiet_from + 200 * SECOND { 5 * SECOND } else { 500 * MS };
        self.later(often, 0, Event::Sample);
        let deaf = self.checks.deaf.keys().copied();
        let kept: BTreeSet<(Vip, usize)> =
            deaf.filter(|(vip, one)| self.may_answer_beside(*one, *vip)).collect();
        self.checks.deaf.retain(|key, _| kept.contains(key));
        let vips: Vec<Vip> = self.demand.vips.keys().copied().collect();
        for vip in &vips {
            let by = self.answering(*vip);
            if by.len() < 2 {
                self.checks.is_single(*vip);
            }
        }
        let calm = self.setting.unnoticed && self.now > 110 * SECOND;
        if !calm && self.now < quiet_from {
            return;
        }
        for vip in vips {
            let by = self.answering(vip);
            let able = (0..self.hosts.len()).any(|host| self.hosts[host].eligible(vip, &self.demand));
            let [one] = by.as_slice() else {
                // What a node of another protocol leaves behind is nobody's to take.
                if able && (self.setting.versions != Speaks::Another || by.len() > 1) {
                    self.checks.broken = Some(format!("{vip} is answered by {} nodes", by.len()));
                }
                continue;
            };
            let before = *self.checks.settled.entry(vip).or_insert(*one);
            if before != *one {
                self.checks.broken = Some(format!("{vip} moved from {before} to {one} without a cause"));
            }
        }
        if self.now >= quiet_from {
            self.count_writes(quiet_from);
        }
    }

    fn count_writes(&mut self, quiet_from: u64) {
        let began = *self.checks.writes.get_or_insert(self.store.writes);
        let written = self.store.writes - began;
        let live = self.hosts.iter().filter(|host| host.up).count() as u64;
        // A renewal every 5 s at most, 10 % early, and a clock that runs 5 % fast; some sweeping.
        let may =
            live * ((self.now - quiet_from) * 10 / (5 * 8 * SECOND) + 2) + self.hosts.len() as u64 * 2 + 6;
        if written > may {
            self.checks.broken = Some(format!("{written} writes where {may} are enough"));
        }
    }
}

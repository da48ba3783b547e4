//! Our own session: adopt it, renew it, notice that it was fenced, and start again under a new epoch (`DESIGN`
//! §5.2, §5.4, §5.6).

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use super::{
    interface::{Answer, Change, Request, Token},
    lease::{EPOCH_END, Record, Session, Suspicion, Version, session_name},
    machine::Machine,
    outstanding::Purpose,
    times::{D_MAX, Times},
    view::View,
};
use crate::{policy::Links, vocabulary::BootNs};

/// Where our own session stands.
#[derive(Debug)]
pub(super) enum Own {
    /// Not known, or known not to be ours under an epoch we may use: the next look at the view decides.
    Unknown,
    /// A write that makes it ours under a new epoch is on its way; the kernel is silent.
    Claiming(Attempts),
    /// Ours, under the epoch in the kernel target.
    Live(Live),
}

/// Attempts to write our session whose outcome is not known, newest last. One that was lost may commit late, so
/// all are kept until one is proven: only *its* boot time counts.
#[derive(Debug, Default)]
pub(super) struct Attempts(VecDeque<Attempt>);

#[derive(Debug)]
struct Attempt {
    renewal: String,
    /// b: boot time before the first send.
    sent_at: BootNs,
    /// D − M of this attempt.
    answer_for: Duration,
    token: Token,
}

/// A confirmed session.
#[derive(Debug)]
pub(super) struct Live {
    /// The version that the next write replaces.
    version: Version,
    pub(super) attempts: Attempts,
    renew_at: BootNs,
    /// The links that the last write published, so that a change is published at once.
    published: Links,
    /// The suspicions, likewise.
    accused: BTreeSet<Suspicion>,
    /// The last answer was lost: read before writing again.
    unsure: bool,
    /// Until when our session is taken for ours without another look.
    assured: BootNs,
    /// When what proved last that it is ours was sent.
    vouched: BootNs,
    /// Since when it is to be read, or written: what was sent before says too little.
    recheck: Option<BootNs>,
    /// When the last read was sent.
    read_at: BootNs,
    /// The newest attempt that was proven.
    proven: Option<Token>,
    /// Writes that failed since, one after the other.
    failed: u32,
}

const RETRY: Duration = Duration::from_millis(500);
/// Nobody can have found our kernel silent, agreed on that, and fenced us within this time after a request was sent.
const ASSURED_FOR: Duration = Duration::from_millis(200);
/// Of a slower API server a read's answer counts for the moment at which it comes, or nothing would ever be sure.
const SLOW_READ: Duration = super::times::REQUEST_TIMEOUT;
const LEAVING: &str = "agent is shutting down";

/// The latest moment for the renewal after one that earned this deadline: R may be longer by now than it was when that
/// one was written.
fn in_time(now: BootNs, deadline: BootNs) -> BootNs {
    now + deadline.until(now) / 2
}

impl Live {
    /// What was sent then has proved that the session is ours. Whether that was waited for.
    fn vouch(&mut self, sent: BootNs) -> bool {
        self.vouched = self.vouched.max(sent);
        self.recheck.take_if(|wanted| *wanted <= self.vouched).is_some()
    }
}

#[cfg(test)]
impl Own {
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Unknown => 0,
            Self::Claiming(attempts) => attempts.0.len(),
            Self::Live(live) => live.attempts.0.len() + live.accused.len(),
        }
    }
}

impl Attempts {
    /// The attempt that wrote this, and the deadline that it earned.
    fn credit(&self, renewal: &str) -> Option<(Token, BootNs)> {
        let attempt = self.0.iter().find(|attempt| attempt.renewal == renewal)?;
        Some((attempt.token, attempt.sent_at + attempt.answer_for))
    }

    pub(super) fn sent_at(&self, renewal: &str) -> Option<BootNs> {
        self.0.iter().find(|attempt| attempt.renewal == renewal).map(|attempt| attempt.sent_at)
    }

    fn push(&mut self, attempt: Attempt) {
        self.0.push_back(attempt);
        // An attempt this old has lost its whole lease: crediting it could only lower the deadline.
        if self.0.len() > 64 {
            self.0.pop_front();
        }
    }
}

impl Machine {
    /// Every entry away, each with a word why, then silence: what precedes a new epoch.
    fn fall_silent(&mut self, why: &'static str) {
        for vip in std::mem::take(&mut self.target.held) {
            self.lost(vip, why, None);
        }
        self.target = Default::default();
        self.earned = BootNs::NONE;
        self.held_on_until = None;
        self.own = Own::Unknown;
        self.live_since = None;
        self.seen_until = None;
        self.confirmed.clear();
        self.open.clear();
        self.heirs.clear();
        self.chores.clear();
        self.passing.clear();
        self.forget_provisional();
        self.revival = None;
        self.unsure.clear();
        self.answered.clear();
    }

    /// Why what we held by our session is over, by what is there in its place.
    fn why_ended(&self, seen: Option<&Session>) -> &'static str {
        let (uid, epoch) = self.target.session.as_ref().map_or(("", 0), |(uid, epoch)| (uid, *epoch));
        match seen {
            None => "this node's session was deleted",
            Some(seen) if seen.uid != uid => "this node's session was deleted and made anew",
            Some(seen) => match &seen.holder {
                None if seen.epoch > epoch => "fenced by another node",
                Some(holder) if *holder != self.me.holder => "another boot or machine has this node's name",
                _ => "this node's session was changed by somebody else",
            },
        }
    }

    /// The store was restored from a backup, so that nothing seen before counts: silent, and nothing taken until
    /// every kernel that answers by the lost history has gone silent too.
    pub(super) fn restored(&mut self, now: BootNs) {
        let wait = self.times.lease.max(D_MAX);
        self.fall_silent("the API server went back in time");
        self.view.forget(now);
        // Their answers would be of the lost history, with versions that look new.
        self.outstanding = Default::default();
        self.probed.clear();
        self.quiet_until = now + wait;
        self.history_lost = true;
        self.relist = true;
        self.changes.push_back(Change::Restored(wait));
    }

    fn own_name(&self) -> String {
        session_name(&self.me.holder.node)
    }

    /// Compares what the view has of our session with what we believe.
    pub(super) fn own_seen(&mut self, now: BootNs) {
        let name = self.own_name();
        let seen = self.view.sessions.get(&name).map(|seen| seen.session.clone());
        let renew_at = self.next_renewal(now);
        match (&mut self.own, seen) {
            (Own::Unknown, _) => {}
            (Own::Claiming(attempts), Some(session)) => {
                let proven = session.holder.as_ref() == Some(&self.me.holder);
                if let Some((attempt, deadline)) = attempts.credit(&session.renewal).filter(|_| proven) {
                    self.went_live(now, &session, deadline, Some(attempt));
                }
            }
            (Own::Claiming(_), None) => {}
            (Own::Live(live), seen) => {
                let Some((uid, epoch)) = self.target.session.clone() else { return };
                let same = seen.as_ref().is_some_and(|s| {
                    s.uid == uid && s.epoch == epoch && s.holder.as_ref() == Some(&self.me.holder)
                });
                let Some(session) = seen.as_ref().filter(|_| same).cloned() else {
                    self.changes.push_back(Change::Fenced { epoch, held: self.target.held.len() });
                    return self.fall_silent(self.why_ended(seen.as_ref()));
                };
                if session.version <= live.version {
                    return;
                }
                live.version = session.version;
                match live.attempts.credit(&session.renewal) {
                    Some((attempt, deadline)) if Some(attempt) > live.proven => {
                        let sent = live.attempts.sent_at(&session.renewal).unwrap_or_default();
                        live.assured = live.assured.max(sent + ASSURED_FOR);
                        self.claims_due |= live.vouch(sent);
                        live.proven = Some(attempt);
                        live.unsure = false;
                        live.failed = 0;
                        // One that was proven too late to earn anything is no reason to wait.
                        live.renew_at = renew_at.min(in_time(now, deadline));
                        if self.target.deadline <= now && deadline > now && !self.settings.strict {
                            // While the kernel was silent others may have found that, and fenced this very version.
                            self.revival = Some(deadline);
                            self.read_own(now);
                        } else {
                            self.extend(now, deadline);
                        }
                    }
                    // Somebody else's edit of what we wrote: nothing earned, and no reason to renew later.
                    Some((attempt, _)) if Some(attempt) == live.proven => {}
                    // Just adopted: the agent before us wrote it.
                    None if live.proven.is_none() => {}
                    // What we had written is gone.
                    Some(_) | None => self.restored(now),
                }
            }
        }
    }

    /// Moves the kernel's deadline to what a proven attempt earned.
    fn extend(&mut self, now: BootNs, deadline: BootNs) {
        if self.earned <= now && deadline > now {
            self.view.restart_timers(now);
        }
        if self.target.deadline > self.earned {
            // Nothing was seen of the claims while rounds of probes spoke for us: they are read now, though our lease may not
            // have been over.
            self.held_on_until = Some(now);
            self.claims_due = true;
        }
        // Of an attempt that was proven late nothing is left, and the renewal that follows is yet to come.
        self.target.deadline =
            if self.is_holding(now) { deadline.max(self.target.deadline) } else { deadline };
        self.earned = deadline;
    }

    /// `proven`: the attempt that made the session ours; `None`: it is adopted.
    fn went_live(&mut self, now: BootNs, session: &Session, deadline: BootNs, proven: Option<Token>) {
        let adopted = proven.is_none();
        let attempts = match std::mem::replace(&mut self.own, Own::Unknown) {
            Own::Claiming(attempts) => attempts,
            _ => Attempts::default(),
        };
        let renew_at = if adopted { now } else { self.next_renewal(now).min(in_time(now, deadline)) };
        self.own = Own::Live(Live {
            version: session.version,
            attempts,
            renew_at,
            published: session.links.clone(),
            accused: session.suspects.clone(),
            unsure: false,
            assured: BootNs::NONE,
            vouched: BootNs::NONE,
            recheck: None,
            read_at: BootNs::NONE,
            proven,
            failed: 0,
        });
        self.held_sessions.entry(session.uid.clone()).or_default().insert(session.epoch);
        self.remembered = self.remembered.max(session.epoch);
        if !adopted {
            self.target.held.clear();
            self.begin_hearing();
        }
        self.answered.clone_from(&self.target.held);
        self.target.session = Some((session.uid.clone(), session.epoch));
        self.target.deadline = deadline;
        // What the agent before us held by may have been no lease: the first renewal tells.
        self.earned = if adopted { BootNs::NONE } else { deadline };
        self.live_since = Some(now);
        self.view.restart_timers(now);
        let adopted = self.target.held.len();
        self.changes.push_back(Change::SessionLive { epoch: session.epoch, adopted });
    }

    /// R ± 10 %, from the hash of our name and the count of writes: different on every node and every time, and
    /// the same in every replay.
    fn next_renewal(&self, now: BootNs) -> BootNs {
        let spread = self.me.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(now.0) >> 11;
        let thousandths = 900 + u32::try_from(spread % 201).unwrap_or_default();
        now + self.times.renew * thousandths / 1000
    }

    /// When the renewal, or the read of our session, that is on its way was sent.
    pub(super) fn renewing_since(&self) -> Option<BootNs> {
        let Own::Live(live) = &self.own else { return None };
        match self.outstanding.of(&self.own_name())? {
            Purpose::Own => live.attempts.0.back().map(|attempt| attempt.sent_at),
            Purpose::OwnRead(_) => Some(live.read_at),
            _ => None,
        }
    }

    /// Adopts, claims or renews our session, whichever is due.
    pub(super) fn drive_session(&mut self, now: BootNs) {
        if self.shutdown == Some(true) {
            return self.leave(now);
        }
        if self.shutdown == Some(false) && matches!(self.own, Own::Unknown) {
            return;
        }
        match &self.own {
            Own::Unknown => self.find_session(now),
            Own::Claiming(_) => self.claim_again(now),
            Own::Live(_) => {}
        }
        // What was adopted just now is renewed at once: nothing else may ever call us again.
        if matches!(self.own, Own::Live(_)) {
            self.renew(now);
        }
    }

    fn find_session(&mut self, now: BootNs) {
        let seen = self.view.sessions.get(&self.own_name()).cloned();
        let mine = |session: &Session| session.holder.as_ref() == Some(&self.me.holder);
        if let (Some(seen), Some((uid, epoch))) = (&seen, &self.target.session) {
            let session = &seen.session;
            if mine(session) && session.uid == *uid && session.epoch == *epoch && session.understood {
                let kept: Vec<_> = self.target.held.iter().copied().collect();
                for vip in kept {
                    let claim = self.view.claims.get(&vip);
                    // An entry tells that the agent before us had accepted what it inherited.
                    if claim.is_some_and(|claim| self.inherits(claim)) {
                        self.heirs.insert(vip);
                    } else if !claim.is_some_and(|claim| self.holds_claim(claim)) {
                        self.target.held.remove(&vip);
                        self.lost(
                            vip,
                            "its claim was taken away or deleted while the agent was restarted",
                            None,
                        );
                    }
                }
                let (session, deadline) = (session.clone(), self.target.deadline);
                if self.demand.is_none() {
                    // How large the cluster is, is not known yet: the agent before us knew.
                    self.times = Times::for_lease(session.lease);
                }
                return self.went_live(now, &session, deadline, None);
            }
        }
        self.fall_silent(self.why_ended(seen.as_ref().map(|seen| &seen.session)));
        let (uid, version, epoch) = match &seen {
            None => (String::new(), Version::default(), 0),
            Some(seen) if !seen.session.understood => return,
            Some(seen) => {
                let session = &seen.session;
                if let Some(holder) = session.holder.as_ref().filter(|holder| **holder != self.me.holder) {
                    // Another boot or machine under our name: fenced by silence like anyone else's.
                    let at = View::silent_at(seen);
                    if at > now {
                        // Said once per holder, not once per renewal it makes.
                        if self.name_taken.as_ref() != Some(holder) {
                            self.changes.push_back(Change::NameTaken(holder.clone(), session.lease));
                            self.name_taken = Some(holder.clone());
                        }
                        return self.wake(at);
                    }
                }
                (
                    session.uid.clone(),
                    session.version,
                    session.epoch.max(self.view.greatest_epoch(&session.uid)),
                )
            }
        };
        let epoch = epoch.max(self.remembered).saturating_add(1);
        if epoch >= EPOCH_END {
            return self.leave_session(now, seen.map(|seen| seen.session));
        }
        self.write_own(now, &uid, version, epoch, Attempts::default());
    }

    /// Somebody wrote an epoch by hand that leaves no room for greater ones: under another UID they begin at 1.
    fn leave_session(&mut self, now: BootNs, session: Option<Session>) {
        self.remembered = 0;
        match session {
            Some(session) => {
                self.request(now, self.own_name(), Purpose::Sweep, Request::Delete(Record::Session(session)));
            }
            None => self.write_own(now, "", Version::default(), 1, Attempts::default()),
        }
    }

    /// Our node is going away: the kernel falls silent, and one write of our own, not our silence, ends the epoch that all
    /// our claims are bound to.
    fn leave(&mut self, now: BootNs) {
        let name = self.own_name();
        if !self.is_leaving() || self.outstanding.of(&name).is_some() {
            return;
        }
        let Some(session) = self.view.sessions.get(&name).map(|seen| seen.session.clone()) else { return };
        // What we took and did not answer for yet is to be asked for by whoever follows.
        let mut ours = self.view.claims.values().filter(|claim| self.holds_claim(claim));
        let left = ours.all(|claim| self.answered.contains(&claim.vip)).then_some(session.epoch);
        for vip in self.target.held.clone() {
            let heir = self.view.claims.get(&vip).and_then(|claim| self.foreign_heir(now, claim));
            self.target.held.remove(&vip);
            self.lost(vip, LEAVING, heir.map(|heir| heir.node));
        }
        self.fall_silent(LEAVING);
        let epoch = self.view.greatest_epoch(&session.uid).max(session.epoch).saturating_add(1);
        let renewal = self.nonce();
        let ended = Session { holder: None, epoch, left, renewal, suspects: BTreeSet::new(), ..session };
        self.request(now, name, Purpose::Leave, Request::Put(Record::Session(ended)));
    }

    /// Whether our session is still to be ended.
    pub(super) fn is_leaving(&self) -> bool {
        let own = self.view.sessions.get(&self.own_name()).map(|seen| &seen.session);
        let ours = own.is_some_and(|own| own.understood && own.holder.as_ref() == Some(&self.me.holder));
        self.shutdown == Some(true) && ours && self.is_synced()
    }

    fn write_own(&mut self, now: BootNs, uid: &str, version: Version, epoch: u64, mut attempts: Attempts) {
        let record = self.own_record(uid, version, epoch);
        let renewal = record.renewal.clone();
        let name = self.own_name();
        let answer_for = self.times.answer_for();
        let sent = self.request(now, name, Purpose::Own, Request::Put(Record::Session(record)));
        if let Some(token) = sent {
            self.remembered = self.remembered.max(epoch);
            attempts.push(Attempt { renewal, sent_at: now, answer_for, token });
        }
        self.own = Own::Claiming(attempts);
    }

    /// A claiming write was lost or refused: once the read is in, try again, keeping the attempts that may
    /// still commit.
    fn claim_again(&mut self, now: BootNs) {
        let name = self.own_name();
        if self.outstanding.of(&name).is_some() {
            return;
        }
        if let Some(at) = self.not_before.get(&name).copied().filter(|at| *at > now) {
            return self.wake(at);
        }
        let Own::Claiming(attempts) = std::mem::replace(&mut self.own, Own::Unknown) else { return };
        self.find_session(now);
        if let Own::Claiming(newer) = &mut self.own {
            let mut all = attempts.0;
            all.append(&mut newer.0);
            newer.0 = all;
        }
    }

    fn renew(&mut self, now: BootNs) {
        let Own::Live(live) = &self.own else { return };
        let suspects = self.suspicions.published();
        let due = live.renew_at <= now || live.published != self.links || live.accused != suspects;
        // A renewal that is due tells as much as a read, and no read may keep it back.
        let look = live.unsure || !due && live.recheck.is_some();
        let at = live.renew_at;
        if !due && !look {
            return self.wake(at);
        }
        if !due {
            self.wake(at);
        }
        let Some((uid, epoch)) = self.target.session.clone() else { return };
        let name = self.own_name();
        let Own::Live(live) = &self.own else { return };
        if look {
            let asked = live.version;
            let sent = self.request(now, name.clone(), Purpose::OwnRead(asked), Request::Get(name));
            if let (Some(_), Own::Live(live)) = (sent, &mut self.own) {
                live.read_at = now;
            }
            return;
        }
        let version = live.version;
        let record = self.own_record(&uid, version, epoch);
        let renewal = record.renewal.clone();
        let answer_for = self.times.answer_for();
        let Some(token) = self.request(now, name, Purpose::Own, Request::Put(Record::Session(record))) else {
            return;
        };
        // A shorter lease or a larger margin binds the kernel before observers can read it.
        self.target.deadline = self.target.deadline.min(now + answer_for);
        self.earned = self.earned.min(now + answer_for);
        let renew_at = self.next_renewal(now);
        if let Own::Live(live) = &mut self.own {
            live.attempts.push(Attempt { renewal, sent_at: now, answer_for, token });
            live.published.clone_from(&self.links);
            live.accused = suspects;
            live.renew_at = renew_at;
        }
    }

    pub(super) fn own_answered(&mut self, now: BootNs, token: Token, purpose: &Purpose, answer: Answer) {
        let name = self.own_name();
        let asked = self.view.version_of(&name).unwrap_or_default();
        let (Own::Live(Live { attempts, .. }) | Own::Claiming(attempts)) = &mut self.own else { return };
        let was_write = attempts.0.iter().any(|attempt| attempt.token == token);
        if matches!(answer, Answer::Refused) {
            // Definitely not written: this attempt can never be proven.
            attempts.0.retain(|attempt| attempt.token != token);
        }
        // A write whose outcome is open is read back at once; anything else that failed waits.
        let read_now = was_write && matches!(answer, Answer::Conflict | Answer::Lost | Answer::NotFound);
        let known = matches!(answer, Answer::Done(_)) || (!was_write && matches!(answer, Answer::NotFound));
        let nothing_there = matches!((&self.own, &answer), (Own::Claiming(_), Answer::NotFound));
        if !known && !read_now || nothing_there && !was_write {
            self.not_before.insert(name.clone(), now + RETRY);
        }
        match &mut self.own {
            Own::Live(live) => {
                let was_unsure = live.unsure;
                live.unsure =
                    (was_write || was_unsure) && !(known || was_write && matches!(answer, Answer::Refused));
                let lost = was_write && matches!(answer, Answer::Lost);
                live.failed += u32::from(lost);
                if !known && was_write {
                    // What became of it is read at once.
                    live.renew_at = now;
                } else if !was_write && was_unsure {
                    // A server that is ill is not made better by writes without a pause.
                    live.renew_at = now + RETRY * live.failed.saturating_sub(1).min(4);
                }
            }
            Own::Claiming(_) if read_now => {
                self.request(now, name.clone(), Purpose::OwnRead(asked), Request::Get(name.clone()));
                if matches!(answer, Answer::Lost) {
                    // As above.
                    self.not_before.insert(name.clone(), now + RETRY);
                }
            }
            Own::Claiming(_) | Own::Unknown => {}
        }
        match (answer, purpose) {
            (Answer::Done(record), Purpose::OwnRead(asked)) => self.view.read(now, record, *asked),
            // A write that changed nothing earns nothing: its version is not newer, and `own_seen` ignores it.
            (Answer::Done(record), _) => self.view.seen(now, record),
            (Answer::NotFound, Purpose::OwnRead(asked)) => self.view.missing(now, &name, *asked),
            _ => {}
        }
    }

    /// Whether our session was ours just now.
    pub(super) fn is_assured(&self, now: BootNs) -> bool {
        self.settings.strict || matches!(&self.own, Own::Live(live) if live.assured > now)
    }

    /// Our session was read or written: a kernel that had fallen silent answers again, and for what was taken too late to be
    /// sure of, if that is new enough; else it is read once more.
    pub(super) fn revive(&mut self, now: BootNs, read: bool) {
        let next = self.next_renewal(now);
        if let Own::Live(live) = &mut self.own
            && read
        {
            let by_answer = (live.read_at + SLOW_READ > now).then(|| now + Duration::from_nanos(1));
            live.assured = live.assured.max(live.read_at + ASSURED_FOR).max(by_answer.unwrap_or_default());
            let sent = live.read_at;
            self.claims_due |= live.vouch(sent);
        }
        if self.revival.is_none() && self.unsure.is_empty() {
            return;
        }
        if !self.is_assured(now) {
            return self.read_own(now);
        }
        for (vip, why) in std::mem::take(&mut self.unsure) {
            if self.view.claims.get(&vip).is_some_and(|claim| self.is_ours(claim)) {
                self.gain(vip, why);
            }
        }
        let Some(deadline) = self.revival.take() else { return };
        if let Own::Live(live) = &mut self.own {
            live.renew_at = live.renew_at.min(next).min(in_time(now, deadline));
            self.extend(now, deadline);
        }
    }

    /// Our session is read, unless it is to be written anyway.
    pub(super) fn read_own(&mut self, now: BootNs) {
        if let Own::Live(live) = &mut self.own {
            live.recheck = Some(now);
            self.renew(now);
        }
    }

    /// Our session is written, before that is due.
    pub(super) fn renew_now(&mut self, now: BootNs) {
        if let Own::Live(live) = &mut self.own {
            live.renew_at = now;
            self.renew(now);
        }
    }

    /// Whether our session is ours by the API server's last word, or, while that is away, by what the wire says.
    pub fn is_sure(&self, now: BootNs) -> bool {
        let read = matches!(&self.own, Own::Live(live) if !live.unsure && live.recheck.is_none());
        read || self.is_holding(now)
    }

    /// Silent until a renewal sent from now on is proven.
    pub(super) fn doubt(&mut self, now: BootNs) {
        self.target.deadline = BootNs::NONE;
        self.earned = BootNs::NONE;
        self.revival = None;
        match &mut self.own {
            Own::Live(live) => {
                live.assured = BootNs::NONE;
                // A proven one must still be known as ours when somebody edits it.
                for attempt in &mut live.attempts.0 {
                    attempt.answer_for = Duration::ZERO;
                    attempt.sent_at = BootNs::NONE;
                }
                live.renew_at = now;
            }
            Own::Claiming(attempts) => *attempts = Attempts::default(),
            Own::Unknown => {}
        }
    }

    /// The agent ends. If it is to be started again, its last act is a renewal.
    pub(super) fn shutting_down(&mut self, now: BootNs) {
        if let Own::Live(live) = &mut self.own {
            live.renew_at = now;
        }
    }
}

//! An outage of the API server must not take the cluster's addresses down: `--on-api-loss=hold` (`DESIGN` §5.8).
//!
//! While the API server says nothing at all, an owner extends its own deadline, a round of probes at a time: only while
//! the deadline is still ahead, and only if nobody else answers for what it holds.

use std::{collections::BTreeMap, time::Duration};

use super::{
    interface::{Answer, Challenged, Change, Input, OnApiLoss, Request, Rival},
    machine::Machine,
    outstanding::Purpose,
    own::Own,
    times::REQUEST_TIMEOUT,
};
use crate::vocabulary::{BootNs, Vip};

/// What is known of the API server's silence.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// When it last said anything definite.
    word: BootNs,
    /// A request was lost since.
    lost: bool,
    /// A renewal was, or what became of it could not be read: of another write nothing is read back, and a server that fails
    /// it may be there.
    renewal_lost: bool,
    /// Held at present.
    holding: bool,
    /// Not to be asked again before: the last round could not be sent.
    not_before: BootNs,
    /// What a round showed that ended before it was known what became of the renewal that made us ask.
    round: Option<Challenged>,
    /// Since when a rival has answered for a VIP, if it has a higher MAC or we have just started.
    rivals: BTreeMap<Vip, BootNs>,
}

const ROUND: &str = "all that we hold";
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// A renewal that has been on its way for so long is probably lost. To wait until it is costs an agent that crashes meanwhile
/// the time for another round.
const SLOW: Duration = Duration::from_secs(1);
/// Whoever answers in another's place, and knows it, has heard the other by then and given way.
const CONTESTED_FOR: Duration = Duration::from_secs(2);

#[cfg(test)]
impl Silence {
    pub(super) fn size(&self) -> usize {
        self.rivals.len()
    }
}

impl Machine {
    /// Whether sessions of ours go on without the API server.
    pub(super) fn holds(&self) -> bool {
        self.settings.on_api_loss != OnApiLoss::Fence && !self.settings.strict
    }

    /// Whether we answer by holding on, not by a lease.
    pub(super) fn is_holding(&self, now: BootNs) -> bool {
        self.target.session.is_some() && self.earned <= now && self.target.deadline > now
    }

    /// Whether the API server did not even take a renewal, and has said nothing for half a lease.
    pub(super) fn is_without_api(&self, now: BootNs) -> bool {
        self.silence.renewal_lost && self.silence.word + self.times.lease / 2 <= now
    }

    /// Whether the API server is taken to be away.
    fn is_silent(&self, now: BootNs) -> bool {
        // A renewal after a slow one is waited for longer: too long for an agent that crashes before it believes what it heard.
        let slow = || self.unheard_since().is_some_and(|sent| sent + REQUEST_TIMEOUT <= now);
        // An agent that has just started has asked for a list, and heard nothing.
        self.silence.renewal_lost || self.silence.word == BootNs::NONE || slow()
    }

    /// Since when a renewal has been on its way, and the API server has said nothing else.
    fn unheard_since(&self) -> Option<BootNs> {
        self.renewing_since().filter(|sent| *sent >= self.silence.word)
    }

    /// Whether we have had word of the API server lately: whoever has not may not call another's silence its own.
    pub(super) fn is_in_touch(&self, now: BootNs) -> bool {
        !self.silence.lost && self.silence.word + self.times.renew * 6 / 5 > now
    }

    /// The kernel's deadline was found to have passed when the target was to be written, be it that the agent was stopped
    /// after it had decided: others may have asked the wire meanwhile, so that only a lease revives it.
    pub fn too_late_to_hold(&mut self, kernel: BootNs) {
        self.target.deadline = self.target.deadline.min(self.earned.max(kernel));
    }

    /// Takes note of what this says of the API server itself.
    pub(super) fn listen(&mut self, now: BootNs, input: &Input) {
        match input {
            Input::Answered(token, Answer::Lost) => {
                let purpose = self.outstanding.purpose(*token);
                self.silence.lost = true;
                self.silence.renewal_lost |= matches!(purpose, Some(Purpose::Own | Purpose::OwnRead(_)));
            }
            Input::Unanswered => (self.silence.lost, self.silence.renewal_lost) = (true, true),
            Input::Answered(..)
            | Input::Listed(..)
            | Input::Compared(..)
            | Input::Changed(_)
            | Input::Deleted(_)
            | Input::Spoke => {
                // The others had as little chance to renew as we had to hear of it, and we may be back before them.
                let late = |silence: Duration| self.silence.word + silence <= now;
                // A request may be on its way for longer than this, and nothing be lost yet.
                if late(self.times.renew * 6 / 5) || self.silence.lost && late(self.times.renew) {
                    self.view.restart_timers(now);
                }
                self.silence.word = now;
                (self.silence.lost, self.silence.renewal_lost) = (false, false);
                self.silence.rivals.clear();
            }
            _ => {}
        }
    }

    /// Starts a round when half of what the deadline gives is gone and the API server is silent, or seems to be.
    pub(super) fn drive_hold(&mut self, now: BootNs) {
        if let Some(round) = self.silence.round.take() {
            self.challenged(now, Some(round));
        }
        let holding = self.is_holding(now);
        if self.silence.holding && !holding {
            self.silence.holding = false;
            if self.earned > now {
                // Nothing was seen of the claims meanwhile: they are read before long.
                self.held_on_until = Some(now);
                self.changes.push_back(Change::HeldOn);
            }
        }
        let may =
            self.holds() && self.shutdown.is_none() && (!self.target.held.is_empty() || self.takes_over());
        let ours = matches!(self.own, Own::Live(_)) || matches!(self.own, Own::Unknown) && !self.is_synced();
        if !may || !ours || self.target.session.is_none() || self.target.deadline <= now {
            return;
        }
        let due = self.target.deadline - self.times.answer_for() / 2;
        let mut due = due.max(self.silence.not_before);
        if !self.is_silent(now) {
            let Some(sent) = self.unheard_since().filter(|_| !self.target.held.is_empty()) else { return };
            due = due.max(sent + SLOW);
        }
        if due > now {
            return self.wake(due);
        }
        let held = self.target.held.clone();
        if held.is_empty() {
            // There is nothing to ask for: what comes into the kernel is asked for before.
            self.target.deadline = now + self.times.answer_for();
            return self.wake(self.target.deadline - self.times.answer_for() / 2);
        }
        self.request(now, ROUND.to_owned(), Purpose::Challenge(held, now), Request::Challenge);
    }

    /// Whether another host goes on claiming what we hold on to and may answer for in another's place: an agent that has just started
    /// does not know what of it the one before took so.
    pub(super) fn is_contested(&mut self, now: BootNs, vip: Vip) -> bool {
        if !self.takes_over() || self.is_synced() {
            return false;
        }
        let since = *self.silence.rivals.entry(vip).or_insert(now);
        since + CONTESTED_FOR <= now
    }

    /// A round has ended.
    pub(super) fn challenged(&mut self, now: BootNs, round: Option<Challenged>) {
        let Some(Purpose::Challenge(_, begun)) = self.outstanding.of(ROUND) else { return };
        let spoken = self.silence.word >= *begun;
        let over = self.target.deadline <= now || spoken || self.target.session.is_none();
        if !over && !self.is_silent(now) && round.is_some() {
            self.silence.round = round;
            if let Some(sent) = self.unheard_since() {
                self.wake(sent + REQUEST_TIMEOUT);
            }
            return;
        }
        let Some(Purpose::Challenge(held, begun)) = self.outstanding.end(ROUND) else { return };
        if over {
            return; // An expired hold never revives.
        }
        let Some(round) = round.filter(|round| !round.asked.is_empty()) else {
            self.silence.not_before = now + TRY_AGAIN;
            return;
        };
        self.silence.rivals.retain(|vip, _| round.answered.contains_key(vip));
        for vip in held {
            let why = if !round.asked.contains(&vip) {
                "the API server is away, and the address can be asked for on no interface"
            } else {
                match round.answered.get(&vip) {
                    None => continue,
                    Some(Rival::Lower) => "the API server is away, and another host answers for the address",
                    Some(Rival::Higher) if self.is_provisional(vip) => {
                        "the API server is away, and another host answers for the address"
                    }
                    // One that holds on as we do gives way to the lower MAC as soon as it asks. Whoever still answers
                    // after that has a lease.
                    Some(Rival::Higher) => {
                        let since = *self.silence.rivals.entry(vip).or_insert(begun);
                        if since + self.times.answer_for() > begun {
                            continue;
                        }
                        "the API server is away, and another host goes on answering for the address"
                    }
                }
            };
            if self.target.held.remove(&vip) {
                self.heirs.remove(&vip);
                self.lost(vip, why, None);
            }
        }
        self.target.deadline = self.target.deadline.max(begun + self.times.answer_for());
        if self.is_holding(now) && !self.silence.holding {
            self.silence.holding = true;
            self.changes.push_back(Change::Holding { held: self.target.held.len() });
        }
    }
}

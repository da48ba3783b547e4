//! When thousands of claims are to be gone through: only if something may have changed for one of them.

use std::time::Duration;

use super::{
    interface::{Answer, Input},
    lease::Record,
    machine::Machine,
    outstanding::Purpose,
};
use crate::vocabulary::{BootNs, Vip};

/// Claims are gone through so soon after one of those that could be taken was, by somebody whose turn it could be, or a node
/// has joined.
pub(super) const SETTLED_WITHIN: Duration = Duration::from_secs(1);
/// A node that has joined waits so much longer for each VIP: nothing depends on it, and a hundred may join.
const JOINED_PER_VIP: Duration = Duration::from_millis(2);
/// Fewer VIPs than this are gone through in no time.
const MANY: usize = 256;
/// How long claims are left alone after they were gone through: several times as long as that took.
const REST_PER_VIP: Duration = Duration::from_micros(20);

/// Claims of which something was seen in a step.
#[derive(Debug, Default)]
pub(super) struct Touched {
    pub(super) vips: Vec<Vip>,
    /// Something was seen that may concern any.
    pub(super) all: bool,
}

impl Touched {
    pub(super) fn note(&mut self, input: &Input, mere_renewal: bool) {
        match input {
            Input::Changed(Record::Claim(claim))
            | Input::Deleted(Record::Claim(claim))
            | Input::Answered(_, Answer::Done(Record::Claim(claim))) => self.vips.push(claim.vip),
            Input::Probed(..) | Input::Challenged(_) | Input::Demand(_) | Input::Links(_) => {}
            _ => self.all |= !mere_renewal,
        }
    }
}

impl Machine {
    /// Thousands of claims are gone through only if something may have changed for one of them, and not for each of a thousand
    /// changes: what takes long is not begun again at once.
    pub(super) fn go_through_claims(&mut self, now: BootNs, at_once: bool) {
        self.find_unheard(now);
        let due = self.claims_due || self.claims_due_at.is_some_and(|at| at <= now);
        if at_once || due && self.claims_rest_until <= now {
            self.claims_due = false;
            self.claims_rest_until = now + REST_PER_VIP * self.many();
            let others = self.wake_at.take();
            self.find_emptied();
            self.drive_claims(now);
            self.find_watched(now);
            self.sweep(now);
            self.claims_due_at = std::mem::replace(&mut self.wake_at, others);
        }
        if self.claims_due {
            self.wake(self.claims_rest_until);
        } else if let Some(at) = self.claims_due_at {
            self.wake(at.max(self.claims_rest_until));
        }
    }

    /// How many VIPs there are, if they are many.
    fn many(&self) -> u32 {
        let vips = self.demand.as_ref().map_or(0, |demand| demand.vips.len());
        if vips < MANY { 0 } else { u32::try_from(vips).unwrap_or(u32::MAX) }
    }

    /// Whether a node that was heard when the claims were last gone through is not any more: nothing is to be handed over to
    /// it. Most are heard again in time.
    pub(super) fn find_unheard(&mut self, now: BootNs) {
        let Some(at) = self.unheard_at else { return };
        if at <= now {
            let until = || self.view.sessions.values().map(|seen| seen.heard_until());
            let unheard = until().any(|until| until >= at && until <= now);
            self.unheard_at = until().filter(|until| *until > now).min();
            if unheard {
                self.claims_wait(self.settles_at(now, true));
            }
        }
        if let Some(at) = self.unheard_at {
            self.wake(at);
        }
    }

    /// Claims are gone through by then.
    pub(super) fn claims_wait(&mut self, later: BootNs) {
        self.claims_due_at = Some(self.claims_due_at.map_or(later, |at| at.min(later)));
    }

    /// When claims are to be gone through because of what can wait.
    pub(super) fn settles_at(&self, now: BootNs, joins: bool) -> BootNs {
        now + SETTLED_WITHIN + if joins { JOINED_PER_VIP * self.many() } else { Duration::ZERO }
    }

    /// Whether an observation says no more than that time has passed and that a node which was heard is heard again.
    pub(super) fn is_mere_renewal(&self, now: BootNs, input: &Input) -> bool {
        match input {
            Input::Tick
            | Input::Spoke
            | Input::Unanswered
            | Input::LinkUp
            | Input::Contested(_)
            | Input::Silent(_) => true,
            Input::Answered(_, Answer::Surveyed(_)) => true,
            Input::Changed(Record::Session(new)) => {
                let old = self.view.sessions.get(&new.name);
                old.is_some_and(|old| old.heard_until() > now && old.is_renewed_by(new))
            }
            Input::Answered(token, Answer::Done(Record::Session(new))) => {
                matches!(self.outstanding.purpose(*token), Some(Purpose::Own))
                    && self.view.sessions.get(&new.name).is_some_and(|old| old.is_renewed_by(new))
            }
            _ => false,
        }
    }

    /// Whether this brings another node that had nothing, or was not heard for a while. Nobody waits for it: when a hundred
    /// join, thousands of claims are not gone through a hundred times by each.
    pub(super) fn joins(&self, input: &Input) -> bool {
        let Input::Changed(Record::Session(new)) = input else { return false };
        let other = new.holder.as_ref().is_some_and(|holder| holder.node != self.me.holder.node);
        let had_none = self.view.sessions.get(&new.name).is_none_or(|seen| {
            let old = &seen.session;
            old.holder.is_none() && old.uid == new.uid || seen.is_renewed_by(new)
        });
        other && had_none && !self.view.claims.is_empty()
    }

    /// The VIP whose claim this brings.
    pub(super) fn says_of_claim(&self, input: &Input) -> Option<Vip> {
        match input {
            Input::Changed(Record::Claim(claim)) => Some(claim.vip),
            Input::Answered(token, Answer::Done(Record::Claim(claim))) => {
                let purpose = self.outstanding.purpose(*token);
                matches!(purpose, Some(Purpose::Take(_) | Purpose::Look(..))).then_some(claim.vip)
            }
            _ => None,
        }
    }

    /// Whether the watch brings only what an answer has brought before.
    pub(super) fn is_known(&self, now: BootNs, input: &Input) -> bool {
        match input {
            Input::Changed(Record::Claim(claim)) => self.view.claims.get(&claim.vip).is_some_and(|held| {
                !self.settings.strict && held.version >= claim.version
                    || self.is_others_chore(now, held, claim)
            }),
            Input::Answered(token, Answer::Done(_)) => {
                matches!(self.outstanding.purpose(*token), Some(Purpose::Chore(..)))
            }
            // What it collided with is read at once.
            Input::Answered(token, Answer::Conflict) => {
                matches!(self.outstanding.purpose(*token), Some(Purpose::Take(_) | Purpose::Chore(..)))
            }
            _ => false,
        }
    }
}

//! What we give up: to a successor, each when its turn comes, or at once.

use std::time::Duration;

use super::{
    heirs::HEIR_AFTER,
    interface::Request,
    lease::{Claim, Record, Version, claim_name, vip_of},
    machine::Machine,
    outstanding::Purpose,
    times::D_MAX,
};
use crate::{
    policy::Demand,
    vocabulary::{BootNs, Vip},
};

/// When a VIP may be handed over to the same node once more.
const HAND_OVER_AGAIN: Duration = D_MAX;

/// A VIP that was handed over for a soft reason.
#[derive(Debug)]
pub(super) struct Offer {
    to: String,
    at: BootNs,
    /// How often it had moved by then.
    transitions: u64,
}

impl Offer {
    /// Whether the same node is not to be offered it again yet.
    pub(super) fn counts(&self, now: BootNs) -> bool {
        self.at + HAND_OVER_AGAIN > now
    }
}

impl Machine {
    /// Claims of ours for VIPs that nobody wants any more.
    pub(super) fn release_unwanted(&mut self, now: BootNs, demand: &Demand) {
        let unwanted: Vec<Vip> = self
            .view
            .claims
            .values()
            .filter(|claim| !demand.vips.contains_key(&claim.vip) && self.owns(claim, now))
            .map(|claim| claim.vip)
            .collect();
        for vip in unwanted {
            self.release(now, vip, None, "no service announces this address any more");
        }
    }

    /// Releases for a soft reason, which can wait: a successor that did not take the VIP the last time is not
    /// offered it again before long, or it would be gone every few seconds.
    pub(super) fn hand_over(&mut self, now: BootNs, vip: Vip, to: String, why: &'static str) {
        if let Some(Offer { to: last, at, .. }) = self.handed_over.get(&vip) {
            let again = *at + HAND_OVER_AGAIN;
            // Until the release is written, it is still the same one.
            if *last == to && again > now && self.target.held.contains(&vip) {
                return self.wake(again);
            }
        }
        // It would be its heir's first, who may be dead: whether it is, is known before long.
        let heir = self.view.claims.get(&vip).and_then(|claim| self.foreign_heir(now, claim));
        let heard = |node: &str| self.view.session(node).is_some_and(|seen| seen.heard_until() > now);
        if self.target.held.contains(&vip) {
            if heir.as_ref().is_some_and(|heir| !heard(&heir.node)) {
                return;
            }
            // It moves once if its successor is its heir before.
            if heir.map_or(self.passing.contains_key(&vip), |heir| heir.node != to) {
                let until = *self.passing.entry(vip).or_insert(now) + HEIR_AFTER;
                if until > now {
                    return self.wake(until);
                }
            }
        }
        let claim = self.view.claims.get(&vip);
        let (version, transitions) =
            claim.map_or((Version::default(), 0), |claim| (claim.version, claim.transitions));
        if self.target.held.contains(&vip) {
            if self.outstanding.is_full() {
                // Of a thousand, each is answered for until its turn comes.
                return self.releasing.push(&self.tenant(vip), (vip, version, Some(to), why));
            }
            self.handed_over.insert(vip, Offer { to: to.clone(), at: now, transitions });
        }
        self.passing.remove(&vip);
        self.release(now, vip, Some(to), why);
    }

    /// Goes on giving up what was found to be given up, unless it has changed since.
    pub(super) fn release_waiting(&mut self, now: BootNs) {
        while self.is_live(now) && self.shutdown.is_none() && !self.outstanding.is_full() {
            let Some((tenant, next)) = self.releasing.pop_after(&self.last_turn) else { return };
            let (vip, version, to, why) = next;
            if self.view.claims.get(&vip).is_none_or(|claim| claim.version != version) {
                continue;
            }
            if let Some(at) = self.not_before.get(&claim_name(vip)).copied().filter(|at| *at > now) {
                self.claims_wait(at);
                self.wake(at);
                continue;
            }
            let before = self.outstanding.claims();
            match to {
                Some(to) if self.target.held.contains(&vip) => self.hand_over(now, vip, to, why),
                to => self.release(now, vip, to, why),
            }
            self.had_turn(tenant, before);
        }
    }

    /// Entry away first, then the write; whatever becomes of that write, only a new one brings the entry back.
    pub(super) fn release(&mut self, now: BootNs, vip: Vip, to: Option<String>, why: &'static str) {
        let answered = self.target.held.remove(&vip);
        self.unsure.remove(&vip);
        if answered {
            self.lost(vip, why, to.clone());
        }
        let Some(claim) = self.view.claims.get(&vip).cloned() else { return };
        if !claim.understood {
            return;
        }
        if self.outstanding.is_full() {
            // Nobody answers for it any more: it goes before what is answered for until its turn.
            return self.releasing.push_first(&self.tenant(vip), (vip, claim.version, to, why));
        }
        let write = self.nonce();
        // If it was inherited, only a write of our own brings it back from now on.
        self.heirs.remove(&vip);
        // Whoever has accepted to inherit it owns it now; only that one may say otherwise.
        let heir = self.foreign_heir(now, &claim);
        // Who inherits a claim and does not want it has asked nobody whether its holder holds on; who took one and was not sure yet
        // that it may answer leaves it void, by an epoch that never was, for its successor to ask.
        let (answered, ours) = (self.answered.contains(&vip), self.holds_claim(&claim));
        let named = claim.holder.as_ref().is_some_and(|node| *node == self.me.holder.node);
        let holder = claim.holder.clone().filter(|_| !answered && (ours || !named));
        let session_epoch = if holder.is_some() && ours { 0 } else { claim.session_epoch };
        let transitions = claim.transitions + u64::from(answered && !ours);
        let released = Claim { holder, session_epoch, preferred: to, heir, write, transitions, ..claim };
        let purpose = Purpose::Release(vip, released.version);
        self.request(now, claim_name(vip), purpose, Request::Put(Record::Claim(released)));
    }

    /// A read has shown what the release of a version collided with: nobody answers for the address any more, so the next one
    /// waits for nothing. If that version stands, something else refuses it.
    pub(super) fn release_at_once(&mut self, name: &str, put: Version) {
        let claim = vip_of(name).and_then(|vip| self.view.claims.get(&vip));
        if claim.is_some_and(|claim| claim.version != put && !self.target.held.contains(&claim.vip)) {
            self.not_before.remove(name);
        }
    }

    /// Who took what it was offered may be offered it again, be it for a moment that it had it. That we have taken it back
    /// is no such thing.
    pub(super) fn note_accepted(&mut self, record: &Record) {
        let Record::Claim(claim) = record else { return };
        let back = claim.holder.as_ref() == Some(&self.me.holder.node);
        let moved = claim.transitions.saturating_sub(u64::from(back));
        if self.handed_over.get(&claim.vip).is_some_and(|offer| moved > offer.transitions) {
            self.handed_over.remove(&claim.vip);
        }
    }
}

//! Doubt about what we hold: a claim that somebody deleted may be taken by another node after [`D_MAX`], so its
//! owner has to learn of it earlier, also while its watch tells nothing (`DESIGN` §5.3).

use std::time::Duration;

use super::{
    interface::Request,
    lease::{Record, claim_name},
    machine::Machine,
    outstanding::Purpose,
    own::Own,
    times::{D_MAX, LISTED_WITHIN},
};
use crate::vocabulary::{BootNs, Vip};

/// A claim that was not confirmed for so long is read.
const READ_AFTER: Duration = Duration::from_secs(30);
/// An entry whose claim was not confirmed for so long is given away, so that the bound below silences no other.
const GIVE_AWAY_AFTER: Duration = Duration::from_secs(53);
/// The kernel does not answer for a claim that was not confirmed for so long, whatever lease was earned meanwhile: D_MAX
/// less a tenth, as any margin. A stopped agent gives nothing away.
const GONE_AFTER: Duration = Duration::from_secs(54);
const READS_IN_FLIGHT: usize = 32;

const _: () = assert!(GONE_AFTER.as_secs() * 10 <= D_MAX.as_secs() * 9);

impl Machine {
    /// The watch or a list brought this: if one of our own renewals, everything up to its sending has been seen.
    pub(super) fn heard_ourselves(&mut self, record: &Record) {
        let (Record::Session(session), Own::Live(live)) = (record, &self.own) else { return };
        if session.holder.as_ref() == Some(&self.me.holder) {
            self.seen_until = self.seen_until.max(live.attempts.sent_at(&session.renewal));
        }
    }

    /// Until when this claim is known to have been there.
    fn known_until(&self, vip: Vip) -> BootNs {
        let confirmed = self.confirmed.get(&vip).copied().max(self.live_since.map(|at| at - LISTED_WITHIN));
        // While we held on, nobody could be asked.
        let held_on = self.held_on_until.map(|at| at - READ_AFTER);
        confirmed.max(self.seen_until).max(held_on).unwrap_or_default()
    }

    /// Reads claims of ours that the watch has not confirmed lately, and gives entries away while there is time.
    pub(super) fn doubt_claims(&mut self, now: BootNs) {
        // Held on to by rounds of probes, though the lease may not be over yet.
        if self.holds() && self.target.deadline > self.earned.max(now) {
            return;
        }
        let held: Vec<Vip> = self.target.held.iter().copied().collect();
        self.confirmed.retain(|vip, _| self.target.held.contains(vip) || self.heirs.contains(vip));
        for vip in held {
            if self.is_provisional(vip) {
                continue;
            }
            let known = self.known_until(vip);
            if known + GIVE_AWAY_AFTER <= now {
                self.target.held.remove(&vip);
                self.heirs.remove(&vip);
                let why = "its claim could not be confirmed";
                self.lost(vip, why, None);
            } else if known + READ_AFTER > now {
                self.wake(known + READ_AFTER);
            } else {
                self.wake(known + GIVE_AWAY_AFTER);
                self.read_claim(now, vip);
            }
        }
    }

    /// Whether a claim was lately known to be there; else it is read. One that was deleted may be another's by now, and an heir
    /// whose watch is late has not heard of either.
    pub(super) fn is_confirmed(&mut self, now: BootNs, vip: Vip) -> bool {
        let lately = self.known_until(vip) + READ_AFTER > now;
        if !lately {
            self.read_claim(now, vip);
        }
        lately
    }

    fn read_claim(&mut self, now: BootNs, vip: Vip) {
        if self.outstanding.confirms < READS_IN_FLIGHT {
            let name = claim_name(vip);
            let asked = self.view.version_of(&name).unwrap_or_default();
            self.request(now, name.clone(), Purpose::Confirm(vip, asked, now), Request::Get(name));
        }
    }

    /// A lease does not outlive what is known of the claims that the kernel answers for.
    pub(super) fn bound_deadline(&mut self, now: BootNs) {
        // What was adopted or is held on to is bound by its own rules.
        if self.earned <= now || self.target.deadline > self.earned || self.live_since.is_none() {
            return;
        }
        // What the watch has brought lately is known of all of them.
        if self.seen_until.is_some_and(|seen| seen + GONE_AFTER >= self.earned) {
            self.target.deadline = self.earned;
            return;
        }
        let by_claim = self.target.held.iter().filter(|vip| !self.is_provisional(**vip));
        let known = by_claim.map(|vip| self.known_until(*vip)).min();
        self.target.deadline = known.map_or(self.earned, |known| self.earned.min(known + GONE_AFTER));
    }

    /// A read that was sent at `sent` found the claim as it is in view.
    pub(super) fn confirm(&mut self, vip: Vip, sent: BootNs) {
        if self.view.claims.get(&vip).is_some_and(|claim| self.is_ours(claim)) {
            self.confirmed.insert(vip, sent);
        }
    }
}

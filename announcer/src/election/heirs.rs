//! Who inherits each claim: settled in peace, so that one write, the fence, passes all claims of a dead node on.
//!
//! An owner names the node that it would have as its heir (`preferred`); that node accepts by a compare-and-swap of its
//! own. From then on the claim is the owner's as long as its epoch lasts, and then its heir's: nobody else may take it
//! before the heir's epoch is over too, and only the heir takes itself off again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    choose::{LiveNode, heirs},
    interface::Request,
    lease::{Bound, Claim, Record, claim_name},
    machine::Machine,
    outstanding::Purpose,
};
use crate::{
    policy::Demand,
    vocabulary::{BootNs, Vip},
};

/// How many chores may be on their way at once: they can wait.
pub const CHORES_IN_FLIGHT: usize = 4;

/// An heir is named anew only after the nodes and the policy have been the same for so long: a link that comes and goes
/// is no reason to write a thousand claims.
pub(super) const HEIR_AFTER: Duration = Duration::from_secs(10);

/// It is named after so long though they go on changing.
const HEIR_AT_LAST: Duration = Duration::from_secs(60);

/// Who can take nothing of what it has inherited for so long leaves it to others.
const STUCK_AFTER: Duration = Duration::from_secs(10);

/// When a VIP may have its next chore.
const CHORE_AGAIN: Duration = Duration::from_secs(2);

/// A write that no address waits for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Chore {
    /// Our own claim: in our name, if it was inherited, and with the heir that we want.
    Name(Option<String>),
    /// We are to be its heir.
    Accept,
    /// We are no longer to be.
    Decline,
}

impl Machine {
    /// Whether what the holder had is ours now, if we have accepted it.
    pub(super) fn inherits(&self, claim: &Claim) -> bool {
        claim.understood
            && claim.heir.as_ref().is_some_and(|heir| self.is_us(heir.binding()))
            && self.view.is_bequeathed(claim)
    }

    /// Whether the view says that we own this claim, be it that the kernel may not answer for it yet.
    pub(super) fn owns(&self, claim: &Claim, now: BootNs) -> bool {
        self.view.owner(claim, now).is_some_and(|owner| self.is_us(owner))
    }

    /// The other node that has accepted to inherit a claim.
    pub(super) fn foreign_heir(&self, now: BootNs, claim: &Claim) -> Option<Bound> {
        let foreign = |heir: &&Bound| heir.node != self.me.holder.node;
        claim.heir.as_ref().filter(foreign).filter(|heir| !self.view.is_over(heir.binding(), now)).cloned()
    }

    /// Puts a VIP that is ours into the kernel, if it was inherited; else it is taken.
    pub(super) fn keep(&mut self, now: BootNs, vip: Vip) {
        if self.unsure.contains_key(&vip) {
            return;
        }
        let inherited =
            self.view.claims.get(&vip).filter(|claim| self.is_ours(claim) && !self.holds_claim(claim));
        let Some(claim) = inherited.cloned() else { return self.take(now, vip, None) };
        if self.unchecked || !self.is_confirmed(now, vip) {
            return;
        }
        if self.may_be_held_on(&claim) && !self.is_unanswered(now, vip) {
            return;
        }
        if !self.is_assured(now) {
            // It was inherited by what the watch has brought, and that may be late.
            return self.read_own(now);
        }
        self.probed.remove(&vip);
        self.in_use.remove(&vip);
        self.inherited_at = now;
        self.gain(vip, self.why(Some(&claim)));
    }

    /// An heir without a policy, or whose probes cannot be sent, says so: as long as it is one, nobody else may take it.
    pub(super) fn leave_to_others(&mut self, now: BootNs) {
        let me = &self.me.holder.node;
        let inherited = |claim: &&Claim| {
            claim.heir.as_ref().is_some_and(|heir| heir.node == *me) && self.owns(claim, now)
        };
        let untaken = |claim: &&Claim| {
            claim.understood
                && !self.target.held.contains(&claim.vip)
                && !self.in_use.contains_key(&claim.vip)
        };
        let may = self.is_live(now) && self.shutdown.is_none() && self.quiet_until <= now;
        let claims = self.view.claims.values().filter(|_| may);
        let vips: BTreeSet<Vip> = claims.filter(untaken).filter(inherited).map(|claim| claim.vip).collect();
        self.untaken.retain(|vip, _| vips.contains(vip));
        for vip in vips {
            let since = *self.untaken.entry(vip).or_insert(now);
            // Of thousands, which are asked for one after the other, the last ones wait for long.
            let until = since.max(self.inherited_at) + STUCK_AFTER;
            if until > now {
                self.wake(until);
            } else {
                self.release(now, vip, None, "it was inherited, and could not be taken");
            }
        }
    }

    /// Finds what is to be written when there is time.
    pub(super) fn tend_claims(
        &mut self,
        now: BootNs,
        demand: &Arc<Demand>,
        live: &BTreeMap<String, LiveNode>,
    ) {
        self.chores.clear();
        self.chores_rest.retain(|_, until| *until > now);
        let claims = &self.view.claims;
        let of_us = |vip: &Vip| {
            claims
                .get(vip)
                .and_then(|claim| claim.heir.as_ref())
                .is_some_and(|heir| self.is_us(heir.binding()))
        };
        let heirs_of_us = self.heirs.iter().copied().filter(of_us).collect();
        self.heirs = heirs_of_us;
        if self.outstanding.takes > 0 || !self.waiting.is_empty() || self.shutdown.is_some() {
            return;
        }
        let me = &self.me.holder.node;
        let (states, _) = self.claim_states(demand, now);
        let wanted = heirs(me, demand, live, &states, self.settings.failback);
        let at_last = self.unnamed_since.map(|since| since + HEIR_AT_LAST);
        let settled_at = self.electorate_since + HEIR_AFTER;
        let settled_at = at_last.map_or(settled_at, |at| at.min(settled_at));
        let may_own = |vip: &Vip| demand.vips.get(vip).is_some_and(|of| of.candidates.contains_key(me));
        let (mut chores, mut later, mut unnamed) = (Vec::new(), false, false);
        for (vip, claim) in self.view.claims.iter().filter(|(_, claim)| claim.understood) {
            let Some(owner) = self.view.owner(claim, now) else { continue };
            let heir = claim.heir.as_ref().map(Bound::binding);
            let is_heir = heir.is_some_and(|heir| self.is_us(heir));
            let chore = if self.is_us(owner) {
                let Some(wanted) = wanted.get(vip).filter(|_| self.target.held.contains(vip)) else {
                    continue;
                };
                let inherited = !self.holds_claim(claim);
                let stale = heir.is_some_and(|heir| self.view.is_over(heir, now));
                let same = claim.preferred.as_deref() == *wanted && !stale;
                let settled = settled_at <= now || self.passing.contains_key(vip);
                later |= !inherited && !same && !settled;
                unnamed |= !same;
                (inherited || !same && settled).then(|| Chore::Name(wanted.map(str::to_owned)))
            } else if claim.preferred.as_ref() == Some(me) && may_own(vip) {
                let proven = claim.transitions > 0 || !self.settings.strict;
                let free = proven && heir.is_none_or(|heir| is_heir || self.view.is_over(heir, now));
                let accepted = is_heir && self.heirs.contains(vip);
                (free && !accepted && owner.0 != me).then_some(Chore::Accept)
            } else {
                is_heir.then_some(Chore::Decline)
            };
            chores.extend(chore.map(|chore| (*vip, claim.version, chore)));
        }
        self.chores.extend(chores);
        self.unnamed_since = unnamed.then(|| self.unnamed_since.unwrap_or(now));
        if later {
            self.wake(settled_at);
        }
    }

    /// Goes on with what was found, unless it has changed since.
    pub(super) fn do_chores(&mut self, now: BootNs) {
        while self.is_live(now) && self.shutdown.is_none() && self.outstanding.chores < CHORES_IN_FLIGHT {
            let Some((vip, version, chore)) = self.chores.pop_front() else { return };
            let Some(claim) = self.view.claims.get(&vip).filter(|claim| claim.version == version) else {
                continue;
            };
            let claim = claim.clone();
            self.do_chore(now, claim, chore);
        }
    }

    fn do_chore(&mut self, now: BootNs, claim: Claim, chore: Chore) {
        let Some((uid, epoch)) = self.target.session.clone() else { return };
        let (vip, name, me) = (claim.vip, claim_name(claim.vip), self.me.holder.node.clone());
        let rest = self.chores_rest.get(&vip).max(self.not_before.get(&name)).copied();
        if let Some(at) = rest.filter(|at| *at > now) {
            self.claims_wait(at);
            return self.wake(at);
        }
        let write = self.nonce();
        let record = match chore {
            Chore::Name(preferred) => {
                let heir = self.foreign_heir(now, &claim);
                let inherited = !self.holds_claim(&claim);
                Claim {
                    holder: Some(me),
                    session_uid: uid.clone(),
                    session_epoch: epoch,
                    preferred,
                    heir,
                    acquired: claim.acquired.filter(|_| !inherited),
                    write,
                    transitions: claim.transitions + u64::from(inherited),
                    ..claim
                }
            }
            Chore::Accept => {
                let heir = Bound { node: me, session_uid: uid.clone(), session_epoch: epoch };
                Claim { heir: Some(heir), write, ..claim }
            }
            Chore::Decline => {
                self.heirs.remove(&vip);
                Claim { heir: None, write, ..claim }
            }
        };
        self.chores_rest.insert(vip, now + CHORE_AGAIN);
        self.request(now, name, Purpose::Chore(vip, (uid, epoch)), Request::Put(Record::Claim(record)));
    }

    /// A chore was written: if it made us an heir, this process knows it.
    pub(super) fn accepted(&mut self, now: BootNs, vip: Vip, session: &(String, u64)) {
        let claim = self.view.claims.get(&vip);
        // While it was on its way, nothing else could be written.
        self.claims_due |=
            claim.is_some_and(|claim| self.owns(claim, now)) != self.target.held.contains(&vip);
        let heir = claim.and_then(|claim| claim.heir.as_ref());
        if self.target.session.as_ref() == Some(session)
            && heir.is_some_and(|heir| self.is_us(heir.binding()))
        {
            self.heirs.insert(vip);
        }
    }

    /// Whether all that was written concerns who inherits a claim, and neither is us: nothing follows from that.
    pub(super) fn is_others_chore(&self, now: BootNs, old: &Claim, new: &Claim) -> bool {
        let me = &self.me.holder.node;
        let same = Claim {
            version: new.version,
            write: new.write.clone(),
            preferred: new.preferred.clone(),
            heir: new.heir.clone(),
            ..old.clone()
        };
        let concerns = |claim: &Claim| {
            claim.preferred.as_ref() == Some(me) || claim.heir.as_ref().is_some_and(|heir| heir.node == *me)
        };
        let strict = self.settings.strict && old.holder.as_ref() == Some(me);
        let owner =
            self.view.owner(old, now).is_some() && self.view.owner(old, now) == self.view.owner(new, now);
        let waits = strict || self.passing.contains_key(&old.vip);
        owner && old.holder.is_some() && *new == same && !concerns(old) && !concerns(new) && !waits
    }
}

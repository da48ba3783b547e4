//! `--on-api-loss=takeover`: an owner that dies while the API server is away is replaced all the same (`DESIGN` §5.8).
//!
//! Nothing can be agreed then. Whoever is first in the last known view, and hears nothing of the owner though it hears
//! others, asks the wire for each of its addresses and answers for those that nobody answers for: provisionally, until
//! claims settle it when the API server is back.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    choose::tie_break,
    interface::{Change, OnApiLoss, Why},
    lease::{Claim, claim_name},
    machine::Machine,
    own::Own,
};
use crate::vocabulary::{BootNs, Vip};

/// A node has been silent for so long, and the API server away.
const SILENT_FOR: Duration = Duration::from_secs(1);
/// When a VIP whose owner answers after all is asked for again.
const ASK_AGAIN: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
pub(super) struct Takeover {
    /// Since when a node has not answered while the API server was away.
    silent_since: BTreeMap<String, BootNs>,
    /// What we answer for in another's place.
    provisional: BTreeMap<Vip, Provisional>,
}

/// In whose place, and since when.
#[derive(Debug)]
struct Provisional {
    node: String,
    uid: String,
    epoch: u64,
    since: BootNs,
}

#[cfg(test)]
impl Takeover {
    pub(super) fn size(&self) -> usize {
        self.silent_since.len() + self.provisional.len()
    }
}

impl Machine {
    /// VIPs that we answer for though their claims are another's.
    pub fn provisional(&self) -> impl Iterator<Item = Vip> {
        self.takeover.provisional.keys().copied()
    }

    /// Whether this one is.
    pub(super) fn is_provisional(&self, vip: Vip) -> bool {
        self.takeover.provisional.contains_key(&vip)
    }

    pub(super) fn takes_over(&self) -> bool {
        self.settings.on_api_loss == OnApiLoss::Takeover && !self.settings.strict
    }

    /// Another host answers for these: what is provisional goes at once, and what may be soon.
    pub(super) fn give_way(&mut self, now: BootNs, vips: &BTreeSet<Vip>) {
        for vip in vips {
            let provisional = self.takeover.provisional.remove(vip).is_some();
            if (provisional || self.is_contested(now, *vip)) && self.target.held.remove(vip) {
                self.lost(*vip, "another host answers for the address", None);
            }
        }
    }

    /// Nothing of it is left.
    pub(super) fn forget_provisional(&mut self) {
        self.takeover = Takeover::default();
    }

    /// Settles what can be settled, and takes what nobody answers for.
    pub(super) fn drive_takeover(&mut self, now: BootNs) {
        self.settle_provisional(now);
        let may = self.takes_over()
            && self.is_without_api(now)
            && self.shutdown.is_none()
            && matches!(self.own, Own::Live(_))
            && self.target.deadline > now
            && self.quiet_until <= now;
        let silent = self.suspicions.silent.keys().filter(|_| may).map(|(node, _)| node.clone());
        let silent: BTreeSet<String> = silent.collect();
        let since = &mut self.takeover.silent_since;
        // Who has been silent for long enough stays so until the API server speaks: whoever has taken some of what it had
        // answers in its place, and the rest is asked for, one by one.
        since.retain(|node, at| may && (silent.contains(node) || *at + SILENT_FOR <= now));
        for node in &silent {
            since.entry(node.clone()).or_insert(now);
        }
        let due: Vec<BootNs> = since.values().map(|at| *at + SILENT_FOR).filter(|at| *at > now).collect();
        let silent: BTreeSet<String> = since.keys().cloned().collect();
        due.into_iter().for_each(|at| self.wake(at));
        if silent.is_empty() {
            return;
        }
        let lost: Vec<(Vip, Claim)> = self
            .view
            .claims
            .iter()
            .filter(|(vip, claim)| claim.understood && !self.target.held.contains(vip))
            .filter(|(_, claim)| self.view.owner(claim, now).is_some_and(|(node, ..)| silent.contains(node)))
            .filter(|(_, claim)| self.survivor(claim, &silent).as_ref() == Some(&self.me.holder.node))
            .map(|(vip, claim)| (*vip, claim.clone()))
            .collect();
        for (vip, claim) in lost {
            self.take_provisionally(now, vip, &claim);
        }
    }

    fn take_provisionally(&mut self, now: BootNs, vip: Vip, claim: &Claim) {
        let Some((node, uid, epoch)) = self.view.owner(claim, now) else { return };
        let Some(since) = self.takeover.silent_since.get(node).copied() else { return };
        let Some((_, own_epoch)) = self.target.session else { return };
        if since + SILENT_FOR > now {
            return;
        }
        // What was asked before it fell silent says nothing.
        if self.probed.get(&vip).is_some_and(|begun| *begun < since) {
            self.probed.remove(&vip);
        }
        let (node, uid) = (node.to_owned(), uid.to_owned());
        if !self.is_unanswered(now, vip) {
            return;
        }
        self.probed.remove(&vip);
        let why = Why::Provisional(node.clone());
        self.takeover.provisional.insert(vip, Provisional { node, uid, epoch, since: now });
        if self.target.held.insert(vip) {
            self.changes.push_back(Change::Gained { vip, epoch: own_epoch, why });
        }
    }

    /// Who is first to take this while nobody can be asked: whoever has accepted to inherit it, else the best that is heard and
    /// does the same.
    fn survivor(&self, claim: &Claim, silent: &BTreeSet<String>) -> Option<String> {
        let wanted = self.demand.as_ref()?.vips.get(&claim.vip)?;
        let able = |node: &str| {
            let candidate = wanted.candidates.get(node)?;
            let session = &self.view.session(node)?.session;
            let links = if *node == self.me.holder.node { &self.links } else { &session.links };
            let may = session.holder.is_some()
                && session.understood
                && session.on_api_loss == OnApiLoss::Takeover.word()
                && !silent.contains(node);
            (may && links.announce(&candidate.interfaces)).then(|| node.to_owned())
        };
        let heir = claim.heir.as_ref().and_then(|heir| able(&heir.node));
        let best = || {
            let able = wanted.candidates.keys().filter_map(|node| able(node));
            able.min_by_key(|node| (wanted.candidates[node].tier, tie_break(node, claim.vip)))
        };
        heir.or_else(best)
    }

    /// Once the API server tells again: what is ours by now stays, what another has goes.
    fn settle_provisional(&mut self, now: BootNs) {
        let mut over = Vec::new();
        for (vip, of) in &self.takeover.provisional {
            if !self.target.held.contains(vip) {
                over.push((*vip, None));
                continue;
            }
            let Some(claim) = self.view.claims.get(vip) else {
                over.push((*vip, Some("its claim is gone")));
                continue;
            };
            match self.view.owner(claim, now) {
                Some(_) if self.is_ours(claim) => over.push((*vip, None)),
                Some(owner) if self.is_us(owner) => {}
                Some((node, uid, epoch))
                    if (node, uid, epoch) == (of.node.as_str(), of.uid.as_str(), of.epoch) =>
                {
                    let heard = self.view.session(node).and_then(|seen| seen.heard);
                    over.extend((heard > Some(of.since)).then_some((*vip, Some("its owner is back"))));
                }
                Some(_) => over.push((*vip, Some("another node owns it by now"))),
                // Whoever is to take it asks the wire, and hears us.
                None => {}
            }
        }
        for (vip, why) in over {
            self.takeover.provisional.remove(&vip);
            if let Some(why) = why.filter(|_| self.target.held.remove(&vip)) {
                self.lost(vip, why, None);
            }
        }
    }

    /// Probes of a VIP that another owns were answered.
    pub(super) fn is_answered_for(&mut self, now: BootNs, vip: Vip) {
        self.probed.remove(&vip);
        self.not_before.insert(claim_name(vip), now + ASK_AGAIN);
    }
}

#[cfg(test)]
mod tests;

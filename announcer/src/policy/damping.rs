//! Addresses that come and go: what was lost too often lately is trusted again only after a while, so that one Service that
//! flaps does not move its address, and write for it, without an end.
//!
//! Imagine a readiness probe that fails every other second. With `externalTrafficPolicy: Local` its node is a candidate, then
//! not, then again; with one Pod the address has somebody to serve it, then nobody, then somebody. BGP routers know the kind,
//! and damp it (RFC 2439): each loss beyond the first few doubles the time for which a return is not believed.
//! - A *node* that has lost its endpoints too often is [`Tier::Unsteady`](super::Tier::Unsteady) for a while once it has some again: taken only if no
//!   steady node is there, so that no address is unanswered that could be answered. A node without an endpoint never
//!   is a candidate, for kube-proxy drops there.
//! - An *address* that has lost its last candidate too often, because no endpoint serves or because its Service's status does
//!   not list it (two controllers that disagree), stays as it was for a while: there is nobody else to answer for it.
//!   It ends at once where the Service is deleted or changes its class.
//!
//! Each agent damps what it has seen itself, so they agree but for the moment at which they saw it, and one that was started
//! later believes at once. The election settles that.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    decide::Decision,
    demand::{Demand, VipDemand},
    options::Options,
};
use crate::{
    kube::{ObjectKey, Service, Snapshot, TrafficPolicy},
    vocabulary::Vip,
};

/// Losses that cost nothing: a rolling update has one.
const FREE: u32 = 2;
/// What the first loss beyond those costs; each further one costs twice as much.
const FIRST: Duration = Duration::from_secs(4);
/// A node that lost its endpoints is not trusted for so long at most.
const LONGEST_UNSTEADY: Duration = Duration::from_secs(300);
/// An address that nobody can serve is answered for so long at most.
const LONGEST_KEPT: Duration = Duration::from_secs(60);
/// So much time without a loss forgives one.
const FORGIVES: Duration = Duration::from_secs(120);
/// More losses than this are not remembered: by then every time is at its longest.
const MOST: u32 = FREE + 8;

/// What was lost lately, and is not trusted because of it.
#[derive(Debug, Default)]
pub struct Damping {
    /// What the last Snapshot asked for, undamped.
    last: BTreeMap<Vip, VipDemand>,
    /// Of a node whose endpoints served an address.
    nodes: BTreeMap<Vip, BTreeMap<String, Flaps>>,
    /// Of an address that somebody could announce.
    vips: BTreeMap<Vip, Flaps>,
    /// What was last asked for each address that nobody can announce and that stays as it was.
    kept: BTreeMap<Vip, VipDemand>,
}

/// What is not trusted at the moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Damped {
    /// Nodes that are the last choice for an address, as soon as they have an endpoint for it, and for how long.
    pub unsteady: BTreeMap<(Vip, String), Duration>,
    /// Addresses that stay as they are, also while nobody can announce them, and for how long.
    pub kept: BTreeMap<Vip, Duration>,
}

impl Damped {
    /// When the first of them is over, from the moment of the decision on.
    pub fn due(&self) -> Option<Duration> {
        self.unsteady.values().chain(self.kept.values()).min().copied()
    }
}

/// How often something was lost.
#[derive(Clone, Copy, Debug)]
struct Flaps {
    losses: u32,
    last: Instant,
}

impl Damping {
    /// Damps what a Snapshot asks for at this moment, whose decision this is.
    pub fn damp(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        options: &Options,
        decision: &mut Decision,
    ) -> Damped {
        let demand = &mut decision.demand;
        self.forget(now);
        self.note_losses(now, &Asked { snapshot, options, demand });
        self.last = demand.vips.clone();
        self.keep(now, snapshot, options, demand);
        let kept = self.vips.iter().filter_map(|(vip, flaps)| Some((*vip, flaps.left(now, LONGEST_KEPT)?)));
        Damped { kept: kept.collect(), unsteady: self.distrust(now, demand) }
    }

    /// How much is remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.nodes.values().map(BTreeMap::len).sum::<usize>()
            + self.vips.len()
            + self.kept.len()
            + self.last.len()
    }

    fn forget(&mut self, now: Instant) {
        for nodes in self.nodes.values_mut() {
            nodes.retain(|_, flaps| flaps.at(now) > 0);
        }
        self.nodes.retain(|_, nodes| !nodes.is_empty());
        self.vips.retain(|_, flaps| flaps.at(now) > 0);
    }

    fn note_losses(&mut self, now: Instant, asked: &Asked<'_>) {
        // Thousands of addresses have the same candidates before and after.
        let mut same = BTreeSet::new();
        for (vip, before) in &self.last {
            let after = asked.demand.vips.get(vip);
            if let Some(after) = after {
                let pair = (Arc::as_ptr(&before.candidates), Arc::as_ptr(&after.candidates));
                if same.contains(&pair) {
                    continue;
                }
                if before.candidates.keys().eq(after.candidates.keys()) {
                    same.insert(pair);
                    continue;
                }
            }
            let lost = |node: &&String| after.is_none_or(|after| !after.candidates.contains_key(*node));
            for node in
                before.candidates.keys().filter(lost).filter(|node| asked.want_of_endpoint(before, node))
            {
                let flaps = self.nodes.entry(*vip).or_default().entry(node.clone());
                flaps.and_modify(|flaps| flaps.lose(now)).or_insert(Flaps { losses: 1, last: now });
            }
            if !before.candidates.is_empty() && asked.could_come_back(*vip, &before.services) {
                let flaps = self.vips.entry(*vip);
                let flaps =
                    flaps.and_modify(|flaps| flaps.lose(now)).or_insert(Flaps { losses: 1, last: now });
                if flaps.left(now, LONGEST_KEPT).is_some() {
                    self.kept.insert(*vip, before.clone());
                }
            }
        }
    }

    /// Addresses that nobody can announce, and that stay as they were.
    fn keep(&mut self, now: Instant, snapshot: &Snapshot, options: &Options, demand: &mut Demand) {
        let vips = &self.vips;
        let asked = Asked { snapshot, options, demand };
        self.kept.retain(|vip, wanted| {
            vips.get(vip).is_some_and(|flaps| flaps.left(now, LONGEST_KEPT).is_some())
                && asked.could_come_back(*vip, &wanted.services)
        });
        demand.vips.extend(self.kept.iter().map(|(vip, wanted)| (*vip, wanted.clone())));
    }

    /// Nodes that are the last choice.
    fn distrust(&self, now: Instant, demand: &mut Demand) -> BTreeMap<(Vip, String), Duration> {
        let mut unsteady = BTreeMap::new();
        for (vip, nodes) in &self.nodes {
            let Some(wanted) = demand.vips.get_mut(vip) else { continue };
            for (node, flaps) in nodes {
                let Some(left) = flaps.left(now, LONGEST_UNSTEADY) else { continue };
                wanted.distrust(node);
                unsteady.insert((*vip, node.clone()), left);
            }
        }
        unsteady
    }
}

impl Flaps {
    /// Losses that are not forgiven yet.
    fn at(self, now: Instant) -> u32 {
        let forgiven = now.saturating_duration_since(self.last).as_secs() / FORGIVES.as_secs();
        self.losses.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX))
    }

    fn lose(&mut self, now: Instant) {
        *self = Self { losses: (self.at(now) + 1).min(MOST), last: now };
    }

    /// For how long from now on a return is not believed.
    fn left(self, now: Instant, longest: Duration) -> Option<Duration> {
        let doublings = self.losses.checked_sub(FREE + 1)?;
        let until = self.last + FIRST.saturating_mul(1 << doublings.min(MOST)).min(longest);
        until.checked_duration_since(now).filter(|left| !left.is_zero())
    }
}

/// What is asked for now, to say why something was lost.
struct Asked<'a> {
    snapshot: &'a Snapshot,
    options: &'a Options,
    demand: &'a Demand,
}

impl Asked<'_> {
    /// The Services of these names that are still ours.
    fn services<'s>(&'s self, names: &'s BTreeSet<String>) -> impl Iterator<Item = &'s Service> {
        let key = |name: &String| {
            let (namespace, name) = name.split_once('/')?;
            Some(ObjectKey { namespace: namespace.to_owned(), name: name.to_owned() })
        };
        let services = names.iter().filter_map(move |name| self.snapshot.services.get(&key(name)?));
        services.filter(|service| self.options.want(service))
    }

    /// Whether a node may not announce any more for want of an endpoint, not because an operator says so.
    fn want_of_endpoint(&self, before: &VipDemand, node: &str) -> bool {
        let local = |service: &Service| service.traffic_policy == TrafficPolicy::Local;
        self.services(&before.services)
            .any(|service| local(service) && !service.endpoints.nodes.contains(node))
    }

    /// Whether nobody can announce an address just now, and neither an operator nor a tenant has said that it should be so: no
    /// endpoint serves, or the status of a Service that had it does not list it.
    fn could_come_back(&self, vip: Vip, services: &BTreeSet<String>) -> bool {
        match self.demand.vips.get(&vip) {
            Some(wanted) => wanted.nobody_because.is_some_and(|because| because.for_want_of_endpoints()),
            None => self.services(services).any(|service| !service.addresses.contains(&vip)),
        }
    }
}

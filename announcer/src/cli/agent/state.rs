//! What happens beside the election: configuration and links that change, proofs, gauges, and the words for them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use tracing::{error, info, warn};

use super::{
    deciding::{Decided, POLICY},
    turn::Agent,
};
use crate::{
    datapath::DatapathError,
    election::{Change, Grounds, Input},
    kube::Snapshot,
    policy::{Demand, Interfaces, LeftOut, Links},
    report::{
        changes::{Gain, Loss, Summary},
        health::Readiness,
        metrics::{Counted, KernelCounts, NoRoom, Ownership, Unheard},
    },
    vocabulary::{BootNs, LinkId, Vip},
    wire::{
        links::LinkView,
        segments::Segments,
        select::{Selection, can_announce, why_missing},
    },
};

/// How many other nodes are asked for when a peer does not answer.
const BYSTANDERS: usize = 4;

/// How many links that announce nothing by themselves a session names: it is read by all nodes.
const LEFT_OUT: usize = 16;

/// A kernel that refuses to give up an entry for so long is left to the next agent.
const STUCK_LIMIT: Duration = Duration::from_secs(30);

/// What was last said of things that last, so that each is said once.
#[derive(Debug, Default)]
pub(super) struct Said {
    clashes: BTreeSet<Vip>,
    /// Addresses of this node itself that the election was told of.
    own: BTreeSet<Vip>,
    /// The Services that had what is held and wanted no more.
    gone: BTreeMap<Vip, BTreeSet<String>>,
    ran_out: bool,
    /// Losses that are told once it is known whose the addresses are: an agent may learn first that it was fenced.
    losses: Vec<Change>,
}

impl Agent {
    pub(super) fn decided(&mut self, decided: Decided) -> Result<(), DatapathError> {
        let Decided { snapshot, demand, clashes, plan, damped } = decided;
        if self.snapshot.is_none() {
            self.station.changes.synced(snapshot.services.len(), snapshot.nodes.len());
            if snapshot.own_node(&self.node).is_none() {
                warn!(
                    node = self.node,
                    "no Node of this name: check --node-name; nothing is announced without it"
                );
            }
        }
        self.metrics.set_invalid_objects(&snapshot.invalid);
        for (vip, whose) in clashes.iter().filter(|(vip, _)| !self.said.clashes.contains(vip)) {
            warn!(
                ip = %vip,
                node = self.node,
                whose,
                "a Node lists a Service's address among its own, after its first of that family; it is announced all the same"
            );
        }
        self.said.clashes = clashes.into_keys().collect();

        self.bystanders = bystanders(&snapshot, &self.node);
        let own = snapshot.own_node(&self.node);
        let addresses = own.map(|node| node.internal_addresses.clone()).unwrap_or_default();
        let readdressed = addresses != self.addresses;
        self.addresses = addresses;
        self.snapshot = Some(snapshot);
        if readdressed || self.plan.as_ref() != Some(&plan) || self.own_in_pools() != self.said.own {
            self.plan = Some(plan);
            self.attach()?;
        }
        self.beside.damped(damped);
        if self.whole.as_ref().is_some_and(|known| Arc::ptr_eq(known, &demand)) {
            return Ok(());
        }
        self.whole = Some(demand.clone());
        let demand = self.fit(demand)?;
        self.demand_changed(demand)
    }

    pub(super) fn demand_changed(&mut self, demand: Arc<Demand>) -> Result<(), DatapathError> {
        if let Some(before) = self.demand.replace(demand.clone()) {
            let held = self.machine.target().held.iter().filter(|vip| !demand.vips.contains_key(vip));
            let named = held.filter_map(|vip| Some((*vip, before.vips.get(vip)?.services.clone())));
            self.said.gone.extend(named);
        }
        self.station.demand = Some(demand.clone());
        for loss in std::mem::take(&mut self.said.losses) {
            self.tell(&loss);
        }
        self.stale = true;
        self.turn(Input::Demand(demand))
    }

    /// A link that refused the program may take it by now: whoever held its hook may be gone.
    pub(super) fn attach_again(&mut self) -> Result<(), DatapathError> {
        if self.station.has_failed_links() { self.attach() } else { Ok(()) }
    }

    /// Entries that the kernel would not write may be written by now: there may be memory, or room.
    pub(super) fn write_again(&mut self) -> Result<(), DatapathError> {
        if !self.beyond.is_empty() {
            self.fit_again()?;
        }
        if self.station.kernel.refused().is_empty() {
            return Ok(());
        }
        self.stale = true;
        self.follow()
    }

    pub(super) fn links_changed(&mut self, view: Arc<LinkView>) -> Result<(), DatapathError> {
        self.stale = true;
        let before = std::mem::replace(&mut self.station.view, view);
        self.attach()?;
        self.fit_again()?;
        let started = self.station.restart_links(&before);
        if !started.is_empty() {
            self.restarted.extend(started);
            self.turn(Input::LinkUp)?;
        }
        self.follow()
    }

    /// Puts the program on the links that any advertisement names (or, if none names any, on every one that announces),
    /// and tells the election which of them have carrier. A link that carries it goes on doing so while it exists:
    /// to detach resets many a NIC.
    fn attach(&mut self) -> Result<(), DatapathError> {
        let Some(plan) = self.plan.clone() else { return Ok(()) };
        let mut wanted = self.select(&plan.attach).links;
        wanted.extend(self.station.carrying().into_keys().filter(|id| can_announce(*id, &self.station.view)));
        self.station.carry(&wanted)?;
        self.stale = true;

        let announcing = self.select(&plan.announce);
        let missing = announcing.missing.iter().map(|name| (name.clone(), why_missing(name).to_owned()));
        let unfit = announcing.unfit.iter().map(|(name, why)| (name.clone(), (*why).to_owned()));
        self.station.changes.unusable(missing.chain(unfit).collect());
        let mut links = self.links_up(&plan.announce, &announcing);
        let carrying = self.station.carrying();
        let up = announcing.links.iter().filter_map(|id| carrying.get(id)).filter(|link| link.carrier);
        self.segment_watch.watch(up.map(|link| (link.id, link.clone())).collect());
        let here = announcing.links.iter().copied().filter(|id| carrying.contains_key(id)).collect();
        let choice = self.segments.choose(&here, &self.station.view, &self.addresses);
        links.left_out = announcing.left_out;
        links.left_out.extend(
            choice
                .leave_it
                .iter()
                .map(|(id, to)| (self.station.name(*id), LeftOut::SameSegment(self.station.name(*to)))),
        );
        self.station.changes.left_out(&links.left_out);
        while links.left_out.len() > LEFT_OUT {
            links.left_out.pop_last();
        }
        links.own = self.own_in_pools();
        self.said.own.clone_from(&links.own);
        self.turn(Input::Links(links))
    }

    /// What this node has itself of all pools, so that it is known before a Service gets the address.
    fn own_in_pools(&self) -> BTreeSet<Vip> {
        let Some(snapshot) = &self.snapshot else { return BTreeSet::new() };
        let pooled = |vip: &&Vip| snapshot.configuration.pool_of(**vip).is_some();
        self.station.view.own.iter().filter(pooled).take(Links::OWN_MOST).copied().collect()
    }

    /// The links that announce and carry, as the election and the other nodes get to know them.
    fn links_up(&self, announce: &Interfaces, announcing: &Selection) -> Links {
        let carrying = self.station.carrying();
        let unnamed = self.select(&Interfaces::All);
        // A NIC without an address announces as any other. But that it carries must not keep addresses on a node whose own
        // NIC has lost its cable.
        let only_bare = unnamed.links.is_subset(&unnamed.bare);
        let by_itself = |id: &LinkId| unnamed.links.contains(id) && (only_bare || !unnamed.bare.contains(id));
        let names = match announce {
            Interfaces::All => BTreeSet::new(),
            Interfaces::Named(names) | Interfaces::AllAnd(names) => names.clone(),
        };
        let mut links = Links::default();
        for link in announcing.links.iter().filter_map(|id| carrying.get(id)).filter(|link| link.carrier) {
            let by_name = |name: &&String| self.station.view.named(name).is_some_and(|l| l.id == link.id);
            let altnames = names.iter().filter(by_name).cloned();
            for name in BTreeSet::from([link.name.clone()]).into_iter().chain(altnames) {
                if !by_itself(&link.id) {
                    links.only_named.insert(name.clone());
                }
                links.up.insert(name);
            }
        }
        links
    }

    /// Links were found to be on one segment, or on segments of their own.
    pub(super) fn segments_changed(&mut self, segments: Segments) -> Result<(), DatapathError> {
        self.segments = segments;
        self.attach()
    }

    /// Once a second: gauges, conflicts, the watch for pauses, the summary.
    pub(super) fn beat(&mut self) -> anyhow::Result<()> {
        let now = BootNs::now();
        // It may be a successor: whether we were fenced is asked before the watch tells.
        let contested = self.station.defend();
        if let Some(stuck) = self.station.kernel.stuck_for().filter(|stuck| *stuck >= STUCK_LIMIT) {
            // Its lease ends with it, and others take what it may not answer; the next agent has tables of its own.
            let seconds = stuck.as_secs();
            anyhow::bail!("the kernel has refused to give up an address for {seconds} s: starting anew");
        }
        self.publish(now)?;
        self.turn(if contested.is_empty() { Input::Tick } else { Input::Contested(contested) })?;
        self.tell_cluster();
        Ok(())
    }

    pub(super) fn publish(&mut self, now: BootNs) -> Result<(), DatapathError> {
        let target = self.machine.target();
        let (live, held) = (self.machine.is_live(now), target.held.len());
        let ran_out = target.session.is_some() && held > 0 && target.deadline <= now;
        match (self.said.ran_out, ran_out) {
            (false, true) => self.station.changes.lease_ran_out(held),
            (true, false) if held > 0 => self.station.changes.lease_renewed(held),
            _ => {}
        }
        self.said.ran_out = ran_out;
        let epoch = target.session.as_ref().map_or(0, |(_, epoch)| *epoch);
        let services = |vip: &Vip| {
            let wanted = self.demand.as_ref().and_then(|demand| demand.vips.get(vip));
            wanted.map(|wanted| wanted.services.iter().cloned().collect()).unwrap_or_default()
        };
        let refused = self.demand.as_ref().map_or(0, |demand| demand.refused.len());
        self.metrics.set_no_room(NoRoom {
            cluster: refused,
            node: self.beyond.len(),
            entries: self.station.kernel.refused().len(),
        });
        let unanswered: BTreeSet<Vip> = self.station.unanswered.iter().map(|(vip, _)| *vip).collect();
        self.metrics.set_ownership(Ownership {
            held: target.held.iter().map(|vip| (*vip, services(vip))).collect(),
            unanswered: unanswered.len(),
            deadline: target.deadline,
            epoch,
        });
        let summary = Summary {
            announcing: held,
            addresses: self.demand.as_ref().map_or(0, |demand| demand.vips.len()),
            unanswered: unanswered.len(),
            nodes: self.machine.view().sessions.values().filter(|seen| seen.session.holder.is_some()).count(),
            live,
            epoch,
        };
        self.station.changes.summary(Instant::now(), &summary);
        let synced = self.snapshot.is_some();
        let unpinned = self.station.unpinned().map(str::to_owned);
        let ended = self.tasks.down().into_iter().chain(self.policy_failed.then_some(POLICY)).collect();
        let heard = self.heard.at();
        // Silent for a removal that the kernel refuses: the kernel's deadline is not the one that was earned.
        let deadline = target.deadline.min(self.station.kernel.target().deadline);
        self.metrics.set_api_heard(heard);
        let api_silent = now.until(heard);
        self.health.turned(now, Readiness { synced, deadline, unanswered, unpinned, ended, api_silent });
        self.count()
    }

    /// What the kernel counted: of what is owned each number, of all else one for each link.
    fn count(&mut self) -> Result<(), DatapathError> {
        let counters = self.station.kernel.datapath.counters()?;
        let node = self.station.kernel.datapath.node_counters()?;
        self.metrics.set_unheard(Unheard {
            frames_lost: self.losses.total(),
            conflicts_lost: counters.values().map(|counted| counted.events_lost).sum::<u64>()
                + node.events_lost,
            malformed: node.malformed,
        });
        self.suppressed.count(counters.iter().map(|(entry, counted)| (*entry, counted.suppressed)));
        let owned = self.station.kernel.owned().filter_map(|(vip, link)| {
            let counted = counters.get(&(vip, link))?;
            Some(KernelCounts {
                vip,
                interface: self.station.name(link),
                requests: counted.requests,
                replies: counted.replies,
                fenced: counted.fenced,
                conflicts: counted.conflicts,
                conflicts_lost: counted.events_lost,
            })
        });
        let links = &self.station.view.links;
        let suppressed = self.suppressed.by_name(|link| links.get(&link).map(|link| link.name.clone()));
        let counted = Counted { owned: owned.collect(), suppressed };
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner) = counted;
        Ok(())
    }

    /// Words for what the election did.
    pub(super) fn tell(&mut self, change: &Change) {
        let wanted = |vip: &Vip| self.demand.as_ref().and_then(|demand| demand.vips.get(vip));
        let services = |vip: &Vip| {
            let services = wanted(vip).map(|wanted| &wanted.services).or_else(|| self.said.gone.get(vip));
            services.cloned().unwrap_or_default()
        };
        match change {
            Change::SessionLive { epoch, adopted } => self.station.changes.joined(*epoch, *adopted),
            Change::Fenced { epoch, held } => self.station.changes.fenced_here(*epoch, *held),
            Change::Restored(wait) => {
                let seconds = wait.as_secs();
                error!(
                    node = self.node,
                    seconds,
                    "the API server went back in time (etcd restored?): silent, and taking nothing, for a while"
                );
            }
            Change::NameTaken(holder, wait) => {
                let (holder, seconds) = (holder.to_string(), wait.as_secs());
                warn!(
                    node = self.node,
                    holder,
                    seconds,
                    "another boot or machine holds this node's name: waiting until its lease has run out"
                );
            }
            Change::FencedPeer { node, epoch, claims, grounds } => {
                let reason = match grounds {
                    Grounds::Lease(silence) => {
                        format!("silent for {:.1} s, its whole lease", silence.as_secs_f64())
                    }
                    Grounds::Wire { link, agreed: 1 } => {
                        format!("it does not answer on {link}, where the gateway does")
                    }
                    Grounds::Wire { link, agreed } => {
                        format!("it does not answer on {link}, as all {agreed} other nodes there agree")
                    }
                };
                self.station.changes.fenced_other(node, *epoch, *claims, &reason);
            }
            Change::Suspected { node, link } => {
                let (other, interface) = (node, link);
                warn!(
                    node = self.node,
                    other,
                    interface,
                    "another node does not answer on the wire: asking all others whether they hear it"
                );
            }
            Change::Cleared { node, link } => {
                let (other, interface) = (node, link);
                info!(node = self.node, other, interface, "another node answers again, or its lease decides");
            }
            Change::Gained { vip, epoch, why } => {
                let why = match why {
                    crate::election::Why::Free => Gain::Free,
                    crate::election::Why::Failover(from) => Gain::Failover { from: from.clone() },
                    crate::election::Why::HandedOver(from) => Gain::HandedOver { from: from.clone() },
                    crate::election::Why::Own => Gain::Adopted,
                    crate::election::Why::Provisional(from) => Gain::Provisional { from: from.clone() },
                };
                let owned = self.station.kernel.owners().vips.get(vip).cloned().unwrap_or_default();
                let names = owned
                    .iter()
                    .filter_map(|id| self.station.view.links.get(id))
                    .map(|l| l.name.clone())
                    .collect();
                self.station.changes.gained(*vip, &services(vip), &names, &why, *epoch);
                if why != Gain::Adopted {
                    self.tell_assigned(*vip);
                }
            }
            Change::Lost { .. } if self.demand.is_none() => self.said.losses.push(change.clone()),
            Change::Lost { vip, epoch, why, to } => {
                let because = (*why).to_owned();
                let loss = match to {
                    Some(to) => Loss::HandedOver { to: to.clone(), because },
                    None => Loss::GivenUp { because },
                };
                self.station.changes.lost(*vip, &services(vip), &loss, *epoch);
                self.said.gone.remove(vip);
            }
            Change::Holding { held } => {
                warn!(
                    node = self.node,
                    held,
                    "the API server is away and our lease is over: holding on while nobody else answers"
                );
            }
            Change::HeldOn => info!(node = self.node, "the API server is back: our lease is renewed"),
            Change::InUse(vip, mac) => {
                warn!(ip = %vip, node = self.node, mac = %mac, "another host answers for this address: not taking it");
            }
        }
    }
}

/// Addresses of a few other nodes, of those that follow upon this one by name.
fn bystanders(snapshot: &Snapshot, node: &str) -> BTreeSet<Vip> {
    let after = snapshot.nodes.values().filter(|other| *other.name > *node);
    let before = snapshot.nodes.values().filter(|other| *other.name < *node);
    after.chain(before).take(BYSTANDERS).flat_map(|other| other.internal_addresses.iter().copied()).collect()
}

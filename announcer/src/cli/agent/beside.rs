//! What the cluster is told: Kubernetes events and `ServiceL2Status`. Everything here is handed over and never waited
//! for.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::watch, time::Instant};
use tracing::{error, info, warn};

use super::{mixed::Mixed, turn::Agent};
use crate::{
    cli::tasks::Tasks,
    datapath::Owners,
    election::{View, stranded},
    kube::{Clients, InvalidObject, ObjectKey, Service, UnreadableObject},
    policy::{Damped, Demand, Interfaces, MOST_VIPS, Nobody},
    report::{
        events::{Events, Notice},
        l2_status::{self, Author, Wanted},
    },
    vocabulary::{BootNs, LinkId, Vip},
};

/// How often to look for addresses that nobody can announce for want of an interface.
const STRANDED: Duration = Duration::from_secs(10);

/// A reason for which nobody may announce an address is told on its Services once it has lasted: a Pod that starts takes a
/// while.
const LASTS: Duration = Duration::from_secs(10);

/// Of addresses that there is no room for, so many are named in the log; each has its event.
const REFUSED_NAMED: usize = 10;

/// A VIP that nobody can take keeps the others' news back no longer than this.
const LONGEST_HUSH: Duration = Duration::from_secs(15);

/// The ways out, and what was last said.
pub(super) struct Beside {
    events: Events,
    statuses: watch::Sender<Option<Wanted>>,
    /// What the statuses were last made from.
    owned: Option<(Arc<Demand>, Owners)>,
    invalid: BTreeSet<InvalidObject>,
    unreadable: BTreeSet<(&'static str, ObjectKey)>,
    /// Why nobody may announce an address: since when, until it was told on its Services.
    nobody: BTreeMap<(Vip, Nobody), Option<Instant>>,
    /// What comes and goes, as policy says now, and as was last told.
    damped: Damped,
    told_damped: Damped,
    unanswered: BTreeSet<(Vip, LinkId)>,
    /// Whose own an address is, and whether it was claimed before.
    own: BTreeMap<Vip, (String, bool)>,
    stranded: BTreeSet<Vip>,
    stranded_due: Instant,
    refused: BTreeSet<Vip>,
    /// Nodes whose settings differ from ours.
    mixed: Mixed,
    /// Since when VIPs are being taken: meanwhile the API server is left to the claims.
    moving_since: Option<Instant>,
    hush: watch::Sender<bool>,
}

impl Beside {
    /// What it tells is written by `tasks`.
    pub(super) fn new(clients: &Clients, namespace: &str, author: Author, tasks: &mut Tasks) -> Self {
        let hush = watch::Sender::new(false);
        let events = Events::new(&author.node);
        let (queue, client, quiet) = (events.clone(), clients.watch.clone(), hush.subscribe());
        tasks.start("events", move || {
            let publishing = queue.publish(client.clone(), quiet.clone());
            async move {
                publishing.await;
                Ok(())
            }
        });
        let (statuses, wanted) = watch::channel(None);
        let (client, quiet, namespace) = (clients.watch.clone(), hush.subscribe(), namespace.to_owned());
        tasks.start("l2-status", move || {
            let keeping =
                l2_status::keep(client.clone(), &namespace, author.clone(), quiet.clone(), wanted.clone());
            async move {
                keeping.await;
                Ok(())
            }
        });
        Self {
            events,
            statuses,
            owned: None,
            invalid: BTreeSet::new(),
            unreadable: BTreeSet::new(),
            nobody: BTreeMap::new(),
            damped: Damped::default(),
            told_damped: Damped::default(),
            unanswered: BTreeSet::new(),
            own: BTreeMap::new(),
            stranded: BTreeSet::new(),
            stranded_due: Instant::now() + STRANDED,
            refused: BTreeSet::new(),
            mixed: Mixed::default(),
            moving_since: None,
            hush,
        }
    }

    /// What policy does not trust at the moment.
    pub(super) fn damped(&mut self, damped: Damped) {
        self.damped = damped;
    }
}

impl Agent {
    /// Before anything that may be written because of a change: what only tells of it waits until all is taken.
    pub(super) fn hush(&mut self) {
        let moving = self.machine.is_moving();
        let since = &mut self.beside.moving_since;
        *since = moving.then(|| since.unwrap_or_else(Instant::now));
        let hush = since.is_some_and(|since| since.elapsed() < LONGEST_HUSH);
        self.beside.hush.send_if_modified(|now| std::mem::replace(now, hush) != hush);
    }

    /// Once a second.
    pub(super) fn tell_cluster(&mut self) {
        let unreadable = self.unreadable();
        self.metrics.set_unreadable_objects(&unreadable);
        if self.machine.is_live(BootNs::now()) {
            self.tell_invalid();
            self.tell_unreadable(&unreadable);
            self.tell_unannounced();
            self.tell_damped();
            self.tell_no_room();
            self.tell_own_addresses();
            self.tell_statuses();
            self.tell_stranded();
            self.tell_mixed();
        }
        self.tell_unanswered();
        self.metrics.set_events_lost(self.beside.events.lost());
        self.metrics.set_log_lines_lost(self.log_lost.dropped_lines() as u64);
    }

    /// This node took an address.
    pub(super) fn tell_assigned(&self, vip: Vip) {
        self.tell_services(vip, &Notice::NodeAssigned);
    }

    fn tell_services(&self, vip: Vip, notice: &Notice) {
        for service in self.services_of(vip) {
            self.beside.events.service(service, vip, notice);
        }
    }

    fn services_of(&self, vip: Vip) -> impl Iterator<Item = &Service> {
        let demand = self.demand.as_ref();
        let wanted = demand.and_then(|demand| demand.vips.get(&vip)).map(|wanted| &wanted.services);
        let wanted = wanted.or_else(|| demand.and_then(|demand| demand.refused.get(&vip)));
        let known = self.snapshot.as_ref().map(|snapshot| &snapshot.services);
        let names = wanted.into_iter().flatten();
        names.filter_map(move |name| known?.get(&key(name)))
    }

    /// Of all live nodes the first by name speaks: a hundred nodes need not say it a hundred times.
    fn speaks_for_all(&self) -> bool {
        let now = BootNs::now();
        let alive = self.machine.view().sessions.values().filter(|seen| View::silent_at(seen) > now);
        let first = alive.filter_map(|seen| seen.session.holder.as_ref()).map(|holder| &holder.node).min();
        first.is_none_or(|first| *first >= self.node)
    }

    fn tell_invalid(&mut self) {
        let Some(snapshot) = &self.snapshot else { return };
        if snapshot.invalid.iter().eq(&self.beside.invalid) {
            return;
        }
        if self.speaks_for_all() {
            for object in snapshot.invalid.iter().filter(|object| !self.beside.invalid.contains(object)) {
                self.beside.events.invalid(object);
            }
        }
        self.beside.invalid = snapshot.invalid.iter().cloned().collect();
    }

    /// All objects that cannot be read now.
    fn unreadable(&self) -> Vec<UnreadableObject> {
        let mut all = self.leases.unreadable();
        all.extend(self.snapshot.iter().flat_map(|snapshot| snapshot.unreadable.iter().cloned()));
        all
    }

    fn tell_unreadable(&mut self, unreadable: &[UnreadableObject]) {
        let name = |object: &UnreadableObject| (object.kind, object.key.clone());
        let is_news = |object: &&UnreadableObject| !self.beside.unreadable.contains(&name(object));
        if unreadable.iter().any(|object| is_news(&object)) && self.speaks_for_all() {
            // An event is about an object that has a name.
            let named = |object: &&UnreadableObject| !object.key.name.is_empty();
            unreadable.iter().filter(is_news).filter(named).for_each(|o| self.beside.events.unreadable(o));
        }
        self.beside.unreadable = unreadable.iter().map(name).collect();
    }

    /// Addresses that no node may announce, once per reason.
    fn tell_unannounced(&mut self) {
        let Some(demand) = &self.demand else { return };
        let (now, speaks) = (Instant::now(), self.speaks_for_all());
        let mut nobody = BTreeMap::new();
        for (vip, wanted) in &demand.vips {
            let Some(because) = wanted.nobody_because else { continue };
            let known = self.beside.nobody.get(&(*vip, because)).copied();
            if known.is_none() && speaks {
                let (service, reason) = (list(&wanted.services), because.words());
                warn!(ip = %vip, node = self.node, service, reason, "no node may announce this address");
            }
            let since = known.unwrap_or(Some(now));
            let lasts = since.is_some_and(|since| since + LASTS <= now);
            if lasts && speaks {
                self.tell_services(*vip, &Notice::NotAnnounced { because: because.words() });
            }
            nobody.insert((*vip, because), since.filter(|_| !lasts));
        }
        self.beside.nobody = nobody;
    }

    /// What comes and goes, once when it begins to be damped and once when that is over.
    fn tell_damped(&mut self) {
        let (now, told) = (&self.beside.damped, &self.beside.told_damped);
        if self.speaks_for_all() {
            for ((vip, other), left) in now.unsteady.iter().filter(|(of, _)| !told.unsteady.contains_key(of))
            {
                let (service, seconds) = (self.names_of(*vip), left.as_secs());
                warn!(
                    ip = %vip, node = self.node, other, service, seconds,
                    "The endpoints of a Service come and go on a node: for a while it is the last choice for the address"
                );
                self.tell_services(*vip, &Notice::Unsteady { node: other.clone() });
            }
            for (vip, left) in now.kept.iter().filter(|(vip, _)| !told.kept.contains_key(vip)) {
                let (service, seconds) = (self.names_of(*vip), left.as_secs());
                warn!(
                    ip = %vip, node = self.node, service, seconds,
                    "An address comes and goes: for a while it stays where it is, also while nothing serves it"
                );
                self.tell_services(*vip, &Notice::Kept);
            }
            for (vip, other) in told.unsteady.keys().filter(|of| !now.unsteady.contains_key(of)) {
                info!(ip = %vip, node = self.node, other, "Endpoints on a node are trusted again");
            }
            for vip in told.kept.keys().filter(|vip| !now.kept.contains_key(vip)) {
                info!(ip = %vip, node = self.node, "An address that came and went is given up again when nothing serves it");
            }
        }
        self.beside.told_damped = self.beside.damped.clone();
    }

    /// The Services that have an address.
    fn names_of(&self, vip: Vip) -> String {
        let wanted = self.demand.as_ref().and_then(|demand| demand.vips.get(&vip));
        wanted.map(|wanted| list(&wanted.services)).unwrap_or_default()
    }

    /// Addresses that the cluster has no room for, once each.
    fn tell_no_room(&mut self) {
        let Some(demand) = self.demand.clone() else { return };
        let refused: BTreeSet<Vip> = demand.refused.keys().copied().collect();
        if refused == self.beside.refused {
            return;
        }
        if self.speaks_for_all() {
            let news: Vec<Vip> = refused.difference(&self.beside.refused).copied().collect();
            for vip in &news {
                self.tell_services(*vip, &Notice::NoRoom);
            }
            for vip in news.iter().take(REFUSED_NAMED) {
                let service = demand.refused[vip].iter().cloned().collect::<Vec<_>>().join(",");
                warn!(ip = %vip, node = self.node, service, "no room for this address: the cluster has too many");
            }
            let addresses = refused.len();
            warn!(
                node = self.node,
                addresses,
                most = MOST_VIPS,
                "Addresses that nobody announces for want of room"
            );
        }
        self.beside.refused = refused;
    }

    /// Addresses that a node has itself: by that node, and by one for all.
    fn tell_own_addresses(&mut self) {
        let claims = &self.machine.view().claims;
        let with_claim = |(vip, whose)| (vip, (whose, claims.contains_key(&vip)));
        let own: BTreeMap<Vip, (String, bool)> =
            self.machine.own_addresses().into_iter().map(with_claim).collect();
        let speaks = own != self.beside.own && self.speaks_for_all();
        for (vip, how @ (whose, claimed)) in &own {
            if self.beside.own.get(vip) == Some(how) || !speaks && *whose != self.node {
                continue;
            }
            if *claimed {
                warn!(
                    ip = %vip, node = self.node, whose,
                    "a Service's address is a node's own, too; it was claimed before, and is announced all the same"
                );
            } else {
                error!(ip = %vip, node = self.node, whose, "a Service has a node's own address; nobody announces it");
            }
            self.tell_services(*vip, &Notice::OwnAddress { of: whose.clone(), announced: *claimed });
        }
        self.beside.own = own;
    }

    fn tell_unanswered(&mut self) {
        if self.station.unanswered == self.beside.unanswered {
            return;
        }
        for (vip, link) in self.station.unanswered.difference(&self.beside.unanswered) {
            self.tell_services(*vip, &Notice::Unanswered { interface: self.station.name(*link) });
        }
        self.beside.unanswered = self.station.unanswered.clone();
    }

    /// Addresses that no live node has an interface for: said by the node that would announce them.
    fn tell_stranded(&mut self) {
        let Some(demand) = self.demand.clone().filter(|_| self.beside.stranded_due <= Instant::now()) else {
            return;
        };
        self.beside.stranded_due = Instant::now() + STRANDED;
        let live = self.machine.live_nodes(BootNs::now());
        let here = |vip: &Vip| stranded(*vip, &demand.vips[vip], &live) == Some(self.node.as_str());
        let now: BTreeSet<Vip> = demand.vips.keys().copied().filter(here).collect();
        for vip in now.difference(&self.beside.stranded) {
            self.tell_services(*vip, &Notice::AnnounceFailed);
        }
        self.beside.stranded = now;
    }

    /// Nodes that do not act as we do when the API server is away, or let themselves be fenced in another way: the weaker of
    /// two promises is what the cluster has.
    fn tell_mixed(&mut self) {
        for (other, ours, theirs) in self.beside.mixed.news(self.machine.view(), &self.node) {
            warn!(node = self.node, other, ours, theirs, "nodes of one cluster have different settings");
        }
    }

    fn tell_statuses(&mut self) {
        let Some(demand) = &self.demand else { return };
        let owners = self.station.kernel.owners();
        let known = self.beside.statuses.borrow().as_ref().map(|told| told.here.clone());
        let same = self.beside.owned.as_ref().is_some_and(|(d, o)| Arc::ptr_eq(d, demand) && o == owners);
        let here = known.filter(|_| same).unwrap_or_else(|| self.statuses_here(demand));
        if !same {
            self.beside.owned = Some((demand.clone(), owners.clone()));
        }
        // Others change hands without us.
        let elsewhere =
            if here.is_empty() { BTreeSet::new() } else { self.statuses_elsewhere(demand, &here) };
        let wanted = Wanted { here, elsewhere };
        self.beside.statuses.send_if_modified(|told| {
            let news = told.as_ref() != Some(&wanted);
            *told = Some(wanted);
            news
        });
    }

    /// Who answers for other addresses of Services that are answered for here.
    fn statuses_elsewhere(
        &self,
        demand: &Demand,
        here: &BTreeMap<ObjectKey, BTreeSet<String>>,
    ) -> BTreeSet<(ObjectKey, String)> {
        let (view, now) = (self.machine.view(), BootNs::now());
        let mut elsewhere = BTreeSet::new();
        for (vip, of) in &demand.vips {
            let owner = view.claims.get(vip).and_then(|claim| view.owner(claim, now));
            let Some((holder, ..)) = owner.filter(|(node, ..)| *node != self.node) else { continue };
            let of_here =
                of.services.iter().map(|name| key(name)).filter(|service| here.contains_key(service));
            elsewhere.extend(of_here.map(|service| (service, holder.to_owned())));
        }
        elsewhere
    }

    /// The Services whose addresses are answered for here, and on which interfaces if that is not all.
    fn statuses_here(&self, demand: &Demand) -> BTreeMap<ObjectKey, BTreeSet<String>> {
        let mut here: BTreeMap<ObjectKey, BTreeSet<String>> = BTreeMap::new();
        let owners = self.station.kernel.owners();
        for (vip, links) in owners.vips.iter().filter(|(_, links)| !links.is_empty()) {
            let Some(of) = demand.vips.get(vip) else { continue };
            let all = of.candidates.get(&self.node).is_none_or(|own| own.interfaces == Interfaces::All);
            let names = links.iter().filter(|_| !all).map(|link| self.station.name(*link));
            let names: BTreeSet<String> = names.collect();
            for service in &of.services {
                here.entry(key(service)).or_default().extend(names.iter().cloned());
            }
        }
        here
    }
}

fn list(services: &BTreeSet<String>) -> String {
    services.iter().cloned().collect::<Vec<_>>().join(",")
}

/// Of a demand's `namespace/name`.
fn key(service: &str) -> ObjectKey {
    let (namespace, name) = service.split_once('/').unwrap_or_default();
    ObjectKey { namespace: namespace.to_owned(), name: name.to_owned() }
}

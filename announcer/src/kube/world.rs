//! All tables together, and the Snapshot put together from them: no I/O.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    advertisement::Advertisement,
    configuration::{Configuration, LastGood},
    endpoints::{Endpoints, Slice},
    follow::Event,
    invalid::InvalidObject,
    node::Node,
    object_key::ObjectKey,
    pool::Pool,
    raw::RawObject,
    service::Service,
    snapshot::Snapshot,
    table::{Seen, Table},
    unreadable::UnreadableObject,
};

/// A pool or an advertisement: what is wrong in its content is told beside what is right.
type Judged<T> = Result<T, Box<InvalidObject>>;

/// One event of one watch.
#[derive(Debug)]
pub(super) enum Update {
    Services(Event<Seen<Service>>),
    Slices(Event<Seen<Slice>>),
    Nodes(Event<Seen<Node>>),
    Pools(Event<Seen<Judged<Pool>>>),
    Advertisements(Event<Seen<Judged<Advertisement>>>),
}

/// A kind of object that is watched.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Services,
    Slices,
    Nodes,
    Pools,
    Advertisements,
}

impl Kind {
    pub(super) const ALL: [Self; 5] =
        [Self::Services, Self::Slices, Self::Nodes, Self::Pools, Self::Advertisements];

    /// As in logs and events.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Services => Service::KIND,
            Self::Slices => Slice::KIND,
            Self::Nodes => Node::KIND,
            Self::Pools => Pool::KIND,
            Self::Advertisements => Advertisement::KIND,
        }
    }

    /// Boils an event down, so that no more of the object is kept than is used.
    pub(super) fn boil(self, event: Event<RawObject>) -> Update {
        match self {
            Self::Services => Update::Services(event.map(|o| Seen::of(&o, Service::read))),
            Self::Slices => Update::Slices(event.map(|o| Seen::of(&o, Slice::read))),
            Self::Nodes => Update::Nodes(event.map(|o| Seen::of(&o, |wire| Some(Node::read(wire))))),
            Self::Pools => Update::Pools(event.map(|o| Seen::of(&o, |wire| Some(Pool::read(wire))))),
            Self::Advertisements => {
                Update::Advertisements(event.map(|o| Seen::of(&o, |wire| Some(Advertisement::read(wire)))))
            }
        }
    }
}

/// What the watches have told so far.
#[derive(Debug, Default)]
pub(super) struct World {
    services: Table<Service>,
    slices: Table<Slice>,
    nodes: Table<Node>,
    pools: Table<Judged<Pool>>,
    advertisements: Table<Judged<Advertisement>>,
    last_good: LastGood,
}

impl World {
    /// Nothing is listed yet, and this configuration is in force.
    pub(super) fn after(before: &Snapshot) -> Self {
        Self { last_good: LastGood::of(before.configuration.clone()), ..Self::default() }
    }

    /// Takes an event in; true if a new Snapshot would differ.
    pub(super) fn on(&mut self, update: Update) -> bool {
        match update {
            Update::Services(event) => self.services.on(event),
            Update::Slices(event) => self.slices.on(event),
            Update::Nodes(event) => self.nodes.on(event),
            Update::Pools(event) => self.pools.on(event),
            Update::Advertisements(event) => self.advertisements.on(event),
        }
    }

    /// The Snapshot of now; `None` until every first list is complete, for half a view would look like deletions.
    pub(super) fn snapshot(&mut self) -> Option<Snapshot> {
        let Self { services, slices, nodes, pools, advertisements, last_good } = self;
        let synced = services.synced()
            && slices.synced()
            && nodes.synced()
            && pools.synced()
            && advertisements.synced();
        if !synced {
            return None;
        }
        let mut endpoints: BTreeMap<&ObjectKey, Endpoints> = BTreeMap::new();
        for slice in slices.values() {
            endpoints.entry(&slice.service).or_default().add(&slice.endpoints);
        }
        let unreadable_services: Vec<UnreadableObject> = services.unreadable(Service::KIND).collect();
        let services = services
            .iter()
            .map(|(key, service)| {
                let endpoints = endpoints.remove(key).unwrap_or_default();
                (key.clone(), Service { endpoints, ..service.clone() })
            })
            .collect();
        let (composed, invalid) = Configuration::compose(pools.values(), advertisements.values());
        let mut unreadable: Vec<UnreadableObject> = unreadable_services
            .into_iter()
            .chain(slices.unreadable(Slice::KIND))
            .chain(nodes.unreadable(Node::KIND))
            .chain(pools.unreadable(Pool::KIND))
            .chain(advertisements.unreadable(Advertisement::KIND))
            .collect();
        unreadable.sort();
        Some(Snapshot {
            services,
            nodes: nodes.iter().map(|(key, node)| (key.name.clone(), node.clone())).collect(),
            configuration: last_good.settle(composed, &invalid),
            invalid,
            unreadable,
        })
    }

    /// Takes in objects as `kubectl get -o json` prints them, by their `kind`; other kinds are passed over.
    fn take(&mut self, object: &Value) {
        let named = object.get("kind").and_then(Value::as_str);
        if let Some(kind) = Kind::ALL.into_iter().find(|kind| Some(kind.name()) == named) {
            self.on(kind.boil(Event::Apply(RawObject::new(object.to_string().into_bytes()))));
        }
    }

    /// Every list is complete.
    pub(super) fn complete(&mut self) {
        for kind in Kind::ALL {
            self.on(kind.boil(Event::InitDone));
        }
    }
}

impl Snapshot {
    /// The Snapshot of a cluster that holds exactly these objects, each as `kubectl get -o json` prints it.
    ///
    /// # Errors
    /// The first object that cannot be read.
    pub fn of_objects(objects: impl IntoIterator<Item = Value>) -> Result<Self, UnreadableObject> {
        let mut world = World::default();
        world.complete();
        objects.into_iter().for_each(|object| world.take(&object));
        let snapshot = world.snapshot().unwrap_or_default();
        snapshot.unreadable.first().cloned().map_or(Ok(snapshot), Err)
    }
}

#[cfg(test)]
mod tests;

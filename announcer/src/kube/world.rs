//! All tables together, and the Snapshot put together from them: no I/O.

use std::collections::BTreeMap;

use k8s_openapi::api::{core::v1 as core, discovery::v1::EndpointSlice};
use kube::{core::DynamicObject, runtime::watcher::Event};
use serde_json::Value;

use super::{
    advertisement::Advertisement,
    configuration::{Configuration, LastGood},
    endpoints::{Endpoints, Slice},
    invalid::InvalidObject,
    node::Node,
    object_key::ObjectKey,
    pool::Pool,
    service::Service,
    snapshot::Snapshot,
    table::Table,
};

/// One event of one watch.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is moved once, from its watch to its table")]
pub(super) enum Update {
    Services(Event<core::Service>),
    Slices(Event<EndpointSlice>),
    Nodes(Event<core::Node>),
    Pools(Event<DynamicObject>),
    Advertisements(Event<DynamicObject>),
}

/// What the watches have told so far.
#[derive(Debug, Default)]
pub(super) struct World {
    services: Table<ObjectKey, Service>,
    slices: Table<ObjectKey, Slice>,
    nodes: Table<String, Node>,
    pools: Table<ObjectKey, Result<Pool, Box<InvalidObject>>>,
    advertisements: Table<ObjectKey, Result<Advertisement, Box<InvalidObject>>>,
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
            Update::Services(event) => self.services.on(event, |o| (ObjectKey::of(o), Service::read(o))),
            Update::Slices(event) => self.slices.on(event, |o| (ObjectKey::of(o), Slice::read(o))),
            Update::Nodes(event) => self.nodes.on(event, |o| {
                let node = Node::read(o);
                (node.name.clone(), Some(node))
            }),
            Update::Pools(event) => self.pools.on(event, |o| (ObjectKey::of(o), Some(Pool::read(o)))),
            Update::Advertisements(event) => {
                self.advertisements.on(event, |o| (ObjectKey::of(o), Some(Advertisement::read(o))))
            }
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
        let services = services
            .iter()
            .map(|(key, service)| {
                let endpoints = endpoints.remove(key).unwrap_or_default();
                (key.clone(), Service { endpoints, ..service.clone() })
            })
            .collect();
        let (composed, invalid) = Configuration::compose(pools.values(), advertisements.values());
        Some(Snapshot {
            services,
            nodes: nodes.iter().map(|(name, node)| (name.clone(), node.clone())).collect(),
            configuration: last_good.settle(composed, &invalid),
            invalid,
        })
    }

    /// Takes in objects as `kubectl get -o json` prints them, by their `kind`; other kinds are passed over.
    fn take(&mut self, object: Value) -> Result<(), serde_json::Error> {
        let update = match object.get("kind").and_then(Value::as_str) {
            Some("Service") => Update::Services(Event::Apply(serde_json::from_value(object)?)),
            Some("EndpointSlice") => Update::Slices(Event::Apply(serde_json::from_value(object)?)),
            Some("Node") => Update::Nodes(Event::Apply(serde_json::from_value(object)?)),
            Some(Pool::KIND) => Update::Pools(Event::Apply(serde_json::from_value(object)?)),
            Some(Advertisement::KIND) => {
                Update::Advertisements(Event::Apply(serde_json::from_value(object)?))
            }
            _ => return Ok(()),
        };
        self.on(update);
        Ok(())
    }

    /// Every list is complete.
    pub(super) fn complete(&mut self) {
        self.on(Update::Services(Event::InitDone));
        self.on(Update::Slices(Event::InitDone));
        self.on(Update::Nodes(Event::InitDone));
        self.on(Update::Pools(Event::InitDone));
        self.on(Update::Advertisements(Event::InitDone));
    }
}

impl Snapshot {
    /// The Snapshot of a cluster that holds exactly these objects, each as `kubectl get -o json` prints it.
    ///
    /// # Errors
    /// A built-in object (Service, EndpointSlice, Node) that is not of its own shape.
    pub fn of_objects(objects: impl IntoIterator<Item = Value>) -> Result<Self, serde_json::Error> {
        let mut world = World::default();
        world.complete();
        objects.into_iter().try_for_each(|object| world.take(object))?;
        Ok(world.snapshot().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;

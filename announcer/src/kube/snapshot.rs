//! Everything the agent knows of the cluster's wishes at one moment.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    configuration::Configuration, invalid::InvalidObject, node::Node, object_key::ObjectKey,
    service::Service, unreadable::UnreadableObject,
};

/// One immutable view of the cluster: what policy decides from, and nothing of sessions or claims.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Snapshot {
    /// The Services of type LoadBalancer, of any class.
    pub services: BTreeMap<ObjectKey, Service>,
    /// All Nodes, by name.
    pub nodes: BTreeMap<String, Node>,
    /// The pools and advertisements in force.
    pub configuration: Arc<Configuration>,
    /// Objects that cannot be used, sorted; while there are any, `configuration` is older than the objects.
    pub invalid: Vec<InvalidObject>,
    /// Objects that cannot be decoded, sorted. The last readable content of each, if there is any, is in force above.
    pub unreadable: Vec<UnreadableObject>,
}

impl Snapshot {
    /// The Node that this agent runs on; `None` if there is no such Node (it was deleted, or the name is wrong).
    pub fn own_node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }
}

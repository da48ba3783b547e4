//! An `L2Advertisement` that has been understood.

use std::collections::BTreeSet;

use super::{
    crds::{Custom, L2AdvertisementSpec, PreferredNodeSelector},
    invalid::{Fault, InvalidObject, Problem},
    node::Node,
    object_key::ObjectKey,
    pool::Pool,
    selector::{Labels, Selector, any_or_none_given},
};

/// Which pools are announced, for which services, by which nodes, on which interfaces.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Advertisement {
    /// Its name.
    pub key: ObjectKey,
    /// Its UID.
    pub uid: String,
    /// Pools by name.
    pub pools: BTreeSet<String>,
    /// Pools by label.
    pub pool_selectors: Vec<Selector>,
    /// Nodes that may announce; none given: all.
    pub node_selectors: Vec<Selector>,
    /// Interface names; none given: all.
    pub interfaces: BTreeSet<String>,
    /// Services it is for; none given: all.
    pub service_selectors: Vec<Selector>,
    /// Nodes to prefer among those that may announce.
    pub preferences: Vec<Preference>,
}

/// A weight for the nodes that a selector matches.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Preference {
    /// 1 to 100.
    pub weight: u32,
    /// Who gets it.
    pub nodes: Selector,
}

impl Advertisement {
    /// The kind, as in logs and events.
    pub const KIND: &'static str = "L2Advertisement";

    pub(super) fn read(object: Custom) -> Result<Self, Box<InvalidObject>> {
        let Custom { metadata, spec } = object;
        let (key, uid) = (metadata.key(), metadata.uid.0);
        spec.read()
            .and_then(|spec| Self::understand(key.clone(), uid.clone(), spec))
            .map_err(|fault| Box::new(fault.of(Self::KIND, key, uid)))
    }

    fn understand(key: ObjectKey, uid: String, spec: L2AdvertisementSpec) -> Result<Self, Fault> {
        let L2AdvertisementSpec {
            ip_address_pools,
            ip_address_pool_selectors,
            node_selectors,
            interfaces,
            service_selectors,
            preferred_node_selectors,
        } = spec;
        Ok(Self {
            key,
            uid,
            pools: ip_address_pools.into_iter().collect(),
            pool_selectors: Selector::read_all("ipAddressPoolSelectors", &ip_address_pool_selectors)?,
            node_selectors: Selector::read_all("nodeSelectors", &node_selectors)?,
            interfaces: interfaces.into_iter().collect(),
            service_selectors: Selector::read_all("serviceSelectors", &service_selectors)?,
            preferences: preferred_node_selectors
                .iter()
                .enumerate()
                .map(|(i, p)| {
                    preference(p).map_err(|f| f.within(format_args!("spec.preferredNodeSelectors[{i}]")))
                })
                .collect::<Result<_, _>>()?,
        })
    }

    /// Whether it announces addresses of this pool: named, or selected, or neither names nor selectors are given.
    pub fn covers(&self, pool: &Pool) -> bool {
        (self.pools.is_empty() && self.pool_selectors.is_empty())
            || self.pools.contains(&pool.key.name)
            || self.pool_selectors.iter().any(|s| s.matches(&pool.labels))
    }

    /// Whether it is for a Service with these labels.
    pub fn serves(&self, service: &Labels) -> bool {
        any_or_none_given(&self.service_selectors, service)
    }

    /// Whether this node may announce by it.
    pub fn selects(&self, node: &Node) -> bool {
        any_or_none_given(&self.node_selectors, &node.labels)
    }

    /// The sum of the preference weights that match the node, whether or not it is selected.
    pub fn weight(&self, node: &Node) -> u32 {
        self.preferences.iter().filter(|p| p.nodes.matches(&node.labels)).map(|p| p.weight).sum()
    }
}

fn preference(term: &PreferredNodeSelector) -> Result<Preference, Fault> {
    let weight = u32::try_from(term.weight).ok().filter(|weight| (1..=100).contains(weight));
    Ok(Preference {
        weight: weight.ok_or_else(|| Fault::new("weight", Problem::Weight(term.weight)))?,
        nodes: Selector::read(&term.preference).map_err(|fault| fault.within("preference"))?,
    })
}

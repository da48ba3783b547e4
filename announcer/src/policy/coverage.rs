//! Which advertisements cover which addresses and nodes, worked out once for all Services of a Snapshot.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    demand::Interfaces,
    options::Options,
    verdicts::{Anywhere, Verdicts},
};
use crate::{
    kube::{Advertisement, Node, Pool, Service, Snapshot},
    vocabulary::Vip,
};

/// A Snapshot with the selectors of its advertisements already matched against its nodes and pools.
pub(super) struct Coverage<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) options: &'a Options,
    /// All nodes, by name.
    pub(super) nodes: Vec<&'a Node>,
    /// For each pool, the advertisements that announce it.
    by_pool: BTreeMap<&'a str, Vec<Reach<'a>>>,
    pub(super) judged: RefCell<Judged<'a>>,
}

/// What was worked out already: thousands of Services are decided alike.
#[derive(Default)]
pub(super) struct Judged<'a> {
    /// By the advertisements that reach a Service, by number.
    pub(super) anywhere: HashMap<Vec<usize>, Arc<Anywhere>>,
    /// By all that a Service's verdicts depend on.
    pub(super) verdicts: HashMap<Grounds<'a>, Arc<Verdicts>>,
}

/// The advertisements that reach a Service, by number, and with `externalTrafficPolicy: Local` the nodes of its endpoints.
type Grounds<'a> = (Vec<usize>, Option<&'a BTreeSet<String>>);

/// An advertisement and the nodes it reaches.
#[derive(Clone)]
pub(super) struct Reach<'a> {
    pub(super) advertisement: &'a Advertisement,
    /// Its place among all advertisements.
    pub(super) number: usize,
    /// Per node, in the order of [`Coverage::nodes`]: its preference weight, or `None` if it is not selected.
    weights: Vec<Option<u32>>,
}

impl<'a> Coverage<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, options: &'a Options) -> Self {
        let nodes: Vec<&Node> = snapshot.nodes.values().collect();
        let reaches: Vec<Reach<'_>> = snapshot
            .configuration
            .advertisements
            .values()
            .enumerate()
            .map(|(number, advertisement)| Reach {
                advertisement,
                number,
                weights: nodes
                    .iter()
                    .map(|node| advertisement.selects(node).then(|| advertisement.weight(node)))
                    .collect(),
            })
            .collect();
        let covering =
            |pool: &Pool| reaches.iter().filter(|r| r.advertisement.covers(pool)).cloned().collect();
        let by_pool =
            snapshot.configuration.pools.iter().map(|(name, pool)| (name.as_str(), covering(pool))).collect();
        Self { snapshot, options, nodes, by_pool, judged: RefCell::default() }
    }

    /// The pool that has the address, and the advertisements that announce it for this Service.
    pub(super) fn of(&self, service: &Service, vip: Vip) -> Option<(&'a Pool, Vec<&Reach<'a>>)> {
        let pool = self.snapshot.configuration.pool_of(vip)?;
        let reaches = self.by_pool.get(pool.key.name.as_str())?;
        Some((pool, reaches.iter().filter(|r| r.advertisement.serves(&service.labels)).collect()))
    }
}

/// What a set of advertisements says of the node at `index`: its weight and interfaces; `None` if none selects it.
pub(super) fn on_node(reaches: &[&Reach<'_>], index: usize) -> Option<(u32, Interfaces)> {
    let mut found: Option<(u32, Interfaces)> = None;
    for reach in reaches {
        let Some(weight) = reach.weights[index] else { continue };
        let here = interfaces_of(reach.advertisement);
        found = Some(match found {
            None => (weight, here),
            Some((sum, interfaces)) => (sum + weight, union(interfaces, here)),
        });
    }
    found
}

/// The interfaces that an advertisement names; no names are all of them.
pub(super) fn interfaces_of(advertisement: &Advertisement) -> Interfaces {
    if advertisement.interfaces.is_empty() {
        Interfaces::All
    } else {
        Interfaces::Named(advertisement.interfaces.clone())
    }
}

/// What either selects.
pub(super) fn union(a: Interfaces, b: Interfaces) -> Interfaces {
    use Interfaces::{All, AllAnd, Named};
    match (a, b) {
        (Named(mut names), Named(more)) => {
            names.extend(more);
            Named(names)
        }
        (AllAnd(mut names), AllAnd(more) | Named(more)) | (Named(mut names), AllAnd(more)) => {
            names.extend(more);
            AllAnd(names)
        }
        (All, Named(names)) | (Named(names), All) if names.is_empty() => All,
        (All, Named(names) | AllAnd(names)) | (Named(names) | AllAnd(names), All) => AllAnd(names),
        (All, All) => All,
    }
}

//! What policy hands to the election: per VIP, the nodes that may announce it, on which interfaces, and how well.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::vocabulary::Vip;

/// Everything the election needs to know of the cluster's configuration, and nothing of sessions or claims.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Demand {
    /// Every VIP of a Service that an `L2Advertisement` covers, also while nobody may announce it.
    pub vips: BTreeMap<Vip, VipDemand>,
    /// Names of all Node objects: their number sets the renewal interval.
    pub nodes: BTreeSet<String>,
}

/// One VIP: who asks for it, and who may announce it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct VipDemand {
    /// The Services that carry it, as `namespace/name`, sorted; more than one if they share the address.
    pub services: BTreeSet<String>,
    /// Nodes that pass every hard rule policy can see (selectors, exclude label, endpoints). Empty: nobody may. VIPs that are
    /// decided alike share one.
    pub candidates: Arc<Candidates>,
    /// Why there is no candidate, in an operator's words; `None` while there is one.
    pub nobody_because: Option<&'static str>,
}

/// Nodes that may announce a VIP, by name.
pub type Candidates = BTreeMap<String, Candidate>;

/// A node that may announce a VIP.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Candidate {
    /// Sum of the matching `preferredNodeSelectors` weights; more is better.
    pub weight: u32,
    /// How healthy the Node is: the best non-empty tier elects.
    pub tier: Tier,
    /// Where it may announce.
    pub interfaces: Interfaces,
}

/// Soft health of a Node, best first.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub enum Tier {
    /// Ready and schedulable.
    Ready,
    /// Ready, but cordoned (which is how a drain begins), being deleted, or shutting down.
    Cordoned,
    /// Not Ready, or `NetworkUnavailable`.
    NotReady,
}

/// The union of the interfaces that the matching advertisements name for a node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Interfaces {
    /// No advertisement names any: every announcing link of the node.
    All,
    /// These names exactly.
    Named(BTreeSet<String>),
    /// Every announcing link, because one advertisement names none, and these, because others do: a name reaches links
    /// that would not announce by themselves (excluded, or without an address).
    AllAnd(BTreeSet<String>),
}

impl Interfaces {
    fn name(&self, link: &str) -> bool {
        match self {
            Self::All => false,
            Self::Named(names) | Self::AllAnd(names) => names.contains(link),
        }
    }
}

/// The links of a node that have carrier and on which it announces, by name: which those are the wire room says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Links {
    /// All of them.
    pub up: BTreeSet<String>,
    /// Those of them that announce only what names them: they are excluded, or have no address.
    pub only_named: BTreeSet<String>,
}

impl Links {
    /// Those on which a VIP so advertised is announced.
    pub fn announcing(&self, interfaces: &Interfaces) -> impl Iterator<Item = &String> {
        let any = !matches!(interfaces, Interfaces::Named(_));
        self.up.iter().filter(move |link| any && !self.only_named.contains(*link) || interfaces.name(link))
    }

    /// Whether a VIP so advertised is announced anywhere.
    pub fn announce(&self, interfaces: &Interfaces) -> bool {
        self.announcing(interfaces).next().is_some()
    }
}

/// Links that announce whatever does not name others.
impl FromIterator<String> for Links {
    fn from_iter<T: IntoIterator<Item = String>>(names: T) -> Self {
        Self { up: names.into_iter().collect(), only_named: BTreeSet::new() }
    }
}

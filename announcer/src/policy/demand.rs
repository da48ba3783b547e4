//! What policy hands to the election: per VIP, the nodes that may announce it, on which interfaces, and how well.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use super::reason::Nobody;
use crate::vocabulary::Vip;

/// Everything the election needs to know of the cluster's configuration, and nothing of sessions or claims.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Demand {
    /// Every VIP of a Service that an `L2Advertisement` covers, also while nobody may announce it.
    pub vips: BTreeMap<Vip, VipDemand>,
    /// Those for which the cluster has no room, and the Services that carry them: nobody announces them, see
    /// [`in_order`](super::in_order).
    pub refused: BTreeMap<Vip, BTreeSet<String>>,
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
    /// Why there is no candidate; `None` while there is one.
    pub nobody_because: Option<Nobody>,
    /// The Node whose own address it is, as that Node says: nobody claims it anew.
    pub own_address_of: Option<String>,
}

impl VipDemand {
    /// Makes a node the last choice but for those that are not ready, if it is a candidate.
    pub fn distrust(&mut self, node: &str) {
        // Thousands share their candidates: a copy is made only for who is one.
        if self.candidates.get(node).is_some_and(|candidate| candidate.tier < Tier::Unsteady)
            && let Some(candidate) = Arc::make_mut(&mut self.candidates).get_mut(node)
        {
            candidate.tier = Tier::Unsteady;
        }
    }

    /// Whose it is: the namespace of its first Service.
    pub fn tenant(&self) -> &str {
        let first = self.services.first().and_then(|service| service.split_once('/'));
        first.map_or("", |(namespace, _)| namespace)
    }
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
    /// Its endpoints for this address come and go (`externalTrafficPolicy: Local`), see [`Damping`](super::Damping).
    Unsteady,
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
    /// Links with an address that announce nothing unless they are named, and why: for people alone.
    pub left_out: BTreeMap<String, LeftOut>,
    /// Addresses of the pools that the node's own stack has, at most [`Links::OWN_MOST`]: nobody claims them anew.
    pub own: BTreeSet<Vip>,
}

/// Why a link that has an address announces nothing by itself.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum LeftOut {
    /// A bridge without a physical port: what containers or virtual machines of this node talk to each other by.
    Bridge,
    /// A tunnel: its segment is an overlay network.
    Overlay,
    /// Another virtual link, by which the node is not reached: neither its InternalIP nor its default route is there.
    Virtual,
    /// It hears what this other link of the node sends: both are on one segment, and the other one answers.
    SameSegment(String),
}

impl Links {
    /// A node's word keeps so many addresses from being claimed and no more, or one that has been taken over could keep all.
    pub const OWN_MOST: usize = 4;

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
        Self { up: names.into_iter().collect(), ..Self::default() }
    }
}

impl LeftOut {
    /// The reason in an operator's words.
    pub fn words(&self) -> String {
        match self {
            Self::Bridge => "a bridge without a physical port".to_owned(),
            Self::Overlay => "an overlay network".to_owned(),
            Self::Virtual => {
                "a virtual interface that carries neither the Node's InternalIP nor the default route"
                    .to_owned()
            }
            Self::SameSegment(other) => format!("on one segment with {other}, which answers"),
        }
    }

    /// Of its `Display` form; `None`: of another version.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "bridge" => Some(Self::Bridge),
            "overlay" => Some(Self::Overlay),
            "virtual" => Some(Self::Virtual),
            _ => text.strip_prefix("same-segment:").map(|other| Self::SameSegment(other.to_owned())),
        }
    }
}

/// As a session publishes it.
impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bridge => f.write_str("bridge"),
            Self::Overlay => f.write_str("overlay"),
            Self::Virtual => f.write_str("virtual"),
            Self::SameSegment(other) => write!(f, "same-segment:{other}"),
        }
    }
}

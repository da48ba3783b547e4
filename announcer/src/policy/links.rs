//! Which links of a node carry the program at all.

use super::{
    coverage::{interfaces_of, union},
    demand::{Demand, Interfaces},
};
use crate::kube::Snapshot;

/// The links of one node, by configuration alone: attaching can reset a NIC, so it must not follow endpoints or health.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LinkPlan {
    /// Links that carry the program: all that any advertisement names anywhere. A node that may not announce needs it
    /// as well, for its own stack would answer for a VIP that kube-proxy puts on a local device.
    pub attach: Interfaces,
    /// Links that this node may be asked to announce on: a name here that no link has is worth a report.
    pub announce: Interfaces,
}

/// Where the program goes on this node; nowhere while there is no advertisement.
pub fn link_plan(snapshot: &Snapshot, node: &str) -> LinkPlan {
    let own = snapshot.own_node(node);
    let nowhere = || Interfaces::Named(Default::default());
    let ads = || snapshot.configuration.advertisements.values();
    let selecting = ads().filter(|ad| own.is_some_and(|node| ad.selects(node)));
    LinkPlan {
        attach: ads().map(interfaces_of).fold(nowhere(), union),
        announce: selecting.map(interfaces_of).fold(nowhere(), union),
    }
}

/// Where the node may announce anything right now; follows endpoints, so not for attaching: that is [`link_plan`].
pub fn interfaces_for(demand: &Demand, node: &str) -> Interfaces {
    let candidates = demand.vips.values().filter_map(|vip| vip.candidates.get(node));
    candidates.map(|c| c.interfaces.clone()).fold(Interfaces::Named(Default::default()), union)
}

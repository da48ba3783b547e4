//! Which links of this node are on one segment: two NICs on one LAN would give two answers with two MACs to each question.
//! One of them answers, and for as long as it carries always the same.
//!
//! Each announcing link of a node that has several sends a marker from time to time: an ARP probe for an address that no host
//! has. A link that hears another one's marker is on its segment. A link that has just come up does not answer before it
//! has had time to hear.
//!
//! Pure: [`Segments`], [`Choice`]. The rim: [`SegmentWatch`].

mod run;

use std::collections::{BTreeMap, BTreeSet};

pub use run::{SegmentWatch, Watched};

use super::{links::LinkView, select::is_uplink};
use crate::vocabulary::{LinkId, Vip};

/// What is known of this node's links.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Segments {
    /// Links that have had time to hear the others.
    pub known: BTreeSet<LinkId>,
    /// Links that have heard each other, the smaller first.
    pub shared: BTreeSet<(LinkId, LinkId)>,
}

/// Which of some links answer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Choice {
    /// These do.
    pub answer: BTreeSet<LinkId>,
    /// These leave it to another one on their segment.
    pub leave_it: BTreeMap<LinkId, LinkId>,
    /// These have not heard yet whether another one answers for them.
    pub listen: BTreeSet<LinkId>,
}

impl Segments {
    /// Of `links`, those that answer for a VIP that is advertised on all of them. On one segment that is the link by which
    /// the node itself is reached (`node`: its InternalIPs), else one with an address, else the one with the lowest index.
    pub fn choose(&self, links: &BTreeSet<LinkId>, view: &LinkView, node: &BTreeSet<Vip>) -> Choice {
        let mut choice = Choice::default();
        let carries = |id: &LinkId| view.links.get(id).is_some_and(|link| link.carrier);
        let (mut up, down): (Vec<LinkId>, Vec<LinkId>) = links.iter().copied().partition(carries);
        let addressed = |id: &LinkId| view.links.get(id).is_some_and(|link| link.has_global_address);
        up.sort_by_key(|id| (!self.known.contains(id), !is_uplink(*id, view, node), !addressed(id), *id));
        for id in up {
            let other = choice.answer.iter().copied().find(|other| self.on_one(id, *other));
            match other {
                Some(other) => drop(choice.leave_it.insert(id, other)),
                None if !self.known.contains(&id) && !choice.answer.is_empty() => {
                    choice.listen.insert(id);
                }
                None => {
                    choice.answer.insert(id);
                }
            }
        }
        choice.answer.extend(down);
        choice
    }

    fn on_one(&self, one: LinkId, other: LinkId) -> bool {
        self.shared.contains(&(one.min(other), one.max(other)))
    }
}

#[cfg(test)]
mod tests;

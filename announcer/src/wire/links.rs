//! The links of this node, followed by netlink: carrier, MAC, rename, addresses, appearance and removal act at once.

mod table;
mod watch;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

pub use table::LinkTable;
pub use watch::{LinkWatch, LinkWatchError};

use crate::vocabulary::{Link, LinkId, Mac, Vip};

/// What netlink says of this node's Ethernet links (`ARPHRD_ETHER`; the loopback and tunnels are none), at one moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LinkView {
    /// Every Ethernet link.
    pub links: BTreeMap<LinkId, Link>,
    /// Those among them that don't speak ARP (`IFF_NOARP`: dummies, VRF masters).
    pub mute: BTreeSet<LinkId>,
    /// Global addresses that the stack has on these links, but for those on dummies and mute links, where kube-proxy puts what is
    /// everybody's.
    pub own: BTreeSet<Vip>,
    /// How often each link began to carry: carrier returned, or the MAC changed, or it was re-created. A flap too short
    /// to be seen in `links` is counted here.
    pub starts: BTreeMap<LinkId, u64>,
    /// What else is known of each.
    pub facts: BTreeMap<LinkId, Facts>,
    /// The links by which this node reaches hosts that are on no link of its own: its default routes.
    pub uplinks: BTreeSet<LinkId>,
}

/// What choosing a link needs to know of it beside [`Link`].
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Facts {
    /// The subnets of its global addresses; none of a link that does not speak ARP (kube-proxy's has thousands).
    pub subnets: BTreeSet<IpNet>,
    /// The link under it (`IFLA_LINK`: of a VLAN device, a macvlan, …), if that is in this namespace.
    pub parent: Option<LinkId>,
    /// Its alternative names (`ip link property`).
    pub altnames: BTreeSet<String>,
}

impl LinkView {
    /// The link of this name, or else of this alternative name.
    pub fn named(&self, name: &str) -> Option<&Link> {
        let by_altname = || {
            let id = self.facts.iter().find(|(_, facts)| facts.altnames.contains(name))?.0;
            self.links.get(id)
        };
        self.links.values().find(|link| link.name == name).or_else(by_altname)
    }

    /// All hardware addresses of this node: a frame from one of them is our own.
    pub fn macs(&self) -> BTreeSet<Mac> {
        self.links.values().map(|link| link.mac).collect()
    }

    /// The links that carry and have (again) begun to since `before`: what is announced there must be announced again,
    /// and its groups checked.
    pub fn started_since(&self, before: &Self) -> BTreeSet<LinkId> {
        self.links
            .values()
            .filter(|link| link.carrier && self.starts.get(&link.id) != before.starts.get(&link.id))
            .map(|link| link.id)
            .collect()
    }
}

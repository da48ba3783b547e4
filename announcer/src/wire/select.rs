//! Which links of this node announce a VIP. Pure.
//!
//! A link that an advertisement names announces. Without names, these do, as under MetalLB: NICs, and what stands for NICs
//! (VLAN devices and bonds of them, bridges with one as a port). Of other kinds only a link by which the node itself is
//! reached does: it carries the Node's InternalIP or the default route. Bridges of containers and overlays never do.

mod kinds;

use std::collections::{BTreeMap, BTreeSet};

use regex::RegexSet;

use super::links::LinkView;
use crate::{
    policy::{Interfaces, LeftOut},
    vocabulary::{Link, LinkId, Vip},
};
use kinds::{Nature, nature};

/// MetalLB's default exclude list (`excludel2.yaml` of its manifests): what a CNI, a container runtime or kube-proxy
/// makes, and the loopback.
pub const DEFAULT_EXCLUDES: [&str; 14] = [
    "^docker.*",
    "^cbr.*",
    "^dummy.*",
    "^virbr.*",
    "^lxcbr.*",
    "^veth.*",
    "^lo$",
    "^cali.*",
    "^tunl.*",
    "^flannel.*",
    "^kube-ipvs.*",
    "^cni.*",
    "^nodelocaldns.*",
    "^lxc.*",
];

/// Names of links that announce nothing unless an advertisement names them.
#[derive(Clone, Debug)]
pub struct Excludes(RegexSet);

/// A pattern of the exclude list that is no regular expression.
#[derive(Debug, thiserror::Error)]
#[error("the interface exclude list has an invalid pattern")]
pub struct InvalidExclude(#[source] regex::Error);

/// The outcome of a selection: where to announce, and what an advertisement names in vain.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Selection {
    /// The announcing links, with or without carrier.
    pub links: BTreeSet<LinkId>,
    /// Those among them that announce without a name and have no global address: they do not make this node one that can be
    /// reached.
    pub bare: BTreeSet<LinkId>,
    /// Links with a global address that announce only what names them, and why.
    pub left_out: BTreeMap<String, LeftOut>,
    /// Names that no Ethernet link of this node has; waited for.
    pub missing: BTreeSet<String>,
    /// Names of links that can't announce, and why, in an operator's words.
    pub unfit: BTreeMap<String, &'static str>,
}

impl Excludes {
    /// Regular expressions, anywhere in the name unless the pattern anchors itself, as in MetalLB.
    pub fn new<T: AsRef<str>>(patterns: impl IntoIterator<Item = T>) -> Result<Self, InvalidExclude> {
        RegexSet::new(patterns).map(Self).map_err(InvalidExclude)
    }

    /// Whether a link of this name is excluded.
    pub fn exclude(&self, name: &str) -> bool {
        self.0.is_match(name)
    }
}

impl Default for Excludes {
    fn default() -> Self {
        Self::new(DEFAULT_EXCLUDES).unwrap_or_else(|_| Self(RegexSet::empty()))
    }
}

/// The links that announce a VIP advertised on `interfaces`: those it names, and without names those that lead to a LAN,
/// speak ARP, are not enslaved to a bridge or bond, and are not excluded. `node`: this Node's InternalIPs.
pub fn select(
    interfaces: &Interfaces,
    view: &LinkView,
    excludes: &Excludes,
    node: &BTreeSet<Vip>,
) -> Selection {
    let mut selection = Selection::default();
    if matches!(interfaces, Interfaces::All | Interfaces::AllAnd(_)) {
        for link in view.links.values().filter(|link| unfit(link, view).is_none()) {
            if excludes.exclude(&link.name) {
                continue;
            }
            match left_out(link, view, node) {
                // An unused port of a NIC is left in peace.
                None if !link.has_global_address && !link.carrier => {}
                None => {
                    selection.links.insert(link.id);
                    if !link.has_global_address {
                        selection.bare.insert(link.id);
                    }
                }
                Some(why) if link.has_global_address => {
                    selection.left_out.insert(link.name.clone(), why);
                }
                // A container's: there may be hundreds.
                Some(_) => {}
            }
        }
    }
    if let Interfaces::Named(names) | Interfaces::AllAnd(names) = interfaces {
        for name in names {
            match view.named(name).map(|link| (link.id, unfit(link, view))) {
                Some((id, None)) => {
                    selection.links.insert(id);
                    selection.bare.remove(&id);
                }
                Some((_, Some(reason))) => drop(selection.unfit.insert(name.clone(), reason)),
                None => drop(selection.missing.insert(name.clone())),
            }
        }
    }
    selection
}

/// Why a link announces nothing unasked, if that is so.
fn left_out(link: &Link, view: &LinkView, node: &BTreeSet<Vip>) -> Option<LeftOut> {
    match nature(link, view) {
        Nature::Nic => None,
        Nature::Overlay => Some(LeftOut::Overlay),
        Nature::Hosted(why) => (!is_uplink(link.id, view, node)).then_some(why),
    }
}

/// Whether the node itself is reached by this link: it carries the default route, or the subnet of an InternalIP.
pub fn is_uplink(link: LinkId, view: &LinkView, node: &BTreeSet<Vip>) -> bool {
    let mut subnets = view.facts.get(&link).into_iter().flat_map(|facts| &facts.subnets);
    view.uplinks.contains(&link) || subnets.any(|subnet| node.iter().any(|own| subnet.contains(&own.ip())))
}

/// What an operator should know of a name that no link has.
pub fn why_missing(name: &str) -> &'static str {
    if name.contains(['*', '?', '[', '^', '$']) {
        "no such interface; names are no patterns: list each name, or leave `interfaces` out to announce on all"
    } else {
        "no such interface; waiting for it"
    }
}

/// Whether anything can be announced on this link at all, whatever its name and addresses.
pub fn can_announce(link: LinkId, view: &LinkView) -> bool {
    view.links.get(&link).is_some_and(|link| unfit(link, view).is_none())
}

/// Why nothing can be announced on `link`, if that is so. A VRF is no obstacle: its members keep their neighbours.
fn unfit(link: &Link, view: &LinkView) -> Option<&'static str> {
    if view.mute.contains(&link.id) {
        return Some("it does not speak ARP (NOARP)");
    }
    let master = link.master?;
    match view.links.get(&master).and_then(|master| master.kind.as_deref()) {
        Some("vrf") => None,
        Some("bridge") => Some("it is a port of a bridge; name the bridge"),
        Some("bond" | "team") => Some("it is a member of a bond; name the bond"),
        _ => Some("it is enslaved to another device; name that one"),
    }
}

#[cfg(test)]
mod tests;

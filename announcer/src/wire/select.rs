//! Which links of this node announce a VIP. Pure.

use std::collections::{BTreeMap, BTreeSet};

use regex::RegexSet;

use super::links::LinkView;
use crate::{
    policy::Interfaces,
    vocabulary::{Link, LinkId},
};

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

/// The links that announce a VIP advertised on `interfaces`: those it names, else every Ethernet link that has a
/// global address, speaks ARP, is not enslaved to a bridge or bond, and is not excluded.
pub fn select(interfaces: &Interfaces, view: &LinkView, excludes: &Excludes) -> Selection {
    let mut selection = Selection::default();
    if matches!(interfaces, Interfaces::All | Interfaces::AllAnd(_)) {
        let fit = |link: &&Link| unfit(link, view).is_none() && link.has_global_address;
        let announcing = view.links.values().filter(fit).filter(|link| !excludes.exclude(&link.name));
        selection.links.extend(announcing.map(|link| link.id));
    }
    if let Interfaces::Named(names) | Interfaces::AllAnd(names) = interfaces {
        for name in names {
            match view.named(name).map(|link| (link.id, unfit(link, view))) {
                Some((id, None)) => drop(selection.links.insert(id)),
                Some((_, Some(reason))) => drop(selection.unfit.insert(name.clone(), reason)),
                None => drop(selection.missing.insert(name.clone())),
            }
        }
    }
    selection
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

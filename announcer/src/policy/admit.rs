//! Whose addresses are announced when there are more than the tables hold: an order that depends on the Snapshot alone.
//!
//! Namespaces take turns, and each brings its oldest address first. So a namespace that asks for ten thousand addresses
//! takes none from one that asks for ten. An address that comes later takes the place of another only if its namespace
//! has fewer than the other's.

use std::collections::{BTreeMap, BTreeSet};

use super::{demand::VipDemand, options::MostVips};
use crate::{
    kube::{ObjectKey, Service, Snapshot},
    vocabulary::Vip,
};

/// How many addresses of each family a cluster announces. Every agent must know the same number: it is part of what they
/// agree on without asking each other.
pub const MOST_VIPS: usize = 65_536;

/// The age of an address, oldest first: that of the oldest Service that carries it.
type Age<'a> = (&'a str, &'a str, Vip);

/// The addresses in the order in which they get room, each family by itself. The first of `n` are those that `n` entries
/// are for, whatever `n` is: a table that holds fewer leaves out the last.
pub fn in_order<'a>(
    snapshot: &Snapshot,
    vips: impl IntoIterator<Item = (&'a Vip, &'a VipDemand)>,
) -> Vec<Vip> {
    let mut by_namespace: BTreeMap<(bool, &str), Vec<Age<'_>>> = BTreeMap::new();
    for (vip, wanted) in vips {
        let oldest = wanted.services.iter().filter_map(|name| service(snapshot, name));
        let oldest = oldest.min_by_key(|service| (service.created.as_str(), service.uid.as_str()));
        // One whose Service is not there is nobody's: it comes as the youngest of a namespace without a name.
        let (namespace, created, uid) = oldest.map_or(("", "~", ""), |service| {
            (service.key.namespace.as_str(), service.created.as_str(), service.uid.as_str())
        });
        by_namespace.entry((vip.ip().is_ipv6(), namespace)).or_default().push((created, uid, *vip));
    }
    let mut turns: Vec<(usize, Age<'_>)> = Vec::new();
    for ages in by_namespace.values_mut() {
        ages.sort_unstable();
        turns.extend(ages.iter().enumerate().map(|(turn, age)| (turn, *age)));
    }
    turns.sort_unstable();
    turns.into_iter().map(|(_, (.., vip))| vip).collect()
}

/// The addresses for which there is no room if each family has room for so many.
pub fn beyond(
    snapshot: &Snapshot,
    vips: &BTreeMap<Vip, VipDemand>,
    room: impl Fn(Vip) -> usize,
) -> BTreeSet<Vip> {
    // What fits in any order needs none.
    if !vips.keys().copied().any(counted(&room)) {
        return BTreeSet::new();
    }
    let mut is_beyond = counted(&room);
    in_order(snapshot, vips).into_iter().filter(|vip| is_beyond(*vip)).collect()
}

/// Whether an address is one too many, asked of one after the other.
fn counted(room: impl Fn(Vip) -> usize) -> impl FnMut(Vip) -> bool {
    let mut taken = [0_usize; 2];
    move |vip| {
        let taken = &mut taken[usize::from(vip.ip().is_ipv6())];
        *taken += 1;
        *taken > room(vip)
    }
}

/// Takes out the addresses that are too many for the cluster; who asked for them.
pub(super) fn refuse(
    snapshot: &Snapshot,
    vips: &mut BTreeMap<Vip, VipDemand>,
    MostVips(most): MostVips,
) -> BTreeMap<Vip, BTreeSet<String>> {
    let beyond = beyond(snapshot, vips, |_| most);
    beyond.into_iter().filter_map(|vip| Some((vip, vips.remove(&vip)?.services))).collect()
}

/// Of a demand's `namespace/name`.
fn service<'a>(snapshot: &'a Snapshot, name: &str) -> Option<&'a Service> {
    let (namespace, name) = name.split_once('/')?;
    snapshot.services.get(&ObjectKey { namespace: namespace.to_owned(), name: name.to_owned() })
}

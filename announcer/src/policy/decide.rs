//! The whole demand of a Snapshot.

use std::collections::{BTreeMap, HashMap};

use super::{
    coverage::Coverage,
    demand::Demand,
    explain::{ServiceVerdict, verdict},
    options::Options,
    share::Shared,
};
use crate::{kube::Snapshot, vocabulary::Vip};

/// Who may announce what, where. The same Snapshot and options give the same answer on every node.
pub fn demand(snapshot: &Snapshot, options: &Options) -> Demand {
    let (covered, _) = covered(snapshot, options);
    let mut shared = Shared::default();
    Demand {
        vips: covered.iter().map(|(vip, verdicts)| (*vip, shared.merge(verdicts))).collect(),
        nodes: snapshot.nodes.keys().cloned().collect(),
    }
}

/// Addresses that would be announced but for being a Node's own (its InternalIP), and that Node.
///
/// They are in no demand: an entry for one in the kernel of its own node would cut that node off. Such a pool holds
/// addresses of the nodes' network that are in use, and should be mended.
pub fn clashes(snapshot: &Snapshot, options: &Options) -> BTreeMap<Vip, String> {
    covered(snapshot, options).1
}

type Covered = BTreeMap<Vip, Vec<ServiceVerdict>>;

fn covered(snapshot: &Snapshot, options: &Options) -> (Covered, BTreeMap<Vip, String>) {
    let coverage = Coverage::new(snapshot, options);
    let own: HashMap<Vip, &str> = snapshot
        .nodes
        .values()
        .flat_map(|node| node.internal_addresses.iter().map(|address| (*address, node.name.as_str())))
        .collect();
    let (mut covered, mut clashes) = (Covered::new(), BTreeMap::new());
    for service in snapshot.services.values().filter(|service| options.want(service)) {
        for vip in &service.addresses {
            let Some(verdict) = verdict(&coverage, service, *vip) else { continue };
            match own.get(vip) {
                Some(node) => drop(clashes.insert(*vip, (*node).to_owned())),
                None => covered.entry(*vip).or_default().push(verdict),
            }
        }
    }
    (covered, clashes)
}

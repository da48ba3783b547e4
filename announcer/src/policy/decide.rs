//! All that a Snapshot asks for, decided at once.

use std::collections::{BTreeMap, HashMap};

use super::{
    admit::refuse,
    coverage::Coverage,
    demand::Demand,
    explain::{ServiceVerdict, verdict},
    options::Options,
    share::Shared,
};
use crate::{kube::Snapshot, vocabulary::Vip};

/// What a Snapshot asks for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Decision {
    /// Who may announce what, where.
    pub demand: Demand,
    /// Addresses that would be announced but for being a Node's own (its InternalIP), and that Node.
    ///
    /// They are in no demand: an entry for one in the kernel of its own node would cut that node off. Such a pool holds
    /// addresses of the nodes' network that are in use, and should be mended.
    pub clashes: BTreeMap<Vip, String>,
}

/// Decides, in one pass over the Services. The same Snapshot and options give the same answer on every node.
pub fn decide(snapshot: &Snapshot, options: &Options) -> Decision {
    let (covered, clashes) = covered(snapshot, options);
    let mut shared = Shared::default();
    let mut vips = covered.iter().map(|(vip, verdicts)| (*vip, shared.merge(verdicts))).collect();
    let refused = refuse(snapshot, &mut vips, options.most_vips);
    let demand = Demand { vips, refused, nodes: snapshot.nodes.keys().cloned().collect() };
    Decision { demand, clashes }
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

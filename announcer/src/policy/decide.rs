//! All that a Snapshot asks for, decided at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    admit::refuse,
    coverage::Coverage,
    demand::{Demand, VipDemand},
    explain::{ServiceVerdict, verdict},
    options::Options,
    share::Shared,
};
use crate::{
    kube::{Node, Snapshot},
    vocabulary::Vip,
};

/// What a Snapshot asks for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Decision {
    /// Who may announce what, where.
    pub demand: Demand,
    /// Addresses in demand that a Node lists among its own beyond what its word counts for, and that Node. They are announced all
    /// the same: a Node says of itself what it likes.
    pub clashes: BTreeMap<Vip, String>,
}

/// Decides, in one pass over the Services. The same Snapshot and options give the same answer on every node.
pub fn decide(snapshot: &Snapshot, options: &Options) -> Decision {
    let covered = covered(snapshot, options);
    let own: HashMap<Vip, &str> = addresses_of(snapshot, |node| &node.own_addresses).collect();
    let mut shared = Shared::default();
    let merged = |(vip, verdicts): (&Vip, &Vec<ServiceVerdict>)| {
        let own_address_of = own.get(vip).map(|node| (*node).to_owned());
        (*vip, VipDemand { own_address_of, ..shared.merge(verdicts) })
    };
    let mut vips: BTreeMap<Vip, VipDemand> = covered.iter().map(merged).collect();
    let refused = refuse(snapshot, &mut vips, options.most_vips);
    let listed = addresses_of(snapshot, |node| &node.internal_addresses);
    let clashing = |(vip, node): &(Vip, &str)| {
        let counts = snapshot.nodes.get(*node).is_some_and(|node| node.own_addresses.contains(vip));
        vips.contains_key(vip) && !counts
    };
    let clashes = listed.filter(clashing).map(|(vip, node)| (vip, node.to_owned())).collect();
    let demand = Demand { vips, refused, nodes: snapshot.nodes.keys().cloned().collect() };
    Decision { demand, clashes }
}

fn addresses_of<'a>(
    snapshot: &'a Snapshot,
    which: impl Fn(&'a Node) -> &'a BTreeSet<Vip>,
) -> impl Iterator<Item = (Vip, &'a str)> {
    let of = move |node: &'a Node| which(node).iter().map(|vip| (*vip, node.name.as_str()));
    snapshot.nodes.values().flat_map(of)
}

type Covered = BTreeMap<Vip, Vec<ServiceVerdict>>;

fn covered(snapshot: &Snapshot, options: &Options) -> Covered {
    let coverage = Coverage::new(snapshot, options);
    let mut covered = Covered::new();
    for service in snapshot.services.values().filter(|service| options.want(service)) {
        for vip in &service.addresses {
            let Some(verdict) = verdict(&coverage, service, *vip) else { continue };
            covered.entry(*vip).or_default().push(verdict);
        }
    }
    covered
}

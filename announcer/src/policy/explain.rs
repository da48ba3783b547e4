//! Why policy says what it says of one address: for `announcer explain`, and for the demand itself.

use std::sync::Arc;

use super::{coverage::Coverage, judge::judge, options::Options, reason::Hindrance, verdicts::Verdicts};
use crate::{
    kube::{ObjectKey, Service, Snapshot},
    vocabulary::Vip,
};

/// Everything policy has to say of an address.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Explanation {
    /// The pool that has it.
    pub pool: Option<ObjectKey>,
    /// The Node whose own address it is, as that Node says: nobody claims it anew.
    pub own_address_of: Option<String>,
    /// The Services that carry it and that an advertisement covers.
    pub services: Vec<ServiceVerdict>,
    /// The Services that carry it and that are not ours, because of their class.
    pub other_class: Vec<ObjectKey>,
    /// The Services that carry it and that no advertisement covers.
    pub uncovered: Vec<ObjectKey>,
}

/// What policy says of one address of one Service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceVerdict {
    /// The Service.
    pub service: ObjectKey,
    /// The advertisements that cover it.
    pub advertisements: Vec<ObjectKey>,
    /// Each node by name, or what stands in the way of all of them.
    pub nodes: Result<Arc<Verdicts>, Hindrance>,
}

/// Explains one address.
pub fn explain(snapshot: &Snapshot, options: &Options, vip: Vip) -> Explanation {
    let coverage = Coverage::new(snapshot, options);
    let mut explanation = Explanation {
        pool: snapshot.configuration.pool_of(vip).map(|pool| pool.key.clone()),
        own_address_of: own_address_of(snapshot, vip),
        ..Explanation::default()
    };
    for service in snapshot.services.values().filter(|service| service.addresses.contains(&vip)) {
        match verdict(&coverage, service, vip) {
            _ if !options.want(service) => explanation.other_class.push(service.key.clone()),
            None => explanation.uncovered.push(service.key.clone()),
            Some(verdict) => explanation.services.push(verdict),
        }
    }
    explanation
}

/// `None`: no pool has the address, or no advertisement announces it for this Service.
pub(super) fn verdict<'a>(coverage: &Coverage<'a>, service: &'a Service, vip: Vip) -> Option<ServiceVerdict> {
    let (_, reaches) = coverage.of(service, vip)?;
    if reaches.is_empty() {
        return None;
    }
    let nodes = judge(coverage, service, &reaches, vip);
    Some(ServiceVerdict {
        service: service.key.clone(),
        advertisements: reaches.iter().map(|reach| reach.advertisement.key.clone()).collect(),
        nodes,
    })
}

/// The Node that has this address itself.
pub(super) fn own_address_of(snapshot: &Snapshot, vip: Vip) -> Option<String> {
    snapshot.nodes.values().find(|node| node.own_addresses.contains(&vip)).map(|node| node.name.clone())
}

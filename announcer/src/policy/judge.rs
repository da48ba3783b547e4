//! One Service, one address, one node: may it announce, and if not, why.

use std::{net::IpAddr, sync::Arc};

use super::{
    coverage::{Coverage, Judged, Reach, on_node},
    demand::{Candidate, Tier},
    options::{NodeHealth, Options},
    reason::{Hindrance, Refusal},
    verdicts::{Anywhere, Verdicts},
};
use crate::{
    kube::{Node, Service, TrafficPolicy},
    vocabulary::Vip,
};

/// Kubernetes' label that takes a node out of external load balancing; its value does not matter.
const EXCLUDE_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// Judges every node, or says what stands in the way of all.
pub(super) fn judge<'a>(
    coverage: &Coverage<'a>,
    service: &'a Service,
    reaches: &[&Reach<'_>],
    vip: Vip,
) -> Result<Arc<Verdicts>, Hindrance> {
    if let Some(hindrance) = hindrance(service, reaches, vip) {
        return Err(hindrance);
    }
    let numbers: Vec<usize> = reaches.iter().map(|reach| reach.number).collect();
    let local = (service.traffic_policy == TrafficPolicy::Local).then_some(&service.endpoints.nodes);
    let mut judged = coverage.judged.borrow_mut();
    let Judged { anywhere, verdicts } = &mut *judged;
    let grounds = (numbers, local);
    if let Some(known) = verdicts.get(&grounds) {
        return Ok(known.clone());
    }
    let anywhere =
        anywhere.entry(grounds.0.clone()).or_insert_with(|| Arc::new(judge_anywhere(coverage, reaches)));
    let verdict = Arc::new(Verdicts::new(anywhere.clone(), local.cloned()));
    verdicts.insert(grounds, verdict.clone());
    Ok(verdict)
}

/// What does not depend on endpoints.
fn judge_anywhere(coverage: &Coverage<'_>, reaches: &[&Reach<'_>]) -> Anywhere {
    let options = coverage.options;
    let verdict = |(index, node): (usize, &&Node)| {
        let verdict = match on_node(reaches, index) {
            None => Err(Refusal::NotSelected),
            Some(_) if !options.ignore_exclude_lb && node.labels.contains_key(EXCLUDE_LABEL) => {
                Err(Refusal::Excluded)
            }
            Some((weight, interfaces)) => Ok(Candidate { weight, tier: tier(options, node), interfaces }),
        };
        (node.name.clone(), verdict)
    };
    coverage.nodes.iter().enumerate().map(verdict).collect()
}

fn hindrance(service: &Service, reaches: &[&Reach<'_>], vip: Vip) -> Option<Hindrance> {
    let local = service.traffic_policy == TrafficPolicy::Local;
    let selective = || reaches.iter().any(|r| !r.advertisement.service_selectors.is_empty());
    if !is_unicast(vip.ip()) {
        Some(Hindrance::NotUnicast)
    } else if !service.endpoints.any() {
        Some(Hindrance::NoEndpoint)
    } else if service.shares_address && selective() {
        Some(Hindrance::SharedWithServiceSelectors)
    } else if local && service.endpoints.nodes.is_empty() {
        Some(Hindrance::EndpointsWithoutNode)
    } else {
        None
    }
}

/// How good a choice the node is.
fn tier(options: &Options, node: &Node) -> Tier {
    let counts = options.node_health == NodeHealth::Prefer;
    if node.network_unavailable || counts && !node.ready {
        Tier::NotReady
    } else if counts && node.leaving() {
        Tier::Cordoned
    } else {
        Tier::Ready
    }
}

fn is_unicast(address: IpAddr) -> bool {
    let special = address.is_unspecified() || address.is_loopback() || address.is_multicast();
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !special && !broadcast
}

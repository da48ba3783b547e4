//! One Service, one address, one node: may it announce, and if not, why.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use super::{
    coverage::{Coverage, Reach, on_node},
    demand::{Candidate, Tier},
    options::{NodeHealth, Options},
};
use crate::{
    kube::{Node, Service, TrafficPolicy},
    vocabulary::Vip,
};

/// Kubernetes' label that takes a node out of external load balancing; its value does not matter.
const EXCLUDE_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// Why no node at all may announce a Service's address.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Hindrance {
    /// Nothing would answer.
    NoEndpoint,
    /// `externalTrafficPolicy: Local`, and the serving endpoints name no node.
    EndpointsWithoutNode,
    /// The Service may share its address and an advertisement for it has service selectors: MetalLB announces neither.
    SharedWithServiceSelectors,
    /// Unspecified, loopback, multicast or broadcast.
    NotUnicast,
}

impl Hindrance {
    /// In an operator's words.
    pub fn words(self) -> &'static str {
        match self {
            Self::NoEndpoint => "no endpoint of the Service is ready or serving",
            Self::EndpointsWithoutNode => {
                "externalTrafficPolicy is Local, and no serving endpoint says which node it is on"
            }
            Self::SharedWithServiceSelectors => {
                "the Service may share its address (allow-shared-ip) while an L2Advertisement for it has serviceSelectors"
            }
            Self::NotUnicast => "the address is not a unicast address",
        }
    }
}

/// Why one node may not announce a Service's address. In the order of the rules, so that the greater got further.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Refusal {
    /// The `nodeSelectors` of every advertisement for the Service leave it out.
    NotSelected,
    /// It has the exclude label.
    Excluded,
    /// `externalTrafficPolicy: Local`, and no serving endpoint is on it.
    NoLocalEndpoint,
}

impl Refusal {
    /// Of a single node, in an operator's words.
    pub fn words(self) -> &'static str {
        match self {
            Self::NotSelected => "no L2Advertisement for the Service selects the node",
            Self::Excluded => {
                "the node has the label node.kubernetes.io/exclude-from-external-load-balancers"
            }
            Self::NoLocalEndpoint => "externalTrafficPolicy is Local, and no serving endpoint is on the node",
        }
    }

    /// Of all nodes, when this is the furthest that any of them got.
    pub(super) fn of_all(self) -> &'static str {
        match self {
            Self::NotSelected => "no node matches the nodeSelectors of the L2Advertisements for the Service",
            Self::Excluded => {
                "every selected node has the label node.kubernetes.io/exclude-from-external-load-balancers"
            }
            Self::NoLocalEndpoint => {
                "externalTrafficPolicy is Local, and no selected node has a serving endpoint"
            }
        }
    }
}

/// Node by node, who may announce.
pub type Verdicts = BTreeMap<String, Result<Candidate, Refusal>>;

/// Judges every node, or says what stands in the way of all.
pub(super) fn judge(
    coverage: &Coverage<'_>,
    service: &Service,
    reaches: &[&Reach<'_>],
    vip: Vip,
) -> Result<Arc<Verdicts>, Hindrance> {
    if let Some(hindrance) = hindrance(service, reaches, vip) {
        return Err(hindrance);
    }
    let local = service.traffic_policy == TrafficPolicy::Local;
    let grounds =
        (reaches.iter().map(|reach| reach.number).collect(), local.then(|| service.endpoints.nodes.clone()));
    let mut judged = coverage.judged.borrow_mut();
    if let Some(verdicts) = judged.get(&grounds) {
        return Ok(verdicts.clone());
    }
    let verdict = |(index, node): (usize, &&Node)| {
        let candidate =
            on_node(reaches, index).ok_or(Refusal::NotSelected).and_then(|(weight, interfaces)| {
                refusal(coverage.options, service, node)
                    .map_or(Ok(Candidate { weight, tier: tier(coverage.options, node), interfaces }), Err)
            });
        (node.name.clone(), candidate)
    };
    let verdicts: Arc<Verdicts> = Arc::new(coverage.nodes.iter().enumerate().map(verdict).collect());
    judged.insert(grounds, verdicts.clone());
    Ok(verdicts)
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

fn refusal(options: &Options, service: &Service, node: &Node) -> Option<Refusal> {
    if !options.ignore_exclude_lb && node.labels.contains_key(EXCLUDE_LABEL) {
        Some(Refusal::Excluded)
    } else if service.traffic_policy == TrafficPolicy::Local && !service.endpoints.nodes.contains(&node.name)
    {
        Some(Refusal::NoLocalEndpoint)
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

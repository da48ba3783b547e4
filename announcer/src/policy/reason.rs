//! Why an address is not announced, by one node or by any, in an operator's words. Each names the way out.

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
    /// In an operator's words, with the way out.
    pub fn words(self) -> &'static str {
        match self {
            Self::NoEndpoint => {
                "no endpoint of the Service is ready or serving: check its selector and the readiness of its Pods"
            }
            Self::EndpointsWithoutNode => {
                "externalTrafficPolicy is Local, and no serving endpoint says which node it is on: set nodeName in the \
                 EndpointSlices, or externalTrafficPolicy: Cluster"
            }
            Self::SharedWithServiceSelectors => {
                "the Service may share its address (allow-shared-ip) while an L2Advertisement for it has \
                 serviceSelectors: remove one of the two"
            }
            Self::NotUnicast => "the address is not a unicast address: take it out of its IPAddressPool",
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
            Self::NotSelected => "no L2Advertisement for the Service selects the node (nodeSelectors)",
            Self::Excluded => {
                "the node has the label node.kubernetes.io/exclude-from-external-load-balancers \
                 (--ignore-exclude-lb announces all the same)"
            }
            Self::NoLocalEndpoint => "externalTrafficPolicy is Local, and no serving endpoint is on the node",
        }
    }

    /// Of all nodes, when this is the furthest that any of them got; with the way out.
    fn of_all(self) -> &'static str {
        match self {
            Self::NotSelected => {
                "no node matches the nodeSelectors of the L2Advertisements for the Service: label a node, or change them"
            }
            Self::Excluded => {
                "every selected node has the label node.kubernetes.io/exclude-from-external-load-balancers: remove it \
                 from one, or give the agents --ignore-exclude-lb"
            }
            Self::NoLocalEndpoint => {
                "externalTrafficPolicy is Local, and no selected node has a serving endpoint: run a Pod on one, select \
                 the nodes that have one (nodeSelectors), or set externalTrafficPolicy: Cluster"
            }
        }
    }
}

/// Why an address has no candidate.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Nobody {
    /// Something stands in the way of every node.
    Hindered(Hindrance),
    /// Every node is refused; this is the furthest that any of them got.
    Refused(Refusal),
    /// The cluster has no Node.
    NoNode,
}

impl Nobody {
    /// In an operator's words, with the way out.
    pub fn words(self) -> &'static str {
        match self {
            Self::Hindered(hindrance) => hindrance.words(),
            Self::Refused(refusal) => refusal.of_all(),
            Self::NoNode => {
                "the cluster has no Node: addresses are announced from Nodes that the API server knows"
            }
        }
    }

    /// Whether endpoints that come back end it, and nothing else has to change.
    pub(super) fn for_want_of_endpoints(self) -> bool {
        use {Hindrance::*, Refusal::*};
        match self {
            Self::Hindered(NoEndpoint | EndpointsWithoutNode) | Self::Refused(NoLocalEndpoint) => true,
            Self::Hindered(SharedWithServiceSelectors | NotUnicast) => false,
            Self::Refused(NotSelected | Excluded) | Self::NoNode => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_for_which_nobody_announces_names_the_way_out() {
        use {Hindrance::*, Refusal::*};
        let hindrances = [NoEndpoint, EndpointsWithoutNode, SharedWithServiceSelectors, NotUnicast];
        let refusals = [NotSelected, Excluded, NoLocalEndpoint];
        let all = hindrances.map(Nobody::Hindered).into_iter().chain(refusals.map(Nobody::Refused));
        for nobody in all.chain([Nobody::NoNode]) {
            let (what, way_out) = nobody.words().split_once(": ").expect("what is wrong, and the way out");
            assert!(!what.is_empty() && !way_out.is_empty(), "{}", nobody.words());
        }
    }
}

//! A Service of type LoadBalancer, boiled down to what decides about its announcement.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1 as core;

use super::{endpoints::Endpoints, object_key::ObjectKey, selector::Labels};
use crate::vocabulary::Vip;

/// Present with any value: the Service may share its address. The second is MetalLB's deprecated spelling.
const SHARED_IP: [&str; 2] = ["metallb.io/allow-shared-ip", "metallb.universe.tf/allow-shared-ip"];

/// A Service of type LoadBalancer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Service {
    /// Its name.
    pub key: ObjectKey,
    /// Its UID, for events on it.
    pub uid: String,
    /// `metadata.creationTimestamp` as the API server writes it, in UTC: the earlier one is the lesser text.
    pub created: String,
    /// Its labels, for `serviceSelectors`.
    pub labels: Labels,
    /// `spec.loadBalancerClass`.
    pub class: Option<String>,
    /// `spec.externalTrafficPolicy`.
    pub traffic_policy: TrafficPolicy,
    /// The addresses in `status.loadBalancer.ingress`; entries that are host names have none.
    pub addresses: BTreeSet<Vip>,
    /// It carries MetalLB's `allow-shared-ip` annotation.
    pub shares_address: bool,
    /// Where it is served.
    pub endpoints: Endpoints,
}

/// Whether traffic may be forwarded to another node.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TrafficPolicy {
    /// Any node forwards to any endpoint.
    #[default]
    Cluster,
    /// Only a node with a serving endpoint of its own does.
    Local,
}

impl Service {
    /// `None`: the type is not LoadBalancer. The endpoints are filled in from the slices.
    pub(super) fn read(service: &core::Service) -> Option<Self> {
        let spec = service.spec.as_ref().filter(|spec| spec.type_.as_deref() == Some("LoadBalancer"))?;
        let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        let ingress = status.and_then(|status| status.ingress.as_ref()).into_iter().flatten();
        let meta = &service.metadata;
        Some(Self {
            key: ObjectKey::of(service),
            uid: meta.uid.clone().unwrap_or_default(),
            created: meta.creation_timestamp.as_ref().map(|at| at.0.to_string()).unwrap_or_default(),
            labels: meta.labels.clone().unwrap_or_default(),
            class: spec.load_balancer_class.clone(),
            traffic_policy: match spec.external_traffic_policy.as_deref() {
                Some("Local") => TrafficPolicy::Local,
                _ => TrafficPolicy::Cluster,
            },
            addresses: ingress.filter_map(|entry| entry.ip.as_ref()?.parse().ok()).collect(),
            shares_address: meta
                .annotations
                .as_ref()
                .is_some_and(|a| SHARED_IP.iter().any(|k| a.contains_key(*k))),
            endpoints: Endpoints::default(),
        })
    }
}

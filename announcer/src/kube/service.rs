//! A Service of type LoadBalancer, boiled down to what decides about its announcement.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{
    endpoints::Endpoints,
    object_key::ObjectKey,
    raw::{Metadata, null_is_default},
    selector::Labels,
};
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
    /// Entries there that are no address as they are written, such as `010.4.11.1`: nobody announces them.
    pub misspelt: BTreeSet<String>,
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

/// What of a Service's JSON is used.
#[derive(Debug, Deserialize)]
pub(super) struct Wire {
    metadata: Metadata,
    #[serde(default, deserialize_with = "null_is_default")]
    spec: Spec,
    #[serde(default, deserialize_with = "null_is_default")]
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    r#type: Option<String>,
    load_balancer_class: Option<String>,
    external_traffic_policy: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    #[serde(deserialize_with = "null_is_default")]
    load_balancer: LoadBalancer,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LoadBalancer {
    #[serde(deserialize_with = "null_is_default")]
    ingress: Vec<Ingress>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Ingress {
    ip: Option<String>,
}

impl Service {
    /// The kind, as in logs and events.
    pub const KIND: &'static str = "Service";

    /// `None`: the type is not LoadBalancer. The endpoints are filled in from the slices.
    pub(super) fn read(service: Wire) -> Option<Self> {
        let Wire { metadata, spec, status } = service;
        let Spec { r#type, load_balancer_class, external_traffic_policy } = spec;
        if r#type.as_deref() != Some("LoadBalancer") {
            return None;
        }
        let written = status.load_balancer.ingress.into_iter().filter_map(|entry| entry.ip);
        let (mut addresses, mut misspelt) = (BTreeSet::new(), BTreeSet::new());
        for text in written.filter(|text| !text.is_empty()) {
            match text.parse() {
                Ok(vip) => drop(addresses.insert(vip)),
                Err(_) => drop(misspelt.insert(text)),
            }
        }
        Some(Self {
            key: metadata.key(),
            created: metadata.created_text().to_owned(),
            class: load_balancer_class,
            traffic_policy: match external_traffic_policy.as_deref() {
                Some("Local") => TrafficPolicy::Local,
                _ => TrafficPolicy::Cluster,
            },
            addresses,
            misspelt,
            shares_address: SHARED_IP.iter().any(|key| metadata.annotation(key).is_some()),
            uid: metadata.uid.0,
            labels: metadata.labels,
            endpoints: Endpoints::default(),
        })
    }
}

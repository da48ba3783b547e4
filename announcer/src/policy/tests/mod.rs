//! MetalLB's policy, behaviour by behaviour (`speaker/layer2_controller_test.go`), on objects as the API serves them.

mod admission;
mod advertisements;
mod classes;
mod damping;
mod endpoints;
mod health;
mod links;
mod preferences;
mod scenario;
mod sharing;
mod winners;

use serde_json::{Value, json};

use super::{Candidate, Demand, Hindrance, Interfaces, Nobody, Options, Refusal, Tier, VipDemand, decide};
use crate::{kube::Snapshot, vocabulary::Vip};

pub(super) const VIP: &str = "10.20.30.1";

/// A cluster with pool `default` of 10.20.30.0/24 and fd00:20::/112, and what a test adds.
pub(super) struct Cluster(Vec<Value>);

impl Cluster {
    pub(super) fn new() -> Self {
        Self(Vec::new()).pool("default", json!({}), &["10.20.30.0/24", "fd00:20::/112"])
    }

    pub(super) fn with(mut self, object: Value) -> Self {
        self.0.push(object);
        self
    }

    /// Ready nodes, each with its name in the label `kubernetes.io/hostname`.
    pub(super) fn nodes(self, names: &[&str]) -> Self {
        names.iter().fold(self, |cluster, name| cluster.node(name, json!({})))
    }

    pub(super) fn node(self, name: &str, labels: Value) -> Self {
        self.node_that(name, labels, json!({}), json!([{"type": "Ready", "status": "True"}]))
    }

    pub(super) fn node_that(self, name: &str, mut labels: Value, spec: Value, conditions: Value) -> Self {
        labels["kubernetes.io/hostname"] = name.into();
        self.with(json!({
            "kind": "Node",
            "metadata": {"name": name, "labels": labels},
            "spec": spec,
            "status": {"conditions": conditions},
        }))
    }

    pub(super) fn pool(self, name: &str, labels: Value, addresses: &[&str]) -> Self {
        self.with(json!({
            "apiVersion": "metallb.io/v1beta1",
            "kind": "IPAddressPool",
            "metadata": {"namespace": "metallb", "name": name, "labels": labels},
            "spec": {"addresses": addresses},
        }))
    }

    pub(super) fn advertise(self, name: &str, spec: Value) -> Self {
        self.with(json!({
            "apiVersion": "metallb.io/v1beta1",
            "kind": "L2Advertisement",
            "metadata": {"namespace": "metallb", "name": name},
            "spec": spec,
        }))
    }

    /// A Service of type LoadBalancer, as `kubectl patch --type merge` with `patch` leaves it.
    pub(super) fn service(self, name: &str, addresses: &[&str], patch: Value) -> Self {
        let ingress: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
        let mut service = json!({
            "kind": "Service",
            "metadata": {"namespace": "web", "name": name},
            "spec": {"type": "LoadBalancer"},
            "status": {"loadBalancer": {"ingress": ingress}},
        });
        merge(&mut service, patch);
        self.with(service)
    }

    /// Ready endpoints of a Service, on these nodes.
    pub(super) fn served_on(self, service: &str, nodes: &[&str]) -> Self {
        let ready: Vec<(&str, Value)> = nodes.iter().map(|node| (*node, json!({"ready": true}))).collect();
        self.slice(service, &ready)
    }

    /// A slice of a Service: the node and the conditions of each endpoint.
    pub(super) fn slice(self, service: &str, endpoints: &[(&str, Value)]) -> Self {
        let name = format!("{service}-{}", self.0.len());
        let endpoints: Vec<Value> = endpoints
            .iter()
            .map(|(node, conditions)| json!({"addresses": ["10.1.0.1"], "nodeName": node, "conditions": conditions}))
            .collect();
        self.with(json!({
            "kind": "EndpointSlice",
            "metadata": {"namespace": "web", "name": name, "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4",
            "endpoints": endpoints,
        }))
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot::of_objects(self.0.clone()).expect("objects of their own shape")
    }

    pub(super) fn demand(&self) -> Demand {
        decide(&self.snapshot(), &Options::default()).demand
    }

    pub(super) fn vip(&self, address: &str) -> VipDemand {
        self.demand().vips.remove(&vip(address)).expect("a VIP that is asked for")
    }

    /// Who may announce the address.
    pub(super) fn candidates(&self, address: &str) -> Vec<String> {
        names(&self.vip(address))
    }
}

pub(super) fn vip(address: &str) -> Vip {
    address.parse().expect("an address")
}

pub(super) fn names(vip: &VipDemand) -> Vec<String> {
    vip.candidates.keys().cloned().collect()
}

pub(super) fn local() -> Value {
    json!({"spec": {"externalTrafficPolicy": "Local"}})
}

pub(super) fn labels(labels: Value) -> Value {
    json!({"metadata": {"labels": labels}})
}

/// Selectors for nodes by host name.
pub(super) fn hosts(names: &[&str]) -> Value {
    names.iter().map(|name| json!({"matchLabels": {"kubernetes.io/hostname": name}})).collect()
}

pub(super) fn interfaces(names: &[&str]) -> Interfaces {
    Interfaces::Named(names.iter().map(|name| (*name).to_owned()).collect())
}

fn merge(into: &mut Value, patch: Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, patch) => *into = patch,
    }
}

//! Where the endpoints of a Service are: EndpointSlices, boiled down to node names.

use std::collections::BTreeSet;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use super::object_key::ObjectKey;

/// The label that ties a slice to its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Where a Service is served.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Endpoints {
    /// Nodes with at least one serving endpoint.
    pub nodes: BTreeSet<String>,
    /// Some serving endpoint names no node: it serves, but no node can count it as its own.
    pub unplaced: bool,
}

impl Endpoints {
    /// Whether anything serves at all.
    pub fn any(&self) -> bool {
        self.unplaced || !self.nodes.is_empty()
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.nodes.extend(other.nodes.iter().cloned());
        self.unplaced |= other.unplaced;
    }
}

/// One EndpointSlice.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Slice {
    /// The Service it belongs to.
    pub(super) service: ObjectKey,
    /// What it says.
    pub(super) endpoints: Endpoints,
}

impl Slice {
    /// `None`: it belongs to no Service.
    pub(super) fn read(slice: &EndpointSlice) -> Option<Self> {
        let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?.clone();
        let namespace = slice.metadata.namespace.clone().unwrap_or_default();
        let mut endpoints = Endpoints::default();
        for endpoint in slice.endpoints.iter().filter(|e| serves(e)) {
            match endpoint.node_name.as_deref() {
                Some(node) if !node.is_empty() => drop(endpoints.nodes.insert(node.to_owned())),
                _ => endpoints.unplaced = true,
            }
        }
        Some(Self { service: ObjectKey { namespace, name }, endpoints })
    }
}

/// MetalLB's `epslices.EndpointCanServe`: Ready unknown counts as ready, and a terminating endpoint that still serves
/// counts too.
fn serves(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().is_none_or(|c| c.ready.unwrap_or(true) || c.serving == Some(true))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(endpoints: Value) -> Option<Endpoints> {
        let slice = json!({
            "metadata": {"namespace": "web", "name": "httpbin-x", "labels": {"kubernetes.io/service-name": "httpbin"}},
            "addressType": "IPv4",
            "endpoints": endpoints,
        });
        Slice::read(&serde_json::from_value(slice).expect("a slice")).map(|slice| slice.endpoints)
    }

    #[test]
    fn an_endpoint_serves_by_ready_or_serving_and_when_ready_is_unknown() {
        let cases = [
            (json!({}), true),
            (json!({"ready": true}), true),
            (json!({"ready": false}), false),
            (json!({"ready": false, "serving": true}), true),
            (json!({"ready": true, "serving": false}), true),
            (json!({"ready": false, "serving": false}), false),
            (json!({"serving": false}), true),
        ];
        for (conditions, served) in cases {
            let read = read(json!([{"addresses": ["10.1.0.1"], "nodeName": "a", "conditions": conditions}]));
            assert_eq!(read.expect("of a Service").any(), served, "{conditions}");
        }
    }

    #[test]
    fn an_endpoint_without_node_name_is_remembered_as_unplaced() {
        let read = read(json!([{"addresses": ["10.1.0.1"]}, {"addresses": ["10.1.0.2"], "nodeName": "a"}]));
        assert_eq!(read, Some(Endpoints { nodes: ["a".to_owned()].into(), unplaced: true }));
    }

    #[test]
    fn a_slice_without_endpoints_or_with_null_is_empty() {
        assert_eq!(read(json!(null)), Some(Endpoints::default()));
        assert_eq!(read(json!([])), Some(Endpoints::default()));
    }
}

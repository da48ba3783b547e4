//! Where the endpoints of a Service are: EndpointSlices, boiled down to node names.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{
    object_key::ObjectKey,
    raw::{Metadata, null_is_default},
};

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

/// What of an EndpointSlice's JSON is used.
#[derive(Debug, Deserialize)]
pub(super) struct Wire {
    metadata: Metadata,
    #[serde(default, deserialize_with = "null_is_default")]
    endpoints: Vec<Endpoint>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Endpoint {
    node_name: Option<String>,
    #[serde(deserialize_with = "null_is_default")]
    conditions: Conditions,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
}

impl Slice {
    /// The kind, as in logs and events.
    pub(super) const KIND: &'static str = "EndpointSlice";

    /// `None`: it belongs to no Service.
    pub(super) fn read(slice: Wire) -> Option<Self> {
        let Wire { mut metadata, endpoints: all } = slice;
        let name = metadata.labels.remove(SERVICE_NAME)?;
        let mut endpoints = Endpoints::default();
        for endpoint in all.into_iter().filter(|endpoint| serves(&endpoint.conditions)) {
            match endpoint.node_name.filter(|node| !node.is_empty()) {
                Some(node) => drop(endpoints.nodes.insert(node)),
                None => endpoints.unplaced = true,
            }
        }
        Some(Self { service: ObjectKey { namespace: metadata.namespace, name }, endpoints })
    }
}

/// MetalLB's `epslices.EndpointCanServe`: Ready unknown counts as ready, and a terminating endpoint that still serves
/// counts too.
fn serves(Conditions { ready, serving }: &Conditions) -> bool {
    ready.unwrap_or(true) || *serving == Some(true)
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
        Slice::read(serde_json::from_value(slice).expect("a slice")).map(|slice| slice.endpoints)
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

//! A Node, boiled down to its labels and its health.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{
    raw::{Metadata, Text, null_is_default},
    selector::Labels,
};
use crate::vocabulary::Vip;

/// Taints that say the machine is going down or gone: the cloud provider's, and the administrator's.
const SHUTDOWN_TAINTS: [&str; 2] =
    ["node.cloudprovider.kubernetes.io/shutdown", "node.kubernetes.io/out-of-service"];

/// What the kubelet says in the Ready condition during a graceful shutdown (`nodeshutdown_manager`).
const SHUTDOWN_MESSAGE: &str = "node is shutting down";

const INTERNAL: &str = "InternalIP";
const EXTERNAL: &str = "ExternalIP";

/// A Node.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its UID, for events on it.
    pub uid: String,
    /// Its labels.
    pub labels: Labels,
    /// The Ready condition is True.
    pub ready: bool,
    /// Cordoned.
    pub unschedulable: bool,
    /// The NetworkUnavailable condition is True.
    pub network_unavailable: bool,
    /// The object is being deleted.
    pub deleting: bool,
    /// The kubelet or the cloud provider says that the machine is going down.
    pub shutting_down: bool,
    /// Its addresses of type InternalIP.
    pub internal_addresses: BTreeSet<Vip>,
    /// The first InternalIP and the first ExternalIP of each family: all that its word counts for, since a kubelet lists what it likes.
    pub own_addresses: BTreeSet<Vip>,
    /// `status.nodeInfo.machineID`, if the kubelet has written one.
    pub machine_id: Option<String>,
}

/// What of a Node's JSON is used.
#[derive(Debug, Deserialize)]
pub(super) struct Wire {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default, deserialize_with = "null_is_default")]
    spec: Spec,
    #[serde(default, deserialize_with = "null_is_default")]
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    unschedulable: Option<bool>,
    #[serde(deserialize_with = "null_is_default")]
    taints: Vec<Taint>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Taint {
    #[serde(deserialize_with = "null_is_default")]
    key: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    #[serde(deserialize_with = "null_is_default")]
    conditions: Vec<Condition>,
    #[serde(deserialize_with = "null_is_default")]
    addresses: Vec<Address>,
    #[serde(deserialize_with = "null_is_default")]
    node_info: NodeInfo,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(deserialize_with = "null_is_default")]
    r#type: String,
    #[serde(deserialize_with = "null_is_default")]
    status: String,
    message: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Address {
    #[serde(deserialize_with = "null_is_default")]
    r#type: String,
    #[serde(deserialize_with = "null_is_default")]
    address: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodeInfo {
    #[serde(rename = "machineID")]
    machine_id: Text,
}

impl Node {
    /// The kind, as in logs and events.
    pub const KIND: &'static str = "Node";

    pub(super) fn read(node: Wire) -> Self {
        let Wire { metadata, spec, status } = node;
        let condition = |kind: &str| status.conditions.iter().find(|condition| condition.r#type == kind);
        let is_true = |kind: &str| condition(kind).is_some_and(|condition| condition.status == "True");
        let ready = is_true("Ready");
        let says_shutdown = |condition: &Condition| condition.message.0.contains(SHUTDOWN_MESSAGE);
        let is_shutdown = |taint: &Taint| SHUTDOWN_TAINTS.contains(&taint.key.as_str());
        let of = |kind: &'static str| {
            let of_kind = status.addresses.iter().filter(move |address| address.r#type == kind);
            of_kind.filter_map(|address| address.address.parse::<Vip>().ok())
        };
        let first = |kind, v4: bool| of(kind).find(|vip| vip.ip().is_ipv4() == v4);
        Self {
            ready,
            unschedulable: spec.unschedulable.unwrap_or(false),
            network_unavailable: is_true("NetworkUnavailable"),
            deleting: metadata.is_being_deleted(),
            shutting_down: (!ready && condition("Ready").is_some_and(says_shutdown))
                || spec.taints.iter().any(is_shutdown),
            internal_addresses: of(INTERNAL).collect(),
            own_addresses: [INTERNAL, EXTERNAL]
                .into_iter()
                .flat_map(|kind| [first(kind, true), first(kind, false)])
                .flatten()
                .collect(),
            machine_id: Some(status.node_info.machine_id.0).filter(|id| !id.is_empty()),
            name: metadata.name,
            uid: metadata.uid.0,
            labels: metadata.labels,
        }
    }

    /// Whether the machine is about to go: cordoned (which is how a drain begins), deleted, or shut down. An agent that
    /// is told to stop hands its VIPs over if so, and keeps them if not.
    pub fn leaving(&self) -> bool {
        self.unschedulable || self.deleting || self.shutting_down
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(node: Value) -> Node {
        Node::read(serde_json::from_value(node).expect("a Node"))
    }

    #[test]
    fn a_node_that_never_reported_is_not_ready() {
        assert_eq!(read(json!({"metadata": {"name": "a"}})), Node { name: "a".into(), ..Node::default() });
    }

    #[test]
    fn ready_unknown_is_not_ready() {
        let node = read(json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}));
        assert!(!node.ready);
    }

    #[test]
    fn a_kubelet_in_graceful_shutdown_is_seen() {
        let conditions = json!([{
            "type": "Ready", "status": "False", "reason": "KubeletNotReady", "message": "node is shutting down",
        }]);
        assert!(read(json!({"status": {"conditions": conditions}})).leaving());
    }

    #[test]
    fn of_what_a_node_lists_the_first_of_each_kind_and_family_is_its_own() {
        let address = |(kind, address): &(&str, &str)| json!({"type": kind, "address": address});
        let listed = [
            ("Hostname", "a"),
            (INTERNAL, "10.4.0.11"),
            (INTERNAL, "10.4.11.1"),
            (INTERNAL, "fd00:4::11"),
            (INTERNAL, "fd00:4::b:1"),
            (EXTERNAL, "192.0.2.1"),
            (EXTERNAL, "10.4.11.2"),
        ];
        let addresses: Value = listed.iter().map(address).collect();
        let own = read(json!({"status": {"addresses": addresses}})).own_addresses;
        let expected = ["10.4.0.11", "fd00:4::11", "192.0.2.1"];
        assert_eq!(own, expected.iter().map(|ip| ip.parse().expect("an address")).collect());
    }

    #[test]
    fn a_cordoned_node_is_leaving_and_still_ready() {
        let node = read(json!({
            "spec": {"unschedulable": true},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }));
        assert!(node.leaving() && node.ready);
    }
}

//! A Node, boiled down to its labels and its health.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1 as core;

use super::selector::Labels;
use crate::vocabulary::Vip;

/// Taints that say the machine is going down or gone: the cloud provider's, and the administrator's.
const SHUTDOWN_TAINTS: [&str; 2] =
    ["node.cloudprovider.kubernetes.io/shutdown", "node.kubernetes.io/out-of-service"];

/// What the kubelet says in the Ready condition during a graceful shutdown (`nodeshutdown_manager`).
const SHUTDOWN_MESSAGE: &str = "node is shutting down";

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
    /// `status.nodeInfo.machineID`, if the kubelet has written one.
    pub machine_id: Option<String>,
}

impl Node {
    pub(super) fn read(node: &core::Node) -> Self {
        let meta = &node.metadata;
        let (spec, status) = (node.spec.as_ref(), node.status.as_ref());
        let condition = |kind: &str| {
            status.and_then(|s| s.conditions.as_ref()).and_then(|all| all.iter().find(|c| c.type_ == kind))
        };
        let is_true = |kind: &str| condition(kind).is_some_and(|c| c.status == "True");
        let ready = is_true("Ready");
        let says_shutdown =
            |c: &core::NodeCondition| c.message.as_ref().is_some_and(|m| m.contains(SHUTDOWN_MESSAGE));
        let taints = spec.and_then(|s| s.taints.as_ref()).into_iter().flatten();
        let addresses = status.and_then(|s| s.addresses.as_ref()).into_iter().flatten();
        Self {
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            labels: meta.labels.clone().unwrap_or_default(),
            ready,
            unschedulable: spec.and_then(|s| s.unschedulable).unwrap_or(false),
            network_unavailable: is_true("NetworkUnavailable"),
            deleting: meta.deletion_timestamp.is_some(),
            shutting_down: (!ready && condition("Ready").is_some_and(says_shutdown))
                || taints.into_iter().any(|taint| SHUTDOWN_TAINTS.contains(&taint.key.as_str())),
            internal_addresses: addresses
                .filter(|a| a.type_ == "InternalIP")
                .filter_map(|a| a.address.parse().ok())
                .collect(),
            machine_id: status
                .and_then(|s| s.node_info.as_ref())
                .map(|info| info.machine_id.clone())
                .filter(|id| !id.is_empty()),
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
        Node::read(&serde_json::from_value(node).expect("a Node"))
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
    fn a_cordoned_node_is_leaving_and_still_ready() {
        let node = read(json!({
            "spec": {"unschedulable": true},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }));
        assert!(node.leaving() && node.ready);
    }
}

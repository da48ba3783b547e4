//! Who an agent is to the API server: the holder of a token that is bound to its Pod, and so to its node.

use std::{collections::BTreeSet, path::PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{cluster::Cluster, control_plane, node::Node, product::NAMESPACE};

/// The agents' account.
const ACCOUNT: &str = "announcer";

/// As the API server knows it.
pub(crate) fn user() -> String {
    format!("system:serviceaccount:{NAMESPACE}:{ACCOUNT}")
}

impl Cluster {
    /// What the agents' account was allowed to do and did, as `VERB GROUP/RESOURCE`, on a cluster that is audited.
    pub fn used_rights(&self) -> Result<BTreeSet<String>> {
        let path = control_plane::audit_log(&self.shared.dir);
        let log = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let right = |line: &str| {
            // The last line may be on its way.
            let event: Value = serde_json::from_str(line).ok()?;
            let text = |field: &Value| field.as_str().unwrap_or_default().to_owned();
            let object = &event["objectRef"];
            let part = object["subresource"].as_str().map(|part| format!("/{part}")).unwrap_or_default();
            let (verb, group, resource) =
                (text(&event["verb"]), text(&object["apiGroup"]), text(&object["resource"]));
            let refused = event["responseStatus"]["code"] == 403;
            (!refused && !resource.is_empty()).then(|| format!("{verb} {group}/{resource}{part}"))
        };
        Ok(log.lines().filter_map(right).collect())
    }

    /// What the manifests allow it, in the same words.
    pub fn granted_rights(&self) -> Result<BTreeSet<String>> {
        const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
        let mut granted = BTreeSet::new();
        for role in [format!("clusterroles/{ACCOUNT}"), format!("namespaces/{NAMESPACE}/roles/{ACCOUNT}")] {
            let role = self.api("GET", &format!("{RBAC}/{role}"), None)?;
            let texts = |list: &Value| -> Vec<String> {
                list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
            };
            for rule in role["rules"].as_array().into_iter().flatten() {
                for group in texts(&rule["apiGroups"]) {
                    for resource in texts(&rule["resources"]) {
                        let verbs = texts(&rule["verbs"]).into_iter();
                        granted.extend(verbs.map(|verb| format!("{verb} {group}/{resource}")));
                    }
                }
            }
        }
        Ok(granted)
    }

    /// A kubeconfig for an agent without a Pod, on a node without a kubelet. Its token is of the kind that a kubelet would bring.
    pub fn agent_kubeconfig(&self, node: &Node) -> Result<PathBuf> {
        let path = self.shared.dir.join(format!("kubeconfig-agent-{}", node.name()));
        let config = control_plane::kubeconfig(&self.shared.dir, &self.agent_token(node.name())?, None);
        std::fs::write(&path, config).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    /// A token of the agents' account that is bound to a Pod of this node; the Pod is made, and nobody runs it.
    pub fn agent_token(&self, node: &str) -> Result<String> {
        self.agent_token_of(&format!("{ACCOUNT}-{node}"), node)
    }

    /// The same with a name for the Pod, which has fewer characters than a node's may have.
    pub fn agent_token_of(&self, pod: &str, node: &str) -> Result<String> {
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": pod, "labels": {"app.kubernetes.io/name": ACCOUNT}},
            "spec": {
                "serviceAccountName": ACCOUNT,
                "automountServiceAccountToken": false,
                "nodeName": node,
                "containers": [{"name": ACCOUNT, "image": "localhost/announcer:lab"}],
            },
        });
        let pod = self.api("POST", &format!("/api/v1/namespaces/{NAMESPACE}/pods"), Some(&pod))?;
        let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]});
        self.token(&json!({"boundObjectRef": bound}))
    }

    /// A token of the agents' account that is bound to nothing, as `kubectl create token` makes it.
    pub fn unbound_token(&self) -> Result<String> {
        self.token(&json!({}))
    }

    fn token(&self, spec: &Value) -> Result<String> {
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        let path = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{ACCOUNT}/token");
        let answer = self.api("POST", &path, Some(&request))?;
        Ok(answer["status"]["token"].as_str().context("no token came back")?.to_owned())
    }

    /// One request to the API server with this token; the status and what came back.
    pub fn api_as(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value)> {
        crate::kubectl::exchange(self.control_plane(), token, method, path, body)
    }
}

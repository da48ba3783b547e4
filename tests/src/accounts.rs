//! Who an agent is to the API server: the holder of a token that is bound to its Pod, and so to its node.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{cluster::Cluster, control_plane, node::Node, product::NAMESPACE};

/// The agents' account.
const ACCOUNT: &str = "announcer";

impl Cluster {
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
            "metadata": {"name": pod},
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

//! When nothing is left to happen: every agent's session is its own, and the VIP has an owner and an heir who are alive.

use std::{collections::BTreeMap, time::Duration};

use announcer_tests::{Cluster, product::NAMESPACE, wait};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::field::{Field, VIP};

/// A node boots and joins, and an heir is named ten seconds after the last node has come or gone. Twice that.
const LIMIT: Duration = Duration::from_secs(45);

/// All of the agents' Leases, by name.
pub struct Leases(BTreeMap<String, Value>);

impl Leases {
    /// As the API server has them now.
    pub fn read(cluster: &Cluster) -> Result<Self> {
        let path = format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases");
        let mut listed = cluster.api("GET", &path, None)?;
        let items = listed["items"].as_array_mut().context("a list of Leases")?;
        let named = |lease: Value| Some((lease["metadata"]["name"].as_str()?.to_owned(), lease));
        Ok(Self(items.drain(..).filter_map(named).collect()))
    }

    /// The version of a node's session; empty if it has none.
    pub fn version(&self, node: &str) -> String {
        text(&self.session(node)["metadata"]["resourceVersion"]).to_owned()
    }

    fn session(&self, node: &str) -> &Value {
        self.0.get(&format!("session-{node}")).unwrap_or(&Value::Null)
    }

    /// Whether the node's session has not been fenced.
    fn is_live(&self, node: &str) -> bool {
        !text(&self.session(node)["spec"]["holderIdentity"]).is_empty()
    }

    fn announces_by(&self, node: &str, link: &str) -> bool {
        annotation(self.session(node), "links").split(',').any(|one| one == link)
    }

    /// `<node>/<session UID>/<epoch>` for a node's session as it is now.
    fn binding(&self, node: &str) -> String {
        let session = self.session(node);
        let epoch = session["spec"]["leaseTransitions"].as_u64().unwrap_or_default();
        format!("{node}/{}/{epoch}", text(&session["metadata"]["uid"]))
    }

    /// Owner and heir of the VIP, if both are alive.
    fn settled(&self) -> Result<(&str, &str)> {
        let claim = self.0.get(&format!("vip-{VIP}")).context("nobody claims the VIP")?;
        let owner = text(&claim["spec"]["holderIdentity"]);
        let bound = [annotation(claim, "session-uid"), annotation(claim, "session-epoch")].join("/");
        ensure!(
            self.is_live(owner) && self.binding(owner) == format!("{owner}/{bound}"),
            "{owner:?} holds the VIP by a session that is over"
        );
        let heir = annotation(claim, "heir");
        let (node, _) = heir.split_once('/').context("the VIP has no heir")?;
        ensure!(
            node != owner && self.is_live(node) && self.binding(node) == heir,
            "the heir {node} is not alive"
        );
        Ok((owner, node))
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn annotation<'a>(lease: &'a Value, name: &str) -> &'a str {
    text(&lease["metadata"]["annotations"][format!("announcer.io/{name}")])
}

impl Field {
    /// Whether the agent that was started last on a node has written that node's session.
    pub fn has_joined(&self, node: usize) -> Result<bool> {
        Ok(self.joined_by(&Leases::read(&self.cluster)?, node))
    }

    fn joined_by(&self, leases: &Leases, node: usize) -> bool {
        let name = self.node(node).name();
        leases.is_live(name) && self.session_before(node).is_some_and(|before| leases.version(name) != before)
    }

    /// Waits until every node's agent has a session of its own and announces by `link`, and the VIP an owner and an heir.
    pub fn steady(&self, link: &str) -> Result<()> {
        let what = "every agent's session, and an heir of the VIP";
        wait::until(what, LIMIT, || {
            let leases = Leases::read(&self.cluster)?;
            for (index, node) in self.cluster.nodes().iter().enumerate() {
                if !self.joined_by(&leases, index) {
                    bail!("{} has no session", node.name());
                }
                ensure!(
                    leases.announces_by(node.name(), link),
                    "{} does not announce by {link}",
                    node.name()
                );
            }
            leases.settled().map(|_| Some(()))
        })
    }

    /// The number of the node that owns the VIP.
    pub fn owner(&self) -> Result<usize> {
        let leases = Leases::read(&self.cluster)?;
        let (owner, _) = leases.settled()?;
        self.cluster.nodes().iter().position(|node| node.name() == owner).context("no node of that name")
    }
}

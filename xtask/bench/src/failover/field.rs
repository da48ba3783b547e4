//! The lab: bare nodes on a LAN, a real API server, and whatever runs on the nodes as plain processes.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use announcer_tests::{
    Cluster, Mode, Node, Process, Signal,
    product::{self, NAMESPACE},
};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::steady::Leases;

/// The VIP that agents announce.
pub const VIP: Ipv4Addr = Ipv4Addr::new(10, 4, 11, 1);

/// What every agent is told besides where it is: the defaults are measured, and how long each step takes.
const FLAGS: [&str; 1] = ["--log-level=debug"];
/// Enough for a quorum among those that are left.
const NODES: usize = 4;

const CONFIGURATION: &str = "
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: failover, namespace: metallb}
spec: {addresses: [10.4.11.0/24]}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: failover, namespace: metallb}
";

/// A cluster of bare nodes.
pub struct Field {
    /// By node. Ended before their cluster: fields drop in order.
    agents: RefCell<BTreeMap<usize, Agent>>,
    /// Nodes without power.
    dark: RefCell<BTreeSet<usize>>,
    pub cluster: Cluster,
    /// The agents', in the order of their nodes.
    kubeconfigs: Vec<String>,
    program: String,
}

struct Agent {
    process: Process,
    /// The version of its node's session when it was started: one that it has written is another.
    session_before: String,
}

impl Field {
    /// Nodes on which nothing runs.
    pub fn start() -> Result<Self> {
        let program = product::program()?.display().to_string();
        let cluster = Cluster::builder().nodes(NODES).mode(Mode::Tcx).api_only().start()?;
        cluster.install_metallb_crds()?;
        cluster.apply_kustomize(&product::deploy_dir().join("base"))?;
        cluster.apply_yaml(CONFIGURATION)?;
        let kubeconfig = |node| Ok(cluster.agent_kubeconfig(node)?.display().to_string());
        let kubeconfigs = cluster.nodes().iter().map(kubeconfig).collect::<Result<_>>()?;
        let field =
            Self { agents: RefCell::default(), dark: RefCell::default(), kubeconfigs, program, cluster };
        field.serve()?;
        Ok(field)
    }

    /// A Service with the VIP, and an endpoint.
    fn serve(&self) -> Result<()> {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}});
        self.cluster.api("POST", "/api/v1/namespaces/default/services", Some(&service))?;
        self.cluster.set_ingress("default", "web", &[IpAddr::V4(VIP)])?;
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
            "ports": [{"port": 80}],
            "endpoints": [{"addresses": ["10.244.0.9"], "conditions": {"ready": true}}]});
        let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
        self.cluster.api("POST", slices, Some(&slice)).map(drop)
    }

    /// Starts an agent on every node that has none.
    pub fn start_agents(&self) -> Result<()> {
        let missing =
            |node: &usize| self.agents.borrow().get(node).is_none_or(|agent| !agent.process.is_running());
        (0..NODES).filter(missing).try_for_each(|node| self.start_agent(node))
    }

    /// Starts the agent of a node, in the place of the one before.
    pub fn start_agent(&self, node: usize) -> Result<()> {
        let session_before = Leases::read(&self.cluster)?.version(self.node(node).name());
        let argv = self.argv(node);
        let process = self.node(node).spawn("agent", &argv)?;
        self.agents.borrow_mut().insert(node, Agent { process, session_before });
        Ok(())
    }

    fn argv(&self, node: usize) -> Vec<&str> {
        let (name, kubeconfig) = (self.node(node).name(), &self.kubeconfigs[node]);
        let mut argv = vec![&*self.program, "agent", "--node-name", name, "--namespace", NAMESPACE];
        argv.extend(["--kubeconfig", kubeconfig, "--boot-id-file", Node::BOOT_ID_FILE]);
        argv.extend(FLAGS);
        argv
    }

    /// Ends the agent of a node, without a word of warning to it.
    pub fn kill_agent(&self, node: usize) -> Result<()> {
        self.agents.borrow_mut().get_mut(&node).context("an agent")?.process.kill()
    }

    /// Ends the agent of a node as the kubelet does, and waits for its end.
    pub fn end_agent(&self, node: usize) -> Result<()> {
        let mut agents = self.agents.borrow_mut();
        let process = &mut agents.get_mut(&node).context("an agent")?.process;
        process.signal(Signal::TERM)?;
        process.wait(Duration::from_secs(15)).map(drop)
    }

    /// What each node's agent has logged.
    pub fn logs(&self) -> Vec<String> {
        self.agents.borrow().values().map(|agent| agent.process.log()).collect()
    }

    /// The version of a node's session before its agent was started; `None` without an agent.
    pub fn session_before(&self, node: usize) -> Option<String> {
        Some(self.agents.borrow().get(&node)?.session_before.clone())
    }

    /// The node number `node`.
    pub fn node(&self, node: usize) -> &Node {
        &self.cluster.nodes()[node]
    }

    /// The node loses power, and with it whatever runs there.
    pub fn crash(&self, node: usize) -> Result<()> {
        self.dark.borrow_mut().insert(node);
        self.node(node).crash()?;
        drop(self.agents.borrow_mut().remove(&node));
        Ok(())
    }

    /// Boots all nodes that have crashed.
    pub fn boot(&self) -> Result<()> {
        let mut dark = self.dark.borrow_mut();
        while let Some(node) = dark.first().copied() {
            self.node(node).rejoin()?;
            dark.remove(&node);
        }
        Ok(())
    }

    /// Cordons a node, or lets it serve again.
    pub fn set_unschedulable(&self, node: usize, unschedulable: bool) -> Result<()> {
        self.patch(
            &format!("/api/v1/nodes/{}", self.node(node).name()),
            &json!({"spec": {"unschedulable": unschedulable}}),
        )
    }

    /// Gives every node a second link, by which alone it announces.
    pub fn announce_apart(&self) -> Result<()> {
        for node in self.cluster.nodes() {
            node.add_nic()?;
            // It answers for what it has, which is nothing: the node's own address stays on the first link.
            node.machine().shell("echo 1 >/proc/sys/net/ipv4/conf/eth1/arp_ignore")?;
        }
        let path = format!("/apis/metallb.io/v1beta1/namespaces/{NAMESPACE}/l2advertisements/failover");
        self.patch(&path, &json!({"spec": {"interfaces": ["eth1"]}}))
    }

    /// Pulls the cable of a node's second link, or puts it back.
    pub fn set_second_link(&self, node: usize, up: bool) -> Result<()> {
        let (port, state) = (format!("p-{}-1", self.node(node).name()), if up { "up" } else { "down" });
        self.cluster.switch().run(&["ip", "link", "set", "dev", &port, state]).map(drop)
    }

    fn patch(&self, path: &str, patch: &Value) -> Result<()> {
        self.cluster.api("PATCH", path, Some(patch)).map(drop)
    }
}

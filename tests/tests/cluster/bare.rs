//! Agents as plain processes on bare nodes, against a real API server: what a DaemonSet cannot be made to do.

use std::{
    cell::{Ref, RefCell},
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    thread,
    time::Duration,
};

use announcer_tests::{
    Builder, Cluster, Mode, Node, Process, Reader, Wedge,
    product::{self, BARE_ADVERTISEMENT_YAML, FIRST_VIP, NAMESPACE, POOL_YAML},
    wait,
};
use anyhow::{Context as _, Result, anyhow};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::watch::Watch;

/// What an agent says once for each session, adopted or new.
pub(crate) const JOINED: &str = "leader election joined";

/// The addresses of the Services `web-1`, `web-2`, ….
pub(crate) const VIPS: [IpAddr; 4] = [vip(1), vip(2), vip(3), vip(4)];

/// An address of the scenario's pool.
pub(crate) const fn vip(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 4, 11, last))
}

/// A cluster of bare nodes, and an agent on each.
pub(crate) struct Lab {
    /// Ended before their cluster: fields drop in order.
    agents: RefCell<BTreeMap<String, Agent>>,
    pub(crate) cluster: Cluster,
    kubeconfigs: BTreeMap<String, String>,
    pub(crate) program: String,
    flags: Vec<String>,
    installed: Installed,
}

/// Which of our manifests a cluster has, and who its agents are.
#[derive(Clone, Copy)]
enum Installed {
    /// The base: each agent has the token of a Pod on its node, as a DaemonSet's has.
    Base,
    /// The same, and the API server writes down what they ask for.
    Audited,
    /// What older API servers get, which know no policy: the administrator acts as the agents' account, whatever becomes of the store.
    ForOlder,
}

impl Installed {
    fn folder(self) -> &'static str {
        match self {
            Self::Base | Self::Audited => "base",
            Self::ForOlder => "overlays/before-1.30",
        }
    }

    /// The agents' kubeconfigs, by node.
    fn kubeconfigs(self, cluster: &Cluster) -> Result<BTreeMap<String, String>> {
        let account = format!("system:serviceaccount:{NAMESPACE}:announcer");
        let kubeconfig = |node: &Node| match self {
            Self::Base | Self::Audited => cluster.agent_kubeconfig(node),
            Self::ForOlder => cluster.kubeconfig_as(&account),
        };
        let of = |node: &Node| Ok((node.name().to_owned(), kubeconfig(node)?.display().to_string()));
        cluster.nodes().iter().map(of).collect()
    }
}

struct Agent {
    process: Process,
    reader: Reader,
}

impl Lab {
    /// Nodes with agents, and four Services.
    pub(crate) fn start(nodes: usize) -> Result<Self> {
        Self::start_with(nodes, &[])
    }

    /// The same with these flags for every agent.
    pub(crate) fn start_with(nodes: usize, flags: &[&str]) -> Result<Self> {
        Self::without_agents(nodes)?.serving(flags)
    }

    /// The same with agents that no policy judges, and that the API server knows though it has forgotten everything.
    pub(crate) fn start_for_older(nodes: usize) -> Result<Self> {
        let (builder, installed) = (Cluster::builder().nodes(nodes), Installed::ForOlder);
        Self::install(builder, BARE_ADVERTISEMENT_YAML, Cluster::install_metallb_crds, installed)?
            .serving(&[])
    }

    /// The same with agents whose requests are written down.
    pub(crate) fn start_audited(nodes: usize, flags: &[&str]) -> Result<Self> {
        let (builder, installed) = (Cluster::builder().nodes(nodes), Installed::Audited);
        Self::install(builder, BARE_ADVERTISEMENT_YAML, Cluster::install_metallb_crds, installed)?
            .serving(flags)
    }

    /// With an agent on each node and four Services.
    fn serving(self, flags: &[&str]) -> Result<Self> {
        let mut lab = self;
        lab.set_flags(flags);
        for number in 1..=4 {
            lab.serve(&format!("web-{number}"), vip(number), json!({}))?;
        }
        lab.start_agents()?;
        Ok(lab)
    }

    /// Nodes, a pool and an advertisement, without Services.
    pub(crate) fn without_agents(nodes: usize) -> Result<Self> {
        Self::installed(nodes, BARE_ADVERTISEMENT_YAML, Cluster::install_metallb_crds)
    }

    /// The same with this advertisement and these definitions.
    pub(crate) fn installed(
        nodes: usize,
        advertisement: &str,
        install_crds: impl Fn(&Cluster) -> Result<()> + Sync,
    ) -> Result<Self> {
        let builder = Cluster::builder().nodes(nodes);
        Self::install(builder, advertisement, install_crds, Installed::Base)
    }

    /// Four Services and an agent on every node of what the builder builds.
    pub(crate) fn start_on(builder: Builder) -> Result<Self> {
        let install_crds = Cluster::install_metallb_crds;
        Self::install(builder, BARE_ADVERTISEMENT_YAML, install_crds, Installed::Base)?.serving(&[])
    }

    fn install(
        builder: Builder,
        advertisement: &str,
        install_crds: impl Fn(&Cluster) -> Result<()> + Sync,
        installed: Installed,
    ) -> Result<Self> {
        let builder = builder.mode(Mode::Tcx).api_only();
        let audited = matches!(installed, Installed::Audited);
        let cluster = if audited { builder.audited() } else { builder }.start()?;
        install(&cluster, installed, install_crds)?;
        cluster.apply_yaml(&format!("{POOL_YAML}---{advertisement}"))?;
        Ok(Self {
            kubeconfigs: installed.kubeconfigs(&cluster)?,
            program: product::program()?.display().to_string(),
            cluster,
            agents: RefCell::default(),
            flags: Vec::new(),
            installed,
        })
    }

    /// What the agent of a node is started with.
    pub(crate) fn kubeconfig(&self, node: &Node) -> &str {
        self.kubeconfigs.get(node.name()).map_or("", String::as_str)
    }

    /// For every agent that is started from now on.
    pub(crate) fn set_flags(&mut self, flags: &[&str]) {
        self.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    }

    /// Installs again what [`without_agents`](Self::without_agents) installs, on a cluster that has lost it.
    pub(crate) fn install_again(&self) -> Result<()> {
        install(&self.cluster, self.installed, Cluster::install_metallb_crds)?;
        self.cluster.apply_yaml(&format!("{POOL_YAML}---{BARE_ADVERTISEMENT_YAML}"))?;
        (1..=4).try_for_each(|number| self.serve(&format!("web-{number}"), vip(number), json!({})))
    }

    /// Restarts every agent, one by one, with these flags: a new cluster that is strict from the start would wait for a minute.
    pub(crate) fn restart_with(&mut self, flags: &[&str]) -> Result<()> {
        self.set_flags(flags);
        for node in self.cluster.nodes() {
            let joined = self.log(node)?.matches(JOINED).count();
            self.end_agent(node)?;
            self.start_agent(node)?;
            self.wait_log(node, JOINED, joined + 1, Duration::from_secs(10))?;
        }
        self.wait_for_agents()
    }

    /// Starts an agent on every node.
    pub(crate) fn start_agents(&self) -> Result<()> {
        self.cluster.nodes().iter().try_for_each(|node| self.start_agent(node))
    }

    /// Starts the agent of a node; what it prints goes on in the same log.
    pub(crate) fn start_agent(&self, node: &Node) -> Result<()> {
        let (process, reader) = node.spawn_read("agent", &self.argv(node))?;
        self.agents.borrow_mut().insert(node.name().to_owned(), Agent { process, reader });
        Ok(())
    }

    fn argv<'a>(&'a self, node: &'a Node) -> Vec<&'a str> {
        let mut argv = vec![
            &*self.program,
            "agent",
            "--node-name",
            node.name(),
            "--namespace",
            NAMESPACE,
            "--kubeconfig",
            self.kubeconfig(node),
            "--boot-id-file",
            Node::BOOT_ID_FILE,
        ];
        argv.extend(self.flags.iter().map(String::as_str));
        argv
    }

    /// Starts one more agent on a node and waits for its end: its exit code, and what it printed.
    pub(crate) fn second_agent(&self, node: &Node) -> Result<(Option<i32>, String)> {
        let mut second = node.spawn("second-agent", &self.argv(node))?;
        let status = second.wait(Duration::from_secs(40))?;
        Ok((status, second.log()))
    }

    /// Kills the agent of a node, without a word of warning to it.
    pub(crate) fn kill_agent(&self, node: &Node) -> Result<()> {
        self.agents.borrow_mut().get_mut(node.name()).context("an agent")?.process.kill()
    }

    /// Ends the agent of a node as the kubelet does, and waits for its end.
    pub(crate) fn end_agent(&self, node: &Node) -> Result<Option<i32>> {
        self.signal(node, Signal::TERM)?;
        let mut agents = self.agents.borrow_mut();
        agents.get_mut(node.name()).context("an agent")?.process.wait(Duration::from_secs(15))
    }

    pub(crate) fn signal(&self, node: &Node, signal: Signal) -> Result<()> {
        self.agent(node)?.process.signal(signal)
    }

    pub(crate) fn is_running(&self, node: &Node) -> Result<bool> {
        Ok(self.agent(node)?.process.is_running())
    }

    /// The agent's loop hangs; its other threads go on.
    pub(crate) fn wedge(&self, node: &Node) -> Result<Wedge> {
        self.agent(node)?.process.wedge()
    }

    /// Nobody reads what the agent prints, and its pipe is full.
    pub(crate) fn stall_output(&self, node: &Node) -> Result<()> {
        self.agent(node)?.reader.stall()
    }

    /// What the agent prints is read again.
    pub(crate) fn read_output(&self, node: &Node) -> Result<()> {
        self.agent(node)?.reader.go_on();
        Ok(())
    }

    /// All that the agents of a node have printed.
    pub(crate) fn log(&self, node: &Node) -> Result<String> {
        Ok(self.agent(node)?.process.log())
    }

    fn agent(&self, node: &Node) -> Result<Ref<'_, Agent>> {
        Ref::filter_map(self.agents.borrow(), |agents| agents.get(node.name()))
            .map_err(|_| anyhow!("no agent on {}", node.name()))
    }

    /// Waits until the agent of a node has printed `words` at least `times` times.
    pub(crate) fn wait_log(&self, node: &Node, words: &str, times: usize, limit: Duration) -> Result<()> {
        let what = format!("`{words}` ({times} times) in the log of {}", node.name());
        wait::until(&what, limit, || Ok((self.log(node)?.matches(words).count() >= times).then_some(())))
    }

    /// Waits for `words` in the log of every node.
    pub(crate) fn wait_logs(&self, words: &str, times: usize, limit: Duration) -> Result<()> {
        self.cluster.nodes().iter().try_for_each(|node| self.wait_log(node, words, times, limit))
    }

    /// Starts watching who answers for `vips`, once each of them is answered.
    pub(crate) fn watch(&self, vips: &[IpAddr]) -> Result<Watch<'_>> {
        Watch::start(self, vips)
    }

    /// The node that owns the first VIP, as the API says.
    pub(crate) fn owner(&self) -> Result<&Node> {
        let owner = self.cluster.wait_owner(FIRST_VIP, None, Duration::from_secs(20))?;
        self.cluster.node(&owner)
    }

    /// A node other than these.
    pub(crate) fn other_than(&self, nodes: &[&Node]) -> Result<&Node> {
        let other = |node: &&Node| nodes.iter().all(|one| one.name() != node.name());
        self.cluster.nodes().iter().find(other).context("another node")
    }

    /// Makes a Service of type LoadBalancer with an endpoint on `bettley` and this address; `more` is merged into it.
    pub(crate) fn serve(&self, name: &str, vip: IpAddr, more: Value) -> Result<()> {
        let mut service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
        });
        merge(&mut service, more);
        self.cluster.api("POST", "/api/v1/namespaces/default/services", Some(&service))?;
        self.cluster.set_ingress("default", name, &[vip])?;
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": format!("{name}-1"), "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": [{"port": 80}],
            "endpoints": [endpoint("bettley", true)],
        });
        let path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
        self.cluster.api("POST", path, Some(&slice)).map(drop)
    }

    /// Changes the address in a Service's status, as a controller does.
    pub(crate) fn set_address(&self, service: &str, address: IpAddr) -> Result<()> {
        self.cluster.set_ingress("default", service, &[address])
    }

    /// How often the claim of an address has moved.
    pub(crate) fn moves(&self, address: IpAddr) -> Result<u64> {
        let path = format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/vip-{address}");
        let claim = self.cluster.api("GET", &path, None)?;
        claim["spec"]["leaseTransitions"].as_u64().context("how often it has moved")
    }

    /// All that the agents of all nodes have printed.
    pub(crate) fn logs(&self) -> Result<String> {
        self.cluster.nodes().iter().map(|node| self.log(node)).collect()
    }

    /// Says where a Service is served.
    pub(crate) fn set_endpoints(&self, service: &str, endpoints: &[Value]) -> Result<()> {
        set_endpoints(&self.cluster, service, endpoints)
    }

    /// Changes a Service.
    pub(crate) fn change_service(&self, name: &str, patch: &Value) -> Result<()> {
        self.patch(&format!("/api/v1/namespaces/default/services/{name}"), patch)
    }

    /// Changes the specification of the advertisement `primary`.
    pub(crate) fn advertise(&self, spec: &Value) -> Result<()> {
        let path = format!("/apis/metallb.io/v1beta1/namespaces/{NAMESPACE}/l2advertisements/primary");
        self.patch(&path, &json!({"spec": spec}))
    }

    /// What the node's kubelet, or the controller that misses it, says of it.
    pub(crate) fn set_ready(&self, node: &Node, ready: bool) -> Result<()> {
        let status = if ready { "True" } else { "Unknown" };
        let conditions = [json!({"type": "Ready", "status": status, "reason": "Lab", "message": ""})];
        let path = format!("/api/v1/nodes/{}/status", node.name());
        self.patch(&path, &json!({"status": {"conditions": conditions}}))
    }

    /// A merge patch of any object.
    pub(crate) fn patch(&self, path: &str, patch: &Value) -> Result<()> {
        self.cluster.api("PATCH", path, Some(patch)).map(drop)
    }

    /// Waits until every running agent has acted upon all that was changed before: a Service that is made now is in its
    /// kernel.
    pub(crate) fn wait_for_agents(&self) -> Result<()> {
        self.wait_for_agents_within(Duration::from_secs(10))
    }

    /// The same with more patience.
    pub(crate) fn wait_for_agents_within(&self, limit: Duration) -> Result<()> {
        let barrier = vip(5);
        self.serve("barrier", barrier, json!({}))?;
        for node in self.cluster.nodes() {
            if self.is_running(node)? {
                let what = format!("{barrier} in the kernel of {}", node.name());
                wait::until(&what, limit, || {
                    Ok(self.status(node)?.contains(&format!("\"{barrier}\"")).then_some(()))
                })?;
            }
        }
        self.cluster.api("DELETE", "/api/v1/namespaces/default/services/barrier", None)?;
        let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/barrier-1";
        self.cluster.api("DELETE", slices, None).map(drop)
    }

    /// What the kernel of a node holds, as JSON.
    pub(crate) fn status(&self, node: &Node) -> Result<String> {
        node.exec(&[&self.program, "status", "--output", "json"])
    }
}

/// CRDs and everything of the product but its pods, which nobody runs here.
fn install(
    cluster: &Cluster,
    installed: Installed,
    install_crds: impl Fn(&Cluster) -> Result<()> + Sync,
) -> Result<()> {
    cluster.make_metallb_namespace()?;
    thread::scope(|scope| {
        let crds = scope.spawn(|| install_crds(cluster));
        cluster.apply_kustomize(&product::deploy_dir().join(installed.folder()))?;
        crds.join().map_err(|_| anyhow!("the installing thread panicked"))?
    })
}

/// Says where a Service is served, from any thread.
pub(crate) fn set_endpoints(cluster: &Cluster, service: &str, endpoints: &[Value]) -> Result<()> {
    let path = format!("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/{service}-1");
    cluster.api("PATCH", &path, Some(&json!({"endpoints": endpoints}))).map(drop)
}

/// An endpoint on a node.
pub(crate) fn endpoint(node: &str, ready: bool) -> Value {
    json!({"addresses": ["10.244.0.9"], "nodeName": node, "conditions": {"ready": ready, "serving": ready}})
}

fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more,
    }
}

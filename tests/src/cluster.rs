//! A standing cluster and what can be done with it.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::process::Signal;

use crate::{
    addresses::LanAddress,
    builder::Builder,
    control_plane::{self, ADMIN_TOKEN, ControlPlane},
    guard::Guard,
    host::Host,
    judge::Judge,
    lan::{SECOND_NIC, Switch},
    logs,
    machine::Machine,
    node::Node,
    node_parts,
    parts::Parts,
    shared::Shared,
    state::{self, State},
    wait,
};

/// A cluster. Dropping it (in its owner) ends it and leaves nothing behind; with `ANNOUNCER_LAB_LOGS=DIR`
/// in the environment its logs are copied there first.
#[derive(Debug)]
pub struct Cluster {
    pub(crate) nodes: Vec<Node>,
    pub(crate) client: Machine,
    pub(crate) router: Machine,
    pub(crate) outside: Machine,
    pub(crate) control_plane: ControlPlane,
    pub(crate) shared: Arc<Shared>,
    /// Last, so that it clears away after all others. `None` in a process that does not own the cluster.
    pub(crate) guard: Option<Guard>,
}

impl Cluster {
    /// A cluster to be started.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The cluster `name` that another process owns.
    pub fn attach(name: &str) -> Result<Self> {
        let state = State::read(name)?;
        let machine = |machine: &str| {
            let first = state.machines.get(machine);
            Machine::attach(
                machine,
                *first.with_context(|| format!("cluster {name} has no machine {machine}"))?,
            )
        };
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            dir: state::directory(name),
            parts: Parts::locate()?,
            switch: Switch::attach(machine("switch")?),
            node_count: state.nodes.len(),
            kubelets: state.kubelets,
            nics: state.nics.clone(),
            // Only who boots a node again has to know.
            second_network: false,
            is_owner: false,
            images: Mutex::default(),
            state: Mutex::new(state.clone()),
        });
        let node = |(index, node): (usize, &String)| {
            let first = state.machines.get(node).copied();
            let first = first.with_context(|| format!("cluster {name} has no machine {node}"))?;
            Ok(Node::new(node, index, &shared, Arc::new(Machine::known(node, first))))
        };
        Ok(Self {
            nodes: state.nodes.iter().enumerate().map(node).collect::<Result<_>>()?,
            client: machine("client")?,
            router: machine("router")?,
            outside: machine("outside")?,
            control_plane: ControlPlane::attach(Arc::new(machine("control-plane")?)),
            shared,
            guard: None,
        })
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The folder with its state, kubeconfigs and logs; it goes with the cluster.
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// All nodes, in the order of their addresses.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node `name`.
    pub fn node(&self, name: &str) -> Result<&Node> {
        let found = self.nodes.iter().find(|node| node.name() == name);
        found
            .with_context(|| format!("there is no node `{name}`; there are {}", self.node_names().join(", ")))
    }

    /// The node whose NIC on the LAN has this MAC.
    pub fn node_with_mac(&self, mac: [u8; 6]) -> Option<&Node> {
        self.nodes.iter().find(|node| node.mac() == mac)
    }

    /// Plugs one more host into the LAN: the `number`-th, 10.4.0.201 and up.
    pub fn add_host(&self, number: u8) -> Result<Host> {
        let address = LanAddress::host(number);
        let machine = self.shared.boot(&format!("host-{number}"))?;
        self.shared.switch.plug_in(&machine, "eth0", address, false)?;
        Ok(Host::new(machine, address))
    }

    /// A host on the LAN, 10.4.0.100; on the second network, if there is one, 10.5.0.100.
    pub fn client(&self) -> &Machine {
        &self.client
    }

    /// The LAN's router, 10.4.0.1; it has the static route to the VIPs.
    pub fn router(&self) -> &Machine {
        &self.router
    }

    /// A host beyond the router, 192.168.7.2.
    pub fn outside(&self) -> &Machine {
        &self.outside
    }

    /// The switch: a bridge `lan`, with a port `p-HOST` for each host.
    pub fn switch(&self) -> &Machine {
        self.shared.switch.machine()
    }

    /// The machine of the API server, 10.4.0.2.
    pub fn control_plane(&self) -> &Arc<Machine> {
        self.control_plane.machine()
    }

    /// Kills a part of the control plane (`kube-apiserver`, `etcd`, …).
    pub fn stop_part(&self, name: &str) -> Result<()> {
        self.control_plane.stop(name)
    }

    /// Starts a part again after [`stop_part`](Self::stop_part). For the API server, returns when it is ready.
    pub fn start_part(&self, name: &str) -> Result<()> {
        self.control_plane.start_again(name)?;
        if name == "kube-apiserver" { self.control_plane.wait_api(&self.shared.dir) } else { Ok(()) }
    }

    /// Sends a part of the control plane a signal: a stopped one (`Signal::STOP`) accepts connections and says nothing.
    pub fn signal_part(&self, name: &str, signal: Signal) -> Result<()> {
        self.control_plane.signal(name, signal)
    }

    /// All that the cluster knew is gone: etcd and the API server start over with nothing, at revision 1. Node
    /// objects of machines without kubelets are made again, as kubelets would; the rest is the caller's.
    pub fn wipe(&self) -> Result<()> {
        self.with_etcd_down("rm -r $0")?;
        if self.shared.kubelets { Ok(()) } else { self.make_node_objects() }
    }

    /// Keeps a copy of all that etcd has, for [`restore`](Self::restore). etcd and the API server are away for a moment.
    pub fn back_up(&self) -> Result<()> {
        self.with_etcd_down("cp -a $0 $0.backup")
    }

    /// etcd is what it was at [`back_up`](Self::back_up), and the API server starts with that.
    pub fn restore(&self) -> Result<()> {
        self.with_etcd_down("rm -r $0 && cp -a $0.backup $0")
    }

    /// Both are stopped; `script` does something to etcd's data, `$0`; both start again.
    fn with_etcd_down(&self, script: &str) -> Result<()> {
        self.stop_part("kube-apiserver")?;
        self.stop_part("etcd")?;
        self.control_plane().run(&["sh", "-ec", script, control_plane::ETCD_DATA])?;
        self.start_part("etcd")?;
        self.start_part("kube-apiserver")
    }

    /// Starts a judge on the client that asks for `vips` every 20 ms.
    pub fn judge(&self, vips: &[IpAddr]) -> Result<Judge> {
        self.judge_every(vips, Judge::EVERY)
    }

    /// Starts a judge on the client.
    pub fn judge_every(&self, vips: &[IpAddr], every: Duration) -> Result<Judge> {
        Judge::start(&self.client, "eth0", LanAddress::CLIENT, vips, every)
    }

    /// Starts a judge that asks on the second network, for IPv4 addresses.
    pub fn judge_on_second_network(&self, vips: &[IpAddr]) -> Result<Judge> {
        Judge::start(&self.client, SECOND_NIC, LanAddress::CLIENT.on_second_network(), vips, Judge::EVERY)
    }

    /// Fetches a URL from `host` with curl; the body, or why there was none.
    pub fn curl(&self, host: &Machine, url: &str) -> Result<String> {
        host.run(&["curl", "-sS", "--fail", "--globoff", "--max-time", "2", url])
    }

    /// Gives every node an image (an OCI archive); nodes that rejoin get it too.
    pub fn load_image(&self, archive: &Path) -> Result<()> {
        self.shared.images.lock().unwrap_or_else(PoisonError::into_inner).push(archive.to_owned());
        for node in &self.nodes {
            node_parts::import(&node.machine(), archive)?;
        }
        Ok(())
    }

    /// The administrator's kubeconfig. It works inside the lab's network alone.
    pub fn kubeconfig(&self) -> PathBuf {
        self.shared.dir.join("kubeconfig")
    }

    /// A kubeconfig with which programs act as `user`, such as
    /// `system:serviceaccount:announcer-system:announcer`: with that user's rights and no others.
    pub fn kubeconfig_as(&self, user: &str) -> Result<PathBuf> {
        let file = format!("kubeconfig-as-{}", user.replace([':', '/'], "-"));
        let path = self.shared.dir.join(file);
        let config = control_plane::kubeconfig(&self.shared.dir, ADMIN_TOKEN, Some(user));
        std::fs::write(&path, config).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    /// Waits until all nodes are Ready.
    pub fn wait_nodes_ready(&self) -> Result<()> {
        let waited = wait::until("all nodes to be Ready", Duration::from_secs(60), || {
            if let Some(ended) = self.nodes.iter().flat_map(Node::ended_parts).next() {
                return Ok(Some(Err(anyhow!(ended))));
            }
            let nodes = self.api("GET", "/api/v1/nodes", None)?;
            let ready = nodes["items"].as_array().into_iter().flatten().filter(|node| {
                let conditions = node["status"]["conditions"].as_array();
                conditions.into_iter().flatten().any(|one| one["type"] == "Ready" && one["status"] == "True")
            });
            let ready = ready.count();
            if ready < self.nodes.len() {
                bail!("{ready} of {} are", self.nodes.len());
            }
            Ok(Some(Ok(())))
        });
        waited.with_context(|| {
            let log = self.shared.dir.join(format!("logs/{}-kubelet.log", self.nodes[0].name()));
            logs::tail(&log)
        })?
    }

    /// Node objects for machines without kubelets.
    pub(crate) fn make_node_objects(&self) -> Result<()> {
        for node in &self.nodes {
            let name = node.name();
            let object = serde_json::json!({
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}},
                "status": {
                    "addresses": [
                        {"type": "InternalIP", "address": node.address().v4},
                        {"type": "InternalIP", "address": node.address().v6()},
                        {"type": "Hostname", "address": name},
                    ],
                    "conditions": [{"type": "Ready", "status": "True", "reason": "Lab", "message": ""}],
                },
            });
            self.api("POST", "/api/v1/nodes", Some(&object))?;
        }
        Ok(())
    }

    fn node_names(&self) -> Vec<&str> {
        self.nodes.iter().map(Node::name).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.guard.is_none() {
            return;
        }
        logs::keep(self.name(), self.dir());
        // All at once, so that nobody waits for a peer that has just gone.
        let nodes: Vec<_> = self.nodes.iter().map(Node::machine).collect();
        let hosts = [&self.client, &self.router, &self.outside, self.control_plane.machine()];
        for machine in hosts.into_iter().chain(nodes.iter().map(Arc::as_ref)) {
            let _ = machine.first().kill();
        }
    }
}

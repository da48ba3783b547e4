//! From nothing to a standing cluster.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::{
    addresses::{LanAddress, node_name},
    cluster::Cluster,
    control_plane::ControlPlane,
    guard::{self, Guard},
    lan::{self, Switch},
    node::Node,
    parts::Parts,
    shared::{Shared, boot},
    state::{self, Alive, State},
};

/// Which way nodes' links are prepared for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Switch ports run an XDP program that passes everything, so that a node's native `XDP_TX` arrives.
    Native,
    /// Switch ports run nothing, as on any virtual link.
    #[default]
    Tcx,
}

/// What kind of cluster to start.
pub struct Builder {
    name: Option<String>,
    nodes: usize,
    mode: Mode,
    kubelets: bool,
    mld_snooping: bool,
    audited: bool,
    nics: Vec<String>,
    second_network: bool,
    images: Vec<PathBuf>,
    progress: Box<dyn Fn(&str) + Send + Sync>,
}

impl Default for Builder {
    fn default() -> Self {
        let progress: Box<dyn Fn(&str) + Send + Sync> = match std::env::var_os("ANNOUNCER_LAB_VERBOSE") {
            Some(_) => Box::new(|line| eprintln!("lab: {line}")),
            None => Box::new(|_| ()),
        };
        Self {
            name: None,
            nodes: 2,
            mode: Mode::default(),
            kubelets: true,
            mld_snooping: false,
            audited: false,
            nics: vec![],
            second_network: false,
            images: vec![],
            progress,
        }
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Builder")
            .field("name", &self.name)
            .field("nodes", &self.nodes)
            .finish_non_exhaustive()
    }
}

impl Builder {
    /// The cluster's name; by default one that no other cluster has.
    #[must_use]
    pub fn name(self, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..self }
    }

    /// How many nodes (2 by default).
    #[must_use]
    pub fn nodes(self, nodes: usize) -> Self {
        Self { nodes, ..self }
    }

    /// How the switch's ports are prepared.
    #[must_use]
    pub fn mode(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    /// etcd and the API server alone: nodes are bare machines with a Node object that says Ready. Nothing
    /// runs on them but what [`Node::spawn`] starts; no pods, no garbage collection, no kube-proxy.
    #[must_use]
    pub fn api_only(self) -> Self {
        Self { kubelets: false, ..self }
    }

    /// The switch forwards IPv6 multicast only to ports that asked for it.
    #[must_use]
    pub fn mld_snooping(self) -> Self {
        Self { mld_snooping: true, ..self }
    }

    /// The API server writes down what the agents' account asks for: [`Cluster::used_rights`].
    #[must_use]
    pub fn audited(self) -> Self {
        Self { audited: true, ..self }
    }

    /// The names of the first nodes' NICs, in the nodes' order; that of all others is `eth0`.
    #[must_use]
    pub fn nics(self, names: &[&str]) -> Self {
        Self { nics: names.iter().map(|name| (*name).to_owned()).collect(), ..self }
    }

    /// A second network, 10.5.0.0/20: every node and the client has an `eth1` there.
    #[must_use]
    pub fn second_network(self) -> Self {
        Self { second_network: true, ..self }
    }

    /// An OCI archive that every node has from the start.
    #[must_use]
    pub fn image(mut self, archive: impl Into<PathBuf>) -> Self {
        self.images.push(archive.into());
        self
    }

    /// Called with a line for each step.
    #[must_use]
    pub fn progress(self, progress: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { progress: Box::new(progress), ..self }
    }

    /// Starts it; returns when all nodes are Ready.
    pub fn start(self) -> Result<Cluster> {
        ensure!(rustix::process::geteuid().is_root(), "the lab makes namespaces: run as root");
        ensure!((1..=250).contains(&self.nodes), "a cluster has 1 to 250 nodes, not {}", self.nodes);
        let parts = Parts::locate()?;
        guard::sweep()?;
        let name = self.name.clone().unwrap_or_else(unused_name);
        ensure!(guard::is_name(&name), "`{name}` cannot name a cluster: use letters, digits and dashes");
        let dir = claim_directory(&name)?;
        let guard = Guard::start(&name)?;

        let mut images = vec![parts.pause_image.clone(), parts.web_image.clone()];
        images.extend(self.images.iter().cloned());
        let host = |machine: &str| boot(&name, &dir, &parts, machine);
        let nodes: Vec<String> = (0..self.nodes).map(node_name).collect();
        let (control, switch) = (Arc::new(host("control-plane")?), host("switch")?);
        let control_plane = ControlPlane::start(control.clone(), &parts, &dir, &nodes, self.audited)?;
        (self.progress)("etcd and the API server have been started");

        let switch = Switch::new(switch, self.mode, self.mld_snooping)?;
        let shared = Arc::new(Shared {
            name: name.clone(),
            dir: dir.clone(),
            parts: parts.clone(),
            switch,
            node_count: self.nodes,
            kubelets: self.kubelets,
            nics: self.nics.clone(),
            second_network: self.second_network,
            is_owner: true,
            images: Mutex::new(images),
            state: Mutex::new(State {
                owner: Alive::myself()?,
                machines: BTreeMap::new(),
                nodes: nodes.clone(),
                kubelets: self.kubelets,
                nics: self.nics.clone(),
            }),
        });
        shared.switch.plug_in(&control, "eth0", LanAddress::CONTROL_PLANE, false)?;
        if self.second_network {
            shared.switch.add_second_network()?;
        }
        let [client, router, outside] = in_parallel(&["client", "router", "outside"], |_, name| {
            let machine = host(name)?;
            match *name {
                "client" => {
                    shared.switch.plug_in(&machine, "eth0", LanAddress::CLIENT, false)?;
                    if self.second_network {
                        shared.switch.plug_into_second(&machine, LanAddress::CLIENT)?;
                    }
                }
                "router" => shared.switch.plug_in(&machine, "eth0", LanAddress::ROUTER, false)?,
                _ => (),
            }
            Ok(machine)
        })?
        .try_into()
        .map_err(|_| anyhow!("three hosts were asked for"))?;
        lan::connect_outside(&router, &outside)?;
        (self.progress)("the LAN stands: switch, router, client, and a host beyond the router");

        let nodes_running = in_parallel(&nodes, |index, node_name| {
            let node = Node::boot(node_name, index, &shared)?;
            node.start_runtime()?;
            Ok(node)
        })?;
        (self.progress)(&format!("{} nodes are on the LAN", self.nodes));

        control_plane.wait_ready(&dir, &nodes)?;
        (self.progress)("the API server is ready");
        if self.kubelets {
            control_plane.start_controllers(&parts, &dir)?;
        }
        in_parallel(&nodes_running, |_, node| node.start_kubelet())?;
        shared.note(&[shared.switch.machine(), &control, &client, &router, &outside])?;
        let cluster = Cluster {
            nodes: nodes_running,
            client,
            router,
            outside,
            control_plane,
            shared,
            guard: Some(guard),
        };
        if self.kubelets {
            cluster.wait_nodes_ready()?;
        } else {
            cluster.make_node_objects()?;
        }
        (self.progress)("all nodes are Ready");
        Ok(cluster)
    }
}

/// A name for a test's cluster.
fn unused_name() -> String {
    static STARTED: AtomicU32 = AtomicU32::new(0);
    format!("lab-{}-{}", std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed))
}

/// Makes the cluster's folder, which nobody else may have.
fn claim_directory(name: &str) -> Result<PathBuf> {
    let dir = state::directory(name);
    // The guard of a cluster that ends removes the folder above, if it finds it empty.
    let made =
        (0..50).find_map(|_| match fs::create_dir_all(state::ROOT).and_then(|()| fs::create_dir(&dir)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            made => Some(made),
        });
    made.with_context(|| format!("{} vanishes again and again", state::ROOT))?.with_context(|| {
        format!(
            "a cluster `{name}` exists already ({}): `cargo xtask cluster down --name {name}` ends it",
            dir.display()
        )
    })?;
    let me = Alive::myself()?;
    fs::write(dir.join("owner"), format!("{} {}", me.pid, me.started))?;
    fs::create_dir(dir.join("logs"))?;
    Ok(dir)
}

/// Does the same for each item at once; the results in order, or the first error.
fn in_parallel<I: Sync, T: Send>(
    items: &[I],
    work: impl Fn(usize, &I) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> =
            items.iter().enumerate().map(|(index, item)| scope.spawn(move || work(index, item))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow!("a thread of the lab panicked"))))
            .collect()
    })
}

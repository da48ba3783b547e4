//! One node: its machine, what runs on it, and the ways in which it can fail.

use std::{
    fs,
    path::PathBuf,
    process::Output,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    addresses::{LAN_PREFIX, LanAddress},
    machine::Machine,
    node_parts,
    process::Process,
    reader::Reader,
    shared::Shared,
};

/// A node of the cluster. All methods can be called from any thread.
#[derive(Debug)]
pub struct Node {
    name: String,
    index: usize,
    shared: Arc<Shared>,
    running: Mutex<Running>,
}

#[derive(Debug)]
struct Running {
    machine: Arc<Machine>,
    parts: Vec<Process>,
}

impl Node {
    /// Boots the machine of a new node and plugs it in.
    pub(crate) fn boot(name: &str, index: usize, shared: &Arc<Shared>) -> Result<Self> {
        let machine = plugged_in(name, index, shared)?;
        Ok(Self::new(name, index, shared, machine))
    }

    pub(crate) fn new(name: &str, index: usize, shared: &Arc<Shared>, machine: Arc<Machine>) -> Self {
        let running = Mutex::new(Running { machine, parts: Vec::new() });
        Self { name: name.to_owned(), index, shared: shared.clone(), running }
    }

    /// Its name, in Kubernetes and as a host.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of its NIC on the LAN: `eth0`, if the cluster's builder was told no other.
    pub fn nic(&self) -> &str {
        self.shared.nic(self.index)
    }

    /// Its place on the LAN, with the MAC of its NIC there.
    pub fn address(&self) -> LanAddress {
        LanAddress::node(self.index)
    }

    /// The MAC of its NIC on the LAN, which is what it answers with for its VIPs.
    pub fn mac(&self) -> [u8; 6] {
        self.address().mac()
    }

    /// The machine, for what has no method here. A rejoined node has a new one.
    pub fn machine(&self) -> Arc<Machine> {
        self.running().machine.clone()
    }

    /// Runs a program to its end in the node's namespaces; returns what it printed.
    pub fn exec(&self, argv: &[&str]) -> Result<String> {
        self.machine().run(argv)
    }

    /// Runs a program to its end, whatever that end is.
    pub fn output(&self, argv: &[&str]) -> Result<Output> {
        self.machine().output(argv)
    }

    /// Starts a program on the node, such as an agent; its output goes to the log `NODE-NAME.log`.
    pub fn spawn(&self, name: &str, argv: &[&str]) -> Result<Process> {
        Process::start(&self.machine(), name, argv, &self.log_of(name))
    }

    /// Starts a program whose output is read by somebody who can stop doing so.
    pub fn spawn_read(&self, name: &str, argv: &[&str]) -> Result<(Process, Reader)> {
        Process::start_read(&self.machine(), name, argv, &self.log_of(name))
    }

    fn log_of(&self, name: &str) -> PathBuf {
        self.shared.dir.join(format!("logs/{}-{name}.log", self.name))
    }

    /// A second NIC, `eth1`, on the same LAN, without addresses; its MAC. It goes with a crash.
    pub fn add_nic(&self) -> Result<[u8; 6]> {
        let mut mac = self.mac();
        mac[1] = 1;
        self.shared.switch.connect(&self.machine(), &format!("p-{}-1", self.name), "eth1", mac)?;
        self.exec(&["ip", "link", "set", "eth1", "up"])?;
        Ok(mac)
    }

    /// The file whose content changes with each boot, as programs on the node see it.
    pub const BOOT_ID_FILE: &str = "/run/announcer-lab-node/boot-id";

    /// The present boot id.
    pub fn boot_id(&self) -> Result<String> {
        let path = self.machine().path(Self::BOOT_ID_FILE);
        Ok(fs::read_to_string(&path)
            .with_context(|| format!("read the boot id of {}", self.name))?
            .trim()
            .to_owned())
    }

    /// The node loses power: from one moment to the next it is silent. No host sees its carrier change.
    pub fn crash(&self) -> Result<()> {
        self.shared.switch.set_bridged(&self.name, false)?;
        let mut running = self.running();
        running.machine.kill()?;
        running.parts.clear();
        self.shared.switch.remove_port(&self.name)
    }

    /// The node boots again after a [`crash`](Self::crash): a new boot id, nothing in the kernel, the
    /// images of the cluster. Returns once its parts run; it may not be Ready yet.
    pub fn rejoin(&self) -> Result<()> {
        ensure!(self.shared.is_owner, "only the cluster's owner can boot a node again");
        self.running().machine = plugged_in(&self.name, self.index, &self.shared)?;
        self.start_runtime()?;
        self.start_kubelet()
    }

    /// The cable of its `eth1` on the second network is pulled.
    pub fn second_port_down(&self) -> Result<()> {
        self.shared.switch.set_second_port(&self.name, false)
    }

    /// That cable is back.
    pub fn second_port_up(&self) -> Result<()> {
        self.shared.switch.set_second_port(&self.name, true)
    }

    /// Its own IPv4 address goes for so many seconds and comes back, as with a DHCP lease that is renewed late.
    pub fn lose_address_for(&self, seconds: f32) -> Result<()> {
        let (nic, own, gateway) = (self.nic(), self.address().v4, LanAddress::ROUTER.v4);
        self.machine().shell(&format!(
            "ip address delete {own}/{LAN_PREFIX} dev {nic}
             sleep {seconds}
             ip address add {own}/{LAN_PREFIX} brd + dev {nic}
             ip route replace default via {gateway}"
        ))?;
        Ok(())
    }

    /// The cable is pulled: the node's NIC on the LAN loses its carrier.
    pub fn port_down(&self) -> Result<()> {
        self.shared.switch.set_port(&self.name, false)
    }

    /// The cable is back.
    pub fn port_up(&self) -> Result<()> {
        self.shared.switch.set_port(&self.name, true)
    }

    /// The switch forwards nothing from or to the node, whose carrier stays.
    pub fn cut_off(&self) -> Result<()> {
        self.shared.switch.set_bridged(&self.name, false)
    }

    /// The switch forwards again.
    pub fn reconnect(&self) -> Result<()> {
        self.shared.switch.set_bridged(&self.name, true)
    }

    /// The node and its pods no longer reach the API server: packets vanish. All else works.
    pub fn cut_off_api(&self) -> Result<()> {
        let (v4, v6) = (LanAddress::CONTROL_PLANE.v4, LanAddress::CONTROL_PLANE.v6());
        self.drop_packets(&[
            format!("chain out {{ type filter hook output priority filter; ip daddr {v4} drop; ip6 daddr {v6} drop; }}"),
            format!("chain through {{ type filter hook forward priority filter; ip daddr {v4} drop; ip6 daddr {v6} drop; }}"),
            format!("chain in {{ type filter hook input priority filter; ip saddr {v4} drop; ip6 saddr {v6} drop; }}"),
        ])
    }

    /// The node hears the API server no more, but is heard: requests arrive, answers vanish, and connections stay
    /// open, for packets without data still come.
    pub fn deafen_to_api(&self) -> Result<()> {
        let (v4, v6) = (LanAddress::CONTROL_PLANE.v4, LanAddress::CONTROL_PLANE.v6());
        self.drop_packets(&[format!(
            "chain in {{ type filter hook input priority filter;
                ip saddr {v4} meta length > 80 drop; ip6 saddr {v6} meta length > 100 drop; }}"
        )])
    }

    /// Every connection to the API server that stands now is dead, and nobody says so; new ones work.
    pub fn kill_api_connections(&self) -> Result<()> {
        let v4 = LanAddress::CONTROL_PLANE.v4;
        let listed = self.exec(&["ss", "-Htn", "state", "established", "dst", &v4.to_string()])?;
        let local = |line: &str| line.split_whitespace().nth(2)?.rsplit(':').next().map(str::to_owned);
        let ports = listed.lines().filter_map(local).collect::<Vec<_>>().join(", ");
        ensure!(!ports.is_empty(), "{} has no connection to the API server", self.name);
        self.drop_packets(&[
            format!("chain out {{ type filter hook output priority filter; ip daddr {v4} tcp sport {{ {ports} }} drop; }}"),
            format!("chain in {{ type filter hook input priority filter; ip saddr {v4} tcp dport {{ {ports} }} drop; }}"),
        ])
    }

    fn drop_packets(&self, chains: &[String]) -> Result<()> {
        let chains = chains.join("\n");
        self.machine().shell(&format!("nft -f - <<END\ntable inet lab-cut {{\n{chains}\n}}\nEND")).map(drop)
    }

    /// Ends [`cut_off_api`](Self::cut_off_api) and [`deafen_to_api`](Self::deafen_to_api).
    pub fn reconnect_api(&self) -> Result<()> {
        self.exec(&["nft", "delete", "table", "inet", "lab-cut"]).map(drop)
    }

    /// For a node with a kubelet: prepares the network, starts containerd, imports the cluster's images.
    pub(crate) fn start_runtime(&self) -> Result<()> {
        if self.shared.kubelets {
            let machine = self.machine();
            node_parts::prepare_network(&machine, self.index, self.shared.node_count)?;
            let images = self.shared.images();
            let containerd = node_parts::start_containerd(&machine, self.index, &self.shared.dir, &images)?;
            self.running().parts.push(containerd);
        }
        Ok(())
    }

    /// Starts the kubelet and kube-proxy.
    pub(crate) fn start_kubelet(&self) -> Result<()> {
        if self.shared.kubelets {
            let machine = self.machine();
            let parts =
                node_parts::start_kubelet(&machine, self.address(), &self.shared.parts, &self.shared.dir)?;
            self.running().parts.extend(parts);
        }
        Ok(())
    }

    /// The logs' ends of the parts that have ended by themselves.
    pub(crate) fn ended_parts(&self) -> Vec<String> {
        let running = self.running();
        let ended = running.parts.iter().filter(|part| !part.is_running());
        ended.map(|part| format!("{} has ended; {}", part.name(), part.log_tail())).collect()
    }

    /// A panic in another thread leaves a list that is still true.
    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A node's machine, booted anew, on the networks of the cluster.
fn plugged_in(name: &str, index: usize, shared: &Shared) -> Result<Arc<Machine>> {
    let (machine, address) = (Arc::new(shared.boot(name)?), LanAddress::node(index));
    shared.switch.plug_in(&machine, shared.nic(index), address, true)?;
    if shared.second_network {
        shared.switch.plug_into_second(&machine, address)?;
    }
    Ok(machine)
}

//! The wire: a switch with a port for every host of the LAN, and the router's second leg.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use crate::{
    addresses::{LAN_PREFIX, LAN_PREFIX6, LanAddress, format_mac},
    builder::Mode,
    machine::Machine,
    sys,
};

/// Pinned in the switch's bpffs: a program that passes every packet.
const PASS: &str = "/sys/fs/bpf/pass";

/// The switch: a bridge, in a machine of its own.
#[derive(Debug)]
pub struct Switch {
    machine: Machine,
    mode: Mode,
}

impl Switch {
    /// A bridge without ports. `mld_snooping` makes it forward IPv6 multicast to listeners alone.
    pub(crate) fn new(machine: Machine, mode: Mode, mld_snooping: bool) -> Result<Self> {
        let snooping = u8::from(mld_snooping);
        machine.shell(&format!(
            "ip link add lan type bridge stp_state 0 forward_delay 0 \
                 mcast_snooping {snooping} mcast_querier {snooping}
             ip link set lan up"
        ))?;
        if mode == Mode::Native {
            // Frames that a node sends with XDP_TX reach the far end of its veth only if that end runs a
            // program as well.
            let program = sys::load_pass_program().context("load the switch ports' program")?;
            sys::pin(&program, &machine.path(PASS)).context("pin the switch ports' program")?;
        }
        Ok(Self { machine, mode })
    }

    pub(crate) fn attach(machine: Machine) -> Self {
        Self { machine, mode: Mode::Tcx }
    }

    pub(crate) fn machine(&self) -> &Machine {
        &self.machine
    }

    /// A cable from the new `port` of the switch to the new NIC `nic` of `host`.
    pub(crate) fn connect(&self, host: &Machine, port: &str, nic: &str, mac: [u8; 6]) -> Result<()> {
        let (pid, mac) = (host.pid(), format_mac(mac));
        // In the switch's network namespace but the host's PID namespace, where `pid` has its meaning.
        let script = format!(
            "ip link add {port} type veth peer name {nic} address {mac} netns {pid}
             ip link set {port} master lan up"
        );
        let switch = format!("--net={}", self.machine.netns_path().display());
        let output = std::process::Command::new("nsenter")
            .args([&switch, "sh", "-euc", &script])
            .output()
            .context("run `nsenter`")?;
        anyhow::ensure!(
            output.status.success(),
            "plug {} into the switch: {}",
            host.name(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }

    /// Plugs `host` in: its `eth0`, with addresses, and the port `p-NAME`. Nodes' ports run the pass
    /// program in native mode.
    pub(crate) fn plug_in(&self, host: &Machine, address: LanAddress, is_node: bool) -> Result<()> {
        let name = host.name();
        self.connect(host, &format!("p-{name}"), "eth0", address.mac())?;
        if self.mode == Mode::Native && is_node {
            self.machine.run(&[
                "ip",
                "link",
                "set",
                "dev",
                &format!("p-{name}"),
                "xdpdrv",
                "pinned",
                PASS,
            ])?;
        }
        let (v4, v6) = (address.v4, address.v6());
        host.shell(&format!(
            "echo 0 >/proc/sys/net/ipv6/conf/eth0/router_solicitations
             ip address add {v4}/{LAN_PREFIX} brd + dev eth0
             ip address add {v6}/{LAN_PREFIX6} dev eth0 nodad
             ip link set eth0 up"
        ))?;
        if address != LanAddress::ROUTER {
            let (gateway, gateway6) = (LanAddress::ROUTER.v4, LanAddress::ROUTER.v6());
            host.shell(&format!(
                "ip route add default via {gateway}; ip -6 route add default via {gateway6}"
            ))?;
        }
        Ok(())
    }

    /// Takes the port's carrier away or gives it back: a pulled cable, which the host notices.
    pub(crate) fn set_port(&self, name: &str, up: bool) -> Result<()> {
        let state = if up { "up" } else { "down" };
        self.machine.run(&["ip", "link", "set", "dev", &format!("p-{name}"), state]).map(drop)
    }

    /// Removes the port, and with it the host's `eth0`. The kernel does so too when the host's network
    /// namespace goes, but at a time of its own.
    pub(crate) fn remove_port(&self, name: &str) -> Result<()> {
        self.machine.shell(&format!("ip link delete p-{name} 2>/dev/null || true")).map(drop)
    }

    /// Takes the port out of the bridge or puts it back: frames go nowhere, and nobody sees a change.
    pub(crate) fn set_bridged(&self, name: &str, bridged: bool) -> Result<()> {
        let port = format!("p-{name}");
        let tail: &[&str] = if bridged { &["master", "lan"] } else { &["nomaster"] };
        self.machine.run(&[&["ip", "link", "set", "dev", &port], tail].concat()).map(drop)
    }
}

/// The router's way out: `eth1`, 192.168.7.1, and behind it the host `outside`, 192.168.7.2. The router
/// has the scenario's static route: VIPs are on-link on the LAN.
pub(crate) fn connect_outside(router: &Machine, outside: &Machine) -> Result<()> {
    router.shell(
        "echo 1 >/proc/sys/net/ipv4/ip_forward
         echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
         ip route add 10.4.11.0/24 dev eth0",
    )?;
    let script = format!(
        "ip link add eth1 type veth peer name eth0 netns {}
         ip address add 192.168.7.1/24 dev eth1
         ip address add fd00:7::1/64 dev eth1 nodad
         ip link set eth1 up",
        outside.pid()
    );
    let output = std::process::Command::new("nsenter")
        .args([&format!("--net={}", router.netns_path().display()), "sh", "-euc", &script])
        .output()
        .context("run `nsenter`")?;
    anyhow::ensure!(
        output.status.success(),
        "connect `outside` to the router: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    outside.shell(
        "ip address add 192.168.7.2/24 dev eth0
         ip address add fd00:7::2/64 dev eth0 nodad
         ip link set eth0 up
         ip route add default via 192.168.7.1
         ip -6 route add default via fd00:7::1",
    )?;
    Ok(())
}

/// Writes a file of a machine, with the folders above it.
pub(crate) fn write(machine: &Machine, path: &str, text: impl AsRef<[u8]>) -> Result<()> {
    let outside = machine.path(path);
    if let Some(folder) = outside.parent() {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    fs::write(&outside, text)
        .with_context(|| format!("on {}: write {}", machine.name(), Path::new(path).display()))
}

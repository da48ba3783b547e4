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

/// The bridge of the LAN.
const LAN: &str = "lan";
/// The bridge of the second network.
const SECOND: &str = "lan2";
/// The NIC by which a host is on the second network.
pub(crate) const SECOND_NIC: &str = "eth1";

/// The switch: a bridge for each network, in a machine of its own.
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

    /// A cable from the new `port` of the LAN to the new NIC `nic` of `host`.
    pub(crate) fn connect(&self, host: &Machine, port: &str, nic: &str, mac: [u8; 6]) -> Result<()> {
        self.connect_to(LAN, host, port, nic, mac)
    }

    fn connect_to(&self, bridge: &str, host: &Machine, port: &str, nic: &str, mac: [u8; 6]) -> Result<()> {
        let (pid, mac) = (host.pid(), format_mac(mac));
        // In the switch's network namespace but the host's PID namespace, where `pid` has its meaning.
        let script = format!(
            "ip link add {port} type veth peer name {nic} address {mac} netns {pid}
             ip link set {port} master {bridge} up"
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

    /// A second network beside the LAN, without ports.
    pub(crate) fn add_second_network(&self) -> Result<()> {
        self.machine.shell(&format!(
            "ip link add {SECOND} type bridge stp_state 0 forward_delay 0 mcast_snooping 0
             ip link set {SECOND} up"
        ))?;
        Ok(())
    }

    /// Plugs `host` into the second network: its `eth1`, with an IPv4 address and no way out, and the port `q-NAME`.
    pub(crate) fn plug_into_second(&self, host: &Machine, address: LanAddress) -> Result<()> {
        let (port, address) = (format!("q-{}", host.name()), address.on_second_network());
        self.connect_to(SECOND, host, &port, SECOND_NIC, address.mac())?;
        host.shell(&format!(
            "ip address add {}/{LAN_PREFIX} brd + dev {SECOND_NIC}
             ip link set {SECOND_NIC} up",
            address.v4
        ))?;
        Ok(())
    }

    /// Takes the carrier of a host's port on the second network away or gives it back.
    pub(crate) fn set_second_port(&self, name: &str, up: bool) -> Result<()> {
        let state = if up { "up" } else { "down" };
        self.machine.run(&["ip", "link", "set", "dev", &format!("q-{name}"), state]).map(drop)
    }

    /// Plugs `host` in: its NIC, with addresses, and the port `p-NAME`. Nodes' ports run the pass
    /// program in native mode.
    pub(crate) fn plug_in(
        &self,
        host: &Machine,
        nic: &str,
        address: LanAddress,
        is_node: bool,
    ) -> Result<()> {
        let name = host.name();
        self.connect(host, &format!("p-{name}"), nic, address.mac())?;
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
            "echo 0 >/proc/sys/net/ipv6/conf/{nic}/router_solicitations
             ip address add {v4}/{LAN_PREFIX} brd + dev {nic}
             ip address add {v6}/{LAN_PREFIX6} dev {nic} nodad
             ip link set {nic} up"
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

    /// Removes the host's ports, and with them its NICs. The kernel does so too when the host's network
    /// namespace goes, but at a time of its own.
    pub(crate) fn remove_port(&self, name: &str) -> Result<()> {
        let gone = |port: &str| format!("ip link delete {port}-{name} 2>/dev/null || true");
        self.machine.shell(&[gone("p"), gone("q")].join("\n")).map(drop)
    }

    /// Takes the port out of the bridge or puts it back: frames go nowhere, and nobody sees a change.
    pub(crate) fn set_bridged(&self, name: &str, bridged: bool) -> Result<()> {
        let port = format!("p-{name}");
        let tail: &[&str] = if bridged { &["master", LAN] } else { &["nomaster"] };
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

//! What agents are measured beside: keepalived from Debian on two of the nodes, with VRRP version 3 and an advert every
//! 100 ms. It has no API: who is silent for three adverts and its skew (61 ms at priority 100) is replaced.

use std::{cell::RefCell, collections::BTreeMap, fs, net::Ipv4Addr, time::Duration};

use announcer_tests::{Process, wait};
use anyhow::{Context as _, Result};

use super::field::Field;

/// Outside of the agents' pool.
pub const VIP: Ipv4Addr = Ipv4Addr::new(10, 4, 12, 1);

/// The nodes on which it runs.
const NODES: [usize; 2] = [0, 1];

/// Nobody takes back what another has, as with agents; the priorities' difference only settles the start.
fn configuration(node: usize) -> String {
    let priority = 100 - node;
    format!(
        "global_defs {{
            vrrp_version 3
        }}
        vrrp_instance failover {{
            state BACKUP
            nopreempt
            interface eth0
            virtual_router_id 51
            priority {priority}
            advert_int 0.1
            virtual_ipaddress {{
                {VIP}/32 dev eth0
            }}
        }}\n"
    )
}

/// The two, each with its files in its machine's own `/run`.
#[derive(Default)]
pub struct Keepalived {
    running: RefCell<BTreeMap<usize, Process>>,
}

impl Keepalived {
    /// Starts it wherever it does not run, and waits until the new one is ready to take over.
    pub fn start_missing(&self, field: &Field) -> Result<()> {
        for node in NODES {
            if self.running.borrow().get(&node).is_some_and(Process::is_running) {
                continue;
            }
            let script = format!(
                "mkdir -p /run/failover\ncat >/run/failover/keepalived.conf <<'END'\n{}END\n",
                configuration(node)
            );
            field.node(node).machine().shell(&script)?;
            // It goes on in the log of the one before.
            let log = format!("logs/{}-keepalived.log", field.node(node).name());
            let before = fs::read_to_string(field.cluster.dir().join(log)).unwrap_or_default();
            let process = field.node(node).spawn("keepalived", &ARGV)?;
            let ready = || Ok(process.log().get(before.len()..).filter(|new| new.contains(READY)).map(drop));
            wait::until(&format!("{} as a backup", process.name()), Duration::from_secs(10), ready)
                .with_context(|| process.log_tail())?;
            self.running.borrow_mut().insert(node, process);
        }
        Ok(())
    }

    /// Ends both.
    pub fn end(&self) {
        self.running.borrow_mut().clear();
    }

    /// What a crash has taken along.
    pub fn crashed(&self, node: usize) {
        drop(self.running.borrow_mut().remove(&node));
    }
}

const READY: &str = "Entering BACKUP STATE";

const ARGV: [&str; 11] = [
    "keepalived",
    "--dont-fork",
    "--log-console",
    "--vrrp",
    "--use-file",
    "/run/failover/keepalived.conf",
    "--pid",
    "/run/failover/keepalived.pid",
    "--vrrp_pid",
    "/run/failover/vrrp.pid",
    "--no-syslog",
];

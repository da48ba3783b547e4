//! What happens to the node that has the VIP, and when that is over.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Result, ensure};

use super::{
    field::{self, Field},
    keepalived::{self, Keepalived},
    steps::Steps,
    watch::{Seen, Watch},
};

/// Until another node has taken over: a lease of 15 s, and what the API server needs.
const TAKES_OVER: Duration = Duration::from_secs(25);
/// Until the API server has heard of an agent that was started again.
const JOINS: Duration = Duration::from_secs(20);
/// What happens after it seems to be over: the second announcement follows after 1.1 s.
const AFTER: Duration = Duration::from_millis(1500);
/// A kubelet takes about so long from a container's end to the next one's start.
const CONTAINER_STARTS: Duration = Duration::from_secs(1);

/// Something that happens to a node of the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// The node loses its power, under keepalived.
    Keepalived,
    /// The agent is killed, and started again.
    Kill,
    /// The agent is told to end, and another one is started.
    Upgrade,
    /// The node is cordoned.
    Handover,
    /// The node loses its power.
    Crash,
    /// The link that announces loses its carrier; the API server is reached by another.
    Carrier,
}

impl Scenario {
    /// All, in the order in which they are run: no agents beside keepalived, and no second link before the last one.
    pub const ALL: [Self; 6] =
        [Self::Keepalived, Self::Kill, Self::Upgrade, Self::Handover, Self::Crash, Self::Carrier];

    /// Its row in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Keepalived => "node crash, keepalived",
            Self::Kill => "agent killed",
            Self::Upgrade => "agent upgraded",
            Self::Handover => "planned handover",
            Self::Crash => "node crash",
            Self::Carrier => "carrier lost",
        }
    }

    fn vip(self) -> Ipv4Addr {
        if self == Self::Keepalived { keepalived::VIP } else { field::VIP }
    }

    /// Where packets may arrive; the last one is that which announces.
    fn links(self) -> &'static [&'static str] {
        if self == Self::Carrier { &["eth0", "eth1"] } else { &["eth0"] }
    }

    /// What has to be done once before its runs.
    pub fn set_up(self, field: &Field) -> Result<()> {
        if self == Self::Carrier {
            // A node that is missing after the runs before has no place for a second link.
            field.boot()?;
            field.announce_apart()?;
        }
        Ok(())
    }

    /// One run, from a steady state on, whatever the run before has left.
    pub fn run(self, field: &Field, keepalived: &Keepalived) -> Result<Seen> {
        self.mend(field, keepalived)?;
        let (mut watch, owner) = Watch::start(&field.cluster, self.vip(), self.links())?;
        if self != Self::Keepalived {
            let named = field.owner()?;
            ensure!(named == owner, "node {named} owns the VIP, and node {owner} gets its packets");
        }
        match self {
            Self::Keepalived | Self::Crash => {
                field.crash(owner)?;
                keepalived.crashed(owner);
                watch.moved(owner, TAKES_OVER)?;
            }
            Self::Carrier => {
                field.set_second_link(owner, false)?;
                watch.moved(owner, TAKES_OVER)?;
            }
            Self::Handover => {
                field.set_unschedulable(owner, true)?;
                watch.moved(owner, TAKES_OVER)?;
            }
            Self::Kill | Self::Upgrade => {
                if self == Self::Kill {
                    field.kill_agent(owner)?
                } else {
                    field.end_agent(owner)?
                }
                watch.go_on(CONTAINER_STARTS)?;
                field.start_agent(owner)?;
                let joined = |_: &_| field.has_joined(owner);
                watch.until("the new agent to join", JOINS, Duration::from_millis(250), joined)?;
                let owns = field.cluster.owner(field::VIP.into())?;
                ensure!(owns.as_deref() == Some(field.node(owner).name()), "the VIP has gone to {owns:?}");
            }
        }
        watch.go_on(AFTER)?;
        let mut seen = watch.finish()?;
        if self == Self::Crash {
            let steps = Steps::of(&seen.packets, &field.logs());
            seen.steps = steps.inspect_err(|error| eprintln!("{}: no steps: {error:#}", self.name())).ok();
        }
        Ok(seen)
    }

    /// Undoes what any run does, and waits until nothing is left to happen.
    fn mend(self, field: &Field, keepalived: &Keepalived) -> Result<()> {
        field.boot()?;
        if self == Self::Keepalived {
            return keepalived.start_missing(field);
        }
        for node in 0..field.cluster.nodes().len() {
            field.set_unschedulable(node, false)?;
            if self == Self::Carrier {
                field.set_second_link(node, true)?;
            }
        }
        field.start_agents()?;
        let link = self.links().last().copied().unwrap_or_default();
        field.steady(link)
    }
}

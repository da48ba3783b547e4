//! The log lines of ownership, in one place: one line per change, worded so that what users already grep for is found.
//!
//! | `msg` | level | when | fields |
//! |---|---|---|---|
//! | `announcer started` | info | once, first | `node`, `version`, `kernel`, `commit`, `rustc`, `linker`, `target`, `object` (SHA-256) |
//! | `programs attached` | info | once the first links carry the program | `node`, `interfaces` |
//! | `cluster synced` | info | the first complete view of the cluster | `node`, `services`, `nodes` |
//! | `leader election joined` | info | this node's session is live | `node`, `epoch`, `adopted` |
//! | `announcing` | info | this node took an address; `reason` starts with `leader elected`, and says `failover from …` if its owner was fenced | `ip`, `node`, `service`, `interface`, `reason`, `epoch` |
//! | `gratuitous ARP sent`, for IPv6 `unsolicited NA sent (the gratuitous ARP of IPv6)` | info | its first announcement left | `ip`, `node`, `service`, `interface`, `mac`, `epoch` |
//! | `withdrawn` | info | this node no longer answers for an address: it was handed over, is not wanted any more, or this node was fenced | `ip`, `node`, `service`, `reason`, `epoch` |
//! | `failover: silent node fenced` | warn | one write voided all claims of another node | `from`, `node`, `epoch`, `ips`, `reason` |
//! | `fenced: another node ended this session` | warn | this node lost everything it held | `node`, `epoch`, `ips` |
//! | `not answering: the lease ran out` | warn | the deadline passed and could not be renewed | `node`, `ips` |
//! | `answering again: the lease is renewed` | info | it could be, later | `node`, `ips` |
//! | `not answering: the kernel refused to give up an address` | error | an owned entry could not be removed; tried ten times a second | `node`, `reason` |
//! | `answering again: the kernel gave up what it had refused to` | info | it could be | `node` |
//! | `entry refused by the kernel` | error | an entry could not be written; tried again every ten seconds | `ip`, `node`, `service`, `interface`, `reason`, `epoch` |
//! | `held but not answered` | error | a proof failed | `ip`, `node`, `service`, `interface`, `reason`, `epoch` |
//! | `answered again` | info | it holds again | `ip`, `node`, `service`, `interface`, `epoch` |
//! | `another host claims this address` | warn | a conflict on the wire; once a minute per address and MAC | `ip`, `node`, `service`, `interface`, `mac`, `epoch` |
//! | `link up`, `link down`, `link MAC changed`, `link gone` | info | an announcing link changed | `interface`, `node`, `mac` |
//! | `interface not usable` | warn | an advertisement names it in vain | `interface`, `node`, `reason` |
//! | `interface does not announce` | info | nothing names it, and it is not announced on by itself; or another one answers for it | `interface`, `node`, `reason` |
//! | `announcing N of M addresses; leader election live` (or `… not live`) | info | every ten minutes | `node`, `announcing`, `addresses`, `unanswered`, `nodes`, `epoch` |
//!
//! At `debug`, in which nothing is told of changes: `API server answered a lease request` (`lease`, `write`, `done`, `took_us`) and `kernel
//! follows the election` (`node`, `held`, `moved`, `took_us`), by which a failover can be followed step by step.
//!
//! The first four are all there is at a quiet start. All lines carry `level` and `ts`. `announcer answer` knows neither
//! `service` nor `epoch`, and its lines have none.

mod limits;
mod lines;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::{policy::LeftOut, vocabulary::Vip};
use limits::{Every, Often};

/// Why an address came to this node. Its text starts with `leader elected`, for that is what users search.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Gain {
    /// Nobody held it.
    Free,
    /// Its owner was fenced, by this node or another.
    Failover {
        /// The node that fell silent.
        from: String,
    },
    /// Its owner released it for this node.
    HandedOver {
        /// The node that gave it.
        from: String,
    },
    /// It was ours before the agent was restarted, and the kernel never stopped answering.
    Adopted,
    /// Its owner does not answer, and the API server is away.
    Provisional {
        /// The owner.
        from: String,
    },
}

/// Why an address left this node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Loss {
    /// Given to another node that is named, as this one drains, shuts down or is less preferred.
    HandedOver {
        /// Who takes it.
        to: String,
        /// The cause, in an operator's words: `cordoned`, `carrier lost on eth0`, ….
        because: String,
    },
    /// Given up, whoever may take it: no Service or advertisement asks for it here any more, this node was fenced, ….
    GivenUp {
        /// The cause, in an operator's words.
        because: String,
    },
}

/// An address that this node holds, and for whom and by which session, as far as that is known.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Held {
    /// The address.
    pub vip: Vip,
    /// The Services that have it; `None`: there are no Services here, or they are not known yet.
    pub services: Option<BTreeSet<String>>,
    /// The epoch it is held under.
    pub epoch: Option<u64>,
}

/// What the line of every ten minutes says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Summary {
    /// Addresses this node holds.
    pub announcing: usize,
    /// Addresses of the cluster.
    pub addresses: usize,
    /// Held, but the proof failed.
    pub unanswered: usize,
    /// Nodes with a live session, this one included.
    pub nodes: usize,
    /// This node's session is live.
    pub live: bool,
    /// Its epoch.
    pub epoch: u64,
}

/// Tells changes, through `tracing`, in the name of one node.
#[derive(Debug)]
pub struct Changes {
    node: String,
    conflicts: Often,
    summary: Every,
    /// What was said of a name in an advertisement, so that it is said once.
    unusable: BTreeSet<(String, String)>,
    /// What was said of interfaces that announce only if they are named.
    left_out: BTreeMap<String, LeftOut>,
}

impl fmt::Display for Gain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Free => f.write_str("leader elected"),
            Self::Failover { from } => write!(f, "leader elected: failover from {from}"),
            Self::HandedOver { from } => write!(f, "leader elected: handed over by {from}"),
            Self::Adopted => f.write_str("leader elected before the agent restarted"),
            Self::Provisional { from } => {
                write!(
                    f,
                    "taken over from {from}, which does not answer, while the API server is away; claims settle it"
                )
            }
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HandedOver { to, because } => write!(f, "handed over to {to}: {because}"),
            Self::GivenUp { because } => f.write_str(because),
        }
    }
}

impl Held {
    fn service(&self) -> Option<String> {
        self.services.as_ref().map(list)
    }
}

/// A list in one field: `a,b`.
fn list<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(",")
}

/// The first announcement of `vip`, as its family calls it.
fn announcement_sent(vip: Vip) -> &'static str {
    if vip.ip().is_ipv4() {
        "gratuitous ARP sent"
    } else {
        "unsolicited NA sent (the gratuitous ARP of IPv6)"
    }
}

#[cfg(test)]
mod tests;

//! What ownership costs as VIPs and nodes grow: deciding, on its own; and against a real API server.

mod agents;
mod api;
mod decide;
mod members;
mod peers;
mod process;
mod real;

pub use self::{
    api::run as writes,
    decide::run as decide,
    peers::run as peers,
    real::{dead_node, weighed},
};

/// How much to measure.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Counts of VIPs.
    vips: &'static [usize],
    /// Counts of nodes.
    nodes: &'static [usize],
    /// Rounds of each decision.
    rounds: usize,
    /// Seconds during which nothing moves.
    quiet: u64,
    /// VIPs that a dead node leaves behind, and how often it dies.
    dead: (usize, usize),
    /// VIPs of the agent that is weighed.
    weighed: usize,
    /// Nodes that an agent watches.
    peers: usize,
}

impl Effort {
    /// Everything, or a little.
    pub fn new(quick: bool) -> Self {
        if quick {
            let (vips, nodes): (&[usize], &[usize]) = (&[1, 100], &[3]);
            Self { vips, nodes, rounds: 10, quiet: 10, dead: (100, 1), weighed: 100, peers: 12 }
        } else {
            let (vips, nodes): (&[usize], &[usize]) = (&[1, 100, 1_000, 5_000], &[3, 30, 100]);
            Self { vips, nodes, rounds: 50, quiet: 20, dead: (1_000, 3), weighed: 5_000, peers: 100 }
        }
    }
}

//! The lab: a real Kubernetes cluster on network namespaces, for end-to-end tests and the demo.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use announcer_tests::{Cluster, Mode};
//!
//! let cluster = Cluster::builder().nodes(3).mode(Mode::Native).start()?;
//! cluster.kubectl(&["get", "nodes", "-o", "wide"])?;
//! cluster.node("bettley")?.crash()?;
//! # Ok(()) }
//! ```
//!
//! Every host of the lab is a [`Machine`]: its own PID, mount, network, cgroup and host-name namespace,
//! held open by one small process that ends when the lab's owner does. What a machine starts, mounts, pins or plugs
//! in goes with its namespaces, by the kernel's hand: there is no list of things to clean up that could
//! miss one. Only cgroups and the lab's folder outlive them, and [`guard`] removes those.

mod accounts;
pub mod addresses;
pub mod allocate;
mod arp;
mod builder;
mod cluster;
mod control_plane;
pub mod flood;
pub mod guard;
pub mod guest;
mod host;
pub mod image;
mod judge;
mod kubectl;
mod lan;
mod logs;
mod machine;
mod ndp;
mod node;
mod node_config;
mod node_parts;
pub mod parts;
mod process;
pub mod product;
mod reader;
mod shared;
pub mod state;
mod sys;
mod tar;
mod verdict;
pub mod wait;
pub mod web;

pub use builder::{Builder, Mode};
pub use cluster::Cluster;
pub use control_plane::ADMIN_TOKEN;
pub use flood::Flood;
pub use host::Host;
pub use judge::Judge;
pub use machine::Machine;
pub use node::Node;
pub use parts::Parts;
pub use process::{Process, Wedge};
pub use reader::Reader;
pub use rustix::process::Signal;
pub use verdict::{Answer, Verdict};

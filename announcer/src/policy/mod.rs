//! Who may announce what, where: pure functions of the Snapshot.
//!
//! The rules are MetalLB's (`speaker/layer2_controller.go`), with these differences on purpose:
//! - Each address is decided by itself, also where a Service has two (MetalLB elects by the first).
//! - Services that share an address are decided together, see `share.rs`.
//! - A Node that is not Ready, cordoned or NetworkUnavailable is a worse choice ([`Tier`]), never a forbidden one.
//! - An endpoint without a node name serves; only `externalTrafficPolicy: Local` cannot use it.
//! - An address that is some Node's own is claimed by nobody, see [`VipDemand::own_address_of`].

mod admit;
mod coverage;
mod damping;
mod decide;
mod demand;
mod explain;
mod judge;
mod links;
mod options;
mod reason;
mod share;
mod verdicts;

pub use admit::{MOST_VIPS, beyond, in_order};
pub use damping::{Damped, Damping};
pub use decide::{Decision, decide};
pub use demand::{Candidate, Candidates, Demand, Interfaces, LeftOut, Links, Tier, VipDemand};
pub use explain::{Explanation, ServiceVerdict, explain};
pub use links::{LinkPlan, interfaces_for, link_plan};
pub use options::{MostVips, NodeHealth, Options};
pub use reason::{Hindrance, Nobody, Refusal};
pub use verdicts::Verdicts;

#[cfg(test)]
mod tests;

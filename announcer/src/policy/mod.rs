//! Who may announce what, where: pure functions of the Snapshot.

mod demand;

pub use demand::{Candidate, Demand, Interfaces, Tier, VipDemand};

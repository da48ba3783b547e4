//! The election of `announcer`, the same files, as a crate of its own: small enough to be compiled for speed in
//! seconds, so that its simulation and its exhaustive model can run for hours (`cargo xtask sim`).
//!
//! Beside it, `model`: the protocol without its code, in worlds small enough to see every interleaving. Nothing here is
//! part of the agent.

#[path = "../../../announcer/src/election/mod.rs"]
pub mod election;
#[cfg(test)]
mod model;
#[path = "../../../announcer/src/vocabulary.rs"]
pub mod vocabulary;

#[path = "../../../announcer/src/policy/demand.rs"]
mod demand;
#[path = "../../../announcer/src/policy/reason.rs"]
#[expect(dead_code, reason = "some of its words are the agent's alone")]
mod reason;

/// What the election needs of the policy: its result.
pub mod policy {
    pub use crate::{
        demand::{Candidate, Candidates, Demand, Interfaces, LeftOut, Links, Tier, VipDemand},
        reason::Nobody,
    };
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

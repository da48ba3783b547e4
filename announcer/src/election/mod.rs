//! Sessions and claims: a pure state machine (events in, actions out), and the thin driver that performs the actions.

#[cfg(test)]
mod attacks;
mod choose;
mod claims;
mod doubt;
// The simulation has an API server of its own.
#[cfg(not(simulation))]
mod driver;
mod due;
mod fair;
mod giving;
#[cfg(test)]
mod growth;
mod heirs;
mod hold;
#[cfg(test)]
mod holding;
#[cfg(test)]
mod inheriting;
mod interface;
pub mod lease;
mod machine;
mod memory;
mod outstanding;
mod own;
mod peers;
#[cfg(test)]
mod scripted;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod simulation;
mod suspicion;
mod takeover;
mod times;
mod view;

pub use choose::{ClaimState, Failback, LiveNode, Moves, Verdict, choose, stranded};
#[cfg(not(simulation))]
pub use driver::Leases;
pub use interface::{
    Answer, Challenged, Change, Grounds, Identity, Input, OnApiLoss, Probed, Request, Rival, Settings,
    SilentPeers, Target, Token, Watched, Why, Witness,
};
pub use machine::Machine;
pub use outstanding::CLAIMS_IN_FLIGHT;
pub use suspicion::WATCHED_PEERS;
pub use times::{REQUEST_TIMEOUT, Times};
pub use view::View;

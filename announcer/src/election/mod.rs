//! Sessions and claims: a pure state machine (events in, actions out), and the thin driver that performs the actions.

#[cfg(test)]
mod attacks;
mod choose;
mod claims;
mod doubt;
mod driver;
mod due;
mod giving;
mod heirs;
mod hold;
#[cfg(test)]
mod holding;
#[cfg(test)]
mod inheriting;
pub mod lease;
mod machine;
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
pub use claims::CLAIMS_IN_FLIGHT;
pub use driver::{Leases, REQUEST_TIMEOUT};
pub use hold::{Challenged, OnApiLoss, Rival};
pub use machine::{
    Answer, Change, Grounds, Identity, Input, Machine, Probed, Request, Settings, Target, Token, Why,
};
pub use suspicion::{SilentPeers, WATCHED_PEERS, Watched, Witness};
pub use times::Times;
pub use view::View;

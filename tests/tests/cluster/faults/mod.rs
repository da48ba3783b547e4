//! Everything that can change or break around four nodes, one at a time, on the real API server and etcd, with the
//! real programs in the kernel. A judge asks all the time who answers: never two at once, again within the bound that
//! the design gives, and what had no reason to move did not.
//!
//! Each test has a cluster of its own, so they run side by side: `cargo xtask test faults`, four at a time.

mod agents;
mod api;
mod configuration;
mod early;
mod leases;
mod nodes;
mod policy;
mod selectors;

use std::time::Duration;

use announcer_tests::Node;
use anyhow::Result;

use crate::{bare::Lab, watch::Watch};

/// For what happens within a second or two.
const SOON: Duration = Duration::from_secs(10);
/// For what takes a lease.
const PATIENCE: Duration = Duration::from_secs(30);
/// While the API server is away: silence at the deadline; nobody ever answers twice.
const FENCE: &str = "--on-api-loss=fence";
/// While the API server is away: whoever answers goes on, as long as it hears nobody else. The default.
const HOLD: &str = "--on-api-loss=hold";
/// What an agent says once for each session, adopted or new.
const JOINED: &str = "leader election joined";

/// Nothing renews the lease of `old` any more: each of its addresses moves, silent for no longer than `limit`, and
/// nothing else does. Then `mend` lets it come back: it finds itself fenced, and takes nothing.
fn is_replaced(
    lab: &Lab,
    watch: Watch<'_>,
    old: &Node,
    fault: &str,
    limit: Duration,
    mend: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let before = watch.first_owners()?;
    for (vip, _) in before.iter().filter(|(_, owner)| owner.name() == old.name()) {
        watch.moved(*vip, old, PATIENCE)?;
    }
    let after = watch.owners()?;
    mend()?;
    lab.wait_log(old, JOINED, 2, PATIENCE)?;
    lab.wait_for_agents()?;
    let story = watch.finish(fault)?;
    for ((vip, before), (_, after)) in before.into_iter().zip(after) {
        if before.name() == old.name() {
            story.moved(vip, &[old, after], limit);
        } else {
            story.stayed(vip, before);
        }
    }
    Ok(())
}

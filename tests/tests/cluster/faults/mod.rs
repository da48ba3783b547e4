//! Everything that can change or break around four nodes, one at a time, on the real API server and etcd, with the
//! real programs in the kernel. A judge asks all the time who answers: never two at once, again within the bound that
//! the design gives, and what had no reason to move did not.
//!
//! Each test has a cluster of its own, so they run side by side: `cargo xtask test faults`, four at a time.

mod addresses;
mod agents;
mod api;
mod configuration;
mod early;
mod lan;
mod leases;
mod nodes;
mod noisy;
mod policy;
mod rights;
mod selectors;
mod unreadable;

use std::{net::IpAddr, time::Duration};

use announcer_tests::Node;
use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::{
    bare::{JOINED, Lab},
    watch::{DEADLINE, Watch},
};

/// For what happens within a second or two.
const SOON: Duration = Duration::from_secs(10);
/// For what takes a lease.
const PATIENCE: Duration = Duration::from_secs(30);
/// While the API server is away: silence at the deadline; nobody ever answers twice.
const FENCE: &str = "--on-api-loss=fence";
/// While the API server is away: whoever answers goes on, as long as it hears nobody else. The default.
const HOLD: &str = "--on-api-loss=hold";
/// Nobody is replaced before its lease has run out.
const STRICT: &str = "--fencing=strict";

/// From now on nothing renews the lease of `old`: its kernel is silent at its deadline, each of its addresses moves, silent
/// for no longer than `limit`, and nothing else does. Then `mend` lets it come back: it finds itself fenced, and takes
/// nothing. Which addresses moved.
fn is_replaced(
    lab: &Lab,
    watch: Watch<'_>,
    old: &Node,
    fault: &str,
    limit: Duration,
    mend: impl FnOnce() -> Result<()>,
) -> Result<Vec<IpAddr>> {
    let begun = watch.now();
    let before = watch.first_owners()?;
    for (vip, _) in before.iter().filter(|(_, owner)| owner.name() == old.name()) {
        watch.moved(*vip, old, PATIENCE)?;
    }
    let after = watch.owners()?;
    mend()?;
    lab.wait_log(old, JOINED, 2, PATIENCE)?;
    lab.wait_for_agents()?;
    let (story, mut lost) = (watch.finish(fault)?, Vec::new());
    for ((vip, before), (_, after)) in before.into_iter().zip(after) {
        if before.name() == old.name() {
            story.moved(vip, &[old, after], limit);
            let last = story.last_answer(vip, old).context("an answer")?;
            println!("{vip}: answered by {} for {:.1?}", old.name(), last.saturating_sub(begun));
            // The last renewal that it knows of was sent before.
            assert!(last <= begun + DEADLINE, "{vip} was answered after the lease of {}", old.name());
            lost.push(vip);
        } else {
            story.stayed(vip, before);
        }
    }
    Ok(lost)
}

/// An agent that was fenced says so of each address that it had, once.
fn says_what_it_lost(lab: &Lab, old: &Node, lost: &[IpAddr]) -> Result<()> {
    let log = lab.log(old)?;
    let withdrawn = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let withdrawn: Vec<Value> = withdrawn.filter(|line| line["msg"] == "withdrawn").collect();
    for vip in lost {
        let of_vip: Vec<_> = withdrawn.iter().filter(|line| line["ip"] == vip.to_string()).collect();
        let [line] = of_vip[..] else { bail!("{vip} is not withdrawn once: {of_vip:?}") };
        let told = json!({"node": line["node"], "service": line["service"], "reason": line["reason"], "epoch": line["epoch"]});
        let number = vip.to_string().rsplit('.').next().map(str::to_owned);
        let service = format!("default/web-{}", number.unwrap_or_default());
        let expected = json!({
            "node": old.name(), "service": service, "reason": "fenced by another node", "epoch": 1,
        });
        assert_eq!(told, expected);
    }
    // What the tests' own Service leaves behind is withdrawn for another reason.
    let fenced = withdrawn.iter().filter(|line| line["reason"] == "fenced by another node").count();
    assert_eq!(fenced, lost.len(), "{withdrawn:?}");
    Ok(())
}

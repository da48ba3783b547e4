//! A right that the agents do not use is one for whoever has taken a node over.

use std::time::Duration;

use announcer_tests::{ADMIN_TOKEN, product::FIRST_VIP, wait};
use anyhow::{Result, ensure};

use super::PATIENCE;
use crate::{bare::Lab, policy::scrape};

/// The Pod that statuses belong to: another one takes them over.
const POD: [&str; 4] = ["--pod-name", "agent", "--pod-uid", "1"];
const NEXT_POD: [&str; 4] = ["--pod-name", "agent", "--pod-uid", "2"];
/// D_MAX, and whatever is late.
const SWEPT: Duration = Duration::from_secs(90);

/// Each removed one would be missed: the API server has seen it used.
#[test]
fn every_right_that_the_manifests_grant_is_used() -> Result<()> {
    let mut lab = Lab::start_audited(2, &POD)?;
    let first = lab.owner()?;
    let second = lab.other_than(&[first])?;
    // There and back, so that a node tells the same of a Service twice, which is one event with a count.
    for (from, to) in [(first, second), (second, first)] {
        lab.cluster.kubectl(&["cordon", from.name()])?;
        let owner = lab.cluster.wait_owner(FIRST_VIP, Some(from.name()), PATIENCE)?;
        ensure!(owner == to.name(), "{owner} took it");
        lab.cluster.kubectl(&["uncordon", from.name()])?;
    }
    // Who may have been fenced meanwhile reads its own session.
    first.exec(&["sh", "-c", "ip link set eth0 down && ip link set eth0 up"])?;
    let (status, page) = scrape(first, Some(ADMIN_TOKEN))?;
    ensure!(status == "200", "{status}: {page}");
    lab.restart_with(&NEXT_POD)?;
    for number in 1..=4 {
        lab.cluster.kubectl(&["delete", "service", &format!("web-{number}")])?;
    }
    let granted = lab.cluster.granted_rights()?;
    let mut unused = Vec::new();
    let waited = wait::until("every right to be used", SWEPT, || {
        let used = lab.cluster.used_rights()?;
        unused = granted.difference(&used).cloned().collect();
        Ok(unused.is_empty().then_some(()))
    });
    ensure!(waited.is_ok(), "granted and never used: {unused:?}");
    let refused: Vec<_> = lab.cluster.used_rights()?.difference(&granted).cloned().collect();
    ensure!(refused.is_empty(), "used and not granted by our manifests: {refused:?}");
    Ok(())
}

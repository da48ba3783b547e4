//! A right that the agents do not use is one for whoever has taken a node over.

use std::{collections::BTreeSet, time::Duration};

use announcer_tests::{
    ADMIN_TOKEN,
    product::{FIRST_VIP, NAMESPACE},
    wait,
};
use anyhow::{Result, ensure};

use super::PATIENCE;
use crate::{bare::Lab, policy::scrape};

/// The Pod that statuses belong to: another one takes them over.
const POD: [&str; 4] = ["--pod-name", "agent", "--pod-uid", "1"];
const NEXT_POD: [&str; 4] = ["--pod-name", "agent", "--pod-uid", "2"];
/// A claim is deleted when nobody has wanted it for a while.
const SWEEP: &str = "delete coordination.k8s.io/leases";
/// Whoever reads the metrics is asked for its right.
const REVIEWS: [&str; 2] =
    ["create authentication.k8s.io/tokenreviews", "create authorization.k8s.io/subjectaccessreviews"];
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
    let statuses = format!("/apis/metallb.io/v1beta1/namespaces/{NAMESPACE}/servicel2statuses");
    wait::until("a status of each Service", PATIENCE, || {
        let there = lab.cluster.api("GET", &statuses, None)?;
        Ok(there["items"].as_array().is_some_and(|statuses| statuses.len() == 4).then_some(()))
    })?;
    // Who may have been fenced meanwhile reads its own session: that moves everything, and comes after the statuses' next Pod.
    let name = first.name().to_owned();
    lab.restart_with(&NEXT_POD)?;
    let granted = lab.cluster.granted_rights()?;
    let later = ["get coordination.k8s.io/leases", SWEEP, REVIEWS[0], REVIEWS[1]];
    all_are_used(&lab, &granted, &later, PATIENCE)?;
    let first = lab.cluster.node(&name)?;
    let (status, page) = scrape(first, Some(ADMIN_TOKEN))?;
    ensure!(status == "200", "{status}: {page}");
    first.exec(&["sh", "-c", "ip link set eth0 down && ip link set eth0 up"])?;
    all_are_used(&lab, &granted, &[SWEEP], PATIENCE)?;
    for number in 1..=4 {
        lab.cluster.kubectl(&["delete", "service", &format!("web-{number}")])?;
    }
    all_are_used(&lab, &granted, &[], SWEPT)?;
    let refused: Vec<_> = lab.cluster.used_rights()?.difference(&granted).cloned().collect();
    ensure!(refused.is_empty(), "used and not granted by our manifests: {refused:?}");
    Ok(())
}

/// Waits until the API server has seen every right used, but for those whose time comes later.
fn all_are_used(lab: &Lab, granted: &BTreeSet<String>, later: &[&str], limit: Duration) -> Result<()> {
    wait::until("every right to be used", limit, || {
        let used = lab.cluster.used_rights()?;
        let unused: Vec<_> =
            granted.difference(&used).filter(|right| !later.contains(&right.as_str())).collect();
        ensure!(unused.is_empty(), "granted and never used: {unused:?}");
        Ok(Some(()))
    })
}

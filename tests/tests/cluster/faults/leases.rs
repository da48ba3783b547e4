//! What the agents agreed on is edited, deleted, forgotten, or can no longer be followed.

use std::{net::IpAddr, time::Duration};

use announcer_tests::{Node, product::NAMESPACE};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{JOINED, PATIENCE, SOON};
use crate::{
    bare::{Lab, VIPS},
    watch::{FAILOVER, Watch},
};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/metallb/leases";
/// Three probes of an address that nobody seems to have, and the write that claims it.
const PROBED: Duration = Duration::from_secs(3);
/// The same, if the owner was heard before it knew that it was fenced: then it is asked for again three seconds later.
const HEARD_ONCE_MORE: Duration = Duration::from_secs(3 + 3);
const WENT_BACK: &str = "went back in time";
/// D_MAX, probes and a write.
const FROM_NOTHING: Duration = Duration::from_secs(70);

#[test]
fn a_watch_that_has_expired_is_begun_anew_and_nobody_notices() -> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    let owners = watch.owners()?;
    let list = lab.cluster.api("GET", LEASES, None)?;
    let seen = list["metadata"]["resourceVersion"].as_str().context("a version")?.to_owned();
    // The store goes on, then the API server forgets all history before its restart.
    for number in 0..20 {
        let noise = json!({"metadata": {"name": format!("noise-{number}")}});
        lab.cluster.api("POST", "/api/v1/namespaces/default/configmaps", Some(&noise))?;
    }
    lab.cluster.stop_part("kube-apiserver")?;
    lab.cluster.start_part("kube-apiserver")?;
    let again = format!("{LEASES}?watch=true&resourceVersion={seen}&timeoutSeconds=1");
    let answer = lab.cluster.api("GET", &again, None);
    let said = answer.map_or_else(|error| format!("{error:#}"), |event| event.to_string());
    ensure!(said.contains("too old resource version"), "the agents' watches have not expired: {said}");
    lab.wait_renewed(SOON)?;
    // They follow what happens again: a handover needs it.
    let old = owners[0].1;
    lab.cluster.kubectl(&["cordon", old.name()])?;
    let new = watch.moved(VIPS[0], old, SOON)?;
    let story = watch.finish("the API server restarts, and watches have expired; then a cordon")?;
    story.moved(VIPS[0], &[old, new], crate::watch::HANDOVER);
    owners[1..].iter().filter(|(_, owner)| owner.name() != old.name()).for_each(|(vip, owner)| {
        story.stayed(*vip, owner);
    });
    Ok(())
}

#[test]
fn after_etcd_is_wiped_nobody_answers_for_longer_than_a_lease_and_then_one_does() -> Result<()> {
    // Tokens are bound to Pods that are forgotten, too.
    let lab = Lab::start_for_older(4)?;
    let watch = lab.watch(&VIPS)?;
    lab.cluster.wipe()?;
    lab.install_again()?;
    lab.wait_logs(WENT_BACK, 1, PATIENCE)?;
    let known = watch.now();
    VIPS.iter().try_for_each(|vip| watch.silent(*vip, Duration::from_secs(1), PATIENCE))?;
    VIPS.iter().try_for_each(|vip| watch.answered(*vip, FROM_NOTHING + SOON))?;
    let story = watch.finish("etcd is wiped")?;
    for vip in VIPS {
        story.one_at_a_time(vip);
        let (_, again) = story.gap(vip).context("silence")?;
        assert!(again <= known + FROM_NOTHING, "{vip} was silent for too long");
    }
    Ok(())
}

/// The last writes are lost, among them those that moved an address. The agents are back only when the API server is ready, which
/// then goes on with their watches at a version that it has not reached: it would never tell.
#[test]
fn after_etcd_is_restored_from_a_backup_nobody_answers_for_what_is_lost() -> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    lab.cluster.back_up()?;
    lab.wait_renewed(SOON)?;
    let (_, old) = watch.owners()?[0];
    lab.cluster.kubectl(&["cordon", old.name()])?;
    watch.moved(VIPS[0], old, SOON)?;
    let nodes = lab.cluster.nodes();
    nodes.iter().try_for_each(Node::cut_off_api)?;
    lab.cluster.restore()?;
    nodes.iter().try_for_each(Node::reconnect_api)?;
    lab.wait_logs(WENT_BACK, 1, PATIENCE)?;
    let known = watch.now();
    VIPS.iter().try_for_each(|vip| watch.silent(*vip, Duration::from_secs(1), PATIENCE))?;
    VIPS.iter().try_for_each(|vip| watch.answered(*vip, FROM_NOTHING + SOON))?;
    let story = watch.finish("etcd is restored from a backup")?;
    for vip in VIPS {
        story.one_at_a_time(vip);
        let (_, again) = story.gap(vip).context("silence")?;
        assert!(again <= known + FROM_NOTHING, "{vip} was silent for too long");
    }
    Ok(())
}

#[test]
fn a_session_deleted_by_hand_is_made_again_and_its_addresses_are_answered_again() -> Result<()> {
    by_hand("a session is deleted", FAILOVER, |lab, old, _| {
        lab.cluster.kubectl(&["-n", NAMESPACE, "delete", &format!("lease/session-{}", old.name())]).map(drop)
    })
}

#[test]
fn a_session_fenced_by_hand_gives_its_addresses_to_others() -> Result<()> {
    by_hand("a session is fenced", HEARD_ONCE_MORE, |lab, old, _| {
        let path = format!("{LEASES}/session-{}", old.name());
        let lease = lab.cluster.api("GET", &path, None)?;
        let epoch = lease["spec"]["leaseTransitions"].as_i64().unwrap_or_default();
        lab.patch(&path, &json!({"spec": {"holderIdentity": "", "leaseTransitions": epoch + 1}}))
    })
}

#[test]
fn a_session_whose_epoch_is_lowered_by_hand_begins_again_and_no_other_does() -> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    let owners = watch.owners()?;
    let old = owners[0].1;
    lab.patch(&format!("{LEASES}/session-{}", old.name()), &json!({"spec": {"leaseTransitions": 0}}))?;
    lab.wait_log(old, JOINED, 2, SOON)?;
    lab.wait_for_agents()?;
    let story = watch.finish("a session's epoch is lowered")?;
    for (vip, owner) in owners {
        if owner.name() == old.name() {
            story.one_at_a_time(vip);
            assert!(story.silence(vip) <= PROBED, "{vip} was silent for {:?}", story.silence(vip));
        } else {
            story.stayed(vip, owner);
        }
    }
    Ok(())
}

#[test]
fn a_claim_deleted_by_hand_is_claimed_again() -> Result<()> {
    by_hand("a claim is deleted", PROBED, |lab, _, vip| {
        lab.cluster.kubectl(&["-n", NAMESPACE, "delete", &format!("lease/vip-{vip}")]).map(drop)
    })
}

#[test]
fn a_claim_given_to_another_node_by_hand_is_not_believed_and_claimed_again() -> Result<()> {
    by_hand("a claim names another node", FAILOVER, |lab, old, vip| {
        let other = lab.other_than(&[old])?.name();
        lab.patch(&format!("{LEASES}/vip-{vip}"), &json!({"spec": {"holderIdentity": other}}))
    })
}

#[test]
fn a_claim_released_by_hand_is_claimed_again() -> Result<()> {
    by_hand("a claim is released", PROBED, |lab, _, vip| {
        lab.patch(&format!("{LEASES}/vip-{vip}"), &json!({"spec": {"holderIdentity": ""}}))
    })
}

#[test]
fn a_claim_spoilt_by_hand_is_claimed_again() -> Result<()> {
    by_hand("a claim's epoch is no number", FROM_NOTHING, |lab, _, vip| {
        let spoilt = json!({"metadata": {"annotations": {"announcer.io/session-epoch": "many"}}});
        lab.patch(&format!("{LEASES}/vip-{vip}"), &spoilt)
    })
}

#[test]
fn notes_on_a_session_and_on_a_claim_change_nothing() -> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    let owners = watch.owners()?;
    let note = json!({"metadata": {"annotations": {"example.com/seen-by": "me"}, "labels": {"team": "a"}}});
    for (vip, owner) in &owners {
        lab.patch(&format!("{LEASES}/session-{}", owner.name()), &note)?;
        lab.patch(&format!("{LEASES}/vip-{vip}"), &note)?;
    }
    lab.wait_renewed(SOON)?;
    lab.wait_for_agents()?;
    watch.finish("notes on every Lease")?.all_stayed(&owners);
    Ok(())
}

#[test]
fn when_every_lease_is_deleted_all_addresses_are_claimed_again() -> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    lab.cluster.kubectl(&["-n", NAMESPACE, "delete", "leases", "--all"])?;
    settle(&lab, &watch, &VIPS)?;
    let story = watch.finish("every Lease is deleted")?;
    for vip in VIPS {
        story.one_at_a_time(vip);
        assert!(story.silence(vip) <= FAILOVER, "{vip} was silent for {:?}", story.silence(vip));
    }
    Ok(())
}

/// Somebody edits a Lease of the owner of the first address, or that address's claim: one at a time answers,
/// and again within `limit`; addresses of other nodes stay where they are.
fn by_hand(fault: &str, limit: Duration, edit: impl FnOnce(&Lab, &Node, IpAddr) -> Result<()>) -> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    let owners = watch.owners()?;
    let old = owners[0].1;
    // Before the edit: a successor may be quick.
    let its = owners.iter().filter(|(_, owner)| owner.name() == old.name());
    let touched: Vec<IpAddr> = its.map(|(vip, _)| *vip).collect();
    edit(&lab, old, VIPS[0])?;
    settle(&lab, &watch, &touched)?;
    let story = watch.finish(fault)?;
    for (vip, owner) in owners {
        if touched.contains(&vip) {
            story.one_at_a_time(vip);
            assert!(story.silence(vip) <= limit, "{vip} was silent for {:?}", story.silence(vip));
        } else {
            story.stayed(vip, owner);
        }
    }
    Ok(())
}

/// Waits until each claim is held under a live session, and its holder answers.
fn settle(lab: &Lab, watch: &Watch<'_>, vips: &[IpAddr]) -> Result<()> {
    lab.wait_for_agents()?;
    for vip in vips {
        wait_claimed(lab, *vip)?;
        watch.answered(*vip, SOON)?;
    }
    Ok(())
}

fn wait_claimed(lab: &Lab, vip: IpAddr) -> Result<()> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    announcer_tests::wait::until(&format!("a claim on {vip} that is good"), FROM_NOTHING, || {
        let claim = lab.cluster.api("GET", &format!("{LEASES}/vip-{vip}"), None)?;
        let holder = text(&claim["spec"]["holderIdentity"]);
        let session = lab.cluster.api("GET", &format!("{LEASES}/session-{holder}"), None)?;
        let annotation = |name: &str| text(&claim["metadata"]["annotations"][format!("announcer.io/{name}")]);
        let live = text(&session["spec"]["holderIdentity"]).starts_with(&format!("{holder}/"))
            && annotation("session-uid") == text(&session["metadata"]["uid"])
            && annotation("session-epoch").parse().ok() == session["spec"]["leaseTransitions"].as_i64();
        Ok(live.then_some(()))
    })
}

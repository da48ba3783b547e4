//! Services and nodes change: what may be announced, and by whom.

use std::time::Duration;

use announcer_tests::wait;
use anyhow::Result;
use serde_json::json;

use super::{PATIENCE, SOON};
use crate::{
    bare::{Lab, VIPS, endpoint, vip},
    watch::{HANDOVER, Watch},
};

const EXCLUDE: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

#[test]
fn addresses_of_a_prefix_and_of_a_range_are_answered_and_those_beside_them_are_not() -> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    let owners = watch.owners()?;
    let pool = "/apis/metallb.io/v1beta1/namespaces/metallb/ipaddresspools/primary";
    let inside = ["10.4.11.7", "10.4.12.16", "10.4.12.18"];
    let beside = ["10.4.11.8", "10.4.12.15", "10.4.12.19"];
    let parsed = |texts: [&str; 3]| texts.map(|text| text.parse());
    let mut all = Vec::new();
    for (kind, texts) in [("beside", beside), ("inside", inside)] {
        for (number, address) in parsed(texts).into_iter().enumerate() {
            all.push(address?);
            lab.serve(&format!("{kind}-{number}"), all[all.len() - 1], json!({}))?;
        }
    }
    lab.patch(pool, &json!({"spec": {"addresses": ["10.4.11.0/29", "10.4.12.16-10.4.12.18"]}}))?;
    let (beside, inside) = all.split_at(3);
    let new = Watch::start_beside(&lab, inside, beside)?;
    lab.wait_for_agents()?;
    new.finish("a pool of a prefix and a range")?.never_answered(beside);
    watch.finish("beside them")?.all_stayed(&owners);
    Ok(())
}

#[test]
fn services_that_share_an_address_have_one_owner_until_the_last_of_them_is_gone() -> Result<()> {
    let lab = Lab::start(4)?;
    let shared = json!({"metadata": {"annotations": {"metallb.io/allow-shared-ip": "one"}}});
    lab.change_service("web-1", &shared)?;
    let watch = lab.watch(&VIPS)?;
    let owners = watch.owners()?;
    lab.serve("web-1-udp", VIPS[0], shared)?;
    lab.wait_for_agents()?;
    lab.cluster.api("DELETE", "/api/v1/namespaces/default/services/web-1", None)?;
    lab.wait_for_agents()?;
    watch.finish("two Services, one address; the first is deleted")?.all_stayed(&owners);

    let watch = lab.watch(&VIPS)?;
    lab.cluster.api("DELETE", "/api/v1/namespaces/default/services/web-1-udp", None)?;
    let deleted = watch.now();
    watch.silent(VIPS[0], HANDOVER, SOON)?;
    let story = watch.finish("the second is deleted as well")?;
    story.silent_from(VIPS[0], deleted + HANDOVER);
    story.all_stayed(&owners[1..]);
    Ok(())
}

#[test]
fn with_external_traffic_policy_local_the_address_follows_the_endpoints() -> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    let owners = watch.owners()?;
    let first = owners[0].1;
    let second = lab.other_than(&[first])?;
    lab.set_endpoints("web-1", &[endpoint(first.name(), true)])?;
    lab.change_service("web-1", &json!({"spec": {"externalTrafficPolicy": "Local"}}))?;
    lab.wait_for_agents()?;
    lab.set_endpoints("web-1", &[endpoint(second.name(), true)])?;
    watch.answered_by(VIPS[0], second, SOON)?;
    let story = watch.finish("externalTrafficPolicy Local, the endpoint moves")?;
    story.moved(VIPS[0], &[first, second], HANDOVER);
    story.all_stayed(&owners[1..]);

    let watch = lab.watch(&VIPS)?;
    lab.set_endpoints("web-1", &[endpoint(second.name(), false)])?;
    let gone = watch.now();
    watch.silent(VIPS[0], HANDOVER, SOON)?;
    let silent = watch.now();
    // One node says it for all.
    let said = "no node may announce this address";
    wait::until(said, SOON, || {
        let logs = lab.cluster.nodes().iter().map(|node| lab.log(node)).collect::<Result<String>>()?;
        Ok((logs.matches(said).count() == 1).then_some(()))
    })?;
    lab.set_endpoints("web-1", &[endpoint(first.name(), true)])?;
    watch.answered_by(VIPS[0], first, SOON)?;
    let story = watch.finish("no endpoint, then one elsewhere")?;
    story.had(VIPS[0], &[second.mac(), first.mac()]);
    story.silent_between(VIPS[0], gone + HANDOVER, silent);
    story.all_stayed(&owners[1..]);
    Ok(())
}

#[test]
fn a_node_with_the_exclude_label_hands_over_and_takes_nothing_back_without_it() -> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    let (old, path) = (watch.owner(VIPS[0])?, |node: &str| format!("/api/v1/nodes/{node}"));
    lab.patch(&path(old.name()), &json!({"metadata": {"labels": {EXCLUDE: ""}}}))?;
    hands_over_and_takes_nothing_back(&lab, watch, "exclude label", || {
        lab.patch(&path(old.name()), &json!({"metadata": {"labels": {EXCLUDE: null}}}))
    })
}

#[test]
fn a_cordoned_node_hands_over_and_takes_nothing_back_when_it_is_uncordoned() -> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    let old = watch.owner(VIPS[0])?;
    lab.cluster.kubectl(&["cordon", old.name()])?;
    hands_over_and_takes_nothing_back(&lab, watch, "cordon", || {
        lab.cluster.kubectl(&["uncordon", old.name()]).map(drop)
    })
}

#[test]
fn a_drained_node_hands_over() -> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    let old = watch.owner(VIPS[0])?;
    lab.cluster.kubectl(&[
        "drain",
        old.name(),
        "--ignore-daemonsets",
        "--force",
        "--delete-emptydir-data",
        // No DaemonSet has the agents' Pods here, and no kubelet would end them.
        "--pod-selector=app.kubernetes.io/name!=announcer",
    ])?;
    hands_over_and_takes_nothing_back(&lab, watch, "drain", || Ok(()))
}

#[test]
fn a_node_that_is_not_ready_hands_over_and_takes_nothing_back_when_it_is() -> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    let old = watch.owner(VIPS[0])?;
    lab.set_ready(old, false)?;
    // Not at once: in an incident of the control plane the others follow.
    watch.moved(VIPS[0], old, PATIENCE)?;
    hands_over_and_takes_nothing_back(&lab, watch, "NotReady", || lab.set_ready(old, true))
}

/// The owner of the first address gives up all it has, within a second; `undo` then moves nothing.
fn hands_over_and_takes_nothing_back(
    lab: &Lab,
    watch: Watch<'_>,
    fault: &str,
    undo: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let before = watch.first_owners()?;
    let old = before[0].1;
    for (vip, _) in before.iter().filter(|(_, owner)| owner.name() == old.name()) {
        watch.moved(*vip, old, SOON)?;
    }
    let after = watch.owners()?;
    undo()?;
    lab.wait_for_agents()?;
    let story = watch.finish(fault)?;
    for ((vip, before), (_, after)) in before.into_iter().zip(after) {
        if before.name() == old.name() {
            story.moved(vip, &[old, after], HANDOVER);
        } else {
            story.stayed(vip, before);
        }
    }
    Ok(())
}

#[test]
fn when_all_nodes_are_not_ready_nothing_moves() -> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    let owners = watch.owners()?;
    // As the node controller finds them: each when its own last heartbeat is too long ago, and back in any order.
    for ready in [false, true] {
        lab.cluster.nodes().iter().try_for_each(|node| lab.set_ready(node, ready))?;
        lab.wait_for_agents()?;
        // One node alone would be given up after fifteen seconds.
        watch.go_on_for(Duration::from_secs(if ready { 1 } else { 17 }));
    }
    watch.finish("all nodes NotReady")?.all_stayed(&owners);
    Ok(())
}

#[test]
fn the_address_of_a_deleted_service_is_answered_no_more() -> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    let owners = watch.owners()?;
    lab.cluster.api("DELETE", "/api/v1/namespaces/default/services/web-1", None)?;
    let deleted = watch.now();
    watch.silent(VIPS[0], HANDOVER, SOON)?;
    let story = watch.finish("a Service is deleted")?;
    lab.wait_log(owners[0].1, r#"withdrawn","ip":"10.4.11.1","node""#, 1, SOON)?;
    let log = lab.log(owners[0].1)?;
    let line = log.lines().find(|line| line.contains("withdrawn")).expect("just seen");
    assert!(line.contains(r#""service":"default/web-1""#), "{line}");
    story.silent_from(VIPS[0], deleted + HANDOVER);
    story.all_stayed(&owners[1..]);
    Ok(())
}

#[test]
fn a_service_that_gets_another_class_is_left_to_others_until_it_has_none_again() -> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    let owners = watch.owners()?;
    // Kubernetes lets a class be set or taken away only together with the type.
    let other = json!({"spec": {"type": "LoadBalancer", "loadBalancerClass": "example.com/other"}});
    let none = json!({"spec": {"type": "LoadBalancer", "loadBalancerClass": null}});
    let change = |service: &serde_json::Value| -> Result<Duration> {
        lab.change_service("web-1", &json!({"spec": {"type": "ClusterIP", "loadBalancerClass": null}}))?;
        lab.change_service("web-1", service)?;
        lab.cluster.set_ingress("default", "web-1", &[VIPS[0]])?;
        Ok(watch.now())
    };
    let changed = change(&other)?;
    lab.wait_for_agents()?;
    watch.silent(VIPS[0], HANDOVER, SOON)?;
    let back = change(&none)?;
    watch.answered(VIPS[0], SOON)?;
    let story = watch.finish("loadBalancerClass changes")?;
    story.silent_between(VIPS[0], changed + HANDOVER, back);
    story.all_stayed(&owners[1..]);
    Ok(())
}

#[test]
fn when_a_service_gets_another_address_the_old_one_is_answered_no_more_and_the_new_one_is() -> Result<()> {
    let lab = Lab::start(4)?;
    let new = vip(9);
    let watch = Watch::start_beside(&lab, &VIPS, &[new])?;
    let owners = watch.owners()?;
    lab.cluster.set_ingress("default", "web-1", &[new])?;
    let changed = watch.now();
    watch.answered(new, SOON)?;
    watch.silent(VIPS[0], HANDOVER, SOON)?;
    let now = watch.owner(new)?;
    let story = watch.finish("a Service gets another address")?;
    story.silent_from(VIPS[0], changed + HANDOVER);
    story.moved(new, &[now], HANDOVER);
    story.all_stayed(&owners[1..]);
    Ok(())
}

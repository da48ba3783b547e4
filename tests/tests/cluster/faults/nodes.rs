//! Machines and cables.

use std::time::Duration;

use announcer_tests::Node;
use anyhow::Result;
use serde_json::json;

use super::{HOLD, JOINED, PATIENCE, SOON, STRICT, is_replaced};
use crate::{
    bare::{Lab, VIPS},
    watch::{FAILOVER, HANDOVER},
};

#[test]
fn an_announcing_link_that_loses_its_carrier_is_given_up_at_once() -> Result<()> {
    let lab = Lab::start(4)?;
    // Announcing and talking to the API server on links of their own: only one of them fails.
    let macs = lab.cluster.nodes().iter().map(|node| node.add_nic()).collect::<Result<Vec<_>>>()?;
    lab.advertise(&json!({"interfaces": ["eth1"]}))?;
    let mac_of =
        |name: &str| lab.cluster.nodes().iter().position(|node| node.name() == name).map(|i| macs[i]);
    let early = lab.watch(&VIPS)?;
    let owner = lab.owner()?;
    let old = mac_of(owner.name()).unwrap_or_default();
    early.answered_with(VIPS[0], old, SOON)?;
    drop(early);
    let watch = lab.watch(&VIPS)?;
    let before: Vec<_> = VIPS.iter().map(|vip| watch.last_mac(*vip)).collect::<Result<_>>()?;
    lab.cluster.switch().run(&["ip", "link", "set", &format!("p-{}-1", owner.name()), "down"])?;
    let after = VIPS.iter().map(|vip| watch.moved_from(*vip, old, SOON)).collect::<Result<Vec<_>>>()?;
    lab.cluster.switch().run(&["ip", "link", "set", &format!("p-{}-1", owner.name()), "up"])?;
    lab.wait_log(owner, "link up", 1, SOON)?;
    lab.wait_for_agents()?;
    let story = watch.finish("the announcing link loses its carrier, and gets it back")?;
    for ((vip, before), after) in VIPS.into_iter().zip(before).zip(after) {
        let mut owners = vec![before, after];
        owners.dedup();
        story.had(vip, &owners);
        // The kernel itself may keep a lost carrier for a second before it tells (net/core/link_watch.c).
        let limit = HANDOVER + Duration::from_secs(1);
        assert!(story.silence(vip) <= limit, "{vip}: {:?}", story.silence(vip));
    }
    Ok(())
}

#[test]
fn a_node_whose_only_cable_is_pulled_is_replaced_and_silent_when_it_is_plugged_in_again() -> Result<()> {
    isolated("the only cable is pulled", HOLD, |node| node.port_down(), |node| node.port_up())
}

#[test]
fn under_strict_a_node_that_the_switch_forgets_is_replaced_and_silent_when_it_is_back() -> Result<()> {
    isolated("the switch forwards nothing", STRICT, |node| node.cut_off(), |node| node.reconnect())
}

/// Neither clients nor the API server nor other nodes reach the node, whose agent goes on.
fn isolated(
    fault: &str,
    flag: &str,
    cut: impl FnOnce(&Node) -> Result<()>,
    mend: impl FnOnce(&Node) -> Result<()>,
) -> Result<()> {
    let mut lab = Lab::start(4)?;
    lab.watch(&VIPS)?;
    lab.restart_with(&[flag])?;
    let watch = lab.watch(&VIPS)?;
    let old = watch.owner(VIPS[0])?;
    cut(old)?;
    is_replaced(&lab, watch, old, fault, FAILOVER, || mend(old)).map(drop)
}

#[test]
fn under_hold_a_node_that_nobody_reached_answers_beside_its_successor_only_until_it_hears_the_api_server()
-> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    let before = watch.owners()?;
    let old = before[0].1;
    old.cut_off()?;
    let new = watch.moved(VIPS[0], old, PATIENCE)?;
    let back = watch.now();
    old.reconnect()?;
    lab.wait_log(old, JOINED, 2, PATIENCE)?;
    let heard = watch.now();
    lab.wait_for_agents()?;
    let story = watch.finish("held: the switch forwards nothing, and then again")?;
    let both = story.answered_by_two(VIPS[0]);
    if let (Some(first), Some(last)) = (both.first(), both.last()) {
        println!("two answered for {:.1?}, from {:.1?} after it was back", *last - *first, *first - back);
        assert!(
            *first >= back && *last <= heard,
            "two answered at {first:?} to {last:?}, not {back:?} to {heard:?}"
        );
    }
    assert!(heard - back < SOON, "it took {:?} to hear the API server", heard - back);
    story.ended_with(VIPS[0], new);
    for (vip, owner) in before.iter().filter(|(_, owner)| owner.name() != old.name()) {
        story.stayed(*vip, owner);
    }
    Ok(())
}

//! The agent is killed, stopped, wedged or restarted, and its kernel goes on as long as its lease.

use announcer_tests::{Node, Signal, flood::RATE, wait};
use anyhow::{Result, ensure};
use serde_json::json;

use super::{JOINED, PATIENCE, SOON, is_replaced, says_what_it_lost};
use crate::{
    bare::{Lab, VIPS},
    watch::{HANDOVER, LAPSE, LEASE, RENEWAL},
};

#[test]
fn an_agent_killed_and_started_again_is_no_failover() -> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    let owners = watch.owners()?;
    for times in 2..=4 {
        lab.kill_agent(owners[0].1)?;
        lab.start_agent(owners[0].1)?;
        lab.wait_log(owners[0].1, JOINED, times, SOON)?;
    }
    lab.wait_for_agents()?;
    watch.finish("an agent is killed and started again, three times")?.all_stayed(&owners);
    Ok(())
}

#[test]
fn all_agents_killed_at_once_and_started_again_lose_no_answer() -> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    let owners = watch.owners()?;
    lab.cluster.nodes().iter().try_for_each(|node| lab.kill_agent(node))?;
    lab.start_agents()?;
    lab.wait_logs(JOINED, 2, SOON)?;
    lab.wait_for_agents()?;
    watch.finish("all agents are killed at once and started again")?.all_stayed(&owners);
    Ok(())
}

#[test]
fn every_agent_restarted_one_by_one_under_a_flood_loses_no_answer() -> Result<()> {
    let lab = Lab::start(4)?;
    let owners = lab.watch(&VIPS)?.owners()?;
    // No judge beside it: its socket would have to take the flood's answers, too. Two owners would give two answers each.
    let flood = lab.cluster.flood(VIPS[0])?;
    for node in lab.cluster.nodes() {
        let status = lab.end_agent(node)?;
        ensure!(status == Some(0), "the agent of {} ended with {status:?}", node.name());
        lab.start_agent(node)?;
        lab.wait_log(node, JOINED, 2, SOON)?;
    }
    lab.wait_for_agents()?;
    let flooded = flood.stop()?;
    println!("every agent is restarted, one by one: {flooded:?}, {:.0} a second", flooded.rate());
    assert_eq!(flooded.answered, flooded.sent);
    assert!(flooded.rate() > 0.5 * f64::from(RATE), "the flood was none: {flooded:?}");
    lab.watch(&VIPS)?.finish("after that")?.all_stayed(&owners);
    Ok(())
}

#[test]
fn a_killed_agents_kernel_falls_silent_at_its_deadline_before_a_successor_answers() -> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    let old = watch.owner(VIPS[0])?;
    lab.kill_agent(old)?;
    let fault = "an agent is killed, and comes back too late";
    let lost = is_replaced(&lab, watch, old, fault, LAPSE, || lab.start_agent(old))?;
    says_what_it_lost(&lab, old, &lost)
}

#[test]
fn a_stopped_agents_kernel_falls_silent_at_its_deadline_before_a_successor_answers() -> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    let old = watch.owner(VIPS[0])?;
    lab.signal(old, Signal::STOP)?;
    let fault = "an agent is stopped, and goes on too late";
    let lost = is_replaced(&lab, watch, old, fault, LAPSE, || lab.signal(old, Signal::CONT))?;
    says_what_it_lost(&lab, old, &lost)
}

#[test]
fn a_wedged_loops_kernel_falls_silent_at_its_deadline_before_a_successor_answers() -> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    let old = watch.owner(VIPS[0])?;
    let wedge = lab.wedge(old)?;
    let lost = is_replaced(&lab, watch, old, "an agent's loop is wedged", LAPSE, || {
        // The rest of the agent lives, and says so to the kubelet.
        let asked = ["curl", "-s", "--max-time", "2", "http://127.0.0.1:9475/healthz"];
        let words = "the loop has not turned";
        wait::until(words, PATIENCE, || Ok(old.exec(&asked)?.contains(words).then_some(())))?;
        drop(wedge);
        Ok(())
    })?;
    says_what_it_lost(&lab, old, &lost)
}

#[test]
fn an_agent_whose_output_nobody_reads_goes_on() -> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    let owners = watch.owners()?;
    let node = owners[0].1;
    lab.stall_output(node)?;
    // Each agent has something to say of this.
    lab.advertise(&json!({"interfaces": ["eth0", "eth7"]}))?;
    lab.wait_log(lab.other_than(&[node])?, "eth7", 1, SOON)?;
    watch.go_on_for(LEASE + RENEWAL);
    lab.read_output(node)?;
    lab.wait_log(node, "eth7", 1, SOON)?;
    watch.finish("nobody reads what an agent prints")?.all_stayed(&owners);
    Ok(())
}

#[test]
fn a_second_agent_of_a_node_refuses_in_one_line_and_changes_nothing() -> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    let owners = watch.owners()?;
    let (status, said) = lab.second_agent(owners[0].1)?;
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("another announcer runs on this node"), "{said}");
    watch.finish("a second agent is started on a node")?.all_stayed(&owners);
    Ok(())
}

#[test]
fn an_agent_told_to_release_hands_over_when_it_ends() -> Result<()> {
    let lab = Lab::start_with(4, &["--on-shutdown", "release"])?;
    let watch = lab.watch(&VIPS)?;
    let old = watch.owner(VIPS[0])?;
    lab.end_agent(old)?;
    let new = watch.moved(VIPS[0], old, SOON)?;
    let story = watch.finish("an agent ends that was told to release")?;
    story.moved(VIPS[0], &[old, new], HANDOVER);
    Ok(())
}

#[test]
fn an_agent_that_ends_on_a_cordoned_node_hands_over_at_once() -> Result<()> {
    ends_on_a_node_that_goes("an agent ends on a cordoned node", |lab, node| {
        // The cordon itself moves nothing here.
        lab.cluster.kubectl(&["cordon", node.name()])?;
        lab.wait_for_agents()
    })
}

#[test]
fn a_node_whose_object_is_deleted_hands_over_at_once_and_its_agent_may_end() -> Result<()> {
    ends_on_a_node_that_goes("a Node object is deleted, and its agent ends", |lab, node| {
        lab.cluster.kubectl(&["delete", "node", node.name()])?;
        lab.wait_log(node, "\"msg\":\"withdrawn\"", 1, SOON)
    })
}

/// The node of the first address's owner is going away, which the cluster says by this; then its agent is told to end.
fn ends_on_a_node_that_goes(fault: &str, goes: impl FnOnce(&Lab, &Node) -> Result<()>) -> Result<()> {
    let lab = Lab::start_with(4, &["--node-health", "ignore"])?;
    let watch = lab.watch(&VIPS)?;
    let before = watch.owners()?;
    let old = before[0].1;
    goes(&lab, old)?;
    let status = lab.end_agent(old)?;
    ensure!(status == Some(0), "the agent of {} ended with {status:?}", old.name());
    for (vip, _) in before.iter().filter(|(_, owner)| owner.name() == old.name()) {
        watch.moved(*vip, old, SOON)?;
    }
    let after = watch.owners()?;
    let story = watch.finish(fault)?;
    for ((vip, before), (_, after)) in before.into_iter().zip(after) {
        if before.name() == old.name() {
            story.moved(vip, &[old, after], HANDOVER);
        } else {
            story.stayed(vip, before);
        }
    }
    let log = lab.log(old)?;
    assert!(log.contains("\"hand_over\":true"), "{log}");
    Ok(())
}

#[test]
fn an_agent_told_to_keep_keeps_what_its_cordoned_node_has() -> Result<()> {
    let lab = Lab::start_with(4, &["--on-shutdown", "keep", "--node-health", "ignore"])?;
    let watch = lab.watch(&VIPS)?;
    let owners = watch.owners()?;
    lab.cluster.kubectl(&["cordon", owners[0].1.name()])?;
    lab.wait_for_agents()?;
    lab.end_agent(owners[0].1)?;
    watch.go_on_for(LEASE / 3);
    lab.start_agent(owners[0].1)?;
    lab.wait_log(owners[0].1, JOINED, 2, SOON)?;
    watch.finish("an agent ends that was told to keep")?.all_stayed(&owners);
    Ok(())
}

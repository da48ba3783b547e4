//! The agent is killed, stopped, wedged or restarted, and its kernel goes on as long as its lease.

use announcer_tests::{Signal, flood::RATE, wait};
use anyhow::{Result, ensure};
use serde_json::json;

use super::{JOINED, PATIENCE, SOON, is_replaced};
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
    is_replaced(&lab, watch, old, "an agent is killed, and comes back too late", LAPSE, || {
        lab.start_agent(old)
    })
}

#[test]
fn a_stopped_agents_kernel_falls_silent_at_its_deadline_before_a_successor_answers() -> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    let old = watch.owner(VIPS[0])?;
    lab.signal(old, Signal::STOP)?;
    is_replaced(&lab, watch, old, "an agent is stopped, and goes on too late", LAPSE, || {
        lab.signal(old, Signal::CONT)
    })
}

#[test]
fn a_wedged_loops_kernel_falls_silent_at_its_deadline_before_a_successor_answers() -> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    let old = watch.owner(VIPS[0])?;
    let wedge = lab.wedge(old)?;
    is_replaced(&lab, watch, old, "an agent's loop is wedged", LAPSE, || {
        // The rest of the agent lives, and says so to the kubelet.
        let asked = ["curl", "-s", "--max-time", "2", "http://127.0.0.1:9475/healthz"];
        let words = "the loop has not turned";
        wait::until(words, PATIENCE, || Ok(old.exec(&asked)?.contains(words).then_some(())))?;
        drop(wedge);
        Ok(())
    })
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

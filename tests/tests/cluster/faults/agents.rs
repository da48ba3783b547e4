//! The agent is killed, stopped, wedged or restarted, and its kernel goes on as long as its lease.

use std::time::Duration;

use announcer_tests::{Node, Signal, flood::RATE};
use anyhow::{Result, ensure};
use serde_json::json;

use crate::{
    bare::{Lab, VIPS},
    watch::{FAILOVER, Watch},
};

const SOON: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(30);
const JOINED: &str = "leader election joined";

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
    let watch = lab.watch(&VIPS)?;
    let owners = watch.owners()?;
    let flood = lab.cluster.flood(VIPS[0])?;
    for node in lab.cluster.nodes() {
        let status = lab.end_agent(node)?;
        ensure!(status == Some(0), "the agent of {} ended with {status:?}", node.name());
        lab.start_agent(node)?;
        lab.wait_log(node, JOINED, 2, SOON)?;
    }
    lab.wait_for_agents()?;
    let flooded = flood.stop()?;
    println!("every agent restarted: {flooded:?}, {:.0} a second", flooded.rate());
    watch.finish("every agent is restarted, one by one, under a flood")?.all_stayed(&owners);
    assert_eq!(flooded.answered, flooded.sent);
    assert!(flooded.rate() > 0.5 * f64::from(RATE), "the flood was none: {flooded:?}");
    Ok(())
}

#[test]
fn a_killed_agents_kernel_falls_silent_at_its_deadline_before_a_successor_answers() -> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    let old = watch.owner(VIPS[0])?;
    lab.kill_agent(old)?;
    replaced(&lab, watch, old, "an agent is killed, and comes back too late", || lab.start_agent(old))
}

#[test]
fn a_stopped_agents_kernel_falls_silent_at_its_deadline_before_a_successor_answers() -> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    let old = watch.owner(VIPS[0])?;
    lab.signal(old, Signal::STOP)?;
    replaced(&lab, watch, old, "an agent is stopped, and goes on too late", || lab.signal(old, Signal::CONT))
}

#[test]
fn a_wedged_loops_kernel_falls_silent_at_its_deadline_before_a_successor_answers() -> Result<()> {
    let lab = Lab::start(4)?;
    let watch = lab.watch(&VIPS)?;
    let old = watch.owner(VIPS[0])?;
    // Nobody reads what the agent prints: the next line that its loop has to say never ends.
    lab.stall_output(old)?;
    lab.advertise(&json!({"interfaces": ["eth0", "eth7"]}))?;
    replaced(&lab, watch, old, "an agent's loop is wedged", || {
        ensure!(lab.is_running(old)?, "the agent was wedged, not dead");
        lab.read_output(old)
    })
}

/// The agent of `old` does nothing more. Once its addresses have moved it goes on, finds itself fenced, and takes
/// nothing back.
fn replaced(
    lab: &Lab,
    watch: Watch<'_>,
    old: &Node,
    fault: &str,
    go_on: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let before = watch.first_owners()?;
    for (vip, _) in before.iter().filter(|(_, owner)| owner.name() == old.name()) {
        watch.moved(*vip, old, PATIENCE)?;
    }
    let after = watch.owners()?;
    go_on()?;
    lab.wait_log(old, JOINED, 2, PATIENCE)?;
    lab.wait_for_agents()?;
    let story = watch.finish(fault)?;
    for ((vip, before), (_, after)) in before.into_iter().zip(after) {
        if before.name() == old.name() {
            story.moved(vip, &[old, after], FAILOVER);
        } else {
            story.stayed(vip, before);
        }
    }
    Ok(())
}

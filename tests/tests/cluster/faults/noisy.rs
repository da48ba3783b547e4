//! A tenant who changes things all the time: it costs its own addresses, and others no more than a moment.

use std::{thread, time::Duration};

use announcer_tests::wait;
use anyhow::{Context as _, Result};
use serde_json::json;

use super::{PATIENCE, SOON};
use crate::bare::{Lab, VIPS};

#[test]
fn an_address_that_two_controllers_fight_for_moves_three_times_and_is_told_of() -> Result<()> {
    let lab = Lab::start(3)?;
    let watch = lab.watch(&VIPS)?;
    let owners = watch.owners()?;
    let before = lab.moves(VIPS[0])?;
    let others = "10.4.0.77".parse().context("an address")?;
    for _ in 0..15 {
        for address in [others, VIPS[0]] {
            lab.set_address("web-1", address)?;
            // Longer than what the agents gather, so that each flip is seen.
            thread::sleep(Duration::from_millis(150));
        }
    }
    lab.wait_for_agents()?;
    watch.answered(VIPS[0], SOON)?;
    let moves = lab.moves(VIPS[0])? - before;
    println!("30 writes of the status: the claim moved {moves} times");
    assert!(moves <= 3, "{moves}");
    wait_told(&lab, "web-1", "addressUnsteady")?;
    assert!(lab.logs()?.contains("An address comes and goes"), "one line says it");
    watch.finish("two controllers write one status")?.all_stayed(&owners[1..]);
    Ok(())
}

#[test]
fn why_nobody_announces_an_address_is_an_event_on_its_service() -> Result<()> {
    let lab = Lab::start(2)?;
    lab.change_service("web-2", &json!({"spec": {"externalTrafficPolicy": "Local"}}))?;
    lab.set_endpoints("web-2", &[json!({"addresses": ["10.244.0.9"], "conditions": {"ready": true}})])?;
    lab.set_endpoints("web-3", &[])?;
    for service in ["web-2", "web-3"] {
        wait_told(&lab, service, "notAnnounced")?;
    }
    let told = |service| told(&lab, service, "notAnnounced");
    assert_eq!((told("web-1")?, told("web-2")?, told("web-3")?), (0, 1, 1));
    Ok(())
}

/// How many events of this reason a Service has.
fn told(lab: &Lab, service: &str, reason: &str) -> Result<usize> {
    let events = lab.events("default", reason)?;
    Ok(events.iter().filter(|event| event["regarding"]["name"] == service).count())
}

fn wait_told(lab: &Lab, service: &str, reason: &str) -> Result<()> {
    wait::until(&format!("the event {reason} on {service}"), PATIENCE, || {
        Ok((told(lab, service, reason)? > 0).then_some(()))
    })
}

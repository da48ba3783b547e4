//! Addresses that a node has itself, and those of which it only says so.

use std::net::IpAddr;

use announcer_tests::{Node, product::NAMESPACE, wait};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{PATIENCE, SOON};
use crate::bare::{Lab, VIPS, vip};

const OWN: IpAddr = vip(77);

#[test]
fn no_nodes_word_silences_an_address_and_what_a_node_has_itself_is_nobody_elses() -> Result<()> {
    let lab = Lab::start(2)?;
    let watch = lab.watch(&VIPS)?;
    let owners = watch.owners()?;
    let owner = owners[0].1;
    let node = lab.other_than(&[owner])?;
    // A kubelet writes into the status of its own Node what it likes.
    let own = IpAddr::V4(node.address().v4);
    lists(&lab, node, &[&[own], &VIPS[..]].concat())?;
    lab.wait_logs("a Node lists a Service's address among its own", VIPS.len(), SOON)?;
    lists(&lab, node, &[&VIPS[..], &[own]].concat())?;
    lab.wait_log(node, "a Service's address is a node's own, too", 1, SOON)?;
    lab.wait_for_agents()?;
    watch.finish("a node says that it has every address")?.all_stayed(&owners);
    lists(&lab, node, &[own])?;

    let address = format!("{OWN}/20");
    node.exec(&["ip", "address", "add", &address, "dev", "eth0"])?;
    wait::until("the session to say so", SOON, || {
        Ok((session(&lab, node)?["announcer.io/addresses"] == OWN.to_string()).then_some(()))
    })?;
    lab.serve("own", OWN, json!({}))?;
    let judge = lab.cluster.judge(&[OWN])?;
    lab.wait_log(node, "a Service has a node's own address; nobody announces it", 1, SOON)?;
    lab.wait_for_agents()?;
    judge.wait_answer(OWN, SOON)?;
    let verdict = judge.finish()?;
    let answered: Vec<[u8; 6]> = verdict.owners(OWN).iter().map(|answer| answer.mac).collect();
    assert_eq!(answered, [node.mac()], "its stack answers, and nobody else: {}", verdict.summary());
    assert_eq!(lab.cluster.owner(OWN)?, None);
    wait::until("the event", SOON, || {
        let events = lab.cluster.api("GET", "/apis/events.k8s.io/v1/namespaces/default/events", None)?;
        let told = |event: &Value| event["reason"] == "addressOfNode" && event["regarding"]["name"] == "own";
        Ok(events["items"].as_array().into_iter().flatten().any(told).then_some(()))
    })?;
    let explained =
        owner.exec(&[&lab.program, "explain", "--kubeconfig", lab.kubeconfig(owner), &OWN.to_string()])?;
    ensure!(explained.contains(&format!("it is the own address of node {}", node.name())), "{explained}");

    node.exec(&["ip", "address", "del", &address, "dev", "eth0"])?;
    lab.cluster.wait_owner(OWN, None, PATIENCE)?;
    Ok(())
}

/// What the status of a Node says of its addresses, first ones first.
fn lists(lab: &Lab, node: &Node, addresses: &[IpAddr]) -> Result<()> {
    let address = |ip: &IpAddr| json!({"type": "InternalIP", "address": ip});
    let addresses: Value = addresses.iter().map(address).collect();
    lab.patch(&format!("/api/v1/nodes/{}/status", node.name()), &json!({"status": {"addresses": addresses}}))
}

fn session(lab: &Lab, node: &Node) -> Result<Value> {
    let path = format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/session-{}", node.name());
    let lease = lab.cluster.api("GET", &path, None)?;
    Ok(lease.pointer("/metadata/annotations").context("annotations")?.clone())
}

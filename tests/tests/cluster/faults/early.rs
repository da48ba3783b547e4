//! Nodes that no other hears on the wire are replaced while their leases are running; and whom that must not happen to.

use std::{net::IpAddr, time::Duration};

use announcer_tests::Node;
use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{JOINED, PATIENCE, SOON, STRICT, is_replaced, selectors::hostname};
use crate::{
    bare::{Lab, VIPS},
    watch::{DEADLINE, FAILOVER, HANDOVER, RENEWAL},
};

/// Much shorter than a lease, and much longer than it takes (`cargo xtask bench failover` measures that): four clusters share two
/// CPUs here.
const EARLY: Duration = Duration::from_secs(5);
const SUSPECTED: &str = "does not answer on the wire";

#[test]
fn a_dead_nodes_addresses_move_while_its_lease_is_running_and_it_takes_nothing_back_when_it_boots()
-> Result<()> {
    let lab = acquainted(4, &[])?;
    let watch = lab.watch(&VIPS)?;
    let old = watch.owner(VIPS[0])?;
    old.crash()?;
    lab.kill_agent(old)?;
    is_replaced(&lab, watch, old, "a node dies", EARLY, || {
        old.rejoin()?;
        lab.start_agent(old)
    })
    .map(drop)
}

#[test]
fn under_strict_a_node_that_dies_is_replaced_after_its_lease_and_not_before() -> Result<()> {
    let mut lab = Lab::start(4)?;
    lab.watch(&VIPS)?;
    lab.restart_with(&[STRICT])?;
    let watch = lab.watch(&VIPS)?;
    let old = watch.owner(VIPS[0])?;
    let died = watch.now();
    old.crash()?;
    lab.kill_agent(old)?;
    let new = watch.moved(VIPS[0], old, PATIENCE)?;
    let silent = watch.now() - died;
    // What was earned last may be as old as a renewal.
    ensure!(silent > DEADLINE - RENEWAL, "replaced after {silent:?}");
    watch.finish("strict: a node dies")?.moved(VIPS[0], &[old, new], FAILOVER);
    Ok(())
}

/// Its kernel is silent on the old interface, which it still announces others on, and rightly so.
#[test]
fn an_address_that_an_advertisement_takes_from_an_interface_gets_nobody_fenced() -> Result<()> {
    let lab = Lab::start(4)?;
    let nics: Vec<[u8; 6]> = lab.cluster.nodes().iter().map(Node::add_nic).collect::<Result<_>>()?;
    // A network without hosts.
    for node in lab.cluster.nodes() {
        node.exec(&["ip", "link", "add", "eth2", "up", "type", "veth", "peer", "name", "far2"])?;
        node.exec(&["ip", "link", "set", "far2", "up"])?;
    }
    let vips: [IpAddr; 2] = ["10.4.12.1".parse()?, "10.4.13.1".parse()?];
    let apply = |kind: &str, name: &str, spec: Value| {
        let metadata = json!({"name": name, "namespace": "metallb"});
        let object =
            json!({"apiVersion": "metallb.io/v1beta1", "kind": kind, "metadata": metadata, "spec": spec});
        lab.cluster.apply_yaml(&object.to_string())
    };
    // Two owners: one that owns both is still heard there.
    let advertise = |name: &str, interfaces: &[&str]| {
        let preferred = hostname(&lab.cluster.nodes()[usize::from(name == "leaves")]);
        let spec = json!({
            "ipAddressPools": [name],
            "interfaces": interfaces,
            "preferredNodeSelectors": [{"weight": 100, "preference": preferred}],
        });
        apply("L2Advertisement", name, spec)
    };
    lab.advertise(&json!({"ipAddressPools": ["primary"], "interfaces": ["eth0"]}))?;
    for (name, vip) in ["stays", "leaves"].into_iter().zip(vips) {
        apply("IPAddressPool", name, json!({"addresses": [format!("{vip}/32")]}))?;
        advertise(name, &["eth1", "eth2"])?;
        lab.serve(name, vip, json!({}))?;
    }
    let beside = lab.watch(&VIPS)?;
    let owners = beside.owners()?;
    let watch = lab.watch(&vips)?;
    // Its peers have heard it there.
    watch.go_on_for(Duration::from_secs(2));
    let [stays, leaves] = [watch.last_mac(vips[0])?, watch.last_mac(vips[1])?];
    assert_eq!([stays, leaves], [nics[0], nics[1]]);
    let owner = &lab.cluster.nodes()[1];
    advertise("leaves", &["eth2"])?;
    let narrowed = watch.now();
    watch.silent(vips[1], HANDOVER, SOON)?;
    watch.go_on_for(EARLY);
    let story = watch.finish("an address leaves an interface")?;
    story.had(vips[0], &[stays]);
    story.silent_from(vips[1], narrowed + HANDOVER);
    beside.finish("beside it")?.all_stayed(&owners);
    ensure!(!lab.log(owner)?.contains("fenced"), "{} was fenced", owner.name());
    Ok(())
}

/// A cluster in which each node has asked every other for what it owns: those are looked for within a second.
fn acquainted(nodes: usize, flags: &[&str]) -> Result<Lab> {
    let lab = Lab::start_with(nodes, flags)?;
    lab.watch(&VIPS)?.go_on_for(Duration::from_secs(2));
    Ok(lab)
}

/// Their ports hear the rest of the segment, and not each other.
fn isolate(lab: &Lab, nodes: &[&Node], isolated: bool) -> Result<()> {
    let state = if isolated { "on" } else { "off" };
    nodes.iter().try_for_each(|node| {
        let port = format!("p-{}", node.name());
        lab.cluster.switch().run(&["bridge", "link", "set", "dev", &port, "isolated", state]).map(drop)
    })
}

#[test]
fn a_node_that_one_other_hears_is_left_alone() -> Result<()> {
    let lab = acquainted(4, &[])?;
    let watch = lab.watch(&VIPS)?;
    let owners = watch.owners()?;
    let old = owners[0].1;
    let hears = lab.other_than(&[old])?;
    let deaf: Vec<&Node> = lab.cluster.nodes().iter().filter(|node| node.name() != hears.name()).collect();
    isolate(&lab, &deaf, true)?;
    for node in deaf.iter().filter(|node| node.name() != old.name()) {
        lab.wait_log(node, SUSPECTED, 1, SOON)?;
    }
    // Longer than any of them goes on suspecting.
    watch.go_on_for(Duration::from_secs(8));
    isolate(&lab, &deaf, false)?;
    lab.wait_for_agents()?;
    watch.finish("two of three others do not hear a node")?.all_stayed(&owners);
    Ok(())
}

/// What `node` says reaches clients, the gateway and the API server, and none of the other nodes.
fn mute_to_peers(lab: &Lab, node: &Node) -> Result<()> {
    let others = lab.cluster.nodes().iter().filter(|other| other.name() != node.name());
    let ports: Vec<String> = others.map(|other| format!("p-{}", other.name())).collect();
    let mac = node.mac().map(|byte| format!("{byte:02x}")).join(":");
    let rule = format!(
        "table bridge lab {{\nchain mute {{\ntype filter hook forward priority 0;\n\
         ether saddr {mac} oifname {{ {} }} drop\n}}\n}}\n",
        ports.join(", ")
    );
    lab.cluster.switch().run(&["nft", &rule]).map(drop)
}

#[test]
fn a_node_that_only_clients_hear_is_replaced_and_silent_as_soon_as_it_sees_that() -> Result<()> {
    let lab = acquainted(4, &[])?;
    let watch = lab.watch(&VIPS)?;
    let old = watch.owner(VIPS[0])?;
    mute_to_peers(&lab, old)?;
    let new = watch.moved(VIPS[0], old, EARLY)?;
    lab.cluster.switch().run(&["nft", "delete", "table", "bridge", "lab"])?;
    lab.wait_log(old, JOINED, 2, PATIENCE)?;
    lab.wait_for_agents()?;
    let story = watch.finish("no other node hears one")?;
    let both = story.answered_by_two(VIPS[0]);
    if let (Some(first), Some(last)) = (both.first(), both.last()) {
        println!("two answered for {:.1?}", *last - *first);
        assert!(*last - *first < HANDOVER, "until the old agent sees its fence: {:?}", *last - *first);
    }
    story.ended_with(VIPS[0], new);
    Ok(())
}

#[test]
fn a_node_that_is_itself_cut_off_suspects_nobody() -> Result<()> {
    let lab = acquainted(4, &[])?;
    let watch = lab.watch(&VIPS)?;
    let old = watch.owner(VIPS[0])?;
    old.cut_off()?;
    watch.moved(VIPS[0], old, EARLY)?;
    watch.go_on_for(Duration::from_secs(2));
    ensure!(!lab.log(old)?.contains(SUSPECTED), "it suspected others:\n{}", lab.log(old)?);
    old.reconnect()?;
    lab.wait_log(old, JOINED, 2, PATIENCE)?;
    ensure!(!lab.log(old)?.contains(SUSPECTED), "it suspected others:\n{}", lab.log(old)?);
    Ok(())
}

#[test]
fn of_two_nodes_the_survivor_replaces_the_other_with_the_gateway_as_its_witness() -> Result<()> {
    let lab = acquainted(2, &[])?;
    let watch = lab.watch(&VIPS)?;
    let old = watch.owner(VIPS[0])?;
    let new = lab.other_than(&[old])?;
    old.crash()?;
    lab.kill_agent(old)?;
    watch.answered_by(VIPS[0], new, EARLY)?;
    watch.finish("one of two nodes dies")?.moved(VIPS[0], &[old, new], EARLY);
    Ok(())
}

#[test]
fn of_two_nodes_that_lose_each_other_and_the_gateway_none_replaces_the_other_early() -> Result<()> {
    let lab = acquainted(2, &[])?;
    let watch = lab.watch(&VIPS)?;
    let owners = watch.owners()?;
    lab.cluster.switch().run(&["bridge", "link", "set", "dev", "p-router", "isolated", "on"])?;
    let all: Vec<&Node> = lab.cluster.nodes().iter().collect();
    isolate(&lab, &all, true)?;
    watch.go_on_for(Duration::from_secs(8));
    for node in &all {
        ensure!(!lab.log(node)?.contains(SUSPECTED), "{}:\n{}", node.name(), lab.log(node)?);
    }
    isolate(&lab, &all, false)?;
    lab.cluster.switch().run(&["bridge", "link", "set", "dev", "p-router", "isolated", "off"])?;
    watch.finish("two nodes hear neither each other nor the gateway")?.all_stayed(&owners);
    Ok(())
}

#[test]
fn under_takeover_an_owner_that_dies_while_the_api_server_is_stopped_is_replaced_for_good() -> Result<()> {
    let lab = acquainted(4, &["--on-api-loss=takeover"])?;
    let watch = lab.watch(&VIPS)?;
    let before = watch.owners()?;
    let old = before[0].1;
    lab.cluster.stop_part("kube-apiserver")?;
    watch.go_on_for(Duration::from_secs(8));
    old.crash()?;
    lab.kill_agent(old)?;
    let new = watch.moved(VIPS[0], old, PATIENCE)?;
    lab.wait_log(new, "while the API server is away", 1, SOON)?;
    watch.go_on_for(DEADLINE);
    lab.cluster.start_part("kube-apiserver")?;
    lab.cluster.wait_owner(VIPS[0], Some(old.name()), PATIENCE)?;
    let owned = lab.owner()?;
    ensure!(owned.name() == new.name(), "{} has the claim, {} took over", owned.name(), new.name());
    let story = watch.finish("takeover: a node dies while the API server is away")?;
    story.moved(VIPS[0], &[old, new], PATIENCE);
    for (vip, owner) in before.iter().filter(|(_, owner)| owner.name() != old.name()) {
        story.stayed(*vip, owner);
    }
    Ok(())
}

/// `ANNOUNCER_MINUTES=60 cargo test -p announcer-tests --test cluster an_hour -- --ignored --nocapture`, with `ANNOUNCER_PROGRAM`.
#[test]
#[ignore = "an hour, with every CPU busy"]
fn an_hour_of_a_loaded_lab_moves_nothing() -> Result<()> {
    let minutes = std::env::var("ANNOUNCER_MINUTES").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let lab = acquainted(4, &[])?;
    let watch = lab.watch(&VIPS)?;
    let owners = watch.owners()?;
    // The lowest priority that still takes every moment that nobody else wants, beside whatever else runs here.
    let loops = std::thread::available_parallelism()?;
    let mut busy = (0..2 * loops.get())
        .map(|_| {
            std::process::Command::new("nice").args(["-n", "5", "sh", "-c", "while :; do :; done"]).spawn()
        })
        .collect::<Result<Vec<_>, _>>()?;
    watch.go_on_for(Duration::from_secs(60 * minutes));
    for child in &mut busy {
        child.kill()?;
        child.wait()?;
    }
    let mut suspected = 0;
    for node in lab.cluster.nodes() {
        suspected += lab.log(node)?.matches(SUSPECTED).count();
        ensure!(!lab.log(node)?.contains("silent node fenced"), "{}:\n{}", node.name(), lab.log(node)?);
    }
    println!("{minutes} minutes: {suspected} suspicions, none agreed upon");
    let story = watch.finish("an hour of a loaded lab")?;
    owners.iter().for_each(|(vip, owner)| story.had(*vip, &[owner.mac()]));
    Ok(())
}

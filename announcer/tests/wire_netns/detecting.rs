//! The detector on real links: kernels answer, and stop answering.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use announcer::{
    vocabulary::Vip,
    wire::{
        detector::{Detection, Pace, Peer, Watching, Witness},
        hearing::Losses,
    },
};
use tokio::time::timeout;

use crate::lan::{Lan, PATIENCE, ip, ip_batch, small_optmem};

const PACE: Pace = Pace { interval: Duration::from_millis(50), misses: 3 };

fn vip(text: &str) -> Vip {
    text.parse().expect("an address")
}

/// What the detector of the node says when the client stops to answer for `owned`, which its kernel has as an address.
fn silent_when_it_goes(
    owned: &'static str,
    gateway: &'static str,
    bystander: &'static str,
) -> Option<Witness> {
    let lan = Lan::new();
    let prefix = if owned.contains(':') { 128 } else { 32 };
    lan.client.ip(&format!("addr add {owned}/{prefix} dev eth0 nodad"));
    if !gateway.is_empty() {
        lan.node.ip(&format!("route add default via {gateway} dev eth0"));
    }
    let link = lan.node.link("eth0");
    let asked = lan.client.start(move || {
        // The node's first question is answered before this.
        let captured = std::process::Command::new("timeout")
            .args(["5", "tcpdump", "-n", "-c", "3", "-i", "eth0", "src", "host", "0.0.0.0", "or", "icmp6"])
            .output();
        drop(captured);
        ip(&format!("addr del {owned}/{prefix} dev eth0"));
    });
    let silent = lan.node.run_async(move || async move {
        let detection = Detection::new(PACE, Losses::default());
        // One that was killed is as good as none.
        let killed = tokio::spawn(detection.run());
        killed.abort();
        killed.await.expect_err("it was killed");
        let _asking = tokio::spawn(detection.run());
        let peer = Peer { vips: vec![vip(owned)], doubted: false };
        let nodes: BTreeSet<Vip> = (!bystander.is_empty()).then(|| vip(bystander)).into_iter().collect();
        detection.watch(Watching {
            links: BTreeMap::from([(link.id, link.clone())]),
            peers: BTreeMap::from([((link.id, "peer".to_owned()), peer)]),
            nodes,
        });
        let mut silent = detection.silent();
        let news = timeout(PATIENCE / 2, silent.wait_for(|silent| !silent.is_empty())).await;
        news.ok().map(|silent| silent.expect("a detector")[&(link.id, "peer".to_owned())])
    });
    asked.wait();
    silent
}

#[test]
fn a_peer_whose_kernel_stops_answering_is_silent_and_the_gateway_is_the_witness() {
    assert_eq!(silent_when_it_goes("10.4.0.77", "10.4.0.2", ""), Some(Witness::Gateway));
}

#[test]
fn another_nodes_own_address_is_a_witness() {
    assert_eq!(silent_when_it_goes("10.4.0.77", "", "10.4.0.2"), Some(Witness::Peer));
}

#[test]
fn without_a_witness_nobody_is_silent() {
    assert_eq!(silent_when_it_goes("10.4.0.77", "", ""), None);
}

#[test]
fn by_ipv6_a_peer_is_asked_by_neighbour_solicitations() {
    assert_eq!(silent_when_it_goes("fd00:4::77", "", "fd00:4::2"), Some(Witness::Peer));
}

#[test]
fn of_two_hundred_addresses_on_a_link_the_one_that_falls_silent_is_found() {
    let lan = Lan::new();
    let owned: Vec<Vip> =
        (1..=100).flat_map(|n| [vip(&format!("10.4.13.{n}")), vip(&format!("fd00:4::d:{n:x}"))]).collect();
    let address = |vip: &Vip| format!("{vip}/{} dev eth0", if vip.ip().is_ipv4() { 32 } else { 128 });
    let nodad = |vip: &Vip| if vip.ip().is_ipv4() { "" } else { " nodad" };
    let all: String = owned.iter().map(|vip| format!("addr add {}{}\n", address(vip), nodad(vip))).collect();
    let one = format!("addr del {}\n", address(&owned[150]));
    lan.client.run(move || ip_batch(&all));
    let (link, client) = (lan.node.link("eth0"), &lan.client);
    let (heard_all, all_heard) = std::sync::mpsc::channel();
    let silent = lan.node.start_async(move || async move {
        small_optmem();
        let detection = Detection::new(PACE, Losses::default());
        tokio::spawn(detection.run());
        let peer = |(n, vip): (usize, &Vip)| {
            ((link.id, format!("peer{n}")), Peer { vips: vec![*vip], doubted: false })
        };
        detection.watch(Watching {
            links: BTreeMap::from([(link.id, link.clone())]),
            peers: owned.iter().enumerate().map(peer).collect(),
            nodes: BTreeSet::new(),
        });
        let mut silent = detection.silent();
        // Whoever has not answered once is never silent: each is asked several times before one goes.
        let early = timeout(PACE.worst() * 4, silent.wait_for(|silent| !silent.is_empty())).await.is_ok();
        assert!(!early, "{:?}", silent.borrow());
        heard_all.send(()).expect("a waiter");
        let news = timeout(PATIENCE / 2, silent.wait_for(|silent| !silent.is_empty())).await;
        news.expect("in time").expect("a detector").keys().map(|(_, peer)| peer.clone()).collect::<Vec<_>>()
    });
    all_heard.recv_timeout(PATIENCE).expect("all heard");
    client.run(move || ip_batch(&one));
    assert_eq!(silent.wait(), ["peer150"]);
}

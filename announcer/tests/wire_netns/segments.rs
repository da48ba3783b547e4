//! Two NICs of one node, on one LAN or on two.

use std::collections::BTreeSet;

use announcer::{
    vocabulary::LinkId,
    wire::segments::{SegmentWatch, Segments, Watched},
};

use crate::lan::{Namespace, PATIENCE};

/// A node whose `eth0` and `eth1` end at ports of these bridges.
fn node_on(bridges: [&str; 2]) -> (Namespace, Namespace) {
    let (node, switch) = (Namespace::new(), Namespace::new());
    for bridge in ["lan", "other"] {
        switch.ip(&format!("link add {bridge} type bridge"));
        switch.ip(&format!("link set {bridge} up"));
    }
    for (n, bridge) in bridges.into_iter().enumerate() {
        let far = format!("peer name port{n} netns {}", switch.tid());
        node.ip(&format!("link add eth{n} address 02:00:0a:04:01:0{n} type veth {far}"));
        node.ip(&format!("link set eth{n} up"));
        switch.ip(&format!("link set port{n} master {bridge} up"));
    }
    (node, switch)
}

/// What is known of both once they have listened.
fn found(node: &Namespace) -> (Segments, [LinkId; 2]) {
    let links = [node.link("eth0"), node.link("eth1")];
    let ids = [links[0].id, links[1].id];
    let watched: Watched = links.into_iter().map(|link| (link.id, link)).collect();
    let found = node.run_async(move || async move {
        let watch = SegmentWatch::new(BTreeSet::new());
        tokio::spawn(watch.run());
        watch.watch(watched);
        let mut found = watch.found();
        let known = found.wait_for(|found| found.known.len() == 2);
        tokio::time::timeout(PATIENCE / 2, known).await.expect("in time").expect("a watch").clone()
    });
    (found, ids)
}

#[test]
fn two_nics_on_one_lan_hear_each_other() {
    let (node, _switch) = node_on(["lan", "lan"]);
    let (found, [eth0, eth1]) = found(&node);
    assert_eq!(found.shared, [(eth0, eth1)].into());
}

#[test]
fn two_nics_on_two_lans_do_not() {
    let (node, _switch) = node_on(["lan", "other"]);
    assert_eq!(found(&node).0.shared, [].into());
}

#[test]
fn nobody_answers_a_marker_or_learns_from_it() {
    let (node, switch) = node_on(["lan", "lan"]);
    let host = Namespace::new();
    switch.ip(&format!("link add port2 type veth peer name eth0 netns {}", host.tid()));
    switch.ip("link set port2 master lan up");
    host.ip("addr add 10.4.0.9/20 dev eth0");
    host.ip("link set eth0 up");
    let (found, _) = found(&node);
    assert_eq!(found.shared.len(), 1);
    assert_eq!(host.ip("-4 neigh show"), "");
}

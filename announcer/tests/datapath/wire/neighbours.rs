//! The Linux neighbour table of a client: how it learns, refreshes and defends.

use std::time::Duration;

use crate::support::{
    bench::{VIP4, VIP6},
    rig::Rig,
    sh, sysctl, wait_for,
};

in_every_mode!(
    a_client_learns_the_vips_and_where_the_stack_is,
    a_client_refreshes_by_unicast_alone,
    a_client_that_takes_the_vip_finds_a_duplicate,
);

fn a_client_learns_the_vips_and_where_the_stack_is(rig: Rig) {
    for address in [VIP4, VIP6, "10.9.0.1", "fd00:9::1"] {
        let entry = rig.resolve(address);
        assert!(entry.contains(&format!("lladdr {}", rig.left.mac)), "{entry}");
    }
}

fn a_client_refreshes_by_unicast_alone(rig: Rig) {
    let (left, right) = (rig.left.mac, rig.right.mac);
    for (address, question) in [(VIP4, "Request who-has"), (VIP6, "neighbor solicitation")] {
        rig.resolve(address);
        let before = rig.count(address);
        let mut tcpdump = rig.tcpdump();
        rig.probe(address);
        rig.neighbour(address, "REACHABLE");
        let seen = rig.settled(&mut tcpdump);
        let questions: Vec<_> =
            seen.lines().filter(|line| line.contains(question) && line.contains(address)).collect();
        assert!(!questions.is_empty(), "{address}: {seen}");
        let unicast = format!("{right} > {left}, ");
        assert!(questions.iter().all(|line| line.starts_with(&unicast)), "{address}: {seen}");
        assert_eq!(rig.count(address).replies - before.replies, questions.len() as u64, "{seen}");
    }
}

fn a_client_that_takes_the_vip_finds_a_duplicate(rig: Rig) {
    let mut tcpdump = rig.tcpdump();
    rig.lab.client.run(|| {
        sysctl("net/ipv6/conf/right/accept_dad", "1");
        sysctl("net/ipv6/conf/right/router_solicitation_delay", "0");
        sh(&format!("ip addr add {VIP6}/128 dev right"));
        wait_for(Duration::from_secs(5), "dadfailed", || {
            let address = sh(&format!("ip -6 addr show dev right to {VIP6}"));
            if address.contains("dadfailed") { Ok(()) } else { Err(address) }
        });
    });
    let seen = tcpdump.until(&Rig::target_option(rig.left.mac));
    let probe = seen.lines().find(|line| line.contains(&format!("who has {VIP6}"))).expect("a probe");
    assert!(probe.contains(":: > ff02::1:ff00:100:"), "{probe}");
    let defence = seen.lines().find(|line| line.contains("neighbor advertisement")).expect("a defence");
    assert!(defence.starts_with(&format!("{} > 33:33:00:00:00:01,", rig.left.mac)), "{defence}");
    assert!(
        defence.contains(&format!("{VIP6} > ff02::1:")) && defence.contains("Flags [override]"),
        "{defence}"
    );
}

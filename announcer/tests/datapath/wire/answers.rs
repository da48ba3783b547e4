//! Who asks is answered: tools that send requests of their own, and frames of every lawful form.

use crate::support::{
    bench::{VIP4, VIP6},
    frames::{Arp, Ndp},
    rig::Rig,
};

in_every_mode!(
    arping_is_answered_by_broadcast_and_by_unicast,
    arping_d_finds_the_duplicate,
    ndisc6_is_answered,
    every_lawful_form_is_answered,
);

fn arping_is_answered_by_broadcast_and_by_unicast(rig: Rig) {
    let mut tcpdump = rig.tcpdump();
    let said = rig.client(&format!("arping -c 2 -w 3 -I right {VIP4}"));
    let mac = rig.left.mac.to_string();
    assert_eq!(said.to_lowercase().matches(&mac).count(), 2, "{said}");
    assert!(
        said.contains("(1 broadcast(s))"),
        "the second went to the address that the first had found: {said}"
    );
    let seen = tcpdump.until(&rig.is_at(VIP4)) + &tcpdump.until(&rig.is_at(VIP4));
    assert!(seen.contains(&format!("{} > {mac}, ethertype ARP", rig.right.mac)), "{seen}");
    assert_eq!(rig.count(VIP4).replies, 2);
}

fn arping_d_finds_the_duplicate(rig: Rig) {
    let (free, said) = rig.try_client(&format!("arping -D -c 2 -w 2 -I right {VIP4}"));
    assert!(!free && said.to_lowercase().contains(&rig.left.mac.to_string()), "{said}");
}

fn ndisc6_is_answered(rig: Rig) {
    let mut tcpdump = rig.tcpdump();
    let said = rig.client(&format!("ndisc6 -q -r 1 -w 1000 {VIP6} right"));
    assert_eq!(said.trim().to_lowercase(), rig.left.mac.to_string());
    let seen = tcpdump.until(&Rig::target_option(rig.left.mac));
    let advertisement = seen.lines().find(|line| line.contains("neighbor advertisement")).expect("told");
    for wanted in ["hlim 255", "[icmp6 sum ok]", "Flags [solicited, override]", &format!("tgt is {VIP6}")] {
        assert!(advertisement.contains(wanted), "{wanted} in {advertisement}");
    }
    // What is not ours still reaches the stack.
    rig.client("ndisc6 -q -r 1 -w 1000 fd00:9::1 right");
}

fn every_lawful_form_is_answered(rig: Rig) {
    let (own, client) = (rig.left.mac, rig.right.mac.0);
    let arp = Arp { from: client, sender_mac: client, ..Arp::request(VIP4) };
    let probe = Arp { sender: "0.0.0.0", ..arp.clone() };
    let ndp = Ndp {
        from: client,
        options: crate::support::frames::link_layer(1, client),
        ..Ndp::solicitation(VIP6)
    };
    let without = Ndp { options: Vec::new(), ..ndp.clone() };
    let unicast = |ndp: &Ndp| Ndp { to: own.0, destination: VIP6.to_owned(), ..ndp.clone() };
    let advertised = Rig::target_option(own);
    let mut tcpdump = rig.tcpdump();
    for (what, frame, answer) in [
        ("ARP probe", probe.bytes(), rig.is_at(VIP4)),
        ("ARP request to our address", Arp { to: own.0, ..arp }.bytes(), rig.is_at(VIP4)),
        ("ARP probe to our address", Arp { to: own.0, ..probe }.bytes(), rig.is_at(VIP4)),
        ("multicast NS with option", ndp.bytes(), advertised.clone()),
        ("multicast NS without option", without.bytes(), advertised.clone()),
        ("unicast NS with option", unicast(&ndp).bytes(), advertised.clone()),
        ("unicast NS without option", unicast(&without).bytes(), advertised.clone()),
    ] {
        rig.send([frame]);
        let seen = tcpdump.until(&answer);
        assert!(seen.contains(&format!("{own} > {}, ethertype", rig.right.mac)), "{what}: {seen}");
        assert!(!seen.contains("cksum") && !seen.contains("bad"), "{what}: {seen}");
    }
}

//! Who must not be answered is not: no frame comes back, and the stack gets what is none of ours.

use crate::support::{
    bench::{OTHER4, OTHER6, VIP4, VIP6},
    frames::{Arp, Ndp},
    ip, odd,
    rig::Rig,
    sysctl,
};

in_every_mode!(
    malformed_solicitations_are_counted_and_not_answered,
    what_is_no_request_for_us_is_not_answered,
    a_frame_cut_at_any_length_is_not_answered,
    a_vip_owned_elsewhere_is_silent_although_the_stack_has_it,
);

/// No word of a VIP in what tcpdump saw.
fn nothing_answered(what: &str, seen: &str) {
    let advertised = |line: &&str| line.contains("neighbor advertisement") && line.contains(VIP6);
    let replied = format!("Reply {VIP4} is-at");
    let answer = seen.lines().find(|line| advertised(line) || line.contains(&replied));
    assert_eq!(answer, None, "{what}:\n{seen}");
}

fn malformed_solicitations_are_counted_and_not_answered(rig: Rig) {
    let mut tcpdump = rig.tcpdump();
    let malformed = || rig.datapath.node_counters().expect("counters").malformed;
    for (what, frame) in odd::malformed_solicitations() {
        let before = malformed();
        nothing_answered(what, &rig.answer_to(&mut tcpdump, frame));
        assert_eq!(malformed() - before, 1, "{what}");
    }
    assert_eq!(rig.count(VIP6).requests, 0);
}

fn what_is_no_request_for_us_is_not_answered(rig: Rig) {
    let mut tcpdump = rig.tcpdump();
    for (what, frame) in odd::other_arp(rig.left.mac.0).into_iter().chain(odd::other_ipv6(rig.left.mac.0)) {
        nothing_answered(what, &rig.answer_to(&mut tcpdump, frame));
    }
    assert_eq!((rig.count(VIP4).requests, rig.count(VIP6).requests), (0, 0));
    rig.send([Arp::request(VIP4).bytes()]);
    tcpdump.until(&rig.is_at(VIP4));
}

fn a_frame_cut_at_any_length_is_not_answered(rig: Rig) {
    let mut tcpdump = rig.tcpdump();
    rig.send(odd::truncated());
    nothing_answered("truncated", &rig.settled(&mut tcpdump));
    assert_eq!((rig.count(VIP4).requests, rig.count(VIP6).requests), (0, 0));
    rig.send([Ndp::solicitation(VIP6).bytes()]);
    tcpdump.until(&Rig::target_option(rig.left.mac));
}

fn a_vip_owned_elsewhere_is_silent_although_the_stack_has_it(mut rig: Rig) {
    sysctl("net/ipv4/conf/all/arp_ignore", "0");
    sysctl("net/ipv4/conf/left/arp_ignore", "0");
    ip(&format!("addr add {OTHER4}/32 dev lo"));
    ip(&format!("addr add {OTHER6}/128 dev left nodad"));
    let frames = || [Arp::request(OTHER4).bytes(), Ndp::solicitation(OTHER6).bytes()];
    let (arp, ndp) = (format!("Reply {OTHER4} is-at"), format!("tgt is {OTHER6}"));
    let mut tcpdump = rig.tcpdump();

    rig.send(frames());
    let seen = rig.settled(&mut tcpdump);
    assert!(!seen.contains(&arp) && !seen.contains(&ndp), "{seen}");
    for address in [OTHER4, OTHER6] {
        let count = rig.count(address);
        assert_eq!((count.requests, count.replies, count.suppressed), (1, 0, 1), "{address}");
    }

    rig.own(&[VIP4, VIP6], &[]);
    let [request, solicitation] = frames();
    rig.send([request]);
    tcpdump.until(&arp);
    rig.send([solicitation]);
    tcpdump.until(&ndp);
}

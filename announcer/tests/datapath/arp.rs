//! ARP: every row of the frame table, whole frames in and out, both programs.

use crate::support::{
    bench::{Bench, VIP4},
    frames::{Arp, STRANGER, arp_reply, padded},
    odd,
    programs::Said::{Answer, Pass},
};
use announcer::vocabulary::BootNs;

#[test]
fn a_broadcast_arp_request_is_answered_whole() {
    let bench = Bench::new();
    let request = Arp::request(VIP4);
    assert_eq!(bench.said(&request.bytes()), Answer(arp_reply(&request, bench.mac())));
    assert_eq!(bench.said(&padded(request.bytes())), Answer(padded(arp_reply(&request, bench.mac()))));
    let count = bench.count(VIP4);
    assert_eq!((count.requests, count.replies), (4, 4), "two frames, two programs");
    assert!(count.last_seen_boot_ns > 0 && count.last_seen_boot_ns < BootNs::now().0);
}

#[test]
fn a_unicast_arp_request_to_our_mac_is_answered_and_to_another_is_passed() {
    let bench = Bench::new();
    let refresh = Arp { to: bench.mac(), target_mac: bench.mac(), ..Arp::request(VIP4) };
    assert_eq!(bench.said(&refresh.bytes()), Answer(arp_reply(&refresh, bench.mac())));
    assert_eq!(bench.said(&Arp { to: STRANGER, ..refresh.clone() }.bytes()), Pass);
    assert_eq!(bench.said(&Arp { to: [1, 0, 0x5e, 0, 0, 1], ..refresh }.bytes()), Pass);
}

#[test]
fn an_rfc_5227_probe_is_answered() {
    let bench = Bench::new();
    let probe = Arp { sender: "0.0.0.0", ..Arp::request(VIP4) };
    for probe in [probe.clone(), Arp { to: bench.mac(), ..probe }] {
        assert_eq!(bench.said(&probe.bytes()), Answer(arp_reply(&probe, bench.mac())));
    }
}

#[test]
fn the_answer_goes_to_the_sender_hardware_address() {
    let bench = Bench::new();
    let relayed = Arp { from: STRANGER, ..Arp::request(VIP4) };
    assert_eq!(bench.said(&relayed.bytes()), Answer(arp_reply(&relayed, bench.mac())));
}

#[test]
fn arp_that_is_not_a_plain_request_is_passed() {
    let bench = Bench::new();
    for (what, frame) in odd::other_arp(bench.mac()) {
        assert_eq!(bench.said(&frame), Pass, "{what}");
    }
    assert_eq!(bench.count(VIP4).requests, 0);
}

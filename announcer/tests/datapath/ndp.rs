//! Neighbour Discovery: every row of the frame table, whole frames in and out, both programs.

use crate::support::{
    bench::{Bench, VIP6},
    frames::{CLIENT, Ndp, STRANGER, advertised, link_layer},
    odd,
    programs::Said::{Answer, Pass},
};

#[test]
fn a_solicitation_is_answered_whole() {
    let bench = Bench::new();
    let request = Ndp::solicitation(VIP6);
    assert_eq!(bench.said(&request.bytes()), Answer(advertised(&request, bench.mac(), CLIENT)));
    let count = bench.count(VIP6);
    assert_eq!((count.requests, count.replies), (2, 2), "one frame, two programs");
}

#[test]
fn with_and_without_link_layer_option_by_multicast_and_by_unicast_the_answer_is_the_same() {
    let bench = Bench::new();
    let multicast = Ndp::solicitation(VIP6);
    let unicast = Ndp { to: bench.mac(), destination: VIP6.to_owned(), ..multicast.clone() };
    for with in [multicast, unicast] {
        let without = Ndp { options: Vec::new(), ..with.clone() };
        for request in [with, without] {
            let answer = Answer(advertised(&request, bench.mac(), CLIENT));
            assert_eq!(bench.said(&request.bytes()), answer, "{request:?}");
        }
    }
}

#[test]
fn the_link_layer_option_is_where_the_advertisement_goes() {
    let bench = Bench::new();
    let relayed = Ndp { from: STRANGER, ..Ndp::solicitation(VIP6) };
    assert_eq!(bench.said(&relayed.bytes()), Answer(advertised(&relayed, bench.mac(), CLIENT)));
}

#[test]
fn unknown_options_are_skipped() {
    let bench = Bench::new();
    let nonce = vec![14, 1, 1, 2, 3, 4, 5, 6];
    let long = [&[200, 3][..], &[0x5a; 22]].concat();
    let options = [long, nonce, link_layer(1, CLIENT)].concat();
    let request = Ndp { options, ..Ndp::solicitation(VIP6) };
    assert_eq!(bench.said(&request.bytes()), Answer(advertised(&request, bench.mac(), CLIENT)));
}

#[test]
fn duplicate_address_detection_is_answered_to_all_nodes() {
    let bench = Bench::new();
    let probe = Ndp { source: "::".to_owned(), options: Vec::new(), ..Ndp::solicitation(VIP6) };
    let all_nodes = [0x33, 0x33, 0, 0, 0, 1];
    assert_eq!(bench.said(&probe.bytes()), Answer(advertised(&probe, bench.mac(), all_nodes)));
}

#[test]
fn a_malformed_solicitation_is_passed_untouched_and_counted() {
    let bench = Bench::new();
    let malformed = || bench.datapath.node_counters().expect("counters").malformed;
    for (what, frame) in odd::malformed_solicitations() {
        let before = malformed();
        assert_eq!(bench.said(&frame), Pass, "{what}");
        assert_eq!(malformed() - before, 2, "{what}: each program counts it");
    }
    assert_eq!(bench.count(VIP6).requests, 0);
}

#[test]
fn ipv6_that_is_no_solicitation_for_us_is_passed() {
    let bench = Bench::new();
    for (what, frame) in odd::other_ipv6(bench.mac()) {
        assert_eq!(bench.said(&frame), Pass, "{what}");
    }
    assert_eq!(bench.count(VIP6).requests, 0);
    assert_eq!(bench.datapath.node_counters().expect("counters").malformed, 0);
}

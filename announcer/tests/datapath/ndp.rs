//! Neighbour Discovery: every row of the frame table, whole frames in and out, both programs.

use crate::support::{
    bench::{Bench, VIP6},
    frames::{CLIENT, Ndp, STRANGER, advertised, link_layer},
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
fn a_unicast_solicitation_without_link_layer_option_is_answered_to_the_ethernet_source() {
    let bench = Bench::new();
    let destination = VIP6.to_owned();
    let refresh = Ndp { to: bench.mac(), destination, options: Vec::new(), ..Ndp::solicitation(VIP6) };
    assert_eq!(bench.said(&refresh.bytes()), Answer(advertised(&refresh, bench.mac(), CLIENT)));
    assert_eq!(bench.said(&Ndp { to: STRANGER, ..refresh }.bytes()), Pass);
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
    let request = Ndp::solicitation(VIP6);
    let unspecified = || "::".to_owned();
    let mut bad_sum = request.bytes();
    bad_sum[57] ^= 1;
    let cut = request.bytes()[..80].to_vec();
    let bad = [
        ("hop limit", Ndp { hop_limit: 254, ..request.clone() }.bytes()),
        ("code", Ndp { code: 1, ..request.clone() }.bytes()),
        ("checksum", bad_sum),
        ("cut", cut),
        ("option length 0", Ndp { options: vec![1, 0, 2, 0, 0, 0, 0, 1], ..request.clone() }.bytes()),
        ("option beyond the end", Ndp { options: vec![1, 2, 2, 0, 0, 0, 0, 1], ..request.clone() }.bytes()),
        ("half an option", Ndp { options: vec![1, 1, 2, 0], ..request.clone() }.bytes()),
        ("multicast target", Ndp { target: "ff02::100".to_owned(), ..request.clone() }.bytes()),
        ("probe with option", Ndp { source: unspecified(), ..request.clone() }.bytes()),
        (
            "probe to a unicast address",
            Ndp { source: unspecified(), options: vec![], destination: VIP6.to_owned(), ..request.clone() }
                .bytes(),
        ),
    ];
    let before = bench.datapath.node_counters().expect("counters").malformed;
    for (what, frame) in &bad {
        assert_eq!(bench.said(frame), Pass, "{what}");
    }
    let after = bench.datapath.node_counters().expect("counters").malformed;
    assert_eq!(after - before, 2 * bad.len() as u64);
    assert_eq!(bench.count(VIP6).requests, 0);
}

#[test]
fn ipv6_that_is_not_neighbour_discovery_at_once_is_passed() {
    let bench = Bench::new();
    let request = Ndp::solicitation(VIP6).bytes();
    let mut hop_by_hop = [&request[..54], &[58, 0, 5, 2, 0, 0, 1, 0], &request[54..]].concat();
    hop_by_hop[20] = 0;
    let mut fragment = [&request[..54], &[58, 0, 0, 0, 0, 0, 0, 1], &request[54..]].concat();
    fragment[20] = 44;
    let mut echo = request.clone();
    echo[54] = 128;
    let mut udp = request.clone();
    udp[20] = 17;
    let from_group = Ndp { source: "ff02::2".to_owned(), ..Ndp::solicitation(VIP6) }.bytes();
    let unknown = Ndp::solicitation("fd00:9::102").bytes();
    let own = Ndp { from: bench.mac(), ..Ndp::solicitation(VIP6) }.bytes();
    for frame in [hop_by_hop, fragment, echo, udp, from_group, unknown, own] {
        assert_eq!(bench.said(&frame), Pass);
    }
    assert_eq!(bench.count(VIP6).requests, 0);
}

//! The live programs, XDP and TCX, on whole frames: every row of the frame table, for both families. Needs root.

mod support;

use std::time::Duration;

use announcer::{
    datapath::{Claim, ConflictSeen, Counters, Datapath, Mode},
    vocabulary::{BootNs, Link, Mac},
};
use support::{
    Lab, begin,
    frames::{Arp, BROADCAST, CLIENT, Ndp, STRANGER, advertised, arp_reply, link_layer, padded, tagged},
    link, owning, pin_root,
    programs::{
        Live,
        Said::{Answer, Drop, Pass},
    },
    vip,
};

const VIP4: &str = "10.9.0.100";
const VIP6: &str = "fd00:9::100";
const OTHER4: &str = "10.9.0.101";
const OTHER6: &str = "fd00:9::101";

/// VIP4 and VIP6 owned, OTHER4 and OTHER6 elsewhere.
struct Bench {
    datapath: Datapath,
    left: Link,
    live: Live,
    _lab: Lab,
}

impl Bench {
    fn new() -> Self {
        let lab = Lab::new();
        let (mut datapath, left) = lab.answering(Mode::Tcx, &[VIP4, VIP6]);
        let mut owners = owning(&[VIP4, VIP6], &[left.id]);
        owners.vips.extend(owning(&[OTHER4, OTHER6], &[]).vips);
        datapath.apply(&owners).expect("applied");
        let live = Live::open(&pin_root());
        Self { datapath, left, live, _lab: lab }
    }

    fn said(&self, frame: &[u8]) -> support::programs::Said {
        self.live.both(self.left.id.0, frame)
    }

    fn mac(&self) -> [u8; 6] {
        self.left.mac.0
    }

    fn count(&self, text: &str) -> Counters {
        self.datapath.counters().expect("counters")[&(vip(text), self.left.id)]
    }
}

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
    assert_eq!(bench.said(&probe.bytes()), Answer(arp_reply(&probe, bench.mac())));
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
    let request = Arp::request(VIP4);
    let with = |offset: usize, bytes: &[u8]| {
        let mut frame = request.bytes();
        frame[offset..offset + bytes.len()].copy_from_slice(bytes);
        frame
    };
    for (what, frame) in [
        ("reply", Arp { opcode: 2, ..request.clone() }.bytes()),
        ("reverse request", Arp { opcode: 3, ..request.clone() }.bytes()),
        ("hardware type", with(14, &[0, 6])),
        ("protocol type", with(16, &[0x86, 0xdd])),
        ("hardware length", with(18, &[8])),
        ("protocol length", with(19, &[16])),
        ("group source", Arp { from: [3, 0, 0, 0, 0, 1], ..request.clone() }.bytes()),
        ("group sender", Arp { sender_mac: BROADCAST, ..request.clone() }.bytes()),
        ("no sender", Arp { sender_mac: [0; 6], ..request.clone() }.bytes()),
        ("ours", Arp { from: bench.mac(), sender_mac: bench.mac(), ..request.clone() }.bytes()),
        ("unknown", Arp::request("10.9.0.102").bytes()),
    ] {
        assert_eq!(bench.said(&frame), Pass, "{what}");
    }
    assert_eq!(bench.count(VIP4).requests, 0);
}

#[test]
fn a_truncated_frame_is_passed_at_every_length() {
    let bench = Bench::new();
    // The kernel refuses to run a classifier on a bare Ethernet header, or on less than an IP header.
    for (whole, classified) in [(Arp::request(VIP4).bytes(), 15), (Ndp::solicitation(VIP6).bytes(), 54)] {
        for length in 14..whole.len() {
            assert_eq!(bench.live.xdp(bench.left.id.0, &whole[..length]), Pass, "{length} bytes");
        }
        for length in classified..whole.len() {
            assert_eq!(bench.live.tcx(bench.left.id.0, &whole[..length]), Pass, "{length} bytes");
        }
    }
}

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
            Ndp { source: unspecified(), options: vec![], destination: VIP6.to_owned(), ..request.clone() }.bytes(),
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

#[test]
fn a_vip_owned_elsewhere_is_dropped_and_counted() {
    let bench = Bench::new();
    assert_eq!(bench.said(&Arp::request(OTHER4).bytes()), Drop);
    assert_eq!(bench.said(&Ndp::solicitation(OTHER6).bytes()), Drop);
    for text in [OTHER4, OTHER6] {
        let count = bench.count(text);
        assert_eq!((count.requests, count.replies, count.suppressed), (2, 0, 2));
    }
}

#[test]
fn a_passed_deadline_silences_at_once_and_is_counted() {
    let mut bench = Bench::new();
    bench.datapath.set_deadline(BootNs::now()).expect("a deadline");
    assert_eq!(bench.said(&Arp::request(VIP4).bytes()), Drop);
    assert_eq!(bench.said(&Ndp::solicitation(VIP6).bytes()), Drop);
    assert_eq!(bench.count(VIP4).fenced, 2);
    bench.datapath.set_deadline(BootNs::now() + Duration::from_secs(60)).expect("a deadline");
    assert!(matches!(bench.said(&Arp::request(VIP4).bytes()), Answer(_)));
}

#[test]
fn entries_of_another_epoch_are_not_answered() {
    let mut bench = Bench::new();
    begin(&mut bench.datapath, 2);
    assert_eq!(bench.said(&Arp::request(VIP4).bytes()), Drop);
    assert_eq!(bench.count(VIP4).suppressed, 2, "a new session begins with nothing owned");
    assert!(!bench.datapath.entry_live(vip(VIP4), bench.left.id));
    bench.datapath.apply(&owning(&[VIP4], &[bench.left.id])).expect("applied");
    assert!(bench.datapath.entry_live(vip(VIP4), bench.left.id));
    assert!(matches!(bench.said(&Arp::request(VIP4).bytes()), Answer(_)));
}

#[test]
fn a_tagged_request_is_answered_with_its_tag_only_where_the_vlan_is_announced() {
    let lab = Lab::new();
    // This kernel may have no 802.1Q devices; to the program the tag's link is a number and a hardware address.
    support::ip("link add left.5 type bridge");
    support::ip("link set left.5 up");
    let left = link("left");
    let vlan = Link { vlan: Some((left.id, 5)), ..link("left.5") };
    let mut datapath = Datapath::open(Lab::config(Mode::Tcx)).expect("a datapath");
    datapath.establish(&[left.clone(), vlan.clone()]).expect("established");
    begin(&mut datapath, 1);
    datapath.apply(&owning(&[VIP4, VIP6], &[vlan.id])).expect("applied");
    let live = Live::open(&pin_root());
    let (arp, ndp) = (Arp::request(VIP4), Ndp::solicitation(VIP6));
    let said = |frame: &[u8]| live.both(left.id.0, frame);
    assert_eq!(said(&tagged(&arp.bytes(), 5)), Answer(tagged(&arp_reply(&arp, vlan.mac.0), 5)));
    assert_eq!(said(&tagged(&ndp.bytes(), 5)), Answer(tagged(&advertised(&ndp, vlan.mac.0, CLIENT), 5)));
    assert_eq!(said(&arp.bytes()), Drop, "on the untagged link it is owned elsewhere");
    assert_eq!(said(&tagged(&arp.bytes(), 6)), Pass);
    assert_eq!(said(&tagged(&tagged(&arp.bytes(), 5), 5)), Pass);
    drop(lab);
}

#[test]
fn a_foreign_claim_of_an_owned_vip_is_reported_and_passed() {
    let mut bench = Bench::new();
    let mut reader = bench.datapath.events().expect("a ring").expect("the first time");
    let foreign = Arp { from: STRANGER, sender_mac: STRANGER, sender: VIP4, ..Arp::request(VIP4) };
    let frames = [
        (foreign.bytes(), VIP4, Claim::ArpRequest),
        (Arp { opcode: 2, ..foreign.clone() }.bytes(), VIP4, Claim::ArpReply),
        (Arp { target: "10.9.0.7", ..foreign.clone() }.bytes(), VIP4, Claim::ArpRequest),
        (Ndp::advertisement(VIP6, STRANGER).bytes(), VIP6, Claim::NeighbourAdvertisement),
    ];
    for (frame, text, claim) in frames {
        assert_eq!(bench.said(&frame), Pass);
        let seen = reader.drain();
        assert_eq!(seen.len(), 2, "each program reports it");
        for conflict in seen {
            let ConflictSeen { at, link, vip: of, mac, claim: how } = conflict;
            assert_eq!((link, of, mac, how), (bench.left.id, vip(text), Mac(STRANGER), claim));
            assert!(at <= BootNs::now());
        }
    }
    assert_eq!(bench.count(VIP4).conflicts, 6);
    assert_eq!(bench.count(VIP4).requests, 0, "a conflict is no request");
}

#[test]
fn our_own_announcement_heard_again_is_no_conflict() {
    let mut bench = Bench::new();
    let mut reader = bench.datapath.events().expect("a ring").expect("the first time");
    let own = Arp { from: bench.mac(), sender_mac: bench.mac(), sender: VIP4, ..Arp::request(VIP4) };
    assert_eq!(bench.said(&own.bytes()), Pass);
    assert_eq!(bench.said(&Ndp::advertisement(VIP6, bench.mac()).bytes()), Pass);
    let foreign_elsewhere = Arp { sender_mac: STRANGER, sender: OTHER4, ..Arp::request("10.9.0.7") };
    assert_eq!(bench.said(&foreign_elsewhere.bytes()), Pass);
    assert_eq!(reader.drain(), []);
}

#[test]
fn a_full_ring_loses_events_and_counts_them() {
    let mut bench = Bench::new();
    let mut reader = bench.datapath.events().expect("a ring").expect("the first time");
    let foreign = Arp { sender_mac: STRANGER, sender: VIP4, ..Arp::request(VIP4) }.bytes();
    for _ in 0..1500 {
        assert_eq!(bench.live.xdp(bench.left.id.0, &foreign), Pass);
    }
    let count = bench.count(VIP4);
    assert_eq!(count.conflicts, 1500);
    assert!(count.events_lost > 0);
    assert_eq!(reader.drain().len() as u64, 1500 - count.events_lost);
}

#[test]
fn a_proof_runs_the_live_program_and_leaves_the_books_alone() {
    let mut bench = Bench::new();
    let id = bench.left.id;
    let proved = |bench: &Bench, text| bench.datapath.prove(vip(text), id).expect("a proof");
    assert!(proved(&bench, VIP4) && proved(&bench, VIP6));
    assert!(!proved(&bench, OTHER4) && !proved(&bench, OTHER6));
    bench.datapath.silence().expect("silent");
    assert!(!proved(&bench, VIP4) && !proved(&bench, VIP6));
    assert!(bench.datapath.counters().expect("counters").values().all(|count| *count == Counters::default()));
}

#[test]
fn without_suppression_the_stack_gets_what_is_owned_elsewhere() {
    let lab = Lab::new();
    let left = link("left");
    let config = announcer::datapath::Config { suppress: false, ..Lab::config(Mode::Tcx) };
    let mut datapath = Datapath::open(config).expect("a datapath");
    datapath.establish(std::slice::from_ref(&left)).expect("established");
    begin(&mut datapath, 1);
    datapath.apply(&owning(&[OTHER4], &[])).expect("applied");
    assert_eq!(Live::open(&pin_root()).both(left.id.0, &Arp::request(OTHER4).bytes()), Pass);
    drop(lab);
}

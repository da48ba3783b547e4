//! The sender check: foreign claims of owned VIPs.

use std::{net::Ipv4Addr, time::Duration};

use announcer::{
    datapath::{Claim, ConflictSeen, Owners},
    vocabulary::{BootNs, Mac, Vip},
};

use crate::support::{
    bench::{Bench, OTHER4, VIP4, VIP6},
    frames::{Arp, CLIENT, CLIENT6, Ndp, STRANGER},
    let_time_pass,
    programs::Said::Pass,
    vip,
};

#[test]
fn a_foreign_claim_of_an_owned_vip_is_reported_and_passed() {
    let mut bench = Bench::new();
    let mut reader = bench.datapath.events().expect("a ring").expect("the first time");
    let foreign = Arp { from: STRANGER, sender_mac: STRANGER, sender: VIP4, ..Arp::request(VIP4) };
    // The answer to a question of somebody's, who needs no option to know where it came from.
    let solicited = Ndp {
        to: CLIENT,
        destination: CLIENT6.to_owned(),
        flags: 0x60,
        ..Ndp::advertisement(VIP6, STRANGER)
    };
    let without_option = Ndp { options: Vec::new(), ..solicited };
    let frames = [
        (foreign.bytes(), VIP4, Claim::ArpRequest),
        (Arp { opcode: 2, ..foreign.clone() }.bytes(), VIP4, Claim::ArpReply),
        (Arp { target: "10.9.0.7", ..foreign.clone() }.bytes(), VIP4, Claim::ArpRequest),
        (Ndp::advertisement(VIP6, STRANGER).bytes(), VIP6, Claim::NeighbourAdvertisement),
        (without_option.bytes(), VIP6, Claim::NeighbourAdvertisement),
    ];
    for (frame, text, claim) in frames {
        let by_xdp = bench.live.xdp(bench.left.id.0, &frame);
        let mut seen = reader.drain();
        let_time_pass();
        assert_eq!((by_xdp, bench.live.tcx(bench.left.id.0, &frame)), (Pass, Pass));
        seen.append(&mut reader.drain());
        let_time_pass();
        assert_eq!(seen.len(), 2, "each program reports it");
        for conflict in seen {
            let ConflictSeen { at, link, vip: of, mac, claim: how } = conflict;
            assert_eq!((link, of, mac, how), (bench.left.id, vip(text), Mac(STRANGER), claim));
            assert!(at <= BootNs::now());
        }
    }
    assert_eq!((bench.count(VIP4).conflicts, bench.count(VIP6).conflicts), (6, 4));
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
fn a_flood_of_claims_for_one_address_hides_none_of_another() {
    let mut bench = Bench::new();
    let mut reader = bench.datapath.events().expect("a ring").expect("the first time");
    let flood = |number: u32| {
        let [_, b, c, d] = number.to_be_bytes();
        Arp { sender_mac: [2, 9, 9, b, c, d], sender: VIP4, ..Arp::request("10.9.0.7") }.bytes()
    };
    for number in 0..20_000 {
        assert_eq!(bench.live.xdp(bench.left.id.0, &flood(number)), Pass);
    }
    assert_eq!(bench.live.xdp(bench.left.id.0, &Ndp::advertisement(VIP6, STRANGER).bytes()), Pass);
    let seen = reader.drain();
    assert_eq!(seen.last().map(|seen| (seen.vip, seen.mac)), Some((vip(VIP6), Mac(STRANGER))));
    let of_flood: Vec<BootNs> =
        seen.iter().filter(|seen| seen.vip == vip(VIP4)).map(|seen| seen.at).collect();
    assert!(!of_flood.is_empty(), "it is told of, too");
    let apart =
        |pair: &[BootNs]| pair[0].until(BootNs(0)) + Duration::from_millis(500) <= pair[1].until(BootNs(0));
    assert!(of_flood.windows(2).all(apart), "at most once in half a second: {of_flood:?}");
    let count = bench.count(VIP4);
    assert_eq!((count.conflicts, count.events_lost), (20_000, 0), "each is counted");
}

#[test]
fn a_full_ring_loses_events_and_counts_them() {
    let mut bench = Bench::new();
    let mut reader = bench.datapath.events().expect("a ring").expect("the first time");
    let vips: Vec<Ipv4Addr> = (0..6000_u32).map(|number| Ipv4Addr::from(0x0a0a_0000 + number)).collect();
    let owned = vips.iter().map(|vip| (Vip::from(*vip), [bench.left.id].into()));
    bench.datapath.apply(&Owners { vips: owned.collect() }).expect("applied");
    for vip in &vips {
        let mut foreign = Arp { sender_mac: STRANGER, ..Arp::request("10.9.0.7") }.bytes();
        foreign[28..32].copy_from_slice(&vip.octets());
        assert_eq!(bench.live.xdp(bench.left.id.0, &foreign), Pass);
    }
    let counters = bench.datapath.counters().expect("counters");
    let conflicts: u64 = counters.values().map(|count| count.conflicts).sum();
    let lost: u64 = counters.values().map(|count| count.events_lost).sum();
    assert_eq!(conflicts, 6000);
    assert!(lost > 0);
    assert_eq!(reader.drain().len() as u64, 6000 - lost);
}

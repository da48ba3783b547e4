//! The sender check: foreign claims of owned VIPs.

use announcer::{
    datapath::{Claim, ConflictSeen},
    vocabulary::{BootNs, Mac},
};

use crate::support::{
    bench::{Bench, OTHER4, VIP4, VIP6},
    frames::{Arp, CLIENT, CLIENT6, Ndp, STRANGER},
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
        assert_eq!(bench.said(&frame), Pass);
        let seen = reader.drain();
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

//! Frames that ask for a VIP and must not be answered, each with its fault.

use super::{
    bench::{VIP4, VIP6},
    frames::{Arp, BROADCAST, Ndp, STRANGER, link_layer},
};

/// A fault's name, and the frame.
pub type Case = (&'static str, Vec<u8>);

/// Solicitations of VIP6 that RFC 4861 §7.1.1 says to discard.
pub fn malformed_solicitations() -> Vec<Case> {
    let request = Ndp::solicitation(VIP6);
    let unspecified = || "::".to_owned();
    let options = |options: Vec<u8>| Ndp { options, ..request.clone() }.bytes();
    let mut bad_sum = request.bytes();
    bad_sum[57] ^= 1;
    let to_unicast = Ndp { destination: VIP6.to_owned(), options: vec![], ..request.clone() };
    vec![
        ("hop limit 254", Ndp { hop_limit: 254, ..request.clone() }.bytes()),
        ("hop limit 0", Ndp { hop_limit: 0, ..request.clone() }.bytes()),
        ("code", Ndp { code: 1, ..request.clone() }.bytes()),
        ("checksum", bad_sum),
        ("cut", request.bytes()[..80].to_vec()),
        ("option length 0", options(vec![1, 0, 2, 0, 0, 0, 0, 1])),
        (
            "length 0 of the second option",
            options([link_layer(1, STRANGER), vec![14, 0, 0, 0, 0, 0, 0, 0]].concat()),
        ),
        ("option beyond the end", options(vec![1, 2, 2, 0, 0, 0, 0, 1])),
        ("half an option", options(vec![1, 1, 2, 0])),
        ("multicast target", Ndp { target: "ff02::100".to_owned(), ..request.clone() }.bytes()),
        ("probe with option", Ndp { source: unspecified(), ..request.clone() }.bytes()),
        ("probe to a unicast address", Ndp { source: unspecified(), ..to_unicast }.bytes()),
    ]
}

/// IPv6 with VIP6 in it that is no solicitation for us; `own` is the asked link's hardware address.
pub fn other_ipv6(own: [u8; 6]) -> Vec<Case> {
    let solicitation = || Ndp::solicitation(VIP6);
    let request = solicitation().bytes();
    let with = |offset: usize, byte: u8| {
        let mut frame = request.clone();
        frame[offset] = byte;
        frame
    };
    let mut hop_by_hop = [&request[..54], &[58, 0, 5, 2, 0, 0, 1, 0], &request[54..]].concat();
    hop_by_hop[20] = 0;
    let mut fragment = [&request[..54], &[58, 0, 0, 0, 0, 0, 0, 1], &request[54..]].concat();
    fragment[20] = 44;
    vec![
        ("behind a hop-by-hop header", hop_by_hop),
        ("fragment", fragment),
        ("echo request", with(54, 128)),
        ("UDP", with(20, 17)),
        ("another version", with(14, 0x50)),
        ("source of a group", Ndp { source: "ff02::2".to_owned(), ..solicitation() }.bytes()),
        ("Ethernet source of a group", Ndp { from: [0x33, 0x33, 0, 0, 0, 2], ..solicitation() }.bytes()),
        ("link-layer option of a group", Ndp { options: link_layer(1, BROADCAST), ..solicitation() }.bytes()),
        ("to another hardware address", Ndp { to: STRANGER, ..solicitation() }.bytes()),
        ("to a group that is not IPv6's", Ndp { to: [1, 0, 0x5e, 0, 0, 1], ..solicitation() }.bytes()),
        ("our own", Ndp { from: own, ..solicitation() }.bytes()),
        ("for an unknown address", Ndp::solicitation("fd00:9::102").bytes()),
    ]
}

/// ARP with VIP4 as its target that is no request for us; `own` is the asked link's hardware address.
pub fn other_arp(own: [u8; 6]) -> Vec<Case> {
    let request = Arp::request(VIP4);
    let with = |offset: usize, bytes: &[u8]| {
        let mut frame = request.bytes();
        frame[offset..offset + bytes.len()].copy_from_slice(bytes);
        frame
    };
    vec![
        ("reply", Arp { opcode: 2, ..request.clone() }.bytes()),
        ("reverse request", Arp { opcode: 3, ..request.clone() }.bytes()),
        ("hardware type", with(14, &[0, 6])),
        ("protocol type", with(16, &[0x86, 0xdd])),
        ("hardware length", with(18, &[8])),
        ("protocol length", with(19, &[16])),
        ("group source", Arp { from: [3, 0, 0, 0, 0, 1], ..request.clone() }.bytes()),
        ("group sender", Arp { sender_mac: BROADCAST, ..request.clone() }.bytes()),
        ("no sender", Arp { sender_mac: [0; 6], ..request.clone() }.bytes()),
        ("to another hardware address", Arp { to: STRANGER, ..request.clone() }.bytes()),
        ("to a group", Arp { to: [1, 0, 0x5e, 0, 0, 1], ..request.clone() }.bytes()),
        ("ours", Arp { from: own, sender_mac: own, ..request.clone() }.bytes()),
        ("unknown", Arp::request("10.9.0.102").bytes()),
    ]
}

/// Both families' requests, cut at every length that has an Ethernet header.
pub fn truncated() -> impl Iterator<Item = Vec<u8>> {
    let requests = [Arp::request(VIP4).bytes(), Ndp::solicitation(VIP6).bytes()];
    requests.into_iter().flat_map(|whole| (14..whole.len()).map(move |length| whole[..length].to_vec()))
}

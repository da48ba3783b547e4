use etherparse::{
    ArpEthIpv4Packet, ArpOperation as Operation, EtherType, Icmpv6Type, LinkSlice, NetSlice, SlicedPacket,
    TransportSlice,
};
use proptest::prelude::*;

use super::*;
use crate::vocabulary::LinkId;

const MAC: Mac = Mac([0x02, 0, 0, 0, 0, 0xaa]);
const VIP4: Ipv4Addr = Ipv4Addr::new(10, 4, 11, 1);
const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 4, 0xb, 0, 0, 0, 0x12ab, 0xcdef);
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xaa);

fn hex(frame: &[u8]) -> String {
    frame.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn link(ipv6_source: Option<Ipv6Addr>) -> Link {
    Link {
        id: LinkId(2),
        name: "eth0".into(),
        mac: MAC,
        kind: None,
        carrier: true,
        mtu: 1500,
        master: None,
        vlan: None,
        has_global_address: true,
        ipv6_source,
    }
}

/// Destination, source and ethertype, and the ARP fields, as etherparse reads them.
fn read_arp(frame: &[u8]) -> (Mac, Mac, ArpEthIpv4Packet) {
    let packet = SlicedPacket::from_ethernet(frame).expect("a whole frame");
    let Some(LinkSlice::Ethernet2(ethernet)) = &packet.link else { panic!("no Ethernet header") };
    assert_eq!(ethernet.ether_type(), EtherType::ARP);
    let Some(NetSlice::Arp(arp)) = &packet.net else { panic!("no ARP") };
    let arp = ArpEthIpv4Packet::try_from(arp.to_packet()).expect("Ethernet and IPv4");
    (Mac(ethernet.destination()), Mac(ethernet.source()), arp)
}

/// What etherparse reads of an ICMPv6 frame: Ethernet, IPv6 and ICMPv6 fields, with the checksum it computes itself.
struct Icmp {
    destination: Mac,
    source: Mac,
    from: Ipv6Addr,
    to: Ipv6Addr,
    hop_limit: u8,
    kind: Icmpv6Type,
    body: Vec<u8>,
}

fn read_icmp(frame: &[u8]) -> Icmp {
    let packet = SlicedPacket::from_ethernet(frame).expect("a whole frame");
    let Some(LinkSlice::Ethernet2(ethernet)) = &packet.link else { panic!("no Ethernet header") };
    let Some(NetSlice::Ipv6(ip)) = &packet.net else { panic!("no IPv6") };
    let Some(TransportSlice::Icmpv6(icmp)) = &packet.transport else { panic!("no ICMPv6") };
    let header = ip.header();
    assert!(icmp.is_checksum_valid(header.source(), header.destination()), "checksum");
    Icmp {
        destination: Mac(ethernet.destination()),
        source: Mac(ethernet.source()),
        from: header.source_addr(),
        to: header.destination_addr(),
        hop_limit: header.hop_limit(),
        kind: icmp.icmp_type(),
        body: icmp.slice()[4..].to_vec(),
    }
}

#[test]
fn a_gratuitous_request_is_these_42_bytes() {
    assert_eq!(
        hex(&gratuitous_request(MAC, VIP4)),
        "ffffffffffff0200000000aa0806\
         00010800060400010200000000aa0a040b010000000000000a040b01"
    );
}

#[test]
fn a_gratuitous_reply_has_its_own_mac_as_target() {
    assert_eq!(
        hex(&gratuitous_reply(MAC, VIP4)),
        "ffffffffffff0200000000aa0806\
         00010800060400020200000000aa0a040b010200000000aa0a040b01"
    );
}

#[test]
fn an_arp_probe_claims_no_address() {
    assert_eq!(
        hex(&arp_probe(MAC, VIP4)),
        "ffffffffffff0200000000aa0806\
         00010800060400010200000000aa000000000000000000000a040b01"
    );
}

#[test]
fn an_unsolicited_advertisement_is_these_86_bytes() {
    assert_eq!(
        hex(&unsolicited_na(MAC, VIP6, LINK_LOCAL)),
        "3333000000010200000000aa86dd\
         6000000000203afffe8000000000000000000000000000aaff020000000000000000000000000001\
         8800772020000000fd000004000b00000000000012abcdef02010200000000aa"
    );
}

#[test]
fn a_dad_solicitation_asks_the_solicited_node_group_from_nowhere() {
    assert_eq!(
        hex(&dad_solicitation(MAC, VIP6)),
        "3333ffabcdef0200000000aa86dd\
         6000000000183aff00000000000000000000000000000000ff0200000000000000000001ffabcdef\
         8700ce6200000000fd000004000b00000000000012abcdef"
    );
}

#[test]
fn an_ipv4_vip_is_announced_in_both_forms_the_request_first() {
    let vip = Vip::from(VIP4);
    assert_eq!(announcement(vip, &link(None)), [gratuitous_request(MAC, VIP4), gratuitous_reply(MAC, VIP4)]);
    assert_eq!(announcement_frames(vip), 2);
}

#[test]
fn an_ipv6_vip_is_announced_from_the_links_own_address() {
    let vip = Vip::from(VIP6);
    assert_eq!(announcement(vip, &link(Some(LINK_LOCAL))), [unsolicited_na(MAC, VIP6, LINK_LOCAL)]);
    assert_eq!(announcement_frames(vip), 1);
}

#[test]
fn an_ipv6_vip_on_a_link_without_ipv6_speaks_from_itself() {
    assert_eq!(announcement(Vip::from(VIP6), &link(None)), [unsolicited_na(MAC, VIP6, VIP6)]);
}

#[test]
fn a_probe_has_the_form_of_the_vips_family() {
    assert_eq!(probe(Vip::from(VIP4), MAC), arp_probe(MAC, VIP4));
    assert_eq!(probe(Vip::from(VIP6), MAC), dad_solicitation(MAC, VIP6));
}

#[test]
fn the_solicited_node_group_keeps_the_last_24_bits() {
    assert_eq!(solicited_node(VIP6), "ff02::1:ffab:cdef".parse::<Ipv6Addr>().expect("an address"));
}

proptest! {
    #[test]
    fn another_reader_finds_every_arp_field_where_it_belongs(mac: [u8; 6], octets: [u8; 4]) {
        let (mac, vip) = (Mac(mac), Ipv4Addr::from(octets));
        for (frame, operation, spa, tha) in [
            (gratuitous_request(mac, vip), Operation::REQUEST, octets, NO_MAC),
            (gratuitous_reply(mac, vip), Operation::REPLY, octets, mac),
            (arp_probe(mac, vip), Operation::REQUEST, [0; 4], NO_MAC),
        ] {
            let (to, from, arp) = read_arp(&frame);
            prop_assert_eq!((to, from), (BROADCAST, mac));
            prop_assert_eq!(arp, ArpEthIpv4Packet {
                operation,
                sender_mac: mac.0,
                sender_ipv4: spa,
                target_mac: tha.0,
                target_ipv4: octets,
            });
        }
    }

    #[test]
    fn another_reader_agrees_with_every_advertisement(mac: [u8; 6], vip: [u8; 16], source: [u8; 16]) {
        let read = read_icmp(&unsolicited_na(Mac(mac), vip.into(), source.into()));
        prop_assert_eq!((read.destination, read.source), (Mac([0x33, 0x33, 0, 0, 0, 1]), Mac(mac)));
        prop_assert_eq!((read.from, read.to, read.hop_limit), (source.into(), ALL_NODES, 255));
        let Icmpv6Type::NeighborAdvertisement(flags) = read.kind else { panic!("{:?}", read.kind) };
        prop_assert_eq!((flags.r#override, flags.solicited, flags.router), (true, false, false));
        prop_assert_eq!(read.body, [&[0x20, 0, 0, 0][..], &vip, &[2, 1], &mac].concat());
    }

    #[test]
    fn another_reader_agrees_with_every_dad_solicitation(mac: [u8; 6], vip: [u8; 16]) {
        let read = read_icmp(&dad_solicitation(Mac(mac), vip.into()));
        let [.., a, b, c] = vip;
        prop_assert_eq!((read.destination, read.source), (Mac([0x33, 0x33, 0xff, a, b, c]), Mac(mac)));
        prop_assert_eq!((read.from, read.to, read.hop_limit), (Ipv6Addr::UNSPECIFIED, solicited_node(vip.into()), 255));
        prop_assert_eq!(read.kind, Icmpv6Type::NeighborSolicitation);
        prop_assert_eq!(read.body, [&[0; 4][..], &vip].concat());
    }
}

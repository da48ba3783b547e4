use std::{collections::BTreeSet, net::Ipv4Addr};

use super::*;

const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const UP: LinkFlags = LinkFlags::Up.union(LinkFlags::LowerUp);

/// A link message as the kernel sends it: `ARPHRD_ETHER`, a name, a MAC and an MTU.
fn message(
    id: u32,
    name: &str,
    flags: LinkFlags,
    more: impl IntoIterator<Item = LinkAttribute>,
) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = id;
    message.header.link_layer_type = LinkLayerType::Ether;
    message.header.flags = flags;
    message.attributes = vec![
        LinkAttribute::IfName(name.into()),
        LinkAttribute::Mtu(1500),
        LinkAttribute::Address(MAC.0.to_vec()),
    ];
    message.attributes.extend(more);
    message
}

fn new(message: LinkMessage) -> RouteNetlinkMessage {
    RouteNetlinkMessage::NewLink(message)
}

fn address(id: u32, ip: IpAddr, scope: AddressScope, flags: AddressFlags) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = id;
    message.header.prefix_len = 64;
    message.header.scope = scope;
    message.attributes = vec![AddressAttribute::Address(ip), AddressAttribute::Flags(flags)];
    message
}

fn kind(kind: InfoKind) -> LinkAttribute {
    LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)])
}

fn table(messages: impl IntoIterator<Item = RouteNetlinkMessage>) -> LinkTable {
    let mut table = LinkTable::default();
    messages.into_iter().for_each(|message| table.apply(message));
    table
}

fn v6(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

const PLAIN: AddressFlags = AddressFlags::Permanent;

#[test]
fn a_message_makes_a_whole_link() {
    let vlan = LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Vlan),
        LinkInfo::Data(InfoData::Vlan(vec![InfoVlan::Id(42)])),
    ]);
    let more = [LinkAttribute::Link(3), LinkAttribute::Controller(9), vlan];
    let view = table([
        new(message(7, "eth0.42", UP, more)),
        RouteNetlinkMessage::NewAddress(address(
            7,
            Ipv4Addr::new(10, 4, 0, 5).into(),
            AddressScope::Universe,
            PLAIN,
        )),
        RouteNetlinkMessage::NewAddress(address(7, v6("fe80::1"), AddressScope::Link, PLAIN)),
    ])
    .view();
    assert_eq!(
        view.links[&LinkId(7)],
        Link {
            id: LinkId(7),
            name: "eth0.42".into(),
            mac: MAC,
            kind: Some("vlan".into()),
            carrier: true,
            mtu: 1500,
            master: Some(LinkId(9)),
            vlan: Some((LinkId(3), 42)),
            has_global_address: true,
            ipv6_source: Some("fe80::1".parse().expect("an address")),
        }
    );
}

#[test]
fn carrier_needs_both_up_and_lower_up() {
    for (flags, carrier) in [(UP, true), (LinkFlags::Up, false), (LinkFlags::LowerUp, false)] {
        assert_eq!(
            table([new(message(2, "eth0", flags, []))]).view().links[&LinkId(2)].carrier,
            carrier,
            "{flags:?}"
        );
    }
}

#[test]
fn a_link_that_is_not_ethernet_is_no_link() {
    for layer in [LinkLayerType::Loopback, LinkLayerType::Tunnel, LinkLayerType::None] {
        let mut other = message(1, "lo", UP, []);
        other.header.link_layer_type = layer;
        assert_eq!(table([new(other)]).view(), LinkView::default());
    }
}

#[test]
fn a_link_without_arp_is_mute() {
    let view = table([new(message(5, "dummy0", UP | LinkFlags::Noarp, [kind(InfoKind::Dummy)]))]).view();
    assert!(view.mute.contains(&LinkId(5)));
}

#[test]
fn an_address_is_the_nodes_own_unless_it_is_on_a_dummy_or_a_mute_link_or_of_the_link_alone() {
    let on = |id, ip, scope| RouteNetlinkMessage::NewAddress(address(id, v6(ip), scope, PLAIN));
    let vip = |ip: &str| ip.parse::<Vip>().expect("an address");
    let mut table = table([
        new(message(2, "eth0", UP, [])),
        new(message(3, "kube-ipvs0", UP, [kind(InfoKind::Dummy)])),
        new(message(4, "mute", UP | LinkFlags::Noarp, [])),
        on(2, "10.4.11.77", AddressScope::Universe),
        on(2, "fe80::1", AddressScope::Link),
        on(3, "10.4.11.1", AddressScope::Universe),
        on(4, "10.4.11.2", AddressScope::Universe),
    ]);
    assert_eq!(table.view().own, BTreeSet::from([vip("10.4.11.77")]));
    table.apply(RouteNetlinkMessage::DelAddress(address(2, v6("10.4.11.77"), AddressScope::Universe, PLAIN)));
    assert_eq!(table.view().own, BTreeSet::new());
}

#[test]
fn leaving_a_bridge_does_not_remove_the_link() {
    let mut port = message(2, "eth0", UP, []);
    port.header.interface_family = AddressFamily::Bridge;
    let mut table =
        table([new(message(2, "eth0", UP, [])), RouteNetlinkMessage::DelLink(port.clone()), new(port)]);
    assert!(table.view().links.contains_key(&LinkId(2)));
    table.apply(RouteNetlinkMessage::DelLink(message(2, "eth0", UP, [])));
    assert!(table.view().links.is_empty());
}

#[test]
fn a_bridges_words_on_its_port_change_nothing() {
    let mut table = table([new(message(2, "eth0", UP, [LinkAttribute::Controller(9)]))]);
    let before = table.view();
    let mut port = message(2, "eth0", LinkFlags::empty(), []);
    port.header.interface_family = AddressFamily::Bridge;
    table.apply(new(port));
    assert_eq!(table.view(), before);
}

#[test]
fn a_message_without_a_name_changes_nothing() {
    let mut table = table([new(message(2, "wlan0", UP, []))]);
    let before = table.view();
    let mut scan = message(2, "", UP, []);
    scan.attributes.clear();
    table.apply(new(scan));
    assert_eq!(table.view(), before);
}

#[test]
fn an_address_counts_until_it_is_removed() {
    let global = address(2, v6("fd00::5"), AddressScope::Universe, PLAIN);
    let mut table = table([new(message(2, "eth0", UP, [])), RouteNetlinkMessage::NewAddress(global.clone())]);
    assert!(table.view().links[&LinkId(2)].has_global_address);
    table.apply(RouteNetlinkMessage::DelAddress(global));
    assert!(!table.view().links[&LinkId(2)].has_global_address);
}

#[test]
fn a_solicited_node_group_held_as_an_address_is_no_source() {
    let group = address(2, v6("ff02::1:ff00:1"), AddressScope::Link, PLAIN | AddressFlags::Mcautojoin);
    let view = table([new(message(2, "eth0", UP, [])), RouteNetlinkMessage::NewAddress(group)]).view();
    let link = &view.links[&LinkId(2)];
    assert_eq!((link.ipv6_source, link.has_global_address), (None, false));
}

#[test]
fn the_link_local_address_is_the_source_once_it_is_no_longer_tentative() {
    let source = |messages: &[AddressMessage]| {
        let addresses = messages.iter().cloned().map(RouteNetlinkMessage::NewAddress);
        let view = table(std::iter::once(new(message(2, "eth0", UP, []))).chain(addresses)).view();
        view.links[&LinkId(2)].ipv6_source.map(|ip| ip.to_string())
    };
    let global = address(2, v6("fd00::5"), AddressScope::Universe, PLAIN);
    let local = |flags| address(2, v6("fe80::5"), AddressScope::Link, flags);
    assert_eq!(source(&[local(AddressFlags::Tentative)]), None);
    assert_eq!(source(&[global.clone(), local(AddressFlags::Tentative)]), Some("fd00::5".into()));
    assert_eq!(source(&[global.clone(), local(PLAIN | AddressFlags::Dadfailed)]), Some("fd00::5".into()));
    assert_eq!(source(&[global, local(AddressFlags::Tentative), local(PLAIN)]), Some("fe80::5".into()));
}

#[test]
fn a_start_is_counted_for_carrier_and_mac_but_not_for_a_rename() {
    let mut table = table([new(message(2, "eth0", UP, []))]);
    let mut started = |next: RouteNetlinkMessage| {
        let before = table.view();
        table.apply(next);
        table.view().started_since(&before).contains(&LinkId(2))
    };
    assert!(!started(new(message(2, "wan", UP, []))), "renamed");
    assert!(!started(new(message(2, "wan", LinkFlags::Up, []))), "down");
    assert!(started(new(message(2, "wan", UP, []))), "up");
    assert!(started(new(message(2, "wan", UP, [LinkAttribute::Address(vec![2, 0, 0, 0, 0, 9])]))), "MAC");
}

#[test]
fn a_flap_between_two_looks_is_a_start() {
    let mut table = table([new(message(2, "eth0", UP, []))]);
    let before = table.view();
    table.apply(new(message(2, "eth0", LinkFlags::Up, [])));
    table.apply(new(message(2, "eth0", UP, [])));
    let after = table.view();
    assert_eq!(after.links, before.links);
    assert!(after.started_since(&before).contains(&LinkId(2)));
}

#[test]
fn a_flap_whose_messages_were_lost_is_a_start() {
    let counted = |count| new(message(2, "eth0", UP, [LinkAttribute::CarrierUpCount(count)]));
    let mut table = table([counted(1)]);
    let before = table.view();
    table.replace([counted(1)]);
    assert_eq!(table.view(), before, "a dump of the same is no start");
    table.replace([counted(2)]);
    assert!(table.view().started_since(&before).contains(&LinkId(2)));
}

#[test]
fn a_link_created_again_under_its_number_is_a_start() {
    let mut table = table([new(message(2, "eth0", UP, []))]);
    let before = table.view();
    table.apply(RouteNetlinkMessage::DelLink(message(2, "eth0", UP, [])));
    table.apply(new(message(2, "eth0", UP, [])));
    assert!(table.view().started_since(&before).contains(&LinkId(2)));
}

#[test]
fn a_dump_forgets_what_it_does_not_list() {
    let mut table = table([
        new(message(2, "eth0", UP, [])),
        new(message(3, "eth1", UP, [])),
        RouteNetlinkMessage::NewAddress(address(3, v6("fd00::5"), AddressScope::Universe, PLAIN)),
    ]);
    table.replace([new(message(3, "eth1", UP, []))]);
    let view = table.view();
    assert_eq!(view.links.keys().copied().collect::<Vec<_>>(), [LinkId(3)]);
    assert!(!view.links[&LinkId(3)].has_global_address);
}

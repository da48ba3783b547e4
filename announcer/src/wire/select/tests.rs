use super::*;
use crate::{vocabulary::Mac, wire::links::Facts};

fn link(id: u32, name: &str) -> Link {
    Link {
        id: LinkId(id),
        name: name.into(),
        mac: Mac([2, 0, 0, 0, 0, 1]),
        kind: None,
        carrier: true,
        mtu: 1500,
        master: None,
        vlan: None,
        has_global_address: true,
        ipv6_source: None,
    }
}

fn view(links: impl IntoIterator<Item = Link>) -> LinkView {
    LinkView { links: links.into_iter().map(|link| (link.id, link)).collect(), ..LinkView::default() }
}

/// A link whose master is another link of `kind`.
fn enslaved(kind: &str) -> LinkView {
    view([
        Link { master: Some(LinkId(3)), ..link(2, "eth0") },
        Link { kind: Some(kind.into()), has_global_address: false, ..link(3, "master0") },
    ])
}

fn ids(selection: &Selection) -> Vec<u32> {
    selection.links.iter().map(|id| id.0).collect()
}

fn named(names: &[&str]) -> Interfaces {
    Interfaces::Named(names.iter().map(ToString::to_string).collect())
}

/// The Node's InternalIP in these tests.
const INTERNAL: &str = "10.4.0.5";

fn selection(interfaces: &Interfaces, view: &LinkView) -> Selection {
    select(interfaces, view, &Excludes::default(), &[INTERNAL.parse().expect("an address")].into())
}

fn all(view: &LinkView) -> Vec<u32> {
    ids(&selection(&Interfaces::All, view))
}

fn of_kind(kind: &str, id: u32, name: &str) -> Link {
    Link { kind: Some(kind.into()), ..link(id, name) }
}

/// Gives a link an address.
fn with(mut view: LinkView, id: u32, address: &str) -> LinkView {
    let facts = view.facts.entry(LinkId(id)).or_default();
    facts.subnets.insert(address.parse().expect("an address"));
    view
}

#[test]
fn without_names_every_nic_announces_also_one_without_an_address_that_carries() {
    let bare = |id, name: &str, carrier| Link { has_global_address: false, carrier, ..link(id, name) };
    let view = view([link(2, "eth0"), link(3, "eth1"), bare(4, "eth2", true), bare(5, "eth3", false)]);
    let selection = selection(&Interfaces::All, &view);
    assert_eq!((ids(&selection), selection.bare), (vec![2, 3, 4], [LinkId(4)].into()));
}

#[test]
fn what_containers_and_overlays_have_is_never_taken_unasked() {
    let others = [
        of_kind("bridge", 10, "br-1a2b3c4d5e6f"),
        of_kind("bridge", 11, "lxdbr0"),
        of_kind("bridge", 12, "podman0"),
        of_kind("vxlan", 13, "vxlan.calico"),
        of_kind("geneve", 14, "genev_sys_6081"),
        of_kind("openvswitch", 15, "antrea-gw0"),
        of_kind("veth", 16, "cilium_host"),
        of_kind("bridge", 17, "weave"),
        of_kind("tun", 18, "tap0"),
        of_kind("macvlan", 19, "shim"),
        of_kind("ipvlan", 20, "ipvl0"),
        of_kind("vxlan", 21, "cilium_vxlan"),
        // Ports of bridges: a container's, and a bridge on a bridge's VLAN.
        Link { master: Some(LinkId(10)), ..of_kind("veth", 22, "vetha1b2c3") },
    ];
    let view = view(others.into_iter().chain([link(2, "eth0")]));
    let selection = selection(&Interfaces::All, &view);
    assert_eq!(ids(&selection), [2]);
    let reasons: Vec<String> = selection.left_out.values().map(ToString::to_string).collect();
    let expected =
        "virtual bridge virtual overlay overlay virtual bridge bridge virtual virtual overlay bridge";
    let names: Vec<&String> = selection.left_out.keys().collect();
    assert_eq!(names.len(), 12, "{names:?}");
    assert_eq!(reasons, expected.split(' ').collect::<Vec<_>>(), "{names:?}");
}

#[test]
fn a_name_takes_also_what_is_left_out_by_itself() {
    let view = view([of_kind("bridge", 10, "br-1a2b"), of_kind("vxlan", 11, "overlay0")]);
    assert_eq!(ids(&selection(&named(&["br-1a2b", "overlay0"]), &view)), [10, 11]);
}

#[test]
fn bonds_vlans_and_bridges_of_nics_are_nics() {
    let mut view = view([
        Link { master: Some(LinkId(10)), ..link(2, "eno1") },
        of_kind("bond", 10, "bond0"),
        Link { master: Some(LinkId(12)), ..of_kind("vlan", 11, "bond0.4") },
        of_kind("bridge", 12, "br0"),
        of_kind("vlan", 13, "br0.5"),
        of_kind("vlan", 14, "strange.6"),
        Link { master: Some(LinkId(12)), has_global_address: false, ..of_kind("tun", 15, "vnet0") },
    ]);
    for (id, parent) in [(11, 10), (13, 12)] {
        view.facts.insert(LinkId(id), Facts { parent: Some(LinkId(parent)), ..Facts::default() });
    }
    assert_eq!(all(&view), [10, 12, 13]);
}

#[test]
fn a_virtual_link_by_which_the_node_is_reached_is_taken() {
    // A node that is a container or a virtual machine on Open vSwitch.
    for kind in ["veth", "openvswitch", "macvlan", "bridge"] {
        let view = || view([of_kind(kind, 3, "uplink")]);
        assert_eq!(all(&view()), [0; 0], "{kind}");
        assert_eq!(all(&with(view(), 3, "10.4.0.5/20")), [3], "{kind} with the InternalIP");
        assert_eq!(all(&with(view(), 3, "10.4.0.6/20")), [3], "{kind} with its subnet");
        assert_eq!(all(&with(view(), 3, "10.5.0.6/20")), [0; 0], "{kind} of another network");
        assert_eq!(
            all(&LinkView { uplinks: [LinkId(3)].into(), ..view() }),
            [3],
            "{kind} with the default route"
        );
    }
    assert_eq!(all(&with(view([of_kind("vxlan", 3, "vx0")]), 3, "10.4.0.5/20")), [0; 0], "an overlay");
}

#[test]
fn a_veth_named_as_a_nic_is_one_and_a_runtimes_end_of_a_pair_is_none() {
    for nic in ["eth0", "eth12", "eno1", "ens3f0", "enp4s0", "enx0a1b2c3d4e5f"] {
        assert_eq!(all(&view([of_kind("veth", 2, nic)])), [2], "{nic}");
    }
    for other in ["eth", "ethx", "eni1a2b3c4d5e6", "vethwepl1", "azv1", "lan0", "enp"] {
        assert_eq!(all(&view([of_kind("veth", 2, other)])), [0; 0], "{other}");
    }
}

#[test]
fn an_alternative_name_is_a_name() {
    let mut view = view([link(2, "eth0"), link(3, "lan")]);
    let altnames = ["enp4s0".to_owned(), "lan".to_owned()].into();
    view.facts.insert(LinkId(2), Facts { altnames, ..Facts::default() });
    assert_eq!(ids(&selection(&named(&["enp4s0"]), &view)), [2]);
    assert_eq!(ids(&selection(&named(&["lan"]), &view)), [3], "a link's own name goes before");
}

#[test]
fn of_a_pattern_it_is_said_that_names_are_none() {
    assert!(why_missing("eth*").contains("names are no patterns"));
    assert_eq!(why_missing("eth9"), "no such interface; waiting for it");
}

#[test]
fn a_link_without_carrier_stays_selected() {
    assert_eq!(all(&view([Link { carrier: false, ..link(2, "eth0") }])), [2]);
}

#[test]
fn metallbs_defaults_exclude_what_cluster_software_makes() {
    let excluded = [
        "docker0",
        "cbr0",
        "dummy0",
        "virbr0",
        "lxcbr0",
        "veth12ab",
        "lo",
        "cali34cd",
        "tunl0",
        "flannel.1",
        "kube-ipvs0",
        "cni0",
        "nodelocaldns",
        "lxc_health",
    ];
    let kept = ["eth0", "lo0", "enp3s0", "br-ex", "bond0", "xveth", "wlo1"];
    let excludes = Excludes::default();
    assert_eq!(excluded.iter().filter(|name| !excludes.exclude(name)).count(), 0);
    assert_eq!(kept.iter().filter(|name| excludes.exclude(name)).count(), 0);
}

#[test]
fn a_pattern_without_an_anchor_matches_anywhere() {
    let excludes = Excludes::new(["mgmt"]).expect("a pattern");
    assert!(excludes.exclude("eth-mgmt0") && !excludes.exclude("eth0"));
}

#[test]
fn an_invalid_pattern_is_refused() {
    let error = Excludes::new(["^eth0", "("]).expect_err("no regular expression");
    assert_eq!(error.to_string(), "the interface exclude list has an invalid pattern");
}

#[test]
fn names_select_these_links_even_if_excluded_or_without_address() {
    let bare = Link { has_global_address: false, ..link(3, "eth1") };
    let selection = selection(&named(&["veth0", "eth1"]), &view([link(2, "veth0"), bare, link(4, "eth0")]));
    assert_eq!((ids(&selection), selection.missing, selection.unfit), (vec![2, 3], [].into(), [].into()));
}

#[test]
fn a_name_that_no_link_has_is_missing() {
    let selection = selection(&named(&["eth0", "eth9"]), &view([link(2, "eth0")]));
    assert_eq!((ids(&selection), selection.missing), (vec![2], ["eth9".to_owned()].into()));
}

#[test]
fn a_bridge_port_or_bond_member_does_not_announce() {
    for (kind, master) in [("bridge", vec![3]), ("bond", vec![3]), ("team", vec![3]), ("openvswitch", vec![])]
    {
        assert_eq!(all(&enslaved(kind)), master, "{kind}");
        let selection = selection(&named(&["eth0"]), &enslaved(kind));
        assert_eq!((ids(&selection), selection.unfit.len()), (vec![], 1), "{kind}");
    }
}

#[test]
fn a_member_of_a_vrf_announces() {
    assert_eq!(all(&enslaved("vrf")), [2]);
}

#[test]
fn a_link_without_arp_does_not_announce() {
    let mut view = view([link(2, "eth0")]);
    view.mute.insert(LinkId(2));
    assert_eq!(all(&view), [0; 0]);
    let selection = selection(&named(&["eth0"]), &view);
    assert_eq!(selection.unfit["eth0"], "it does not speak ARP (NOARP)");
}

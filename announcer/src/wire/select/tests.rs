use super::*;
use crate::vocabulary::Mac;

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

fn all(view: &LinkView) -> Vec<u32> {
    ids(&select(&Interfaces::All, view, &Excludes::default()))
}

#[test]
fn without_names_every_plain_link_with_a_global_address_announces() {
    let bare = Link { has_global_address: false, ..link(4, "eth2") };
    assert_eq!(all(&view([link(2, "eth0"), link(3, "eth1"), bare])), [2, 3]);
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
    let selection = select(
        &named(&["veth0", "eth1"]),
        &view([link(2, "veth0"), bare, link(4, "eth0")]),
        &Excludes::default(),
    );
    assert_eq!((ids(&selection), selection.missing, selection.unfit), (vec![2, 3], [].into(), [].into()));
}

#[test]
fn a_name_that_no_link_has_is_missing() {
    let selection = select(&named(&["eth0", "eth9"]), &view([link(2, "eth0")]), &Excludes::default());
    assert_eq!((ids(&selection), selection.missing), (vec![2], ["eth9".to_owned()].into()));
}

#[test]
fn a_bridge_port_or_bond_member_does_not_announce() {
    for kind in ["bridge", "bond", "team", "openvswitch"] {
        assert_eq!(all(&enslaved(kind)), [0; 0], "{kind}");
        let selection = select(&named(&["eth0"]), &enslaved(kind), &Excludes::default());
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
    let selection = select(&named(&["eth0"]), &view, &Excludes::default());
    assert_eq!(selection.unfit["eth0"], "it does not speak ARP (NOARP)");
}

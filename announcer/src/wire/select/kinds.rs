//! What a link is: by its kind, and by what is under it or enslaved to it. Pure.

use std::collections::BTreeSet;

use crate::{
    policy::LeftOut,
    vocabulary::{Link, LinkId},
    wire::links::LinkView,
};

/// Whether a link leads to other hosts, as far as that can be told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Nature {
    /// A NIC, or what stands for NICs: it leads to a LAN.
    Nic,
    /// It leads to a LAN only if the node itself is reached by it.
    Hosted(LeftOut),
    /// It leads to other nodes by way of their LAN, which is announced on anyway.
    Overlay,
}

/// Of `link`, with all that it stands on.
pub(super) fn nature(link: &Link, view: &LinkView) -> Nature {
    nature_of(link, view, &mut BTreeSet::new())
}

fn nature_of(link: &Link, view: &LinkView, seen: &mut BTreeSet<LinkId>) -> Nature {
    // Devices can stand on each other in a circle only by way of another namespace's numbers.
    if !seen.insert(link.id) {
        return Nature::Hosted(LeftOut::Virtual);
    }
    let is_nic = |link: &Link| nature_of(link, view, seen) == Nature::Nic;
    match link.kind.as_deref() {
        // What a driver of hardware (or of a hypervisor's) makes has no kind. A port of a switch chip has one.
        None | Some("dsa") => Nature::Nic,
        Some("vlan" | "macsec") => {
            let parent = view.facts.get(&link.id).and_then(|facts| facts.parent);
            match parent.and_then(|parent| view.links.get(&parent)) {
                Some(parent) => nature_of(parent, view, seen),
                None => Nature::Hosted(LeftOut::Virtual),
            }
        }
        Some(kind @ ("bridge" | "bond" | "team" | "hsr")) => {
            let mut ports = view.links.values().filter(|port| port.master == Some(link.id));
            match (ports.any(is_nic), kind) {
                (true, _) => Nature::Nic,
                (false, "bridge") => Nature::Hosted(LeftOut::Bridge),
                (false, _) => Nature::Hosted(LeftOut::Virtual),
            }
        }
        // A node that is itself a container (kind, LXC) has NICs of these kinds. The end that a runtime keeps on a host
        // never has a NIC's name.
        Some("veth" | "netkit" | "macvlan" | "ipvlan") if has_nic_name(&link.name) => Nature::Nic,
        Some(
            "vxlan" | "geneve" | "gretap" | "ip6gretap" | "erspan" | "ip6erspan" | "bareudp" | "wireguard"
            | "gtp" | "amt",
        ) => Nature::Overlay,
        Some(_) => Nature::Hosted(LeftOut::Virtual),
    }
}

/// `eth0`, or as systemd names NICs: `eno1`, `ens3`, `enp4s0`, `enx…`.
fn has_nic_name(name: &str) -> bool {
    let digits = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(rest) = name.strip_prefix("eth") {
        return digits(rest);
    }
    let rest = ["eno", "ens", "enp", "enx"].iter().find_map(|prefix| name.strip_prefix(prefix));
    rest.is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_hexdigit()))
}

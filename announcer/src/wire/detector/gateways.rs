//! The gateways of this node's default routes: witnesses that it is not cut off.

use std::{collections::BTreeSet, net::IpAddr};

use futures::TryStreamExt as _;
use rtnetlink::{
    Handle,
    packet_route::{
        AddressFamily,
        route::{RouteAddress, RouteAttribute, RouteMessage},
    },
};

use crate::vocabulary::{LinkId, Vip};

/// Asks the kernel for its default routes, in all tables.
pub(super) async fn gateways(netlink: &Handle) -> Result<BTreeSet<(LinkId, Vip)>, rtnetlink::Error> {
    let mut found = BTreeSet::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut all = RouteMessage::default();
        all.header.address_family = family;
        // A router's whole table may come by: none of it is kept.
        let mut routes = std::pin::pin!(netlink.route().get(all).execute());
        while let Some(route) = routes.try_next().await? {
            if route.header.destination_prefix_length == 0 {
                found.extend(hops(&route));
            }
        }
    }
    Ok(found)
}

fn hops(route: &RouteMessage) -> BTreeSet<(LinkId, Vip)> {
    let mut found = BTreeSet::new();
    let link = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(link) => Some(LinkId(*link)),
        _ => None,
    });
    found.extend(link.zip(gateway(&route.attributes)));
    for attribute in &route.attributes {
        let RouteAttribute::MultiPath(hops) = attribute else { continue };
        let hop =
            hops.iter().filter_map(|hop| Some((LinkId(hop.interface_index), gateway(&hop.attributes)?)));
        found.extend(hop);
    }
    found
}

fn gateway(attributes: &[RouteAttribute]) -> Option<Vip> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(v4)) => Some(Vip::new(IpAddr::V4(*v4))),
        RouteAttribute::Gateway(RouteAddress::Inet6(v6)) => Some(Vip::new(IpAddr::V6(*v6))),
        _ => None,
    })
}

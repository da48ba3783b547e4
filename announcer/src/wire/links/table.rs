//! The fold: netlink messages in, [`LinkView`] out. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use rtnetlink::packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope},
    link::{
        InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, Prop,
    },
};

use super::{Facts, LinkView};
use crate::vocabulary::{Link, LinkId, Mac, Vip};

/// Everything netlink has told about Ethernet links and about addresses.
#[derive(Clone, Debug, Default)]
pub struct LinkTable {
    links: BTreeMap<LinkId, Known>,
    /// Addresses of every link, Ethernet or not, as their messages may come before the link's.
    addresses: BTreeMap<(LinkId, IpAddr, u8), Address>,
    starts: u64,
    uplinks: BTreeSet<LinkId>,
}

#[derive(Clone, Debug)]
struct Known {
    /// Without addresses: these are filled in by [`LinkTable::view`].
    link: Link,
    mute: bool,
    parent: Option<LinkId>,
    altnames: BTreeSet<String>,
    /// `IFLA_CARRIER_UP_COUNT`: the kernel's own count, which a lost message can't hide.
    carrier_ups: Option<u32>,
    start: u64,
}

#[derive(Clone, Copy, Debug)]
struct Address {
    global: bool,
    usable: bool,
}

impl LinkTable {
    /// Begins anew from a dump. Numbers of starts go on, and links that are still there keep theirs.
    pub fn replace(&mut self, dump: impl IntoIterator<Item = RouteNetlinkMessage>) {
        let uplinks = std::mem::take(&mut self.uplinks);
        let mut fresh = Self { starts: self.starts, uplinks, ..Self::default() };
        let mut old = std::mem::take(&mut self.links);
        for message in dump {
            if let RouteNetlinkMessage::NewLink(link) = &message
                && let Some((id, known)) = old.remove_entry(&LinkId(link.header.index))
            {
                fresh.links.insert(id, known);
            }
            fresh.apply(message);
        }
        *self = fresh;
    }

    /// Takes in one message of a dump or a multicast group. Others than links' and addresses' are ignored.
    pub fn apply(&mut self, message: RouteNetlinkMessage) {
        match message {
            RouteNetlinkMessage::NewLink(link) => self.link_is(&link),
            // AF_BRIDGE: the link only left a bridge.
            RouteNetlinkMessage::DelLink(link) if link.header.interface_family == AddressFamily::Unspec => {
                self.links.remove(&LinkId(link.header.index));
                self.addresses.retain(|(on, ..), _| on.0 != link.header.index);
            }
            RouteNetlinkMessage::NewAddress(address) => {
                if let Some((key, address)) = read_address(&address) {
                    self.addresses.insert(key, address);
                }
            }
            RouteNetlinkMessage::DelAddress(address) => {
                if let Some((key, _)) = read_address(&address) {
                    self.addresses.remove(&key);
                }
            }
            _ => {}
        }
    }

    /// The links of the default routes, which no news tell of: they are asked for. Says whether they are others.
    pub fn set_uplinks(&mut self, uplinks: BTreeSet<LinkId>) -> bool {
        let others = self.uplinks != uplinks;
        self.uplinks = uplinks;
        others
    }

    /// All links as they are now.
    pub fn view(&self) -> LinkView {
        let mut view = LinkView { uplinks: self.uplinks.clone(), ..LinkView::default() };
        for (id, known) in &self.links {
            let mut link = known.link.clone();
            let subnets = if known.mute { BTreeSet::new() } else { self.subnets(*id) };
            link.has_global_address = self.addresses_of(*id).any(|(_, address)| address.global);
            let (parent, altnames) = (known.parent, known.altnames.clone());
            view.facts.insert(*id, Facts { subnets, parent, altnames });
            link.ipv6_source = self.ipv6_source(*id);
            view.links.insert(*id, link);
            view.starts.insert(*id, known.start);
            if !known.mute && known.link.kind.as_deref() != Some("dummy") {
                let global = self.addresses_of(*id).filter(|(_, address)| address.global);
                view.own.extend(global.map(|(ip, _)| Vip::new(ip)));
            }
            if known.mute {
                view.mute.insert(*id);
            }
        }
        view
    }

    fn link_is(&mut self, message: &LinkMessage) {
        // AF_BRIDGE: what a bridge has to say of its port; without most attributes. So has wireless news, but a name.
        if message.header.interface_family != AddressFamily::Unspec {
            return;
        }
        let Some(mut known) = read_link(message).filter(|known| !known.link.name.is_empty()) else { return };
        let before = self.links.get(&known.link.id);
        known.start = before.filter(|before| !before.starts_as(&known)).map_or_else(
            || {
                self.starts += 1;
                self.starts
            },
            |before| before.start,
        );
        self.links.insert(known.link.id, known);
    }

    fn subnets(&self, link: LinkId) -> BTreeSet<IpNet> {
        let key = |(_, ip, prefix): &(LinkId, IpAddr, u8)| IpNet::new(*ip, *prefix).ok();
        let global = self.on(link).filter(|(_, address)| address.global);
        global.filter_map(|(of, _)| Some(key(of)?.trunc())).collect()
    }

    fn addresses_of(&self, link: LinkId) -> impl Iterator<Item = (IpAddr, Address)> {
        self.on(link).map(|((_, ip, _), address)| (*ip, *address))
    }

    fn on(&self, link: LinkId) -> impl Iterator<Item = (&(LinkId, IpAddr, u8), &Address)> {
        let first = (link, IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        self.addresses.range(first..).take_while(move |((on, ..), _)| *on == link)
    }

    /// The link-local address, else a global one; none that is still tentative or was found to be a duplicate.
    fn ipv6_source(&self, link: LinkId) -> Option<Ipv6Addr> {
        self.addresses_of(link)
            .filter(|(_, address)| address.usable)
            .filter_map(|(ip, _)| if let IpAddr::V6(ip) = ip { Some(ip) } else { None })
            .filter(|ip| !ip.is_multicast())
            .min_by_key(|ip| !ip.is_unicast_link_local())
    }
}

impl Known {
    /// Whether what was known begins to carry (again) by becoming what it is now.
    fn starts_as(&self, now: &Self) -> bool {
        let another = self.link.kind != now.link.kind || self.link.mac != now.link.mac;
        let returned = now.link.carrier && !self.link.carrier;
        let flapped = self.carrier_ups.zip(now.carrier_ups).is_some_and(|(before, now)| before != now);
        another || returned || flapped
    }
}

/// The link of a message, not started yet; `None` if it is no Ethernet link.
fn read_link(message: &LinkMessage) -> Option<Known> {
    let flags = message.header.flags;
    if message.header.link_layer_type != LinkLayerType::Ether || flags.contains(LinkFlags::Loopback) {
        return None;
    }
    let mut link = Link {
        id: LinkId(message.header.index),
        name: String::new(),
        mac: Mac([0; 6]),
        kind: None,
        carrier: flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        mtu: 0,
        master: None,
        vlan: None,
        has_global_address: false,
        ipv6_source: None,
    };
    let (mut parent, mut tag, mut elsewhere, mut carrier_ups) = (None, None, false, None);
    let mut altnames = BTreeSet::new();
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(bytes) => link.mac = Mac(bytes.as_slice().try_into().unwrap_or([0; 6])),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Controller(master) => link.master = (*master != 0).then_some(LinkId(*master)),
            LinkAttribute::Link(under) => parent = Some(LinkId(*under)),
            LinkAttribute::LinkNetNsId(_) => elsewhere = true,
            LinkAttribute::PropList(all) => {
                let name =
                    |prop: &Prop| if let Prop::AltIfName(name) = prop { Some(name.clone()) } else { None };
                altnames.extend(all.iter().filter_map(name));
            }
            LinkAttribute::CarrierUpCount(count) => carrier_ups = Some(*count),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(InfoKind::Other(kind)) => link.kind = Some(kind.clone()),
                        LinkInfo::Kind(kind) => link.kind = Some(kind.to_string()),
                        LinkInfo::Data(InfoData::Vlan(data)) => tag = data.iter().find_map(vlan_id),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    // With the link under it in another namespace its number means nothing here.
    let parent = parent.filter(|_| !elsewhere);
    link.vlan = parent.zip(tag);
    let mute = flags.contains(LinkFlags::Noarp);
    Some(Known { link, mute, parent, altnames, carrier_ups, start: 0 })
}

fn vlan_id(data: &InfoVlan) -> Option<u16> {
    if let InfoVlan::Id(id) = data { Some(*id) } else { None }
}

fn read_address(message: &AddressMessage) -> Option<((LinkId, IpAddr, u8), Address)> {
    let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
    let (mut local, mut peer) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            // On a point-to-point link this is the other end; elsewhere, and always for IPv6, the address itself.
            AddressAttribute::Address(ip) => peer = Some(*ip),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    // A group that is joined by an address (`wire/groups`) is none of the host's.
    let ip = local.or(peer).filter(|ip| !ip.is_multicast())?;
    let unusable = flags.contains(AddressFlags::Dadfailed)
        || flags.contains(AddressFlags::Tentative) && !flags.contains(AddressFlags::Optimistic);
    let global = message.header.scope == AddressScope::Universe;
    Some((
        (LinkId(message.header.index), ip, message.header.prefix_len),
        Address { global, usable: !unusable },
    ))
}

#[cfg(test)]
mod tests;

//! Listening on one link for what is said of one VIP.

use std::{
    collections::BTreeSet,
    io::{self, Read as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use socket2::{Domain, Socket, Type};
use tokio::io::unix::AsyncFd;

use super::filter::{self, offset};
use crate::{
    vocabulary::{LinkId, Mac, Vip},
    wire::{
        frames::{
            ETHERTYPE_ARP, ETHERTYPE_IPV6, NEIGHBOUR_ADVERTISEMENT, NEIGHBOUR_SOLICITATION,
            NEXT_HEADER_ICMPV6, OPTION_TARGET_LINK_LAYER,
        },
        packet::{packet_address, readable},
    },
};

/// Longer than any ARP or Neighbour Discovery frame of interest; the rest of a frame is cut off.
const FRAME_BYTES: usize = 256;

/// A foreign host's word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Heard {
    /// It uses the VIP: it answered, or announced it, or asked for another address from it.
    Answer(Mac),
    /// It asks as we do.
    Probe(Mac),
}

/// A packet socket bound to one link, with a filter for one VIP.
#[derive(Debug)]
pub(super) struct Ear {
    socket: AsyncFd<Socket>,
}

impl Ear {
    pub(super) fn open(vip: Vip, link: LinkId) -> io::Result<Self> {
        let ethertype = if vip.ip().is_ipv4() { ETHERTYPE_ARP } else { ETHERTYPE_IPV6 };
        // Deaf until it is bound: nothing passes before the filter is in place. Bound to one ethertype, it never hears
        // what this host sends.
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking().cloexec(), None)?;
        socket.attach_filter(&filter::about(vip))?;
        socket.bind(&packet_address(link, ethertype))?;
        Ok(Self { socket: readable(socket)? })
    }

    /// The next word of a host that is none of `own`.
    pub(super) async fn hear(&self, vip: Vip, own: &BTreeSet<Mac>) -> io::Result<Heard> {
        let mut frame = [0; FRAME_BYTES];
        loop {
            let mut ready = self.socket.readable().await?;
            match ready.try_io(|socket| socket.get_ref().read(&mut frame)) {
                Ok(Ok(length)) => match understand(vip, &frame[..length]) {
                    Some(Heard::Answer(mac) | Heard::Probe(mac)) if own.contains(&mac) => {}
                    Some(heard) => return Ok(heard),
                    None => {}
                },
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }
}

/// What `frame` says of `vip`, if anything. The filter has looked already; this one can be tested, and is asked again.
pub(super) fn understand(vip: Vip, frame: &[u8]) -> Option<Heard> {
    let ethertype = u16::from_be_bytes(at(frame, offset::ETHERTYPE)?);
    match vip.ip() {
        IpAddr::V4(vip) if ethertype == ETHERTYPE_ARP => {
            let mac = Mac(at(frame, offset::ARP_SENDER_MAC)?);
            let from = Ipv4Addr::from(at::<4>(frame, offset::ARP_SENDER_IP)?);
            let to = Ipv4Addr::from(at::<4>(frame, offset::ARP_TARGET_IP)?);
            match from {
                _ if from == vip => Some(Heard::Answer(mac)),
                Ipv4Addr::UNSPECIFIED if to == vip => Some(Heard::Probe(mac)),
                _ => None,
            }
        }
        IpAddr::V6(vip) if ethertype == ETHERTYPE_IPV6 => {
            let [next, hops] = at(frame, offset::NEXT_HEADER)?;
            let from = Ipv6Addr::from(at::<16>(frame, offset::IPV6_SOURCE)?);
            let target = Ipv6Addr::from(at::<16>(frame, offset::ND_TARGET)?);
            let [kind] = at(frame, offset::ICMPV6_TYPE)?;
            if (next, hops, target) != (NEXT_HEADER_ICMPV6, 255, vip) {
                return None;
            }
            let sender = Mac(at(frame, 6)?);
            match kind {
                NEIGHBOUR_ADVERTISEMENT => Some(Heard::Answer(advertised_mac(frame).unwrap_or(sender))),
                NEIGHBOUR_SOLICITATION if from.is_unspecified() => Some(Heard::Probe(sender)),
                _ => None,
            }
        }
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

/// The target link-layer option, if it comes first, as it does: no other option belongs into an advertisement.
fn advertised_mac(frame: &[u8]) -> Option<Mac> {
    let option: [u8; 8] = at(frame, offset::ND_OPTIONS)?;
    match option {
        [OPTION_TARGET_LINK_LAYER, 1, a, b, c, d, e, f] => Some(Mac([a, b, c, d, e, f])),
        _ => None,
    }
}

fn at<const N: usize>(frame: &[u8], from: usize) -> Option<[u8; N]> {
    frame.get(from..from + N)?.try_into().ok()
}

#[cfg(test)]
mod tests;

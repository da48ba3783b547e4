//! Packet sockets: the two things that need `unsafe`, and nothing else in this room does.

use std::{io, mem};

use socket2::{SockAddr, SockAddrStorage, Socket};
use tokio::io::{Interest, unix::AsyncFd};

use crate::vocabulary::LinkId;

/// packet(7): the address of `link`; to bind, also the ethertype to receive (0: nothing, for a socket that sends).
pub(super) fn packet_address(link: LinkId, ethertype: u16) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: `sockaddr_ll` is plain integers, valid when zeroed, smaller than the storage, and starts with the family.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = libc::AF_PACKET as libc::sa_family_t;
    address.sll_protocol = ethertype.to_be();
    address.sll_ifindex = link.0.cast_signed();
    // SAFETY: the family is set, and the length is that of the address just written.
    unsafe { SockAddr::new(storage, mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t) }
}

/// Hands a non-blocking socket to the runtime, to be awaited until readable.
pub(super) fn readable(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: a `Socket` owns its descriptor until it is dropped, always names the same one, and this room only reads
    // from it: nobody closes or replaces it behind the runtime's back.
    let registered = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
    Ok(registered?)
}

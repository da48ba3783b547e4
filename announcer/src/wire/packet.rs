//! Packet sockets: the three things that need `unsafe`, and nothing else in this room does.

use std::{io, mem, os::fd::AsRawFd as _};

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

/// packet(7), `PACKET_STATISTICS`: what has passed the filter since this was last asked.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Statistics {
    /// Frames, lost ones too.
    pub(super) arrived: u32,
    /// Frames that found the socket's buffer full.
    pub(super) lost: u32,
}

/// Asks, and sets the kernel's counters to 0.
pub(super) fn statistics(socket: &Socket) -> io::Result<Statistics> {
    let mut counted = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
    let mut length = mem::size_of::<libc::tpacket_stats>() as libc::socklen_t;
    // SAFETY: the descriptor is open while `socket` is borrowed; the kernel writes at most `length` bytes to `counted`,
    // which has that size, and any bytes are valid there.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut counted).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Statistics { arrived: counted.tp_packets, lost: counted.tp_drops })
}

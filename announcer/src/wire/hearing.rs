//! Listening on one link for what hosts say of their addresses: one packet socket for each family, whatever the number of
//! addresses asked for.
//!
//! The socket's filter knows kinds of frames and no addresses, so that no kernel refuses it. What is read in one turn is
//! bounded by what had arrived when the turn began: a flood neither keeps the reader from its other work nor hides what
//! came before it. What the kernel had to drop meanwhile is counted, and a link that lost too much is deaf: nobody takes
//! silence there for an answer.

mod filter;
mod frame;

use std::{
    io::{self, Read as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use socket2::{Domain, Socket, Type};
use tokio::io::unix::AsyncFd;

pub(super) use super::packet::Statistics;
use super::{
    frames::{ETHERTYPE_ARP, ETHERTYPE_IPV6},
    packet::{packet_address, readable, statistics},
};
use crate::vocabulary::{LinkId, Vip};
pub(super) use frame::Heard;
use frame::understand;

/// Longer than any ARP or Neighbour Discovery frame of interest; the rest of a frame is cut off.
const FRAME_BYTES: usize = 128;

/// Room for some thousand frames; the kernel doubles it for its own bookkeeping.
const RECEIVE_BYTES: usize = 1 << 20;

/// Read in one turn at most. A queued frame is charged 576 bytes at least (`SKB_TRUESIZE`), so this is more than the buffer
/// holds: whatever had arrived when a turn began has been read when it ends.
const FRAMES_PER_TURN: usize = 2 * RECEIVE_BYTES / 512;

/// A link that loses less than one frame in so many hears of three answers at least one, but once in a thousand times.
const DEAF: u32 = 10;

/// A family of addresses, which has a socket of its own.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Family {
    /// Told by ARP.
    Ipv4,
    /// Told by Neighbour Discovery.
    Ipv6,
}

/// Which frames wake the listener. That of others is a host's answer to somebody else is known only by looking.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Interest {
    /// ARP replies and Neighbour Advertisements: what a host says when it is asked. The broadcasts of a busy LAN are none.
    Answers,
    /// Any ARP, Neighbour Advertisements and solicitations for duplicates: all by which a host shows that it uses an
    /// address, or is about to.
    Uses,
    /// [`super::frames::marker`]s.
    Markers,
}

/// A packet socket bound to one link.
#[derive(Debug)]
pub(super) struct Ear {
    socket: AsyncFd<Socket>,
}

/// What a turn of reading left.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Turn {
    /// More may be there: the reader comes back without waiting.
    pub(super) more: bool,
    /// Since the last turn.
    pub(super) counted: Statistics,
}

/// Frames that were lost before anybody read them, over all listeners of a process since its start.
#[derive(Clone, Debug, Default)]
pub struct Losses(Arc<AtomicU64>);

impl Family {
    /// The family of an address.
    pub(super) fn of(ip: Vip) -> Self {
        if ip.ip().is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }
}

impl Statistics {
    /// Whether so many were lost that silence proves nothing.
    pub(super) fn is_deaf(self) -> bool {
        self.lost > self.arrived / DEAF
    }
}

impl Losses {
    /// Counts frames that were lost.
    pub(super) fn add(&self, frames: u32) {
        self.0.fetch_add(frames.into(), Ordering::Relaxed);
    }

    /// All so far.
    pub fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Ear {
    /// Listens on `link` from now on. Needs CAP_NET_RAW, and CAP_NET_ADMIN for a buffer larger than
    /// `net.core.rmem_max`: without, it has what it can get.
    pub(super) fn open(link: LinkId, family: Family, interest: Interest) -> io::Result<Self> {
        let ethertype = match family {
            Family::Ipv4 => ETHERTYPE_ARP,
            Family::Ipv6 => ETHERTYPE_IPV6,
        };
        // Deaf until it is bound: nothing passes before the filter is in place. Bound to one ethertype, it never hears
        // what this host sends.
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking().cloexec(), None)?;
        socket.attach_filter(&filter::of(interest))?;
        if set_socket_recv_buffer_size_force(&socket, RECEIVE_BYTES).is_err() {
            socket.set_recv_buffer_size(RECEIVE_BYTES)?;
        }
        socket.bind(&packet_address(link, ethertype))?;
        Ok(Self { socket: readable(socket)? })
    }

    /// Waits until something may have arrived since the last call.
    pub(super) async fn ready(&self) {
        // An error is one of the link, and read as such.
        if let Ok(mut ready) = self.socket.readable().await {
            ready.clear_ready();
        }
    }

    /// Tells what all that has arrived says of which address: [`Self::frames`].
    pub(super) fn listen(&self, mut tell: impl FnMut(Vip, Heard)) -> io::Result<Turn> {
        self.frames(|frame| {
            if let Some((ip, heard)) = understand(frame) {
                tell(ip, heard);
            }
        })
    }

    /// Tells all that has arrived, whatever the runtime knows of it: a process that was stopped is to hear first. An error
    /// is one of the link; what was read before it has been told.
    pub(super) fn frames(&self, mut tell: impl FnMut(&[u8])) -> io::Result<Turn> {
        let mut frame = [0; FRAME_BYTES];
        let mut more = true;
        for _ in 0..FRAMES_PER_TURN {
            match self.socket.get_ref().read(&mut frame) {
                Ok(length) => tell(&frame[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    more = false;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Turn { more, counted: statistics(self.socket.get_ref())? })
    }
}

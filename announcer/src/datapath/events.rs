//! Conflicts that the kernel saw on the wire.

use std::{
    fmt,
    net::Ipv6Addr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
};

use announcer_ebpf::layout::{Conflict, EVENTS_BYTES, claim};
use aya::maps::{MapData, RingBuf};

use crate::vocabulary::{BootNs, LinkId, Mac, Vip};

/// Another host said that a VIP is its own while this node owned it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ConflictSeen {
    /// When. Owned is not answered: compare it with the deadline before calling it a conflict of two owners.
    pub at: BootNs,
    /// On which announcing link.
    pub link: LinkId,
    /// The VIP.
    pub vip: Vip,
    /// Who claims it.
    pub mac: Mac,
    /// How.
    pub claim: Claim,
}

/// How a host says that an address is its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Claim {
    /// Sender of an ARP request, gratuitous or not.
    ArpRequest,
    /// Sender of an ARP reply.
    ArpReply,
    /// Target of a Neighbour Advertisement.
    NeighbourAdvertisement,
    /// A code of a newer kernel side.
    Unknown(u32),
}

/// The reading end of `EVENTS`. Its descriptor is readable when there is something to drain; wrap it in an `AsyncFd`.
pub struct ConflictReader {
    ring: RingBuf<MapData>,
}

/// What `EVENTS` holds: each record has a header of 8 bytes (`BPF_RINGBUF_HDR_SZ`).
const RING_RECORDS: usize = EVENTS_BYTES as usize / (size_of::<Conflict>() + 8);

// === impl ConflictReader ===

impl ConflictReader {
    pub(super) fn new(ring: RingBuf<MapData>) -> Self {
        Self { ring }
    }

    /// Takes everything that was there when it was called, oldest first, without waiting. Who writes faster than this reads
    /// keeps nobody here: no more is taken than the ring holds.
    pub fn drain(&mut self) -> Vec<ConflictSeen> {
        let mut seen = Vec::new();
        for _ in 0..RING_RECORDS {
            let Some(record) = self.ring.next() else { break };
            seen.extend(parse(&record));
        }
        seen
    }
}

impl AsFd for ConflictReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl AsRawFd for ConflictReader {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

impl fmt::Debug for ConflictReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConflictReader").finish_non_exhaustive()
    }
}

/// A record of another size is of another layout, and no conflict.
fn parse(record: &[u8]) -> Option<ConflictSeen> {
    let record: &[u8; size_of::<Conflict>()] = record.try_into().ok()?;
    let (at, rest) = record.split_first_chunk::<8>()?;
    let (link, rest) = rest.split_first_chunk::<4>()?;
    let (kind, rest) = rest.split_first_chunk::<4>()?;
    let (vip, rest) = rest.split_first_chunk::<16>()?;
    let (mac, _) = rest.split_first_chunk::<6>()?;
    let claim = match u32::from_ne_bytes(*kind) {
        claim::ARP_REQUEST => Claim::ArpRequest,
        claim::ARP_REPLY => Claim::ArpReply,
        claim::NEIGHBOUR_ADVERTISEMENT => Claim::NeighbourAdvertisement,
        other => Claim::Unknown(other),
    };
    Some(ConflictSeen {
        at: BootNs(u64::from_ne_bytes(*at)),
        link: LinkId(u32::from_ne_bytes(*link)),
        vip: Vip::new(Ipv6Addr::from(*vip).into()),
        mac: Mac(*mac),
        claim,
    })
}

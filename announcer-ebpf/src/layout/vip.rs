//! `VIPS4`, `VIPS6`, `COUNTERS`, `EVENTS` and `TOLD`: what each VIP is on each link, and what was seen of it.

/// Capacity that `VIPS4` and `VIPS6` begin with: 16 384 VIPs on two links. User space makes larger ones when it needs them.
pub const VIPS_ENTRIES: u32 = 32_768;

/// The most slots that `COUNTERS` is made with; machines with many CPUs get fewer, since each CPU has its own copy.
pub const COUNTER_SLOTS: u32 = 32_768;

/// The slot of `COUNTERS` that belongs to no VIP: malformed frames, and VIPs for which no slot was left.
pub const NODE_SLOT: u32 = 0;

/// Bytes of the ring buffer `EVENTS`: about 5 400 conflicts.
pub const EVENTS_BYTES: u32 = 262_144;

/// Capacity of `TOLD`: beyond so many contested VIPs at a time, the kernel forgets the one that was told of longest ago.
pub const TOLD_ENTRIES: u32 = 8192;

/// Nanoseconds between two events of one VIP on one link, whoever claims it: a flood of claims for it leaves room in
/// `EVENTS` for those of 2 700 others, also if user space looks but once a second. What comes between is counted only.
pub const BETWEEN_EVENTS_NS: u64 = 500_000_000;

/// Key of `VIPS4`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Vip4Key {
    /// ifindex of the announcing netdev.
    pub link_id: u32,
    /// The IPv4 address.
    pub address: [u8; 4],
}

/// Key of `VIPS6`; of `TOLD`, with IPv4 mapped (`::ffff:a.b.c.d`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Vip6Key {
    /// ifindex of the announcing netdev.
    pub link_id: u32,
    /// The IPv6 address, or the mapped IPv4 one.
    pub address: [u8; 16],
}

/// Value of `VIPS4` and `VIPS6`. Entries are replaced whole, never written in place.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct VipEntry {
    /// The session epoch under which it was taken; answered only while it is `SESSION`'s.
    pub epoch: u64,
    /// One of [`role`].
    pub role: u32,
    /// Index into `COUNTERS`; several entries may share [`NODE_SLOT`].
    pub counter_slot: u32,
}

/// Values of [`VipEntry::role`]. A frame for any other role is passed, as for an unknown VIP.
pub mod role {
    /// This node answers on this link, while epoch and deadline allow it.
    pub const OWNED: u32 = 1;
    /// Another node, or another link, answers: requests are dropped.
    pub const ELSEWHERE: u32 = 2;
}

/// Value of `COUNTERS`, one per CPU: all but the last count frames since the slot was given out.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// Requests for the VIP, whatever became of them.
    pub requests: u64,
    /// Requests answered.
    pub replies: u64,
    /// Nanoseconds of `CLOCK_BOOTTIME` at the last frame counted. Beside what every answer writes as well: a slot may
    /// lie across two cache lines.
    pub last_seen_boot_ns: u64,
    /// Requests dropped because the deadline had passed or the epoch was another.
    pub fenced: u64,
    /// Requests dropped because the VIP is owned elsewhere.
    pub suppressed: u64,
    /// Frames of another host that claims the VIP.
    pub conflicts: u64,
    /// Conflicts that found `EVENTS` full.
    pub events_lost: u64,
    /// Neighbour Discovery messages passed unread for what RFC 4861 §7.1 forbids; only in [`NODE_SLOT`].
    pub malformed: u64,
}

/// A record of `EVENTS`: another host said that an owned VIP is its own.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Conflict {
    /// Nanoseconds of `CLOCK_BOOTTIME` when the frame was seen.
    pub at_boot_ns: u64,
    /// ifindex of the announcing netdev that it came in by.
    pub link_id: u32,
    /// How it was said: one of [`claim`].
    pub claim: u32,
    /// The VIP; IPv4 is mapped (`::ffff:a.b.c.d`).
    pub vip: [u8; 16],
    /// The hardware address that claims it.
    pub mac: [u8; 6],
    /// Always 0.
    pub zero: [u8; 2],
}

/// Values of [`Conflict::claim`].
pub mod claim {
    /// The sender protocol address of an ARP request.
    pub const ARP_REQUEST: u32 = 1;
    /// The sender protocol address of an ARP reply.
    pub const ARP_REPLY: u32 = 2;
    /// The target of a Neighbour Advertisement.
    pub const NEIGHBOUR_ADVERTISEMENT: u32 = 136;
}

const _: () = assert!(size_of::<Vip4Key>() == 8 && align_of::<Vip4Key>() == 4);
const _: () = assert!(size_of::<Vip6Key>() == 20 && align_of::<Vip6Key>() == 4);
const _: () = assert!(size_of::<VipEntry>() == 16 && align_of::<VipEntry>() == 8);
const _: () = assert!(size_of::<Counters>() == 64 && align_of::<Counters>() == 8);
const _: () = assert!(size_of::<Conflict>() == 40 && align_of::<Conflict>() == 8);

//! What a map must look like before a byte of it is read: aya and the kernel take any map for any struct.

use std::{io, os::fd::BorrowedFd};

use announcer_ebpf::layout::{
    COUNTER_SLOTS, Counters, EVENTS_BYTES, FILTER_WORDS, LINKS_ARRAY_ENTRIES, LINKS_HASH_ENTRIES, LinkEntry,
    LinkKey, MacKey, Session, TOLD_ENTRIES, VIPS_ENTRIES, Vip4Key, Vip6Key, VipEntry,
};
use aya_obj::generated::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, bpf_map_type};

use super::sys::{self, MapInfo};

/// Kernel memory that `COUNTERS` may take, over all CPUs.
const COUNTERS_BUDGET_BYTES: usize = 16 << 20;
const FEWEST_COUNTER_SLOTS: u32 = 1024;

/// A map of ours.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum MapName {
    Session,
    Links,
    LinksBeyond,
    Macs,
    Filter,
    Vips4,
    Vips6,
    Counters,
    Events,
    Told,
}

// === impl MapName ===

impl MapName {
    pub(super) const ALL: [Self; 10] = [
        Self::Session,
        Self::Links,
        Self::LinksBeyond,
        Self::Macs,
        Self::Filter,
        Self::Vips4,
        Self::Vips6,
        Self::Counters,
        Self::Events,
        Self::Told,
    ];

    /// Its name in the object.
    pub(super) fn symbol(self) -> &'static str {
        match self {
            Self::Session => "SESSION",
            Self::Links => "LINKS",
            Self::LinksBeyond => "LINKS_BEYOND",
            Self::Macs => "MACS",
            Self::Filter => "FILTER",
            Self::Vips4 => "VIPS4",
            Self::Vips6 => "VIPS6",
            Self::Counters => "COUNTERS",
            Self::Events => "EVENTS",
            Self::Told => "TOLD",
        }
    }

    /// Its name as a pin.
    pub(super) fn pin(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Links => "links",
            Self::LinksBeyond => "links_beyond",
            Self::Macs => "macs",
            Self::Filter => "filter",
            Self::Vips4 => "vips4",
            Self::Vips6 => "vips6",
            Self::Counters => "counters",
            Self::Events => "events",
            Self::Told => "told",
        }
    }

    /// Whether a generation without it is as good: older agents of the same layout made none. It is nobody's but the
    /// programs', and not shown.
    pub(super) fn is_optional(self) -> bool {
        self == Self::Told
    }

    /// Whether `map` may be read and written as this one: kind, sizes and flags. Capacity only matters to those who
    /// want to keep using the map ([`has_our_capacity`](Self::has_our_capacity)).
    pub(super) fn fits(self, map: BorrowedFd<'_>) -> io::Result<bool> {
        let found = sys::map_info(map)?;
        let wanted = self.wanted();
        Ok(MapInfo { id: 0, max_entries: 0, ..found } == MapInfo { max_entries: 0, ..wanted })
    }

    /// Whether a map that fits and whose size is the same for all also has as many entries as this build makes.
    pub(super) fn has_our_capacity(self, map: BorrowedFd<'_>) -> io::Result<bool> {
        Ok(sys::map_info(map)?.max_entries == self.wanted().max_entries)
    }

    fn wanted(self) -> MapInfo {
        let info = |kind: bpf_map_type, key_size, value_size, max_entries, map_flags| MapInfo {
            kind: kind as u32,
            id: 0,
            key_size: key_size as u32,
            value_size: value_size as u32,
            max_entries,
            map_flags,
        };
        let array = |value_size, entries, flags| {
            info(bpf_map_type::BPF_MAP_TYPE_ARRAY, 4, value_size, entries, flags)
        };
        let hash = |key_size, value_size, entries| {
            info(bpf_map_type::BPF_MAP_TYPE_HASH, key_size, value_size, entries, BPF_F_NO_PREALLOC)
        };
        match self {
            Self::Session => array(size_of::<Session>(), 1, BPF_F_MMAPABLE),
            Self::Links => array(size_of::<LinkEntry>(), LINKS_ARRAY_ENTRIES, 0),
            Self::LinksBeyond => hash(size_of::<LinkKey>(), size_of::<LinkEntry>(), LINKS_HASH_ENTRIES),
            Self::Macs => hash(size_of::<MacKey>(), size_of::<u32>(), LINKS_HASH_ENTRIES),
            Self::Filter => array(size_of::<u64>(), FILTER_WORDS, 0),
            Self::Vips4 => hash(size_of::<Vip4Key>(), size_of::<VipEntry>(), VIPS_ENTRIES),
            Self::Vips6 => hash(size_of::<Vip6Key>(), size_of::<VipEntry>(), VIPS_ENTRIES),
            Self::Counters => {
                info(bpf_map_type::BPF_MAP_TYPE_PERCPU_ARRAY, 4, size_of::<Counters>(), counter_slots(), 0)
            }
            Self::Events => info(bpf_map_type::BPF_MAP_TYPE_RINGBUF, 0, 0, EVENTS_BYTES, 0),
            Self::Told => info(
                bpf_map_type::BPF_MAP_TYPE_LRU_HASH,
                size_of::<Vip6Key>(),
                size_of::<u64>(),
                TOLD_ENTRIES,
                0,
            ),
        }
    }
}

/// How many slots `COUNTERS` has on this machine: as many as VIPs, unless its CPUs are many.
pub(super) fn counter_slots() -> u32 {
    // The same file that aya and libbpf read; where it can't be read, as if there were one.
    let cpus = aya::util::nr_cpus().unwrap_or(1).max(1);
    let slots = COUNTERS_BUDGET_BYTES / size_of::<Counters>() / cpus;
    u32::try_from(slots).unwrap_or(COUNTER_SLOTS).clamp(FEWEST_COUNTER_SLOTS, COUNTER_SLOTS)
}

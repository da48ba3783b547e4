//! How large the tables are: as large as what is in demand, from a first size to a stated most.

use std::ops::RangeInclusive;

use announcer_ebpf::layout::{LINKS_HASH_ENTRIES, VIPS_ENTRIES};

use crate::vocabulary::Vip;

/// How large the tables of a node may be. Both ends are powers of two.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tables {
    /// Entries of each owner map, one per VIP and link. The kernel takes about 100 bytes for an entry, and 16 for each
    /// that could be there.
    pub vips: RangeInclusive<u32>,
    /// Entries of `LINKS_BEYOND`, and of `MACS`.
    pub links: RangeInclusive<u32>,
}

/// Numbers of VIPs or of their entries, by family.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PerFamily {
    /// IPv4.
    pub v4: usize,
    /// IPv6.
    pub v6: usize,
}

/// How many entries there are in a generation's tables, or could be.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Sizes {
    pub(super) vips4: u32,
    pub(super) vips6: u32,
    /// Of `LINKS_BEYOND` and of `MACS`.
    pub(super) links: u32,
}

// === impl Tables ===

impl Tables {
    /// The tables that hold `entries`, with room to grow into; as many as may be, if they are too many.
    pub(super) fn sizes(&self, entries: Sizes) -> Sizes {
        let Sizes { vips4, vips6, links } = entries;
        Sizes {
            vips4: size(vips4, &self.vips),
            vips6: size(vips6, &self.vips),
            links: size(links, &self.links),
        }
    }
}

impl Default for Tables {
    /// 32 768 to 1 048 576 entries: 65 536 VIPs of a family on 16 links.
    fn default() -> Self {
        Self { vips: VIPS_ENTRIES..=1 << 20, links: LINKS_HASH_ENTRIES..=1 << 14 }
    }
}

fn size(entries: u32, limits: &RangeInclusive<u32>) -> u32 {
    let roomy = entries.saturating_add(entries / 8).checked_next_power_of_two().unwrap_or(u32::MAX);
    roomy.clamp(*limits.start(), *limits.end())
}

// === impl PerFamily ===

impl PerFamily {
    /// How many of these VIPs are of each family.
    pub fn count<'a>(vips: impl IntoIterator<Item = &'a Vip>) -> Self {
        let mut count = Self::default();
        for vip in vips {
            *count.family(*vip) += 1;
        }
        count
    }

    /// The number of the VIP's family.
    pub fn of(self, vip: Vip) -> usize {
        if vip.ip().is_ipv4() { self.v4 } else { self.v6 }
    }

    /// One less of the VIP's family.
    pub fn take(&mut self, vip: Vip) {
        let of = self.family(vip);
        *of = of.saturating_sub(1);
    }

    fn family(&mut self, vip: Vip) -> &mut usize {
        if vip.ip().is_ipv4() { &mut self.v4 } else { &mut self.v6 }
    }

    /// Whether no family has more than `room` has for it.
    pub fn fits(self, room: Self) -> bool {
        self.v4 <= room.v4 && self.v6 <= room.v6
    }
}

// === impl Sizes ===

impl Sizes {
    /// So many VIPs on so many links, which have that many entries in `LINKS_BEYOND` or `MACS`.
    pub(super) fn needed(vips: PerFamily, on: usize, links: usize) -> Self {
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            vips4: number(vips.v4.saturating_mul(on)),
            vips6: number(vips.v6.saturating_mul(on)),
            links: number(links),
        }
    }

    pub(super) fn fits(self, capacity: Self) -> bool {
        self.vips4 <= capacity.vips4 && self.vips6 <= capacity.vips6 && self.links <= capacity.links
    }

    /// Of each the greater.
    pub(super) fn max(self, other: Self) -> Self {
        Self {
            vips4: self.vips4.max(other.vips4),
            vips6: self.vips6.max(other.vips6),
            links: self.links.max(other.links),
        }
    }

    /// How many VIPs have an entry on each of `on` links.
    pub(super) fn room(self, on: usize) -> PerFamily {
        let per = |capacity: u32| (capacity as usize).checked_div(on).unwrap_or(usize::MAX);
        PerFamily { v4: per(self.vips4), v6: per(self.vips6) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Sizes = Sizes { vips4: 0, vips6: 0, links: 0 };

    #[test]
    fn a_table_begins_at_its_first_size_grows_by_doubling_and_ends_at_its_most() {
        let tables = Tables { vips: 8..=64, links: 4..=4 };
        let of = |vips4| tables.sizes(Sizes { vips4, ..NONE }).vips4;
        assert_eq!([of(0), of(7), of(8), of(9), of(30), of(64), of(u32::MAX)], [8, 8, 16, 16, 64, 64, 64]);
        assert_eq!(tables.sizes(Sizes { links: 9, ..NONE }), Sizes { vips4: 8, vips6: 8, links: 4 });
    }

    #[test]
    fn without_a_link_no_vip_is_too_many() {
        let sizes = Sizes { vips4: 10, vips6: 20, links: 1 };
        assert_eq!(sizes.room(3), PerFamily { v4: 3, v6: 6 });
        assert!(PerFamily { v4: usize::MAX, v6: 1 }.fits(sizes.room(0)));
    }
}

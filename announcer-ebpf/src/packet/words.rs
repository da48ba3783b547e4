//! Addresses as machine words. A byte array that is compared or passed on lives in memory, and an eBPF program has 512
//! bytes of stack; words live in registers.

use super::Frame;

/// An Ethernet address; the first byte on the wire is the lowest.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) struct Mac(u64);

/// An IPv6 address in wire order.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) struct Ip6 {
    high: u64,
    low: u64,
}

// === impl Mac ===

impl Mac {
    pub(super) const BROADCAST: Self = Self(0xffff_ffff_ffff);
    /// `33:33:00:00:00:01`.
    pub(super) const ALL_NODES: Self = Self(0x0100_0000_3333);

    #[inline(always)]
    pub(super) fn read<F: Frame>(frame: &F, offset: usize) -> Option<Self> {
        frame.read::<6>(offset).map(Self::new)
    }

    #[inline(always)]
    pub(super) fn new([a, b, c, d, e, f]: [u8; 6]) -> Self {
        Self(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
    }

    #[inline(always)]
    pub(super) fn bytes(self) -> [u8; 6] {
        let [a, b, c, d, e, f, _, _] = self.0.to_le_bytes();
        [a, b, c, d, e, f]
    }

    /// Of one station: multicast and broadcast have the group bit (IEEE 802 §8.2), and all zeroes is nobody.
    #[inline(always)]
    pub(super) fn is_station(self) -> bool {
        self.0 & 1 == 0 && self.0 != 0
    }

    /// `33:33:…` (RFC 2464 §7).
    #[inline(always)]
    pub(super) fn is_ipv6_multicast(self) -> bool {
        self.0 & 0xffff == 0x3333
    }
}

// === impl Ip6 ===

impl Ip6 {
    pub(super) const UNSPECIFIED: Self = Self { high: 0, low: 0 };
    /// `ff02::1`.
    pub(super) const ALL_NODES: Self = Self { high: LINK_SCOPE, low: 1_u64.to_be() };

    #[inline(always)]
    pub(super) fn read<F: Frame>(frame: &F, offset: usize) -> Option<Self> {
        Some(Self { high: word(frame, offset)?, low: word(frame, offset + 8)? })
    }

    /// Its bytes, in two halves.
    #[inline(always)]
    pub(super) fn halves(self) -> [[u8; 8]; 2] {
        [self.high.to_ne_bytes(), self.low.to_ne_bytes()]
    }

    #[inline(always)]
    pub(super) fn bytes(self) -> [u8; 16] {
        let [a, b, c, d, e, f, g, h] = self.high.to_ne_bytes();
        let [i, j, k, l, m, n, o, p] = self.low.to_ne_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    #[inline(always)]
    pub(super) fn is_multicast(self) -> bool {
        u64::from_be(self.high) >> 56 == 0xff
    }

    /// Of `ff02::1:ff00:0/104` (RFC 4291 §2.7.1).
    #[inline(always)]
    pub(super) fn is_solicited_node(self) -> bool {
        self.high == LINK_SCOPE && u64::from_be(self.low) >> 24 == 0x01_ff
    }

    /// Its part of an Internet checksum.
    #[inline(always)]
    pub(super) fn sum(self) -> u64 {
        super::checksum::sum(self.high) + super::checksum::sum(self.low)
    }
}

/// `ff02::/64`.
const LINK_SCOPE: u64 = 0xff02_0000_0000_0000_u64.to_be();

/// Eight bytes in wire order.
#[inline(always)]
pub(super) fn word<F: Frame>(frame: &F, offset: usize) -> Option<u64> {
    frame.read::<8>(offset).map(u64::from_ne_bytes)
}

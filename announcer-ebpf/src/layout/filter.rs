//! `FILTER`: which addresses may have an entry. It spares almost every ARP sender and stranger the hash table.

/// Words of `FILTER`, 64 bits each: 2¹⁷ bits. With 10 000 VIPs every 14th foreign address is looked up in vain.
pub const FILTER_WORDS: u32 = 2048;

/// The bit of an address in `FILTER`.
///
/// A cleared bit proves that no entry of `VIPS4` or `VIPS6` has an address with this bit, on any link. A set one proves
/// nothing. So it is set before an entry is added, and cleared only when no entry with such an address is left.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct FilterBit {
    /// The element of `FILTER`, below [`FILTER_WORDS`].
    pub word: u32,
    /// The bit in it.
    pub mask: u64,
}

impl FilterBit {
    /// Of an IPv4 address.
    #[inline(always)]
    pub fn v4(address: [u8; 4]) -> Self {
        Self::of(u64::from(u32::from_be_bytes(address)))
    }

    /// Of an IPv6 address.
    #[inline(always)]
    pub fn v6(address: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = address;
        let (high, low) =
            (u64::from_be_bytes([a, b, c, d, e, f, g, h]), u64::from_be_bytes([i, j, k, l, m, n, o, p]));
        Self::of(high.wrapping_mul(SPREAD) ^ low)
    }

    /// Fibonacci hashing: neighbouring addresses, as pools have them, come to lie far apart.
    #[inline(always)]
    fn of(key: u64) -> Self {
        let hash = key.wrapping_mul(SPREAD) >> (64 - BITS.trailing_zeros());
        Self { word: (hash >> 6) as u32, mask: 1 << (hash & 63) }
    }
}

/// 2⁶⁴ divided by the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
const BITS: u64 = FILTER_WORDS as u64 * 64;

const _: () = assert!(BITS.is_power_of_two());

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_pool_of_ten_thousand_addresses_hardly_shares_a_bit() {
        let v4: BTreeSet<_> =
            (0_u32..10_000).map(|n| FilterBit::v4((0x0a04_0b00 + n).to_be_bytes())).collect();
        let v6: BTreeSet<_> =
            (0_u128..10_000).map(|n| FilterBit::v6(((0xfd00 << 112) + n).to_be_bytes())).collect();
        assert!(v4.len() > 9_900 && v6.len() > 9_900, "{} and {}", v4.len(), v6.len());
        assert!(v4.union(&v6).all(|bit| bit.word < FILTER_WORDS && bit.mask.is_power_of_two()));
    }

    #[test]
    fn addresses_that_differ_anywhere_have_other_bits_as_a_rule() {
        let base = [0xfd, 0, 0, 7, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
        let changed = (0..128).map(|bit| {
            let mut address = base;
            address[bit / 8] ^= 1 << (bit % 8);
            FilterBit::v6(address)
        });
        assert!(changed.collect::<BTreeSet<_>>().len() > 120);
    }
}

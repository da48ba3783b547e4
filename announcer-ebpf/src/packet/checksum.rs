//! The Internet checksum (RFC 1071) over the ICMPv6 pseudo-header (RFC 8200 §8.1).
//!
//! Sums are of words as they lie in memory: the checksum comes out right in either byte order (RFC 1071 §2 B).

/// The part of eight bytes at an even offset.
#[inline(always)]
pub(super) fn sum(word: u64) -> u64 {
    (word & 0xffff_ffff) + (word >> 32)
}

/// The part of an ICMPv6 pseudo-header's length and next header.
#[inline(always)]
pub(super) fn pseudo_header(length: u16) -> u64 {
    const NEXT_HEADER_ICMPV6: u16 = 58;
    length.to_be() as u64 + NEXT_HEADER_ICMPV6.to_be() as u64
}

/// Folds a sum to 16 bits; all ones for a message whose checksum field is right.
#[inline(always)]
pub(super) fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// The checksum field, as it lies on the wire, for a message whose other words add up to `sum`.
#[inline(always)]
pub(super) fn finish(sum: u64) -> [u8; 2] {
    (!fold(sum)).to_ne_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071_comes_out_as_printed_there() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(sum(u64::from_ne_bytes(bytes))).to_ne_bytes(), [0xdd, 0xf2]);
    }

    #[test]
    fn a_sum_with_its_own_checksum_folds_to_all_ones() {
        let total = sum(u64::from_ne_bytes(*b"announce")) + pseudo_header(32);
        assert_eq!(fold(total + u64::from(u16::from_ne_bytes(finish(total)))), 0xffff);
    }

    #[test]
    fn every_carry_is_folded_in() {
        assert_eq!(fold(0x0001_ffff_ffff), 1);
        assert_eq!(fold(u64::MAX), 0xffff);
    }
}

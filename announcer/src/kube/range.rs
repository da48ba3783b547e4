//! One entry of a pool: a run of addresses of one family.

mod instead;

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;

pub(super) use self::instead::{instead_of_address, way_out_of_entry};
use super::invalid::Problem;
use crate::vocabulary::Vip;

/// The addresses from `first` to `last`, both included, of one family.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AddressRange {
    first: Vip,
    last: Vip,
}

impl FromStr for AddressRange {
    type Err = Problem;

    /// Reads a CIDR prefix (host bits are ignored, as in MetalLB) or `first-last` with optional spaces.
    fn from_str(text: &str) -> Result<Self, Problem> {
        let bad = || Problem::Address(text.to_owned());
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => {
                let address = |part: &str| part.trim().parse::<IpAddr>().map_err(|_| bad());
                (address(first)?, address(last)?)
            }
            None => {
                let net: IpNet = text.trim().parse().map_err(|_| bad())?;
                (net.network(), net.broadcast())
            }
        };
        let range = Self { first: Vip::new(first), last: Vip::new(last) };
        if range.first.ip().is_ipv4() != range.last.ip().is_ipv4() {
            Err(Problem::MixedFamilies(text.to_owned()))
        } else if range.first > range.last {
            Err(Problem::Backwards(text.to_owned()))
        } else {
            Ok(range)
        }
    }
}

impl AddressRange {
    /// Whether the address lies in the range.
    pub fn contains(self, vip: Vip) -> bool {
        self.same_family(vip) && self.first <= vip && vip <= self.last
    }

    /// Whether some address lies in both.
    pub fn overlaps(self, other: Self) -> bool {
        self.same_family(other.first) && self.first <= other.last && other.first <= self.last
    }

    /// The 16-byte form orders IPv4 among IPv6, so that `::/0` would seem to hold IPv4.
    fn same_family(self, vip: Vip) -> bool {
        self.first.ip().is_ipv4() == vip.ip().is_ipv4()
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> AddressRange {
        AddressRange::from_str(text).expect("a range")
    }

    fn holds(text: &str, address: &str) -> bool {
        range(text).contains(address.parse().expect("an address"))
    }

    #[test]
    fn a_prefix_holds_its_first_and_last_address() {
        assert!(holds("10.4.11.0/24", "10.4.11.0"));
        assert!(holds("10.4.11.0/24", "10.4.11.255"));
        assert!(!holds("10.4.11.0/24", "10.4.12.0"));
        assert!(holds("fd00:4:b::/112", "fd00:4:b::ffff"));
    }

    #[test]
    fn a_range_holds_both_ends_and_may_have_spaces() {
        assert!(holds("10.4.11.1 - 10.4.11.9", "10.4.11.1"));
        assert!(holds("10.4.11.1-10.4.11.9", "10.4.11.9"));
        assert!(!holds("10.4.11.1-10.4.11.9", "10.4.11.10"));
    }

    #[test]
    fn host_bits_of_a_prefix_are_ignored() {
        assert_eq!(range("10.4.11.7/24"), range("10.4.11.0/24"));
    }

    #[test]
    fn a_single_address_is_a_prefix_of_full_length() {
        assert!(holds("10.4.11.1/32", "10.4.11.1"));
        assert_eq!(AddressRange::from_str("10.4.11.1"), Err(Problem::Address("10.4.11.1".into())));
    }

    #[test]
    fn an_ipv6_range_never_holds_an_ipv4_address() {
        assert!(!holds("::/0", "10.4.11.1"));
        assert!(!range("::/0").overlaps(range("0.0.0.0/0")));
    }

    #[test]
    fn an_ipv4_mapped_range_is_the_ipv4_range() {
        assert!(holds("::ffff:10.4.11.0/120", "10.4.11.1"));
    }

    #[test]
    fn ranges_that_share_one_address_overlap() {
        assert!(range("10.0.0.1-10.0.0.5").overlaps(range("10.0.0.5-10.0.0.9")));
        assert!(!range("10.0.0.1-10.0.0.5").overlaps(range("10.0.0.6-10.0.0.9")));
    }

    #[test]
    fn nonsense_is_named() {
        let read = AddressRange::from_str;
        assert_eq!(read("10.4.11.0/33"), Err(Problem::Address("10.4.11.0/33".into())));
        assert_eq!(read("10.4.11.9-10.4.11.1"), Err(Problem::Backwards("10.4.11.9-10.4.11.1".into())));
        assert_eq!(read("10.4.11.9-fd00::1"), Err(Problem::MixedFamilies("10.4.11.9-fd00::1".into())));
        assert_eq!(read(""), Err(Problem::Address(String::new())));
    }
}

//! The kernel's own list of groups, `/proc/net/igmp6`.

use std::{collections::BTreeSet, fs, net::Ipv6Addr};

use super::Membership;
use crate::vocabulary::LinkId;

/// The calling thread's network namespace, which in a test is not that of the process.
const LIST: &str = "/proc/thread-self/net/igmp6";

/// Those of `wanted` that the kernel does not list. None, if there is no list to read.
pub(super) fn missing(wanted: &BTreeSet<Membership>) -> BTreeSet<Membership> {
    let Some(list) = fs::read_to_string(LIST).ok().filter(|_| !wanted.is_empty()) else {
        return BTreeSet::new();
    };
    let listed: BTreeSet<_> = list.lines().filter_map(read).collect();
    wanted.difference(&listed).copied().collect()
}

/// `2    eth0            ff0200000000000000000001ff000001     1 00000004 0`
fn read(line: &str) -> Option<Membership> {
    let mut columns = line.split_ascii_whitespace();
    let link = LinkId(columns.next()?.parse().ok()?);
    let group = u128::from_str_radix(columns.nth(1)?, 16).ok()?;
    Some((link, Ipv6Addr::from_bits(group)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_link_and_a_group() {
        let line = "12   eth0            ff0200000000000000000001ff0b0001     2 00000004 0";
        assert_eq!(read(line), Some((LinkId(12), "ff02::1:ff0b:1".parse().expect("an address"))));
    }

    #[test]
    fn a_line_that_is_none_is_skipped() {
        for line in ["", "eth0", "2 eth0", "2 eth0 nonsense 1 0 0"] {
            assert_eq!(read(line), None, "{line}");
        }
    }
}

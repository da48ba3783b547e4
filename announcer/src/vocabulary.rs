//! The words every room shares: addresses, links and boot time, each in one spelling.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::{Add, Sub},
    str::FromStr,
    time::Duration,
};

/// A virtual IP in its one canonical form: an IPv4-mapped IPv6 address is the IPv4 address.
///
/// Ordered by the 16-byte form (IPv4 as `::ffff:a.b.c.d`), which every node uses to walk VIPs in the same order.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub struct Vip(IpAddr);

/// An Ethernet hardware address (RFC 826 `ar$sha`).
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct Mac(pub [u8; 6]);

/// The ifindex of an announcing netdev: a bond or bridge itself, never its slaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct LinkId(pub u32);

/// Nanoseconds of `CLOCK_BOOTTIME`: the clock of the kernel deadline. It counts a suspend, unlike
/// `CLOCK_MONOTONIC` (which is what [`std::time::Instant`] reads), so the two must never be compared.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct BootNs(pub u64);

/// A network link of this node as netlink tells it: what attaching, announcing and publishing need to know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Link {
    /// ifindex.
    pub id: LinkId,
    /// Interface name, as `L2Advertisement.spec.interfaces` writes it.
    pub name: String,
    /// Hardware address now; it may change on a live link.
    pub mac: Mac,
    /// rtnetlink's `IFLA_INFO_KIND` (`veth`, `bridge`, `bond`, `vlan`, …); `None` for a plain NIC.
    pub kind: Option<String>,
    /// Administratively up and with carrier (`IFF_UP` and `IFF_LOWER_UP`).
    pub carrier: bool,
    /// MTU in bytes.
    pub mtu: u32,
    /// The bond, bridge or VRF that this link is enslaved to.
    pub master: Option<LinkId>,
    /// The link under a VLAN device and its VLAN id.
    pub vlan: Option<(LinkId, u16)>,
    /// It carries a global-scope address (IPv4 or IPv6).
    pub has_global_address: bool,
    /// Its own link-local or else global IPv6 address, the source of Neighbour Advertisements; `None` without IPv6.
    pub ipv6_source: Option<Ipv6Addr>,
}

impl Vip {
    /// The canonical VIP of `address`.
    pub fn new(address: IpAddr) -> Self {
        Self(address.to_canonical())
    }

    /// The address.
    pub fn ip(self) -> IpAddr {
        self.0
    }

    /// The 16-byte form: IPv6 as it is, IPv4 mapped (`::ffff:a.b.c.d`).
    pub fn octets16(self) -> [u8; 16] {
        match self.0 {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        }
    }
}

impl Ord for Vip {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.octets16().cmp(&other.octets16())
    }
}

impl PartialOrd for Vip {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Vip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Vip {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self::new)
    }
}

impl From<Ipv4Addr> for Vip {
    fn from(address: Ipv4Addr) -> Self {
        Self::new(address.into())
    }
}

impl From<Ipv6Addr> for Vip {
    fn from(address: Ipv6Addr) -> Self {
        Self::new(address.into())
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl BootNs {
    /// No deadline: the kernel is silent.
    pub const NONE: Self = Self(0);

    /// Now, by `CLOCK_BOOTTIME`.
    pub fn now() -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Self(now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs())
    }

    /// How far `self` lies ahead of `now`; zero if it has passed.
    pub fn until(self, now: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(now.0))
    }
}

impl Add<Duration> for BootNs {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for BootNs {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_mapped_address_is_the_ipv4_vip() {
        assert_eq!("::ffff:10.4.11.1".parse(), Ok(Vip::from(Ipv4Addr::new(10, 4, 11, 1))));
    }

    #[test]
    fn vips_are_ordered_by_their_16_byte_form() {
        let mut vips: Vec<Vip> =
            ["fd00::1", "10.0.0.9", "::2", "9.255.0.1"].map(|a| a.parse().expect("an address")).to_vec();
        vips.sort();
        assert_eq!(
            vips.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["::2", "9.255.0.1", "10.0.0.9", "fd00::1"]
        );
    }
}

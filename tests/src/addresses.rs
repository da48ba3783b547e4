//! Who has which name and address on the lab's LAN: the scenario's network.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The LAN's prefix length (10.4.0.0/20). The pool of VIPs, 10.4.11.0/24, lies inside it.
pub const LAN_PREFIX: u8 = 20;
/// The LAN's IPv6 prefix length (fd00:4::/64).
pub const LAN_PREFIX6: u8 = 64;
/// The VIPs that Services get.
pub const POOL: &str = "10.4.11.0/24";
/// IPv6 VIPs, on-link like everything in fd00:4::/64.
pub const POOL6: &str = "fd00:4::b:0/112";
/// The cluster IPs of Services, IPv4 then IPv6.
pub const SERVICE_CIDRS: &str = "10.96.0.0/16,fd00:96::/112";
/// The pods' addresses, IPv4 then IPv6; node *n* has 10.244.n.0/24 and fd00:244:n::/64.
pub const POD_CIDRS: &str = "10.244.0.0/16,fd00:244::/32";
/// Where the API server listens.
pub const API_SERVER: &str = "https://10.4.0.2:6443";

/// Node names, in the scenario's order.
const NODE_NAMES: [&str; 16] = [
    "bettley",
    "cargyll",
    "dalt",
    "erenford",
    "fenn",
    "gardener",
    "harlton",
    "inchfield",
    "jast",
    "karstark",
    "lipps",
    "manderly",
    "norcross",
    "oakheart",
    "payne",
    "velaryon",
];

/// The name of the `index`-th node (from 0).
pub fn node_name(index: usize) -> String {
    NODE_NAMES.get(index).map_or_else(|| format!("node-{index}"), |name| (*name).to_owned())
}

/// One host's place on the LAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LanAddress {
    /// The IPv4 address, in 10.4.0.0/20.
    pub v4: Ipv4Addr,
}

impl LanAddress {
    /// The router, default gateway of every host.
    pub const ROUTER: Self = Self::at(0, 1);
    /// The API server's machine.
    pub const CONTROL_PLANE: Self = Self::at(0, 2);
    /// The client that asks who has a VIP.
    pub const CLIENT: Self = Self::at(0, 100);

    const fn at(third: u8, last: u8) -> Self {
        Self { v4: Ipv4Addr::new(10, 4, third, last) }
    }

    /// The `number`-th host that is added: 10.4.0.201 and up.
    pub fn host(number: u8) -> Self {
        Self::at(0, number.saturating_add(200))
    }

    /// The same host on the second network, 10.5.0.0/20; IPv4 alone.
    #[must_use]
    pub fn on_second_network(self) -> Self {
        let [.., third, last] = self.v4.octets();
        Self { v4: Ipv4Addr::new(10, 5, third, last) }
    }

    /// The `index`-th node: 10.4.0.11 and up, past the client 10.4.1.0 and up.
    pub fn node(index: usize) -> Self {
        match u8::try_from(index) {
            Ok(small) if small < 80 => Self::at(0, 11 + small),
            _ => {
                let beyond = u16::try_from(index - 80).unwrap_or(u16::MAX).min(1500);
                let [high, low] = (0x0100 + beyond).to_be_bytes();
                Self::at(high, low)
            }
        }
    }

    /// The IPv6 address: `fd00:4::` with the last two bytes of the IPv4 one, read as hexadecimal groups.
    pub fn v6(self) -> Ipv6Addr {
        let [.., third, last] = self.v4.octets();
        Ipv6Addr::new(0xfd00, 4, 0, 0, 0, 0, u16::from(third), decimal_as_hex(last))
    }

    /// The MAC of the host's `eth0`: `02:00` and the IPv4 address, so that it reads like one.
    pub fn mac(self) -> [u8; 6] {
        let [a, b, c, d] = self.v4.octets();
        [0x02, 0, a, b, c, d]
    }
}

/// 11 → 0x11, so that `10.4.0.11` and `fd00:4::11` look alike.
fn decimal_as_hex(byte: u8) -> u16 {
    let (hundreds, tens, ones) = (u16::from(byte / 100), u16::from(byte / 10 % 10), u16::from(byte % 10));
    hundreds << 8 | tens << 4 | ones
}

/// `02:00:0a:04:00:0b`.
pub fn format_mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_a_host_look_alike() {
        let second = LanAddress::node(1);
        assert_eq!(second.v4.to_string(), "10.4.0.12");
        assert_eq!(second.v6().to_string(), "fd00:4::12");
        assert_eq!(format_mac(second.mac()), "02:00:0a:04:00:0c");
    }

    #[test]
    fn no_node_takes_an_address_of_another_host_or_of_the_pool() {
        let mut seen = std::collections::HashSet::from([
            LanAddress::ROUTER.v4,
            LanAddress::CONTROL_PLANE.v4,
            LanAddress::CLIENT.v4,
        ]);
        for index in 0..1000 {
            let address = LanAddress::node(index).v4;
            assert!(seen.insert(address), "{address} is taken twice");
            assert_ne!(address.octets()[2], 11, "{address} lies in the pool");
        }
    }
}

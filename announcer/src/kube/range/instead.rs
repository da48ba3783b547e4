//! What somebody meant who wrote something that is no address and no entry of a pool, as far as it can be told.

use std::net::{IpAddr, Ipv4Addr};

use super::AddressRange;

/// The address that `text` seems to mean: without leading zeros, without a zone.
pub(in crate::kube) fn instead_of_address(text: &str) -> Option<IpAddr> {
    let (text, _zone) = text.trim().split_once('%').unwrap_or((text.trim(), ""));
    let (text, _port) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')).unwrap_or((text, ""));
    text.parse().ok().or_else(|| decimal(text, None).map(IpAddr::V4))
}

/// What to write instead of an entry: what it seems to mean, or which number in it is none.
pub(in crate::kube) fn way_out_of_entry(text: &str) -> Option<String> {
    let beyond = || {
        let numbers = text.split(['.', '-', '/', ' ']).filter(|_| text.matches('.').count() >= 3);
        let beyond = numbers.filter_map(number).find(|number| *number > 255)?;
        Some(format!("write numbers from 0 to 255: {beyond} is none"))
    };
    instead_of_entry(text).map(|entry| format!("write {entry}")).or_else(beyond)
}

/// The entry that `text` seems to mean, such as `10.0.11.254/32` for `10.0.11.254`. It always reads as one.
fn instead_of_entry(text: &str) -> Option<String> {
    let is_dash = |c| matches!(c, '–' | '—' | '−' | '‐' | '‑');
    // Dashes that a word processor makes of a hyphen.
    let plain: String = text.chars().map(|c| if is_dash(c) { '-' } else { c }).collect();
    let entry = match (plain.split_once('/'), plain.split_once('-')) {
        (Some((address, length)), None) => prefix(address, length),
        (None, Some((first, last))) => run(first, last),
        (None, None) => wildcard(&plain).or_else(|| whole(&plain)),
        (Some(_), Some(_)) => None,
    };
    entry.filter(|entry| entry.parse::<AddressRange>().is_ok() && entry != text)
}

/// One address: a prefix of full length.
fn whole(text: &str) -> Option<String> {
    let address = instead_of_address(text)?;
    Some(format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 }))
}

/// A prefix whose address or length is written in another way: as a netmask, or longer than an address.
fn prefix(address: &str, length: &str) -> Option<String> {
    let address = instead_of_address(address)?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let length = match (length.trim().parse::<u32>(), length.trim().parse::<Ipv4Addr>()) {
        (Ok(length), _) => length.min(longest),
        (_, Ok(mask)) if mask.to_bits().leading_ones() + mask.to_bits().trailing_zeros() == 32 => {
            mask.to_bits().leading_ones()
        }
        _ => return None,
    };
    Some(format!("{address}/{length}"))
}

/// A range whose last address is written without what it shares with the first: `10.0.11.240-250`.
fn run(first: &str, last: &str) -> Option<String> {
    let (first, last) = (instead_of_address(first)?, last.trim());
    let separator = if first.is_ipv4() { '.' } else { ':' };
    let start = first.to_string();
    let given = last.split(separator).count();
    let parts: Vec<&str> = start.split(separator).collect();
    let shared = &parts[..parts.len().saturating_sub(given)];
    let last: Vec<&str> = shared.iter().copied().chain([last]).collect();
    let last = last.join(&separator.to_string());
    // A range that goes on beyond a byte ends with it.
    let last = instead_of_address(&last).or_else(|| decimal(&last, Some(u8::MAX)).map(IpAddr::V4))?;
    Some(format!("{first}-{last}"))
}

/// `10.0.11.*`, whole bytes at the end.
fn wildcard(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.trim().split('.').collect();
    let known = parts.iter().take_while(|part| **part != "*").count();
    if parts.len() > 4 || known == parts.len() || parts[known..].iter().any(|part| *part != "*") {
        return None;
    }
    let bytes = parts[..known].iter().copied().chain(std::iter::repeat("0")).take(4);
    let address = decimal(&bytes.collect::<Vec<_>>().join("."), None)?;
    Some(format!("{address}/{}", known * 8))
}

/// Four decimal numbers, with leading zeros or, where `beyond` is given, above what a byte holds.
fn decimal(text: &str, beyond: Option<u8>) -> Option<Ipv4Addr> {
    let mut bytes =
        text.split('.').map(|part| number(part).and_then(|number| u8::try_from(number).ok().or(beyond)));
    let mut next = || bytes.next().flatten();
    let address = Ipv4Addr::new(next()?, next()?, next()?, next()?);
    bytes.next().is_none().then_some(address)
}

/// Up to three decimal digits.
fn number(text: &str) -> Option<u16> {
    let is_number = (1..=3).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_meant_is_computed_from_what_was_written() {
        let cases = [
            ("10.0.11.254", "10.0.11.254/32"),
            ("fd00::1", "fd00::1/128"),
            ("10.0.11.240-250", "10.0.11.240-10.0.11.250"),
            ("10.0.11.240 - 12.9", "10.0.11.240-10.0.12.9"),
            ("fd00::10-ff", "fd00::10-fd00::ff"),
            ("10.0.11.240-10.0.11.259", "10.0.11.240-10.0.11.255"),
            ("10.0.11.240-259", "10.0.11.240-10.0.11.255"),
            ("010.000.011.001/24", "10.0.11.1/24"),
            ("10.0.11.0/255.255.255.0", "10.0.11.0/24"),
            ("10.0.11.0/33", "10.0.11.0/32"),
            ("10.0.11.1–10.0.11.9", "10.0.11.1-10.0.11.9"),
            ("fe80::1%eth0", "fe80::1/128"),
            ("10.0.11.*", "10.0.11.0/24"),
            ("10.*.*", "10.0.0.0/8"),
        ];
        for (written, meant) in cases {
            assert_eq!(instead_of_entry(written).as_deref(), Some(meant), "{written}");
        }
    }

    #[test]
    fn a_number_that_is_no_byte_is_named() {
        let told = way_out_of_entry("10.0.11.259").expect("a way out");
        assert_eq!(told, "write numbers from 0 to 255: 259 is none");
    }

    #[test]
    fn an_address_with_leading_zeros_or_a_zone_is_told_without() {
        let meant = |text| instead_of_address(text).map(|address| address.to_string());
        assert_eq!(meant("010.004.11.001").as_deref(), Some("10.4.11.1"));
        assert_eq!(meant("fe80::1%eth0").as_deref(), Some("fe80::1"));
        assert_eq!(meant("lb.example.com"), None);
    }

    #[test]
    fn of_what_means_nothing_nothing_is_made() {
        for nonsense in
            ["", "-", "/", "a/b", "10.0.11", "10.0.11.1-x", "10.0.11.0/mask", "10.0.11.1-2/24", "*.1"]
        {
            assert_eq!(instead_of_entry(nonsense), None, "{nonsense}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_told_reads_as_an_entry(text in "[0-9a-f.:/%*–-]{0,24}|\\PC{0,12}") {
            if let Some(instead) = instead_of_entry(&text) {
                prop_assert!(instead.parse::<AddressRange>().is_ok(), "{text} became {instead}");
            }
        }
    }
}

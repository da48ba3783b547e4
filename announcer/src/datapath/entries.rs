//! The owner maps as user space reads and writes them: one entry per VIP and link.

use std::collections::BTreeMap;

use announcer_ebpf::layout::{FILTER_WORDS, FilterBit, Session, Vip4Key, Vip6Key, VipEntry};
use aya::maps::MapError;

use super::{DatapathError, maps::Maps};
use crate::vocabulary::{LinkId, Vip};

/// Which session the kernel's entries belong to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SessionRecord {
    /// UID of the session Lease; all zero for a standalone agent.
    pub uid: [u8; 16],
    /// Its epoch; 0 is no session.
    pub epoch: u64,
    /// The boot id of this machine's present boot.
    pub boot_id: [u8; 16],
}

/// All entries, by link and VIP.
pub(super) type Entries = BTreeMap<(LinkId, Vip), VipEntry>;

// === impl SessionRecord ===

impl SessionRecord {
    /// From texts as Kubernetes and `/proc/sys/kernel/random/boot_id` write them; `None` if one is no UUID.
    pub fn parse(uid: &str, epoch: u64, boot_id: &str) -> Option<Self> {
        Some(Self { uid: uuid(uid)?, epoch, boot_id: uuid(boot_id.trim())? })
    }

    /// The session's UID as Kubernetes writes it.
    pub fn uid_text(&self) -> String {
        uuid_text(&self.uid)
    }

    /// The boot id as `/proc/sys/kernel/random/boot_id` writes it.
    pub fn boot_id_text(&self) -> String {
        uuid_text(&self.boot_id)
    }

    pub(super) fn of(session: &Session) -> Self {
        Self { uid: session.uid, epoch: session.epoch, boot_id: session.boot_id }
    }
}

/// 32 hexadecimal digits, with dashes anywhere or nowhere.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let hexadecimal = digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    u128::from_str_radix(&digits, 16).ok().filter(|_| hexadecimal).map(u128::to_be_bytes)
}

fn uuid_text(bytes: &[u8; 16]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Key in the map of the VIP's family.
enum Key {
    V4(Vip4Key),
    V6(Vip6Key),
}

fn key(link: LinkId, vip: Vip) -> Key {
    match vip.ip() {
        std::net::IpAddr::V4(v4) => Key::V4(Vip4Key { link_id: link.0, address: v4.octets() }),
        std::net::IpAddr::V6(v6) => Key::V6(Vip6Key { link_id: link.0, address: v6.octets() }),
    }
}

impl Key {
    /// The map that it is a key of.
    fn map(&self) -> &'static str {
        match self {
            Self::V4(_) => "VIPS4",
            Self::V6(_) => "VIPS6",
        }
    }

    fn filter_bit(&self) -> FilterBit {
        match self {
            Self::V4(key) => FilterBit::v4(key.address),
            Self::V6(key) => FilterBit::v6(key.address),
        }
    }
}

/// Every entry of both families.
pub(super) fn read_entries(maps: &Maps) -> Result<Entries, DatapathError> {
    let mut entries = Entries::new();
    for pair in maps.vips4.iter() {
        let (Vip4Key { link_id, address }, entry) = pair.map_err(DatapathError::map("read", "VIPS4"))?;
        entries.insert((LinkId(link_id), Vip::new(address.into())), entry);
    }
    for pair in maps.vips6.iter() {
        let (Vip6Key { link_id, address }, entry) = pair.map_err(DatapathError::map("read", "VIPS6"))?;
        entries.insert((LinkId(link_id), Vip::new(address.into())), entry);
    }
    Ok(entries)
}

/// One entry, as the programs find it: without its bit in `FILTER` it is not there.
pub(super) fn read_entry(maps: &Maps, link: LinkId, vip: Vip) -> Result<Option<VipEntry>, DatapathError> {
    let key = key(link, vip);
    let bit = key.filter_bit();
    if read_filter(maps, bit.word)? & bit.mask == 0 {
        return Ok(None);
    }
    let map = key.map();
    let read = match key {
        Key::V4(key) => maps.vips4.get(&key, 0),
        Key::V6(key) => maps.vips6.get(&key, 0),
    };
    match read {
        Ok(entry) => Ok(Some(entry)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(DatapathError::map("read", map)(error)),
    }
}

/// Replaces or adds one entry, whole, in one step. Its bit in `FILTER` is set before.
pub(super) fn write_entry(
    maps: &mut Maps,
    link: LinkId,
    vip: Vip,
    entry: VipEntry,
) -> Result<(), DatapathError> {
    let key = key(link, vip);
    let bit = key.filter_bit();
    let word = read_filter(maps, bit.word)?;
    if word & bit.mask == 0 {
        write_filter(maps, bit.word, word | bit.mask)?;
    }
    let map = key.map();
    let written = maps.faults.write(map).and_then(|()| match key {
        Key::V4(key) => maps.vips4.insert(key, entry, 0),
        Key::V6(key) => maps.vips6.insert(key, entry, 0),
    });
    written.map_err(DatapathError::map("write", map))
}

/// Removes one entry; one that is not there is as good as removed. Its bit in `FILTER` stays: others may need it.
pub(super) fn delete_entry(maps: &mut Maps, link: LinkId, vip: Vip) -> Result<(), DatapathError> {
    let key = key(link, vip);
    let map = key.map();
    let removed = maps.faults.write(map).and_then(|()| match key {
        Key::V4(key) => maps.vips4.remove(&key),
        Key::V6(key) => maps.vips6.remove(&key),
    });
    match removed {
        Err(MapError::SyscallError(error)) if error.io_error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(DatapathError::map("delete from", map)),
    }
}

/// Clears the bits of `FILTER` that none of `entries` needs. These must be all that the kernel has.
pub(super) fn trim_filter(maps: &mut Maps, entries: &Entries) -> Result<(), DatapathError> {
    let mut needed = BTreeMap::<u32, u64>::new();
    for (link, vip) in entries.keys() {
        let FilterBit { word, mask } = key(*link, *vip).filter_bit();
        *needed.entry(word).or_default() |= mask;
    }
    for index in 0..FILTER_WORDS {
        let word = read_filter(maps, index)?;
        let wanted = word & needed.get(&index).copied().unwrap_or_default();
        if word != wanted {
            write_filter(maps, index, wanted)?;
        }
    }
    Ok(())
}

fn read_filter(maps: &Maps, word: u32) -> Result<u64, DatapathError> {
    maps.filter.get(&word, 0).map_err(DatapathError::map("read", "FILTER"))
}

/// Nobody but the one agent writes, and a store that is seen byte by byte is no harm: a bit that is needed is set in
/// the old word and in the new one.
fn write_filter(maps: &mut Maps, word: u32, bits: u64) -> Result<(), DatapathError> {
    let written = maps.faults.write("FILTER").and_then(|()| maps.filter.set(word, bits, 0));
    written.map_err(DatapathError::map("write", "FILTER"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_its_sixteen_bytes_in_the_order_of_its_text() {
        let text = "00112233-4455-6677-8899-aabbccddeeff\n";
        let record = SessionRecord::parse("ffeeddccbbaa99887766554433221100", 3, text).expect("two UUIDs");
        assert_eq!(record.boot_id, std::array::from_fn(|n| n as u8 * 0x11));
        assert_eq!(record.uid, std::array::from_fn(|n| 0xff - n as u8 * 0x11));
        for bad in ["", "0011", "+0112233445566778899aabbccddeeff", "g0112233445566778899aabbccddeeff"] {
            assert_eq!(SessionRecord::parse(bad, 3, text), None, "{bad}");
        }
    }
}

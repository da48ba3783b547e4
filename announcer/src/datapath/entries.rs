//! The owner maps as user space reads and writes them: one entry per VIP and link.

use std::collections::BTreeMap;

use announcer_ebpf::layout::{Session, Vip4Key, Vip6Key, VipEntry};
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
    pub(super) fn of(session: &Session) -> Self {
        Self { uid: session.uid, epoch: session.epoch, boot_id: session.boot_id }
    }
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

/// One entry, as the kernel has it.
pub(super) fn read_entry(maps: &Maps, link: LinkId, vip: Vip) -> Result<Option<VipEntry>, DatapathError> {
    let (map, result) = match key(link, vip) {
        Key::V4(key) => ("VIPS4", maps.vips4.get(&key, 0)),
        Key::V6(key) => ("VIPS6", maps.vips6.get(&key, 0)),
    };
    match result {
        Ok(entry) => Ok(Some(entry)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(DatapathError::map("read", map)(error)),
    }
}

/// Replaces or adds one entry, whole, in one step.
pub(super) fn write_entry(
    maps: &mut Maps,
    link: LinkId,
    vip: Vip,
    entry: VipEntry,
) -> Result<(), DatapathError> {
    let (map, result) = match key(link, vip) {
        Key::V4(key) => ("VIPS4", maps.vips4.insert(key, entry, 0)),
        Key::V6(key) => ("VIPS6", maps.vips6.insert(key, entry, 0)),
    };
    result.map_err(DatapathError::map("write", map))
}

/// Removes one entry; one that is not there is as good as removed.
pub(super) fn delete_entry(maps: &mut Maps, link: LinkId, vip: Vip) -> Result<(), DatapathError> {
    let (map, result) = match key(link, vip) {
        Key::V4(key) => ("VIPS4", maps.vips4.remove(&key)),
        Key::V6(key) => ("VIPS6", maps.vips6.remove(&key)),
    };
    match result {
        Err(MapError::SyscallError(error)) if error.io_error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(DatapathError::map("delete from", map)),
    }
}

//! The generation of this agent: its maps, the links that run it, and what it wrote.

use std::{collections::BTreeSet, os::fd::BorrowedFd};

use announcer_ebpf::layout::{
    Counters, LINKS_ARRAY_ENTRIES, LinkEntry, LinkKey, MacKey, NODE_SLOT, VipEntry, role,
};
use aya::{
    maps::{MapError, PerCpuValues},
    util::nr_cpus,
};

use super::{
    DatapathError,
    attach::Attached,
    entries::{Entries, delete_entry, trim_filter, write_entry},
    generation::Generation,
    shape::counter_slots,
    slots::Slots,
};
use crate::vocabulary::{Link, LinkId, Vip};

/// The live generation, which only this agent writes.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) generation: Generation,
    pub(super) links: Vec<Attached>,
    /// What the owner maps hold.
    pub(super) entries: Entries,
    pub(super) slots: Slots,
}

// === impl Active ===

impl Active {
    pub(super) fn new(generation: Generation) -> Self {
        Self { generation, links: Vec::new(), entries: Entries::new(), slots: Slots::new(counter_slots()) }
    }

    pub(super) fn link(&self, id: LinkId) -> Result<&Attached, DatapathError> {
        self.links.iter().find(|attached| attached.link.id == id).ok_or(DatapathError::NotAttached(id))
    }

    /// All VIPs that have entries.
    pub(super) fn vips(&self) -> BTreeSet<Vip> {
        self.entries.keys().map(|(_, vip)| *vip).collect()
    }

    /// Writes an entry to the kernel and to the books.
    pub(super) fn put(&mut self, link: LinkId, vip: Vip, entry: VipEntry) -> Result<(), DatapathError> {
        write_entry(&mut self.generation.maps, link, vip, entry)?;
        self.entries.insert((link, vip), entry);
        Ok(())
    }

    /// Writes a new entry `elsewhere`, with a counter slot of its own.
    pub(super) fn put_elsewhere(&mut self, link: LinkId, vip: Vip) -> Result<(), DatapathError> {
        let counter_slot = self.new_slot()?;
        self.put(link, vip, VipEntry { epoch: 0, role: role::ELSEWHERE, counter_slot })
    }

    /// Deletes an entry. The caller waits for a grace period before it adds another, and ends with
    /// [`trim`](Self::trim).
    pub(super) fn delete(&mut self, link: LinkId, vip: Vip) -> Result<(), DatapathError> {
        delete_entry(&mut self.generation.maps, link, vip)?;
        if let Some(entry) = self.entries.remove(&(link, vip)) {
            self.slots.free(entry.counter_slot);
        }
        Ok(())
    }

    /// Takes from `FILTER` what deleted entries have left there. The books hold at least what the kernel has: an entry
    /// enters them after the kernel has it, and leaves them after it is gone there.
    pub(super) fn trim(&mut self) -> Result<(), DatapathError> {
        trim_filter(&mut self.generation.maps, &self.entries)
    }

    /// A zeroed slot of `COUNTERS`.
    pub(super) fn new_slot(&mut self) -> Result<u32, DatapathError> {
        let Some(slot) = self.slots.take() else { return Ok(NODE_SLOT) };
        let mut zero = || {
            let cpus = nr_cpus().map_err(|(_, error)| MapError::IoError(error))?;
            let zeroes =
                PerCpuValues::try_from(vec![Counters::default(); cpus]).map_err(MapError::IoError)?;
            self.generation.maps.counters.set(slot, zeroes, 0)
        };
        zero().map_err(DatapathError::map("write", "COUNTERS"))?;
        Ok(slot)
    }

    /// Tells the program which link announces for what comes in, and that its hardware address is ours.
    pub(super) fn put_link(&mut self, link: &Link) -> Result<(), DatapathError> {
        let maps = &mut self.generation.maps;
        let own = MacKey { mac: link.mac.0, zero: [0; 2] };
        maps.macs.insert(own, link.id.0, 0).map_err(DatapathError::map("write", "MACS"))?;
        let entry = LinkEntry { link_id: link.id.0, mac: link.mac.0, flags: 0 };
        for key in ingress_keys(link) {
            if is_in_array(&key) {
                maps.links
                    .set(key.ingress_ifindex, entry, 0)
                    .map_err(DatapathError::map("write", "LINKS"))?;
            } else {
                let written = maps.links_beyond.insert(key, entry, 0);
                written.map_err(DatapathError::map("write", "LINKS_BEYOND"))?;
            }
        }
        Ok(())
    }

    /// Takes back [`put_link`](Self::put_link), and the link's entries. The program is detached from it already, and
    /// the caller ends with [`forget_macs`](Self::forget_macs).
    pub(super) fn drop_link(&mut self, link: &Link) -> Result<(), DatapathError> {
        self.drop_ingress(link)?;
        let vips: Vec<Vip> =
            self.entries.keys().filter(|(id, _)| *id == link.id).map(|(_, vip)| *vip).collect();
        vips.into_iter().try_for_each(|vip| self.delete(link.id, vip))
    }

    /// Nothing is announced any more for what comes in there.
    pub(super) fn drop_ingress(&mut self, link: &Link) -> Result<(), DatapathError> {
        let maps = &mut self.generation.maps;
        for key in ingress_keys(link) {
            if is_in_array(&key) {
                let written = maps.links.set(key.ingress_ifindex, LinkEntry::default(), 0);
                written.map_err(DatapathError::map("write", "LINKS"))?;
            } else {
                let removed = maps.links_beyond.remove(&key);
                removed.or_else(not_there).map_err(DatapathError::map("delete from", "LINKS_BEYOND"))?;
            }
        }
        Ok(())
    }

    /// Removes from `MACS` what no attached link has any more.
    pub(super) fn forget_macs(&mut self) -> Result<(), DatapathError> {
        let ours: BTreeSet<[u8; 6]> = self.links.iter().map(|attached| attached.link.mac.0).collect();
        let maps = &mut self.generation.maps;
        let known: Result<Vec<MacKey>, _> = maps.macs.keys().collect();
        for key in known.map_err(DatapathError::map("read", "MACS"))? {
            if !ours.contains(&key.mac) {
                let removed = maps.macs.remove(&key);
                removed.or_else(not_there).map_err(DatapathError::map("delete from", "MACS"))?;
            }
        }
        Ok(())
    }

    /// What all CPUs have counted in a slot.
    pub(super) fn counters(&self, slot: u32) -> Result<Counters, DatapathError> {
        let values = self.generation.maps.counters.get(&slot, 0);
        Ok(sum(&values.map_err(DatapathError::map("read", "COUNTERS"))?))
    }

    /// The descriptor of the program that a link of this attachment runs.
    pub(super) fn program(&self, attached: &Attached) -> BorrowedFd<'_> {
        self.generation.program(attached.pin.attachment)
    }
}

/// The counts of all CPUs, and the latest time.
pub(super) fn sum(values: &[Counters]) -> Counters {
    values.iter().fold(Counters::default(), |sum, counters| {
        let &Counters {
            requests,
            replies,
            fenced,
            suppressed,
            conflicts,
            events_lost,
            malformed,
            last_seen_boot_ns,
        } = counters;
        Counters {
            requests: sum.requests + requests,
            replies: sum.replies + replies,
            fenced: sum.fenced + fenced,
            suppressed: sum.suppressed + suppressed,
            conflicts: sum.conflicts + conflicts,
            events_lost: sum.events_lost + events_lost,
            malformed: sum.malformed + malformed,
            last_seen_boot_ns: sum.last_seen_boot_ns.max(last_seen_boot_ns),
        }
    })
}

/// Where frames for a link come in: the device itself, and for a VLAN device its tag on the device below.
fn ingress_keys(link: &Link) -> impl Iterator<Item = LinkKey> + use<> {
    let own = LinkKey { ingress_ifindex: link.id.0, vlan_id: 0 };
    let tagged = link.vlan.map(|(below, id)| LinkKey { ingress_ifindex: below.0, vlan_id: u32::from(id) });
    std::iter::once(own).chain(tagged)
}

fn is_in_array(key: &LinkKey) -> bool {
    key.vlan_id == 0 && key.ingress_ifindex < LINKS_ARRAY_ENTRIES
}

/// An entry that is not there is as good as removed.
fn not_there(error: MapError) -> Result<(), MapError> {
    match error {
        MapError::KeyNotFound => Ok(()),
        MapError::SyscallError(error) if error.io_error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        error => Err(error),
    }
}

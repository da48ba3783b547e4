//! The generation of this agent: its maps, the links that run it, and what it wrote.

use std::{collections::BTreeSet, os::fd::BorrowedFd, time::Instant};

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
    maps::Maps,
    shape::counter_slots,
    slots::Slots,
    tables::{PerFamily, Sizes},
};
use crate::vocabulary::{Link, LinkId, Vip};

/// The live generation, which only this agent writes.
#[derive(Debug)]
pub(super) struct Active {
    /// Its folder's number.
    pub(super) number: u64,
    pub(super) generation: Generation,
    /// How many entries its tables can hold.
    pub(super) capacity: Sizes,
    /// When larger tables were last refused.
    pub(super) refused_to_grow: Option<Instant>,
    pub(super) links: Vec<Attached>,
    /// What the owner maps hold.
    pub(super) entries: Entries,
    pub(super) slots: Slots,
    /// Not answered any more, and not told yet: the call that took them away failed later on.
    pub(super) lost: BTreeSet<(Vip, LinkId)>,
}

// === impl Active ===

impl Active {
    pub(super) fn new(number: u64, generation: Generation) -> Result<Self, DatapathError> {
        Ok(Self {
            number,
            capacity: generation.maps.capacity()?,
            generation,
            refused_to_grow: None,
            links: Vec::new(),
            entries: Entries::new(),
            slots: Slots::new(counter_slots()),
            lost: BTreeSet::new(),
        })
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
        self.put_new(link, vip, 0, role::ELSEWHERE)
    }

    /// Writes an entry where there is none, with a counter slot of its own.
    pub(super) fn put_new(
        &mut self,
        link: LinkId,
        vip: Vip,
        epoch: u64,
        role: u32,
    ) -> Result<(), DatapathError> {
        let counter_slot = self.new_slot();
        let put = self.put(link, vip, VipEntry { epoch, role, counter_slot });
        if put.is_err() {
            self.slots.free(counter_slot);
        }
        put
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
    /// enters them after the kernel has it, and leaves them after it is gone there. A bit that stays costs time, and
    /// nothing else: it sends a lookup to a table that has no such entry.
    pub(super) fn trim(&mut self) {
        if let Err(error) = trim_filter(&mut self.generation.maps, &self.entries) {
            tracing::warn!(error = error.in_a_line(), "The filter keeps the bits of VIPs that are gone");
        }
    }

    /// A zeroed slot of `COUNTERS`; the node's own, which many share, where none is left or it can't be zeroed. What is
    /// counted decides nothing.
    pub(super) fn new_slot(&mut self) -> u32 {
        let Some(slot) = self.slots.take() else { return NODE_SLOT };
        match zero(&mut self.generation.maps, slot) {
            Ok(()) => slot,
            Err(error) => {
                tracing::warn!(%error, "An address has no counters of its own");
                self.slots.free(slot);
                NODE_SLOT
            }
        }
    }

    /// Tells the program which link announces for what comes in, and that its hardware address is ours.
    pub(super) fn put_link(&mut self, link: &Link) -> Result<(), DatapathError> {
        put_link(&mut self.generation.maps, link)
    }

    /// Takes back [`put_link`](Self::put_link), and the link's entries. The program is detached from it already, and
    /// the caller ends with [`forget_macs`](Self::forget_macs). What can't be taken back is nobody's any more: the next
    /// [`apply`](Self::apply) tries again.
    pub(super) fn drop_link(&mut self, link: &Link) {
        if let Err(error) = self.drop_ingress(link) {
            tracing::warn!(link = link.name, error = error.in_a_line(), "The link's entry stays");
        }
        let vips: Vec<Vip> =
            self.entries.keys().filter(|(id, _)| *id == link.id).map(|(_, vip)| *vip).collect();
        let failed = vips.into_iter().filter_map(|vip| self.delete(link.id, vip).err()).last();
        if let Some(error) = failed {
            tracing::warn!(link = link.name, error = error.in_a_line(), "Entries of the link stay for now");
        }
    }

    /// Nothing is announced any more for what comes in there.
    pub(super) fn drop_ingress(&mut self, link: &Link) -> Result<(), DatapathError> {
        let maps = &mut self.generation.maps;
        for key in ingress_keys(link) {
            if is_in_array(&key) {
                let written = maps.faults.write("LINKS");
                let written =
                    written.and_then(|()| maps.links.set(key.ingress_ifindex, LinkEntry::default(), 0));
                written.map_err(DatapathError::map("write", "LINKS"))?;
            } else {
                let removed = maps.faults.write("LINKS_BEYOND");
                let removed = removed.and_then(|()| maps.links_beyond.remove(&key));
                removed.or_else(not_there).map_err(DatapathError::map("delete from", "LINKS_BEYOND"))?;
            }
        }
        Ok(())
    }

    /// How many entries of each table are needed if these links, too, carry the program.
    pub(super) fn needed(&self, more: &[&Link], vips: PerFamily) -> Sizes {
        let links = || self.links.iter().map(|attached| &attached.link).chain(more.iter().copied());
        let beyond = links().flat_map(ingress_keys).filter(|key| !is_in_array(key)).count();
        let macs = links().map(|link| link.mac).collect::<BTreeSet<_>>().len();
        Sizes::needed(vips, links().count(), beyond.max(macs))
    }

    /// Removes from `MACS` what no attached link has any more. One that stays is called ours, and no stranger, until the
    /// links change again.
    pub(super) fn forget_macs(&mut self) {
        let ours: BTreeSet<[u8; 6]> = self.links.iter().map(|attached| attached.link.mac.0).collect();
        let maps = &mut self.generation.maps;
        let known: Vec<_> = maps.macs.keys().collect();
        let mut failed = None;
        for key in known {
            let removed = key.and_then(|key| {
                if ours.contains(&key.mac) {
                    return Ok(());
                }
                maps.faults.write("MACS")?;
                maps.macs.remove(&key).or_else(not_there)
            });
            failed = removed.err().or(failed);
        }
        if let Some(error) = failed {
            tracing::warn!(%error, "MACS keeps a hardware address that no link has any more");
        }
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

fn zero(maps: &mut Maps, slot: u32) -> Result<(), MapError> {
    let cpus = nr_cpus().map_err(|(_, error)| MapError::IoError(error))?;
    let zeroes = PerCpuValues::try_from(vec![Counters::default(); cpus]).map_err(MapError::IoError)?;
    maps.faults.write("COUNTERS")?;
    maps.counters.set(slot, zeroes, 0)
}

/// Tells the program which link announces for what comes in, and that its hardware address is ours.
pub(super) fn put_link(maps: &mut Maps, link: &Link) -> Result<(), DatapathError> {
    let own = MacKey { mac: link.mac.0, zero: [0; 2] };
    let written = maps.faults.write("MACS").and_then(|()| maps.macs.insert(own, link.id.0, 0));
    written.map_err(DatapathError::map("write", "MACS"))?;
    let entry = LinkEntry { link_id: link.id.0, mac: link.mac.0, flags: 0 };
    for key in ingress_keys(link) {
        if is_in_array(&key) {
            let written = maps.faults.write("LINKS");
            let written = written.and_then(|()| maps.links.set(key.ingress_ifindex, entry, 0));
            written.map_err(DatapathError::map("write", "LINKS"))?;
        } else {
            let written = maps.faults.write("LINKS_BEYOND");
            let written = written.and_then(|()| maps.links_beyond.insert(key, entry, 0));
            written.map_err(DatapathError::map("write", "LINKS_BEYOND"))?;
        }
    }
    Ok(())
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

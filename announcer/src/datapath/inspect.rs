//! Questions to the kernel: what is answered, whether it really is, what was counted and seen.

use std::collections::BTreeMap;

use announcer_ebpf::layout::{NODE_SLOT, role};
use aya::maps::RingBuf;

use super::{
    Attachment, ConflictReader, Counters, Datapath, DatapathError, KernelLogReader, Reason,
    entries::read_entry, shape::MapName,
};
use crate::vocabulary::{BootNs, LinkId, Vip};

// === impl Datapath ===

impl Datapath {
    /// Whether the kernel answers for the VIP on that link now: role, epoch and deadline, read from the kernel. To be
    /// asked before every announcement frame; takes about a microsecond.
    pub fn entry_live(&self, vip: Vip, link: LinkId) -> bool {
        let Some(active) = &self.active else { return false };
        let session = active.generation.maps.session.read();
        let entry = read_entry(&active.generation.maps, link, vip).ok().flatten();
        let owned = entry.is_some_and(|entry| entry.role == role::OWNED && entry.epoch == session.epoch);
        owned && active.link(link).is_ok() && BootNs::now() < BootNs(session.deadline_boot_ns)
    }

    /// Runs the live program on a request for the VIP, as if it came in by that link: whether it answers, rightly.
    /// Counters and events are left alone.
    ///
    /// # Errors
    /// The link is not attached, or the kernel can't run the program.
    pub fn prove(&self, vip: Vip, link: LinkId) -> Result<bool, DatapathError> {
        let active = self.active.as_ref().ok_or(DatapathError::NotEstablished)?;
        active.prove(active.link(link)?, vip)
    }

    /// What was seen of each VIP on each link. VIPs past the table's end share one count, and are left out, as are those
    /// whose counts can't be read.
    ///
    /// # Errors
    /// Not established.
    pub fn counters(&self) -> Result<BTreeMap<(Vip, LinkId), Counters>, DatapathError> {
        let active = self.active.as_ref().ok_or(DatapathError::NotEstablished)?;
        let own = active.entries.iter().filter(|(_, entry)| entry.counter_slot != NODE_SLOT);
        let read = |counter_slot| active.counters(counter_slot).ok();
        Ok(own.filter_map(|((link, vip), entry)| Some(((*vip, *link), read(entry.counter_slot)?))).collect())
    }

    /// What no VIP has counted: malformed Neighbour Discovery, and VIPs past the table's end.
    ///
    /// # Errors
    /// Not established, or the map can't be read.
    pub fn node_counters(&self) -> Result<Counters, DatapathError> {
        self.active.as_ref().ok_or(DatapathError::NotEstablished)?.counters(NODE_SLOT)
    }

    /// The links that carry the program, and in which mode; what is in use, not what is wished for.
    pub fn attachments(&self) -> BTreeMap<LinkId, (Attachment, Option<Reason>)> {
        let links = self.active.iter().flat_map(|active| &active.links);
        links.map(|attached| (attached.link.id, (attached.pin.attachment, attached.why))).collect()
    }

    /// The reading end of the conflicts; `None` before [`establish`](Self::establish), and from the second time on.
    ///
    /// # Errors
    /// The ring buffer can't be mapped.
    pub fn events(&mut self) -> Result<Option<ConflictReader>, DatapathError> {
        let Some(active) = self.active.as_ref().filter(|_| !self.events_taken) else { return Ok(None) };
        let ring: RingBuf<_> = active.generation.maps.open_as(MapName::Events)?;
        self.events_taken = true;
        Ok(Some(ConflictReader::new(ring)))
    }

    /// The reading end of what the programs tell; `None` before [`establish`](Self::establish), if
    /// [`Config::kernel_log`](super::Config::kernel_log) is off, and from the second time on.
    pub fn kernel_log(&mut self) -> Option<KernelLogReader> {
        self.active.as_mut()?.generation.log.take()
    }
}

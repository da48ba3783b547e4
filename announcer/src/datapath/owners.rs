//! The election's result into the owner maps: what is taken away first, then what is given.

use std::collections::{BTreeMap, BTreeSet};

use announcer_ebpf::layout::{VipEntry, role};

use super::{DatapathError, active::Active, entries::read_entry, sys};
use crate::vocabulary::{LinkId, Vip};

/// Every VIP that this project announces, and the links on which this node owns it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Owners {
    /// A VIP with no link is owned elsewhere. Every VIP in here has an entry on every attached link; a VIP that is not
    /// in here has none, and the stack answers for it if it likes.
    pub vips: BTreeMap<Vip, BTreeSet<LinkId>>,
}

/// What [`super::Datapath::apply`] changed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Applied {
    /// Answered from now on, while the deadline is ahead; read back from the kernel.
    pub gained: BTreeSet<(Vip, LinkId)>,
    /// Not answered any more; a grace period has passed since.
    pub lost: BTreeSet<(Vip, LinkId)>,
    /// Owned on a link that carries no program: nobody answers there.
    pub unserved: BTreeSet<(Vip, LinkId)>,
}

/// How often a removal is tried: the kernel may be out of memory for a moment.
const ATTEMPTS: usize = 3;

// === impl Active ===

impl Active {
    /// Makes the maps say what `owners` says. On an error in the first half, the removals, the node is silent.
    pub(super) fn apply(
        &mut self,
        owners: &Owners,
        only: Option<&BTreeSet<Vip>>,
    ) -> Result<Applied, DatapathError> {
        let mut applied = Applied::default();
        let epoch = self.generation.maps.session.read().epoch;
        if let Err(error) = self.take_away(owners, only, epoch, &mut applied) {
            // What can't be taken away must not be answered: the caller is about to give the claim up.
            self.generation.maps.session.set_deadline(0);
            sys::grace_period().map_err(DatapathError::kernel("wait for running programs"))?;
            return Err(error);
        }
        self.give(owners, only, epoch, &mut applied)?;
        Ok(applied)
    }

    /// Whether the entry is owned under this epoch, and `owners` wants that.
    fn stays(owners: &Owners, epoch: u64, link: LinkId, vip: Vip, entry: &VipEntry) -> bool {
        entry.epoch == epoch && owners.vips.get(&vip).is_some_and(|links| links.contains(&link))
    }

    fn take_away(
        &mut self,
        owners: &Owners,
        only: Option<&BTreeSet<Vip>>,
        epoch: u64,
        applied: &mut Applied,
    ) -> Result<(), DatapathError> {
        let (mut removed, mut deleted) = (false, false);
        // On whatever link: an entry that is left behind would answer.
        let may_differ =
            self.entries.iter().filter(|((_, vip), _)| only.is_none_or(|vips| vips.contains(vip)));
        let may_differ: Vec<_> = may_differ.map(|(key, entry)| (*key, *entry)).collect();
        for ((link, vip), entry) in may_differ {
            let owned = entry.role == role::OWNED;
            if !owners.vips.contains_key(&vip) {
                self.retry(|active| active.delete(link, vip))?;
                deleted = true;
            } else if owned && !Self::stays(owners, epoch, link, vip, &entry) {
                let elsewhere = VipEntry { epoch: 0, role: role::ELSEWHERE, ..entry };
                self.retry(|active| active.put(link, vip, elsewhere))?;
            } else {
                continue;
            }
            removed = true;
            if owned {
                applied.lost.insert((vip, link));
            }
        }
        if deleted && let Err(error) = self.trim() {
            // It costs time, and nothing else: a bit too many sends a lookup to a table that has no such entry.
            tracing::warn!(%error, "The filter keeps the bits of VIPs that are gone");
        }
        if removed {
            // Runs in flight may still answer by the old entries; and what they read must not be reused under them.
            sys::grace_period().map_err(DatapathError::kernel("wait for running programs"))?;
        }
        Ok(())
    }

    fn give(
        &mut self,
        owners: &Owners,
        only: Option<&BTreeSet<Vip>>,
        epoch: u64,
        applied: &mut Applied,
    ) -> Result<(), DatapathError> {
        let attached: Vec<LinkId> = self.links.iter().map(|attached| attached.link.id).collect();
        for (&vip, on) in owners.vips.iter().filter(|(vip, _)| only.is_none_or(|vips| vips.contains(vip))) {
            for &link in &attached {
                let known = self.entries.get(&(link, vip)).copied();
                if known.is_none() && !on.contains(&link) {
                    self.put_elsewhere(link, vip)?;
                } else if on.contains(&link) && known.is_none_or(|entry| entry.role != role::OWNED) {
                    let counter_slot = match known {
                        Some(entry) => entry.counter_slot,
                        None => self.new_slot()?,
                    };
                    self.put(link, vip, VipEntry { epoch, role: role::OWNED, counter_slot })?;
                    applied.gained.insert((vip, link));
                }
            }
            applied
                .unserved
                .extend(on.iter().filter(|link| !attached.contains(link)).map(|link| (vip, *link)));
        }
        for &(vip, link) in &applied.gained {
            let read = read_entry(&self.generation.maps, link, vip)?;
            if read.as_ref() != self.entries.get(&(link, vip)) {
                return Err(DatapathError::ReadBack { vip, link });
            }
        }
        Ok(())
    }

    /// All owned entries → elsewhere, with a grace period after them.
    pub(super) fn disown_all(&mut self) -> Result<(), DatapathError> {
        for ((link, vip), entry) in self.entries.clone() {
            if entry.role == role::OWNED {
                let elsewhere = VipEntry { epoch: 0, role: role::ELSEWHERE, ..entry };
                self.retry(|active| active.put(link, vip, elsewhere))?;
            }
        }
        sys::grace_period().map_err(DatapathError::kernel("wait for running programs"))
    }

    fn retry(
        &mut self,
        mut write: impl FnMut(&mut Self) -> Result<(), DatapathError>,
    ) -> Result<(), DatapathError> {
        for _ in 1..ATTEMPTS {
            if write(self).is_ok() {
                return Ok(());
            }
        }
        write(self)
    }
}

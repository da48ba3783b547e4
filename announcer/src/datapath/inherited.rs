//! What the kernel holds when an agent starts: pinned links, the generation that each of them runs, and its maps.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::{AsFd, OwnedFd},
};

use announcer_ebpf::layout::{Session, VipEntry, role};

use super::{
    DatapathError,
    attach::detach,
    entries::{Entries, SessionRecord, read_entries},
    generation::{Generation, program_ids},
    maps::Unreadable,
    pin_root::{LinkPin, PinRoot},
    sys,
};
use crate::vocabulary::{BootNs, LinkId, Vip};

/// What an older agent has left, and the kernel still goes by.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Inherited {
    /// Under which session the kernel answers.
    pub session: SessionRecord,
    /// Until when.
    pub deadline: BootNs,
    /// The VIPs it answers for, and on which links.
    pub owned: BTreeMap<Vip, BTreeSet<LinkId>>,
    /// All VIPs it knows, owned or elsewhere.
    pub known: BTreeSet<Vip>,
}

/// A pinned link that somebody's program runs on.
#[derive(Debug)]
pub(super) struct HeldLink {
    pub(super) pin: LinkPin,
    pub(super) fd: OwnedFd,
    /// The generation that it runs; `None` if no folder has its program, or nobody can read that folder.
    pub(super) generation: Option<u64>,
}

/// Everything found under the pin directory.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) links: Vec<HeldLink>,
    /// The generations that links run, by number.
    pub(super) generations: BTreeMap<u64, Generation>,
    /// Their entries.
    entries: BTreeMap<u64, Entries>,
    /// Generations that links run and this build must not read.
    pub(super) unreadable: BTreeMap<u64, Unreadable>,
    /// `None` unless every link runs a generation that can be read, and all of them agree.
    pub(super) inherited: Option<Inherited>,
}

// === impl Found ===

impl Found {
    pub(super) fn look(root: &PinRoot) -> Result<Self, DatapathError> {
        let folders: Vec<(u64, Vec<u32>)> = root
            .generations()?
            .into_iter()
            .map(|number| (number, program_ids(&root.generation(number))))
            .collect();
        let mut found = Self::default();
        for pin in LinkPin::all(root.path())? {
            let Ok(fd) = sys::get_pinned(&pin.path) else {
                tracing::warn!(path = %pin.path.display(), "The pinned link can't be opened; it is left alone");
                continue;
            };
            let Ok(info) = sys::link_info(fd.as_fd()) else {
                tracing::warn!(path = %pin.path.display(), "The pinned link can't be read; it is left alone");
                continue;
            };
            if info.kind != pin.attachment.link_type() {
                tracing::warn!(path = %pin.path.display(), "The pin is not of the link that its name says; it is left alone");
                continue;
            }
            if info.ifindex != pin.link.0 {
                // Its device is gone, and perhaps another has come with the same name.
                if let Err(error) = detach(&pin, fd) {
                    tracing::warn!(error = error.in_a_line(), "The pin of a device that is gone stays");
                }
                continue;
            }
            let runs = folders.iter().find(|(_, programs)| programs.contains(&info.prog_id));
            let generation = match runs {
                Some((number, _)) => found.open(root, *number)?,
                None => None,
            };
            found.links.push(HeldLink { pin, fd, generation });
        }
        found.inherited = found.judge();
        Ok(found)
    }

    /// Opens a live generation once; `None` if it can't be read.
    fn open(&mut self, root: &PinRoot, number: u64) -> Result<Option<u64>, DatapathError> {
        if self.unreadable.contains_key(&number) {
            return Ok(None);
        }
        if !self.generations.contains_key(&number) {
            match Generation::open(&root.generation(number))? {
                Ok(generation) => {
                    self.entries.insert(number, read_entries(&generation.maps)?);
                    self.generations.insert(number, generation);
                }
                Err(why) => {
                    tracing::warn!(
                        generation = number,
                        %why,
                        "The pinned maps are of another build; they are replaced"
                    );
                    self.unreadable.insert(number, why);
                    return Ok(None);
                }
            }
        }
        Ok(Some(number))
    }

    fn judge(&self) -> Option<Inherited> {
        let mut sessions = self.generations.values().map(|generation| generation.maps.session.read());
        let first = sessions.next()?;
        let record = SessionRecord::of(&first);
        let agree = sessions.clone().all(|session| SessionRecord::of(&session) == record);
        let all_read = self.links.iter().all(|link| link.generation.is_some());
        // Epoch 0 is no session: an agent was stopped before it began one.
        if !agree || !all_read || record.epoch == 0 {
            return None;
        }
        let deadline =
            sessions.map(|session| session.deadline_boot_ns).fold(first.deadline_boot_ns, u64::min);
        let mut inherited = Inherited {
            session: record,
            deadline: BootNs(deadline),
            owned: BTreeMap::new(),
            known: BTreeSet::new(),
        };
        for link in &self.links {
            for (vip, entry) in self.entries(link) {
                inherited.known.insert(vip);
                if is_owned(&entry, &first) {
                    inherited.owned.entry(vip).or_default().insert(link.pin.link);
                }
            }
        }
        Some(inherited)
    }

    /// The entries that the link's own program goes by.
    pub(super) fn entries(&self, link: &HeldLink) -> impl Iterator<Item = (Vip, VipEntry)> {
        let entries = link.generation.and_then(|number| self.entries.get(&number));
        let id = link.pin.link;
        let own = entries.into_iter().flatten().filter(move |((of, _), _)| *of == id);
        own.map(|((_, vip), entry)| (*vip, *entry))
    }
}

/// Whether the kernel would answer by this entry, the deadline aside.
pub(super) fn is_owned(entry: &VipEntry, session: &Session) -> bool {
    entry.role == role::OWNED && entry.epoch == session.epoch
}

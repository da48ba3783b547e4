//! The election's result into the owner maps: what is taken away first, then what is given.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

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
    /// Entries that the kernel would not write. Whatever needs to be answered there is not, and the others are as they
    /// should be; the next call with all VIPs tries again.
    pub refused: BTreeMap<(Vip, LinkId), Refused>,
}

/// Why the kernel would not write an entry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refused {
    /// The table has no room for it.
    Full,
    /// Anything else, such as a lack of memory, in one line.
    Kernel(String),
}

/// How often a write is tried: the kernel may be out of memory for a moment.
const ATTEMPTS: usize = 3;

// === impl Refused ===

impl Refused {
    fn of(error: &DatapathError) -> Self {
        if error.is_full() { Self::Full } else { Self::Kernel(error.in_a_line()) }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the table is full"),
            Self::Kernel(why) => f.write_str(why),
        }
    }
}

// === impl Active ===

impl Active {
    /// Makes the maps say what `owners` says, entry by entry. If one that is owned can't be taken away, the node is
    /// silent, and nothing is given.
    pub(super) fn apply(
        &mut self,
        owners: &Owners,
        only: Option<&BTreeSet<Vip>>,
    ) -> Result<Applied, DatapathError> {
        let mut applied = Applied { lost: std::mem::take(&mut self.lost), ..Applied::default() };
        let epoch = self.generation.maps.session.read().epoch;
        if let Err(error) = self.take_away(owners, only, epoch, &mut applied) {
            // What can't be taken away must not be answered: the caller is about to give the claim up.
            self.generation.maps.session.set_deadline(0);
            self.lost = applied.lost;
            sys::grace_period().map_err(DatapathError::kernel("wait for running programs"))?;
            return Err(error);
        }
        self.give(owners, only, epoch, &mut applied);
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
        let (mut removed, mut deleted, mut stuck) = (false, false, None);
        let attached: BTreeSet<LinkId> = self.links.iter().map(|attached| attached.link.id).collect();
        // On whatever link: an entry that is left behind would answer.
        let may_differ =
            self.entries.iter().filter(|((_, vip), _)| only.is_none_or(|vips| vips.contains(vip)));
        let may_differ: Vec<_> = may_differ.map(|(key, entry)| (*key, *entry)).collect();
        for ((link, vip), entry) in may_differ {
            let owned = entry.role == role::OWNED;
            let gone = !owners.vips.contains_key(&vip) || !attached.contains(&link);
            let taken = if gone {
                self.retry(|active| active.delete(link, vip))
            } else if owned && !Self::stays(owners, epoch, link, vip, &entry) {
                let elsewhere = VipEntry { epoch: 0, role: role::ELSEWHERE, ..entry };
                self.retry(|active| active.put(link, vip, elsewhere))
            } else {
                continue;
            };
            match taken {
                Ok(()) => {
                    (removed, deleted) = (true, deleted || gone);
                    if owned {
                        applied.lost.insert((vip, link));
                    }
                }
                Err(source) if owned => {
                    let source = Box::new(source);
                    stuck = stuck.or(Some(DatapathError::NotTakenAway { vip, link, source }));
                }
                // By such an entry nothing is answered: it can wait.
                Err(error) => drop(applied.refused.insert((vip, link), Refused::of(&error))),
            }
        }
        if deleted {
            self.trim();
        }
        if let Some(stuck) = stuck {
            return Err(stuck);
        }
        if removed {
            // Runs in flight may still answer by the old entries; and what they read must not be reused under them.
            sys::grace_period().map_err(DatapathError::kernel("wait for running programs"))?;
        }
        Ok(())
    }

    /// What is owned goes first, should there be no room for all.
    fn give(&mut self, owners: &Owners, only: Option<&BTreeSet<Vip>>, epoch: u64, applied: &mut Applied) {
        let attached: Vec<LinkId> = self.links.iter().map(|attached| attached.link.id).collect();
        let of = |owned: bool| {
            let these = owners.vips.iter().filter(move |(_, on)| on.is_empty() != owned);
            these.filter(move |(vip, _)| only.is_none_or(|vips| vips.contains(vip)))
        };
        for (&vip, on) in of(true).chain(of(false)) {
            for &link in &attached {
                let known = self.entries.get(&(link, vip)).copied();
                let owned = on.contains(&link);
                let given = match known {
                    None if !owned => self.retry(|active| active.put_elsewhere(link, vip)),
                    None => self.retry(|active| active.put_new(link, vip, epoch, role::OWNED)),
                    Some(entry) if owned && entry.role != role::OWNED => {
                        let entry = VipEntry { epoch, role: role::OWNED, ..entry };
                        self.retry(|active| active.put(link, vip, entry))
                    }
                    Some(_) => continue,
                };
                match given {
                    Ok(()) if owned => drop(applied.gained.insert((vip, link))),
                    Ok(()) => {}
                    Err(error) => drop(applied.refused.insert((vip, link), Refused::of(&error))),
                }
            }
            applied
                .unserved
                .extend(on.iter().filter(|link| !attached.contains(link)).map(|link| (vip, *link)));
        }
        let (maps, entries, refused) = (&self.generation.maps, &self.entries, &mut applied.refused);
        applied.gained.retain(|(vip, link)| {
            let why = match read_entry(maps, *link, *vip) {
                Ok(read) if read.as_ref() == entries.get(&(*link, *vip)) => return true,
                Ok(_) => Refused::Kernel("the entry is not the one that was written".to_owned()),
                Err(error) => Refused::of(&error),
            };
            refused.insert((*vip, *link), why);
            false
        });
    }

    /// All owned entries → elsewhere, with a grace period after them. The deadline is 0 already.
    pub(super) fn disown_all(&mut self) -> Result<(), DatapathError> {
        let mut stuck = None;
        for ((link, vip), entry) in self.entries.clone() {
            if entry.role == role::OWNED {
                let elsewhere = VipEntry { epoch: 0, role: role::ELSEWHERE, ..entry };
                if let Err(source) = self.retry(|active| active.put(link, vip, elsewhere)) {
                    let source = Box::new(source);
                    stuck = stuck.or(Some(DatapathError::NotTakenAway { vip, link, source }));
                }
            }
        }
        sys::grace_period().map_err(DatapathError::kernel("wait for running programs"))?;
        stuck.map_or(Ok(()), Err)
    }

    pub(super) fn retry(
        &mut self,
        mut write: impl FnMut(&mut Self) -> Result<(), DatapathError>,
    ) -> Result<(), DatapathError> {
        for _ in 1..ATTEMPTS {
            match write(self) {
                Err(error) if !error.is_full() => {}
                done => return done,
            }
        }
        write(self)
    }
}

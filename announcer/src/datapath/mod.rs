//! The kernel: load, attach, pin, adopt; owner maps as the election's result; proofs; kernel events out.
//!
//! [`Datapath`] is the door. Everything is synchronous and quick (a grace period takes 4-20 ms). The kernel goes on
//! answering by what was written last when a `Datapath` is dropped: only its deadline, [`Datapath::silence`] or
//! [`uninstall()`] ends that.

mod active;
mod attach;
mod config;
mod entries;
mod error;
mod establish;
mod events;
mod faults;
mod follow;
mod generation;
mod grow;
mod inherited;
mod inspect;
mod kernel_log;
mod links;
mod maps;
mod mend;
mod owners;
mod pin_root;
mod privileges;
mod proof;
mod refusal;
mod shape;
mod slots;
mod status;
mod step;
mod surroundings;
mod sys;
mod tables;
mod trust;
mod uninstall;

use std::{collections::BTreeSet, time::Duration};

pub use announcer_ebpf::layout::Counters;
use announcer_ebpf::layout::Session;

use self::{
    active::Active, establish::Takeover, faults::Faults, inherited::Found, pin_root::PinRoot, step::Steps,
};
pub use self::{
    config::{Config, KernelLog, Mode, UnknownMode},
    entries::SessionRecord,
    error::{AttachError, DatapathError},
    events::{Claim, ConflictReader, ConflictSeen},
    faults::CallHook,
    inherited::Inherited,
    kernel_log::KernelLogReader,
    links::{Attachment, LinkChange, LinkReport, Reason, UnknownAttachment},
    maps::Unreadable,
    mend::Mended,
    owners::{Applied, Owners, Refused},
    refusal::Refuser,
    status::{LinkStatus, Role, Status, VipStatus},
    step::{Step, StepHook},
    tables::{PerFamily, Tables},
    uninstall::{Remains, uninstall},
};
use crate::vocabulary::{BootNs, Link, LinkId, Vip};

/// The node's one datapath, locked against other agents for as long as this lives.
#[derive(Debug)]
pub struct Datapath {
    root: PinRoot,
    config: Config,
    steps: Steps,
    faults: Faults,
    /// What was there at the start; emptied by [`Datapath::establish`].
    found: Found,
    inherited: Option<Inherited>,
    active: Option<Active>,
    events_taken: bool,
    /// What became of links when the tables grew, for the next [`Datapath::set_links`] to tell.
    untold: Vec<LinkReport>,
}

// === impl Datapath ===

impl Datapath {
    /// Locks the pin directory and looks at what the kernel holds. Changes nothing, but for links whose device is gone.
    ///
    /// # Errors
    /// Missing capabilities, no bpffs, a pin directory that others may change; [`DatapathError::Busy`] if another agent
    /// runs.
    pub fn open(config: Config) -> Result<Self, DatapathError> {
        Self::open_within(config, Duration::ZERO)
    }

    /// As [`open`](Self::open), but waits so long for another agent to end.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_within(config: Config, patience: Duration) -> Result<Self, DatapathError> {
        privileges::check()?;
        let root = PinRoot::lock(&config.pin_root, patience).map_err(DatapathError::explained)?;
        let found = Found::look(&root).map_err(DatapathError::explained)?;
        let inherited = found.inherited.clone();
        Ok(Self {
            root,
            config,
            steps: Steps::default(),
            faults: Faults::default(),
            found,
            inherited,
            active: None,
            events_taken: false,
            untold: Vec::new(),
        })
    }

    /// What an older agent left and the kernel went by when this one started. `None`: nothing, or nothing that can be
    /// trusted as a whole; then begin a session of a new epoch.
    pub fn inherited(&self) -> Option<&Inherited> {
        self.inherited.as_ref()
    }

    /// Goes on with nothing of what was found: silent when this returns, every VIP elsewhere after
    /// [`establish`](Self::establish), no session.
    ///
    /// # Errors
    /// As [`silence`](Self::silence).
    pub fn disinherit(&mut self) -> Result<(), DatapathError> {
        self.silence()?;
        self.found.inherited = None;
        self.inherited = None;
        Ok(())
    }

    /// The links that carried a program of ours when this agent started; those that are not given to
    /// [`establish`](Self::establish) are detached by it.
    pub fn pinned_links(&self) -> BTreeSet<LinkId> {
        self.found.links.iter().map(|held| held.pin.link).collect()
    }

    /// Loads this agent's programs and swaps them in on `links`, with every inherited entry and the deadline unchanged.
    /// Inherited links that are not in `links` are detached. Later calls are [`set_links`](Self::set_links).
    ///
    /// # Errors
    /// The kernel refused something that concerns all links. It goes on as it was; open a new `Datapath` to try again.
    pub fn establish(&mut self, links: &[Link]) -> Result<Vec<LinkReport>, DatapathError> {
        if self.active.is_some() {
            return self.set_links(links);
        }
        let found = std::mem::take(&mut self.found);
        let mut takeover = self.takeover();
        let active = takeover.run(found, links).map_err(DatapathError::explained)?;
        let reports = takeover.reports;
        self.active = Some(active);
        Ok(reports)
    }

    /// Links that came, went, or have another hardware address: `links` is all that shall carry the program. On a link
    /// that comes, every known VIP is elsewhere until [`apply`](Self::apply). A link that failed is tried again. One for
    /// which the tables have no room fails alone.
    ///
    /// # Errors
    /// Not established; or a link went, and the grace period after it can't be waited for.
    pub fn set_links(&mut self, links: &[Link]) -> Result<Vec<LinkReport>, DatapathError> {
        let mut active = self.active.take().ok_or(DatapathError::NotEstablished)?;
        let mut takeover = self.takeover();
        let result = takeover.follow(&mut active, links);
        let reports = takeover.reports;
        self.active = Some(active);
        result.map(|()| std::mem::take(&mut self.untold).into_iter().chain(reports).collect())
    }

    /// Deadline 0, and back only when no program run can answer any more.
    ///
    /// # Errors
    /// The grace period can't be waited for; the deadline is 0 nevertheless.
    pub fn silence(&mut self) -> Result<(), DatapathError> {
        for generation in self.found.generations.values() {
            generation.maps.session.set_deadline(0);
        }
        if let Some(active) = &self.active {
            active.generation.maps.session.set_deadline(0);
        }
        sys::grace_period().map_err(DatapathError::kernel("wait for running programs"))
    }

    /// Begins a session: deadline 0, all entries elsewhere, a grace period, and only then UID, epoch and boot id. The
    /// deadline stays 0.
    ///
    /// # Errors
    /// Not established; or [`DatapathError::NotTakenAway`]: then the old session stays, silent.
    pub fn begin_session(&mut self, record: &SessionRecord) -> Result<(), DatapathError> {
        let active = self.active.as_mut().ok_or(DatapathError::NotEstablished)?;
        active.generation.maps.session.set_deadline(0);
        active.disown_all()?;
        let &SessionRecord { uid, epoch, boot_id } = record;
        let session = active.generation.maps.session.read();
        active.generation.maps.session.write_identity(&Session { epoch, uid, boot_id, ..session });
        Ok(())
    }

    /// Moves the deadline, in one atomic write.
    ///
    /// # Errors
    /// Not established.
    pub fn set_deadline(&mut self, deadline: BootNs) -> Result<(), DatapathError> {
        let active = self.active.as_ref().ok_or(DatapathError::NotEstablished)?;
        active.generation.maps.session.set_deadline(deadline.0);
        Ok(())
    }

    /// The deadline that the kernel goes by; the earliest of all before [`establish`](Self::establish).
    pub fn deadline(&self) -> BootNs {
        match &self.active {
            Some(active) => BootNs(active.generation.maps.session.deadline()),
            None => {
                let deadlines =
                    self.found.generations.values().map(|generation| generation.maps.session.deadline());
                BootNs(deadlines.min().unwrap_or(0))
            }
        }
    }

    /// The session that the kernel goes by; epoch 0 if none has begun.
    pub fn session(&self) -> SessionRecord {
        let active =
            self.active.as_ref().map(|active| SessionRecord::of(&active.generation.maps.session.read()));
        active.or(self.inherited.as_ref().map(|inherited| inherited.session)).unwrap_or_default()
    }

    /// How many VIPs of each family can have an entry on every link, once the tables have grown for `vips` as far as
    /// they may and the kernel allows.
    ///
    /// # Errors
    /// Not established.
    pub fn make_room(&mut self, vips: PerFamily) -> Result<PerFamily, DatapathError> {
        let mut active = self.active.take().ok_or(DatapathError::NotEstablished)?;
        let needed = active.needed(&[], vips);
        let mut takeover = self.takeover();
        let grown = takeover.make_room(&mut active, needed);
        let mut reports = takeover.reports;
        self.untold.append(&mut reports);
        let room = active.capacity.room(active.links.len());
        self.active = Some(active);
        grown.map(|()| room)
    }

    /// Makes the owner maps say what `owners` says: removals, one grace period if there were any, then additions under
    /// the session's epoch, read back. The caller has won every VIP in it under that epoch. The tables grow if need be.
    ///
    /// # Errors
    /// Not established; the grace period can't be waited for; or [`DatapathError::NotTakenAway`]: an owned entry could not
    /// be removed, and the deadline is 0 now. Whatever else the kernel refuses is in [`Applied::refused`].
    pub fn apply(&mut self, owners: &Owners) -> Result<Applied, DatapathError> {
        self.make_room(PerFamily::count(owners.vips.keys()))?;
        self.active.as_mut().ok_or(DatapathError::NotEstablished)?.apply(owners, None)
    }

    /// [`apply`](Self::apply), where nothing but these VIPs has changed since the last time.
    ///
    /// # Errors
    /// The same.
    pub fn apply_of(&mut self, owners: &Owners, vips: &BTreeSet<Vip>) -> Result<Applied, DatapathError> {
        self.active.as_mut().ok_or(DatapathError::NotEstablished)?.apply(owners, Some(vips))
    }

    /// Ends, but keeps the lock: for whoever removes what is pinned.
    pub fn into_remains(self) -> Remains {
        Remains::of(self.root)
    }

    /// Calls `hook` after each step of [`establish`](Self::establish): a test stops there, as a kill would.
    #[doc(hidden)]
    pub fn on_step(&mut self, hook: StepHook) {
        self.steps.set(hook);
    }

    /// Calls `hook` before each call that may fail for want of memory or room: a test makes it fail.
    #[doc(hidden)]
    pub fn on_call(&mut self, hook: CallHook) {
        self.faults.set(hook);
        if let Some(active) = &mut self.active {
            active.generation.maps.faults = self.faults.clone();
        }
    }

    fn takeover(&mut self) -> Takeover<'_> {
        Takeover {
            root: &self.root,
            config: &self.config,
            steps: &mut self.steps,
            faults: &self.faults,
            reports: Vec::new(),
        }
    }
}

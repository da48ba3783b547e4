//! Taking over: a new generation beside the old one, filled from it, swapped in link by link; the old one is silenced
//! and deleted last. Whatever is killed in between, the next agent finds each link with a program and maps that fit.

use std::{os::fd::AsFd, path::PathBuf};

use announcer_ebpf::layout::{LAYOUT_VERSION, Session, VipEntry, elsewhere, role};

use super::{
    AttachError, Config, DatapathError, LinkChange, LinkReport,
    active::Active,
    attach::{Attached, Ladder, detach},
    generation::Generation,
    inherited::{Found, HeldLink, is_owned},
    pin_root::{PinRoot, remove_folder},
    shape::MapName,
    step::{Step, Steps},
    sys,
};
use crate::vocabulary::Link;

/// Everything that the work needs.
pub(super) struct Takeover<'a> {
    pub(super) root: &'a PinRoot,
    pub(super) config: &'a Config,
    pub(super) steps: &'a mut Steps,
    pub(super) reports: Vec<LinkReport>,
}

// === impl Takeover ===

impl Takeover<'_> {
    pub(super) fn run(&mut self, mut found: Found, links: &[Link]) -> Result<Active, DatapathError> {
        let old = self.root.generations()?;
        let number = old.last().map_or(1, |last| last + 1);
        let counters = self.reusable_counters(&found)?;
        let generation = Generation::load(counters.as_deref(), self.config.kernel_log)?;
        self.steps.done(Step::Loaded)?;
        generation.pin(&self.root.generation(number), self.steps)?;

        let mut active = Active::new(generation);
        self.copy(&mut active, &found, links)?;
        self.steps.done(Step::Copied)?;

        let mut held = std::mem::take(&mut found.links);
        for link in links {
            let (own, rest) = held.into_iter().partition(|held| held.pin.link == link.id);
            held = rest;
            self.adopt(&mut active, own, link)?;
        }
        for unwanted in held {
            self.drop_unwanted(unwanted)?;
        }
        active.forget_macs()?;

        // From here on no link runs an old program; runs that had begun must end before the old maps are touched.
        sys::grace_period().map_err(DatapathError::kernel("wait for running programs"))?;
        self.steps.done(Step::GracePassed)?;
        for (number, generation) in &found.generations {
            generation.maps.session.set_deadline(0);
            self.steps.done(Step::Silenced(*number))?;
        }
        active.generation.show(self.root.path(), self.steps)?;
        for number in old {
            remove_folder(&self.root.generation(number))?;
            self.steps.done(Step::Deleted(number))?;
        }
        Ok(active)
    }

    /// The pin of a live `COUNTERS` that this build can go on with.
    fn reusable_counters(&self, found: &Found) -> Result<Option<PathBuf>, DatapathError> {
        for (number, generation) in found.generations.iter().rev() {
            let fits = MapName::Counters.has_our_capacity(generation.maps.fd(MapName::Counters)?.as_fd());
            if fits.map_err(DatapathError::kernel("look at COUNTERS"))? {
                return Ok(Some(self.root.generation(*number).join(MapName::Counters.pin())));
            }
        }
        Ok(None)
    }

    /// Fills the new maps: session, links, and for every link its own generation's entries.
    fn copy(&mut self, active: &mut Active, found: &Found, links: &[Link]) -> Result<(), DatapathError> {
        let inherited = found.inherited.as_ref();
        let record = inherited.map(|inherited| inherited.session).unwrap_or_default();
        let session = Session {
            deadline_boot_ns: 0,
            layout_version: LAYOUT_VERSION,
            elsewhere: if self.config.suppress { elsewhere::DROPPED } else { elsewhere::PASSED },
            epoch: record.epoch,
            uid: record.uid,
            boot_id: record.boot_id,
        };
        active.generation.maps.session.write_identity(&session);
        for link in links {
            active.put_link(link)?;
        }
        for held in found.links.iter().filter(|held| links.iter().any(|link| link.id == held.pin.link)) {
            for (vip, old) in found.entries(held) {
                // Without a session to go on with nothing is owned, but every VIP stays known: nobody else answers.
                let owned = inherited.is_some() && is_owned(&old, &session);
                let role = if owned { role::OWNED } else { role::ELSEWHERE };
                let epoch = if owned { session.epoch } else { 0 };
                let kept = self.shares_counters(active, found, held)? && active.slots.keep(old.counter_slot);
                let counter_slot = if kept { old.counter_slot } else { active.new_slot()? };
                active.put(held.pin.link, vip, VipEntry { epoch, role, counter_slot })?;
            }
        }
        for vip in active.vips() {
            for link in links {
                if !active.entries.contains_key(&(link.id, vip)) {
                    active.put_elsewhere(link.id, vip)?;
                }
            }
        }
        if let Some(inherited) = inherited {
            active.generation.maps.session.set_deadline(inherited.deadline.0);
        }
        Ok(())
    }

    /// Whether the slots of the link's old entries are slots of the new generation's `COUNTERS`, too.
    fn shares_counters(
        &self,
        active: &Active,
        found: &Found,
        held: &HeldLink,
    ) -> Result<bool, DatapathError> {
        let Some(old) = held.generation.and_then(|number| found.generations.get(&number)) else {
            return Ok(false);
        };
        let id = |generation: &Generation| {
            let info = sys::map_info(generation.maps.fd(MapName::Counters)?.as_fd());
            info.map(|info| info.id).map_err(DatapathError::kernel("look at COUNTERS"))
        };
        Ok(id(old)? == id(&active.generation)?)
    }

    /// Gives an inherited link the new program, or another mode if its own is not wanted any more. A link without an
    /// inherited one is attached; more than one is what a change of mode leaves when it is killed halfway.
    fn adopt(
        &mut self,
        active: &mut Active,
        mut held: Vec<HeldLink>,
        link: &Link,
    ) -> Result<(), DatapathError> {
        let ladder = match Ladder::new(self.config.mode, link) {
            Ok(ladder) => ladder,
            Err(error) => {
                for HeldLink { pin, fd, generation: _ } in held {
                    detach(&pin, fd)?;
                }
                return self.failed(active, link, error);
            }
        };
        held.sort_by_key(|held| ladder.rank(held.pin.attachment));
        let mut adopted = None;
        for HeldLink { pin, fd, generation: _ } in held {
            let attached = Attached { link: link.clone(), why: ladder.why, pin, fd };
            let swapped = if adopted.is_none() { attached.swap(&active.generation) } else { Ok(()) };
            match swapped {
                Ok(()) if adopted.is_none() => {
                    adopted = Some(attached);
                    self.steps.done(Step::Swapped(link.id))?;
                }
                swapped => {
                    if let Err(error) = swapped {
                        tracing::warn!(link = link.name, %error, "The inherited link can't be swapped; it is detached");
                    }
                    attached.detach()?;
                    self.steps.done(Step::Detached(link.id))?;
                }
            }
        }
        match adopted {
            None => self.attach(active, link),
            Some(adopted) if ladder.rungs.contains(&adopted.pin.attachment) => {
                self.report(link, LinkChange::Adopted { attachment: adopted.pin.attachment });
                active.links.push(adopted);
                Ok(())
            }
            Some(adopted) => match adopted.change(&active.generation, self.root.path(), link, &ladder) {
                Ok(attached) => self.attached(active, attached),
                Err(error) => self.failed(active, link, error),
            },
        }
    }

    pub(super) fn attach(&mut self, active: &mut Active, link: &Link) -> Result<(), DatapathError> {
        let attached = Ladder::new(self.config.mode, link)
            .and_then(|ladder| Attached::attach(&active.generation, self.root.path(), link, &ladder));
        match attached {
            Ok(attached) => self.attached(active, attached),
            Err(error) => self.failed(active, link, error),
        }
    }

    pub(super) fn attached(&mut self, active: &mut Active, attached: Attached) -> Result<(), DatapathError> {
        let link = attached.link.clone();
        self.report(&link, LinkChange::Attached { attachment: attached.pin.attachment, why: attached.why });
        active.links.push(attached);
        self.steps.done(Step::Attached(link.id))
    }

    pub(super) fn failed(
        &mut self,
        active: &mut Active,
        link: &Link,
        error: AttachError,
    ) -> Result<(), DatapathError> {
        self.report(link, LinkChange::Failed(error));
        active.drop_link(link)
    }

    fn drop_unwanted(&mut self, held: HeldLink) -> Result<(), DatapathError> {
        let id = held.pin.link;
        detach(&held.pin, held.fd)?;
        self.reports.push(LinkReport {
            link: id,
            name: format!("ifindex {id}"),
            change: LinkChange::Detached,
        });
        self.steps.done(Step::Detached(id))
    }

    pub(super) fn report(&mut self, link: &Link, change: LinkChange) {
        self.reports.push(LinkReport { link: link.id, name: link.name.clone(), change });
    }
}

//! Taking over: a new generation beside the old one, filled from it, swapped in link by link; the old one is silenced
//! and deleted last. Whatever is killed in between, the next agent finds each link with a program and maps that fit.

use std::{collections::BTreeSet, os::fd::AsFd, path::PathBuf};

use announcer_ebpf::layout::{LAYOUT_VERSION, Session, VipEntry, elsewhere, role};

use super::{
    AttachError, Config, DatapathError, LinkChange, LinkReport,
    active::Active,
    attach::{Attached, Ladder, detach},
    faults::Faults,
    generation::Generation,
    inherited::{Found, HeldLink, is_owned},
    pin_root::PinRoot,
    privileges,
    shape::MapName,
    step::{Step, Steps},
    sys,
    tables::{PerFamily, Sizes},
};
use crate::vocabulary::{Link, Vip};

/// Everything that the work needs.
pub(super) struct Takeover<'a> {
    pub(super) root: &'a PinRoot,
    pub(super) config: &'a Config,
    pub(super) steps: &'a mut Steps,
    pub(super) faults: &'a Faults,
    pub(super) reports: Vec<LinkReport>,
}

// === impl Takeover ===

impl Takeover<'_> {
    pub(super) fn run(&mut self, mut found: Found, links: &[Link]) -> Result<Active, DatapathError> {
        let old = self.root.generations()?;
        let number = old.last().map_or(1, |last| last + 1);
        let counters: Vec<_> = self.reusable_counters(&found).into_iter().collect();
        let sizes = self.config.tables.sizes(found.needed(links));
        let generation = Generation::load(&counters, sizes, self.config.kernel_log, self.faults)
            .map_err(|error| privileges::blame_age(error.explained()))?;
        self.steps.done(Step::Loaded)?;
        generation.pin(&self.root.generation(number), self.steps)?;

        let mut active = Active::new(number, generation)?;
        let refused = self.copy(&mut active, &found, links);
        self.steps.done(Step::Copied)?;

        let mut held = std::mem::take(&mut found.links);
        for (link, refused) in links.iter().zip(refused) {
            let (own, rest) = held.into_iter().partition(|held| held.pin.link == link.id);
            held = rest;
            match refused {
                None => self.adopt(&mut active, own, link)?,
                Some(error) => {
                    self.let_go(own)?;
                    self.failed(&mut active, link, error);
                }
            }
        }
        self.let_go(held)?;
        active.forget_macs();

        // From here on no link runs an old program; runs that had begun must end before the old maps are touched.
        sys::grace_period().map_err(DatapathError::kernel("wait for running programs"))?;
        self.steps.done(Step::GracePassed)?;
        for (number, generation) in &found.generations {
            generation.maps.session.set_deadline(0);
            self.steps.done(Step::Silenced(*number))?;
        }
        active.generation.show(self.root.path(), self.steps)?;
        for number in old {
            self.delete(number)?;
        }
        Ok(active)
    }

    /// The pin of a live `COUNTERS` that this build can go on with.
    fn reusable_counters(&self, found: &Found) -> Option<(MapName, PathBuf)> {
        let name = MapName::Counters;
        let mut newest_first = found.generations.iter().rev();
        let (number, _) = newest_first.find(|(_, generation)| {
            let map = generation.maps.fd(name).ok();
            map.is_some_and(|map| name.has_our_capacity(map.as_fd()).unwrap_or(false))
        })?;
        Some((name, self.root.generation(*number).join(name.pin())))
    }

    /// Fills the new maps: session, links, and for every link its own generation's entries. An entry that the kernel
    /// refuses is left for the first [`apply`](super::Datapath::apply). For each link why it can't be entered.
    fn copy(&mut self, active: &mut Active, found: &Found, links: &[Link]) -> Vec<Option<AttachError>> {
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
        let mut refused: Vec<Option<AttachError>> = Vec::new();
        for link in links {
            refused.push(active.put_link(link).err().map(|error| AttachError::Maps(Box::new(error))));
        }
        let (mut left, mut why) = (0_usize, None);
        let mut check = |written: Result<(), DatapathError>| {
            if let Err(error) = written {
                (left, why) = (left + 1, Some(error));
            }
        };
        for held in found.links.iter().filter(|held| links.iter().any(|link| link.id == held.pin.link)) {
            let shared = self.shares_counters(active, found, held);
            for (vip, old) in found.entries(held) {
                // Without a session to go on with nothing is owned, but every VIP stays known: nobody else answers.
                let owned = inherited.is_some() && is_owned(&old, &session);
                let role = if owned { role::OWNED } else { role::ELSEWHERE };
                let epoch = if owned { session.epoch } else { 0 };
                let kept = shared && active.slots.keep(old.counter_slot);
                let counter_slot = if kept { old.counter_slot } else { active.new_slot() };
                let entry = VipEntry { epoch, role, counter_slot };
                let written = active.retry(|active| active.put(held.pin.link, vip, entry));
                if written.is_err() {
                    active.slots.free(counter_slot);
                }
                check(written);
            }
        }
        for vip in active.vips() {
            for link in links {
                if !active.entries.contains_key(&(link.id, vip)) {
                    check(active.retry(|active| active.put_elsewhere(link.id, vip)));
                }
            }
        }
        if let Some(error) = why {
            tracing::error!(
                entries = left,
                error = error.in_a_line(),
                "The kernel did not take over all entries"
            );
        }
        if let Some(inherited) = inherited {
            active.generation.maps.session.set_deadline(inherited.deadline.0);
        }
        refused
    }

    /// Whether the slots of the link's old entries are slots of the new generation's `COUNTERS`, too.
    fn shares_counters(&self, active: &Active, found: &Found, held: &HeldLink) -> bool {
        let old = held.generation.and_then(|number| found.generations.get(&number));
        let id = |generation: &Generation| {
            let map = generation.maps.fd(MapName::Counters).ok()?;
            sys::map_info(map.as_fd()).ok().map(|info| info.id)
        };
        old.and_then(id).is_some_and(|old| Some(old) == id(&active.generation))
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
                held.into_iter().for_each(drop_off);
                self.failed(active, link, error);
                return Ok(());
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
                    attached.drop_off();
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
                Err(error) => {
                    self.failed(active, link, error);
                    Ok(())
                }
            },
        }
    }

    pub(super) fn attach(&mut self, active: &mut Active, link: &Link) -> Result<(), DatapathError> {
        let attached = Ladder::new(self.config.mode, link)
            .and_then(|ladder| Attached::attach(&active.generation, self.root.path(), link, &ladder));
        match attached {
            Ok(attached) => self.attached(active, attached),
            Err(error) => {
                self.failed(active, link, error);
                Ok(())
            }
        }
    }

    pub(super) fn attached(&mut self, active: &mut Active, attached: Attached) -> Result<(), DatapathError> {
        let link = attached.link.clone();
        self.report(&link, LinkChange::Attached { attachment: attached.pin.attachment, why: attached.why });
        active.links.push(attached);
        self.steps.done(Step::Attached(link.id))
    }

    /// The link carries no program, and the kernel's tables know it no more.
    pub(super) fn failed(&mut self, active: &mut Active, link: &Link, error: AttachError) {
        self.report(link, LinkChange::Failed(error));
        active.drop_link(link);
    }

    /// Takes older programs off links that shall carry none.
    fn let_go(&mut self, held: Vec<HeldLink>) -> Result<(), DatapathError> {
        for held in held {
            let id = held.pin.link;
            drop_off(held);
            self.reports.push(LinkReport {
                link: id,
                name: format!("ifindex {id}"),
                change: LinkChange::Detached,
            });
            self.steps.done(Step::Detached(id))?;
        }
        Ok(())
    }

    pub(super) fn report(&mut self, link: &Link, change: LinkChange) {
        self.reports.push(LinkReport { link: link.id, name: link.name.clone(), change });
    }
}

/// Takes an older program off its link; should the pin stay, the next agent removes it.
fn drop_off(HeldLink { pin, fd, generation: _ }: HeldLink) {
    if let Err(error) = detach(&pin, fd) {
        tracing::warn!(link = %pin.link, error = error.in_a_line(), "The link is detached, and its pin stays");
    }
}

// === impl Found ===

impl Found {
    /// How many entries of each table the links need for all that was found.
    fn needed(&self, links: &[Link]) -> Sizes {
        let vips: BTreeSet<Vip> =
            self.links.iter().flat_map(|held| self.entries(held)).map(|(vip, _)| vip).collect();
        // Each link has two entries at most, itself and its tag on the device below.
        Sizes::needed(PerFamily::count(&vips), links.len(), 2 * links.len())
    }
}

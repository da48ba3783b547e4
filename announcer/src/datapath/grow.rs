//! Tables that get too small: a new generation with larger ones is filled from the live one and takes its place, link
//! by link, as a new agent's does.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use announcer_ebpf::layout::LINKS_ARRAY_ENTRIES;

use super::{
    AttachError, DatapathError, PerFamily,
    active::{Active, put_link},
    entries::write_entry,
    establish::Takeover,
    generation::Generation,
    pin_root::remove_folder,
    shape::MapName,
    step::Step,
    sys,
    tables::Sizes,
};
use crate::vocabulary::Link;

/// Larger tables that were refused are asked for again after this: loading programs takes the loop a tenth of a second.
const PAUSE: Duration = Duration::from_secs(10);

// === impl Takeover ===

impl Takeover<'_> {
    /// Grows the tables if `needed` entries do not fit and more are allowed. The live generation stays if the kernel
    /// refuses a larger one.
    pub(super) fn make_room(&mut self, active: &mut Active, needed: Sizes) -> Result<(), DatapathError> {
        let wanted = self.config.tables.sizes(needed).max(active.capacity);
        if needed.fits(active.capacity) || wanted == active.capacity {
            return Ok(());
        }
        if active.refused_to_grow.is_some_and(|at| at.elapsed() < PAUSE) {
            return Ok(());
        }
        match self.grow(active, wanted) {
            Ok(()) => {
                let Sizes { vips4, vips6, links } = active.capacity;
                tracing::info!(vips4, vips6, links, "The kernel's tables have grown");
                active.refused_to_grow = None;
            }
            Err(error @ DatapathError::Stopped(_)) => return Err(error),
            Err(error) => {
                let Sizes { vips4, vips6, links } = wanted;
                let error = error.in_a_line();
                tracing::error!(vips4, vips6, links, error, "The kernel's tables cannot grow; trying again");
                active.refused_to_grow = Some(Instant::now());
            }
        }
        Ok(())
    }

    /// Why a link that comes can't have an entry for each VIP and for itself; `None`: it can.
    pub(super) fn no_room_for(
        &mut self,
        active: &mut Active,
        link: &Link,
    ) -> Result<Option<AttachError>, DatapathError> {
        let vips = PerFamily::count(&active.vips());
        let needed = active.needed(&[link], vips);
        self.make_room(active, needed)?;
        let Sizes { vips4, vips6, links } = active.capacity;
        Ok(if needed.links > links {
            Some(AttachError::TooManyLinks { most: links, first: LINKS_ARRAY_ENTRIES })
        } else if needed.vips4 > vips4 || needed.vips6 > vips6 {
            let (vips, most) = if needed.vips4 > vips4 { (vips.v4, vips4) } else { (vips.v6, vips6) };
            Some(AttachError::TableFull { vips, links: active.links.len() + 1, most })
        } else {
            None
        })
    }

    fn grow(&mut self, active: &mut Active, sizes: Sizes) -> Result<(), DatapathError> {
        let number = self.root.generations()?.last().copied().unwrap_or(active.number).max(active.number) + 1;
        let folder = self.root.generation(number);
        let generation =
            Generation::load(&self.live_pins(active), sizes, self.config.kernel_log, self.faults)?;
        self.steps.done(Step::Loaded)?;
        let filled = self.fill(active, generation, &folder);
        let generation = match filled {
            Ok(generation) => generation,
            Err(error @ DatapathError::Stopped(_)) => return Err(error),
            Err(error) => {
                // Nothing runs it, so that the next agent would delete it, too.
                drop(remove_folder(&folder));
                return Err(error);
            }
        };
        let capacity = generation.maps.capacity()?;

        let old = std::mem::replace(&mut active.generation, generation);
        let old_number = std::mem::replace(&mut active.number, number);
        active.capacity = capacity;
        let mut failed = Vec::new();
        for attached in std::mem::take(&mut active.links) {
            match attached.swap(&active.generation) {
                // The next view of the links will say that its device is gone.
                Err(_) if attached.is_severed() => active.links.push(attached),
                Err(error) => {
                    tracing::warn!(link = attached.link.name, %error, "The link can't be swapped; it is attached anew");
                    failed.push(attached);
                }
                Ok(()) => {
                    let id = attached.link.id;
                    active.links.push(attached);
                    self.steps.done(Step::Swapped(id))?;
                }
            }
        }
        for attached in failed {
            let link = attached.link.clone();
            attached.drop_off();
            self.attach(active, &link)?;
        }
        // A run that has begun reads the old maps, which say what the new ones say; all that is lost without this wait
        // is that run's answer.
        match sys::grace_period() {
            Ok(()) => self.steps.done(Step::GracePassed)?,
            Err(error) => tracing::warn!(%error, "Programs that run may not have ended yet"),
        }
        old.maps.session.set_deadline(0);
        self.steps.done(Step::Silenced(old_number))?;
        active.generation.show(self.root.path(), self.steps)?;
        self.delete(old_number)
    }

    /// Pins a new generation, and copies all that the live one holds.
    fn fill(
        &mut self,
        active: &Active,
        mut generation: Generation,
        folder: &std::path::Path,
    ) -> Result<Generation, DatapathError> {
        generation.pin(folder, self.steps)?;
        let session = active.generation.maps.session.read();
        generation.maps.session.write_identity(&session);
        for attached in &active.links {
            put_link(&mut generation.maps, &attached.link)?;
        }
        for ((link, vip), entry) in &active.entries {
            write_entry(&mut generation.maps, *link, *vip, *entry)?;
        }
        generation.maps.session.set_deadline(session.deadline_boot_ns);
        self.steps.done(Step::Copied)?;
        Ok(generation)
    }

    /// The live maps that the next generation goes on with: nothing that was counted or seen is lost.
    fn live_pins(&self, active: &Active) -> Vec<(MapName, PathBuf)> {
        let folder = self.root.generation(active.number);
        let pins = [MapName::Counters, MapName::Events].map(|name| (name, folder.join(name.pin())));
        pins.into_iter().filter(|(_, path)| path.exists()).collect()
    }

    /// Deletes a generation that no link runs. One that stays is deleted by the next agent.
    pub(super) fn delete(&mut self, number: u64) -> Result<(), DatapathError> {
        if let Err(error) = remove_folder(&self.root.generation(number)) {
            tracing::warn!(generation = number, error = error.in_a_line(), "An old generation's pins stay");
        }
        self.steps.done(Step::Deleted(number))
    }
}

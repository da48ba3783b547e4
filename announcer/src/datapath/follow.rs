//! Links that come, go and change while the agent runs.

use super::{
    AttachError, DatapathError, LinkChange, active::Active, attach::Ladder, establish::Takeover, sys,
};
use crate::vocabulary::Link;

impl Takeover<'_> {
    /// Later changes of links: `links` is all that shall be attached from now on.
    pub(super) fn follow(&mut self, active: &mut Active, links: &[Link]) -> Result<(), DatapathError> {
        let (stay, go): (Vec<_>, Vec<_>) =
            std::mem::take(&mut active.links).into_iter().partition(|attached| {
                links.iter().any(|link| link.id == attached.link.id) && !attached.is_severed()
            });
        active.links = stay;
        let some_go = !go.is_empty();
        for attached in go {
            let link = attached.link.clone();
            attached.drop_off();
            active.drop_link(&link);
            self.report(&link, LinkChange::Detached);
        }
        if some_go {
            active.trim();
            // Their room may be needed by those that come.
            active.forget_macs();
            // The entries' memory is free now: no run may still read it when it becomes another VIP's.
            sys::grace_period().map_err(DatapathError::kernel("wait for running programs"))?;
        }
        for link in links {
            match active.links.iter().position(|attached| attached.link.id == link.id) {
                Some(index) => self.refresh(active, index, link)?,
                None => self.come(active, link)?,
            }
        }
        active.forget_macs();
        Ok(())
    }

    /// A link that comes. It is refused alone if the tables have no room for it: what is there already stays.
    fn come(&mut self, active: &mut Active, link: &Link) -> Result<(), DatapathError> {
        if let Some(full) = self.no_room_for(active, link)? {
            self.report(link, LinkChange::Failed(full));
            return Ok(());
        }
        if let Err(error) = active.put_link(link) {
            self.failed(active, link, AttachError::Maps(Box::new(error)));
            return Ok(());
        }
        for vip in active.vips() {
            if let Err(error) = active.retry(|active| active.put_elsewhere(link.id, vip)) {
                // The next `apply` tries again, and tells.
                tracing::debug!(ip = %vip, link = link.name, error = error.in_a_line(), "An entry is missing");
            }
        }
        self.attach(active, link)
    }

    /// A link that stays: its hardware address or the mode that suits it may be another now.
    fn refresh(&mut self, active: &mut Active, index: usize, link: &Link) -> Result<(), DatapathError> {
        let old = std::mem::replace(&mut active.links[index].link, link.clone());
        let mut entered = Ok(());
        if old.vlan != link.vlan {
            entered = active.drop_ingress(&old);
        }
        if (old.mac, old.vlan) != (link.mac, link.vlan) {
            entered = entered.and_then(|()| {
                active.put_link(link).or_else(|_| {
                    // The old address may have the room that the new one needs.
                    active.forget_macs();
                    active.put_link(link)
                })
            });
        }
        if let Err(error) = entered {
            // It would answer with an address that it no longer has.
            active.links.remove(index).drop_off();
            self.failed(active, link, AttachError::Maps(Box::new(error)));
            return Ok(());
        }
        if old.mac != link.mac {
            self.report(link, LinkChange::MacChanged { mac: link.mac });
        }
        let ladder = match Ladder::new(self.config.mode, link) {
            Ok(ladder) if ladder.rungs.contains(&active.links[index].pin.attachment) => return Ok(()),
            Ok(ladder) => ladder,
            Err(error) => {
                active.links.remove(index).drop_off();
                self.failed(active, link, error);
                return Ok(());
            }
        };
        match active.links.remove(index).change(&active.generation, self.root.path(), link, &ladder) {
            Ok(attached) => self.attached(active, attached),
            Err(error) => {
                self.failed(active, link, error);
                Ok(())
            }
        }
    }
}

//! The kernel follows the election: from a [`Target`] and the cluster's demand to owner maps, in the order that
//! makes the next write safe.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use crate::{
    datapath::{
        Applied, ConflictReader, ConflictSeen, Datapath, DatapathError, LinkReport, Owners, Refused,
        SessionRecord,
    },
    election::Target,
    policy::{Demand, Interfaces},
    vocabulary::{BootNs, Link, LinkId, Vip},
};

/// The datapath and what it was last told.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) datapath: Datapath,
    boot_id: [u8; 16],
    /// What the maps say now.
    target: Target,
    owners: Owners,
    conflicts: Option<ConflictReader>,
    /// While the kernel would not give up an entry, since when: it is silent, and told again.
    stuck: Option<Stuck>,
    /// Not answered any more since the last step that was done whole.
    lost: BTreeSet<(Vip, LinkId)>,
    /// Entries that the kernel would not write when it was last told of all.
    refused: BTreeMap<(Vip, LinkId), Refused>,
    /// The links that carried a program when this process started.
    pub(super) carried: BTreeSet<LinkId>,
}

/// A removal that the kernel refused.
#[derive(Debug)]
struct Stuck {
    since: Instant,
    tried: Instant,
}

/// What became of a step.
#[derive(Debug)]
pub(super) enum Followed {
    /// Nothing had to change.
    Already,
    /// The kernel matches, but for what it refused.
    Done(Applied),
    /// The kernel would not give up an entry. It is silent, a grace period has passed, and it will be told again; the
    /// error is there when it has just been tried.
    Silent(Option<DatapathError>),
}

/// A removal that was refused is tried again after this.
const STUCK_PAUSE: Duration = Duration::from_millis(100);

/// Who began a session: an agent never goes on with a standalone one, nor the reverse.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Whose {
    /// The agent's, under the UID of a Lease.
    Agent,
    /// That of `announcer answer`, under the nil UID.
    Standalone,
}

/// The session UID of `announcer answer`: no object of a cluster has it (RFC 9562 §5.9).
const NIL_UID: [u8; 16] = [0; 16];
/// The same in text.
pub(super) const NIL_UID_TEXT: &str = "00000000-0000-0000-0000-000000000000";

impl Whose {
    /// Whose a session of this UID is.
    pub(super) fn of(uid: &[u8; 16]) -> Self {
        if *uid == NIL_UID { Self::Standalone } else { Self::Agent }
    }
}

impl Kernel {
    /// Takes over what the kernel holds, on `links`, and says what may be gone on with: the session that it goes by, if
    /// `whose` and this boot began it. Of anything else nothing is answered any more when this returns.
    pub(super) fn take_over(
        mut datapath: Datapath,
        whose: Whose,
        boot_id: [u8; 16],
        links: &[Link],
    ) -> Result<(Self, Target, Vec<LinkReport>), DatapathError> {
        let mut target = Target::default();
        let mut owners = Owners::default();
        if let Some(inherited) = datapath.inherited().cloned() {
            owners.vips = inherited.known.iter().map(|vip| (*vip, BTreeSet::new())).collect();
            let session = &inherited.session;
            if Whose::of(&session.uid) == whose && session.boot_id == boot_id && session.epoch > 0 {
                target.session = Some((session.uid_text(), session.epoch));
                target.deadline = inherited.deadline;
                target.held = inherited.owned.keys().copied().collect();
                owners.vips.extend(inherited.owned);
            } else {
                datapath.disinherit()?;
            }
        }
        let carried = datapath.pinned_links();
        let reports = datapath.establish(links)?;
        let conflicts = datapath.events()?;
        let kernel = Self {
            datapath,
            boot_id,
            target: target.clone(),
            owners,
            conflicts,
            stuck: None,
            lost: BTreeSet::new(),
            refused: BTreeMap::new(),
            carried,
        };
        Ok((kernel, target, reports))
    }

    /// Makes the kernel match `target`: whatever is to stop has stopped, a grace period included, when this
    /// returns; only then may the requests of the same step be sent.
    pub(super) fn follow(&mut self, target: &Target, owners: NewOwners) -> Result<Followed, DatapathError> {
        if self.stuck.as_ref().is_some_and(|stuck| stuck.tried.elapsed() < STUCK_PAUSE) {
            return Ok(Followed::Silent(None));
        }
        let whole = matches!(owners, NewOwners::All(_));
        let unfinished = self.stuck.is_some() || !self.refused.is_empty();
        // Of a session that has ended nothing stays.
        let renewed = target.session == self.target.session;
        let ended = (!renewed).then(|| self.owners.vips.keys().map(|vip| (*vip, BTreeSet::new())).collect());
        let only = match owners {
            NewOwners::All(owners) if !unfinished && *target == self.target && owners == self.owners => {
                return Ok(Followed::Already);
            }
            NewOwners::All(owners) => {
                self.owners = owners;
                None
            }
            NewOwners::Of(vips) => {
                let only: BTreeSet<Vip> = vips.keys().copied().collect();
                self.owners.vips.extend(vips);
                Some(only).filter(|_| renewed)
            }
        };
        match self.write(target, ended, only.as_ref()) {
            Ok(applied) => {
                self.stuck = None;
                match whole {
                    true => self.refused = applied.refused.clone(),
                    false => self.refused.extend(applied.refused.clone()),
                }
                self.target = target.clone();
                Ok(Followed::Done(applied))
            }
            Err(error @ DatapathError::NotTakenAway { .. }) => {
                // The session stays what it was, so that the next try begins where this one did.
                self.target.deadline = BootNs::NONE;
                let now = Instant::now();
                let since = self.stuck.take().map_or(now, |stuck| stuck.since);
                self.stuck = Some(Stuck { since, tried: Instant::now() });
                Ok(Followed::Silent(Some(error)))
            }
            Err(error) => Err(error),
        }
    }

    fn write(
        &mut self,
        target: &Target,
        ended: Option<BTreeMap<Vip, BTreeSet<LinkId>>>,
        only: Option<&BTreeSet<Vip>>,
    ) -> Result<Applied, DatapathError> {
        if target.deadline < self.target.deadline {
            self.datapath.set_deadline(target.deadline)?;
        }
        if let Some(elsewhere) = ended {
            self.lost.append(&mut self.datapath.apply(&Owners { vips: elsewhere })?.lost);
            match &target.session {
                None => self.datapath.silence()?,
                Some((uid, epoch)) => {
                    let uid = uuid_bytes(uid);
                    self.datapath.begin_session(&SessionRecord {
                        uid,
                        epoch: *epoch,
                        boot_id: self.boot_id,
                    })?;
                }
            }
        }
        let mut applied = match only {
            None => self.datapath.apply(&self.owners)?,
            Some(vips) => self.datapath.apply_of(&self.owners, vips)?,
        };
        applied.lost.append(&mut self.lost);
        self.datapath.set_deadline(target.deadline)?;
        Ok(applied)
    }

    /// How long the kernel has been silent for a removal that it refuses.
    pub(super) fn stuck_for(&self) -> Option<Duration> {
        self.stuck.as_ref().map(|stuck| stuck.since.elapsed())
    }

    /// Entries that the kernel would not write when it was last told of all.
    pub(super) fn refused(&self) -> &BTreeMap<(Vip, LinkId), Refused> {
        &self.refused
    }

    /// The same session and owners, for longer or for less long. What the kernel must not answer yet it does not.
    pub(super) fn set_deadline(&mut self, deadline: BootNs) -> Result<(), DatapathError> {
        if self.stuck.is_none() && deadline != self.target.deadline {
            self.datapath.set_deadline(deadline)?;
            self.target.deadline = deadline;
        }
        Ok(())
    }

    /// What the kernel was last told.
    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// The owner table as last applied.
    pub(super) fn owners(&self) -> &Owners {
        &self.owners
    }

    /// What the kernel has seen of other hosts that claim our VIPs, since last asked.
    pub(super) fn drain_conflicts(&mut self) -> Vec<ConflictSeen> {
        self.conflicts.as_mut().map(ConflictReader::drain).unwrap_or_default()
    }

    /// Every VIP on every link where this node owns it.
    pub(super) fn owned(&self) -> impl Iterator<Item = (Vip, LinkId)> {
        self.owners.vips.iter().flat_map(|(vip, links)| links.iter().map(|link| (*vip, *link)))
    }
}

/// What has become of ownership.
pub(super) enum NewOwners {
    /// The whole table.
    All(Owners),
    /// Of these VIPs alone; none is new in the table.
    Of(BTreeMap<Vip, BTreeSet<LinkId>>),
}

/// Where each VIP is owned: every VIP in demand has an entry on every link, owned on the selected links of those
/// that are held. One that is this node's `own` has none unless it is held: its stack is not to be silenced. Before the first
/// demand, what the kernel inherited, less what is no longer held.
pub(super) fn owner_table<'a>(
    held: &BTreeSet<Vip>,
    demand: Option<&'a Demand>,
    node: &str,
    links: impl FnMut(&'a Interfaces) -> BTreeSet<LinkId>,
    before: &Owners,
    own: &BTreeSet<Vip>,
) -> Owners {
    let Some(demand) = demand else {
        let mut owners = before.clone();
        for (_, on) in owners.vips.iter_mut().filter(|(vip, _)| !held.contains(vip)) {
            on.clear();
        }
        return owners;
    };
    let vips = demand.vips.keys().filter(|vip| held.contains(vip) || !own.contains(vip));
    Owners { vips: owned_on(vips, held, demand, node, links) }
}

/// The links on which each of these VIPs is owned.
pub(super) fn owned_on<'a, 'v>(
    vips: impl IntoIterator<Item = &'v Vip>,
    held: &BTreeSet<Vip>,
    demand: &'a Demand,
    node: &str,
    mut links: impl FnMut(&'a Interfaces) -> BTreeSet<LinkId>,
) -> BTreeMap<Vip, BTreeSet<LinkId>> {
    let mut on = |vip: &Vip| {
        let wanted = demand.vips.get(vip).filter(|_| held.contains(vip))?;
        wanted.candidates.get(node).map(|candidate| links(&candidate.interfaces))
    };
    vips.into_iter().map(|vip| (*vip, on(vip).unwrap_or_default())).collect()
}

/// The 16 bytes of a UUID in its usual text form; text of another form gives what its hexadecimal digits say, so
/// that two that differ stay different.
pub(super) fn uuid_bytes(text: &str) -> [u8; 16] {
    let digits: Vec<u8> =
        text.chars().filter_map(|c| c.to_digit(16)).filter_map(|digit| u8::try_from(digit).ok()).collect();
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = pair.iter().fold(0, |sum, digit| sum << 4 | digit);
    }
    bytes
}

/// A clock that stands still in a suspended guest and one that does not: a jump between them means that somebody
/// else may have counted time that we did not.
#[derive(Debug)]
pub(super) struct PauseWatch {
    boot: BootNs,
    real: i128,
}

impl PauseWatch {
    pub(super) fn new() -> Self {
        Self { boot: BootNs::now(), real: jiff::Timestamp::now().as_nanosecond() }
    }

    /// By how many nanoseconds real time ran ahead of boot time since the last look.
    pub(super) fn jump(&mut self) -> i128 {
        let now = Self::new();
        let jump = (now.real - self.real) - i128::from(now.boot.0.saturating_sub(self.boot.0));
        *self = now;
        jump
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Candidate, Links, Tier, VipDemand};

    const VIP: &str = "10.4.11.1";

    fn by_name(interfaces: &Interfaces) -> BTreeSet<LinkId> {
        let links = [(2, "eth0"), (3, "eth1")];
        let up: Links = links.iter().map(|(_, name)| (*name).to_owned()).collect();
        let on: Vec<&String> = up.announcing(interfaces).collect();
        links
            .into_iter()
            .filter(|(_, name)| on.iter().any(|on| on == name))
            .map(|(id, _)| LinkId(id))
            .collect()
    }

    fn demand(interfaces: Interfaces) -> Demand {
        let candidate = Candidate { weight: 0, tier: Tier::Ready, interfaces };
        let wanted = VipDemand {
            candidates: BTreeMap::from([("me".to_owned(), candidate)]).into(),
            ..VipDemand::default()
        };
        Demand { vips: BTreeMap::from([(VIP.parse().expect("an address"), wanted)]), ..Demand::default() }
    }

    #[test]
    fn a_held_vip_is_owned_on_the_selected_links_only() {
        let vip = VIP.parse().expect("an address");
        let demand = demand(Interfaces::Named(BTreeSet::from(["eth1".to_owned()])));
        let (held, none) = (BTreeSet::from([vip]), BTreeSet::new());
        let owners = owner_table(&held, Some(&demand), "me", by_name, &Owners::default(), &none);
        assert_eq!(owners.vips, BTreeMap::from([(vip, BTreeSet::from([LinkId(3)]))]));
    }

    #[test]
    fn a_vip_that_is_not_held_is_elsewhere_on_every_link() {
        let vip = VIP.parse().expect("an address");
        let (demand, none) = (demand(Interfaces::All), BTreeSet::new());
        let owners = owner_table(&none, Some(&demand), "me", by_name, &Owners::default(), &none);
        assert_eq!(owners.vips, BTreeMap::from([(vip, BTreeSet::new())]));
    }

    #[test]
    fn an_address_that_the_stack_has_itself_is_not_taken_from_it_unless_it_is_held() {
        let vip = VIP.parse().expect("an address");
        let (demand, own, none) = (demand(Interfaces::All), BTreeSet::from([vip]), BTreeSet::new());
        let owners = |held| owner_table(held, Some(&demand), "me", by_name, &Owners::default(), &own);
        assert_eq!(owners(&none).vips, BTreeMap::new());
        assert_eq!(owners(&own).vips.into_keys().collect::<Vec<_>>(), [vip]);
    }

    #[test]
    fn a_session_uid_survives_the_way_through_the_map() {
        let uid = "0b7d2c3e-6a55-4f0e-9a51-3c2f1e0d9b8a";
        let record = SessionRecord { uid: uuid_bytes(uid), ..SessionRecord::default() };
        assert_eq!(record.uid_text(), uid);
    }
}

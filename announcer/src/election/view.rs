//! What this node has seen of the Leases, and since when: the ground for "silent", "absent" and "void".

mod conclusions;
mod memory;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::lease::{Claim, Holder, Record, Session, Version, claim_name, session_name};
use crate::vocabulary::{BootNs, Vip};
#[cfg(test)]
pub(super) use memory::MOST_DELETED;
use memory::{Gap, Gone, WasClaimed};

/// A session as last seen.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its content.
    pub session: Session,
    /// o: when this very (UID, resourceVersion) was first received.
    pub since: BootNs,
    /// When its own node was seen to write it; `None`: it was there when we came.
    pub said: Option<BootNs>,
    /// Since when its node has been heard without a pause of half a lease, under this session and epoch.
    pub back: BootNs,
    /// When it was last seen to change: a list tells what is there, not when it was written.
    pub heard: Option<BootNs>,
}

impl Seen {
    /// Whether a newer version says nothing new of its node, but that it lives, whom it suspects, and what it tells people.
    pub fn is_renewed_by(&self, new: &Session) -> bool {
        let renewed = Session {
            version: new.version,
            renewal: new.renewal.clone(),
            suspects: new.suspects.clone(),
            unsteady: new.unsteady.clone(),
            ..self.session.clone()
        };
        self.session.version < new.version && renewed == *new
    }

    /// Until when its node counts as heard: nothing is handed over to one that may be dead, though not yet fenced.
    pub fn heard_until(&self) -> BootNs {
        self.heard.map_or(BootNs::NONE, |at| at + self.session.lease / 2)
    }
}

/// All Leases as last seen. A reader may conclude from it that something is over; never that something is held.
#[derive(Debug, Default)]
pub struct View {
    /// By Lease name.
    pub sessions: BTreeMap<String, Seen>,
    /// Claims that exist.
    pub claims: BTreeMap<Vip, Claim>,
    /// Since when claims have been watched without a gap; `None` before the first list.
    pub watching_since: Option<BootNs>,
    /// Sessions that are absent and since when, by Lease name.
    absent_sessions: BTreeMap<String, BootNs>,
    /// Lease name and UID of sessions that claims are bound to and that are gone, and since when. Both, for a hand may
    /// have written one node's name over another's: that node's other claims are as good as before.
    gone: BTreeMap<(String, String), BootNs>,
    /// The last epoch of those that the watch saw being deleted, by UID: until then nobody had fenced it.
    last_epochs: BTreeMap<String, u64>,
    /// Since when the object that a claim is has been known, and its UID.
    known_claims: BTreeMap<Vip, (String, BootNs)>,
    /// Claims that were deleted, and when that was seen last.
    deleted_claims: BTreeMap<Vip, WasClaimed>,
    /// There were more than are remembered: of any absent claim it may be so.
    deletions_forgotten: bool,
    /// VIPs without a claim and since when.
    absent_claims: BTreeMap<Vip, BootNs>,
    /// The greatest epoch seen under each UID. Memory, so that a stale read cannot take it back.
    epochs: BTreeMap<String, u64>,
    /// Who held the session of a UID at an epoch, where claims are bound to that one, and whether it said that it goes on
    /// answering while the API server is away.
    holders: BTreeMap<String, BTreeMap<u64, (Holder, bool)>>,
    /// The longest lease seen under each UID.
    longest: BTreeMap<String, Duration>,
    /// The greatest version that a list or the watch brought: a later list that is older is a restored store.
    /// What our own writes returned does not count, for a list may have left the server before them.
    watched: Version,
    /// The version of the last list: what is absent from the view and not newer is gone for good.
    listed: Version,
    /// The version at which a Lease was deleted, by name: an answer that comes later and is older does not
    /// bring it back.
    deleted: BTreeMap<String, Gone>,
    /// Names of Leases that a read found though they were known to be gone, and when. It may have been on its way; the next
    /// was not.
    doubted: BTreeMap<String, BootNs>,
    /// Something seen cannot follow from what was seen before: the store was restored from a backup.
    regressed: bool,
}

impl View {
    /// Takes a complete list.
    pub fn listed(&mut self, now: BootNs, version: Version, records: Vec<Record>) {
        if version < self.watched || records.iter().any(|record| self.is_older(record, version)) {
            self.regressed = true;
            // Versions start over: what we hold would look newer than the truth.
            self.sessions.clear();
            let lost = std::mem::take(&mut self.claims).into_keys();
            self.deleted_claims.extend(lost.map(|vip| (vip, WasClaimed::unseen(now))));
            self.deleted.clear();
            self.watching_since = None;
        }
        self.watched = version;
        self.listed = version;
        self.doubted.clear();
        self.deleted.retain(|_, gone| gone.version > version);
        let names: BTreeSet<String> = records.iter().map(Record::name).collect();
        // What is newer than the list was written while the list was on its way.
        self.sessions.retain(|name, seen| {
            let there = names.contains(name) || seen.session.version > version;
            if !there {
                // Its last renewals may have gone unseen, and with them a longer lease.
                self.longest.remove(&seen.session.uid);
            }
            there
        });
        self.claims.retain(|vip, claim| {
            let there = names.contains(&claim_name(*vip)) || claim.version > version;
            if !there {
                self.deleted_claims.insert(*vip, WasClaimed::unseen(now));
            }
            there
        });
        for record in records {
            self.put(now, record, None);
        }
        self.watching_since.get_or_insert(now);
        self.note_absence(now);
        self.forget_unbound();
    }

    /// Takes a complete list that came after the connection broke, and before the watch goes on where it stood, only if it cannot
    /// follow from what is held. A server whose store was restored continues a watch from a version that it has not reached yet, and
    /// is silent until it has. What is gone may never have been: no watch will say so.
    pub fn compared(&mut self, now: BootNs, version: Version, records: Vec<Record>) {
        let names: BTreeSet<String> = records.iter().map(Record::name).collect();
        let gone = |name: &str, held: Version| held <= version && !names.contains(name);
        let mut sessions = self.sessions.iter().map(|(name, seen)| (name.as_str(), seen.session.version));
        let mut claims = self.claims.values().map(|claim| (claim_name(claim.vip), claim.version));
        let other = |record: &Record| self.is_older(record, version) || self.is_lower(record);
        let follows = version >= self.watched
            && !records.iter().any(other)
            && !sessions.any(|(name, held)| gone(name, held))
            && !claims.any(|(name, held)| gone(&name, held));
        if !follows {
            self.gap();
            self.listed(now, version, records);
        }
    }

    /// Whether an object of a list of this version has another history: it is older than the one we hold, and the list is not.
    fn is_older(&self, record: &Record, version: Version) -> bool {
        let held = self.version_of(&record.name());
        held.is_some_and(|held| held > record.version() && held <= version) || self.is_another(record)
    }

    /// Whether this is a newer version of a session with an epoch that it has left behind.
    fn is_lower(&self, record: &Record) -> bool {
        let Record::Session(session) = record else { return false };
        let held = self.sessions.get(&session.name).map(|seen| seen.session.version);
        held < Some(session.version)
            && self.epochs.get(&session.uid).is_some_and(|epoch| session.epoch < *epoch)
    }

    /// Whether history was found to be another since last asked.
    pub fn take_regressed(&mut self) -> bool {
        std::mem::take(&mut self.regressed)
    }

    /// Epochs, leases and spans of another history mean nothing in this one.
    pub fn forget(&mut self, now: BootNs) {
        self.epochs.clear();
        self.longest.clear();
        self.known_claims.values_mut().for_each(|(_, since)| *since = now);
        self.absent_claims.clear();
        if let Some(since) = &mut self.watching_since {
            *since = now;
        }
        let sessions: Vec<Record> =
            self.sessions.values().map(|s| Record::Session(s.session.clone())).collect();
        for session in sessions {
            self.take(now, session, None);
        }
        self.regressed = false;
        self.restart_timers(now);
        self.note_absence(now);
    }

    /// The version held of a Lease.
    pub fn version_of(&self, name: &str) -> Option<Version> {
        let claim = || super::lease::vip_of(name).and_then(|vip| self.claims.get(&vip));
        let session = self.sessions.get(name).map(|seen| seen.session.version);
        session.or_else(|| claim().map(|claim| claim.version))
    }

    /// Whether this is something else than what we hold at the very same name and version: the store was restored, and its
    /// versions start over.
    fn is_another(&self, record: &Record) -> bool {
        match record {
            Record::Session(session) => self
                .sessions
                .get(&session.name)
                .is_some_and(|held| held.session.version == session.version && held.session != *session),
            Record::Claim(claim) => {
                self.claims.get(&claim.vip).is_some_and(|held| held.version == claim.version && held != claim)
            }
        }
    }

    /// How far list and watch have come.
    pub fn watched_version(&self) -> Version {
        self.watched
    }

    /// Notes the version of a watch event.
    pub fn watched(&mut self, version: Version) {
        self.watched = self.watched.max(version);
    }

    /// Takes a watch event. In one that follows upon all before it, an epoch that went down was written by hand, and is that
    /// one node's trouble: when the connection broke, a list was compared. It brings every version: if that passes one over which
    /// something else has brought, that one was lost with its store.
    pub fn changed(&mut self, now: BootNs, record: Record) {
        let before = self.watched;
        let follows = self.watching_since.is_some() && record.version() > before;
        let held = self.version_of(&record.name());
        let passed = follows && held.is_some_and(|held| held > before && held < record.version());
        let regressed = self.regressed;
        self.watched(record.version());
        if passed || self.is_another(&record) {
            self.regressed = true;
            return self.replace(now, record);
        }
        let forgiven = match &record {
            Record::Session(session) if follows && self.is_lower(&record) => {
                Some((session.uid.clone(), session.epoch))
            }
            _ => None,
        };
        self.seen(now, record);
        self.regressed &= regressed || !follows;
        // It is what the session says from now on, to lists and reads, too.
        self.epochs.extend(forgiven);
    }

    /// Takes one version of one Lease; an older one than the newest seen, or than its deletion, changes nothing.
    pub fn seen(&mut self, now: BootNs, record: Record) {
        let name = record.name();
        if self.version_of(&name).is_some() || record.version() > self.gone_at(&name) {
            self.take(now, record, Some(now));
        }
    }

    /// Takes what is there, whatever the version of what we hold.
    fn replace(&mut self, now: BootNs, record: Record) {
        match &record {
            Record::Session(session) => drop(self.sessions.remove(&session.name)),
            Record::Claim(claim) => drop(self.claims.remove(&claim.vip)),
        }
        self.take(now, record, Some(now));
    }

    /// Takes the result of a quorum read that was sent when `asked` was the version held: an older one shows that
    /// the store was restored.
    pub fn read(&mut self, now: BootNs, record: Record, asked: Version) {
        if record.version() < asked || self.is_another(&record) {
            self.regressed = true;
            return self.replace(now, record);
        }
        let name = record.name();
        if self.version_of(&name).is_none() && record.version() <= self.gone_at(&name) {
            if self.doubted.insert(name.clone(), now).is_some() {
                self.deleted.remove(&name);
                self.regressed = true;
                self.take(now, record, Some(now));
            }
            return;
        }
        self.doubted.remove(&name);
        self.seen(now, record);
    }

    /// What is not newer than this is gone, as far as list, watch and reads have told.
    fn gone_at(&self, name: &str) -> Version {
        self.deleted.get(name).map(|gone| gone.version).unwrap_or_default().max(self.listed)
    }

    /// A quorum read that was sent when `asked` was the version held found nothing.
    pub fn missing(&mut self, now: BootNs, name: &str, asked: Version) {
        self.doubted.remove(name);
        if self.version_of(name) != Some(asked) {
            return;
        }
        let session = self.sessions.get(name).map(|seen| Record::Session(seen.session.clone()));
        let claim =
            || super::lease::vip_of(name).and_then(|vip| self.claims.get(&vip).cloned()).map(Record::Claim);
        if let Some(record) = session.or_else(claim) {
            // Somebody may have written it once more before.
            self.gone(now, &record, Gap::Unseen);
        }
    }

    fn take(&mut self, now: BootNs, record: Record, heard: Option<BootNs>) {
        // What comes twenty times a second, and a thousand times when a node has died, makes nothing absent.
        let settled = self.absent_sessions.is_empty() && self.gone.is_empty() && self.has_session_of(&record);
        self.put(now, record, heard);
        if !settled {
            self.note_absence(now);
        }
    }

    /// Whether a claim is bound to the session that its holder has, or a session is the one that was there before, or the
    /// first of its node.
    fn has_session_of(&self, record: &Record) -> bool {
        let uid = |name: &str| self.sessions.get(name).map(|seen| seen.session.uid.as_str());
        match record {
            Record::Session(session) => uid(&session.name).is_none_or(|uid| uid == session.uid),
            Record::Claim(claim) => {
                claim.bindings().all(|(node, session, _)| uid(&session_name(node)) == Some(session))
            }
        }
    }

    /// [`Self::take`], for many at once: absence is noted afterwards.
    fn put(&mut self, now: BootNs, record: Record, heard: Option<BootNs>) {
        self.regressed |= self.is_lower(&record);
        self.doubted.remove(&record.name());
        match record {
            Record::Session(session) => {
                let newer =
                    self.sessions.get(&session.name).is_none_or(|old| old.session.version < session.version);
                let epoch = self.epochs.entry(session.uid.clone()).or_default();
                *epoch = (*epoch).max(session.epoch);
                let longest = self.longest.entry(session.uid.clone()).or_default();
                *longest = (*longest).max(session.lease);
                if newer {
                    self.note_holder(&session);
                    let old = self.sessions.get(&session.name);
                    let heard = heard.or_else(|| old.and_then(|old| old.heard));
                    // A hand that edits it says nothing for its node.
                    let said = match old {
                        Some(old) if old.session.renewal == session.renewal => old.said,
                        Some(_) => Some(now),
                        None => heard,
                    };
                    let goes_on = |old: &&Seen| {
                        let before = (&old.session.holder, &old.session.uid, old.session.epoch);
                        old.heard_until() > now && before == (&session.holder, &session.uid, session.epoch)
                    };
                    let back = old.filter(goes_on).map_or(now, |old| old.back);
                    self.sessions
                        .insert(session.name.clone(), Seen { session, since: now, said, back, heard });
                }
            }
            Record::Claim(claim) => {
                if self.claims.get(&claim.vip).is_none_or(|old| old.version < claim.version) {
                    let known = self.known_claims.entry(claim.vip).or_insert((String::new(), now));
                    if known.0 != claim.uid {
                        *known = (claim.uid.clone(), now);
                    }
                    self.claims.insert(claim.vip, claim);
                }
            }
        }
    }

    /// Takes a deletion that the watch has brought, with what was deleted.
    pub fn watched_deletion(&mut self, now: BootNs, record: &Record) {
        self.watched(record.version());
        if let Record::Session(session) = record {
            self.last_epochs.insert(session.uid.clone(), session.epoch);
        }
        self.deleted(now, record);
    }

    /// Takes the deletion of exactly this. One that is older than the newest version seen is of an earlier object.
    pub fn deleted(&mut self, now: BootNs, record: &Record) {
        self.gone(now, record, Gap::None);
    }

    fn gone(&mut self, now: BootNs, record: &Record, gap: Gap) {
        self.doubted.remove(&record.name());
        self.deleted.entry(record.name()).or_default().note(record.version(), now);
        match record {
            Record::Session(session) => {
                let same = |seen: &Seen| seen.session.uid == session.uid;
                if self.sessions.get(&session.name).is_some_and(same) {
                    self.sessions.remove(&session.name);
                }
            }
            Record::Claim(claim) => {
                if self.claims.get(&claim.vip).is_some_and(|old| old.version <= claim.version) {
                    self.claims.remove(&claim.vip);
                }
                self.deleted_claims.insert(claim.vip, WasClaimed::of(claim, now, gap));
            }
        }
        self.note_absence(now);
    }

    /// The watch broke: a claim may have come and gone unseen.
    pub fn gap(&mut self) {
        self.watching_since = None;
        self.absent_claims.clear();
    }

    /// Observers' timers start over: our own session was not live, so what we saw meanwhile proves no silence.
    pub fn restart_timers(&mut self, now: BootNs) {
        for seen in self.sessions.values_mut() {
            seen.since = now;
        }
        for since in self.absent_sessions.values_mut().chain(self.gone.values_mut()) {
            *since = now;
        }
    }

    /// Keeps "since when absent" for what claims name and nobody has.
    fn note_absence(&mut self, now: BootNs) {
        let mut names = BTreeMap::new();
        let mut gone = BTreeMap::new();
        for (node, uid, _) in self.claims.values().flat_map(Claim::bindings) {
            let name = session_name(node);
            let present = self.sessions.get(&name);
            if present.is_none_or(|seen| seen.session.uid != uid) {
                let key = (name.clone(), uid.to_owned());
                let since = self.gone.get(&key).copied().unwrap_or(now);
                gone.insert(key, since);
            }
            if present.is_none() {
                let since = self.absent_sessions.get(&name).copied().unwrap_or(now);
                names.insert(name, since);
            }
        }
        self.last_epochs.retain(|uid, _| gone.keys().any(|(_, of)| of == uid));
        self.absent_sessions = names;
        self.gone = gone;
    }

    /// The session of a node.
    pub fn session(&self, node: &str) -> Option<&Seen> {
        self.sessions.get(&session_name(node))
    }

    fn note_holder(&mut self, session: &Session) {
        let Some(holder) = &session.holder else { return };
        let of = self.holders.entry(session.uid.clone()).or_default();
        let (_, holds) = of.entry(session.epoch).or_insert_with(|| (holder.clone(), false));
        *holds |= session.holds_on();
    }

    /// Since when a VIP that somebody wants has had no claim.
    pub fn absent_claim_since(&mut self, vip: Vip, now: BootNs) -> BootNs {
        *self.absent_claims.entry(vip).or_insert(now)
    }

    /// Forgets absence of claims that exist by now.
    pub fn forget_present(&mut self) {
        let claims = &self.claims;
        self.absent_claims.retain(|vip, _| !claims.contains_key(vip));
    }
}

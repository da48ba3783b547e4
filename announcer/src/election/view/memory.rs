//! What is kept of Leases that are gone, and until when: nothing here grows with what has passed.
//!
//! A list may come at any time, and what [`View::listed`] may forget may be forgotten at any time. Beyond that, three things
//! end the use of a memory: no answer is on its way for [`D_MAX`], the watch brings nothing that is older than what it has
//! brought, and what nobody is bound to lets nobody answer.

use std::collections::BTreeSet;

use super::View;
use crate::{
    election::{
        lease::{Claim, Version},
        times::D_MAX,
    },
    vocabulary::{BootNs, Vip},
};

/// Deleted claims whose owners may answer on: a cluster of a thousand addresses whose nodes are all cut off has as many.
pub(in crate::election) const MOST_DELETED: usize = 4_096;

/// The deletion of a Lease.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gone {
    pub(super) version: Version,
    /// When it was last told of.
    at: BootNs,
}

/// Whether what was last seen of a Lease is what was deleted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Gap {
    /// It is.
    None,
    /// There may have been later versions.
    Unseen,
}

/// A claim that was deleted.
#[derive(Debug)]
pub(super) struct WasClaimed {
    /// When that was seen.
    pub(super) at: BootNs,
    /// What it said at last; `None` if nobody knows.
    last: Option<Claim>,
}

impl Gone {
    pub(super) fn note(&mut self, version: Version, now: BootNs) {
        self.version = self.version.max(version);
        self.at = now;
    }
}

impl WasClaimed {
    pub(super) fn of(claim: &Claim, at: BootNs, gap: Gap) -> Self {
        Self { at, last: (gap == Gap::None).then(|| claim.clone()) }
    }

    pub(super) fn unseen(at: BootNs) -> Self {
        Self { at, last: None }
    }

    fn is_old(&self, now: BootNs) -> bool {
        self.at + D_MAX <= now
    }
}

impl View {
    /// Claims that were deleted so long ago that only an owner who holds on may answer by them, as they were.
    pub fn long_deleted(&self, now: BootNs) -> impl Iterator<Item = &Claim> {
        self.deleted_claims.values().filter(move |was| was.is_old(now)).filter_map(|was| was.last.as_ref())
    }

    /// Forgets what can have no further effect: the deletions of `harmless` claims, for whose addresses nobody can answer any
    /// more, and everything that only `wanted` addresses, Leases that are there and answers on their way can ask for.
    pub fn forget_old(&mut self, now: BootNs, harmless: &BTreeSet<Vip>, wanted: impl Fn(Vip) -> bool) {
        self.deleted_claims.retain(|vip, was| !(was.is_old(now) && harmless.contains(vip)));
        if self.deleted_claims.values().filter(|was| was.is_old(now)).count() > MOST_DELETED {
            self.deleted_claims.retain(|_, was| !was.is_old(now));
            self.deletions_forgotten = true;
        }
        self.absent_claims.retain(|vip, _| wanted(*vip));
        // Whatever is older has come by now: answers within their timeouts, watch events in their order.
        let watched = self.watched;
        self.deleted.retain(|_, gone| gone.at + D_MAX > now || gone.version > watched);
        self.doubted.retain(|_, at| *at + D_MAX > now);
        self.forget_unbound();
        let uids = self.uids();
        let unbound: Vec<String> =
            self.epochs.keys().filter(|uid| !uids.contains(uid.as_str())).cloned().collect();
        for uid in unbound {
            self.epochs.remove(&uid);
            self.longest.remove(&uid);
        }
    }

    /// Forgets who held epochs that nothing is bound to, and since when claims that are gone were known.
    pub(super) fn forget_unbound(&mut self) {
        self.known_claims.retain(|vip, _| self.claims.contains_key(vip));
        let bound = self.claims.values().flat_map(Claim::bindings);
        let there = self.sessions.values().map(|seen| (seen.session.uid.as_str(), seen.session.epoch));
        let needed: BTreeSet<_> = bound.map(|(_, uid, epoch)| (uid, epoch)).chain(there).collect();
        for (uid, epochs) in &mut self.holders {
            epochs.retain(|epoch, _| needed.contains(&(uid.as_str(), *epoch)));
        }
        self.holders.retain(|_, epochs| !epochs.is_empty());
    }

    /// The sessions that are there, or that a claim names, also one that was deleted and may be held on to.
    fn uids(&self) -> BTreeSet<&str> {
        let sessions = self.sessions.values().map(|seen| seen.session.uid.as_str());
        sessions.chain(self.bound().map(|(uid, _)| uid)).collect()
    }

    /// The sessions and epochs that claims name, released ones and those of [`Self::long_deleted`] too.
    pub fn bound(&self) -> impl Iterator<Item = (&str, u64)> {
        let deleted = self.deleted_claims.values().filter_map(|was| was.last.as_ref());
        self.claims.values().chain(deleted).flat_map(|claim| {
            let released = (claim.session_uid.as_str(), claim.session_epoch);
            claim.bindings().map(|(_, uid, epoch)| (uid, epoch)).chain([released])
        })
    }

    /// How much is remembered, by field.
    #[cfg(test)]
    pub fn sizes(&self) -> std::collections::BTreeMap<&'static str, usize> {
        let Self {
            sessions,
            claims,
            watching_since: _,
            absent_sessions,
            gone,
            last_epochs,
            known_claims,
            deleted_claims,
            deletions_forgotten: _,
            absent_claims,
            epochs,
            holders,
            longest,
            watched: _,
            listed: _,
            deleted,
            doubted,
            regressed: _,
        } = self;
        [
            ("view.sessions", sessions.len()),
            ("view.claims", claims.len()),
            ("view.absent_sessions", absent_sessions.len()),
            ("view.gone", gone.len()),
            ("view.last_epochs", last_epochs.len()),
            ("view.known_claims", known_claims.len()),
            ("view.deleted_claims", deleted_claims.len()),
            ("view.absent_claims", absent_claims.len()),
            ("view.epochs", epochs.len()),
            ("view.holders", holders.values().map(std::collections::BTreeMap::len).sum()),
            ("view.longest", longest.len()),
            ("view.deleted", deleted.len()),
            ("view.doubted", doubted.len()),
        ]
        .into()
    }
}

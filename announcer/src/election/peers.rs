//! Fencing: one write voids all claims of a node that has been silent for as long as its own lease says
//! (`DESIGN` §5.3).

use std::{collections::BTreeSet, time::Duration};

use super::{
    interface::{Grounds, Request},
    lease::{Claim, Record, Session, Version},
    machine::Machine,
    outstanding::Purpose,
    times::{D_MAX, SESSION_KEPT},
    view::{Seen, View},
};
use crate::{policy::Links, vocabulary::BootNs};

/// Observers take turns, so that a death costs the API server one write and not one from every node.
const TURN: Duration = Duration::from_millis(150);

impl Machine {
    /// Fences silent and absent sessions. Only a node whose own session is live may judge another's silence.
    pub(super) fn watch_peers(&mut self, now: BootNs) {
        if !self.is_live(now) || !self.is_in_touch(now) || self.shutdown.is_some() || self.quiet_until > now {
            return;
        }
        let me = &self.me.holder.node;
        let (mut silent, mut next) = (Vec::<(String, Seen)>::new(), None::<BootNs>);
        for (name, seen) in &self.view.sessions {
            let session = &seen.session;
            let may = match &session.holder {
                Some(holder) => holder.node != *me,
                None => self.emptied.contains(name),
            };
            if !session.understood || !may {
                continue;
            }
            let at = View::silent_at(seen);
            if at > now {
                next = Some(next.map_or(at, |earlier| earlier.min(at)));
            } else {
                silent.push((name.clone(), seen.clone()));
            }
        }
        if let Some(at) = next {
            self.wake(at);
        }
        for (name, seen) in silent {
            if !self.is_our_turn(now, View::silent_at(&seen), &name) {
                continue;
            }
            let grounds = Grounds::Lease(now.until(seen.since));
            self.fence(now, seen.session, grounds, false);
        }
        self.fence_absent(now);
    }

    /// Ends the epoch of exactly this version of a session.
    pub(super) fn fence(&mut self, now: BootNs, session: Session, grounds: Grounds, early: bool) {
        let epoch = self.view.greatest_epoch(&session.uid).max(session.epoch).saturating_add(1);
        // What was bound to an earlier one may still be to be taken.
        let early = if early { Some(session.epoch) } else { session.early };
        let (renewal, suspects) = (self.nonce(), BTreeSet::new());
        let fenced = Session { holder: None, epoch, renewal, suspects, early, ..session };
        let name = fenced.name.clone();
        self.request(now, name, Purpose::Fence(grounds), Request::Put(Record::Session(fenced)));
    }

    /// Fenced is who has a greater epoch than the claims bound to it; any other session without a holder was emptied by hand.
    pub(super) fn find_emptied(&mut self) {
        let own = super::lease::session_name(&self.me.holder.node);
        let emptied = |seen: &&Seen| {
            let session = &seen.session;
            session.holder.is_none() && session.name != own && self.view.binds_claims(session)
        };
        self.emptied =
            self.view.sessions.values().filter(emptied).map(|seen| seen.session.name.clone()).collect();
    }

    fn fence_absent(&mut self, now: BootNs) {
        let absent: Vec<(String, BootNs, u64)> =
            self.view.absent_sessions().map(|(name, at, epoch)| (name.to_owned(), at, epoch)).collect();
        for (name, at, epoch) in absent {
            if !self.is_our_turn(now, at, &name) {
                continue;
            }
            let mut fenced = self.own_record("", Version::default(), epoch);
            fenced.name.clone_from(&name);
            fenced.holder = None;
            fenced.lease = D_MAX;
            fenced.links = Links::default();
            (fenced.suspects, fenced.early, fenced.unsteady) = (BTreeSet::new(), None, BTreeSet::new());
            let grounds = Grounds::Lease(D_MAX);
            self.request(now, name, Purpose::Fence(grounds), Request::Put(Record::Session(fenced)));
        }
    }

    /// Whether what may be fenced from `at` on may be fenced by us; if not yet, we are called again.
    fn is_our_turn(&mut self, now: BootNs, at: BootNs, name: &str) -> bool {
        // Turns cost a hash per node: none is computed while everybody is heard.
        let at = if at > now { at } else { at + self.turn(name) };
        if at > now {
            self.wake(at);
        }
        at <= now
    }

    /// Our turn among the live nodes for this session: by hash, so that no node always goes first.
    fn turn(&self, name: &str) -> Duration {
        let hash = |node: &str| {
            use sha2::{Digest, Sha256};
            Sha256::digest(format!("{name}#{node}"))
        };
        let mine = hash(&self.me.holder.node);
        let before = self
            .view
            .sessions
            .values()
            .filter_map(|seen| seen.session.holder.as_ref())
            .filter(|holder| holder.node != self.me.holder.node && hash(&holder.node) < mine)
            .count();
        TURN * u32::try_from(before.min(20)).unwrap_or_default()
    }

    /// Removes what nobody needs: released or void claims of VIPs that are gone, after D_MAX, and fenced sessions of
    /// deleted Nodes, after an hour; both by exact version.
    pub(super) fn sweep(&mut self, now: BootNs) {
        let Some(demand) = self.demand.clone() else { return };
        if !self.is_live(now) || self.shutdown.is_some() {
            return;
        }
        let mut useless: Vec<(String, Duration, Record)> = Vec::new();
        for (vip, claim) in &self.view.claims {
            if demand.vips.contains_key(vip) || !claim.understood || !self.view.is_void(claim, now) {
                continue;
            }
            if self.sweeps(&claim.session_uid) {
                let record = Record::Claim(claim.clone());
                useless.push((record.name(), D_MAX, record));
            }
        }
        for (name, seen) in &self.view.sessions {
            let session = &seen.session;
            if session.holder.is_some() || !session.understood {
                continue;
            }
            let known = demand.nodes.iter().any(|node| super::lease::session_name(node) == *name);
            if !known && self.sweeps("") {
                useless.push((name.clone(), SESSION_KEPT, Record::Session(session.clone())));
            }
        }
        if useless.is_empty() && self.useless_since.is_empty() {
            return;
        }
        let names: BTreeSet<&String> = useless.iter().map(|(name, ..)| name).collect();
        self.useless_since.retain(|name, _| names.contains(name));
        for (name, kept, record) in useless {
            let at = *self.useless_since.entry(name.clone()).or_insert(now) + kept;
            if at > now {
                self.wake(at);
            } else if !self.outstanding.is_full() {
                let (purpose, request) = self.removal(record);
                self.request(now, name, purpose, request);
            }
        }
    }

    /// A claim that names another node is not deleted: whoever may write into it takes it first, under the epoch that never was,
    /// and deletes what is its own. So the store can refuse whoever would delete what others hold.
    fn removal(&mut self, record: Record) -> (Purpose, Request) {
        let me = self.me.holder.node.clone();
        let (claim, uid) = match (record, &self.target.session) {
            (Record::Claim(claim), Some((uid, _))) if claim.bindings().any(|(node, ..)| node != me) => {
                (claim, uid.clone())
            }
            (record, _) => return (Purpose::Sweep, Request::Delete(record)),
        };
        let moves = u64::from(claim.holder.as_ref() != Some(&me));
        let taken = Claim {
            holder: Some(me),
            session_uid: uid,
            session_epoch: 0,
            preferred: None,
            heir: None,
            acquired: None,
            write: self.nonce(),
            transitions: claim.transitions + moves,
            ..claim
        };
        (Purpose::Disown, Request::Put(Record::Claim(taken)))
    }

    /// Whether it falls to us: to the last owner, or, if that one is gone, to the live node with the least name.
    fn sweeps(&self, last_owner_uid: &str) -> bool {
        let live = || self.view.sessions.values().map(|s| &s.session).filter(|s| s.holder.is_some());
        match live().find(|session| session.uid == last_owner_uid) {
            Some(owner) => owner.holder.as_ref() == Some(&self.me.holder),
            None => live().next().is_some_and(|first| first.holder.as_ref() == Some(&self.me.holder)),
        }
    }
}

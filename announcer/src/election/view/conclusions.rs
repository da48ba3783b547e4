//! What follows from what was seen: who owns a claim, whose epoch is over, who may answer on, what was never claimed.

use std::{collections::BTreeSet, time::Duration};

use super::{Seen, View};
use crate::{
    election::{
        lease::{Claim, Session, Version, session_name},
        times::D_MAX,
    },
    vocabulary::{BootNs, Vip},
};

impl View {
    /// The greatest epoch ever seen for a session and in the claims bound to it.
    pub fn greatest_epoch(&self, uid: &str) -> u64 {
        // A released claim, too, tells which epoch it was bound to.
        let claims = self.claims.values();
        let released = claims.clone().map(|claim| (claim.session_uid.as_str(), claim.session_epoch));
        let bound = claims.flat_map(Claim::bindings).map(|(_, of, epoch)| (of, epoch));
        let in_claims = released.chain(bound).filter(|(of, _)| *of == uid).map(|(_, epoch)| epoch).max();
        self.epochs.get(uid).copied().max(in_claims).unwrap_or_default()
    }

    /// Whether claims stand under this session as it is.
    pub fn binds_claims(&self, session: &Session) -> bool {
        let mut bindings = self.claims.values().flat_map(Claim::bindings);
        bindings.any(|(_, uid, epoch)| uid == session.uid && epoch >= session.epoch)
    }

    /// How long a rule waits for a session that is absent: the longest lease seen under its UID, or [`D_MAX`].
    fn wait_for_absent(&self, uid: &str) -> Duration {
        self.longest.get(uid).copied().unwrap_or(D_MAX)
    }

    /// Whether nobody's kernel can answer under this claim any more (`DESIGN` §5.3).
    pub fn is_void(&self, claim: &Claim, now: BootNs) -> bool {
        self.owner(claim, now).is_none()
    }

    /// Who owns it, under which session and epoch: its holder, as long as that epoch lasts, and then its heir.
    pub fn owner<'a>(&self, claim: &'a Claim, now: BootNs) -> Option<(&'a str, &'a str, u64)> {
        claim.bindings().find(|binding| !self.is_over(*binding, now))
    }

    /// Whether nobody's kernel can answer by this binding any more.
    pub fn is_over(&self, binding: (&str, &str, u64), now: BootNs) -> bool {
        let (node, uid, epoch) = binding;
        // Asked of thousands of claims: most of their epochs have never been greater.
        let greater = self.epochs.get(uid).is_some_and(|greatest| *greatest > epoch);
        // What its session says now is true, also if a hand has lowered it: its node, too, knows no better.
        let session = || self.session(node).map(|seen| &seen.session).filter(|session| session.uid == uid);
        greater && session().is_none_or(|session| session.epoch > epoch)
            || self.over_at(binding).is_some_and(|at| at <= now)
    }

    /// When what is bound to a session that is gone is over, while another session stands under that name.
    fn over_at(&self, (node, uid, _): (&str, &str, u64)) -> Option<BootNs> {
        if self.gone.is_empty() {
            return None;
        }
        let name = session_name(node);
        self.sessions.get(&name)?;
        let since = self.gone.get(&(name, uid.to_owned()))?;
        Some(*since + self.wait_for_absent(uid))
    }

    /// Whether a session that is gone is known not to have been fenced before, at this epoch.
    pub fn ended_unfenced(&self, uid: &str, epoch: u64) -> bool {
        self.last_epochs.get(uid).is_some_and(|last| *last <= epoch)
    }

    /// When the owner of this claim may change by waiting alone.
    pub fn void_at(&self, claim: &Claim, now: BootNs) -> Option<BootNs> {
        claim.bindings().filter_map(|binding| self.over_at(binding)).filter(|at| *at > now).min()
    }

    /// Whether its holder is known to own it no more, from what list and watch have brought in their order: nothing
    /// that was written to the claim before is yet to come.
    pub fn is_bequeathed(&self, claim: &Claim) -> bool {
        let Some(node) = &claim.holder else { return self.watched >= claim.version };
        self.session(node).is_some_and(|seen| {
            seen.session.uid == claim.session_uid
                && seen.session.epoch > claim.session_epoch
                && self.watched >= seen.session.version
        })
    }

    /// Whether the kernel of whoever held this epoch may answer on, cut off from the API server; `None`: nothing is known of
    /// its session.
    pub fn may_hold_on(&self, binding: (&str, &str, u64)) -> Option<bool> {
        let (node, uid, epoch) = binding;
        let session = self.session(node).map(|seen| &seen.session).filter(|session| session.uid == uid)?;
        Some(self.may_hold_on_after(session, epoch))
    }

    fn may_hold_on_after(&self, session: &Session, epoch: u64) -> bool {
        let of_epoch = self.holders.get(&session.uid).and_then(|of| of.get(&epoch));
        // Nobody else: the very boot that held it, too, was silent before it began a greater one, but it may have followed upon
        // one that is not, and not have asked yet.
        if session.left == Some(epoch) {
            return false;
        }
        if session.ended_early(epoch) {
            return true;
        }
        match (of_epoch, &session.holder) {
            // A fence leaves the words of the last version before, which may never have been seen.
            (Some((_, holds)), None) => *holds || session.holds_on(),
            (Some((_, holds)), _) => *holds,
            (None, None) if session.epoch == epoch + 1 => session.holds_on(),
            // Of another, which held it before, it says nothing, nor whether that one is strict.
            (None, _) => true,
        }
    }

    /// Whether the epoch under which a claim was released is over, and whoever held it may answer on: a hand may have released it.
    pub fn may_hold_on_to_released(&self, claim: &Claim) -> bool {
        let (uid, epoch) = (&claim.session_uid, claim.session_epoch);
        // Of what is handed over it is not.
        let over = claim.holder.is_none() && self.epochs.get(uid).is_some_and(|greatest| *greatest > epoch);
        let session = || self.sessions.values().map(|seen| &seen.session).find(|session| session.uid == *uid);
        over && session().is_some_and(|session| self.may_hold_on_after(session, epoch))
    }

    /// Whether somebody was fenced whose kernel may answer on: for what, an absent claim does not tell.
    pub fn somebody_may_hold_on(&self) -> bool {
        let fenced = |session: &&Session| session.holder.is_none() && session.left.is_none();
        self.sessions.values().map(|seen| &seen.session).filter(fenced).any(Session::holds_on)
    }

    /// Whether this epoch was ended by its own holder: it was silent before it wrote that.
    pub fn has_left(&self, (node, uid, epoch): (&str, &str, u64)) -> bool {
        let session = self.session(node).map(|seen| &seen.session);
        session.is_some_and(|session| session.uid == uid && session.left == Some(epoch))
    }

    /// When this session may be fenced: D of the version in view after that version was received.
    pub fn silent_at(seen: &Seen) -> BootNs {
        seen.since + seen.session.lease
    }

    /// Sessions that claims name and that are absent, with the time from which a fenced one may be created in
    /// their place and the least epoch it must have.
    pub fn absent_sessions(&self) -> impl Iterator<Item = (&str, BootNs, u64)> {
        self.absent_sessions.iter().map(|(name, since)| {
            let bindings = self.claims.values().flat_map(Claim::bindings);
            let of_it = bindings.filter(|(node, ..)| session_name(node) == *name).map(|(_, uid, _)| uid);
            let uids: BTreeSet<&str> = of_it.collect();
            let wait = uids.iter().map(|uid| self.wait_for_absent(uid)).max().unwrap_or(D_MAX);
            let epoch = uids.iter().map(|uid| self.greatest_epoch(uid)).max().unwrap_or(0) + 1;
            (name.as_str(), *since + wait, epoch)
        })
    }

    /// Whether an absent claim is known not to have been held by a live session: watched for [`D_MAX`] without a gap,
    /// and no deletion seen in that time.
    pub fn never_claimed(&self, vip: Vip, now: BootNs) -> bool {
        let long_ago = |since: &BootNs| *since + D_MAX <= now;
        self.watching_since.as_ref().is_some_and(long_ago)
            && self.deleted_claims.get(&vip).is_none_or(|was| long_ago(&was.at))
    }

    /// Whether there may have been a claim for this VIP, which has none, whose owner nothing tells to be silent.
    pub fn may_have_been_claimed(&self, vip: Vip) -> bool {
        self.deletions_forgotten || self.deleted_claims.contains_key(&vip)
    }

    /// Since when the object that is this VIP's claim has been known.
    pub fn claim_known_since(&self, claim: &Claim) -> Option<BootNs> {
        self.known_claims.get(&claim.vip).filter(|(uid, _)| *uid == claim.uid).map(|(_, since)| *since)
    }

    /// Whether a claim for this VIP was seen to be deleted at or after `since`.
    pub fn claim_deleted_since(&self, vip: Vip, since: BootNs) -> bool {
        self.deleted_claims.get(&vip).is_some_and(|was| was.at >= since)
    }

    /// When a claim for this VIP was last seen to be deleted.
    pub fn claim_deleted_at(&self, vip: Vip) -> Option<BootNs> {
        self.deleted_claims.get(&vip).map(|was| was.at)
    }

    /// Whether list or watch have come as far as this.
    pub fn has_watched(&self, version: Version) -> bool {
        self.watched >= version
    }
}

//! Requests that have not been answered: at most one for each Lease, and found by its name at once, for with thousands of
//! VIPs there are thousands of probes.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    interface::{Grounds, Token, Why},
    lease::Version,
};
use crate::vocabulary::{BootNs, Vip};

/// How many claims may be taken, given up and deleted at once, so that a thousand VIPs do not flood the API server.
pub const CLAIMS_IN_FLIGHT: usize = 16;

/// The write that takes a claim.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Take {
    pub vip: Vip,
    /// UID and epoch of ours that it binds the claim to.
    pub session: (String, u64),
    pub why: Why,
    /// There was no claim before.
    pub creates: bool,
    pub sent_at: BootNs,
}

/// What is outstanding.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Purpose {
    /// Writing our own session.
    Own,
    /// Reading our own session, to learn what became of a write; this version was in view.
    OwnRead(Version),
    /// Reading what a refused write collided with; this version was in view, and that one was to be released.
    Look(Version, Option<Version>),
    /// Fencing of this session.
    Fence(Grounds),
    /// Reading all sessions.
    Survey,
    /// Taking a claim.
    Take(Take),
    /// Reading a claim of ours that the watch has not confirmed, in view at this version, since then.
    Confirm(Vip, Version, BootNs),
    /// Releasing a claim, or deleting it, at this version.
    Release(Vip, Version),
    /// Who is to inherit a claim, under this session and epoch of ours.
    Chore(Vip, (String, u64)),
    /// Probes, begun then.
    Probe(Vip, BootNs),
    /// Probes of all that was held when they were begun.
    Challenge(BTreeSet<Vip>, BootNs),
    /// Removing what nobody needs.
    Sweep,
    /// Taking another node's name out of a claim that is to be removed.
    Disown,
    /// Ending our own epoch, for good.
    Leave,
}

#[derive(Debug, Default)]
pub(super) struct Outstanding {
    by_token: BTreeMap<Token, (String, Purpose)>,
    by_name: BTreeMap<String, Token>,
    /// Claims on their way.
    pub(super) takes: usize,
    /// Claims that are given up, or deleted.
    gone: usize,
    /// Chores on their way.
    pub(super) chores: usize,
    /// VIPs that are asked for.
    pub(super) probes: usize,
    /// Claims that are read.
    pub(super) confirms: usize,
}

impl Outstanding {
    pub(super) fn insert(&mut self, token: Token, name: String, purpose: Purpose) {
        self.count(&purpose, 1);
        self.by_name.insert(name.clone(), token);
        self.by_token.insert(token, (name, purpose));
    }

    pub(super) fn remove(&mut self, token: Token) -> Option<(String, Purpose)> {
        let (name, purpose) = self.by_token.remove(&token)?;
        self.by_name.remove(&name);
        self.count(&purpose, -1);
        Some((name, purpose))
    }

    /// What is outstanding for the Lease of this name.
    pub(super) fn of(&self, name: &str) -> Option<&Purpose> {
        self.purpose(*self.by_name.get(name)?)
    }

    /// Ends what is outstanding for the Lease of this name.
    pub(super) fn end(&mut self, name: &str) -> Option<Purpose> {
        let token = *self.by_name.get(name)?;
        self.remove(token).map(|(_, purpose)| purpose)
    }

    pub(super) fn purpose(&self, token: Token) -> Option<&Purpose> {
        self.by_token.get(&token).map(|(_, purpose)| purpose)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_token.is_empty()
    }

    /// Claims that are taken, given up or deleted.
    pub(super) fn claims(&self) -> usize {
        self.takes + self.gone
    }

    /// Whether no more claims are to be written at once, but for chores.
    pub(super) fn is_full(&self) -> bool {
        self.claims() >= CLAIMS_IN_FLIGHT
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.by_token.len() + self.by_name.len()
    }

    fn count(&mut self, purpose: &Purpose, by: isize) {
        let counter = match purpose {
            Purpose::Take(_) => &mut self.takes,
            Purpose::Release(..) | Purpose::Sweep | Purpose::Disown => &mut self.gone,
            Purpose::Chore(..) => &mut self.chores,
            Purpose::Probe(..) => &mut self.probes,
            Purpose::Confirm(..) => &mut self.confirms,
            _ => return,
        };
        *counter = counter.saturating_add_signed(by);
    }
}

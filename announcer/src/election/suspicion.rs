//! A peer whose kernel does not answer on the wire is fenced before its lease is over, if all who could hear it agree
//! (`DESIGN` §5.7).
//!
//! Who hears nothing of a peer writes that into its own session. Once the sessions of all live nodes on that link say so, by a
//! quorum read, one of them fences. What the fenced node had is asked for on the wire by whoever takes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    choose::tie_break_of,
    interface::{Change, Grounds, Request, SilentPeers, Watched, Witness},
    lease::{Claim, Record, Session, Suspicion, session_name},
    machine::Machine,
    outstanding::Purpose,
    own::Own,
    view::Seen,
};
use crate::{
    policy::Links,
    vocabulary::{BootNs, Vip},
};

/// A suspicion is written again so often while it lasts.
const ROUND: Duration = Duration::from_secs(1);
/// It lapses unless it was written again within two rounds: its author may have been stopped, and know no better.
const LAPSES_AFTER: Duration = Duration::from_secs(2);
/// After so many rounds without agreement the lease decides.
const ROUNDS: u32 = 5;
/// Of those who agree, one fences; the next one so much later.
const TURN: Duration = Duration::from_millis(100);
/// The next survey after one that did not lead to a fence.
const SURVEY_AGAIN: Duration = Duration::from_millis(200);
/// Each node watches no more peers than this, and in a larger cluster so many watch each peer.
pub const WATCHED_PEERS: usize = 8;

/// A peer is watched by so many of its addresses: one that it does not answer for is no reason to take all.
const WATCHED_VIPS: usize = 3;
/// A node that was not heard by the API server for half of its lease may have a silent kernel for that alone; one that is back
/// has so long until its silence counts.
const BACK: Duration = Duration::from_secs(1);

const SURVEY: &str = "all sessions";
/// Published by nodes that may be fenced so.
const EARLY: &str = "early";

/// What is suspected, by us and by others.
#[derive(Debug, Default)]
pub(super) struct Suspicions {
    /// What the wire tells.
    pub(super) silent: SilentPeers,
    /// Who was silent when our own epoch began. It may be us whom nobody heard, and who were fenced for that: until it is heard
    /// again its silence accuses nobody, or two that do not hear each other would fence each other in turn.
    unheard: BTreeSet<(String, String)>,
    /// Under which session and epoch, on which link: the round, and when it began.
    ours: BTreeMap<Accused, (u32, BootNs)>,
    /// Since when we have suspected a session's epoch, also if it was ended meanwhile.
    since: BTreeMap<(String, u64), BootNs>,
    /// By others: node and link.
    doubted: BTreeSet<(String, String)>,
    /// Since when all agree on somebody.
    agreed_at: Option<BootNs>,
    watched: BTreeMap<(String, String), Watched>,
}

#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd)]
struct Accused {
    node: String,
    uid: String,
    epoch: u64,
    link: String,
}

/// Sessions that all agree on, by Lease name, and our turn to fence them.
struct Condemned {
    sessions: BTreeMap<String, Grounds>,
    turn: usize,
}

impl Suspicions {
    /// As our session publishes them.
    pub(super) fn published(&self) -> BTreeSet<Suspicion> {
        let current = self.ours.iter().filter(|(_, (round, _))| *round <= ROUNDS);
        let suspicion = |(accused, (round, _)): (&Accused, &(u32, BootNs))| Suspicion {
            uid: accused.uid.clone(),
            epoch: accused.epoch,
            link: accused.link.clone(),
            round: *round,
        };
        current.map(suspicion).collect()
    }
}

#[cfg(test)]
impl Suspicions {
    pub(super) fn size(&self) -> usize {
        let Self { silent, unheard, ours, since, doubted, agreed_at: _, watched } = self;
        silent.len() + unheard.len() + ours.len() + since.len() + doubted.len() + watched.len()
    }
}

impl Machine {
    /// What the wire tells now.
    pub(super) fn hear(&mut self, silent: SilentPeers) {
        self.suspicions.unheard.retain(|key| silent.contains_key(key));
        self.suspicions.silent = silent;
    }

    /// Our own epoch begins.
    pub(super) fn begin_hearing(&mut self) {
        self.suspicions.unheard = self.suspicions.silent.keys().cloned().collect();
    }

    /// Whom to ask on the wire, by node and link, and for what.
    pub fn watched(&self) -> &BTreeMap<(String, String), Watched> {
        &self.suspicions.watched
    }

    /// Turns what the wire tells into suspicions of sessions and epochs, which our next write publishes.
    pub(super) fn suspect(&mut self, now: BootNs) {
        let quiet = self.suspicions.silent.is_empty() && self.suspicions.ours.is_empty();
        if quiet && self.suspicions.since.is_empty() {
            return;
        }
        let able = self.is_live(now) && self.shutdown.is_none() && self.quiet_until <= now;
        let unheard = &self.suspicions.unheard;
        let silent = self.suspicions.silent.keys().filter(|key| able && !unheard.contains(*key));
        let silent: Vec<(String, String)> = silent.cloned().collect();
        let mut accused = BTreeSet::new();
        for (node, link) in silent {
            accused.extend(self.accuse(now, &node, &link));
        }
        let over: Vec<Accused> =
            self.suspicions.ours.keys().filter(|one| !accused.contains(one)).cloned().collect();
        for one in over {
            self.suspicions.ours.remove(&one);
            let session = self.view.session(&one.node).map(|seen| &seen.session);
            if session.is_some_and(|session| session.uid == one.uid && session.epoch == one.epoch) {
                self.changes.push_back(Change::Cleared { node: one.node, link: one.link });
            }
        }
        let sessions = || self.view.sessions.values().map(|seen| &seen.session);
        let ended = |uid: &str, epoch| sessions().any(|s| s.uid == uid && s.ended_early(epoch));
        let goes_on = |uid: &str, epoch| accused.iter().any(|one| one.uid == uid && one.epoch == epoch);
        self.suspicions.since.retain(|(uid, epoch), _| ended(uid, *epoch) || goes_on(uid, *epoch));
        for one in accused {
            let (node, session) = (one.node.clone(), (one.uid.clone(), one.epoch));
            let link = one.link.clone();
            let (round, begun) = self.suspicions.ours.entry(one).or_insert((0, now));
            let first = *round == 0;
            if first || *round <= ROUNDS && *begun + ROUND <= now {
                (*round, *begun) = (*round + 1, now);
            }
            let next = (*round <= ROUNDS).then(|| *begun + ROUND);
            if let Some(next) = next {
                self.wake(next);
            }
            if first {
                self.suspicions.since.entry(session).or_insert(now);
                self.changes.push_back(Change::Suspected { node: node.clone(), link });
                self.ask_ahead(now, &node);
            }
        }
    }

    /// Only who lets itself be fenced early, and announces on that link, is suspected there.
    fn accuse(&mut self, now: BootNs, node: &str, link: &str) -> Option<Accused> {
        let seen = self.view.session(node)?;
        let back = seen.back + BACK;
        // One that was there when we came may be as old as its lease; the others know, and have to agree.
        if seen.heard.unwrap_or(seen.since) + seen.session.lease / 2 <= now {
            return None;
        }
        if back > now {
            self.wake(back);
            return None;
        }
        let session = &seen.session;
        let holder = session.holder.as_ref()?;
        let may = session.understood
            && session.fencing == EARLY
            && session.links.up.contains(link)
            && self.links.up.contains(link)
            && holder.node == node
            && node != self.me.holder.node;
        may.then(|| Accused {
            node: node.to_owned(),
            uid: session.uid.clone(),
            epoch: session.epoch,
            link: link.to_owned(),
        })
    }

    /// What we would inherit is asked for while the others make up their minds.
    fn ask_ahead(&mut self, now: BootNs, node: &str) {
        let of_it = |vip: &&Vip| {
            self.view.claims.get(*vip).is_some_and(|claim| claim.holder.as_deref() == Some(node))
        };
        let vips: Vec<Vip> = self.heirs.iter().filter(of_it).copied().collect();
        for vip in vips {
            // What was asked before says nothing of this owner.
            self.probed.remove(&vip);
            self.is_unanswered(now, vip);
        }
    }

    /// Since when silence about a VIP is that of whoever had it last: before we suspected an owner that was fenced early,
    /// another may have had it, which is silent for good.
    pub(super) fn asked_since(&self, vip: Vip) -> BootNs {
        let bindings = self.view.claims.get(&vip).into_iter().flat_map(Claim::bindings);
        let since = bindings.filter_map(|(node, uid, epoch)| {
            let seen = self.view.session(node)?;
            let early = seen.session.uid == uid && seen.session.ended_early(epoch);
            let suspected = self.suspicions.since.get(&(uid.to_owned(), epoch)).copied();
            early.then(|| suspected.unwrap_or(seen.since))
        });
        since.max().unwrap_or_default()
    }

    /// Fences whom all agree on, when it is our turn, after a quorum read that shows that they still do.
    pub(super) fn agree(&mut self, now: BootNs) {
        let Some(condemned) = self.condemned(now, None) else {
            self.suspicions.agreed_at = None;
            return;
        };
        let agreed_at = *self.suspicions.agreed_at.get_or_insert(now);
        let turn = agreed_at + TURN * u32::try_from(condemned.turn).unwrap_or(u32::MAX);
        if turn > now {
            return self.wake(turn);
        }
        self.request(now, SURVEY.to_owned(), Purpose::Survey, Request::Survey);
    }

    /// Every session, as a quorum read has it.
    pub(super) fn surveyed(&mut self, now: BootNs, sessions: Vec<Record>) {
        let names: BTreeSet<String> = sessions.iter().map(Record::name).collect();
        for session in sessions {
            self.view.seen(now, session);
        }
        // It may be us who were fenced, or another epoch by now that we would end.
        self.own_seen(now);
        self.suspect(now);
        self.not_before.insert(SURVEY.to_owned(), now + SURVEY_AGAIN);
        let condemned = self.condemned(now, Some(&names)).map(|condemned| condemned.sessions);
        for (name, grounds) in condemned.into_iter().flatten() {
            let Some(seen) = self.view.sessions.get(&name).cloned() else { continue };
            self.fence(now, seen.session, grounds, true);
        }
    }

    /// Whom all nodes on a link suspect that are not themselves suspected by all the others; `within`: only if all of these
    /// were read. Half of the nodes may fence the other half only if the gateway answers them.
    fn condemned(&self, now: BootNs, within: Option<&BTreeSet<String>>) -> Option<Condemned> {
        let may = !self.suspicions.ours.is_empty()
            && matches!(self.own, Own::Live(_))
            && self.is_live(now)
            && self.is_in_touch(now)
            && self.shutdown.is_none()
            && self.quiet_until <= now;
        if !may {
            return None;
        }
        let me = session_name(&self.me.holder.node);
        let links: BTreeSet<&String> = self.suspicions.ours.keys().map(|accused| &accused.link).collect();
        let mut found = Condemned { sessions: BTreeMap::new(), turn: usize::MAX };
        for link in links {
            let here = |seen: &&Seen| seen.session.holder.is_some() && seen.session.links.up.contains(link);
            let live: Vec<&Seen> = self.view.sessions.values().filter(here).collect();
            let mut accused: BTreeMap<String, &Accused> = self
                .suspicions
                .ours
                .keys()
                .filter(|accused| accused.link == *link)
                .map(|accused| (session_name(&accused.node), accused))
                .collect();
            let electors = loop {
                let electors: Vec<&Seen> =
                    live.iter().copied().filter(|seen| !accused.contains_key(&seen.session.name)).collect();
                let others = || electors.iter().filter(|seen| seen.session.name != me);
                let before = accused.len();
                accused.retain(|_, one| others().all(|seen| suspects(seen, one, now)));
                if accused.len() == before {
                    break electors;
                }
            };
            let gateway = || {
                let by = |one: &Accused| self.suspicions.silent.get(&(one.node.clone(), one.link.clone()));
                accused.values().all(|one| by(one) == Some(&Witness::Gateway))
            };
            // Two halves that both hear the gateway: one fences the other, the same for all.
            let least =
                |names: &mut dyn Iterator<Item = &str>| names.map(|name| tie_break_of(name, link)).min();
            let back = accused.keys().filter_map(|name| self.view.sessions.get(name)).any(|seen| {
                let of = |said: &Suspicion| electors.iter().any(|elector| elector.session.uid == said.uid);
                seen.said.is_some_and(|at| at + LAPSES_AFTER > now) && seen.session.suspects.iter().any(of)
            });
            let first = || {
                let ours = least(&mut electors.iter().map(|seen| seen.session.name.as_str()));
                !back || ours < least(&mut accused.keys().map(String::as_str))
            };
            let half = 2 * accused.len() == live.len() && gateway() && first();
            let few = 2 * accused.len() < live.len() || half;
            let read = |name: &String| within.is_none_or(|read| read.contains(name));
            if accused.is_empty() || !few || !live.iter().all(|seen| read(&seen.session.name)) {
                continue;
            }
            let agreed = electors.len();
            let order = |name: &str| tie_break_of(name, link);
            let before = electors.iter().filter(|seen| order(&seen.session.name) < order(&me)).count();
            found.turn = found.turn.min(before);
            let grounds = |name: String| (name, Grounds::Wire { link: link.clone(), agreed });
            found.sessions.extend(accused.into_keys().map(grounds));
        }
        (!found.sessions.is_empty()).then_some(found)
    }

    /// Looks at whom others suspect: they are asked by us too.
    pub(super) fn note_doubts(&mut self, now: BootNs) {
        let mut doubted = BTreeSet::new();
        let mut lapses = None::<BootNs>;
        for seen in self.view.sessions.values().filter(|seen| !seen.session.suspects.is_empty()) {
            let Some(at) = seen.said.map(|at| at + LAPSES_AFTER).filter(|at| *at > now) else { continue };
            lapses = Some(lapses.map_or(at, |earlier| earlier.min(at)));
            for suspicion in &seen.session.suspects {
                let of = |other: &&Seen| {
                    other.session.uid == suspicion.uid && other.session.epoch == suspicion.epoch
                };
                let accused = self.view.sessions.values().find(of);
                let holder = accused.and_then(|accused| accused.session.holder.as_ref());
                doubted.extend(holder.map(|holder| (holder.node.clone(), suspicion.link.clone())));
            }
        }
        if let Some(at) = lapses {
            self.wake(at);
        }
        if doubted != self.suspicions.doubted {
            self.suspicions.doubted = doubted;
            self.find_watched(now);
        }
    }

    /// Finds whom to watch: every peer that owns something, or in a large cluster those that follow upon us in a ring; and
    /// whom others suspect.
    pub(super) fn find_watched(&mut self, now: BootNs) {
        let me = &self.me.holder.node;
        let may = |session: &&Session| session.understood && session.fencing == EARLY;
        let sessions = self.view.sessions.values().map(|seen| &seen.session).filter(may);
        let holders =
            sessions.filter_map(|session| Some((session.holder.as_ref()?.node.as_str(), &session.links)));
        let live: BTreeMap<&str, &Links> = holders.filter(|(node, _)| node != me).collect();
        // A ring for each link, so that whoever is there has watchers there.
        let ring_on = |link: &String| {
            let there = live.iter().filter(|(_, links)| links.up.contains(link));
            ring(me, there.map(|(node, _)| *node))
        };
        let rings: BTreeMap<&String, BTreeSet<&str>> =
            self.links.up.iter().map(|link| (link, ring_on(link))).collect();
        let in_ring = |node: &str, link: &String| rings.get(link).is_some_and(|ring| ring.contains(node));
        let doubted = &self.suspicions.doubted;
        let is_doubted = |node: &str, link: &str| doubted.iter().any(|(n, l)| n == node && l == link);
        let before = &self.suspicions.watched;
        let owned = |vip: &Vip| Some(self.view.owner(self.view.claims.get(vip)?, now)?.0);
        // Where an owner announces a VIP: on other links it says nothing, and rightly so.
        let announced = |vip: &Vip, owner: &str| {
            let candidate = self.demand.as_ref()?.vips.get(vip)?.candidates.get(owner)?;
            let shared = live.get(owner)?.announcing(&candidate.interfaces);
            Some(shared.filter(|link| self.links.up.contains(*link)))
        };
        let mut watched: BTreeMap<(String, String), Watched> = BTreeMap::new();
        // What is asked for stays the same as long as it can: of something new it is not known whether it ever was answered.
        for ((node, link), of) in before {
            let kept = |vip: &&Vip| {
                owned(vip) == Some(node) && announced(vip, node).is_some_and(|mut on| on.any(|l| l == link))
            };
            let vips = of.vips.iter().filter(kept).copied().collect();
            watched.insert((node.clone(), link.clone()), Watched { vips, doubted: false });
        }
        for (vip, claim) in &self.view.claims {
            let Some((owner, ..)) = self.view.owner(claim, now) else { continue };
            for link in announced(vip, owner).into_iter().flatten() {
                let of = watched.entry((owner.to_owned(), link.clone())).or_default();
                if of.vips.len() < WATCHED_VIPS && !of.vips.contains(vip) {
                    of.vips.push(*vip);
                }
            }
        }
        for ((node, link), of) in &mut watched {
            of.doubted = is_doubted(node, link);
        }
        watched.retain(|(node, link), of| !of.vips.is_empty() && (of.doubted || in_ring(node, link)));
        self.suspicions.watched = watched;
    }
}

/// Whether a live node has said lately that it hears nothing of an epoch on a link.
fn suspects(seen: &Seen, accused: &Accused, now: BootNs) -> bool {
    let says = |said: &Suspicion| {
        said.uid == accused.uid && said.epoch == accused.epoch && said.link == accused.link
    };
    seen.said.is_some_and(|at| at + LAPSES_AFTER > now) && seen.session.suspects.iter().any(says)
}

/// All others, or if they are too many those that follow upon us, by hash.
fn ring<'a>(me: &str, others: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let others: Vec<&str> = others.collect();
    if others.len() <= WATCHED_PEERS {
        return others.into_iter().collect();
    }
    let mut hashed: Vec<([u8; 32], &str)> =
        others.into_iter().map(|node| (tie_break_of(node, ""), node)).collect();
    hashed.sort_unstable();
    let mine = tie_break_of(me, "");
    let after = hashed.partition_point(|(hash, _)| *hash < mine);
    hashed.iter().cycle().skip(after).take(WATCHED_PEERS).map(|(_, node)| *node).collect()
}

#[cfg(test)]
mod tests;

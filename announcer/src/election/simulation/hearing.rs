//! The wire between machines: who hears whom, and what agents make of it.

use std::collections::BTreeSet;

use super::{
    host::{MS, SECOND},
    world::{Event, World},
};
use crate::{
    election::{Input, SilentPeers, Witness},
    vocabulary::Vip,
};

/// How often peers are asked while things go wrong; in quiet hours nothing is to be found.
const OFTEN: u64 = 250 * MS;
const RARELY: u64 = 5 * SECOND;
/// Questions in a row that a silent peer has missed.
const MISSES: u32 = 2;

impl World {
    /// Who answers when this machine asks for a VIP. A machine's MAC is as great as its number.
    pub fn heard_for(&self, vip: Vip, asker: usize) -> Option<usize> {
        (0..self.hosts.len()).find(|other| {
            *other != asker
                && self.hear_each_other(vip, asker, *other)
                && self.hosts[*other].answers(vip, self.now)
        })
    }

    /// Where this machine would announce a VIP now.
    pub fn links_for(&self, vip: Vip, host: usize) -> impl Iterator<Item = &String> {
        let host = &self.hosts[host];
        let candidate = self.demand.vips.get(&vip).and_then(|wanted| wanted.candidates.get(&host.node));
        let named = self.setting.policy.named.contains(&vip);
        let on = candidate.map(|candidate| host.links.announcing(&candidate.interfaces).collect::<Vec<_>>());
        host.links
            .up
            .iter()
            .filter(move |link| on.as_ref().map_or(!named || *link == "eth1", |on| on.contains(link)))
    }

    /// Whether what one machine answers for a VIP reaches the other.
    pub fn hear_each_other(&self, vip: Vip, one: usize, other: usize) -> bool {
        self.are_joined(one, other)
            && self.links_for(vip, one).any(|link| self.links_for(vip, other).any(|there| there == link))
    }

    /// Whether frames go both ways: a question that is not heard, or an answer that is not, are one silence.
    fn are_joined(&self, one: usize, other: usize) -> bool {
        self.hosts[one].segment == self.hosts[other].segment
            && !self.deaf.contains(&(one.min(other), one.max(other)))
    }

    /// Every agent asks the peers that it watches.
    pub fn listen(&mut self) {
        let quiet_from = self.round_at + self.setting.faults_for + self.setting.recovers_in;
        self.later(if self.now > quiet_from { RARELY } else { OFTEN }, 0, Event::Listen);
        for host in 0..self.hosts.len() {
            self.contest(host);
            if let Some(silent) = self.asks_peers(host) {
                self.say(|w| format!("{} hears nothing of {silent:?}", w.hosts[host].machine_id));
                self.deliver(host, Input::Silent(silent));
            }
        }
    }

    /// The kernel tells, within a second or so, that somebody else answers for what it answers for.
    fn contest(&mut self, at: usize) {
        if self.hosts[at].agent.as_ref().is_none_or(|agent| agent.paused) {
            return;
        }
        let boot = self.hosts[at].boot(self.now);
        let vips: Vec<Vip> = self.hosts[at].kernel.answered(boot).collect();
        let contested: BTreeSet<Vip> =
            vips.into_iter().filter(|vip| self.heard_for(*vip, at).is_some()).collect();
        if !contested.is_empty() {
            self.deliver(at, Input::Contested(contested));
        }
    }

    /// What this agent has learned, if that is news.
    fn asks_peers(&mut self, at: usize) -> Option<SilentPeers> {
        let host = &self.hosts[at];
        let runs = host.up && host.frozen.is_none();
        let agent = host.agent.as_ref().filter(|agent| runs && !agent.paused)?;
        let (watched, before) = (agent.machine.watched().clone(), agent.silent.clone());
        let (mut ears, mut silent) = (agent.ears.clone(), SilentPeers::new());
        ears.retain(|key, _| watched.contains_key(key));
        let noise = self.weather.misheard;
        let misheard: Vec<bool> = watched.iter().map(|_| noise > 0 && self.rng.per_mille(noise)).collect();
        for ((key, of), misheard) in watched.into_iter().zip(misheard) {
            let (_, link) = &key;
            let there = |other: usize| {
                self.are_joined(at, other)
                    && self.hosts[other].links.up.contains(link)
                    && self.hosts[at].links.up.contains(link)
            };
            let others = || (0..self.hosts.len()).filter(|other| *other != at && there(*other));
            let announces =
                |vip: &Vip, other: usize| self.links_for(*vip, other).any(|announced| announced == link);
            let answers = |other: usize| {
                of.vips.iter().any(|vip| self.hosts[other].answers(*vip, self.now) && announces(vip, other))
            };
            let answered = others().any(answers);
            // A machine's own address is answered for by whatever runs on it.
            let peer = others().any(|other| self.hosts[other].up && self.hosts[other].frozen.is_none());
            let gateway = self.hosts[at].segment == 0 && self.hosts[at].links.up.contains(link);
            let same = |(vips, _): &&(Vec<Vip>, u32)| of.vips.iter().any(|vip| vips.contains(vip));
            let before = ears.get(&key).filter(same).map(|(_, misses)| *misses);
            let misses = if answered && !misheard {
                Some(0)
            } else if of.doubted || before.is_some() {
                Some(before.unwrap_or_default() + 1)
            } else {
                None
            };
            if let Some(misses) = misses {
                ears.insert(key.clone(), (of.vips, misses));
                let witness = if gateway { Some(Witness::Gateway) } else { peer.then_some(Witness::Peer) };
                if let Some(witness) = witness.filter(|_| misses >= MISSES) {
                    silent.insert(key, witness);
                }
            }
        }
        let agent = self.hosts[at].agent.as_mut()?;
        agent.ears = ears;
        agent.silent.clone_from(&silent);
        (silent != before).then_some(silent)
    }

    /// Whether this machine answers in another's place.
    pub fn is_provisional(&self, host: usize, vip: Vip) -> bool {
        self.hosts[host].provisional.contains(&vip)
    }

    /// Whether another may answer for this VIP beside this machine, if they do not hear each other: it holds on, or answers in
    /// another's place, or was fenced early and has not seen it.
    pub fn may_answer_beside(&self, host: usize, vip: Vip) -> bool {
        self.hosts[host].by_hold || self.is_provisional(host, vip) || self.is_fenced_early(host)
    }

    /// Whether what this machine answers by was ended before its lease was over.
    pub fn is_fenced_early(&self, host: usize) -> bool {
        self.hosts[host].kernel.session().is_some_and(|session| self.checks.early.contains(session))
    }
}

//! Which peers have stopped answering for what they own: asked on the wire, as a client would ask (`DESIGN` §5.7). The
//! owner's *kernel* answers, so an agent that restarts goes unnoticed, and a dead node, NIC or cable does not.
//!
//! Pure: [`Detector`]. The rim: [`Detection`].

mod ears;
mod gateways;
mod run;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

pub use run::Detection;

use crate::vocabulary::{Link, LinkId, Mac, Vip};

/// A peer that has never answered on a link, and that nobody suspects, is asked there in so many rounds, for it may be about to
/// answer, and then in one of so many.
const STRANGER: u64 = 10;

/// How often peers are asked, and how many questions in a row go unanswered before one is silent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pace {
    /// From one round of questions to the next.
    pub interval: Duration,
    /// Questions.
    pub misses: u32,
}

/// A peer on one link.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Peer {
    /// Some of what it owns there: it is asked for the first, and for the others when it does not answer.
    pub vips: Vec<Vip>,
    /// Others suspect it: it is asked at once, and its silence counts although it has never answered us.
    pub doubted: bool,
}

/// Whom to watch, where.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Watching {
    /// Announcing links with carrier.
    pub links: BTreeMap<LinkId, Link>,
    /// Peers on these, by name of their node.
    pub peers: BTreeMap<(LinkId, String), Peer>,
    /// Addresses of other nodes: asked when a peer does not answer, to see that we are not the ones who are cut off.
    pub nodes: BTreeSet<Vip>,
}

/// Who shows that it is not us who are cut off.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub enum Witness {
    /// Another peer, or another node's own address.
    Peer,
    /// The gateway.
    Gateway,
}

/// Peers that have stopped answering, each on which link, and who was heard there meanwhile.
pub type Silent = BTreeMap<(LinkId, String), Witness>;

/// A question to send.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Question {
    /// Where.
    pub link: LinkId,
    /// For which address.
    pub ip: Vip,
    /// To whom; `None`: to all.
    pub to: Option<Mac>,
}

/// Questions and answers of one node.
#[derive(Debug)]
pub struct Detector {
    pace: Pace,
    peers: BTreeMap<(LinkId, String), Asked>,
    gateways: BTreeSet<(LinkId, Vip)>,
    nodes: BTreeSet<Vip>,
    /// Gateways and nodes that have answered, and when.
    heard: BTreeMap<(LinkId, Vip), Instant>,
    links: BTreeSet<LinkId>,
    rounds: u64,
    round_at: Option<Instant>,
    silent: Silent,
}

/// What is known of a peer on a link.
#[derive(Clone, Debug)]
struct Asked {
    peer: Peer,
    /// Who answered last.
    mac: Option<Mac>,
    /// When it last answered.
    heard: Option<Instant>,
    /// The question that has not been answered yet.
    asked: Option<Instant>,
    /// In which round that was, or the last one before.
    round: Option<u64>,
    /// How often it was asked.
    tries: u32,
    /// Questions in a row that were not.
    misses: u32,
    /// When the first of them was asked.
    since: Option<Instant>,
    /// It has answered since others began to suspect it.
    cleared: bool,
}

impl Pace {
    /// How long an answer may take: a kernel gives it in well under a millisecond.
    pub fn patience(self) -> Duration {
        (self.interval / 4).clamp(Duration::from_millis(2), Duration::from_millis(250))
    }

    /// A peer that dies is found silent within this time: right after it has answered it is not asked for an interval, and
    /// then as often as it may miss.
    pub fn worst(self) -> Duration {
        self.interval + self.patience() * self.misses
    }
}

impl Detector {
    /// Watches nobody yet.
    pub fn new(pace: Pace) -> Self {
        Self {
            pace,
            peers: BTreeMap::new(),
            gateways: BTreeSet::new(),
            nodes: BTreeSet::new(),
            heard: BTreeMap::new(),
            links: BTreeSet::new(),
            rounds: 0,
            round_at: None,
            silent: Silent::new(),
        }
    }

    /// Watches these from now on; what is known of those who stay is kept.
    pub fn watch(&mut self, watching: &Watching, now: Instant) {
        let mut before = std::mem::take(&mut self.peers);
        for (key, peer) in &watching.peers {
            let mut asked = before.remove(key).unwrap_or_else(|| Asked::new(peer.clone()));
            if asked.peer.vips != peer.vips {
                // What was not answered may be another's by now.
                asked.clear();
            }
            if !peer.vips.iter().any(|vip| asked.peer.vips.contains(vip)) {
                // It may own this by name alone, and its kernel not answer for it yet.
                (asked.heard, asked.tries) = (None, 0);
            }
            if !peer.doubted || !asked.peer.doubted {
                asked.cleared = false;
            }
            asked.peer.clone_from(peer);
            self.peers.insert(key.clone(), asked);
        }
        self.nodes.clone_from(&watching.nodes);
        self.links = watching.links.keys().copied().collect();
        let (nodes, gateways) = (&self.nodes, &self.gateways);
        let asked = |key: &(LinkId, Vip)| nodes.contains(&key.1) || gateways.contains(key);
        self.heard.retain(|key, _| watching.links.contains_key(&key.0) && asked(key));
        self.round_at = (!self.peers.is_empty()).then(|| self.round_at.unwrap_or(now));
        self.silent.retain(|key, _| self.peers.contains_key(key));
    }

    /// The gateways of this node.
    pub fn set_gateways(&mut self, gateways: BTreeSet<(LinkId, Vip)>) {
        self.gateways = gateways;
    }

    /// Somebody uses an address on a link. All that has arrived is to be told before [`Self::poll`].
    pub fn heard(&mut self, link: LinkId, ip: Vip, mac: Mac, now: Instant) {
        let of = |(on, _): &(LinkId, String), asked: &Asked| *on == link && asked.peer.vips.contains(&ip);
        for (key, asked) in self.peers.iter_mut().filter(|(key, asked)| of(key, asked)) {
            asked.clear();
            asked.mac = Some(mac);
            asked.heard = Some(now);
            asked.cleared = true;
            self.silent.remove(key);
        }
        if self.nodes.contains(&ip) || self.gateways.contains(&(link, ip)) {
            self.heard.insert((link, ip), now);
        }
    }

    /// A question could not be sent: nobody can have answered it.
    pub fn unsent(&mut self, question: &Question) {
        let of = |(link, _): &(LinkId, String), asked: &Asked| {
            *link == question.link && asked.peer.vips.contains(&question.ip)
        };
        for (_, asked) in self.peers.iter_mut().filter(|(key, asked)| of(key, asked)) {
            asked.asked = None;
        }
    }

    /// On this link so much was lost that an answer may have been: no question that is open there counts.
    pub fn deaf(&mut self, link: LinkId) {
        for (_, asked) in self.peers.iter_mut().filter(|((on, _), _)| *on == link) {
            asked.asked = None;
        }
    }

    /// Counts what was not answered in time, and returns what is to be asked now.
    pub fn poll(&mut self, now: Instant) -> Vec<Question> {
        let pace = self.pace;
        let round = self.round_at.is_some_and(|at| at <= now);
        if round {
            self.rounds += 1;
            self.round_at = Some(now + pace.interval);
        }
        let this = self.rounds;
        let (mut questions, mut in_doubt) = (Vec::new(), BTreeSet::new());
        for ((link, _), asked) in &mut self.peers {
            asked.count(now, pace);
            let tried = u64::from(asked.tries) >= STRANGER;
            let rested = asked.counts() || !tried || asked.round.is_none_or(|last| last + STRANGER <= this);
            let due = asked.is_urgent(pace) || round && rested;
            if asked.asked.is_none() && due {
                (asked.asked, asked.round) = (Some(now), Some(this));
                asked.tries = asked.tries.saturating_add(1);
                // The last one is for all: whoever has the address by now answers, whatever became of its MAC.
                let to = asked.mac.filter(|_| asked.misses + 1 < pace.misses);
                let doubt = asked.is_in_doubt();
                let vips = asked.peer.vips.iter().take(if doubt { usize::MAX } else { 1 });
                questions.extend(vips.map(|vip| Question { link: *link, ip: *vip, to }));
                if doubt {
                    in_doubt.insert(*link);
                }
            }
        }
        questions.extend(self.bystanders(&in_doubt).map(|(link, ip)| Question { link, ip, to: None }));
        self.judge(now);
        questions
    }

    /// When [`Self::poll`] is due; `None`: nobody is watched.
    pub fn next_due(&self) -> Option<Instant> {
        let waited = self.peers.values().filter(|asked| asked.counts()).filter_map(|asked| asked.asked);
        waited.map(|at| at + self.pace.patience()).chain(self.round_at).min()
    }

    /// Whom to listen to: what peers own, and on links where one of them did not answer also who else is there.
    pub fn listens_to(&self) -> BTreeMap<LinkId, BTreeSet<Vip>> {
        let mut all: BTreeMap<LinkId, BTreeSet<Vip>> =
            self.links.iter().map(|link| (*link, BTreeSet::new())).collect();
        let mut in_doubt = BTreeSet::new();
        for ((link, _), asked) in &self.peers {
            all.entry(*link).or_default().extend(&asked.peer.vips);
            if asked.is_in_doubt() {
                in_doubt.insert(*link);
            }
        }
        for (link, ip) in self.bystanders(&in_doubt) {
            all.entry(link).or_default().insert(ip);
        }
        all
    }

    /// Peers that have stopped answering, as of the last [`Self::poll`] or answer.
    pub fn silent(&self) -> &Silent {
        &self.silent
    }

    fn bystanders<'a>(&'a self, links: &'a BTreeSet<LinkId>) -> impl Iterator<Item = (LinkId, Vip)> + 'a {
        let gateways = self.gateways.iter().copied().filter(|(link, _)| links.contains(link));
        let nodes = links.iter().flat_map(|link| self.nodes.iter().map(|node| (*link, *node)));
        gateways.chain(nodes)
    }

    /// A peer is silent if it missed its questions, and somebody else on that link was heard since the first of them,
    /// and lately: else it may be us who are cut off.
    fn judge(&mut self, now: Instant) {
        let lately = now.checked_sub(self.pace.worst() * 2);
        let mut silent = Silent::new();
        for (key, asked) in &self.peers {
            let Some(since) = asked.since.filter(|_| asked.misses >= self.pace.misses && asked.counts())
            else {
                continue;
            };
            let since = lately.map_or(since, |lately| lately.max(since));
            let heard = |at: &Instant| *at >= since;
            let gateway = |ip: &Vip| self.gateways.contains(&(key.0, *ip));
            let of_link = self.heard.iter().filter(|((link, _), at)| *link == key.0 && heard(at));
            let others = self.peers.iter().filter(|((link, _), _)| *link == key.0);
            let peer = others.clone().any(|(_, other)| other.heard.as_ref().is_some_and(heard));
            let witness = of_link
                .map(|((_, ip), _)| if gateway(ip) { Witness::Gateway } else { Witness::Peer })
                .chain(peer.then_some(Witness::Peer))
                .max();
            if let Some(witness) = witness {
                silent.insert(key.clone(), witness);
            }
        }
        self.silent = silent;
    }
}

impl Asked {
    fn new(peer: Peer) -> Self {
        Self {
            peer,
            mac: None,
            heard: None,
            asked: None,
            round: None,
            tries: 0,
            misses: 0,
            since: None,
            cleared: false,
        }
    }

    fn clear(&mut self) {
        (self.asked, self.misses, self.since) = (None, 0, None);
    }

    /// Whether its silence means anything.
    fn counts(&self) -> bool {
        self.heard.is_some() || self.peer.doubted
    }

    /// Counts the question that nobody has answered in time.
    fn count(&mut self, now: Instant, pace: Pace) {
        let Some(at) = self.asked.filter(|at| *at + pace.patience() <= now) else { return };
        self.asked = None;
        if self.counts() {
            self.misses = self.misses.saturating_add(1).min(pace.misses);
            self.since.get_or_insert(at);
        }
    }

    /// It has missed a question, or others say that it has.
    fn is_in_doubt(&self) -> bool {
        self.misses > 0 || self.peer.doubted && !self.cleared
    }

    /// It is asked without waiting for the next round.
    fn is_urgent(&self, pace: Pace) -> bool {
        self.is_in_doubt() && self.misses < pace.misses
    }
}

#[cfg(test)]
mod tests;

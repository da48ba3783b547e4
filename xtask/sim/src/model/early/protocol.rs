//! Early fencing (`DESIGN` §5.7) with one address and a wire that is cut: `a`, whose agent may pause and whose answers from
//! the server may be late, and its reliable peers `b` and `c`, which ask it on the wire, write what they suspect, and see
//! everything late. Nothing has to happen when it could, so that every pause is in it.
//!
//! Whoever asks hears an answer only if both directions are whole, so a cut between two stands for one way or both: to
//! everybody here it is the same.

use super::super::search::Model;

/// Rules that can be left out: `true` is the protocol.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Early only if all live peers suspect.
    pub all_agree: bool,
    /// What they suspect is read from the server, not taken from the watch.
    pub quorum_read: bool,
    /// A suspicion counts for two rounds.
    pub lapses: bool,
    /// A suspicion is one of an epoch.
    pub bound_to_epoch: bool,
    /// The owner's mode says how it may be fenced.
    pub owners_mode: bool,
    /// Who follows upon an epoch that was ended early asks on the wire first.
    pub probed_first: bool,
    /// So does who follows upon somebody that has followed and may not have asked: the claim says so.
    pub mark_kept: bool,
    /// A fence replaces the version that was read.
    pub fence_by_version: bool,
    /// Who hears nobody at all suspects nobody.
    pub not_alone: bool,
    /// Only who has been heard under that epoch is suspected.
    pub heard_before: bool,
    /// A kernel that was silent answers peers first, and clients only after its agent has asked and heard nobody: an
    /// owner's, whose answer from the server may come after its fence.
    pub owner_asks: bool,
    /// And a successor's: it answers peers before it asks.
    pub on_while_probing: bool,
    /// An agent that sees its fence makes its kernel silent.
    pub silent_when_fenced: bool,
}

impl Rules {
    pub const ALL: Self = Self {
        all_agree: true,
        quorum_read: true,
        lapses: true,
        bound_to_epoch: true,
        owners_mode: true,
        probed_first: true,
        mark_kept: true,
        fence_by_version: true,
        not_alone: true,
        heard_before: true,
        owner_asks: true,
        on_while_probing: true,
        silent_when_fenced: true,
    };
}

/// What is to be looked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Search {
    /// What must never be.
    Wrong,
    /// The same, but a fence may be unfair.
    WrongAnswers,
    /// What early fencing is for: `a` is fenced early, and a peer answers before the lease has run out.
    EarlySuccessor,
    /// What it costs: two answer.
    TwoAnswers,
}

/// What a world allows.
#[derive(Clone, Copy, Debug)]
pub struct World {
    pub rules: Rules,
    pub search: Search,
    pub observers: usize,
    /// There is a gateway on the link.
    pub gateway: bool,
    /// `a` publishes `strict`.
    pub strict: bool,
    /// The address is nobody's yet.
    pub free: bool,
    /// `b` has accepted to inherit.
    pub heir: bool,
    /// What a peer writes of its suspicion is seen by the other within a tick; if not, some time.
    pub prompt: bool,
    /// `c` only asks and suspects; if not, it also fences and takes.
    pub c_only_suspects: bool,
    /// `b` does not renew its session, so that it is over when its lease is.
    pub b_stops: bool,
    /// A suspicion names the version of the owner's session that was seen when it was asked, and counts for no other.
    /// Not in the protocol: it would do without anybody's clock.
    pub by_version: bool,
    /// Clients are answered at once, and no more if somebody is heard then; a successor asks before that, too. No kernel
    /// needs to tell peers from clients, and two may answer while one of them has not asked yet.
    pub clients_at_once: bool,
    /// Time ends here.
    pub ends: u8,
    /// Leases in ticks.
    pub lease: u8,
    pub budget: Budget,
}

/// How often each thing may still happen.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Budget {
    /// The wire between two of them is cut, one way or both. That it is whole again is free.
    pub cuts: u8,
    /// `a` writes: renewals, epochs, takes.
    pub writes: u8,
    /// `a` publishes another mode with a renewal.
    pub switches: u8,
    /// `a`'s machine dies.
    pub deaths: u8,
    /// `b` gives away what it has taken before it has answered.
    pub releases: u8,
}

const MARGIN: u8 = 1;
/// A round of questions, in ticks.
const ROUND: u8 = 1;
/// A suspicion counts for so long after it was first seen.
const LAPSE: u8 = 2 * ROUND;
/// How long ago, at most, each peer found `a` silent when all agree: from its question to its write, from there until
/// the other sees it, and until it lapses.
const FRESH: u8 = 2 * ROUND + LAPSE - 1;
const OBSERVERS: usize = 2;
/// `a` on the wire; its peers follow.
const A: usize = 0;
const GATEWAY: usize = 3;

/// `a`'s.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Session {
    version: u8,
    held: bool,
    epoch: u8,
    strict: bool,
    /// The epoch that was ended early; 0: none.
    early: u8,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Claim {
    version: u8,
    /// 0: released, 1: `a`, 2 …: peers.
    holder: u8,
    /// `a`'s, if it is the holder.
    epoch: u8,
    /// Taken from an epoch that was ended early, since it was `a`'s last.
    early: bool,
}

/// In a peer's own session.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Suspicion {
    epoch: u8,
    /// The version of the owner's session that was seen, if it is to be named.
    version: u8,
    /// Another one at each write. That it is a time means nothing to who reads it.
    round: u8,
}

/// A write of `a`: of its session (`boot`, `strict`), or of the claim.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Request {
    epoch: u8,
    expected: u8,
    boot: u8,
    strict: bool,
}

/// A request about one Lease: what became of it. One that is lost stays what it is for ever.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Wait {
    Idle,
    Sent(Request),
    /// It is answered (`false`: a conflict); the answer is on its way.
    Answer(Request, bool),
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Agent {
    /// The confirmed epoch. `None`: it has seen its fence.
    own: Option<u8>,
    /// The greatest epoch seen in its session, and the version to replace.
    known: u8,
    version: u8,
    /// Confirmed, and no request for another mode was sent since.
    strict: bool,
    session: Wait,
    claim: Wait,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Kernel {
    epoch: u8,
    deadline: u8,
    entry: Option<u8>,
    /// Clients are answered, not only peers.
    full: bool,
    /// `a`'s agent has asked, since this kernel was silent, and heard nobody.
    asked: bool,
    /// For each peer: it answered peers when `a`'s agent asked, and was not heard.
    blind: [bool; OBSERVERS],
    dead: bool,
}

/// Why a fence was not right.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Unfair {
    /// A peer could hear the owner under that epoch ever since it answered, or since longer than a suspicion counts.
    Heard,
    /// A peer had taken its suspicion back, or never had one.
    TakenBack,
    /// Who agreed was cut off itself.
    Alone,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Peer {
    session: Session,
    /// Since when it has seen this version.
    since: u8,
    claim: Claim,
    /// The last question was not answered: the epoch and version it was about, and when it was asked.
    silent: Option<(u8, u8, u8)>,
    /// `a` was heard under the epoch that is seen.
    heard: bool,
    /// The other's suspicion, and since when it has been seen like this.
    seen: Option<Suspicion>,
    seen_since: u8,
    /// All agreed, when the session had this version; and what was wrong with that.
    agreed: Option<(u8, Option<Unfair>)>,
    /// The address is to be programmed here, after a probe or at once.
    due: bool,
    probes: bool,
    /// Peers are answered.
    on: bool,
    /// Nobody was heard.
    probed: bool,
    /// `a`'s kernel answered peers then, and was not heard.
    blind: bool,
    /// Clients are answered.
    owns: bool,
    /// It has asked since then, or need not.
    asked: bool,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct State {
    now: u8,
    left: Budget,
    /// A bit for each two: `between`.
    cuts: u8,
    session: Session,
    claim: Claim,
    suspicions: [Option<Suspicion>; OBSERVERS],
    /// `b`'s session is fenced.
    b_over: bool,
    agent: Agent,
    kernel: Kernel,
    peers: [Peer; OBSERVERS],
    /// When `a` was fenced early last.
    fenced_early: Option<u8>,
    unfair: Option<Unfair>,
    /// The last epoch under which `a`'s kernel has answered.
    answered: u8,
    /// When each peer could not hear `a` last, after it had answered under this epoch (`by_version`: since its last
    /// write, at any time).
    deaf: [Option<u8>; OBSERVERS],
}

/// One step. `A…` is done by `a`'s agent, `P…` by a peer.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    Tick,
    Cut(usize, usize),
    Whole(usize, usize),
    Dies,
    ARenews,
    ASwitchesMode,
    ANewEpoch,
    SessionArrives,
    AHearsSession,
    AReadsSession,
    ATakes,
    ClaimArrives,
    AHearsClaim,
    AReadsClaim,
    AAsks,
    PSees(usize),
    PSeesSuspicion(usize),
    PAsks(usize),
    PSuspects(usize),
    PWithdraws(usize),
    PAgrees(usize),
    PFencesEarly(usize),
    PFencesLate(usize),
    CFencesB,
    BReleases,
    PTakes(usize),
    PInherits(usize),
    PTurnsOn(usize),
    PProbes(usize),
    PPrograms(usize),
    PAsksAgain(usize),
}

/// Those who ask each other.
const PAIRS: [(usize, usize); 5] = [(A, 1), (A, 2), (1, 2), (1, GATEWAY), (2, GATEWAY)];

fn between(one: usize, other: usize) -> u8 {
    let pair = (one.min(other), one.max(other));
    PAIRS.iter().zip(0..).find_map(|(&there, bit)| (there == pair).then_some(1 << bit)).unwrap_or(0)
}

impl Peer {
    fn watching(session: Session, since: u8, claim: Claim) -> Self {
        Self {
            session,
            since,
            claim,
            silent: None,
            heard: false,
            seen: None,
            seen_since: 0,
            agreed: None,
            due: false,
            probes: false,
            on: false,
            probed: false,
            blind: false,
            owns: false,
            asked: false,
        }
    }
}

impl State {
    /// A question and its answer pass between two.
    fn hear_each_other(&self, one: usize, other: usize) -> bool {
        self.cuts & between(one, other) == 0
    }

    /// `a`'s kernel answers peers.
    fn a_is_on(&self) -> bool {
        let Kernel { epoch, deadline, entry, dead, .. } = self.kernel;
        !dead && entry == Some(epoch) && self.now < deadline
    }

    fn a_answers(&self) -> bool {
        self.a_is_on() && self.kernel.full
    }

    fn a_fenced(&mut self) {
        self.kernel = Kernel { deadline: 0, entry: None, full: false, ..self.kernel };
        self.agent.own = None;
    }

    fn p_sees_suspicion(&mut self, at: usize) {
        let peer = &mut self.peers[at];
        let there = self.suspicions[1 - at];
        if peer.seen != there {
            peer.seen = there;
            peer.seen_since = self.now;
        }
    }

    fn p_sees_session(&mut self, at: usize) {
        let peer = &mut self.peers[at];
        if peer.session != self.session {
            peer.heard &= peer.session.epoch == self.session.epoch;
            peer.session = self.session;
            peer.since = self.now;
        }
    }
}

impl World {
    fn answers_for(&self) -> u8 {
        self.lease - MARGIN
    }

    /// A peer's own deadline is ahead.
    fn lives(&self, state: &State, at: usize) -> bool {
        at > 0 || !self.b_stops || state.now < self.answers_for()
    }

    /// `at` hears the gateway, or another peer than `a`.
    fn hears_somebody(&self, state: &State, at: usize) -> bool {
        self.gateway && state.hear_each_other(at + 1, GATEWAY)
            || self.observers == 2 && state.hear_each_other(1, 2)
    }

    /// `a`'s agent. Whether the step is possible.
    fn a_acts(&self, state: &mut State, action: Action) -> bool {
        let agent = state.agent;
        match action {
            Action::ARenews | Action::ASwitchesMode => {
                let Some(epoch) = agent.own.filter(|_| agent.session == Wait::Idle) else { return false };
                let mut strict = agent.strict;
                if matches!(action, Action::ASwitchesMode) {
                    strict = !strict;
                    state.left.switches -= 1;
                    state.agent.strict = false; // `early` binds before it is sent, `strict` once it is there.
                }
                state.left.writes -= 1;
                let expected = agent.version;
                state.agent.session = Wait::Sent(Request { epoch, expected, boot: state.now, strict });
            }
            Action::ANewEpoch => {
                if agent.own.is_some() || agent.session != Wait::Idle {
                    return false;
                }
                state.left.writes -= 1;
                let Agent { known, version: expected, strict, .. } = agent;
                state.agent.session =
                    Wait::Sent(Request { epoch: known + 1, expected, boot: state.now, strict });
            }
            Action::SessionArrives => {
                let Wait::Sent(request) = agent.session else { return false };
                let there = state.session;
                let done = there.version == request.expected;
                if done {
                    let Request { epoch, strict, .. } = request;
                    let early = if epoch == there.epoch { there.early } else { 0 };
                    state.session = Session { version: there.version + 1, held: true, epoch, strict, early };
                }
                state.agent.session = Wait::Answer(request, done);
            }
            Action::AHearsSession => {
                let Wait::Answer(request, done) = agent.session else { return false };
                state.agent.session = Wait::Idle;
                if !done || request.epoch < agent.known {
                    return true; // A read tells why.
                }
                state.agent.own = Some(request.epoch);
                state.agent.known = request.epoch;
                state.agent.version = request.expected + 1;
                state.agent.strict = request.strict;
                let was_on = state.a_is_on();
                let kernel = &mut state.kernel;
                if kernel.epoch != request.epoch {
                    kernel.epoch = request.epoch;
                    kernel.entry = None;
                }
                kernel.deadline = kernel.deadline.max(request.boot + self.answers_for());
                if !was_on {
                    self.a_turns_on(state);
                }
            }
            Action::AReadsSession => {
                let Session { version, epoch, held, .. } = state.session;
                if epoch > agent.known && !held {
                    if self.rules.silent_when_fenced {
                        state.a_fenced();
                    }
                    state.agent.known = epoch;
                    state.agent.version = version;
                }
            }
            Action::ATakes => {
                let Some(epoch) = agent.own.filter(|_| agent.claim == Wait::Idle) else { return false };
                let Claim { version: expected, holder, epoch: bound, .. } = state.claim;
                if holder > 1 || holder == 1 && (bound >= epoch || self.heir) {
                    return false;
                }
                state.left.writes -= 1;
                state.agent.claim =
                    Wait::Sent(Request { epoch, expected, boot: state.now, strict: agent.strict });
            }
            Action::ClaimArrives => {
                let Wait::Sent(request) = agent.claim else { return false };
                let done = state.claim.version == request.expected;
                if done {
                    let version = request.expected + 1;
                    state.claim = Claim { version, holder: 1, epoch: request.epoch, early: false };
                }
                state.agent.claim = Wait::Answer(request, done);
            }
            Action::AHearsClaim => {
                let Wait::Answer(request, done) = agent.claim else { return false };
                state.agent.claim = Wait::Idle;
                if done && agent.own == Some(request.epoch) {
                    state.kernel.entry = Some(request.epoch);
                    self.a_turns_on(state);
                }
            }
            Action::AReadsClaim => {
                if state.claim.holder != 1 {
                    state.kernel.entry = None;
                    state.kernel.full = false;
                }
            }
            Action::AAsks => {
                if !state.a_is_on() || state.kernel.asked {
                    return false;
                }
                let on = [0, 1].map(|at: usize| state.peers[at].on && self.lives(state, at));
                if (0..OBSERVERS).any(|at| on[at] && state.hear_each_other(A, at + 1)) {
                    if self.clients_at_once {
                        state.kernel.entry = None;
                        state.kernel.full = false;
                    }
                    return self.clients_at_once; // If not, it asks again.
                }
                state.kernel.asked = true;
                state.kernel.full = true;
                state.kernel.blind = on;
            }
            _ => return false,
        }
        true
    }

    /// A kernel that was silent is to answer.
    fn a_turns_on(&self, state: &mut State) {
        state.kernel.asked = !self.rules.owner_asks;
        state.kernel.full = state.kernel.asked || self.clients_at_once;
        state.kernel.blind = [false; OBSERVERS];
    }

    /// A peer. Whether the step is possible.
    fn p_acts(&self, state: &mut State, action: Action) -> bool {
        let now = state.now;
        match action {
            Action::PSees(at) => {
                state.p_sees_session(at);
                state.peers[at].claim = state.claim;
            }
            Action::PSeesSuspicion(at) => state.p_sees_suspicion(at),
            Action::PAsks(at) => {
                let Peer { session, claim, due, heard, .. } = state.peers[at];
                if due || !session.held || claim.holder != 1 || claim.epoch != session.epoch {
                    return false;
                }
                let hears = state.a_is_on() && state.hear_each_other(A, at + 1);
                let witness = !self.rules.not_alone || self.hears_somebody(state, at);
                let known = !self.rules.heard_before || heard;
                let named = if self.by_version { session.version } else { 0 };
                let peer = &mut state.peers[at];
                peer.heard |= hears;
                peer.silent = (!hears && witness && known).then_some((session.epoch, named, now));
                if peer.silent.is_none() {
                    peer.agreed = None;
                }
            }
            Action::PSuspects(at) => {
                let Some((epoch, version, asked)) = state.peers[at].silent else { return false };
                if now - asked > ROUND {
                    return false; // It asks again.
                }
                state.suspicions[at] = Some(Suspicion { epoch, version, round: now });
            }
            Action::PWithdraws(at) => {
                if state.peers[at].silent.is_some() {
                    return false;
                }
                state.suspicions[at] = None;
            }
            Action::PAgrees(at) => {
                if !self.all_agree(state, at) {
                    return false;
                }
                let unfair = self.unfair(state, at);
                let peer = &mut state.peers[at];
                peer.agreed = Some((peer.session.version, unfair));
            }
            Action::PFencesEarly(at) => {
                let Some((version, unfair)) = state.peers[at].agreed else { return false };
                if self.rules.fence_by_version && state.session.version != version || !state.session.held {
                    return false;
                }
                state.unfair = unfair;
                state.fenced_early = Some(now);
                self.p_fences(state, at, state.session.epoch);
            }
            Action::PFencesLate(at) => {
                let Peer { session, since, .. } = state.peers[at];
                if !session.held || session != state.session || now - since < self.lease {
                    return false;
                }
                self.p_fences(state, at, 0);
            }
            Action::CFencesB => state.b_over = true,
            Action::BReleases => {
                let Claim { version, holder, early, .. } = state.claim;
                if holder != 2 || state.peers[0].owns {
                    return false;
                }
                state.left.releases -= 1;
                let early = early && self.rules.mark_kept;
                state.claim = Claim { version: version + 1, holder: 0, epoch: 0, early };
                let Peer { session, since, heard, seen, seen_since, .. } = state.peers[0];
                let claim = state.claim;
                state.peers[0] = Peer { heard, seen, seen_since, ..Peer::watching(session, since, claim) };
            }
            Action::PTakes(at) => {
                let Peer { claim, session, .. } = state.peers[at];
                let void = match claim.holder {
                    0 => true,
                    1 => session.epoch > claim.epoch,
                    holder => holder == 2 && at == 1 && state.b_over,
                };
                if self.heir || claim != state.claim || !void {
                    return false;
                }
                let holder = if at == 0 { 2 } else { 3 };
                let early = self.ended_early(session, claim);
                state.claim = Claim { version: claim.version + 1, holder, epoch: 0, early };
                self.p_is_due(state, at, claim);
            }
            Action::PInherits(at) => {
                let Peer { claim, session, .. } = state.peers[at];
                if !self.heir || at > 0 || claim.holder != 1 || session.epoch <= claim.epoch {
                    return false;
                }
                self.p_is_due(state, at, claim);
            }
            Action::PTurnsOn(at) => {
                let peer = &mut state.peers[at];
                if !self.rules.on_while_probing || self.clients_at_once || !peer.due || !peer.probes {
                    return false;
                }
                peer.on = true;
            }
            Action::PProbes(at) => {
                let on = state.a_is_on();
                let heard = on && state.hear_each_other(A, at + 1);
                let peer = &mut state.peers[at];
                let ready = peer.on || self.clients_at_once || !self.rules.on_while_probing;
                if !peer.due || !peer.probes || heard || !ready || peer.probed {
                    return false; // It asks again.
                }
                peer.probed = true;
                peer.blind = on;
            }
            Action::PPrograms(at) => {
                let peer = &mut state.peers[at];
                if !peer.due || peer.probes && !peer.probed {
                    return false;
                }
                peer.asked |= !peer.probes || !self.clients_at_once || !self.rules.on_while_probing;
                peer.on = true;
                peer.owns = true;
            }
            Action::PAsksAgain(at) => {
                let on = state.a_is_on();
                let heard = on && state.hear_each_other(A, at + 1);
                let peer = &mut state.peers[at];
                if !peer.owns || peer.asked {
                    return false;
                }
                peer.asked = !heard;
                peer.blind = on;
                if heard {
                    *peer = Peer { on: false, owns: false, probed: false, blind: false, ..*peer };
                }
            }
            _ => return false,
        }
        true
    }

    fn p_fences(&self, state: &mut State, at: usize, early: u8) {
        let Session { version, epoch, strict, .. } = state.session;
        state.session = Session { version: version + 1, held: false, epoch: epoch + 1, strict, early };
        state.p_sees_session(at);
    }

    /// `at` has won `claim`, or inherits it.
    fn p_is_due(&self, state: &mut State, at: usize, claim: Claim) {
        let there = state.claim;
        let peer = &mut state.peers[at];
        peer.claim = there;
        peer.due = true;
        peer.probes = self.rules.probed_first && self.ended_early(peer.session, claim);
        peer.silent = None;
        peer.agreed = None;
    }

    /// Whoever holds `claim` has not asked for the address, or may not have.
    fn ended_early(&self, session: Session, claim: Claim) -> bool {
        claim.holder == 1 && session.early == claim.epoch || self.rules.mark_kept && claim.early
    }

    /// All live peers suspect the owner, as `at` finds it: what it reads is what it has seen then.
    fn all_agree(&self, state: &mut State, at: usize) -> bool {
        if self.rules.quorum_read {
            state.p_sees_session(at);
            state.p_sees_suspicion(at);
        }
        let peer = state.peers[at];
        let Session { version, held, epoch, strict, .. } = peer.session;
        if !held || peer.due || strict && self.rules.owners_mode {
            return false;
        }
        let about = |which: u8, named: u8| {
            (!self.rules.bound_to_epoch || which == epoch) && (!self.by_version || named == version)
        };
        let counts = |since: u8| !self.rules.lapses || state.now - since < LAPSE;
        let mine = state.suspicions[at].is_some_and(|mine| about(mine.epoch, mine.version))
            && peer.silent.is_some_and(|(silent, named, asked)| about(silent, named) && counts(asked));
        let others = self.observers == 1
            || !self.rules.all_agree
            || peer.seen.is_some_and(|seen| about(seen.epoch, seen.version)) && counts(peer.seen_since);
        // One of two is exactly half of them.
        let enough = self.observers == 2
            || !self.rules.not_alone
            || self.gateway && state.hear_each_other(at + 1, GATEWAY);
        mine && others && enough
    }

    /// What is wrong with an agreement that `at` has found now.
    fn unfair(&self, state: &State, at: usize) -> Option<Unfair> {
        let observers = 0..self.observers;
        if observers.clone().any(|at| state.suspicions[at].is_none()) {
            return Some(Unfair::TakenBack);
        }
        let heard =
            |at: usize| state.deaf[at].is_none_or(|deaf| !self.by_version && state.now - deaf > FRESH);
        if observers.clone().any(heard) {
            return Some(Unfair::Heard);
        }
        (self.observers == 1 && !self.hears_somebody(state, at)).then_some(Unfair::Alone)
    }

    /// What follows from a step without anybody's doing; and what makes no difference any more is forgotten.
    fn settle(&self, state: &mut State, before: &State) {
        let on = state.a_is_on();
        let now = state.now;
        let there = state.session;
        if on {
            state.answered = state.kernel.epoch;
        } else {
            let lapsed = now >= state.kernel.deadline;
            let deadline = if lapsed { 0 } else { state.kernel.deadline };
            // `a_turns_on` says what they are when it answers again.
            let (full, asked, blind) = (false, false, [false; OBSERVERS]);
            state.kernel = Kernel { deadline, full, asked, blind, ..state.kernel };
        }
        let renewed = self.by_version && there.version != before.session.version;
        if renewed || there.epoch != before.session.epoch {
            state.deaf = [None; OBSERVERS];
        }
        for at in 0..self.observers {
            if state.answered == there.epoch && !(on && state.hear_each_other(A, at + 1)) {
                state.deaf[at] = Some(now);
            }
            state.deaf[at] = match state.deaf[at] {
                Some(_) if self.by_version => Some(0),
                other => other.filter(|deaf| now - deaf <= FRESH),
            };
            let peer = &mut state.peers[at];
            // A fence of an older version conflicts.
            if self.rules.fence_by_version && peer.agreed.is_some_and(|(agreed, _)| agreed != there.version) {
                peer.agreed = None;
            }
            peer.blind &= on; // From here on, what it was cut off from is over.
            peer.since = peer.since.max(now.saturating_sub(self.lease));
            if self.rules.lapses {
                peer.seen_since = peer.seen_since.max(now.saturating_sub(LAPSE));
                peer.silent = peer.silent.filter(|(_, _, asked)| now - asked < LAPSE);
            }
            if self.rules.bound_to_epoch {
                peer.silent = peer.silent.filter(|(epoch, ..)| *epoch == there.epoch);
                peer.seen = peer.seen.filter(|seen| seen.epoch == there.epoch);
                state.suspicions[at] = state.suspicions[at].filter(|mine| mine.epoch == there.epoch);
            }
            if peer.seen.is_none() {
                peer.seen_since = 0;
            }
        }
    }

    fn tick(&self, state: &mut State) -> bool {
        if state.now >= self.ends {
            return false;
        }
        if self.prompt && self.observers == 2 {
            (0..OBSERVERS).for_each(|at| state.p_sees_suspicion(at));
        }
        state.now += 1;
        true
    }

    fn possible(&self, state: &State) -> Vec<Action> {
        let mut actions = Vec::with_capacity(48);
        actions.push(Action::Tick);
        let there = |node: usize| node <= self.observers || node == GATEWAY && self.gateway;
        for (one, other) in PAIRS.into_iter().filter(|&(one, other)| there(one) && there(other)) {
            if state.cuts & between(one, other) != 0 {
                actions.push(Action::Whole(one, other));
            } else if state.left.cuts > 0 {
                actions.push(Action::Cut(one, other));
            }
        }
        if !state.kernel.dead {
            if state.left.deaths > 0 {
                actions.push(Action::Dies);
            }
            if state.left.writes > 0 {
                actions.extend([Action::ARenews, Action::ANewEpoch, Action::ATakes]);
                if state.left.switches > 0 {
                    actions.push(Action::ASwitchesMode);
                }
            }
            actions.extend([
                Action::AHearsSession,
                Action::AReadsSession,
                Action::AHearsClaim,
                Action::AReadsClaim,
                Action::AAsks,
            ]);
        }
        actions.extend([Action::SessionArrives, Action::ClaimArrives]);
        if self.b_stops && state.now >= self.lease {
            actions.push(Action::CFencesB);
        }
        if state.left.releases > 0 && self.lives(state, 0) {
            actions.push(Action::BReleases);
        }
        // Where nobody is fenced early, suspicions change nothing.
        let asks = !(self.strict && self.rules.owners_mode && self.budget.switches == 0);
        for at in (0..self.observers).filter(|&at| self.lives(state, at)) {
            actions.push(Action::PSees(at));
            if asks {
                actions.extend([Action::PAsks(at), Action::PSuspects(at), Action::PWithdraws(at)]);
            }
            if at == 0 || !self.c_only_suspects || self.b_stops || self.budget.releases > 0 {
                actions.extend([
                    Action::PAgrees(at),
                    Action::PFencesEarly(at),
                    Action::PFencesLate(at),
                    Action::PTakes(at),
                    Action::PInherits(at),
                    Action::PTurnsOn(at),
                    Action::PProbes(at),
                    Action::PPrograms(at),
                    Action::PAsksAgain(at),
                ]);
            }
            if self.observers == 2 {
                actions.push(Action::PSeesSuspicion(at));
            }
        }
        actions
    }

    fn p_answers(&self, state: &State, at: usize) -> bool {
        state.peers[at].owns && self.lives(state, at)
    }

    /// Two answer, and nothing excuses it.
    fn two_answer(&self, state: &State, at: usize) -> Option<&'static str> {
        if !self.p_answers(state, at) || !state.a_answers() {
            return None;
        }
        if state.agent.strict {
            return Some("two answer, and a is strict");
        }
        if state.agent.known > state.kernel.epoch {
            return Some("two answer, and a's agent has seen its fence");
        }
        if state.fenced_early.is_none_or(|at| state.now >= at + self.answers_for()) {
            return Some("two answer, longer than a lease after the fence");
        }
        let peer = &state.peers[at];
        (peer.asked && state.kernel.asked && !peer.blind && !state.kernel.blind[at])
            .then_some("two answer, and no question between them was lost")
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn start(&self) -> State {
        let session = Session { version: 1, held: true, epoch: 1, strict: self.strict, early: 0 };
        let claim = Claim { version: 1, holder: u8::from(!self.free), epoch: 1, early: false };
        let peer = Peer::watching(session, 0, claim);
        State {
            now: 0,
            left: self.budget,
            cuts: 0,
            session,
            claim,
            suspicions: [None; OBSERVERS],
            b_over: false,
            agent: Agent {
                own: Some(1),
                known: 1,
                version: 1,
                strict: self.strict,
                session: Wait::Idle,
                claim: Wait::Idle,
            },
            kernel: Kernel {
                epoch: 1,
                deadline: self.answers_for(),
                entry: (!self.free).then_some(1),
                full: !self.free,
                asked: true,
                blind: [false; OBSERVERS],
                dead: false,
            },
            peers: [peer; OBSERVERS],
            fenced_early: None,
            unfair: None,
            answered: u8::from(!self.free),
            deaf: [None; OBSERVERS],
        }
    }

    fn steps(&self, from: &State, found: &mut Vec<(Action, State)>) {
        for action in self.possible(from) {
            let mut to = *from;
            let done = match action {
                Action::Tick => self.tick(&mut to),
                Action::Cut(one, other) => {
                    to.cuts |= between(one, other);
                    to.left.cuts -= 1;
                    true
                }
                Action::Whole(one, other) => {
                    to.cuts &= !between(one, other);
                    true
                }
                Action::Dies => {
                    to.left.deaths -= 1;
                    to.kernel.dead = true;
                    true
                }
                Action::PSees(_)
                | Action::PSeesSuspicion(_)
                | Action::PAsks(_)
                | Action::PSuspects(_)
                | Action::PWithdraws(_)
                | Action::PAgrees(_)
                | Action::PFencesEarly(_)
                | Action::PFencesLate(_)
                | Action::CFencesB
                | Action::BReleases
                | Action::PTakes(_)
                | Action::PInherits(_)
                | Action::PTurnsOn(_)
                | Action::PProbes(_)
                | Action::PPrograms(_)
                | Action::PAsksAgain(_) => self.p_acts(&mut to, action),
                _ => self.a_acts(&mut to, action),
            };
            if done {
                self.settle(&mut to, from);
                if to != *from {
                    found.push((action, to));
                }
            }
        }
    }

    fn wrong(&self, state: &State) -> Option<String> {
        let peers = || 0..self.observers;
        let owns = peers().filter(|&at| self.p_answers(state, at)).count();
        match self.search {
            Search::Wrong | Search::WrongAnswers => {}
            Search::EarlySuccessor => {
                let in_time = state.kernel.dead && owns > 0 && state.fenced_early.is_some();
                return (in_time && state.now < self.lease).then(|| "in time".to_owned());
            }
            Search::TwoAnswers => return (owns > 0 && state.a_answers()).then(|| "two answer".to_owned()),
        }
        if owns > 1 {
            return Some("two peers answer".to_owned());
        }
        if let Some(why) = peers().find_map(|at| self.two_answer(state, at)) {
            return Some(why.to_owned());
        }
        let why = match state.unfair.filter(|_| self.search == Search::Wrong)? {
            Unfair::Heard => {
                "fenced early, and a peer has not lost it under that epoch, or heard it again long since"
            }
            Unfair::TakenBack => "fenced early, and a peer did not suspect it",
            Unfair::Alone => "fenced early by a peer that was cut off itself",
        };
        Some(why.to_owned())
    }

    fn tell(&self, state: &State) -> String {
        let names = ["-", "a", "b", "c"];
        let Session { version, held, epoch, strict, early } = state.session;
        let cut = PAIRS.into_iter().filter(|&(one, other)| !state.hear_each_other(one, other)).map(
            |(one, other)| {
                let name = |node: usize| ["a", "b", "c", "gateway"][node];
                format!(" {}|{}", name(one), name(other))
            },
        );
        let cut: String = cut.collect();
        let suspects = state.suspicions.map(|suspicion| suspicion.map(|s| (s.epoch, s.round)));
        let kernel = state.kernel;
        let peers: Vec<String> = state.peers[..self.observers]
            .iter()
            .enumerate()
            .map(|(at, peer)| {
                let state = match () {
                    () if peer.owns => "ANSWERS",
                    () if peer.on => "answers peers",
                    () if peer.due => "is to program",
                    () if peer.agreed.is_some() => "has agreement",
                    () if peer.silent.is_some() => "hears nothing",
                    () => "watches",
                };
                format!("{} {state}", names[at + 2])
            })
            .collect();
        format!(
            "t{} v{version} e{epoch}{}{}{}, claim {} e{}, suspicions {suspects:?}, cut{cut}; a's kernel {}until {} entry {:?}; {}",
            state.now,
            if held { " held" } else { " fenced" },
            if strict { " strict" } else { "" },
            if early > 0 { format!(" e{early} ended early") } else { String::new() },
            names[usize::from(state.claim.holder).min(3)],
            state.claim.epoch,
            match () {
                () if state.a_answers() => "ANSWERS ",
                () if state.a_is_on() => "answers peers ",
                () => "",
            },
            kernel.deadline,
            kernel.entry,
            peers.join(", "),
        )
    }
}

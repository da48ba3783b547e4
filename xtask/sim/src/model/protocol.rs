//! The ownership protocol with one address and discrete time: `a`, which may fail in every way, and its reliable peers,
//! which see everything late. Nothing has to happen when it could, so that a stopped agent needs no rule of its own.

use super::search::Model;

/// Rules that can be left out: `true` is the protocol.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// b is read before the request leaves, not when its answer comes.
    pub boot_time_before_request: bool,
    /// After a lost answer, the attempt that is there counts, not the newest one.
    pub attempt_known_by_number: bool,
    /// No renewal leaves the object as it was.
    pub renewals_differ: bool,
    /// Void needs a greater epoch, not another one.
    pub void_by_greater: bool,
    /// A claim is one of an epoch: after a new one, it is no longer its owner's.
    pub claims_bound_to_epoch: bool,
    pub kernel_compares_epochs: bool,
    /// Entries go when their epoch ends; they are not carried over.
    pub entries_stay_in_epoch: bool,
    /// An agent that may not adopt is silent before it writes a new epoch.
    pub silence_before_new_epoch: bool,
    pub fence_waits: bool,
    pub margin: bool,
    /// Silence is what an observer's own clock says.
    pub own_clock: bool,
    /// A shorter lease binds the kernel before it is sent.
    pub capped_before_shortening: bool,
    /// A watch gives no entry.
    pub no_entry_from_cache: bool,
    /// A read gives no entry.
    pub no_entry_from_read: bool,
    /// What is absent is waited for.
    pub absence_proves_nothing: bool,
    /// The entry goes before the release.
    pub entry_before_release: bool,
    /// A fence replaces the version that was silent.
    pub fence_by_version: bool,
    /// A lease does not outlive what is known of the claim.
    pub bound_by_claim: bool,
    /// Who accepted to inherit is as little passed over as a holder.
    pub heir_is_heard: bool,
    /// A release leaves the heir.
    pub release_keeps_heir: bool,
    /// Only who has accepted itself, and knows that it was written, inherits.
    pub accepted_by_own_write: bool,
    /// Who declines inherits no more, whatever becomes of that write.
    pub declined_before_written: bool,
    /// Who takes its own claim again leaves its heir.
    pub retake_keeps_heir: bool,
    /// Who has ended its own epoch begins none, and does not go on with that one.
    pub leaves_for_good: bool,
    /// Who ends its own epoch is silent before.
    pub silent_before_leaving: bool,
    /// An heir is one of an epoch.
    pub heir_bound_to_epoch: bool,
}

impl Rules {
    pub const ALL: Self = Self {
        boot_time_before_request: true,
        attempt_known_by_number: true,
        renewals_differ: true,
        void_by_greater: true,
        claims_bound_to_epoch: true,
        kernel_compares_epochs: true,
        entries_stay_in_epoch: true,
        silence_before_new_epoch: true,
        fence_waits: true,
        margin: true,
        own_clock: true,
        capped_before_shortening: true,
        no_entry_from_cache: true,
        no_entry_from_read: true,
        absence_proves_nothing: true,
        entry_before_release: true,
        fence_by_version: true,
        bound_by_claim: true,
        heir_is_heard: true,
        release_keeps_heir: true,
        accepted_by_own_write: true,
        declined_before_written: true,
        retake_keeps_heir: true,
        leaves_for_good: true,
        silent_before_leaving: true,
        heir_bound_to_epoch: true,
    };
}

/// What a world allows, and how often.
#[derive(Clone, Copy, Debug)]
pub struct World {
    pub rules: Rules,
    pub observers: usize,
    /// Time ends here.
    pub ends: u8,
    /// Leases in ticks.
    pub lease: u8,
    pub budget: Budget,
}

/// How often each thing may still happen.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Budget {
    /// `a` writes: renewals, epochs, takes, releases.
    pub writes: u8,
    /// `a` gives the address away.
    pub releases: u8,
    /// A peer gives it back.
    pub returns: u8,
    pub kills: u8,
    pub reboots: u8,
    /// Ticks that `a`'s clock misses.
    pub slow: u8,
    /// The lease gets shorter.
    pub shorter: u8,
    pub deleted_sessions: u8,
    pub deleted_claims: u8,
    pub twice: u8,
    /// Somebody accepts to inherit.
    pub heirs: u8,
    /// `a` ends its own epoch: its node goes away.
    pub leaves: u8,
}

const MARGIN: u8 = 1;
/// Peers' wall clocks are so far ahead of `a`'s.
const SKEW: u8 = 2;
const PEER_UID: u8 = 200;
const OBSERVERS: usize = 2;
const IN_FLIGHT: usize = 3;
const ATTEMPTS: usize = 3;

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
struct Session {
    uid: u8,
    version: u8,
    held: bool,
    epoch: u8,
    lease: u8,
    renewal: u8,
    wall: u8,
}

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
struct Claim {
    version: u8,
    /// 0: released, 1: `a`, 2 …: peers.
    holder: u8,
    uid: u8,
    epoch: u8,
    /// 0: nobody; then like `holder`. UID and epoch of its session.
    heir: (u8, u8, u8),
}

const NOBODY: (u8, u8, u8) = (0, 0, 0);

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
enum Write {
    Session(Session),
    Claim(Claim),
}

/// A write of `a` on its way. `expected`: the version it replaces; 0: it creates.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
struct Flying {
    write: Write,
    expected: u8,
    /// Somebody waits for its answer.
    awaited: bool,
}

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
struct Attempt {
    renewal: u8,
    boot: u8,
    lease: u8,
}

#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
struct Kernel {
    session: Option<(u8, u8)>,
    deadline: u8,
    entry: Option<(u8, u8)>,
}

/// A request about one Lease: what became of it.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
enum Wait<T> {
    #[default]
    Idle,
    Sent,
    /// It is answered; the answer is on its way. `None`: a conflict.
    Answer(Option<T>),
    /// Given up: read before writing again.
    Unsure,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Agent {
    up: bool,
    /// UID and epoch, confirmed, and the version to replace.
    own: Option<(u8, u8, u8)>,
    session: Wait<Session>,
    claim: Wait<Claim>,
    attempts: [Option<Attempt>; ATTEMPTS],
    /// What the proven attempt earned.
    earned: u8,
    /// When the claim was last known to be as it is in `cache`.
    known: u8,
    cache: Option<Claim>,
    lease: u8,
    remembered: u8,
    /// It has written the end of its epoch.
    left: bool,
    /// It is the heir, under this session and epoch, and knows that this was written.
    accepted: Option<(u8, u8)>,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Peer {
    session: Option<Session>,
    since: u8,
    claim: Option<Claim>,
    claim_since: u8,
    /// The greatest epoch and the longest lease seen, by UID.
    epochs: [u8; 4],
    longest: [u8; 4],
    /// Since when the session of this UID has been gone.
    gone: [Option<u8>; 4],
    owns: bool,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct State {
    now: u8,
    behind: u8,
    left: Budget,
    session: Option<Session>,
    claim: Option<Claim>,
    version: u8,
    uids: u8,
    renewals: u8,
    flying: [Option<Flying>; IN_FLIGHT],
    agent: Agent,
    kernel: Kernel,
    peers: [Peer; OBSERVERS],
}

/// One step. `A…` is done by `a`'s agent, `P…` by a peer.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    Tick,
    SlowTick,
    ARenews,
    AShortens,
    AGivesUpSession,
    AReadsSession,
    AHearsSession,
    ANewEpoch,
    AWatchesClaim,
    ATakes,
    AReleases,
    AGivesUpClaim,
    AReadsClaim,
    AHearsClaim,
    AAccepts,
    ADeclines,
    AInherits,
    ALeaves,
    Killed,
    Rebooted,
    Starts,
    Arrives(usize),
    ArrivesTwice(usize),
    PSeesSession(usize),
    PSeesClaim(usize),
    PFences(usize),
    PFencesAbsent(usize),
    PTakes(usize),
    PCreates(usize),
    PReturns(usize),
    PAccepts(usize),
    PInherits(usize),
    SessionDeleted,
    ClaimDeleted,
}

impl State {
    /// `a`'s boot time.
    fn boot(&self) -> u8 {
        self.now - self.behind
    }

    fn fly(&mut self, flying: Flying) -> bool {
        let Some(free) = self.flying.iter_mut().find(|slot| slot.is_none()) else { return false };
        *free = Some(flying);
        self.flying.sort_unstable();
        true
    }

    fn next_version(&mut self) -> u8 {
        self.version += 1;
        self.version
    }

    fn forget_answers(&mut self) {
        for flying in self.flying.iter_mut().flatten() {
            flying.awaited = false;
        }
        self.flying.sort_unstable();
    }

    /// The server performs a write. The object as it is then, or `None`: a conflict.
    fn perform(&mut self, flying: Flying) -> Option<Write> {
        match flying.write {
            Write::Session(mut new) => {
                let there = self.session;
                if there.map_or(0, |old| old.version) != flying.expected {
                    return None;
                }
                match there {
                    Some(old) if old.uid != new.uid => return None,
                    Some(old) => {
                        new.version = old.version;
                        if new == old {
                            return Some(Write::Session(old));
                        }
                    }
                    None => {
                        self.uids += 1;
                        new.uid = self.uids;
                    }
                }
                new.version = self.next_version();
                self.session = Some(new);
                Some(Write::Session(new))
            }
            Write::Claim(mut new) => {
                if self.claim.map_or(0, |old| old.version) != flying.expected || self.claim.is_none() {
                    return None;
                }
                new.version = self.next_version();
                self.claim = Some(new);
                Some(Write::Claim(new))
            }
        }
    }
}

impl World {
    fn margin(&self) -> u8 {
        if self.rules.margin { MARGIN } else { 0 }
    }

    /// D_MAX.
    fn longest(&self) -> u8 {
        self.lease
    }

    fn answers_for(&self, lease: u8) -> u8 {
        lease - self.margin()
    }

    // === a's kernel and agent ===

    /// When the claim was known matters only where claims are deleted.
    fn known_at(&self, boot: u8) -> u8 {
        if self.budget.deleted_claims > 0 { boot } else { 0 }
    }

    fn fall_silent(&self, state: &mut State) {
        if self.rules.entries_stay_in_epoch {
            state.kernel = Kernel::default();
        } else {
            state.kernel.deadline = 0;
        }
        state.agent.own = None;
        state.agent.earned = 0;
        if self.rules.heir_bound_to_epoch {
            state.agent.accepted = None;
        }
    }

    fn set_deadline(&self, state: &mut State) {
        let bound = state.agent.known + self.answers_for(self.longest());
        let bound =
            if self.rules.bound_by_claim && self.budget.deleted_claims > 0 && state.kernel.entry.is_some() {
                bound
            } else {
                u8::MAX
            };
        state.kernel.deadline = state.agent.earned.min(bound);
    }

    /// `a` learns what its session is now.
    fn own_seen(&self, state: &mut State, seen: Option<Session>) {
        let boot = state.boot();
        let mut proven = None;
        if let Some(session) = seen {
            let by_number =
                state.agent.attempts.iter().flatten().find(|attempt| attempt.renewal == session.renewal);
            let newest = state.agent.attempts.iter().flatten().max_by_key(|attempt| attempt.renewal);
            proven = (if self.rules.attempt_known_by_number { by_number } else { newest }).copied();
        }
        let earns = |attempt: Attempt| {
            let from = if self.rules.boot_time_before_request { attempt.boot } else { boot };
            from + self.answers_for(attempt.lease)
        };
        match (state.agent.own, seen) {
            (Some((uid, epoch, version)), Some(session))
                if session.held && session.uid == uid && session.epoch == epoch =>
            {
                let changed = session.version > version;
                let noop = !self.rules.renewals_differ && session.version == version;
                if changed || noop {
                    state.agent.own = Some((uid, epoch, session.version));
                    if let Some(attempt) = proven {
                        state.agent.earned = earns(attempt);
                        self.set_deadline(state);
                    }
                }
            }
            (Some(_), _) => self.fall_silent(state),
            (None, Some(_)) if state.agent.left && self.rules.leaves_for_good => {}
            (None, Some(session)) if session.held => {
                // A new epoch of ours, if one of our attempts wrote it.
                if let Some(attempt) = proven.filter(|attempt| attempt.renewal == session.renewal) {
                    let label = (session.uid, session.epoch);
                    state.agent.own = Some((session.uid, session.epoch, session.version));
                    state.agent.remembered = session.epoch;
                    state.agent.earned = earns(attempt);
                    if !self.rules.entries_stay_in_epoch && state.kernel.entry.is_some() {
                        state.kernel.entry = Some(label);
                    }
                    state.kernel.session = Some(label);
                    if !self.rules.claims_bound_to_epoch
                        && state.agent.cache.is_some_and(|claim| claim.holder == 1)
                    {
                        state.kernel.entry = Some(label);
                    }
                    self.set_deadline(state);
                }
            }
            (None, _) => {}
        }
    }

    fn is_ours(&self, state: &State, claim: Claim) -> bool {
        let Some((uid, epoch, _)) = state.agent.own else { return false };
        claim.holder == 1 && (!self.rules.claims_bound_to_epoch || (claim.uid, claim.epoch) == (uid, epoch))
            || self.inherited(state, claim)
                && (!self.rules.accepted_by_own_write || state.agent.accepted.is_some())
    }

    /// Whether `a` is the heir of a claim that was released.
    fn inherited(&self, state: &State, claim: Claim) -> bool {
        let own = state.agent.own.map(|(uid, epoch, _)| (1, uid, epoch));
        let bound = Some(claim.heir) == own || !self.rules.heir_bound_to_epoch;
        claim.holder == 0 && claim.heir.0 == 1 && bound && own.is_some()
    }

    /// `a` learns what the claim was when this was read; `gives`: a mutant believes it.
    fn claim_seen(&self, state: &mut State, seen: Option<Claim>, gives: bool) {
        state.agent.cache = seen;
        state.agent.known = self.known_at(state.boot());
        let ours = seen.is_some_and(|claim| self.is_ours(state, claim));
        if !ours {
            // An entry of an epoch that is over was removed when it ended.
            if state.agent.own.is_some() {
                state.kernel.entry = None;
            }
        } else if gives && state.kernel.entry.is_none() {
            state.kernel.entry = state.agent.own.map(|(uid, epoch, _)| (uid, epoch));
        }
        if state.agent.own.is_some() && state.agent.earned > 0 {
            self.set_deadline(state);
        }
    }

    fn write_session(&self, state: &mut State, new: Session, expected: u8) -> bool {
        if state.left.writes == 0 {
            return false;
        }
        state.left.writes -= 1;
        let boot = state.boot();
        let mut new = new;
        if self.rules.renewals_differ || state.session.is_none_or(|old| old.epoch != new.epoch) {
            state.renewals += 1;
            new.renewal = state.renewals;
        }
        let attempt = Attempt { renewal: new.renewal, boot, lease: new.lease };
        let slot =
            state.agent.attempts.iter().position(|slot| slot.is_none_or(|old| old.renewal == new.renewal));
        match slot {
            Some(slot) => state.agent.attempts[slot] = Some(attempt),
            None => {
                state.agent.attempts.rotate_left(1);
                state.agent.attempts[ATTEMPTS - 1] = Some(attempt);
            }
        }
        state.agent.session = Wait::Sent;
        state.fly(Flying { write: Write::Session(new), expected, awaited: true })
    }

    fn write_claim(&self, state: &mut State, new: Claim) -> bool {
        if state.left.writes == 0 {
            return false;
        }
        state.left.writes -= 1;
        state.agent.claim = Wait::Sent;
        state.fly(Flying { write: Write::Claim(new), expected: new.version, awaited: true })
    }

    fn act(&self, state: &mut State, action: Action) -> bool {
        let boot = state.boot();
        match action {
            Action::ARenews => {
                let (Some((uid, epoch, version)), Wait::Idle) = (state.agent.own, state.agent.session) else {
                    return false;
                };
                let lease = state.agent.lease;
                if self.rules.capped_before_shortening {
                    let cap = boot + self.answers_for(lease);
                    state.agent.earned = state.agent.earned.min(cap);
                    state.kernel.deadline = state.kernel.deadline.min(cap);
                }
                let renewal = state.session.map_or(0, |session| session.renewal);
                let new = Session { uid, version, held: true, epoch, lease, renewal, wall: state.now };
                let new = if self.rules.own_clock { Session { wall: 0, ..new } } else { new };
                self.write_session(state, new, version)
            }
            Action::AShortens => {
                state.left.shorter -= 1;
                state.agent.lease = self.lease / 2;
                true
            }
            Action::AGivesUpSession | Action::AGivesUpClaim => {
                if matches!(action, Action::AGivesUpSession) {
                    state.agent.session = Wait::Unsure;
                } else {
                    state.agent.claim = Wait::Unsure;
                }
                let session = matches!(action, Action::AGivesUpSession);
                for flying in state.flying.iter_mut().flatten() {
                    if matches!(flying.write, Write::Session(_)) == session {
                        flying.awaited = false;
                    }
                }
                state.flying.sort_unstable();
                true
            }
            Action::AReadsSession => {
                state.agent.session = Wait::Idle;
                let there = state.session;
                self.own_seen(state, there);
                true
            }
            Action::AHearsSession => {
                let Wait::Answer(answer) = state.agent.session else { return false };
                state.agent.session = if answer.is_some() { Wait::Idle } else { Wait::Unsure };
                if answer.is_some() {
                    self.own_seen(state, answer);
                }
                true
            }
            Action::ANewEpoch => {
                let left = state.agent.left && self.rules.leaves_for_good;
                if state.agent.own.is_some() || left || !matches!(state.agent.session, Wait::Idle) {
                    return false;
                }
                if self.rules.silence_before_new_epoch && self.rules.entries_stay_in_epoch {
                    state.kernel = Kernel::default();
                }
                let there = state.session;
                // What one of our attempts wrote is ours already.
                let ours = |old: Session| {
                    old.held
                        && state.agent.attempts.iter().flatten().any(|attempt| attempt.renewal == old.renewal)
                };
                if there.is_some_and(ours) {
                    return false;
                }
                let epoch = there.map_or(0, |old| old.epoch).max(state.agent.remembered) + 1;
                state.agent.remembered = epoch;
                let new = Session {
                    uid: there.map_or(0, |old| old.uid),
                    version: 0,
                    held: true,
                    epoch,
                    lease: state.agent.lease,
                    renewal: 0,
                    wall: if self.rules.own_clock { 0 } else { state.now },
                };
                self.write_session(state, new, there.map_or(0, |old| old.version))
            }
            Action::ALeaves => {
                let (Some((uid, epoch, version)), Wait::Idle) = (state.agent.own, state.agent.session) else {
                    return false;
                };
                state.left.leaves -= 1;
                if self.rules.silent_before_leaving {
                    self.fall_silent(state);
                }
                state.agent.left = true;
                let lease = state.agent.lease;
                let ended = Session {
                    uid,
                    version,
                    held: false,
                    epoch: epoch + 1,
                    lease,
                    renewal: 0,
                    wall: state.now,
                };
                let ended = if self.rules.own_clock { Session { wall: 0, ..ended } } else { ended };
                self.write_session(state, ended, version)
            }
            Action::AWatchesClaim => {
                let there = state.claim;
                self.claim_seen(state, there, !self.rules.no_entry_from_cache);
                true
            }
            Action::ATakes => {
                let (Some((uid, epoch, _)), Some(claim)) = (state.agent.own, state.agent.cache) else {
                    return false;
                };
                // Released, or ours under an epoch of ours that is over, or ours without an entry.
                let ours = claim.holder == 1 && claim.uid == uid && claim.epoch <= epoch;
                let bequeathed =
                    self.rules.heir_is_heard && claim.heir.0 > 1 && (claim.holder, claim.epoch) != (1, epoch);
                if claim.holder != 0 && !ours
                    || bequeathed
                    || state.kernel.entry.is_some()
                    || state.agent.earned <= boot
                    || !matches!(state.agent.claim, Wait::Idle)
                {
                    return false;
                }
                let kept = claim.heir.0 > 1 && self.rules.retake_keeps_heir;
                let heir = if kept { claim.heir } else { NOBODY };
                self.write_claim(state, Claim { version: claim.version, holder: 1, uid, epoch, heir })
            }
            Action::AReleases => {
                let Some(claim) = state.agent.cache.filter(|claim| self.is_ours(state, *claim)) else {
                    return false;
                };
                if state.left.releases == 0 || !matches!(state.agent.claim, Wait::Idle) {
                    return false;
                }
                state.left.releases -= 1;
                if self.rules.entry_before_release {
                    state.kernel.entry = None;
                }
                state.agent.accepted = None;
                let kept = claim.heir.0 > 1 && self.rules.release_keeps_heir;
                self.write_claim(
                    state,
                    Claim { holder: 0, heir: if kept { claim.heir } else { NOBODY }, ..claim },
                )
            }
            Action::AAccepts | Action::ADeclines => {
                let (Some((uid, epoch, _)), Some(claim)) = (state.agent.own, state.agent.cache) else {
                    return false;
                };
                let (accepts, us) = (matches!(action, Action::AAccepts), (1, uid, epoch));
                let may = if accepts { claim.heir.0 < 2 && claim.holder > 1 } else { claim.heir == us };
                if !may || state.agent.earned <= boot || !matches!(state.agent.claim, Wait::Idle) {
                    return false;
                }
                if accepts {
                    state.left.heirs -= 1;
                } else if self.rules.declined_before_written {
                    state.agent.accepted = None;
                    // Of what it inherited, the entry goes first.
                    if claim.holder == 0 {
                        state.kernel.entry = None;
                    }
                }
                self.write_claim(state, Claim { heir: if accepts { us } else { NOBODY }, ..claim })
            }
            Action::AInherits => {
                let Some(claim) = state.agent.cache.filter(|claim| self.inherited(state, *claim)) else {
                    return false;
                };
                if !self.is_ours(state, claim) || state.agent.earned <= boot {
                    return false;
                }
                state.kernel.entry = state.agent.own.map(|(uid, epoch, _)| (uid, epoch));
                true
            }
            Action::AReadsClaim => {
                state.agent.claim = Wait::Idle;
                let there = state.claim;
                self.claim_seen(state, there, !self.rules.no_entry_from_read);
                true
            }
            Action::AHearsClaim => {
                let Wait::Answer(answer) = state.agent.claim else { return false };
                let Some(claim) = answer else {
                    state.agent.claim = Wait::Unsure;
                    return true;
                };
                state.agent.claim = Wait::Idle;
                if state.agent.cache.is_none_or(|cached| cached.version < claim.version) {
                    state.agent.cache = Some(claim);
                    let own = state.agent.own.map(|(uid, epoch, _)| (1, uid, epoch));
                    if Some(claim.heir) == own {
                        state.agent.accepted = Some((claim.heir.1, claim.heir.2));
                        return true;
                    }
                    // Whatever session is ours by now: the kernel compares.
                    state.kernel.entry = (claim.holder == 1).then_some((claim.uid, claim.epoch));
                    if !self.rules.entries_stay_in_epoch && claim.holder == 1 {
                        state.kernel.entry = state.kernel.session;
                    }
                }
                true
            }
            Action::Killed | Action::Rebooted => {
                if matches!(action, Action::Rebooted) {
                    state.left.reboots -= 1;
                    state.kernel = Kernel::default();
                } else {
                    state.left.kills -= 1;
                }
                state.forget_answers();
                state.agent.up = false;
                state.agent.own = None;
                state.agent.attempts = [None; ATTEMPTS];
                (state.agent.session, state.agent.claim) = (Wait::Idle, Wait::Idle);
                (state.agent.earned, state.agent.remembered, state.agent.known) = (0, 0, 0);
                (state.agent.cache, state.agent.accepted, state.agent.left) = (None, None, false);
                true
            }
            Action::Starts => {
                state.agent.up = true;
                (state.agent.cache, state.agent.known) = (state.claim, self.known_at(boot));
                let there = state.session.filter(|session| session.held);
                if let Some(session) = there
                    && state.kernel.session == Some((session.uid, session.epoch))
                    && self.rules.silence_before_new_epoch
                {
                    state.agent.own = Some((session.uid, session.epoch, session.version));
                    state.agent.remembered = session.epoch;
                    state.agent.earned = state.kernel.deadline;
                    // An entry tells that the agent before had accepted.
                    if state.kernel.entry.is_some()
                        && state.claim.is_some_and(|claim| self.inherited(state, claim))
                    {
                        state.agent.accepted = state.kernel.entry;
                    }
                    if !state.claim.is_some_and(|claim| self.is_ours(state, claim)) {
                        state.kernel.entry = None;
                    }
                } else if self.rules.silence_before_new_epoch {
                    state.kernel = Kernel::default();
                }
                true
            }
            _ => false,
        }
    }

    // === peers ===

    fn peer_sees_session(&self, state: &mut State, at: usize) {
        let (now, there) = (state.now, state.session);
        let peer = &mut state.peers[at];
        let id = |session: Option<Session>| session.map(|session| (session.uid, session.version));
        if id(peer.session) != id(there) {
            peer.since = now;
            if let Some(old) = peer.session
                && there.is_none_or(|new| new.uid != old.uid)
            {
                peer.gone[usize::from(old.uid)].get_or_insert(now);
            }
        }
        peer.session = there;
        if there.is_some_and(|session| !session.held) {
            peer.since = 0; // Of no further use.
        }
        if let Some(session) = there {
            let uid = usize::from(session.uid);
            peer.epochs[uid] = peer.epochs[uid].max(session.epoch);
            peer.longest[uid] = peer.longest[uid].max(session.lease);
        }
        // A claim may name a session that was never seen.
        if let Some(claim) = peer.claim.filter(|claim| claim.holder == 1)
            && there.is_none_or(|session| session.uid != claim.uid)
        {
            peer.gone[usize::from(claim.uid)].get_or_insert(now);
        }
    }

    fn is_void(&self, state: &State, peer: &Peer, claim: Claim) -> bool {
        let heir = claim.heir;
        self.is_over(state, peer, (claim.holder, claim.uid, claim.epoch))
            && (!self.rules.heir_is_heard || self.is_over(state, peer, heir))
    }

    fn is_over(&self, state: &State, peer: &Peer, (node, uid, epoch): (u8, u8, u8)) -> bool {
        if node == 0 {
            return true;
        }
        if node != 1 {
            return false;
        }
        let (bound_to, uid) = (uid, usize::from(uid));
        let seen = peer.epochs[uid];
        if seen > epoch || !self.rules.void_by_greater && seen != epoch {
            return true;
        }
        let waits = if peer.longest[uid] > 0 { peer.longest[uid] } else { self.longest() };
        let waits = if self.rules.absence_proves_nothing { waits } else { 0 };
        peer.session.is_some_and(|session| session.uid != bound_to)
            && peer.gone[uid].is_some_and(|since| state.now - since >= waits)
            || !self.rules.absence_proves_nothing && peer.session.is_none()
    }

    fn peer(&self, state: &mut State, action: Action) -> bool {
        let now = state.now;
        match action {
            Action::PSeesSession(at) => self.peer_sees_session(state, at),
            Action::PSeesClaim(at) => {
                let there = state.claim;
                let peer = &mut state.peers[at];
                if peer.claim.is_some() != there.is_some() {
                    peer.claim_since = if there.is_some() { 0 } else { now };
                }
                peer.claim = there;
                let me = u8::try_from(at + 2).unwrap_or(u8::MAX);
                let is_mine = |claim: Claim| claim.holder == me || claim.holder < 2 && claim.heir.0 == me;
                peer.owns &= there.is_some_and(is_mine);
                self.peer_sees_session_of_claim(state, at);
            }
            Action::PFences(at) => {
                let peer = state.peers[at];
                let Some(seen) = peer.session.filter(|session| session.held) else { return false };
                let silent_for = if self.rules.own_clock {
                    now - peer.since
                } else {
                    (now + SKEW).saturating_sub(seen.wall)
                };
                if self.rules.fence_waits && silent_for < seen.lease {
                    return false;
                }
                let there = state.session;
                if there.is_none_or(|there| {
                    there.uid != seen.uid || self.rules.fence_by_version && there.version != seen.version
                }) {
                    return false; // A conflict: nothing is written.
                }
                let epoch = there.map_or(0, |there| there.epoch).max(peer.epochs[usize::from(seen.uid)]) + 1;
                let version = state.next_version();
                state.session = Some(Session { version, held: false, epoch, renewal: 0, ..seen });
                self.peer_sees_session(state, at);
            }
            Action::PFencesAbsent(at) => {
                let peer = state.peers[at];
                let Some(claim) = peer.claim.filter(|claim| claim.holder == 1) else { return false };
                let uid = usize::from(claim.uid);
                let waits = if peer.longest[uid] > 0 { peer.longest[uid] } else { self.longest() };
                let waited = peer.gone[uid].is_some_and(|since| now - since >= waits);
                if peer.session.is_some() || state.session.is_some() || !waited {
                    return false;
                }
                state.uids += 1;
                let (uid, version) = (state.uids, state.next_version());
                let epoch = claim.epoch + 1;
                let lease = self.longest();
                state.session =
                    Some(Session { uid, version, held: false, epoch, lease, renewal: 0, wall: 0 });
                self.peer_sees_session(state, at);
            }
            Action::PTakes(at) => {
                let peer = state.peers[at];
                let Some(claim) = peer.claim.filter(|claim| self.is_void(state, &peer, *claim)) else {
                    return false;
                };
                if state.claim.map(|there| there.version) != Some(claim.version) {
                    return false;
                }
                self.peer_owns(state, at);
            }
            Action::PCreates(at) => {
                let peer = state.peers[at];
                let waits = if self.rules.absence_proves_nothing { self.longest() } else { 0 };
                if peer.claim.is_some() || state.claim.is_some() || now - peer.claim_since < waits {
                    return false;
                }
                self.peer_owns(state, at);
            }
            Action::PReturns(at) => {
                if !state.peers[at].owns || state.left.returns == 0 {
                    return false;
                }
                let is_mine = |claim: &Claim| {
                    usize::from(claim.holder) == at + 2 || usize::from(claim.heir.0) == at + 2
                };
                let Some(claim) = state.claim.filter(is_mine) else { return false };
                state.left.returns -= 1;
                let version = state.next_version();
                let heir = if claim.heir.0 == 1 { claim.heir } else { NOBODY };
                state.claim = Some(Claim { version, holder: 0, heir, ..claim });
                state.peers[at].owns = false;
                state.peers[at].claim = state.claim;
            }
            Action::PAccepts(at) => {
                let peer = state.peers[at];
                let Some(claim) = peer.claim.filter(|claim| claim.holder == 1) else { return false };
                let there = state.claim.map(|there| there.version) == Some(claim.version);
                if !there || claim.heir != NOBODY || self.is_void(state, &peer, claim) {
                    return false;
                }
                state.left.heirs -= 1;
                let heir = (u8::try_from(at + 2).unwrap_or(u8::MAX), PEER_UID, 1);
                let version = state.next_version();
                state.claim = Some(Claim { version, heir, ..claim });
                state.peers[at].claim = state.claim;
            }
            Action::PInherits(at) => {
                let peer = state.peers[at];
                let Some(claim) = peer.claim.filter(|claim| usize::from(claim.heir.0) == at + 2) else {
                    return false;
                };
                let by_epoch = claim.holder == 1 && peer.epochs[usize::from(claim.uid)] > claim.epoch;
                if peer.owns || claim.holder != 0 && !by_epoch {
                    return false;
                }
                state.peers[at].owns = true;
            }
            _ => return false,
        }
        true
    }

    /// A claim may name a session that is not there.
    fn peer_sees_session_of_claim(&self, state: &mut State, at: usize) {
        let now = state.now;
        let peer = &mut state.peers[at];
        if let Some(claim) = peer.claim.filter(|claim| claim.holder == 1)
            && peer.session.is_none_or(|session| session.uid != claim.uid)
        {
            peer.gone[usize::from(claim.uid)].get_or_insert(now);
        }
    }

    fn peer_owns(&self, state: &mut State, at: usize) {
        let version = state.next_version();
        let holder = u8::try_from(at + 2).unwrap_or(u8::MAX);
        state.claim = Some(Claim { version, holder, uid: PEER_UID, epoch: 1, heir: NOBODY });
        state.peers[at].claim = state.claim;
        state.peers[at].owns = true;
    }

    fn arrives(&self, state: &mut State, index: usize, twice: bool) -> bool {
        let Some(flying) = state.flying[index] else { return false };
        if twice {
            state.left.twice -= 1;
            state.flying[index] = Some(Flying { awaited: false, ..flying });
        } else {
            state.flying[index] = None;
        }
        state.flying.sort_unstable();
        let result = state.perform(flying);
        if !flying.awaited {
            return twice || result.is_some();
        }
        match flying.write {
            Write::Session(_) => {
                let answer = result.and_then(|w| if let Write::Session(s) = w { Some(s) } else { None });
                state.agent.session = Wait::Answer(answer);
            }
            Write::Claim(_) => {
                let answer = result.and_then(|w| if let Write::Claim(c) = w { Some(c) } else { None });
                state.agent.claim = Wait::Answer(answer);
            }
        }
        true
    }

    fn tick(&self, state: &mut State, slow: bool) -> bool {
        state.now += 1;
        if slow {
            state.left.slow -= 1;
            state.behind += 1;
        }
        true
    }

    fn possible(&self, state: &State) -> Vec<Action> {
        let mut actions = Vec::with_capacity(32);
        let left = &state.left;
        let mut when = |possible: bool, action: Action| {
            if possible {
                actions.push(action);
            }
        };
        when(state.now < self.ends, Action::Tick);
        when(state.now < self.ends && left.slow > 0, Action::SlowTick);
        let agent = &state.agent;
        let (session, claim) = (agent.session, agent.claim);
        if agent.up {
            when(left.writes > 0, Action::ARenews);
            when(left.shorter > 0, Action::AShortens);
            when(matches!(session, Wait::Sent | Wait::Answer(_)), Action::AGivesUpSession);
            // In the protocol a read may also come by the watch, at any time.
            when(matches!(session, Wait::Unsure | Wait::Idle), Action::AReadsSession);
            when(matches!(session, Wait::Answer(_)), Action::AHearsSession);
            when(left.writes > 0, Action::ANewEpoch);
            when(!matches!(claim, Wait::Unsure), Action::AWatchesClaim);
            when(left.writes > 0, Action::ATakes);
            when(left.writes > 0, Action::AReleases);
            when(matches!(claim, Wait::Sent | Wait::Answer(_)), Action::AGivesUpClaim);
            when(matches!(claim, Wait::Unsure), Action::AReadsClaim);
            when(matches!(claim, Wait::Answer(_)), Action::AHearsClaim);
            when(left.writes > 0 && left.heirs > 0, Action::AAccepts);
            when(left.writes > 0 && self.budget.heirs > 0, Action::ADeclines);
            when(self.budget.heirs > 0, Action::AInherits);
            when(left.leaves > 0 && left.writes > 0, Action::ALeaves);
            when(left.kills > 0, Action::Killed);
            when(left.reboots > 0, Action::Rebooted);
        } else {
            actions.push(Action::Starts);
        }
        for index in 0..IN_FLIGHT {
            if state.flying[index].is_some() {
                actions.push(Action::Arrives(index));
                if left.twice > 0 {
                    actions.push(Action::ArrivesTwice(index));
                }
            }
        }
        for at in 0..self.observers {
            let peer = &state.peers[at];
            if peer.session != state.session {
                actions.push(Action::PSeesSession(at));
            }
            if peer.claim != state.claim {
                actions.push(Action::PSeesClaim(at));
            }
            actions.extend([
                Action::PFences(at),
                Action::PFencesAbsent(at),
                Action::PTakes(at),
                Action::PCreates(at),
                Action::PReturns(at),
            ]);
            if left.heirs > 0 {
                actions.push(Action::PAccepts(at));
            }
            if self.budget.heirs > 0 {
                actions.push(Action::PInherits(at));
            }
        }
        if left.deleted_sessions > 0 && state.session.is_some() {
            actions.push(Action::SessionDeleted);
        }
        if left.deleted_claims > 0 && state.claim.is_some() {
            actions.push(Action::ClaimDeleted);
        }
        actions
    }

    fn a_answers(&self, state: &State) -> bool {
        let Kernel { session, deadline, entry } = state.kernel;
        entry.is_some()
            && state.boot() < deadline
            && (!self.rules.kernel_compares_epochs && session.is_some() || entry == session)
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn start(&self) -> State {
        let session =
            Session { uid: 1, version: 1, held: true, epoch: 1, lease: self.lease, renewal: 1, wall: 0 };
        let claim = Claim { version: 2, holder: 1, uid: 1, epoch: 1, heir: NOBODY };
        let mut known = [0; 4];
        known[1] = 1;
        let mut longest = [0; 4];
        longest[1] = self.lease;
        let peer = Peer {
            session: Some(session),
            since: 0,
            claim: Some(claim),
            claim_since: 0,
            epochs: known,
            longest,
            gone: [None; 4],
            owns: false,
        };
        let attempt = Attempt { renewal: 1, boot: 0, lease: self.lease };
        State {
            now: 0,
            behind: 0,
            left: self.budget,
            session: Some(session),
            claim: Some(claim),
            version: 2,
            uids: 1,
            renewals: 1,
            flying: [None; IN_FLIGHT],
            agent: Agent {
                up: true,
                own: Some((1, 1, 1)),
                session: Wait::Idle,
                claim: Wait::Idle,
                attempts: [Some(attempt), None, None],
                earned: self.answers_for(self.lease),
                known: 0,
                cache: Some(claim),
                lease: self.lease,
                remembered: 1,
                accepted: None,
                left: false,
            },
            kernel: Kernel {
                session: Some((1, 1)),
                deadline: self.answers_for(self.lease),
                entry: Some((1, 1)),
            },
            peers: [peer; OBSERVERS],
        }
    }

    fn steps(&self, from: &State, found: &mut Vec<(Action, State)>) {
        for action in self.possible(from) {
            let mut to = *from;
            let done = match action {
                Action::Tick => self.tick(&mut to, false),
                Action::SlowTick => self.tick(&mut to, true),
                Action::Arrives(index) => self.arrives(&mut to, index, false),
                Action::ArrivesTwice(index) => self.arrives(&mut to, index, true),
                Action::SessionDeleted => {
                    to.left.deleted_sessions -= 1;
                    to.session = None;
                    true
                }
                Action::ClaimDeleted => {
                    to.left.deleted_claims -= 1;
                    to.claim = None;
                    true
                }
                Action::PSeesSession(_)
                | Action::PSeesClaim(_)
                | Action::PFences(_)
                | Action::PFencesAbsent(_)
                | Action::PTakes(_)
                | Action::PCreates(_)
                | Action::PReturns(_)
                | Action::PAccepts(_)
                | Action::PInherits(_) => self.peer(&mut to, action),
                _ => self.act(&mut to, action),
            };
            if done && to != *from {
                found.push((action, to));
            }
        }
    }

    fn wrong(&self, state: &State) -> Option<String> {
        let peers = state.peers.iter().filter(|peer| peer.owns).count();
        let answering = peers + usize::from(self.a_answers(state));
        (answering > 1).then(|| format!("{answering} answer"))
    }

    fn tell(&self, state: &State) -> String {
        let session = state.session.map_or("none".to_owned(), |s| {
            format!("u{} v{} e{} {}", s.uid, s.version, s.epoch, if s.held { "held" } else { "fenced" })
        });
        let claim = state.claim.map_or("none".to_owned(), |c| {
            let name = |node: u8| ["-", "a", "b", "c"][usize::from(node).min(3)];
            let heir =
                if c.heir.0 > 0 { format!(" then {} e{}", name(c.heir.0), c.heir.2) } else { String::new() };
            format!("v{} {} e{}{heir}", c.version, name(c.holder), c.epoch)
        });
        let kernel = state.kernel;
        format!(
            "t{} session {session}, claim {claim}; a's kernel {}until {} entry {:?}, peers own {:?}",
            state.now,
            if self.a_answers(state) { "ANSWERS " } else { "" },
            kernel.deadline,
            kernel.entry,
            state.peers.map(|peer| peer.owns),
        )
    }
}

//! The election as a pure state machine: observations and boot time in, a kernel target and API requests out.
//! No I/O, no clock, no randomness that is not passed in (`DESIGN` §5).
//!
//! After every [`Machine::step`] the caller makes the kernel match [`Machine::target`] **before** it sends the
//! returned requests: that order is what makes a release or a new epoch safe to write.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{
    choose::LiveNode,
    claims::Open,
    due::Touched,
    fair::Fair,
    giving::Offer,
    heirs::Chore,
    hold::Silence,
    interface::{Answer, Change, Identity, Input, OnApiLoss, Request, Settings, Target, Token, Why},
    lease::{Claim, Holder, Session, Version},
    outstanding::{Outstanding, Purpose},
    own::Own,
    suspicion::Suspicions,
    takeover::Takeover,
    times::Times,
    view::View,
};
use crate::{
    policy::{Demand, Links, Tier, VipDemand},
    vocabulary::{BootNs, Mac, Vip},
};

/// So many addresses at most does a session name as ones for which its node is the last choice.
const UNSTEADY_TOLD: usize = 64;

/// The election of one node.
#[derive(Debug)]
pub struct Machine {
    pub(super) me: Identity,
    pub(super) settings: Settings,
    pub(super) times: Times,
    pub(super) view: View,
    pub(super) own: Own,
    /// A complete list has been seen.
    pub(super) synced: bool,
    pub(super) target: Target,
    /// Our own lease is over at this boot time; the kernel's deadline is later only while we hold on.
    pub(super) earned: BootNs,
    /// What a renewal earned that was proven only after the kernel had fallen silent: it waits for a read of our session.
    pub(super) revival: Option<BootNs>,
    /// Taken by writes whose answers were late: they wait for the same.
    pub(super) unsure: BTreeMap<Vip, Why>,
    /// What our kernel has answered for under the epoch in force, since it was last taken.
    pub(super) answered: BTreeSet<Vip>,
    pub(super) silence: Silence,
    /// When the API server was back after we had held on.
    pub(super) held_on_until: Option<BootNs>,
    /// The greatest epoch of our own: memory, so that a restored store cannot make us use one twice.
    pub(super) remembered: u64,
    pub(super) demand: Option<Arc<Demand>>,
    pub(super) links: Links,
    pub(super) suspicions: Suspicions,
    pub(super) takeover: Takeover,
    pub(super) shutdown: Option<bool>,
    /// The foreign holder of our name that was last reported.
    pub(super) name_taken: Option<Holder>,
    /// A restored store was found: all is to be listed anew.
    pub(super) relist: bool,
    /// The watch broke, and no list has shown since that the store is the one we know: in another, a version that we hold may be
    /// something else's, and a compare-and-swap of it succeed. Nothing is taken.
    pub(super) unchecked: bool,
    /// A restored store: nothing is taken before.
    pub(super) quiet_until: BootNs,
    /// It was, once: somebody whom it does not know may hold on.
    pub(super) history_lost: bool,
    /// Everything that happened to the Leases before this has been seen by list and watch.
    pub(super) seen_until: Option<BootNs>,
    /// When a claim of ours was last known to be there, from a write or read of our own.
    pub(super) confirmed: BTreeMap<Vip, BootNs>,
    /// Since when our session has been live: a fresh cluster settles from here.
    pub(super) live_since: Option<BootNs>,
    /// Sessions without a holder under which claims stand: emptied by hand.
    pub(super) emptied: BTreeSet<String>,
    /// VIPs that may be taken.
    pub(super) open: BTreeMap<Vip, Open>,
    /// VIPs whose turn it is and whose claims, at these versions, are taken as soon as fewer others are on their way, each
    /// with the heir that we want for it.
    pub(super) waiting: Fair<(Vip, Version, Option<String>)>,
    /// What is to be given up or handed over when fewer claims are on their way: the version it was found at, to whom, and why.
    pub(super) releasing: Fair<(Vip, Version, Option<String>, &'static str)>,
    /// Whose claim was last taken or given up: others come first.
    pub(super) last_turn: String,
    /// When other nodes were last seen to take a VIP: while one goes on taking, its turn for the next one is not over.
    pub(super) took: BTreeMap<String, BootNs>,
    /// For which policy and which nodes their turns were computed.
    pub(super) electorate: Option<(Arc<Demand>, BTreeMap<String, LiveNode>)>,
    /// Since when those have been the same.
    pub(super) electorate_since: BootNs,
    /// Since when claims have waited for the nodes and the policy to be the same for a while.
    pub(super) unnamed_since: Option<BootNs>,
    /// VIPs that are to be handed over to another node than their heir, since when.
    pub(super) passing: BTreeMap<Vip, BootNs>,
    /// What we have inherited and could not take yet, since when.
    pub(super) untaken: BTreeMap<Vip, BootNs>,
    /// When we last took something that we had inherited.
    pub(super) inherited_at: BootNs,
    /// VIPs of others whose heir we are, by writes of this process under our epoch.
    pub(super) heirs: BTreeSet<Vip>,
    /// VIPs for which a chore was written, and when the next one may be: nodes that see things differently could go on for
    /// ever.
    pub(super) chores_rest: BTreeMap<Vip, BootNs>,
    /// What is to be written when there is time.
    pub(super) chores: VecDeque<(Vip, Version, Chore)>,
    /// VIPs whose probes were unanswered, and when they were begun.
    pub(super) probed: BTreeMap<Vip, BootNs>,
    /// Who answered for a VIP that we would take, and when it is asked for again. Forgotten as soon as somebody owns it.
    pub(super) in_use: BTreeMap<Vip, (Mac, BootNs)>,
    /// What was last handed over, and not seen to be taken.
    pub(super) handed_over: BTreeMap<Vip, Offer>,
    /// Since when our Node has been not Ready, while most others were.
    pub(super) unready_since: Option<BootNs>,
    /// Not to be tried again before.
    pub(super) not_before: BTreeMap<String, BootNs>,
    /// Fenced sessions of deleted nodes, VIPs that nobody wants: since when.
    pub(super) useless_since: BTreeMap<String, BootNs>,
    /// Sessions that this very boot has held, and under which epochs: claims bound to them are ours to renew or release.
    pub(super) held_sessions: BTreeMap<String, BTreeSet<u64>>,
    pub(super) outstanding: Outstanding,
    pub(super) changes: VecDeque<Change>,
    pub(super) requests: Vec<(Token, Request)>,
    pub(super) tokens: u64,
    pub(super) wake_at: Option<BootNs>,
    /// Something may have changed for a claim since they were last gone through.
    pub(super) claims_due: bool,
    /// When they are to be gone through though nothing has happened.
    pub(super) claims_due_at: Option<BootNs>,
    /// Not before.
    pub(super) claims_rest_until: BootNs,
    /// When the next node that was heard, by then, would not be any more.
    pub(super) unheard_at: Option<BootNs>,
    /// When what can have no further effect was last forgotten.
    pub(super) forgot_at: BootNs,
}

impl Machine {
    /// A machine over what the kernel `inherited` from the agent before; that stays in force, deadline unchanged,
    /// until the first list tells whether it may be adopted.
    pub fn new(me: Identity, settings: Settings, inherited: Target) -> Self {
        Self {
            me,
            settings,
            times: Times::for_nodes(0),
            view: View::default(),
            own: Own::Unknown,
            synced: false,
            remembered: inherited.session.as_ref().map_or(0, |(_, epoch)| *epoch),
            held_sessions: inherited
                .session
                .iter()
                .map(|(uid, epoch)| (uid.clone(), [*epoch].into()))
                .collect(),
            target: inherited,
            earned: BootNs::NONE,
            revival: None,
            unsure: BTreeMap::new(),
            answered: BTreeSet::new(),
            silence: Silence::default(),
            held_on_until: None,
            demand: None,
            links: Links::default(),
            suspicions: Suspicions::default(),
            takeover: Takeover::default(),
            shutdown: None,
            name_taken: None,
            relist: false,
            unchecked: false,
            quiet_until: BootNs::NONE,
            history_lost: false,
            seen_until: None,
            confirmed: BTreeMap::new(),
            live_since: None,
            emptied: BTreeSet::new(),
            open: BTreeMap::new(),
            waiting: Fair::default(),
            releasing: Fair::default(),
            last_turn: String::new(),
            took: BTreeMap::new(),
            electorate: None,
            electorate_since: BootNs::NONE,
            unnamed_since: None,
            passing: BTreeMap::new(),
            untaken: BTreeMap::new(),
            inherited_at: BootNs::NONE,
            heirs: BTreeSet::new(),
            chores_rest: BTreeMap::new(),
            chores: VecDeque::new(),
            probed: BTreeMap::new(),
            in_use: BTreeMap::new(),
            handed_over: BTreeMap::new(),
            unready_since: None,
            not_before: BTreeMap::new(),
            useless_since: BTreeMap::new(),
            outstanding: Outstanding::default(),
            changes: VecDeque::new(),
            requests: Vec::new(),
            tokens: 0,
            wake_at: None,
            claims_due: true,
            claims_due_at: None,
            claims_rest_until: BootNs::NONE,
            unheard_at: None,
            forgot_at: BootNs::NONE,
        }
    }

    /// Takes one observation at boot time `now` and returns the requests to send, once the kernel matches
    /// [`Self::target`].
    pub fn step(&mut self, now: BootNs, input: Input) -> Vec<(Token, Request)> {
        self.step_all(now, [input])
    }

    /// The same for several that have come meanwhile, in their order.
    pub fn step_all(
        &mut self,
        now: BootNs,
        inputs: impl IntoIterator<Item = Input>,
    ) -> Vec<(Token, Request)> {
        self.wake_at = None;
        let live = self.is_live(now);
        let mut touched = Touched::default();
        for input in inputs {
            let mere = self.is_mere_renewal(now, &input);
            touched.note(&input, mere);
            self.listen(now, &input);
            let (said, known) = (self.says_of_claim(&input), mere || self.is_known(now, &input));
            let joins = !mere && self.joins(&input);
            self.observe(now, input);
            if joins || said.is_some_and(|vip| self.has_settled(now, vip)) {
                self.claims_wait(self.settles_at(now, joins));
            } else {
                self.claims_due |= !known;
            }
        }
        if self.synced {
            self.suspect(now);
            self.drive_session(now);
        }
        self.drive_hold(now);
        if self.synced {
            self.drive_takeover(now);
            self.note_doubts(now);
            self.drop_lost_entries(now, &touched);
            self.go_through_claims(now, live != self.is_live(now));
            self.watch_peers(now);
            self.agree(now);
            self.take_waiting(now);
            self.release_waiting(now);
            self.do_chores(now);
            self.bound_deadline(now);
            self.forget_old(now);
        }
        std::mem::take(&mut self.requests)
    }

    /// What the kernel must hold.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// When [`Input::Tick`] is due at the latest.
    pub fn wake_at(&self) -> Option<BootNs> {
        self.wake_at
    }

    /// What happened since last asked.
    pub fn take_changes(&mut self) -> impl Iterator<Item = Change> {
        std::mem::take(&mut self.changes).into_iter()
    }

    /// Whether our own session is live: confirmed, its lease not over.
    pub fn is_live(&self, now: BootNs) -> bool {
        matches!(self.own, Own::Live(_)) && self.earned > now
    }

    /// Whether a complete list has been seen.
    pub(super) fn is_synced(&self) -> bool {
        self.synced
    }

    /// Renewal interval, lease and margin in force.
    pub fn times(&self) -> Times {
        self.times
    }

    /// What is known of the Leases.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Whether VIPs are being taken, by us or by others: all else that is written should wait.
    pub fn is_moving(&self) -> bool {
        let waiting = !self.open.is_empty() || !self.chores.is_empty() || !self.releasing.is_empty();
        self.outstanding.takes > 0 || waiting
    }

    /// Whether any request is still outstanding, or our session is still to be ended.
    pub fn is_busy(&self) -> bool {
        !self.outstanding.is_empty() || self.is_leaving()
    }

    fn observe(&mut self, now: BootNs, input: Input) {
        let by_list = matches!(input, Input::Listed(..) | Input::Compared(..));
        self.unchecked &= !by_list;
        match input {
            Input::Tick => {}
            Input::Demand(demand) => {
                self.times = Times::for_nodes(demand.nodes.len());
                self.demand = Some(demand);
            }
            Input::Links(links) => self.links = links,
            Input::Silent(silent) => self.hear(silent),
            Input::Listed(version, records) => {
                self.synced = true;
                for record in &records {
                    self.heard_ourselves(record);
                    self.note_accepted(record);
                }
                self.view.listed(now, version, records);
                self.own_seen(now);
            }
            Input::Compared(version, records) => {
                self.view.compared(now, version, records);
                self.own_seen(now);
            }
            Input::Changed(record) => {
                self.heard_ourselves(&record);
                self.note_accepted(&record);
                self.note_taker(now, &record);
                self.view.changed(now, record);
                self.own_seen(now);
            }
            Input::Deleted(record) => {
                self.view.watched_deletion(now, &record);
                self.own_seen(now);
            }
            Input::WatchBroke => {
                self.unchecked = true;
                self.view.gap();
            }
            Input::Unchecked => self.unchecked = true,
            Input::ClockJumped => self.doubt(now),
            Input::Answered(token, answer) => self.answered(now, token, answer),
            Input::Probed(vip, by) => self.was_probed(now, vip, by),
            Input::Challenged(round) => self.challenged(now, round),
            Input::LinkUp => self.read_own(now),
            Input::Contested(vips) => {
                self.give_way(now, &vips);
                self.read_own(now);
            }
            Input::Spoke | Input::Unanswered => {}
            Input::Shutdown(release) => {
                self.shutdown = Some(release);
                self.shutting_down(now);
            }
        }
        if self.view.take_regressed() {
            self.restored(now);
        }
        if std::mem::take(&mut self.relist) && !by_list {
            self.tokens += 1;
            self.requests.push((Token(self.tokens), Request::Relist));
        }
    }

    fn answered(&mut self, now: BootNs, token: Token, answer: Answer) {
        let Some((name, purpose)) = self.outstanding.remove(token) else { return };
        if matches!(purpose, Purpose::Own | Purpose::OwnRead(_)) {
            let done = matches!(answer, Answer::Done(_));
            self.own_answered(now, token, &purpose, answer);
            self.own_seen(now);
            if done {
                self.revive(now, matches!(purpose, Purpose::OwnRead(_)));
            }
            return;
        }
        // What a write returned is a version like any other; a delete returned what is gone.
        let done = matches!(answer, Answer::Done(_));
        match (answer, &purpose) {
            (Answer::Done(record), Purpose::Sweep) => self.view.deleted(now, &record),
            (Answer::Done(record), Purpose::Look(asked, _) | Purpose::Confirm(_, asked, _)) => {
                self.view.read(now, record, *asked);
                if let Purpose::Look(_, Some(put)) = &purpose {
                    self.release_at_once(&name, *put);
                }
            }
            (Answer::NotFound, Purpose::Look(asked, _) | Purpose::Confirm(_, asked, _)) => {
                self.view.missing(now, &name, *asked)
            }
            (Answer::Done(record), _) => self.view.seen(now, record),
            (Answer::Surveyed(sessions), _) => self.surveyed(now, sessions),
            (Answer::NotFound | Answer::Conflict, _) => {
                // A watch that lags would let us collide again and again: read what is there.
                let asked = self.view.version_of(&name).unwrap_or_default();
                let put = if let Purpose::Release(_, version) = &purpose { Some(*version) } else { None };
                let look = Purpose::Look(asked, put);
                let read = self.request(now, name.clone(), look, Request::Get(name.clone()));
                self.claims_due |= read.is_none();
                self.not_before.insert(name.clone(), now + Duration::from_millis(200));
            }
            (Answer::Refused | Answer::Lost, _) => {
                self.not_before.insert(name.clone(), now + Duration::from_secs(1));
            }
        }
        match purpose {
            Purpose::Take(take) if done => self.taken(now, take),
            Purpose::Confirm(vip, _, sent) if done => self.confirm(vip, sent),
            Purpose::Chore(vip, session) if done => self.accepted(now, vip, &session),
            Purpose::Fence(grounds) if done => {
                let fenced = self.view.sessions.get(&name).map(|seen| &seen.session);
                let (epoch, uid) = fenced.map_or((0, ""), |session| (session.epoch, &session.uid));
                let of_it = |claim: &&Claim| claim.holder.is_some() && claim.session_uid == uid;
                let claims = self.view.claims.values().filter(of_it).count();
                let node = name.trim_start_matches("session-").to_owned();
                self.changes.push_back(Change::FencedPeer { node, epoch, claims, grounds });
            }
            _ => {}
        }
        self.own_seen(now);
    }

    /// Sends a request about a Lease, unless one is outstanding for it or it has to wait.
    pub(super) fn request(
        &mut self,
        now: BootNs,
        name: String,
        purpose: Purpose,
        request: Request,
    ) -> Option<Token> {
        if self.outstanding.of(&name).is_some() {
            return None;
        }
        if let Some(at) = self.not_before.get(&name) {
            if *at > now {
                let at = *at;
                self.wake(at);
                return None;
            }
            self.not_before.remove(&name);
        }
        self.tokens += 1;
        let token = Token(self.tokens);
        self.outstanding.insert(token, name, purpose);
        self.requests.push((token, request));
        Some(token)
    }

    /// Whose a VIP is, as the demand says: tenants take turns.
    pub(super) fn tenant(&self, vip: Vip) -> String {
        let wanted = self.demand.as_ref().and_then(|demand| demand.vips.get(&vip));
        wanted.map(|wanted| wanted.tenant().to_owned()).unwrap_or_default()
    }

    /// Asks to be called again at `at`, if nothing is due earlier.
    pub(super) fn wake(&mut self, at: BootNs) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }

    pub(super) fn lost(&mut self, vip: Vip, why: &'static str, to: Option<String>) {
        let epoch = self.target.session.as_ref().map_or(0, |(_, epoch)| *epoch);
        self.changes.push_back(Change::Lost { vip, epoch, why, to });
    }

    /// A string that no write has used before.
    pub(super) fn nonce(&mut self) -> String {
        self.tokens += 1;
        format!("{:016x}-{}", self.me.seed, self.tokens)
    }

    /// Our own session as this build writes it.
    pub(super) fn own_record(&mut self, uid: &str, version: Version, epoch: u64) -> Session {
        Session {
            name: super::lease::session_name(&self.me.holder.node),
            uid: uid.to_owned(),
            version,
            holder: Some(self.me.holder.clone()),
            epoch,
            lease: self.times.lease,
            renewal: self.nonce(),
            links: self.links.clone(),
            left: None,
            agent: self.me.agent.clone(),
            on_api_loss: if self.holds() { self.settings.on_api_loss } else { OnApiLoss::Fence }
                .word()
                .to_owned(),
            fencing: if self.settings.strict { "strict" } else { "early" }.to_owned(),
            suspects: self.suspicions.published(),
            // What was bound to it may still be to be taken.
            early: self.view.session(&self.me.holder.node).and_then(|seen| seen.session.early),
            unsteady: self.unsteady(),
            understood: true,
        }
    }

    /// Some of the addresses for which policy trusts us less than others.
    fn unsteady(&self) -> BTreeSet<Vip> {
        let of_us = |wanted: &VipDemand| wanted.candidates.get(&self.me.holder.node).map(|own| own.tier);
        let demanded = self.demand.iter().flat_map(|demand| &demand.vips);
        let unsteady = demanded.filter(|(_, wanted)| of_us(wanted) == Some(Tier::Unsteady));
        unsteady.map(|(vip, _)| *vip).take(UNSTEADY_TOLD).collect()
    }

    /// Whether the kernel may answer for a claim, under the session and epoch in force: we hold it, or have inherited it.
    pub(super) fn is_ours(&self, claim: &Claim) -> bool {
        self.holds_claim(claim) || self.heirs.contains(&claim.vip) && self.inherits(claim)
    }

    /// Whether it names us, under the session and epoch in force.
    pub(super) fn holds_claim(&self, claim: &Claim) -> bool {
        claim.holder.as_ref().is_some_and(|node| self.is_us((node, &claim.session_uid, claim.session_epoch)))
    }

    /// Whether this is our node, under the session and epoch in force.
    pub(super) fn is_us(&self, (node, uid, epoch): (&str, &str, u64)) -> bool {
        let (name, session) = (&self.me.holder.node, &self.target.session);
        node == name && session.as_ref().is_some_and(|(own, now)| own == uid && *now == epoch)
    }
}

//! Our share of the VIPs: what to take, and when (`DESIGN` §5.4, §5.5).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    choose::{ClaimState, LiveNode, Moves, Verdict, choose},
    due::Touched,
    fair::Fair,
    interface::{Change, Probed, Request, Why},
    lease::{Claim, Record, Version, claim_name},
    machine::Machine,
    outstanding::{Purpose, Take},
    times::{D_MAX, RANK_STEP, RANK_STEP_PER_OPEN, SETTLE},
};
use crate::{
    policy::{Demand, Links, Tier, VipDemand},
    vocabulary::{BootNs, Vip},
};

/// How long a node is not Ready before it gives its VIPs away: the node controller may find others so too.
const UNREADY: Duration = Duration::from_secs(15);
/// How many VIPs are asked for before they are taken.
const PROBES_AHEAD: usize = 512;
/// How long an unanswered probe speaks for nobody's answering.
const PROBE_VALID: Duration = Duration::from_millis(1_500);
/// How long a node that goes on taking others is waited for with a VIP of its rank.
const AT_WORK: Duration = Duration::from_secs(10);
/// The last of all ranks waits no longer than this.
const LAST_TURN: Duration = Duration::from_secs(30);
/// When a VIP that another host answered for is probed again.
const PROBE_AGAIN: Duration = Duration::from_secs(3);
/// When a VIP whose probes could not be sent is probed again.
const PROBE_FAILED: Duration = Duration::from_secs(1);

/// A VIP that may be taken.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) since: BootNs,
    /// What is newer than this has been taken since.
    base: Version,
    /// Whose turn it is, best first, if that is known.
    ranked: Option<Arc<[String]>>,
}

impl Machine {
    pub(super) fn drive_claims(&mut self, now: BootNs) {
        if self.live_since.is_some() {
            self.doubt_claims(now);
        }
        self.waiting.clear();
        self.releasing.clear();
        self.view.forget_present();
        self.probed.retain(|_, at| *at + PROBE_VALID > now);
        self.leave_to_others(now);
        let Some(demand) = self.demand.clone() else { return };
        if !self.is_live(now) || self.shutdown.is_some() || self.quiet_until > now {
            self.open.clear();
            if self.quiet_until > now {
                self.wake(self.quiet_until);
            }
            return;
        }
        let live = self.live_nodes(now);
        self.rank_anew(now, &demand, &live);
        let heard = self.view.sessions.values().map(|seen| seen.heard_until()).filter(|until| *until > now);
        self.unheard_at = heard.min();
        self.watch_readiness(now, &demand, &live);
        let (claims, due) = self.claim_states(&demand, now);
        let unready = self.unready_since.is_some_and(|since| since + UNREADY <= now);
        let moves = Moves { failback: self.settings.failback, unready };
        let mut verdicts = choose(&demand, &live, &claims, moves);
        // Nobody waits for what a node has itself.
        verdicts.retain(|vip, verdict| {
            let takes = matches!(verdict, Verdict::Take(_)) && !self.view.claims.contains_key(vip);
            !takes || !self.is_a_nodes_own(*vip)
        });
        let me = Some(self.me.holder.node.as_str());
        let ours = || claims.iter().filter(|(_, state)| state.owner == me).map(|(vip, _)| *vip);
        let mine: BTreeSet<Vip> = ours().filter(|vip| self.is_bound_to_us(*vip, now)).collect();
        let followed =
            ours().any(|vip| self.view.claims.get(&vip).is_some_and(|claim| self.is_followed(claim, now)));
        if let Some(at) = due {
            self.wake(at);
        }
        if followed {
            self.renew_now(now);
            self.wake(self.settles_at(now, false));
        }
        self.release_unwanted(now, &demand);
        let settled = self.settled(now, &demand, &live);
        self.open.retain(|vip, _| matches!(verdicts.get(vip), Some(Verdict::Take(_))));
        self.passing.retain(|vip, _| matches!(verdicts.get(vip), Some(Verdict::HandOver { .. })));
        let held = &self.target.held;
        let unowned = |vip: &Vip| mine.contains(vip) && !held.contains(vip);
        self.in_use.retain(|vip, _| matches!(verdicts.get(vip), Some(Verdict::Take(_))) || unowned(vip));
        let mut due = Fair::default();
        for (vip, verdict) in verdicts {
            let acts = match &verdict {
                Verdict::GiveUp { .. } | Verdict::HandOver { .. } => mine.contains(&vip),
                Verdict::Keep => mine.contains(&vip) && !self.target.held.contains(&vip),
                Verdict::Take(_) => settled,
            };
            if acts {
                due.push(demand.vips.get(&vip).map_or("", VipDemand::tenant), (vip, verdict));
            }
        }
        let mut last = self.last_turn.clone();
        while let Some((tenant, (vip, verdict))) = due.pop_after(&last) {
            let before = self.outstanding.claims();
            match verdict {
                Verdict::GiveUp { to, why } => self.release(now, vip, to, why),
                Verdict::HandOver { to, why } => self.hand_over(now, vip, to, why),
                Verdict::Keep => self.keep(now, vip),
                Verdict::Take(ranked) => self.take_in_turn(now, vip, &ranked),
            }
            last.clone_from(&tenant);
            self.had_turn(tenant, before);
        }
        self.tend_claims(now, &demand, &live);
    }

    /// A version newer than our own last write that no longer names us takes the entry away; nothing read ever
    /// gives one.
    pub(super) fn drop_lost_entries(&mut self, now: BootNs, touched: &Touched) {
        // While nothing is adopted yet, what the kernel inherited stays.
        if self.live_since.is_none() {
            return;
        }
        let gone = |vip: &Vip| {
            !self.view.claims.get(vip).is_some_and(|claim| self.is_ours(claim)) && !self.is_provisional(*vip)
        };
        let passed_on = |vip: &Vip| !self.view.claims.get(vip).is_some_and(|claim| self.owns(claim, now));
        let seen_of = |vips: &BTreeSet<Vip>, is: &dyn Fn(&Vip) -> bool| -> Vec<Vip> {
            if touched.all {
                return vips.iter().filter(|vip| is(vip)).copied().collect();
            }
            touched.vips.iter().filter(|vip| vips.contains(*vip) && is(vip)).copied().collect()
        };
        let (lost, had) = (seen_of(&self.target.held, &gone), seen_of(&self.answered, &passed_on));
        // What comes back to us later has had others in between.
        for vip in had {
            self.answered.remove(&vip);
        }
        for vip in lost.into_iter().filter(|vip| self.target.held.remove(vip)).collect::<Vec<_>>() {
            let why = "its claim was taken away or deleted";
            self.lost(vip, why, None);
        }
    }

    /// Whether a claim that our node owns is ours to keep or to release. One under a session that this boot never held
    /// may still be answered by another machine of our name.
    fn is_bound_to_us(&self, vip: Vip, now: BootNs) -> bool {
        let Some(claim) = self.view.claims.get(&vip) else { return false };
        let Some((_, uid, epoch)) = self.view.owner(claim, now) else { return false };
        let current = self.target.session.as_ref().is_some_and(|(own, _)| own == uid);
        let current = current && !self.is_followed(claim, now);
        let last = || self.held_sessions.get(uid).and_then(BTreeSet::last);
        // Before it was deleted it may have been fenced, and then its heir, whose watch is late, answers one day.
        let ended = || self.view.ended_unfenced(uid, epoch) || self.foreign_heir(now, claim).is_none();
        current || last().is_some_and(|last| epoch <= *last) && ended()
    }

    /// Whether a claim is bound to a greater epoch of the session that is ours, and that was not written since: we may have been
    /// fenced unheard, and another machine of our name have followed. If it was, somebody has written that epoch by hand.
    fn is_followed(&self, claim: &Claim, now: BootNs) -> bool {
        let (Some((own, current)), Some((_, uid, epoch))) =
            (&self.target.session, self.view.owner(claim, now))
        else {
            return false;
        };
        let written = self.view.session(&self.me.holder.node).map(|seen| seen.session.version);
        own == uid && epoch > *current && written < Some(claim.version)
    }

    /// The nodes with a session that is not fenced, as far as we have heard.
    pub fn live_nodes(&self, now: BootNs) -> BTreeMap<String, LiveNode> {
        let mut live: BTreeMap<String, LiveNode> = self
            .view
            .sessions
            .values()
            .filter_map(|seen| {
                // Who speaks another protocol takes nothing that is written in this one.
                let session = Some(&seen.session).filter(|session| session.understood)?;
                let holder = session.holder.as_ref()?;
                let heard = seen.heard_until() > now;
                let node = LiveNode { links: session.links.clone(), heard };
                Some((holder.node.clone(), node))
            })
            .collect();
        // Of ourselves we know more than our last renewal said.
        let own = LiveNode { links: self.links.clone(), heard: true };
        live.insert(self.me.holder.node.clone(), own);
        live
    }

    /// At which version a VIP that nobody owns became free, as all nodes see it.
    fn freed_at(&self, vip: Vip) -> Version {
        let Some(claim) = self.view.claims.get(&vip) else { return self.view.watched_version() };
        let fenced = claim.bindings().filter_map(|(node, uid, _)| {
            let seen = self.view.session(node)?;
            (seen.session.uid == uid).then_some(seen.session.version)
        });
        let released = claim.holder.is_none().then_some(claim.version);
        fenced.chain(released).max().unwrap_or_else(|| self.view.watched_version())
    }

    /// What is known of the claims in demand, and when the next of them becomes void by waiting.
    pub(super) fn claim_states(
        &self,
        demand: &Demand,
        now: BootNs,
    ) -> (BTreeMap<Vip, ClaimState<'_>>, Option<BootNs>) {
        let (mut wake, mut base) = (None::<BootNs>, None::<Version>);
        let mut states = BTreeMap::new();
        for vip in demand.vips.keys() {
            let standing = self.open.get(vip).and_then(|open| open.ranked.as_ref());
            let mut state = ClaimState { standing, ..ClaimState::default() };
            if let Some(claim) = self.view.claims.get(vip) {
                if let Some(at) = self.view.void_at(claim, now) {
                    wake = Some(wake.map_or(at, |earlier| earlier.min(at)));
                }
                state.owner = self.view.owner(claim, now).map(|(node, ..)| node);
                state.preferred = claim.preferred.as_deref();
                state.released = claim.holder.is_none();
            }
            if state.owner.is_none() {
                let freed = self.open.get(vip).map_or_else(|| self.freed_at(*vip), |open| open.base);
                base = Some(base.map_or(freed, |base| base.min(freed)));
            }
            states.insert(*vip, state);
        }
        if let Some(base) = base {
            for (vip, state) in &mut states {
                state.fresh = self.view.claims.get(vip).is_some_and(|claim| claim.version > base);
            }
        }
        (states, wake)
    }

    /// Turns are computed anew when other nodes may take part, or the policy says otherwise.
    fn rank_anew(&mut self, now: BootNs, demand: &Arc<Demand>, live: &BTreeMap<String, LiveNode>) {
        let same = |(known, nodes): &(Arc<Demand>, BTreeMap<String, LiveNode>)| {
            Arc::ptr_eq(known, demand)
                && nodes.keys().eq(live.keys())
                && nodes.values().zip(live.values()).all(|(a, b)| a.links == b.links)
        };
        if !self.electorate.as_ref().is_some_and(same) {
            self.open.values_mut().for_each(|open| open.ranked = None);
            self.took.retain(|node, _| live.contains_key(node));
            self.electorate = Some((demand.clone(), live.clone()));
            self.electorate_since = now;
        }
    }

    /// A node that is not Ready, though its session lives, gives its VIPs away only if it stays so for a while, and only if
    /// most nodes are better off: in an incident of the control plane all are found not Ready, one after the other.
    fn watch_readiness(&mut self, now: BootNs, demand: &Demand, live: &BTreeMap<String, LiveNode>) {
        let mut tiers: BTreeMap<&String, Tier> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for wanted in demand.vips.values().filter(|wanted| seen.insert(Arc::as_ptr(&wanted.candidates))) {
            let living = wanted.candidates.iter().filter(|(node, _)| live.contains_key(*node));
            tiers.extend(living.map(|(node, candidate)| (node, candidate.tier)));
        }
        let not_ready = tiers.values().filter(|tier| **tier == Tier::NotReady).count();
        let alone = tiers.get(&self.me.holder.node) == Some(&Tier::NotReady) && 2 * not_ready <= tiers.len();
        self.unready_since = alone.then(|| self.unready_since.unwrap_or(now));
        if let Some(due) = self.unready_since.map(|since| since + UNREADY).filter(|due| *due > now) {
            self.wake(due);
        }
    }

    /// A fresh cluster, without any claim, waits for its nodes, so that the first agent does not end up with
    /// everything.
    fn settled(&mut self, now: BootNs, demand: &Demand, live: &BTreeMap<String, LiveNode>) -> bool {
        if !self.view.claims.is_empty() {
            return true;
        }
        let selected: BTreeSet<&String> = demand
            .vips
            .values()
            .flat_map(|vip| vip.candidates.iter())
            .filter(|(_, candidate)| candidate.tier == Tier::Ready)
            .map(|(node, _)| node)
            .collect();
        let until = self.live_since.unwrap_or(now) + SETTLE;
        if until <= now || selected.into_iter().all(|node| live.contains_key(node)) {
            return true;
        }
        self.wake(until);
        false
    }

    /// Takes a VIP when our rank's turn has come.
    fn take_in_turn(&mut self, now: BootNs, vip: Vip, ranked: &Arc<[String]>) {
        let base = self.freed_at(vip);
        let open = self.open.entry(vip).or_insert_with(|| Open { since: now, base, ranked: None });
        open.ranked.get_or_insert_with(|| ranked.clone());
        let open_since = open.since;
        let Some(rank) = ranked.iter().position(|node| *node == self.me.holder.node) else { return };
        // Who has a thousand VIPs to take comes to this one later; to compete for it would make both slower.
        let taking = ranked[..rank].iter().filter_map(|node| self.took.get(node)).max().copied();
        let since = taking.unwrap_or(open_since).clamp(open_since, open_since + AT_WORK);
        let open = u32::try_from(self.open.len()).unwrap_or(u32::MAX);
        let step = RANK_STEP + RANK_STEP_PER_OPEN * open;
        let steps = u32::try_from(if rank == 0 { 0 } else { rank + 1 }).unwrap_or(u32::MAX);
        let turn = since + step.saturating_mul(steps).min(LAST_TURN);
        if turn > now {
            return self.wake(turn);
        }
        let heir = ranked.get(rank + 1).cloned();
        self.take(now, vip, heir);
    }

    /// Notes that another node is at work.
    pub(super) fn note_taker(&mut self, now: BootNs, record: &Record) {
        let Record::Claim(claim) = record else { return };
        let Some(node) = claim.holder.as_ref().filter(|node| **node != self.me.holder.node) else { return };
        let before = self.view.claims.get(&claim.vip);
        if before.is_none_or(|before| before.holder.as_ref() != Some(node)) {
            self.took.insert(node.clone(), now);
        }
    }

    pub(super) fn take(&mut self, now: BootNs, vip: Vip, heir: Option<String>) {
        if self.unchecked {
            return;
        }
        let claim = self.view.claims.get(&vip).cloned();
        if claim.as_ref().is_some_and(|claim| !claim.understood) {
            return;
        }
        if claim.is_none() && !self.may_create(now, vip) {
            return;
        }
        let created = claim.is_none();
        if claim.as_ref().is_some_and(|claim| !self.may_follow(now, claim)) {
            return;
        }
        if claim.as_ref().is_some_and(|claim| self.may_be_held_on(claim)) && !self.is_unanswered(now, vip) {
            return;
        }
        if self.outstanding.is_full() {
            // The answer to one of them brings us back.
            let version = claim.map_or(Version::default(), |claim| claim.version);
            return self.waiting.push(&self.tenant(vip), (vip, version, heir));
        }
        let Some((uid, epoch)) = self.target.session.clone() else { return };
        let me = self.me.holder.node.clone();
        let why = self.why(claim.as_ref());
        let moved = claim.as_ref().is_none_or(|claim| claim.holder.as_ref() != Some(&me));
        let counts = claim.as_ref().map_or(!self.settings.strict, |claim| moved || claim.transitions == 0);
        // Whoever has accepted to inherit it answers with the end of our epoch, also if this is written only then.
        let accepted = claim.as_ref().and_then(|claim| self.foreign_heir(now, claim));
        let named = || claim.as_ref().filter(|_| !moved).and_then(|claim| claim.preferred.clone());
        let preferred = accepted.as_ref().map(|heir| heir.node.clone()).or(heir).or_else(named);
        let record = Record::Claim(Claim {
            vip,
            uid: claim.as_ref().map(|claim| claim.uid.clone()).unwrap_or_default(),
            version: claim.as_ref().map_or(Version::default(), |claim| claim.version),
            holder: Some(me),
            session_uid: uid.clone(),
            session_epoch: epoch,
            preferred,
            heir: accepted,
            acquired: None,
            write: self.nonce(),
            transitions: claim.map_or(0, |claim| claim.transitions) + u64::from(counts),
            understood: true,
        });
        let purpose = Purpose::Take(Take { vip, session: (uid, epoch), why, creates: created, sent_at: now });
        self.request(now, claim_name(vip), purpose, Request::Put(record));
    }

    /// Whether a VIP that could be taken has been, by one of those whose turn it could be: nothing else follows from that.
    pub(super) fn has_settled(&mut self, now: BootNs, vip: Vip) -> bool {
        let Some(ranked) = self.open.get(&vip).and_then(|open| open.ranked.as_ref()) else { return false };
        let Some(claim) = self.view.claims.get(&vip) else { return false };
        let by_turn = claim.holder.as_ref().is_some_and(|holder| ranked.contains(holder));
        let ours = claim.holder.as_ref() == Some(&self.me.holder.node);
        let settled = by_turn && !self.view.is_void(claim, now) && (!ours || self.target.held.contains(&vip));
        if settled {
            self.open.remove(&vip);
            self.in_use.remove(&vip);
            self.probed.remove(&vip);
        }
        settled
    }

    /// Goes on taking what was found to be ours to take, unless it has changed since.
    pub(super) fn take_waiting(&mut self, now: BootNs) {
        while self.is_live(now) && !self.outstanding.is_full() {
            let Some((tenant, (vip, version, heir))) = self.waiting.pop_after(&self.last_turn) else {
                return;
            };
            if self.view.claims.get(&vip).map_or(Version::default(), |claim| claim.version) == version {
                let before = self.outstanding.claims();
                self.take(now, vip, heir);
                self.had_turn(tenant, before);
            }
        }
    }

    /// Who got one of the few writes that are on their way at once has had its turn.
    pub(super) fn had_turn(&mut self, tenant: String, before: usize) {
        if self.outstanding.claims() > before {
            self.last_turn = tenant;
        }
    }

    /// Why we may take what this claim says.
    pub(super) fn why(&self, claim: Option<&Claim>) -> Why {
        let me = &self.me.holder.node;
        let Some(claim) = claim else { return Why::Free };
        match &claim.holder {
            Some(node) if node == me => return Why::Own,
            Some(_) => {
                let Some(last @ (node, ..)) = self.last_owner(claim) else { return Why::Free };
                let left = self.view.has_left(last);
                return if left { Why::HandedOver } else { Why::Failover }(node.to_owned());
            }
            None => {}
        }
        let sessions = self.view.sessions.values().map(|seen| &seen.session);
        let giver =
            sessions.filter(|session| session.uid == claim.session_uid).find_map(|s| s.holder.as_ref());
        match giver {
            Some(giver)
                if giver.node != *me && (claim.preferred.as_ref() == Some(me) || claim.heir.is_some()) =>
            {
                Why::HandedOver(giver.node.clone())
            }
            _ => Why::Free,
        }
    }

    /// Who owned a claim with a holder last: its heir, if that one's session was ended after its holder's.
    fn last_owner<'a>(&self, claim: &'a Claim) -> Option<(&'a str, &'a str, u64)> {
        let ended = |(node, uid, epoch): &(&str, &str, u64)| {
            let session = self.view.session(node).map(|seen| &seen.session)?;
            let ended = session.uid == *uid && session.epoch > *epoch && session.holder.is_none();
            ended.then_some(session.version)
        };
        let mut bindings = claim.bindings();
        let holder = bindings.next()?;
        let heir = bindings.next().filter(|heir| !self.is_us(*heir) && ended(heir) > ended(&holder));
        Some(heir.unwrap_or(holder))
    }

    /// Absence proves nothing: a claim that is not there may be taken only by a node that has watched for long
    /// enough, or, not under `strict`, whose probes nobody answered, or after the longest lease there can be.
    fn may_create(&mut self, now: BootNs, vip: Vip) -> bool {
        if self.is_a_nodes_own(vip) {
            return false;
        }
        // Whoever held it may hold on, cut off from the API server, and for longer than any lease: it is so if the claim was
        // seen to be deleted, or if somebody was heard, or if somebody was fenced who does so. Whoever asks may be strict itself.
        let lost = self.view.may_have_been_claimed(vip) || self.in_use.contains_key(&vip);
        let may_be_held_on = lost || self.view.somebody_may_hold_on();
        let mut over = self.view.never_claimed(vip, now);
        if !over {
            let waited = self.view.absent_claim_since(vip, now) + D_MAX;
            over = waited <= now;
            if !over {
                self.wake(waited);
            }
        }
        if over && !may_be_held_on {
            return true;
        }
        (over || !self.settings.strict) && self.is_unanswered(now, vip)
    }

    /// Whether a node has this address itself, as its Node or its session says: nobody claims it anew. What is claimed stays so,
    /// or the word of one node could silence what another answers for.
    fn is_a_nodes_own(&self, vip: Vip) -> bool {
        let wanted = self.demand.as_ref().and_then(|demand| demand.vips.get(&vip));
        let listed = || self.view.sessions.values().any(|seen| seen.session.links.own.contains(&vip));
        wanted.is_some_and(|wanted| wanted.own_address_of.is_some())
            || self.links.own.contains(&vip)
            || listed()
    }

    /// The addresses in demand that a node has itself, and that node.
    pub fn own_addresses(&self) -> BTreeMap<Vip, String> {
        let Some(demand) = &self.demand else { return BTreeMap::new() };
        let by_node = demand.vips.iter().filter_map(|(vip, of)| Some((*vip, of.own_address_of.clone()?)));
        let of = |node: &str, links: &Links| {
            let node = node.to_owned();
            links.own.clone().into_iter().map(move |vip| (vip, node.clone()))
        };
        let sessions = self.view.sessions.values().map(|seen| &seen.session);
        let listed = sessions.flat_map(|session| of(session.node(), &session.links));
        let listed = listed.chain(of(&self.me.holder.node, &self.links));
        by_node.chain(listed.filter(|(vip, _)| demand.vips.contains_key(vip))).collect()
    }

    /// Whether nobody answered for a VIP just now; if that is not known, it is asked.
    pub(super) fn is_unanswered(&mut self, now: BootNs, vip: Vip) -> bool {
        let since = self.asked_since(vip);
        let unanswered =
            |at: &BootNs| *at + PROBE_VALID > now && *at >= since && !self.view.claim_deleted_since(vip, *at);
        if self.probed.get(&vip).is_some_and(unanswered) {
            return true;
        }
        match self.in_use.get(&vip).map(|(_, again)| *again).filter(|again| *again > now) {
            Some(again) => self.wake(again),
            // What was asked too early has to be asked again.
            None if self.outstanding.probes + self.probed.len() >= PROBES_AHEAD => {
                if let Some(oldest) = self.probed.values().min().copied() {
                    self.wake(oldest + PROBE_VALID);
                }
            }
            None => {
                self.request(now, claim_name(vip), Purpose::Probe(vip, now), Request::Probe(vip));
            }
        }
        false
    }

    /// Whether a void claim's owner may be cut off from the API server and answer on: it does not know that it was
    /// fenced, and holds. As long as it is heard, it keeps the VIP.
    pub(super) fn may_be_held_on(&self, claim: &Claim) -> bool {
        let lost = self.history_lost && !self.settings.strict;
        // Taken from somebody, by a write whose end is learnt only now: what was heard before it is too old.
        let of_ours = claim.holder.as_ref() == Some(&self.me.holder.node);
        let untried = of_ours && claim.transitions > 0 && !self.answered.contains(&claim.vip);
        let held =
            |uid: &str, epoch: u64| self.held_sessions.get(uid).is_some_and(|epochs| epochs.contains(&epoch));
        lost || untried
            || self.view.may_hold_on_to_released(claim) && !held(&claim.session_uid, claim.session_epoch)
            || claim.bindings().any(|(node, uid, epoch)| {
                if node == self.me.holder.node {
                    // Another machine of our name may have taken it.
                    return !held(uid, epoch);
                }
                // Of what nothing is known, anybody may; whoever asks may be strict itself.
                self.view.may_hold_on((node, uid, epoch)).unwrap_or(true)
            })
    }

    /// Under `strict` a claim that was created gives no entry by itself: it may have been created by another
    /// node and deleted again while our watch lagged, and then that node answers until it hears of it. A creation, our own or
    /// another's, shows what came before once the watch brings it without a gap; a second write may follow then (a transition).
    /// A list shows nothing of what came and went before it; but that was over before the creation, so that in the end time does.
    fn may_follow(&mut self, now: BootNs, claim: &Claim) -> bool {
        if !self.settings.strict {
            return true;
        }
        let created = claim.transitions == 0;
        let watched = self.view.watching_since.filter(|_| created);
        let gapless = self.view.claim_deleted_at(claim.vip).max(watched).map(|at| at + D_MAX);
        let in_time = self.view.claim_known_since(claim).map(|at| at + D_MAX);
        if let Some(until) = gapless.min(in_time.or(gapless)).filter(|until| *until > now) {
            self.wake(until);
            return false;
        }
        self.view.has_watched(claim.version) && (!created || watched.is_some())
    }

    pub(super) fn was_probed(&mut self, now: BootNs, vip: Vip, probed: Probed) {
        let name = claim_name(vip);
        let begun = match self.outstanding.of(&name) {
            Some(Purpose::Probe(_, begun)) => Some(*begun),
            _ => None,
        };
        if begun.is_some() {
            self.outstanding.end(&name);
        }
        match probed {
            Probed::Unused => {
                // A claim deleted meanwhile may have had an owner that answers only now. What was asked before we were stopped
                // says nothing, and is asked again.
                let said = |begun: &BootNs| !self.view.claim_deleted_since(vip, *begun);
                if let Some(begun) = begun.filter(said) {
                    self.probed.insert(vip, begun);
                }
            }
            // It was asked ahead of a fence, and its owner is there.
            Probed::InUse(_) if self.is_anothers(now, vip) => self.is_answered_for(now, vip),
            Probed::InUse(mac) => {
                self.probed.remove(&vip);
                let before = self.in_use.insert(vip, (mac, now + PROBE_AGAIN));
                if before.is_none_or(|(before, _)| before != mac) {
                    self.changes.push_back(Change::InUse(vip, mac));
                }
            }
            Probed::Failed => {
                self.not_before.insert(claim_name(vip), now + PROBE_FAILED);
            }
        }
    }

    fn is_anothers(&self, now: BootNs, vip: Vip) -> bool {
        let owner = self.view.claims.get(&vip).and_then(|claim| self.view.owner(claim, now));
        owner.is_some_and(|owner| !self.is_us(owner))
    }

    /// Our own compare-and-swap succeeded: the entry is added iff the session is still the one it is bound to.
    pub(super) fn taken(&mut self, now: BootNs, take: Take) {
        let Take { vip, session, why, creates, sent_at } = take;
        self.probed.remove(&vip);
        self.answered.remove(&vip);
        let current = self.target.session.as_ref() == Some(&session);
        let named = self.view.claims.get(&vip).is_some_and(|claim| self.is_ours(claim));
        if !current || !named || creates && self.settings.strict {
            return;
        }
        self.confirmed.insert(vip, sent_at);
        if !self.is_assured(now) {
            // A claim can be written under an epoch that is over, by whoever has not heard of that.
            self.unsure.insert(vip, why);
            return self.read_own(now);
        }
        self.gain(vip, why);
    }

    /// The kernel answers for it from now on.
    pub(super) fn gain(&mut self, vip: Vip, why: Why) {
        let Some((_, epoch)) = self.target.session else { return };
        self.answered.insert(vip);
        if self.target.held.insert(vip) {
            self.changes.push_back(Change::Gained { vip, epoch, why });
        }
    }
}

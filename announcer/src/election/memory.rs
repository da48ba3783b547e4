//! What the machine remembers, and until when: it is the same after a year as after an hour.

#[cfg(test)]
use std::collections::BTreeMap;
use std::collections::BTreeSet;

use super::{machine::Machine, times::D_MAX};
use crate::vocabulary::{BootNs, Vip};

impl Machine {
    /// Forgets, from time to time, what can have no further effect. Nothing is decided here, and nobody is woken for it.
    pub(super) fn forget_old(&mut self, now: BootNs) {
        if self.forgot_at + D_MAX > now {
            return;
        }
        self.forgot_at = now;
        self.not_before.retain(|_, at| *at > now);
        self.handed_over.retain(|_, offer| offer.counts(now));
        // It counts for what was open before.
        let first = self.open.values().map(|open| open.since).min();
        self.took.retain(|_, at| first.is_some_and(|first| *at > first));

        let harmless: BTreeSet<Vip> = self
            .view
            .long_deleted(now)
            .filter(|claim| !self.may_be_held_on(claim))
            .map(|claim| claim.vip)
            .collect();
        let demand = self.demand.clone();
        let wanted = |vip| demand.as_ref().is_some_and(|demand| demand.vips.contains_key(&vip));
        self.view.forget_old(now, &harmless, wanted);
        self.forget_epochs();
    }

    /// Of our own epochs those count that a claim is bound to, and the last one of a session that is there, or was ours last.
    fn forget_epochs(&mut self) {
        let current = self.target.session.as_ref().map(|(uid, _)| uid.as_str());
        let there = self.view.session(&self.me.holder.node).map(|seen| seen.session.uid.as_str());
        let bound: BTreeSet<(&str, u64)> = self.view.bound().collect();
        let uids: BTreeSet<&str> = bound.iter().map(|(uid, _)| *uid).chain(current).chain(there).collect();
        self.held_sessions.retain(|uid, _| uids.contains(uid.as_str()));
        for (uid, epochs) in &mut self.held_sessions {
            let last = epochs.last().copied();
            epochs.retain(|epoch| Some(*epoch) == last || bound.contains(&(uid.as_str(), *epoch)));
        }
    }

    /// How much is remembered, by field.
    #[cfg(test)]
    pub fn sizes(&self) -> BTreeMap<&'static str, usize> {
        let Self {
            me: _,
            settings: _,
            times: _,
            view,
            own,
            synced: _,
            target,
            earned: _,
            revival: _,
            unsure,
            answered,
            silence,
            held_on_until: _,
            remembered: _,
            demand: _,
            links: _,
            suspicions,
            takeover,
            shutdown: _,
            name_taken: _,
            relist: _,
            unchecked: _,
            quiet_until: _,
            history_lost: _,
            seen_until: _,
            confirmed,
            live_since: _,
            emptied,
            open,
            waiting,
            releasing,
            last_turn: _,
            took,
            electorate: _,
            electorate_since: _,
            unnamed_since: _,
            passing,
            untaken,
            inherited_at: _,
            heirs,
            chores_rest,
            chores,
            probed,
            in_use,
            handed_over,
            unready_since: _,
            not_before,
            useless_since,
            held_sessions,
            outstanding,
            changes,
            requests,
            tokens: _,
            wake_at: _,
            claims_due: _,
            claims_due_at: _,
            claims_rest_until: _,
            unheard_at: _,
            forgot_at: _,
        } = self;
        let mut sizes = view.sizes();
        sizes.extend([
            ("own", own.size()),
            ("target.held", target.held.len()),
            ("unsure", unsure.len()),
            ("answered", answered.len()),
            ("silence", silence.size()),
            ("suspicions", suspicions.size()),
            ("takeover", takeover.size()),
            ("confirmed", confirmed.len()),
            ("emptied", emptied.len()),
            ("open", open.len()),
            ("waiting", waiting.size()),
            ("releasing", releasing.size()),
            ("took", took.len()),
            ("passing", passing.len()),
            ("untaken", untaken.len()),
            ("heirs", heirs.len()),
            ("chores_rest", chores_rest.len()),
            ("chores", chores.len()),
            ("probed", probed.len()),
            ("in_use", in_use.len()),
            ("handed_over", handed_over.len()),
            ("not_before", not_before.len()),
            ("useless_since", useless_since.len()),
            ("held_sessions", held_sessions.values().map(BTreeSet::len).sum()),
            ("outstanding", outstanding.size()),
            ("changes", changes.len()),
            ("requests", requests.len()),
        ]);
        sizes
    }
}

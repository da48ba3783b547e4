//! What goes wrong, and how it ends.

use std::{sync::Arc, time::Duration};

use super::{
    brief,
    host::{MS, SECOND},
    setting::{Fault, Weather, span},
    store::Store,
    world::{Event, World},
};
use crate::{
    election::{Input, lease::Record},
    vocabulary::Vip,
};

impl World {
    /// One fault, and the next one later.
    pub fn fault(&mut self) {
        if self.now >= self.round_at + self.setting.faults_for {
            return;
        }
        let after = self.rng.range(300 * MS, self.setting.fault_every);
        self.later(after, 0, Event::Fault);
        if let Some(kind) = self.rng.pick(&self.setting.faults.clone()) {
            self.happen(kind);
        }
    }

    fn happen(&mut self, kind: Fault) {
        let at = usize::try_from(self.rng.below(self.hosts.len() as u64)).unwrap_or_default();
        let long = span(&mut self.rng) * if self.rng.per_mille(100) { 2 } else { 1 };
        let calm = (self.round_at + self.setting.faults_for).saturating_sub(self.now);
        self.say(|w| format!("FAULT {kind:?} at {} for {} ms", w.hosts[at].machine_id, long / MS));
        match kind {
            Fault::Crash => {
                let down = self.rng.range(100 * MS, self.setting.agent_down);
                // Whoever crashes again and again before a round of probes is over cannot hold on.
                let asks = self.now - self.hosts[at].started_at < 1_300 * MS;
                let hopeless = self.setting.unnoticed && self.weather.api_down && asks;
                if self.hosts[at].up && self.hosts[at].agent.is_some() && !hopeless {
                    self.hosts[at].kill_agent();
                    self.later(down, at, Event::Start);
                }
            }
            Fault::Pause => self.pause(at, long),
            Fault::Strike => {}
            Fault::Reboot | Fault::Die => {
                let long = if kind == Fault::Die { 600 * SECOND } else { long };
                self.hosts[at].kill_agent();
                self.hosts[at].up = false;
                self.later(long, at, Event::Start);
            }
            Fault::Cut => self.hosts[at].cut = !self.hosts[at].cut,
            Fault::Outage if self.setting.unnoticed => {
                if !self.weather.api_down && self.checks.outage_over + 60 * SECOND < self.now {
                    self.weather.api_down = true;
                    let lasts = self.rng.range(SECOND, 300 * SECOND);
                    self.checks.outage_over = self.now + lasts;
                    self.later(lasts, 0, Event::ApiBack);
                }
            }
            Fault::Outage => self.weather.api_down = !self.weather.api_down,
            Fault::Storm => {
                self.weather.loss = self.rng.below(400);
                self.weather.late = self.rng.below(400);
            }
            Fault::StallWatch => {
                let long = if self.setting.unnoticed { long } else { long.min(calm) };
                self.stall_watch(at, long);
            }
            Fault::LoseWatch => {
                // An agent that starts and cannot list for as long as its lease is fenced.
                let long = long.min(if self.setting.unnoticed { 3 * SECOND } else { calm });
                self.lose_watch(at, long);
            }
            Fault::DeleteLease | Fault::Annotate | Fault::Edit => self.by_hand(kind),
            Fault::Cordon => {
                let node = self.hosts[at].node.clone();
                let cordoned = &mut self.setting.policy.cordoned;
                if !cordoned.remove(&node) {
                    cordoned.insert(node);
                }
                self.new_demand();
            }
            Fault::Exclude => {
                let node = self.hosts[at].node.clone();
                let excluded = &mut self.setting.policy.excluded;
                if !excluded.remove(&node) {
                    excluded.insert(node);
                }
                self.new_demand();
            }
            Fault::Service => {
                let all: Vec<Vip> = self.setting.policy.vips.iter().copied().collect();
                let Some(vip) = self.rng.pick(&all) else { return };
                if !self.setting.policy.gone.remove(&vip) {
                    self.setting.policy.gone.insert(vip);
                }
                self.new_demand();
            }
            Fault::Link => {
                self.checks.rewired_at = Some(self.now);
                let link = if self.rng.per_mille(500) { "eth0" } else { "eth1" };
                let up = &mut self.hosts[at].links.up;
                if !up.remove(link) {
                    up.insert(link.to_owned());
                }
                let links = self.hosts[at].links.clone();
                self.later(MS, at, Event::Input(Input::Links(links)));
            }
            Fault::Scale => {
                self.setting.policy.others = self.rng.pick(&[0, 150, 300, 1200]).unwrap_or_default();
                self.new_demand();
            }
            Fault::Restart => {
                // Whoever ends before it has adopted its session has renewed nothing: again and again, no lease lasts.
                let boot = self.hosts[at].boot(self.now);
                let lives = self.hosts[at].agent.as_ref().is_some_and(|agent| agent.machine.is_live(boot));
                if lives || !self.setting.unnoticed {
                    self.terminate(at, false);
                }
            }
            Fault::Drain => self.terminate(at, true),
            Fault::Restore => self.restore(),
            Fault::Wipe => {
                self.restored_to(&Store::default());
            }
            Fault::Wire => {
                self.checks.rewired_at = Some(self.now);
                self.hosts[at].segment = self.rng.below(2);
            }
            Fault::Deaf => {
                self.checks.rewired_at = Some(self.now);
                let other = usize::try_from(self.rng.below(self.hosts.len() as u64)).unwrap_or_default();
                let pair = (at.min(other), at.max(other));
                if at != other && !self.deaf.remove(&pair) {
                    self.deaf.insert(pair);
                }
            }
            Fault::Noise => self.weather.misheard = self.rng.pick(&[0, 100, 700]).unwrap_or_default(),
            Fault::Rights => self.hosts[at].refused = !self.hosts[at].refused,
            Fault::Freeze => {
                if self.hosts[at].up && self.hosts[at].frozen.is_none() {
                    let long = self.rng.range(50 * MS, 1_200 * MS);
                    self.hosts[at].frozen = Some(self.now);
                    self.pause(at, long);
                    self.later(long, at, Event::Thaw);
                }
            }
        }
    }

    fn terminate(&mut self, at: usize, drain: bool) {
        let Some(agent) = self.hosts[at].agent.as_mut().filter(|agent| !agent.going) else { return };
        agent.going = true;
        self.deliver(at, Input::Shutdown(drain));
        let grace = self.rng.range(50 * MS, 4 * SECOND);
        self.later(grace, at, Event::Kill);
    }

    fn by_hand(&mut self, kind: Fault) {
        let names: Vec<String> = self.store.objects.keys().cloned().collect();
        let index = usize::try_from(self.rng.below(names.len() as u64)).unwrap_or_default();
        let Some(name) = names.get(index).filter(|_| !self.weather.api_down).cloned() else { return };
        self.say(|_| format!("by hand: {kind:?} {name}"));
        match kind {
            Fault::DeleteLease => {
                self.checks.deleted_at = Some(self.now);
                self.store.delete(self.now, &name);
            }
            Fault::Edit => {
                self.checks.edited_at = Some(self.now);
                let Some(mut record) = self.store.objects.get(&name).cloned() else { return };
                self.spoil(&mut record);
                self.say(|_| format!("by hand: {}", brief::record(&record)));
                self.store.edit(self.now, record);
            }
            _ => self.store.annotate(self.now, &name),
        }
        self.pump_all();
    }

    /// `kubectl edit`: one field, to something that a careless hand might write.
    fn spoil(&mut self, record: &mut Record) {
        let node = self.rng.pick(&["a", "b", "c", "nobody"]).map(str::to_owned);
        match record {
            Record::Session(session) => match self.rng.below(6) {
                0 => session.holder = None,
                1 => session.epoch = self.rng.below(session.epoch + 1),
                2 => match self.rng.range(1, 5) {
                    4 => session.epoch = i32::MAX as u64,
                    more => session.epoch += more,
                },
                3 => session.lease = Duration::from_secs(self.rng.range(1, 61)),
                4 => session.renewal = "by hand".to_owned(),
                _ => session.links.up.clear(),
            },
            Record::Claim(claim) => match self.rng.below(6) {
                0 => claim.holder = None,
                1 => claim.holder = node,
                2 => claim.session_epoch = self.rng.below(claim.session_epoch + 1),
                3 => claim.session_epoch += self.rng.range(1, 4),
                4 => claim.session_uid = "by hand".to_owned(),
                _ => claim.preferred = node,
            },
        }
    }

    /// A virtual machine that stood still runs again, and so does its clock.
    pub fn thaw(&mut self, at: usize) {
        // It may have been reset meanwhile.
        let Some(since) = self.hosts[at].frozen.take() else { return };
        // Nobody has heard it meanwhile.
        self.checks.rewired_at = Some(self.now);
        if self.hosts[at].up {
            let span = self.now - since;
            self.hosts[at].stood_still(span);
            if span > 750 * MS {
                self.deliver(at, Input::ClockJumped);
            }
        }
    }

    /// A snapshot is taken first; the next time it is restored, and every agent loses its watch, which may go on where it stood.
    fn restore(&mut self) {
        let Some(snapshot) = self.snapshot.take() else {
            self.snapshot = Some(self.store.clone());
            return;
        };
        self.restored_to(&snapshot);
    }

    fn restored_to(&mut self, snapshot: &Store) {
        self.store.restore(snapshot);
        self.checks.restored_at = Some(self.now);
        for host in 0..self.hosts.len() {
            let after = self.rng.below(10 * SECOND);
            if self.rng.per_mille(500) {
                self.lose_watch(host, after);
            } else {
                self.follow_another_store(host, after);
            }
        }
    }

    /// SIGSTOP or SIGKILL in the middle of a step.
    pub fn strike(&mut self, at: usize) {
        if self.rng.per_mille(600) {
            let long = span(&mut self.rng);
            self.pause(at, long);
        } else {
            let down = self.rng.range(100 * MS, self.setting.agent_down);
            self.say(|w| format!("{} crashes in the middle of a step", w.hosts[at].machine_id));
            self.hosts[at].kill_agent();
            self.later(down, at, Event::Start);
        }
    }

    pub fn new_demand(&mut self) {
        self.demand = Arc::new(self.setting.policy.demand(&self.hosts));
        for host in 0..self.hosts.len() {
            let lag =
                if self.rng.per_mille(100) { self.rng.below(5 * SECOND) } else { self.rng.below(SECOND) };
            self.later(lag, host, Event::Demand);
        }
    }

    /// All faults end, but for machines that stay dead.
    pub fn calm_down(&mut self) {
        self.say(|_| "all faults end".to_owned());
        self.checks.rewired_at = Some(self.now);
        self.weather = Weather { late_by: SECOND, lag: SECOND, ..Weather::default() };
        self.deaf.clear();
        let mut dead = 0;
        for host in 0..self.hosts.len() {
            (self.hosts[host].cut, self.hosts[host].refused, self.hosts[host].segment) = (false, false, 0);
            if !self.hosts[host].up && dead + 1 < self.hosts.len() && self.rng.per_mille(300) {
                dead += 1;
                self.hosts[host].kill_agent();
                continue;
            }
            if self.hosts[host].agent.as_ref().is_some_and(|agent| agent.paused) {
                self.later(0, host, Event::Resume);
            }
            if self.hosts[host].agent.as_ref().is_none_or(|agent| agent.going) {
                self.hosts[host].kill_agent();
                self.later(MS, host, Event::Start);
            }
            self.hosts[host].links = ["eth0", "eth1"].map(str::to_owned).into_iter().collect();
            let links = self.hosts[host].links.clone();
            self.later(2 * MS, host, Event::Input(Input::Links(links)));
        }
        self.setting.policy.excluded.clear();
        self.new_demand();
        self.later(self.setting.recovers_in + self.setting.quiet_for, 0, Event::Round);
    }
}

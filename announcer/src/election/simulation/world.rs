//! The world: time, the network between agents and the API server, and the agents' loops.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use super::{
    brief,
    checks::Checks,
    host::{Agent, Host, MS, SECOND},
    rng::Rng,
    setting::{Setting, Weather},
    store::{self, Store},
};
use crate::{
    election::{Answer, Challenged, Input, Probed, Request, Rival, Token, lease::Record, lease::Version},
    policy::Demand,
    vocabulary::{Mac, Vip},
};

#[derive(Debug)]
pub enum Event {
    Input(Input),
    /// The demand as it is then.
    Demand,
    Tick(u64),
    /// The agent's next map write, or its requests.
    Work,
    Arrives(Token, Request),
    Answered(Token, Answer),
    Expired(Token),
    ProbeEnds(Token, Vip),
    ChallengeEnds(Token, BTreeSet<Vip>),
    Watched(u64, usize),
    Reopen(u64),
    List(u64),
    Listed(u64, Version, Vec<Record>, usize),
    Compared(u64, Version, Vec<Record>),
    Resume,
    /// The agent starts, on a machine that boots first if it is down.
    Start,
    Kill,
    Fault,
    Sample,
    /// Agents ask their peers on the wire.
    Listen,
    Calm,
    ApiBack,
    /// The quiet hours are over.
    Round,
    /// A virtual machine runs again; its clock stood still meanwhile.
    Thaw,
}

/// What is to happen, by time and number: to which host, in which of its lives.
type Queue = BTreeMap<(u64, u64), Box<(usize, u64, Event)>>;

pub struct World {
    pub rng: Rng,
    pub now: u64,
    /// When this round of faults, recovery and quiet began.
    pub round_at: u64,
    rounds: u64,
    queue: Queue,
    events: u64,
    pub setting: Setting,
    pub weather: Weather,
    pub store: Store,
    pub snapshot: Option<Store>,
    pub hosts: Vec<Host>,
    /// Pairs of machines between which frames are lost, at least one way.
    pub deaf: BTreeSet<(usize, usize)>,
    pub demand: Arc<Demand>,
    pub checks: Checks,
    pub trace: Option<VecDeque<String>>,
}

impl World {
    pub fn new(seed: u64, long: bool, traced: bool) -> Self {
        let mut rng = Rng::new(seed);
        let setting = Setting::draw(&mut rng, long);
        let hosts = setting.hosts(&mut rng);
        let mut world = Self {
            rng,
            now: SECOND,
            round_at: 0,
            rounds: 0,
            queue: BTreeMap::new(),
            events: 0,
            weather: setting.weather,
            demand: Arc::new(setting.policy.demand(&hosts)),
            checks: Checks::default(),
            setting,
            store: Store::default(),
            snapshot: None,
            hosts,
            deaf: BTreeSet::new(),
            trace: traced.then(VecDeque::new),
        };
        for host in 0..world.hosts.len() {
            let at = world.rng.below(8 * SECOND);
            world.later(at, host, Event::Start);
        }
        let first = if world.setting.unnoticed { 110 } else { 10 };
        world.later(first * SECOND, 0, Event::Fault);
        world.later(world.setting.faults_for, 0, Event::Calm);
        world.later(SECOND, 0, Event::Sample);
        world.later(SECOND, 0, Event::Listen);
        world
    }

    pub fn say(&mut self, what: impl FnOnce(&Self) -> String) {
        if self.trace.is_none() {
            return;
        }
        let line = format!("{:9.3} {}", self.now as f64 / 1e9, what(self));
        if let Some(trace) = &mut self.trace {
            trace.push_back(line);
            if trace.len() > 300 {
                trace.pop_front();
            }
        }
    }

    pub fn later(&mut self, after: u64, host: usize, event: Event) {
        self.events += 1;
        let life = self.hosts[host].life;
        self.queue.insert((self.now + after, self.events), Box::new((host, life, event)));
    }

    /// Runs until the queue says it is over. `Err`: a property was broken.
    pub fn run(&mut self) -> Result<(), String> {
        while self.rounds < self.setting.rounds {
            let Some(((at, _), next)) = self.queue.pop_first() else { break };
            let (host, life, event) = *next;
            self.now = at;
            self.handle(host, life, event);
            if let Some(broken) = self.checks.broken.take() {
                return Err(broken);
            }
        }
        Ok(())
    }

    pub fn events(&self) -> u64 {
        self.events
    }

    /// Faults begin anew, after hours in which nothing happened.
    fn next_round(&mut self) {
        self.rounds += 1;
        self.checks.rough_ns += self.setting.faults_for;
        if self.rounds < self.setting.rounds {
            self.say(|_| "a new round of faults".to_owned());
            self.round_at = self.now;
            self.weather = self.setting.weather;
            self.checks.new_round(self.setting.unnoticed);
            for host in (0..self.hosts.len()).filter(|host| !self.hosts[*host].up).collect::<Vec<_>>() {
                self.later(MS, host, Event::Start);
            }
            self.later(SECOND, 0, Event::Fault);
            self.later(self.setting.faults_for, 0, Event::Calm);
        }
    }

    fn handle(&mut self, host: usize, life: u64, event: Event) {
        match event {
            Event::Arrives(token, request) => return self.arrives(host, life, token, &request),
            Event::Fault => return self.fault(),
            Event::Calm => return self.calm_down(),
            Event::Sample => return self.sample(),
            Event::Listen => return self.listen(),
            Event::ApiBack => {
                self.weather.api_down = false;
                return self.say(|_| "the API server is back".to_owned());
            }
            Event::Round => return self.next_round(),
            Event::Thaw => return self.thaw(host),
            Event::Start if self.hosts[host].life == life => return self.start(host),
            _ => {}
        }
        if self.hosts[host].life != life || self.hosts[host].agent.is_none() {
            return;
        }
        match event {
            Event::Input(input) => self.deliver(host, input),
            Event::Demand => self.deliver(host, Input::Demand(Arc::clone(&self.demand))),
            Event::Tick(tick) if self.hosts[host].agent.as_ref().is_some_and(|agent| agent.tick == tick) => {
                self.deliver(host, Input::Tick);
            }
            Event::Tick(_) => {}
            Event::Work => self.work(host),
            Event::Answered(token, answer) => self.answered(host, token, answer),
            Event::Expired(token) => self.expired(host, token),
            Event::ProbeEnds(token, vip) => self.probe_ends(host, token, vip),
            Event::ChallengeEnds(token, asked) => self.challenge_ends(host, token, asked),
            Event::Watched(connection, index) => self.watched(host, connection, index),
            Event::Reopen(connection) => self.reopen(host, connection),
            Event::List(connection) => self.list(host, connection),
            Event::Listed(connection, version, records, cursor) => {
                self.listed(host, connection, version, records, cursor);
            }
            Event::Compared(connection, version, records) => {
                self.compared(host, connection, version, records);
            }
            Event::Resume => self.resume(host),
            Event::Kill => {
                self.say(|w| format!("{} agent ends", w.hosts[host].machine_id));
                self.hosts[host].kill_agent();
                let down = self.rng.range(100 * MS, self.setting.agent_down);
                self.later(down, host, Event::Start);
            }
            _ => {}
        }
    }

    // === the agent's loop ===

    fn start(&mut self, host: usize) {
        if !self.hosts[host].up {
            self.hosts[host].boot_again(self.now);
        }
        if self.hosts[host].agent.is_some() {
            return;
        }
        self.hosts[host].start_agent(&mut self.rng);
        self.hosts[host].started_at = self.now;
        self.say(|w| {
            let host = &w.hosts[host];
            format!("{} agent starts, kernel {:?}", host.machine_id, host.kernel.inherited())
        });
        let links = Input::Links(self.hosts[host].links.clone());
        self.later(MS, host, Event::Input(links));
        let after = self.rng.below(SECOND);
        self.later(after, host, Event::Demand);
        let after = self.rng.below(100 * MS);
        self.later(after, host, Event::List(0));
    }

    pub fn deliver(&mut self, host: usize, input: Input) {
        if let Some(agent) = &mut self.hosts[host].agent {
            agent.inbox.push_back(input);
        }
        self.turn(host);
    }

    /// The agent takes its next input, unless it is still performing the last one or stopped.
    fn turn(&mut self, at: usize) {
        while self.step(at) {}
    }

    /// Whether there is nothing to perform, so that the next input can be taken at once.
    fn step(&mut self, at: usize) -> bool {
        let host = &mut self.hosts[at];
        let boot = host.boot(self.now);
        let Some(agent) = &mut host.agent else { return false };
        if agent.paused || agent.busy {
            return false;
        }
        let Some(input) = agent.inbox.pop_front() else { return false };
        let said = self.trace.is_some().then(|| brief::input(&input));
        agent.to_send = agent.machine.step(boot, input);
        // What an agent leaves behind when it is killed stays so until the next one has found out.
        let held = |vip: &Vip| agent.machine.is_live(boot) && agent.machine.target().held.contains(vip);
        host.provisional.retain(|vip| !held(vip) && host.kernel.has(*vip));
        host.provisional.extend(agent.machine.provisional());
        agent.plan = host.kernel.plan(agent.machine.target());
        agent.busy = true;
        agent.tick += 1;
        let tick = agent.tick;
        let changes: Vec<_> = agent.machine.take_changes().collect();
        let wake = agent.machine.wake_at().map(|wake| host.when(wake).saturating_sub(self.now));
        if let Some(wake) = wake {
            self.later(wake, at, Event::Tick(tick));
        }
        if let Some(said) = said.filter(|said| said != "Tick" || !changes.is_empty()) {
            self.say(|w| format!("{} step {said} => {changes:?}", w.hosts[at].machine_id));
        }
        self.checks.changed(self.now, at, &changes);
        self.note_deaf(at, &changes);
        if self.hosts[at].agent.as_mut().is_some_and(Agent::has_nothing_to_do) {
            return true;
        }
        let after = self.rng.below(MS / 5);
        self.later(after, at, Event::Work);
        false
    }

    fn work(&mut self, at: usize) {
        let strike = self.rng.below(1_000_000);
        let host = &mut self.hosts[at];
        let Some(agent) = host.agent.as_mut().filter(|agent| !agent.paused && agent.busy) else { return };
        if strike < self.weather.strikes_ppm {
            return self.strike(at);
        }
        let Some(write) = agent.plan.pop_front() else {
            agent.busy = false;
            let requests = std::mem::take(&mut agent.to_send);
            for (token, request) in requests {
                self.send(at, token, request);
            }
            return self.turn(at);
        };
        let after = if matches!(write, super::kernel::Write::Grace) { 10 * MS } else { MS / 50 };
        self.say(|w| format!("{} kernel {write:?}", w.hosts[at].machine_id));
        let host = &mut self.hosts[at];
        let (boot, written) = (host.boot(self.now), host.kernel.inherited().deadline);
        let mut write = write;
        if let (super::kernel::Write::Deadline(deadline), Some(agent)) = (&mut write, &mut host.agent) {
            if written <= boot && agent.machine.earned < *deadline {
                agent.machine.too_late_to_hold(written);
                *deadline = agent.machine.target().deadline;
            }
            host.by_hold = agent.machine.earned < *deadline;
        }
        host.kernel.write(write);
        self.check(at);
        self.later(after, at, Event::Work);
    }

    pub fn pause(&mut self, host: usize, span: u64) {
        if let Some(agent) = self.hosts[host].agent.as_mut().filter(|agent| !agent.paused) {
            agent.paused = true;
            self.say(|w| format!("{} SIGSTOP for {} ms", w.hosts[host].machine_id, span / MS));
            self.later(span, host, Event::Resume);
        }
    }

    fn resume(&mut self, host: usize) {
        let first = self.rng.per_mille(500);
        let Some(agent) = &mut self.hosts[host].agent else { return };
        agent.paused = false;
        if first {
            agent.inbox.push_front(Input::Tick);
        }
        let busy = agent.busy;
        self.say(|w| format!("{} SIGCONT", w.hosts[host].machine_id));
        if busy {
            self.later(0, host, Event::Work);
        }
        self.turn(host);
    }

    fn probe_ends(&mut self, host: usize, token: Token, vip: Vip) {
        let by = self
            .heard_for(vip, host)
            .map(|other| Mac([2, 0, 0, 0, 0, u8::try_from(other).unwrap_or_default()]));
        if self.hosts[host].agent.as_mut().is_some_and(|agent| agent.waiting.remove(&token)) {
            let probed = by.map_or(Probed::Unused, Probed::InUse);
            self.deliver(host, Input::Probed(vip, probed));
        }
    }

    /// A round of probes of everything held is over.
    fn challenge_ends(&mut self, host: usize, token: Token, held: BTreeSet<Vip>) {
        if self.hosts[host].agent.as_mut().is_some_and(|agent| agent.waiting.remove(&token)) {
            let carrier = |vip: &Vip| self.links_for(*vip, host).next().is_some();
            let asked: BTreeSet<Vip> = held.into_iter().filter(carrier).collect();
            let rival = |other| if other < host { Rival::Lower } else { Rival::Higher };
            let answered = |vip: &Vip| Some((*vip, rival(self.heard_for(*vip, host)?)));
            let answered = asked.iter().filter_map(answered).collect();
            let round = Some(Challenged { asked, answered }).filter(|round| !round.asked.is_empty());
            self.deliver(host, Input::Challenged(round));
        }
    }

    pub fn version(&self) -> Version {
        Version(self.store.revision)
    }

    pub fn log(&self, index: usize) -> Option<store::Event> {
        self.store.log.get(index).map(|(_, event)| event.clone())
    }
}

//! What the network does to requests, answers, lists and watches.

use super::{
    brief,
    host::{MS, SECOND, Speaks},
    store,
    world::{Event, World},
};
use crate::election::{
    Answer, Input, REQUEST_TIMEOUT, Request, Token,
    lease::{Record, Version},
    times::LONG_TIMEOUT,
};

/// What a request writes or deletes.
fn written(request: &Request) -> Option<&Record> {
    match request {
        Request::Put(record) | Request::Delete(record) => Some(record),
        _ => None,
    }
}

impl World {
    fn reaches(&self, host: usize) -> bool {
        !self.hosts[host].cut && !self.weather.api_down
    }

    fn latency(&mut self) -> u64 {
        let late = self.rng.per_mille(self.weather.late);
        if late { self.rng.below(self.weather.late_by) } else { self.rng.range(MS, 15 * MS) }
    }

    pub fn send(&mut self, host: usize, token: Token, mut request: Request) {
        if let Request::Put(record) | Request::Delete(record) = &mut request {
            self.check_written(host, record);
            self.hosts[host].speaks.translate(record, true);
        }
        if let Some(agent) = &mut self.hosts[host].agent {
            agent.waiting.insert(token);
        }
        self.say(|w| format!("{} sends {} {}", w.hosts[host].machine_id, token.0, brief::request(&request)));
        if let Request::Relist = request {
            return self.lose_watch(host, MS);
        }
        if let Request::Probe(vip) = request {
            return self.later(600 * MS, host, Event::ProbeEnds(token, vip));
        }
        if let Request::Challenge = request {
            let held = self.hosts[host].kernel.inherited().held;
            return self.later(1_200 * MS, host, Event::ChallengeEnds(token, held));
        }
        let timeout = self.timeout(host, &request);
        self.later(timeout, host, Event::Expired(token));
        let mut delay = self.latency();
        if !self.reaches(host) {
            // Most are lost; some wait in a queue somewhere and arrive when nobody expects them.
            if self.setting.unnoticed || self.rng.per_mille(700) {
                return;
            }
            delay = self.rng.below(40 * SECOND);
        } else if self.rng.per_mille(self.weather.loss) {
            return;
        }
        // Somebody on the way sends it twice.
        if self.rng.per_mille(self.weather.twice) {
            let again = delay + self.latency();
            self.later(again, host, Event::Arrives(token, request.clone()));
        }
        self.later(delay, host, Event::Arrives(token, request));
    }

    /// How long the driver waits: longer for a write, where one before had no answer.
    fn timeout(&self, host: usize, request: &Request) -> u64 {
        let is_write = matches!(request, Request::Put(_) | Request::Delete(_));
        let patient = self.hosts[host].agent.as_ref().is_some_and(|agent| agent.patient);
        let limit = if is_write && patient { LONG_TIMEOUT } else { REQUEST_TIMEOUT };
        u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX)
    }

    pub fn arrives(&mut self, host: usize, life: u64, token: Token, request: &Request) {
        if self.weather.api_down {
            return;
        }
        let before = self.store.revision;
        let there = written(request).and_then(|record| self.store.objects.get(&record.name()).cloned());
        let answer = if self.hosts[host].refused || self.rng.per_mille(self.weather.refused) {
            Answer::Refused
        } else {
            let old = if let Request::Put(record) = request {
                self.store.objects.get(&record.name()).cloned()
            } else {
                None
            };
            let answer = self.store.perform(self.now, request);
            if matches!(answer, Answer::Done(_)) {
                self.committed(request, old.as_ref());
            }
            answer
        };
        self.say(|w| {
            format!("{} request {} arrives: {}", w.hosts[host].machine_id, token.0, brief::answer(&answer))
        });
        if self.store.revision != before {
            if self.hosts[host].speaks == Speaks::This {
                self.checks.kinds.note(&self.hosts[host].node, there.as_ref(), request);
            }
            self.check_replaced(host, there.as_ref(), written(request));
            self.pump_all();
        }
        let delay = self.latency();
        let lost = self.rng.per_mille(self.weather.loss) || self.hosts[host].cut;
        if !lost && self.hosts[host].life == life {
            self.later(delay, host, Event::Answered(token, answer));
        }
    }

    /// Nothing came in time: the next writes are waited for longer.
    pub fn expired(&mut self, host: usize, token: Token) {
        if let Some(agent) = self.hosts[host].agent.as_mut().filter(|agent| agent.waiting.contains(&token)) {
            agent.patient = true;
        }
        self.answered(host, token, Answer::Lost);
    }

    pub fn answered(&mut self, host: usize, token: Token, mut answer: Answer) {
        if let (Answer::Done(_), Some(agent)) = (&answer, &mut self.hosts[host].agent) {
            agent.patient = false;
        }
        if let Answer::Done(record) = &mut answer {
            self.hosts[host].speaks.translate(record, false);
        }
        if self.hosts[host].agent.as_mut().is_some_and(|agent| agent.waiting.remove(&token)) {
            self.deliver(host, Input::Answered(token, answer));
        }
    }

    // === watches ===

    pub fn pump_all(&mut self) {
        for host in 0..self.hosts.len() {
            self.pump(host);
        }
    }

    fn pump(&mut self, host: usize) {
        let end = self.store.log.len();
        let Some(watch) = self.hosts[host].agent.as_ref().map(|agent| agent.watch.clone()) else { return };
        if !watch.open {
            return;
        }
        let mut at = watch.not_before;
        let newer = |index: &usize| self.store.log[*index].1.version() > watch.after;
        for index in (watch.cursor..end).filter(newer).collect::<Vec<_>>() {
            let lag = if self.rng.per_mille(self.weather.late) {
                self.rng.below(self.weather.lag)
            } else {
                self.rng.range(MS, 20 * MS)
            };
            at = at.max(self.store.log[index].0 + lag).max(self.now);
            self.later(at - self.now, host, Event::Watched(watch.connection, index));
        }
        if let Some(agent) = &mut self.hosts[host].agent {
            agent.watch.cursor = end;
            agent.watch.not_before = at;
        }
    }

    pub fn watched(&mut self, host: usize, connection: u64, index: usize) {
        let reaches = self.reaches(host);
        let Some(agent) = &mut self.hosts[host].agent else { return };
        if agent.watch.connection != connection || !agent.watch.open {
            return;
        }
        if !reaches {
            return self.break_watch(host, index);
        }
        let speaks = self.hosts[host].speaks;
        let input = match self.log(index) {
            Some(store::Event::Changed(mut record)) => {
                speaks.translate(&mut record, false);
                Input::Changed(record)
            }
            Some(store::Event::Deleted(mut record)) => {
                speaks.translate(&mut record, false);
                Input::Deleted(record)
            }
            None => return,
        };
        self.deliver(host, input);
    }

    /// The connection ends; events from `cursor` on have not been seen.
    pub fn break_watch(&mut self, host: usize, cursor: usize) {
        let Some(agent) = &mut self.hosts[host].agent else { return };
        let watch = &mut agent.watch;
        watch.connection += 1;
        watch.open = false;
        watch.uncompared = true;
        watch.cursor = cursor;
        let connection = watch.connection;
        self.later(SECOND, host, Event::Reopen(connection));
        self.deliver(host, Input::Unchecked);
    }

    pub fn stall_watch(&mut self, host: usize, span: u64) {
        let until = self.now + span;
        if let Some(agent) = &mut self.hosts[host].agent {
            agent.watch.not_before = agent.watch.not_before.max(until);
        }
    }

    pub fn reopen(&mut self, host: usize, connection: u64) {
        let Some(agent) = &mut self.hosts[host].agent else { return };
        let (open, uncompared) = (agent.watch.open, agent.watch.uncompared);
        if agent.watch.connection != connection {
            return;
        }
        if !self.reaches(host) {
            self.later(SECOND, host, Event::Reopen(connection));
            return self.deliver(host, Input::Unanswered);
        }
        if open || self.rng.per_mille(700) {
            if uncompared && !self.hosts[host].refused && !self.rng.per_mille(self.weather.loss) {
                let delay = self.latency().min(9 * SECOND);
                let records = self.store.objects.values().cloned().collect();
                return self.later(delay, host, Event::Compared(connection, self.version(), records));
            }
            if uncompared {
                // It is tried again before long.
                self.later(2 * SECOND, host, Event::Reopen(connection));
            }
            return self.open_watch(host);
        }
        self.lose_watch(host, MS);
    }

    fn open_watch(&mut self, host: usize) {
        if let Some(agent) = &mut self.hosts[host].agent {
            agent.watch.open = true;
        }
        self.pump(host);
    }

    /// The list that was to be compared has come; the watch goes on where it stood.
    pub fn compared(&mut self, host: usize, connection: u64, version: Version, mut all: Vec<Record>) {
        let speaks = self.hosts[host].speaks;
        let Some(agent) = &mut self.hosts[host].agent else { return };
        if agent.watch.connection != connection {
            return;
        }
        all.iter_mut().for_each(|record| speaks.translate(record, false));
        agent.watch.uncompared = false;
        agent.watch.after = agent.watch.after.min(version);
        self.deliver(host, Input::Compared(version, all));
        self.open_watch(host);
    }

    /// The server's store is another, of which nothing is sent that is not newer than what was seen of the one before.
    pub fn follow_another_store(&mut self, host: usize, after: u64) {
        let cursor = self.store.log.len();
        let Some(agent) = &mut self.hosts[host].agent else { return };
        if !agent.watch.listed {
            return self.lose_watch(host, after);
        }
        agent.watch.connection += 1;
        agent.watch.open = false;
        agent.watch.uncompared = true;
        agent.watch.after = agent.machine.view().watched_version();
        agent.watch.cursor = agent.watch.cursor.min(cursor);
        let connection = agent.watch.connection;
        self.later(after, host, Event::Reopen(connection));
        self.deliver(host, Input::Unchecked);
    }

    /// The version can't be continued from (410 Gone).
    pub fn lose_watch(&mut self, host: usize, after: u64) {
        let Some(agent) = &mut self.hosts[host].agent else { return };
        agent.watch.connection += 1;
        (agent.watch.open, agent.watch.listed) = (false, false);
        let connection = agent.watch.connection;
        self.deliver(host, Input::WatchBroke);
        self.later(after, host, Event::List(connection));
    }

    pub fn list(&mut self, host: usize, connection: u64) {
        if !self.reaches(host) || self.hosts[host].refused || self.rng.per_mille(self.weather.loss) {
            let spoke = self.reaches(host) && self.hosts[host].refused;
            self.later(SECOND, host, Event::List(connection));
            return self.deliver(host, if spoke { Input::Spoke } else { Input::Unanswered });
        }
        let (version, records) = (self.version(), self.store.objects.values().cloned().collect());
        let (delay, cursor) = (self.latency().min(9 * SECOND), self.store.log.len());
        self.later(delay, host, Event::Listed(connection, version, records, cursor));
    }

    pub fn listed(
        &mut self,
        host: usize,
        connection: u64,
        version: Version,
        all: Vec<Record>,
        cursor: usize,
    ) {
        let speaks = self.hosts[host].speaks;
        let Some(agent) = &mut self.hosts[host].agent else { return };
        if agent.watch.connection != connection {
            return;
        }
        let mut all = all;
        all.iter_mut().for_each(|record| speaks.translate(record, false));
        (agent.watch.open, agent.watch.listed) = (true, true);
        agent.watch.uncompared = false;
        agent.watch.after = version;
        agent.watch.cursor = cursor;
        self.deliver(host, Input::Listed(version, all));
        self.pump(host);
    }
}

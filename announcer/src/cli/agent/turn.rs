//! The agent's one loop: observe → decide → make the kernel match → write → announce.
//!
//! The loop that renews the session is the loop that applies results to the kernel, and it renews after it has
//! applied: a wedged loop cannot renew. Everything that is slow (requests, probes, multicast groups) runs beside it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures::StreamExt;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
    time::{sleep, sleep_until},
};
use tracing::{debug, info, warn};
use tracing_appender::non_blocking::ErrorCounter;

use super::{
    OnShutdown,
    beside::Beside,
    deciding::{Deciding, POLICY, PolicyFailed},
    owed::Owed,
    state::Said,
};
use crate::{
    cli::{
        kernel::{NewOwners, PauseWatch, owned_on, owner_table},
        station::{Station, ticker},
        tasks::{self, Tasks},
    },
    datapath::DatapathError,
    election::{
        Answer, Challenged, Input, Leases, Machine, Probed, Request, Rival, SilentPeers, Token, Witness,
    },
    kube::{Heard, Node, Snapshot},
    policy::{Demand, Interfaces, LinkPlan},
    report::{
        health::Health,
        metrics::{Counted, LeaseKind, LeaseOutcome, Metrics, Suppressed},
    },
    vocabulary::{BootNs, Link, LinkId, Mac, Vip},
    wire::{
        self,
        detector::{Detection, Peer, Silent, Watching},
        hearing::Losses,
        links::LinkView,
        probe::{Failures, Plan, Survey, probe},
        segments::{SegmentWatch, Segments},
        select::{Excludes, Selection, select},
    },
};

/// The loop turns at least this often: liveness, gauges, conflicts and the watch for pauses hang on it.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Every held VIP is proven at least this often.
const PROOFS: Duration = Duration::from_secs(10);
/// How much of what has come in meanwhile is decided on at once: with a thousand VIPs on their way, each decision costs.
const BATCH: usize = 256;
/// How long a leaving node may take to hand over: a Pod is killed 10 s after SIGTERM.
const HANDOVER: Duration = Duration::from_secs(8);
/// Three probes (RFC 5227 §2.1.1), as fast as kernels answer: they take well under a millisecond.
const PROBES: Plan = Plan { count: 3, spacing: Duration::from_millis(20), wait: Duration::from_millis(40) };
/// How often, and after which pause, what is held and could not be asked for is asked for again in one round.
const CHALLENGES: usize = 3;
const CHALLENGE_AGAIN: Duration = Duration::from_millis(300);
/// What keeps addresses from being asked for is told this often.
const UNASKED_INTERVAL: Duration = Duration::from_secs(60);

/// What the kernel counted, as the metrics server gets it.
pub(super) type SharedCounts = Arc<std::sync::Mutex<Counted>>;

/// What came back from beside the loop.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Of an API request; the kind of Lease, if it was a write.
    Answered(Token, Option<LeaseKind>, Box<Answer>),
    /// Of probes of VIPs that we would take, and what kept which from being asked for.
    Probed(Vec<(Vip, Probed)>, Failures),
    /// Of probes of what we hold; `None`: not one could be asked for.
    Challenged(Option<Challenged>, Failures),
}

/// Everything the loop owns.
pub(super) struct Agent {
    pub(super) node: String,
    pub(super) excludes: Excludes,
    pub(super) on_shutdown: OnShutdown,
    pub(super) machine: Machine,
    pub(super) leases: Leases,
    /// When the API server last said anything.
    pub(super) heard: Heard,
    pub(super) metrics: Arc<Metrics>,
    pub(super) counts: SharedCounts,
    pub(super) suppressed: Suppressed,
    pub(super) health: Arc<Health>,
    pub(super) outcomes: mpsc::UnboundedSender<Outcome>,
    pub(super) detection: Detection,
    /// What arrived on the wire and could not be read in time.
    pub(super) losses: Losses,
    /// What was last said to keep addresses from being asked for, and when.
    pub(super) unasked: Option<(Failures, Instant)>,
    /// Addresses of other nodes, which show that we are not cut off.
    pub(super) bystanders: BTreeSet<Vip>,
    /// This Node's InternalIPs.
    pub(super) addresses: BTreeSet<Vip>,
    pub(super) segment_watch: SegmentWatch,
    /// Which of this node's links are on one segment.
    pub(super) segments: Segments,
    pub(super) station: Station,
    pub(super) snapshot: Option<Arc<Snapshot>>,
    /// Where the program was last told to go.
    pub(super) plan: Option<LinkPlan>,
    /// What the cluster asks for.
    pub(super) whole: Option<Arc<Demand>>,
    /// The same as this node can serve it.
    pub(super) demand: Option<Arc<Demand>>,
    /// Addresses that this node's tables have no room for.
    pub(super) beyond: BTreeSet<Vip>,
    pub(super) said: Said,
    /// The demand or the links have changed since the kernel was told who owns what.
    pub(super) stale: bool,
    pub(super) beside: Beside,
    /// Log lines that nobody took.
    pub(super) log_lost: ErrorCounter,
    pub(super) pauses: PauseWatch,
    /// Links that carry again: nothing is announced there before our session was read.
    pub(super) restarted: BTreeSet<LinkId>,
    /// Policy failed on the latest view of the cluster; its next decision clears it.
    pub(super) policy_failed: bool,
    /// What runs beside the loop.
    pub(super) tasks: Tasks,
    /// Those of it that tests want to see fail.
    pub(super) victims: VecDeque<String>,
}

impl Agent {
    /// Runs until a signal ends it.
    pub(super) async fn run(
        mut self,
        mut links: watch::Receiver<Arc<LinkView>>,
        mut deciding: Deciding,
        mut outcomes: mpsc::UnboundedReceiver<Outcome>,
    ) -> anyhow::Result<()> {
        let mut leases = std::pin::pin!(self.leases.observe().ready_chunks(BATCH));
        let mut came_back = Vec::new();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (mut heartbeat, mut proofs) = (ticker(HEARTBEAT), ticker(PROOFS));
        let mut silent = self.detection.silent();
        let mut segments = self.segment_watch.found();
        let mut to_fail =
            (!self.victims.is_empty()).then(|| signal(SignalKind::user_defined2())).transpose()?;
        self.tasks.names().chain([POLICY]).for_each(|task| self.metrics.task_known(task));
        let mut leaving: Option<Instant> = None;
        loop {
            let due = self.next_due();
            tokio::select! {
                biased;
                _ = terminate.recv(), if leaving.is_none() => leaving = Some(self.leave()?),
                _ = interrupt.recv(), if leaving.is_none() => leaving = Some(self.leave()?),
                1.. = outcomes.recv_many(&mut came_back, BATCH) => self.came_back(std::mem::take(&mut came_back))?,
                changed = silent.changed() => {
                    changed.context("nobody asks other nodes on the wire any more")?;
                    let silent = self.silent_peers(&silent.borrow_and_update());
                    self.turn(Input::Silent(silent))?;
                }
                inputs = leases.next() => {
                    self.turn_all(inputs.context("nobody watches Leases any more")?)?;
                }
                changed = links.changed() => {
                    changed.context("nobody follows the links of this node any more")?;
                    let view = links.borrow_and_update().clone();
                    self.links_changed(view)?;
                }
                changed = segments.changed() => {
                    changed.context("nobody looks for interfaces on one segment any more")?;
                    let found = segments.borrow_and_update().clone();
                    self.segments_changed(found)?;
                }
                decided = deciding.next() => {
                    let begun = Instant::now();
                    self.policy_failed = decided.is_err();
                    match decided {
                        Ok(decided) => self.decided(decided)?,
                        Err(PolicyFailed) => {
                            self.metrics.task_restarted(POLICY);
                            self.publish(BootNs::now())?;
                        }
                    }
                    deciding.rest(begun.elapsed());
                }
                change = self.tasks.next() => self.task_changed(change)?,
                () = told(&mut to_fail) => self.fail_a_task(),
                _ = proofs.tick() => {
                    self.attach_again()?;
                    self.write_again()?;
                    self.station.prove();
                    self.metrics.pins_mended(self.station.mend());
                }
                _ = heartbeat.tick() => self.beat()?,
                () = sleep_until(due.into()) => self.turn(Input::Tick)?,
            }
            if !self.restarted.is_empty() && self.machine.is_sure(BootNs::now()) {
                self.station.announce_on(&std::mem::take(&mut self.restarted));
            }
            let sent = self.station.announce();
            self.metrics.gratuitous_sent(&sent);
            if leaving.is_some_and(|by| self.may_go(by)) {
                if self.machine.is_busy() {
                    warn!(
                        node = self.node,
                        "the API server did not answer in time: other nodes wait until the lease of this one is over"
                    );
                }
                info!(node = self.node, held = self.machine.target().held.len(), "announcer stopped");
                return Ok(());
            }
        }
    }

    /// One step of the election: the kernel first, then the requests.
    pub(super) fn turn(&mut self, input: Input) -> Result<(), DatapathError> {
        self.turn_all(vec![input])
    }

    /// The same for several observations.
    fn turn_all(&mut self, inputs: Vec<Input>) -> Result<(), DatapathError> {
        let margin = i128::try_from(self.machine.times().margin.as_nanos()).unwrap_or(i128::MAX);
        let mut requests = Vec::new();
        if self.pauses.jump() > margin / 2 {
            warn!(
                node = self.node,
                "the clocks jumped apart, as after a hypervisor's pause: silent until renewed"
            );
            requests = self.machine.step(BootNs::now(), Input::ClockJumped);
            self.follow()?;
        }
        requests.append(&mut self.machine.step_all(BootNs::now(), inputs));
        self.follow()?;
        self.hush();
        self.watch_peers();
        let changes: Vec<_> = self.machine.take_changes().collect();
        for change in changes {
            self.tell(&change);
        }
        let mut would_take = BTreeMap::new();
        for (token, request) in requests {
            match request {
                Request::Probe(vip) => {
                    would_take.insert(vip, self.links_for(vip));
                }
                Request::Challenge => self.challenge(),
                Request::Relist => self.leases.begin_anew(),
                request => self.send(token, request),
            }
        }
        if !would_take.is_empty() {
            self.probe(would_take);
        }
        Ok(())
    }

    /// Makes the kernel match the election's target, and starts or ends announcing what that changed.
    pub(super) fn follow(&mut self) -> Result<(), DatapathError> {
        let written = self.station.kernel.target().deadline;
        if written <= BootNs::now() {
            self.machine.too_late_to_hold(written);
        }
        let target = self.machine.target();
        let last = self.station.kernel.target();
        let moved: Vec<Vip> = last.held.symmetric_difference(&target.held).copied().collect();
        let stuck = self.station.kernel.stuck_for().is_some();
        let stale = self.stale || stuck || last.session != target.session;
        if !stale && moved.is_empty() {
            return self.station.kernel.set_deadline(target.deadline);
        }
        let target = target.clone();
        // Thousands of VIPs are announced on the same few selections of links.
        let mut selected: Vec<(&Interfaces, BTreeSet<LinkId>)> = Vec::new();
        let on = |interfaces| match selected.iter().find(|(known, _)| *known == interfaces) {
            Some((_, links)) => links.clone(),
            None => {
                let links = self.on(interfaces);
                selected.push((interfaces, links.clone()));
                links
            }
        };
        let before = self.station.kernel.owners();
        let demand = self.demand.as_deref();
        // One that the stack has itself comes into the table and goes from it.
        let own = &self.station.view.own;
        let is_known = |vip: &Vip| before.vips.contains_key(vip) && !own.contains(vip);
        let known = demand.filter(|_| !stale && moved.iter().all(is_known));
        let owners = match known {
            Some(demand) => NewOwners::Of(owned_on(&moved, &target.held, demand, &self.node, on)),
            None => {
                let mut owners = owner_table(&target.held, demand, &self.node, on, before, own);
                owners.vips.retain(|vip, _| !self.beyond.contains(vip) || target.held.contains(vip));
                NewOwners::All(owners)
            }
        };
        let begun = Instant::now();
        self.station.follow(&target, owners)?;
        self.stale = false;
        debug!(
            node = self.node,
            held = target.held.len(),
            moved = moved.len(),
            took_us = begun.elapsed().as_micros() as u64,
            "kernel follows the election"
        );
        Ok(())
    }

    /// The links on which such a VIP is announced: those that carry the program, and of several on one segment one.
    fn on(&self, interfaces: &Interfaces) -> BTreeSet<LinkId> {
        let attached = self.station.kernel.datapath.attachments();
        let links =
            self.select(interfaces).links.into_iter().filter(|id| attached.contains_key(id)).collect();
        self.segments.choose(&links, &self.station.view, &self.addresses).answer
    }

    /// This node's links for such a VIP.
    pub(super) fn select(&self, interfaces: &Interfaces) -> Selection {
        select(interfaces, &self.station.view, &self.excludes, &self.addresses)
    }

    fn send(&mut self, token: Token, request: Request) {
        let kind = match &request {
            Request::Put(record) if record.name().starts_with("session-") => Some(LeaseKind::Session),
            Request::Put(_) => Some(LeaseKind::Claim),
            _ => None,
        };
        let leases = self.leases.clone();
        let owed = self.owes("lease-request", Outcome::Answered(token, kind, Box::new(Answer::Lost)));
        tokio::spawn(async move {
            let answer = Box::new(leases.perform(request).await);
            owed.settle(Outcome::Answered(token, kind, answer));
        });
    }

    fn owes(&self, task: &'static str, if_lost: Outcome) -> Owed {
        Owed::new(task, self.outcomes.clone(), self.metrics.clone(), if_lost)
    }

    /// A task beside the loop ended, or was started again: whether this agent is ready is told at once.
    fn task_changed(&mut self, change: tasks::Change) -> Result<(), DatapathError> {
        if let tasks::Change::Restarted(task) = change {
            self.metrics.task_restarted(task);
        }
        self.publish(BootNs::now())
    }

    fn fail_a_task(&mut self) {
        if let Some(name) = self.victims.pop_front()
            && !self.tasks.kill(&name)
        {
            let tasks = self.tasks.names().collect::<Vec<_>>().join(", ");
            warn!(name, tasks, "No task of this name can be made to fail");
        }
    }

    /// Asks whether anybody uses VIPs that we would take. Each has an outcome of its own.
    fn probe(&self, questions: BTreeMap<Vip, Vec<Link>>) {
        let (own, losses) = (self.station.view.macs(), self.losses.clone());
        let failed = questions.keys().map(|vip| (*vip, Probed::Failed)).collect();
        let owed = self.owes("probe", Outcome::Probed(failed, Failures::default()));
        tokio::spawn(async move {
            let Survey { verdicts, failures } = probe(&questions, &own, PROBES, &losses).await;
            let probed = verdicts.into_iter().map(|(vip, verdict)| match verdict {
                Ok(wire::probe::Probed { answered_by: Some((_, mac)), .. }) => (vip, Probed::InUse(mac)),
                Ok(_) => (vip, Probed::Unused),
                Err(_) => (vip, Probed::Failed),
            });
            owed.settle(Outcome::Probed(probed.collect(), failures));
        });
    }

    /// Asks whether anybody else uses what our kernel owns, wherever it can be asked. What cannot be asked for is tried
    /// again, alone, before it counts as not asked.
    fn challenge(&self) {
        let mut questions: BTreeMap<Vip, Vec<Link>> = BTreeMap::new();
        for (vip, link) in self.station.kernel.owned() {
            if let Some(link) = self.station.view.links.get(&link).filter(|link| link.carrier) {
                questions.entry(vip).or_default().push(link.clone());
            }
        }
        let owed = self.owes("challenge", Outcome::Challenged(None, Failures::default()));
        let (own, losses) = (self.station.view.macs(), self.losses.clone());
        let ours: BTreeMap<LinkId, Mac> =
            self.station.view.links.iter().map(|(id, l)| (*id, l.mac)).collect();
        let rival = move |(link, mac): (LinkId, Mac)| match ours.get(&link).is_none_or(|ours| mac < *ours) {
            true => Rival::Lower,
            false => Rival::Higher,
        };
        tokio::spawn(async move {
            let mut round = Challenged { asked: BTreeSet::new(), answered: BTreeMap::new() };
            let mut failures = Failures::default();
            for attempt in 0..CHALLENGES {
                if attempt > 0 {
                    sleep(CHALLENGE_AGAIN).await;
                }
                let survey = probe(&questions, &own, PROBES, &losses).await;
                failures = survey.failures;
                for (vip, verdict) in survey.verdicts {
                    match verdict {
                        Ok(said) => {
                            round.asked.insert(vip);
                            round.answered.extend(said.answered_by.map(|by| (vip, rival(by))));
                        }
                        // Who floods a link must not silence what is held: our kernel hears its rivals all the same.
                        Err(error) if error.is_deaf() => drop(round.asked.insert(vip)),
                        Err(_) => {}
                    }
                }
                questions.retain(|vip, _| !round.asked.contains(vip));
                if questions.is_empty() || round.asked.is_empty() {
                    break;
                }
            }
            let round = (!round.asked.is_empty()).then_some(round);
            owed.settle(Outcome::Challenged(round, failures));
        });
    }

    /// Names what kept addresses from being asked for: once, and again after a minute.
    fn tell_unasked(&mut self, failures: Failures) {
        let known = self
            .unasked
            .as_ref()
            .is_some_and(|(before, at)| failures.are_known(before) && at.elapsed() < UNASKED_INTERVAL);
        if !failures.is_empty() && !known {
            warn!(node = self.node, %failures, "Cannot ask for addresses on the wire; trying again");
            self.unasked = Some((failures, Instant::now()));
        }
    }

    /// Tells the detector whom to ask, and where.
    fn watch_peers(&self) {
        let carrying = self.station.carrying().into_iter().filter(|(_, link)| link.carrier);
        let links: BTreeMap<LinkId, Link> = carrying.collect();
        let id = |name: &str| {
            self.station.view.named(name).map(|link| link.id).filter(|id| links.contains_key(id))
        };
        let watched = self.machine.watched().iter().filter_map(|((node, link), watched)| {
            Some(((id(link)?, node.clone()), Peer { vips: watched.vips.clone(), doubted: watched.doubted }))
        });
        let peers = watched.collect();
        self.detection.watch(Watching { links, peers, nodes: self.bystanders.clone() });
    }

    /// What the detector says, in the election's words.
    fn silent_peers(&self, silent: &Silent) -> SilentPeers {
        let said = |((link, node), witness): (&(LinkId, String), &wire::detector::Witness)| {
            let witness = match witness {
                wire::detector::Witness::Peer => Witness::Peer,
                wire::detector::Witness::Gateway => Witness::Gateway,
            };
            ((node.clone(), self.station.name(*link)), witness)
        };
        silent.iter().map(said).collect()
    }

    /// The links on which this node would announce a VIP.
    fn links_for(&self, vip: Vip) -> Vec<Link> {
        let wanted = self.demand.as_ref().and_then(|demand| demand.vips.get(&vip));
        let Some(candidate) = wanted.and_then(|wanted| wanted.candidates.get(&self.node)) else {
            return Vec::new();
        };
        let on = self.on(&candidate.interfaces);
        // Nobody can be asked on the others, and nobody answers there.
        let up = on.iter().filter_map(|id| self.station.view.links.get(id)).filter(|link| link.carrier);
        up.cloned().collect()
    }

    fn came_back(&mut self, outcomes: Vec<Outcome>) -> Result<(), DatapathError> {
        let mut inputs = Vec::new();
        for outcome in outcomes {
            match outcome {
                Outcome::Probed(probed, failures) => {
                    self.tell_unasked(failures);
                    inputs.extend(probed.into_iter().map(|(vip, probed)| Input::Probed(vip, probed)));
                }
                Outcome::Challenged(round, failures) => {
                    self.tell_unasked(failures);
                    inputs.push(Input::Challenged(round));
                }
                Outcome::Answered(token, kind, answer) => {
                    if let Some(kind) = kind {
                        let outcome = match *answer {
                            Answer::Done(_) => LeaseOutcome::Ok,
                            Answer::Conflict => LeaseOutcome::Conflict,
                            _ => LeaseOutcome::Error,
                        };
                        self.metrics.lease_written(kind, outcome);
                    }
                    inputs.push(Input::Answered(token, *answer));
                }
            }
        }
        self.turn_all(inputs)
    }

    /// When something is to be done without anything having happened.
    fn next_due(&self) -> Instant {
        let now = Instant::now();
        self.station.next_due(self.machine.wake_at().map(|at| now + at.until(BootNs::now())))
    }

    /// A signal: hand over if the node is going away, else keep everything for the next agent.
    fn leave(&mut self) -> Result<Instant, DatapathError> {
        let own = self.snapshot.as_ref().map(|snapshot| snapshot.own_node(&self.node));
        let leaving = match self.on_shutdown {
            OnShutdown::Auto => own.is_some_and(|node| node.is_none_or(Node::leaving)),
            OnShutdown::Keep => false,
            OnShutdown::Release => true,
        };
        info!(node = self.node, hand_over = leaving, "announcer is told to stop");
        self.turn(Input::Shutdown(leaving))?;
        Ok(Instant::now() + HANDOVER)
    }

    /// Whether a leaving agent may end: its last request is answered, and what it had to hand over is taken.
    fn may_go(&self, by: Instant) -> bool {
        !self.machine.is_busy() || by <= Instant::now()
    }
}

/// Waits for this signal, if there is one to wait for.
async fn told(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

//! The agent's one loop: observe → decide → make the kernel match → write → announce.
//!
//! The loop that renews the session is the loop that applies results to the kernel, and it renews after it has
//! applied: a wedged loop cannot renew. Everything that is slow (requests, probes, multicast groups) runs beside it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval, sleep_until},
};
use tracing::{info, warn};

use super::kernel::{Kernel, PauseWatch, owner_table};
use crate::{
    datapath::{DatapathError, LinkReport},
    election::{Answer, Input, Leases, Machine, Request, Token},
    kube::Snapshot,
    policy::{self, Demand, Options},
    report::{Changes, Health, KernelCounts, LeaseKind, LeaseOutcome, Metrics, Ownership},
    vocabulary::{BootNs, LinkId, Vip},
    wire::{
        announcements::Schedule,
        groups::Groups,
        links::LinkView,
        probe::probe,
        select::{Excludes, select},
        sender::{Sender, send_due},
    },
};

/// The loop turns at least this often: liveness, gauges and the watch for pauses hang on it.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Every held VIP is proven at least this often.
const PROOFS: Duration = Duration::from_secs(10);
const SUMMARY: Duration = Duration::from_secs(600);
/// How long a leaving node may take to hand over: a Pod is killed 10 s after SIGTERM.
const HANDOVER: Duration = Duration::from_secs(8);

/// Kernel counters by VIP and interface, as the metrics server last got them.
pub(super) type SharedCounts = Arc<std::sync::Mutex<Vec<KernelCounts>>>;

/// What came back from beside the loop.
pub(super) enum Outcome {
    /// Of an API request: kind, and how it ended.
    Answered(Token, Option<LeaseKind>, Answer),
    /// Of probes.
    Probed(Vip, Option<crate::vocabulary::Mac>),
}

/// Everything the loop owns.
pub(super) struct Agent {
    pub(super) node: String,
    pub(super) options: Options,
    pub(super) excludes: Excludes,
    pub(super) machine: Machine,
    pub(super) kernel: Kernel,
    pub(super) leases: Leases,
    pub(super) schedule: Schedule,
    pub(super) sender: Sender,
    pub(super) groups: Groups,
    pub(super) changes: Changes,
    pub(super) metrics: Arc<Metrics>,
    pub(super) counts: SharedCounts,
    pub(super) health: Arc<Health>,
    pub(super) outcomes: mpsc::UnboundedSender<Outcome>,
    pub(super) view: Arc<LinkView>,
    pub(super) snapshot: Option<Arc<Snapshot>>,
    pub(super) demand: Option<Arc<Demand>>,
    /// Links that carry the program.
    pub(super) attached: BTreeSet<LinkId>,
    /// What was last published of links, invalid objects and missing interfaces: said again only when it changes.
    pub(super) said: Said,
    pub(super) pauses: PauseWatch,
    pub(super) unanswered: BTreeSet<(Vip, LinkId)>,
}

/// What was last said about things that last.
#[derive(Default)]
pub(super) struct Said {
    links: BTreeSet<String>,
    invalid: Vec<String>,
    missing: BTreeSet<String>,
    failed: BTreeMap<LinkId, String>,
}

impl Agent {
    /// Runs until a signal ends it.
    pub(super) async fn run(
        mut self,
        mut links: watch::Receiver<Arc<LinkView>>,
        mut snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
        mut outcomes: mpsc::UnboundedReceiver<Outcome>,
    ) -> anyhow::Result<()> {
        let mut leases = std::pin::pin!(self.leases.observe());
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut heartbeat = ticker(HEARTBEAT);
        let mut proofs = ticker(PROOFS);
        let mut summary = ticker(SUMMARY);
        summary.reset();
        let mut conflicts = self.kernel.datapath.events()?;
        let mut leaving: Option<Instant> = None;

        self.links_changed().await?;
        loop {
            let due = self.next_due(leaving);
            tokio::select! {
                biased;
                _ = terminate.recv(), if leaving.is_none() => leaving = Some(self.leave()?),
                _ = interrupt.recv(), if leaving.is_none() => leaving = Some(self.leave()?),
                Some(outcome) = outcomes.recv() => self.came_back(outcome)?,
                Some(input) = leases.next() => self.turn(input)?,
                Ok(()) = links.changed() => {
                    let view = links.borrow_and_update().clone();
                    let before = std::mem::replace(&mut self.view, view);
                    self.restarted_links(&before);
                    self.links_changed().await?;
                }
                Ok(()) = snapshots.changed() => {
                    let snapshot = snapshots.borrow_and_update().clone();
                    self.snapshot_changed(snapshot).await?;
                }
                Some(conflict) = conflicts.next() => self.conflict(conflict),
                _ = proofs.tick() => self.prove(),
                _ = summary.tick() => self.changes.summary(self.machine.target().held.len(), self.kernel.owners().vips.len()),
                _ = heartbeat.tick() => self.beat()?,
                () = sleep_until(due.into()) => self.turn(Input::Tick)?,
            }
            self.announce();
            if let Some(deadline) = leaving
                && self.may_go(deadline)
            {
                info!(node = %self.node, "Announcer stops");
                return Ok(());
            }
        }
    }

    /// One step of the election: the kernel first, then the requests.
    fn turn(&mut self, input: Input) -> Result<(), DatapathError> {
        let requests = self.machine.step(BootNs::now(), input);
        self.follow()?;
        for change in self.machine.take_changes() {
            self.changes.tell(&change, self.demand.as_deref());
        }
        for (token, request) in requests {
            self.send(token, request);
        }
        self.health.turned(BootNs::now());
        Ok(())
    }

    /// Makes the kernel match the election's target, and starts or ends announcing what that changed.
    fn follow(&mut self) -> Result<(), DatapathError> {
        let target = self.machine.target();
        let links: BTreeMap<_, _> =
            self.view.links.iter().filter(|(id, _)| self.attached.contains(id)).map(|(id, l)| (*id, l.clone())).collect();
        let owners = owner_table(&target.held, self.demand.as_deref(), &self.node, &links, self.kernel.owners());
        if self.kernel.matches(target, &owners) {
            return Ok(());
        }
        let applied = self.kernel.follow(target, owners)?;
        let now = Instant::now();
        for (vip, link) in applied.lost {
            self.schedule.withdraw(vip, link);
            self.unanswered.remove(&(vip, link));
        }
        let mut gained = false;
        for (vip, link) in applied.gained {
            self.schedule.announce(vip, link, now);
            gained = true;
        }
        self.groups.want(self.kernel.groups());
        if gained {
            self.prove();
        }
        Ok(())
    }

    fn send(&mut self, token: Token, request: Request) {
        let outcomes = self.outcomes.clone();
        if let Request::Probe(vip) = request {
            let links: Vec<_> = self.announcing_links(vip);
            tokio::spawn(async move {
                let answered_by = probe(vip, &links).await.unwrap_or_else(|error| {
                    warn!(ip = %vip, %error, "Cannot probe; taking the address for unused");
                    None
                });
                let _ = outcomes.send(Outcome::Probed(vip, answered_by));
            });
            return;
        }
        let kind = match &request {
            Request::Put(record) => Some(LeaseKind::of(record)),
            _ => None,
        };
        let leases = self.leases.clone();
        tokio::spawn(async move {
            let answer = leases.perform(request).await;
            let _ = outcomes.send(Outcome::Answered(token, kind, answer));
        });
    }

    fn came_back(&mut self, outcome: Outcome) -> Result<(), DatapathError> {
        match outcome {
            Outcome::Probed(vip, by) => self.turn(Input::Probed(vip, by)),
            Outcome::Answered(token, kind, answer) => {
                if let Some(kind) = kind {
                    let outcome = match answer {
                        Answer::Done(_) => LeaseOutcome::Ok,
                        Answer::Conflict => LeaseOutcome::Conflict,
                        _ => LeaseOutcome::Error,
                    };
                    self.metrics.lease_written(kind, outcome);
                }
                self.turn(Input::Answered(token, answer))
            }
        }
    }
}

fn ticker(every: Duration) -> tokio::time::Interval {
    let mut ticker = interval(every);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticker
}

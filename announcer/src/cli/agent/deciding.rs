//! Policy beside the agent's loop: what a Snapshot asks for is worked out on a thread of its own, and for a tenth of the
//! time at most, so that a tenant who changes labels in a loop costs no node its loop.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_blocking},
    time::{Instant, sleep_until},
};
use tracing::error;

use crate::{
    kube::Snapshot,
    policy::{self, Damped, Damping, Decision, Demand, LinkPlan, Options},
    vocabulary::Vip,
};

/// What takes long is done more rarely: to decide, and to act upon what was decided, takes a tenth of the time each.
const COST_FACTOR: u32 = 10;

/// Before the view on which policy failed is decided again: at first, and at most. The pause doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The name under which a failure of policy is counted and told, as if it were a task.
pub(super) const POLICY: &str = "policy";

/// Policy panicked on a view of the cluster. The decision before stays in force, and the view is decided again later.
#[derive(Debug)]
pub(super) struct PolicyFailed;

/// What was decided, and from what.
#[derive(Clone, Debug)]
pub(super) struct Decided {
    pub(super) snapshot: Arc<Snapshot>,
    /// The very one of the decision before, if nothing else is asked for.
    pub(super) demand: Arc<Demand>,
    /// See [`Decision::clashes`].
    pub(super) clashes: BTreeMap<Vip, String>,
    /// Where the program goes on this node.
    pub(super) plan: LinkPlan,
    /// What is not trusted at the moment.
    pub(super) damped: Damped,
}

/// Decides whenever the Snapshot changes, or what was not trusted is to be trusted again.
pub(super) struct Deciding {
    node: String,
    options: Options,
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    /// Nobody sends Snapshots any more.
    ended: bool,
    memory: Memory,
    running: Option<JoinHandle<(Memory, Decided, Duration)>>,
    decide: Decide,
    /// How long the next failure keeps policy from being asked again.
    pause: Duration,
    latest: Option<Arc<Snapshot>>,
    /// When the latest Snapshot is to be decided; `None`: it was, and nothing follows from time alone.
    due: Option<Instant>,
    /// Nothing is decided before.
    rested: Instant,
}

/// The work of the thread that decides.
type Decide = fn(Memory, &str, &Options, Arc<Snapshot>) -> (Memory, Decided);

/// What one decision leaves to the next: it goes to the thread that decides, and comes back.
#[derive(Default)]
struct Memory {
    damping: Damping,
    demand: Option<Arc<Demand>>,
}

impl Deciding {
    pub(super) fn new(
        node: String,
        options: Options,
        snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    ) -> Self {
        Self {
            node,
            options,
            snapshots,
            ended: false,
            memory: Memory::default(),
            running: None,
            decide: Memory::decide,
            pause: FIRST_PAUSE,
            latest: None,
            due: None,
            rested: Instant::now(),
        }
    }

    /// The next decision, or that policy failed. Whoever stops waiting for it loses nothing.
    pub(super) async fn next(&mut self) -> Result<Decided, PolicyFailed> {
        loop {
            if let Some(running) = &mut self.running {
                let done = running.await;
                self.running = None;
                match done {
                    Ok((memory, decided, took)) => {
                        self.memory = memory;
                        self.due = decided.damped.due().map(|left| Instant::now() + left);
                        self.rest(took);
                        self.pause = FIRST_PAUSE;
                        return Ok(decided);
                    }
                    Err(error) => {
                        let again_in_ms = self.pause.as_millis() as u64;
                        error!(
                            node = self.node,
                            %error,
                            again_in_ms,
                            "Policy failed on a view of the cluster; the last decision stays, and it is asked again"
                        );
                        self.rested = self.rested.max(Instant::now() + self.pause);
                        self.due = Some(self.rested);
                        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                        return Err(PolicyFailed);
                    }
                }
            }
            let due = self.due.filter(|_| self.latest.is_some()).map(|due| due.max(self.rested));
            tokio::select! {
                changed = self.snapshots.changed(), if !self.ended => {
                    self.ended = changed.is_err();
                    let latest = self.snapshots.borrow_and_update().clone();
                    if !self.ended && latest.is_some() {
                        self.latest = latest;
                        self.due = Some(self.rested);
                    }
                }
                () = sleep_until(due.unwrap_or(self.rested)), if due.is_some() => self.begin(),
                else => std::future::pending().await,
            }
        }
    }

    /// The next decision waits for ten times as long as the last one cost.
    pub(super) fn rest(&mut self, took: Duration) {
        self.rested = self.rested.max(Instant::now() + took * COST_FACTOR);
    }

    fn begin(&mut self) {
        let Some(snapshot) = self.latest.clone() else { return };
        self.due = None;
        let (node, options) = (self.node.clone(), self.options.clone());
        let (memory, decide) = (std::mem::take(&mut self.memory), self.decide);
        self.running = Some(spawn_blocking(move || {
            let begun = Instant::now();
            let (memory, decided) = decide(memory, &node, &options, snapshot);
            (memory, decided, begun.elapsed())
        }));
    }
}

impl Memory {
    fn decide(mut self, node: &str, options: &Options, snapshot: Arc<Snapshot>) -> (Self, Decided) {
        let mut decision = policy::decide(&snapshot, options);
        let damped = self.damping.damp(std::time::Instant::now(), &snapshot, options, &mut decision);
        let Decision { demand, clashes } = decision;
        let same = self.demand.take().filter(|last| **last == demand);
        let demand = same.unwrap_or_else(|| Arc::new(demand));
        self.demand = Some(demand.clone());
        let plan = policy::link_plan(&snapshot, node);
        (self, Decided { snapshot, demand, clashes, plan, damped })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A Service with this label.
    fn snapshot(label: &str) -> Option<Arc<Snapshot>> {
        let service = json!({
            "kind": "Service",
            "metadata": {"namespace": "web", "name": "s", "labels": {"a": label}},
            "spec": {"type": "LoadBalancer"},
        });
        Some(Arc::new(Snapshot::of_objects([service]).expect("a Service")))
    }

    fn deciding(snapshots: watch::Receiver<Option<Arc<Snapshot>>>) -> Deciding {
        Deciding::new("iris1".to_owned(), Options::default(), snapshots)
    }

    #[tokio::test(start_paused = true)]
    async fn a_label_that_changes_nothing_asks_for_the_very_same() {
        let (sender, snapshots) = watch::channel(None);
        let mut deciding = deciding(snapshots);
        sender.send_replace(snapshot("1"));
        let first = deciding.next().await.expect("a decision");
        sender.send_replace(snapshot("2"));
        let second = deciding.next().await.expect("a decision");
        assert_ne!(first.snapshot, second.snapshot);
        assert!(Arc::ptr_eq(&first.demand, &second.demand));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_acts_for_long_is_told_so_much_more_rarely_and_then_of_the_latest() {
        let (sender, snapshots) = watch::channel(None);
        let mut deciding = deciding(snapshots);
        sender.send_replace(snapshot("0"));
        deciding.next().await.expect("a decision");
        deciding.rest(Duration::from_millis(50));
        let begun = Instant::now();
        for change in 1..20 {
            sender.send_replace(snapshot(&change.to_string()));
            // A tenant's loop; whoever waits is called away all the time.
            let waited = tokio::time::timeout(Duration::from_millis(25), deciding.next()).await;
            assert!(waited.is_err(), "decided after {:?}", begun.elapsed());
        }
        let last = deciding.next().await.expect("a decision");
        assert_eq!(Some(last.snapshot), snapshot("19"));
        assert!(begun.elapsed() >= Duration::from_millis(500), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_has_ended_ends_no_decision() {
        let (sender, snapshots) = watch::channel(snapshot("1"));
        let mut deciding = deciding(snapshots);
        drop(sender);
        let idle = tokio::time::timeout(Duration::from_secs(1), deciding.next()).await;
        assert!(idle.is_err());
    }

    /// Policy with a fault: it panics on a Service with the label `bad`.
    fn faulty(memory: Memory, node: &str, options: &Options, snapshot: Arc<Snapshot>) -> (Memory, Decided) {
        let bad =
            snapshot.services.values().any(|service| service.labels.values().any(|label| label == "bad"));
        assert!(!bad, "a fault of policy");
        memory.decide(node, options, snapshot)
    }

    #[tokio::test(start_paused = true)]
    async fn a_view_on_which_policy_fails_is_told_asked_again_ever_more_rarely_and_over_when_it_changes() {
        let (sender, snapshots) = watch::channel(snapshot("bad"));
        let mut deciding = deciding(snapshots);
        deciding.decide = faulty;
        sender.send_replace(snapshot("bad"));
        assert!(deciding.next().await.is_err());
        for pause in [1, 2, 4] {
            let begun = Instant::now();
            assert!(deciding.next().await.is_err());
            assert!(begun.elapsed() >= Duration::from_secs(pause), "{:?}", begun.elapsed());
        }
        sender.send_replace(snapshot("good"));
        let decided = deciding.next().await.expect("a decision");
        assert_eq!(Some(decided.snapshot), snapshot("good"));
        sender.send_replace(snapshot("bad"));
        assert!(deciding.next().await.is_err());
        let begun = Instant::now();
        assert!(deciding.next().await.is_err());
        assert!(begun.elapsed() < Duration::from_secs(2), "the pause begins anew: {:?}", begun.elapsed());
    }
}

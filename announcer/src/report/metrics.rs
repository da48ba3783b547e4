//! What Prometheus reads: the last state the agent set, and the kernel's counters at the moment of the scrape.

mod exposition;
mod suppressed;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;

pub use exposition::CONTENT_TYPE;
pub use suppressed::Suppressed;

use crate::{
    kube::{InvalidObject, ObjectKey, UnreadableObject},
    vocabulary::{BootNs, Vip},
};

/// How long a page that was rendered serves others who ask.
const FRESH: Duration = Duration::from_secs(1);

/// The numbers of one node, set by the agent's loop and read by the metrics server. No global: tests make their own.
pub struct Metrics {
    node: String,
    kernel: Box<dyn Fn() -> Counted + Send + Sync>,
    state: Mutex<State>,
    /// What was rendered last, and when.
    page: Mutex<Option<(BootNs, Bytes)>>,
}

/// What the kernel counted.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Counted {
    /// For what this node owns.
    pub owned: Vec<KernelCounts>,
    /// Questions dropped because another node owns the address, by the name of the link.
    pub suppressed: BTreeMap<String, u64>,
}

/// What the kernel counted for one VIP on one link that it is owned on, since the slot was taken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KernelCounts {
    /// The VIP.
    pub vip: Vip,
    /// The link's name.
    pub interface: String,
    /// ARP requests and Neighbour Solicitations for it, while it was owned.
    pub requests: u64,
    /// Those answered.
    pub replies: u64,
    /// Those dropped because the deadline had passed or the epoch was another.
    pub fenced: u64,
    /// Frames of a foreign host that claimed it.
    pub conflicts: u64,
    /// Those of them that were to be told and found the ring to the agent full.
    pub conflicts_lost: u64,
}

/// How much there is no room for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct NoRoom {
    /// Addresses that nobody announces, for the cluster has too many.
    pub cluster: usize,
    /// Addresses that this node does not announce, for its tables have no room.
    pub node: usize,
    /// Entries that the kernel would not write, for whatever reason.
    pub entries: usize,
}

/// What the agent's loop knows after a turn.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Ownership {
    /// VIPs held, each with the Services (`namespace/name`) that carry it.
    pub held: BTreeMap<Vip, Vec<String>>,
    /// VIPs held whose proof failed: the kernel would not answer.
    pub unanswered: usize,
    /// The kernel's deadline; [`BootNs::NONE`] while fenced.
    pub deadline: BootNs,
    /// The session's epoch.
    pub epoch: u64,
}

/// Which Lease a write was for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub enum LeaseKind {
    /// This node's or a fenced node's session.
    Session,
    /// A VIP's claim.
    Claim,
}

/// How a write to a Lease ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub enum LeaseOutcome {
    /// Committed.
    Ok,
    /// 409: somebody else wrote first.
    Conflict,
    /// Any other answer, or none.
    Error,
}

/// What came in by the wire and was not heard.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Unheard {
    /// ARP and Neighbour Discovery frames that found the agent's socket full.
    pub frames_lost: u64,
    /// Claims of foreign hosts that found the kernel's ring full.
    pub conflicts_lost: u64,
    /// Neighbour Discovery messages that the kernel could not read.
    pub malformed: u64,
}

#[derive(Debug, Default)]
struct State {
    ownership: Ownership,
    no_room: NoRoom,
    /// `None` before the first view of the cluster.
    invalid_objects: Option<BTreeSet<(&'static str, ObjectKey)>>,
    /// Objects that cannot be read, by kind.
    unreadable_objects: BTreeMap<&'static str, u64>,
    events_lost: u64,
    unheard: Unheard,
    /// As it was last set.
    unheard_last: Unheard,
    log_lines_lost: u64,
    /// `None` before anything was asked.
    api_heard: Option<BootNs>,
    pins_mended: u64,
    lease_writes: BTreeMap<(LeaseKind, LeaseOutcome), u64>,
    /// How often each task beside the loop was started again.
    task_restarts: BTreeMap<&'static str, u64>,
    gratuitous: BTreeMap<Vip, u64>,
    /// Over all VIPs, forgotten ones too: a counter never falls.
    gratuitous_total: u64,
}

impl Metrics {
    /// `kernel` is called when a page is rendered, on the server's thread.
    pub fn new(node: impl Into<String>, kernel: impl Fn() -> Counted + Send + Sync + 'static) -> Self {
        Self { node: node.into(), kernel: Box::new(kernel), state: Mutex::default(), page: Mutex::default() }
    }

    /// The text of a scrape, rendered at most once a second for all who ask.
    pub fn page(&self, now: BootNs) -> Bytes {
        let mut page = self.page.lock().unwrap_or_else(PoisonError::into_inner);
        match &*page {
            Some((at, text)) if now.until(*at) < FRESH => text.clone(),
            _ => {
                let text = Bytes::from(self.render(now));
                *page = Some((now, text.clone()));
                text
            }
        }
    }

    /// Replaces what is known of ownership, and ends the series of what is not held any more.
    pub fn set_ownership(&self, ownership: Ownership) {
        self.with(|state| {
            state.gratuitous.retain(|vip, _| ownership.held.contains_key(vip));
            state.ownership = ownership;
        });
    }

    /// Replaces what there is no room for.
    pub fn set_no_room(&self, no_room: NoRoom) {
        self.with(|state| state.no_room = no_room);
    }

    /// Which objects of the cluster's configuration are invalid; the first call says that there is a configuration.
    pub fn set_invalid_objects(&self, invalid: &[InvalidObject]) {
        let invalid = invalid.iter().map(|object| (object.kind, object.key.clone())).collect();
        self.with(|state| state.invalid_objects = Some(invalid));
    }

    /// Which objects of the cluster cannot be read.
    pub fn set_unreadable_objects<'a>(&self, unreadable: impl IntoIterator<Item = &'a UnreadableObject>) {
        let mut by_kind = BTreeMap::new();
        unreadable.into_iter().for_each(|object| *by_kind.entry(object.kind).or_default() += 1);
        self.with(|state| state.unreadable_objects = by_kind);
    }

    /// When the API server last said anything.
    pub fn set_api_heard(&self, at: BootNs) {
        self.with(|state| state.api_heard = Some(at));
    }

    /// Kubernetes events that were not written, since the start.
    pub fn set_events_lost(&self, count: u64) {
        self.with(|state| state.events_lost = count);
    }

    /// What was not heard on the wire, as of now. Counts of what the kernel has forgotten stay: a counter never falls.
    pub fn set_unheard(&self, now: Unheard) {
        self.with(|state| {
            let last = std::mem::replace(&mut state.unheard_last, now);
            state.unheard.frames_lost += now.frames_lost.saturating_sub(last.frames_lost);
            state.unheard.conflicts_lost += now.conflicts_lost.saturating_sub(last.conflicts_lost);
            state.unheard.malformed += now.malformed.saturating_sub(last.malformed);
        });
    }

    /// Log lines that nobody took, since the start.
    pub fn set_log_lines_lost(&self, count: u64) {
        self.with(|state| state.log_lines_lost = count);
    }

    /// Counts pins that were missing under the running agent and were made again.
    pub fn pins_mended(&self, count: usize) {
        self.with(|state| state.pins_mended = state.pins_mended.saturating_add(count as u64));
    }

    /// Counts a finished write to a Lease.
    pub fn lease_written(&self, kind: LeaseKind, outcome: LeaseOutcome) {
        self.with(|state| *state.lease_writes.entry((kind, outcome)).or_default() += 1);
    }

    /// There is a task of this name beside the loop.
    pub fn task_known(&self, task: &'static str) {
        self.with(|state| {
            state.task_restarts.entry(task).or_default();
        });
    }

    /// Counts a task that ended and is started again.
    pub fn task_restarted(&self, task: &'static str) {
        self.with(|state| *state.task_restarts.entry(task).or_default() += 1);
    }

    /// Counts announcement frames: `wire::sender::Sent::frames`.
    pub fn gratuitous_sent(&self, frames: &BTreeMap<Vip, u32>) {
        self.with(|state| {
            for (vip, count) in frames {
                *state.gratuitous.entry(*vip).or_default() += u64::from(*count);
                state.gratuitous_total += u64::from(*count);
            }
        });
    }

    /// A panic elsewhere must not take the metrics along: what it left is whole, as every change is one assignment.
    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics")
            .field("node", &self.node)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

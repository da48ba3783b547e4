//! The text that a scrape gets, in OpenMetrics form.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, text},
    metrics::MetricType,
    registry::Registry,
};

use super::{Counted, KernelCounts, LeaseKind, LeaseOutcome, Metrics, NoRoom, Ownership, State, Unheard};
use crate::{
    kube::ObjectKey,
    report::build::Build,
    vocabulary::{BootNs, Vip},
};

/// What `/metrics` says its body is.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The kinds that an agent reads: each has a series, so that an alert sees the first object that cannot be read.
const READ_KINDS: [&str; 6] =
    ["EndpointSlice", "IPAddressPool", "L2Advertisement", "Lease", "Node", "Service"];

type Labels = Vec<(&'static str, String)>;

impl Metrics {
    /// The text of one scrape; the time left to the deadline is as of `now`.
    pub fn render(&self, now: BootNs) -> String {
        let kernel = (self.kernel)();
        let scrape = self.with(|state| {
            let State {
                ownership,
                no_room,
                invalid_objects,
                unreadable_objects,
                events_lost,
                unheard,
                unheard_last: _,
                log_lines_lost,
                api_heard,
                pins_mended,
                lease_writes,
                task_restarts,
                gratuitous,
                gratuitous_total,
            } = state;
            Scrape {
                node: self.node.clone(),
                now,
                kernel,
                ownership: ownership.clone(),
                no_room: *no_room,
                invalid_objects: invalid_objects.clone(),
                unreadable_objects: unreadable_objects.clone(),
                events_lost: *events_lost,
                unheard: *unheard,
                log_lines_lost: *log_lines_lost,
                api_heard: *api_heard,
                pins_mended: *pins_mended,
                lease_writes: lease_writes.clone(),
                task_restarts: task_restarts.clone(),
                gratuitous: gratuitous.clone(),
                gratuitous_total: *gratuitous_total,
            }
        });
        let mut registry = Registry::default();
        registry.register_collector(Box::new(scrape));
        let mut text = String::new();
        // Writing to a String can't fail, and the collector has no error of its own.
        let _infallible = text::encode(&mut text, &registry);
        text
    }
}

fn build_labels() -> Labels {
    let build @ Build { version, commit: _, dirty: _, rustc, linker, target, object_sha256 } = Build::this();
    let commit = build.commit_text();
    let labels = [
        ("version", *version),
        ("commit", &commit),
        ("rustc", rustc),
        ("linker", linker),
        ("target", target),
        ("object_sha256", object_sha256),
    ];
    labels.map(|(name, value)| (name, value.to_owned())).to_vec()
}

/// Everything of one moment, free of locks.
#[derive(Debug)]
struct Scrape {
    node: String,
    now: BootNs,
    kernel: Counted,
    ownership: Ownership,
    no_room: NoRoom,
    invalid_objects: Option<BTreeSet<(&'static str, ObjectKey)>>,
    unreadable_objects: BTreeMap<&'static str, u64>,
    events_lost: u64,
    unheard: Unheard,
    log_lines_lost: u64,
    api_heard: Option<BootNs>,
    pins_mended: u64,
    lease_writes: BTreeMap<(LeaseKind, LeaseOutcome), u64>,
    task_restarts: BTreeMap<&'static str, u64>,
    gratuitous: BTreeMap<Vip, u64>,
    gratuitous_total: u64,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut to = Exposition(encoder);
        self.own(&mut to)?;
        self.kernels(&mut to)?;
        self.metallbs(&mut to)
    }
}

impl Scrape {
    fn own(&self, to: &mut Exposition) -> fmt::Result {
        let Ownership { held, unanswered, deadline, epoch } = &self.ownership;
        let build = build_labels();
        let left = deadline.until(self.now).as_secs_f64();
        to.gauge("announcer_build_info", "What the agent was built from, and with", [(build, 1.0)])?;
        to.gauge("announcer_owned_vips", "Addresses that this node holds", one(held.len()))?;
        let help = "Addresses held that the kernel would not answer for: the proof failed";
        to.gauge("announcer_unanswered_vips", help, one(*unanswered))?;
        let help = "Seconds until the kernel falls silent unless the lease is renewed; 0 if it is silent";
        to.gauge("announcer_session_deadline_seconds", help, [(vec![], left)])?;
        to.gauge("announcer_session_epoch", "Epoch of this node's session", [(vec![], *epoch as f64)])?;
        let silent = self.api_heard.map_or(0.0, |at| self.now.until(at).as_secs_f64());
        let help = "Seconds since the API server last said anything";
        to.gauge("announcer_api_silent_seconds", help, [(vec![], silent)])?;
        let NoRoom { cluster, node, entries } = self.no_room;
        let by = |why: &str, count: usize| (vec![("limit", why.to_owned())], count as f64);
        let help = "Addresses that are not announced for want of room: by nobody (cluster), or not by this node (node)";
        to.gauge("announcer_no_room_vips", help, [by("cluster", cluster), by("node", node)])?;
        let help = "Entries of the owner maps that the kernel would not write";
        to.gauge("announcer_refused_entries", help, one(entries))?;
        let invalid = || self.invalid_objects.iter().flatten();
        let help = "Objects of the configuration that are invalid";
        to.gauge("announcer_invalid_objects", help, one(invalid().count()))?;
        let help =
            "An object of the configuration that is invalid: the last good configuration stays in force";
        let which = invalid().map(|(kind, ObjectKey { namespace, name })| {
            let (namespace, name) = (("namespace", namespace.clone()), ("name", name.clone()));
            (vec![("kind", (*kind).to_owned()), namespace, name], 1.0)
        });
        to.gauge("announcer_invalid_object", help, which)?;
        let help =
            "Objects that cannot be read, each passed over alone: its last readable content stays in force";
        let of = |kind: &'static str| {
            let count = self.unreadable_objects.get(kind).copied().unwrap_or_default();
            (vec![("kind", kind.to_owned())], count as f64)
        };
        to.gauge("announcer_unreadable_objects", help, READ_KINDS.map(of))?;
        let help = "Kubernetes events that did not fit the queue, or that the API server did not take";
        to.counter("announcer_events_lost", help, [(vec![], self.events_lost)])?;
        let Unheard { frames_lost, conflicts_lost, malformed } = self.unheard;
        let help = "ARP and Neighbour Discovery frames that the agent could not read in time";
        to.counter("announcer_frames_lost", help, [(vec![], frames_lost)])?;
        let help = "Claims of foreign hosts that the kernel could not tell the agent";
        to.counter("announcer_conflicts_lost", help, [(vec![], conflicts_lost)])?;
        let help = "Neighbour Discovery messages that could not be read";
        to.counter("announcer_malformed", help, [(vec![], malformed)])?;
        let help = "Log lines that nobody took in time";
        to.counter("announcer_log_lines_lost", help, [(vec![], self.log_lines_lost)])?;
        let help = "Pins that were missing under the running agent and were made again";
        to.counter("announcer_pins_mended", help, [(vec![], self.pins_mended)])?;
        let writes = self.lease_writes.iter().map(|((kind, outcome), count)| {
            (vec![("kind", kind.label().to_owned()), ("outcome", outcome.label().to_owned())], *count)
        });
        to.counter("announcer_lease_writes", "Writes to Leases, by outcome", writes)?;
        let restarts =
            self.task_restarts.iter().map(|(task, count)| (vec![("task", (*task).to_owned())], *count));
        let help =
            "Tasks beside the loop that ended and were started again; requests that ended without an outcome";
        to.counter("announcer_task_restarts", help, restarts)?;
        let help = "Gratuitous ARP and unsolicited NA frames sent";
        to.counter("announcer_gratuitous_sent", help, [(vec![], self.gratuitous_total)])
    }

    fn kernels(&self, to: &mut Exposition) -> fmt::Result {
        type Count = fn(&KernelCounts) -> u64;
        let families: [(_, _, Count); 5] = [
            ("announcer_requests", "ARP requests and Neighbour Solicitations for owned addresses", |c| {
                c.requests
            }),
            ("announcer_replies", "Answers that the kernel sent", |c| c.replies),
            ("announcer_fenced", "Questions dropped as the lease had run out", |c| c.fenced),
            ("announcer_conflicts", "Frames of foreign hosts that claimed an owned address", |c| c.conflicts),
            (
                "announcer_conflict_events_lost",
                "Claims that found the kernel's ring full: counted, not told",
                |c| c.conflicts_lost,
            ),
        ];
        for (name, help, count) in families {
            let labels =
                |c: &KernelCounts| vec![("ip", c.vip.to_string()), ("interface", c.interface.clone())];
            to.counter(name, help, self.kernel.owned.iter().map(|counts| (labels(counts), count(counts))))?;
        }
        let sums = self.kernel.suppressed.iter();
        let sums = sums.map(|(interface, sum)| (vec![("interface", interface.clone())], *sum));
        let help = "Questions dropped as another node owns the address, over all addresses";
        to.counter("announcer_suppressed", help, sums)
    }

    /// The names that MetalLB's dashboards ask for. Their counters end without `_total`, which OpenMetrics demands of
    /// a counter, so these say no type.
    fn metallbs(&self, to: &mut Exposition) -> fmt::Result {
        let mut received = BTreeMap::<Vip, u64>::new();
        let mut sent = BTreeMap::<Vip, u64>::new();
        for counts in &self.kernel.owned {
            *received.entry(counts.vip).or_default() += counts.requests;
            *sent.entry(counts.vip).or_default() += counts.replies;
        }
        let per_ip = |counts: &BTreeMap<Vip, u64>| -> Vec<_> {
            counts.iter().map(|(vip, count)| (vec![("ip", vip.to_string())], *count as f64)).collect()
        };
        let help = "Number of layer2 requests received for owned IPs";
        to.untyped("metallb_layer2_requests_received", help, per_ip(&received))?;
        to.untyped(
            "metallb_layer2_responses_sent",
            "Number of layer2 responses sent out for owned IPs",
            per_ip(&sent),
        )?;
        let help = "Number of gratuitous layer2 packets sent for owned IPs";
        to.untyped("metallb_layer2_gratuitous_sent", help, per_ip(&self.gratuitous))?;
        let truth = |yes: bool| one(usize::from(yes));
        let help = "1 if the MetalLB configuration was successfully loaded at least once";
        to.gauge("metallb_k8s_client_config_loaded_bool", help, truth(self.invalid_objects.is_some()))?;
        let help = "1 if running on a stale configuration, because the latest config failed to load";
        let stale = self.invalid_objects.iter().any(|invalid| !invalid.is_empty());
        to.gauge("metallb_k8s_client_config_stale_bool", help, truth(stale))?;
        let announced = self.ownership.held.iter().flat_map(|(vip, services)| {
            services.iter().map(|service| {
                let service = ("service", service.clone());
                let (node, ip) = (("node", self.node.clone()), ("ip", vip.to_string()));
                (vec![service, ("protocol", "layer2".to_owned()), node, ip], 1.0)
            })
        });
        to.gauge("metallb_speaker_announced", "Services being announced from this node", announced)
    }
}

fn one(count: usize) -> [(Labels, f64); 1] {
    [(vec![], count as f64)]
}

/// The encoder, a metric family per call.
struct Exposition<'a>(DescriptorEncoder<'a>);

impl Exposition<'_> {
    fn gauge(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels, f64)>,
    ) -> fmt::Result {
        self.values(name, help, MetricType::Gauge, samples)
    }

    fn untyped(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels, f64)>,
    ) -> fmt::Result {
        self.values(name, help, MetricType::Unknown, samples)
    }

    fn values(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        samples: impl IntoIterator<Item = (Labels, f64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in samples {
            match labels.is_empty() {
                true => family.encode_gauge(&value)?,
                false => family.encode_family(&labels)?.encode_gauge(&value)?,
            }
        }
        Ok(())
    }

    /// `_total` is appended to the name.
    fn counter(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in samples {
            match labels.is_empty() {
                true => family.encode_counter::<Labels, _, u64>(&value, None)?,
                false => family.encode_family(&labels)?.encode_counter::<Labels, _, u64>(&value, None)?,
            }
        }
        Ok(())
    }
}

impl LeaseKind {
    fn label(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Claim => "claim",
        }
    }
}

impl LeaseOutcome {
    fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Conflict => "conflict",
            Self::Error => "error",
        }
    }
}

//! Kubernetes events, each on the object that it is about, in MetalLB's words where it has them.
//!
//! They leave beside the agent's loop, which never waits for the API server: through a queue that drops what does not
//! fit, at a pace that does not stand in the way of a failover's claims. kube's recorder makes one event with a count
//! of what is told again within six minutes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::{
    sync::{Mutex, mpsc, watch},
    time::{sleep, timeout},
};
use tracing::warn;

use crate::{
    kube::{Fate, InvalidObject, Service, UnreadableObject},
    policy::MOST_VIPS,
    report::printable,
    vocabulary::Vip,
};

/// Events that wait; a failover of more addresses than this tells of the first ones.
const QUEUE: usize = 1000;
/// Between two events: 20 a second at most.
const PACE: Duration = Duration::from_millis(50);
/// For one request.
const PATIENCE: Duration = Duration::from_secs(5);
/// What the API server takes for a `note`, and for an `action`.
const LONGEST: (usize, usize) = (1024, 128);

/// The component that `kubectl describe` shows.
const COMPONENT: &str = "announcer";

/// What can be told of a Service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Notice {
    /// This node took its address: MetalLB's `nodeAssigned`.
    NodeAssigned,
    /// This node would announce its address, and has none of the interfaces that the advertisements name: MetalLB's
    /// `announceFailed`.
    AnnounceFailed,
    /// No node may announce its address, and that lasts.
    NotAnnounced {
        /// In an operator's words, with the way out.
        because: &'static str,
    },
    /// Its endpoints come and go on a node, which is the last choice for the address for a while.
    Unsteady {
        /// Which.
        node: String,
    },
    /// Its address comes and goes, and stays where it is for a while.
    Kept,
    /// Nobody announces its address, for the cluster has too many.
    NoRoom,
    /// Its address is a node's own.
    OwnAddress {
        /// That node.
        of: String,
        /// It was announced before, and goes on being so.
        announced: bool,
    },
    /// This node holds its address, and its kernel would not answer for it.
    Unanswered {
        /// Where.
        interface: String,
    },
}

/// Takes events and never waits.
#[derive(Clone, Debug)]
pub struct Events {
    node: String,
    queue: mpsc::Sender<(ObjectReference, Told)>,
    /// Where they are taken out.
    end: Arc<Mutex<mpsc::Receiver<(ObjectReference, Told)>>>,
    lost: Arc<AtomicU64>,
}

/// An event, comparable.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Told {
    warning: bool,
    reason: &'static str,
    action: String,
    note: String,
}

impl Events {
    /// Tells in the name of `node`, while the future of [`Self::publish`] is polled.
    pub fn new(node: &str) -> Self {
        let (queue, end) = mpsc::channel(QUEUE);
        Self { node: node.to_owned(), queue, end: Arc::new(Mutex::new(end)), lost: Arc::default() }
    }

    /// Writes what is told, for ever; nothing while `hush` says so. Of one that is dropped the next takes the queue over.
    pub fn publish(
        &self,
        client: Client,
        hush: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let reporter = Reporter { controller: COMPONENT.to_owned(), instance: Some(self.node.clone()) };
        let (end, lost) = (self.end.clone(), self.lost.clone());
        async move { publish(Recorder::new(client, reporter), &mut *end.lock().await, lost, hush).await }
    }

    /// Tells of one address of a Service.
    pub fn service(&self, service: &Service, vip: Vip, notice: &Notice) {
        let about = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Service".to_owned()),
            namespace: Some(service.key.namespace.clone()),
            name: Some(service.key.name.clone()),
            uid: Some(service.uid.clone()).filter(|uid| !uid.is_empty()),
            ..ObjectReference::default()
        };
        self.send(about, notice.told(&self.node, vip));
    }

    /// Tells of an object of the configuration that cannot be used.
    pub fn invalid(&self, object: &InvalidObject) {
        let InvalidObject { kind, key, uid, field, problem } = object;
        let about = ObjectReference {
            api_version: Some("metallb.io/v1beta1".to_owned()),
            kind: Some((*kind).to_owned()),
            namespace: Some(key.namespace.clone()),
            name: Some(key.name.clone()),
            uid: Some(uid.clone()).filter(|uid| !uid.is_empty()),
            ..ObjectReference::default()
        };
        let way_out = problem.way_out();
        let told = Told {
            warning: true,
            reason: "invalidConfiguration",
            // Part of what makes two events the same one: another fault of the object is another event.
            action: format!("{field}: {problem}"),
            note: format!("{field}: {problem}; {way_out}. The last good configuration stays in force"),
        };
        self.send(about, told);
    }

    /// Tells of an object that cannot be read, on that object.
    pub fn unreadable(&self, object: &UnreadableObject) {
        let UnreadableObject { kind, key, uid, problem, fate } = object;
        let api_version = match *kind {
            "EndpointSlice" => "discovery.k8s.io/v1",
            "IPAddressPool" | "L2Advertisement" => "metallb.io/v1beta1",
            "Lease" => "coordination.k8s.io/v1",
            _ => "v1",
        };
        let filled = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let about = ObjectReference {
            api_version: Some(api_version.to_owned()),
            kind: Some((*kind).to_owned()),
            namespace: filled(&key.namespace),
            name: filled(&key.name),
            uid: filled(uid),
            ..ObjectReference::default()
        };
        let becomes = match fate {
            Fate::Kept => "Its last readable content stays in force",
            Fate::LeftOut => "It is left out",
        };
        let told = Told {
            warning: true,
            reason: "unreadableObject",
            action: format!("read {kind}"),
            note: format!("cannot be read: {problem}. {becomes}"),
        };
        self.send(about, told);
    }

    /// Events that did not fit, or that the API server did not take.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn send(&self, about: ObjectReference, mut told: Told) {
        for (text, limit) in [(&mut told.note, LONGEST.0), (&mut told.action, LONGEST.1)] {
            // `kubectl describe` prints them raw.
            *text = printable(text).into_owned();
            shorten(text, limit);
        }
        if self.queue.try_send((about, told)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Notice {
    fn told(&self, node: &str, vip: Vip) -> Told {
        let (warning, reason, note) = match self {
            Self::NodeAssigned => {
                (false, "nodeAssigned", format!("announcing from node {node:?} with protocol \"layer2\""))
            }
            Self::AnnounceFailed => (
                true,
                "announceFailed",
                format!(
                    "the interfaces specified by LB IP \"{vip}\" doesn't exist in assigned node {node:?} with protocol \"layer2\""
                ),
            ),
            Self::NotAnnounced { because } => {
                (true, "notAnnounced", format!("no node announces {vip}: {because}"))
            }
            Self::Unsteady { node } => (
                true,
                "endpointsUnsteady",
                format!(
                    "the endpoints on node {node:?} come and go: for a while it is the last choice for {vip}; check the \
                     readiness probes"
                ),
            ),
            Self::Kept => (
                true,
                "addressUnsteady",
                format!(
                    "{vip} comes and goes: for a while it stays where it is, also while nothing serves it; check the \
                     readiness probes, and whether two controllers write the Service's status"
                ),
            ),
            Self::NoRoom => (
                true,
                "noRoom",
                format!(
                    "{vip} is not announced: the cluster has more addresses of its family than announcer announces \
                     ({MOST_VIPS}). Namespaces take turns, the oldest address of each first"
                ),
            ),
            Self::OwnAddress { of, announced: false } => (
                true,
                "addressOfNode",
                format!(
                    "node {of:?} has {vip} itself, so nobody announces it: give the Service another address, or take it off the node"
                ),
            ),
            Self::OwnAddress { of, announced: true } => (
                true,
                "addressOfNode",
                format!("node {of:?} has {vip} itself, too: two hosts answer for it; take it off the node"),
            ),
            Self::Unanswered { interface } => (
                true,
                "heldButNotAnswered",
                format!(
                    "node {node:?} holds {vip}, and its kernel would not answer for it on {interface}; the agent's log there says why"
                ),
            ),
        };
        // Part of what makes two events the same one: each reason, and each node, is another.
        let action = match self {
            Self::NotAnnounced { because } => format!("announce {vip}: {because}"),
            Self::Unsteady { node } => format!("announce {vip} from {node}"),
            _ => format!("announce {vip}"),
        };
        Told { warning, reason, action, note }
    }
}

/// To at most `limit` bytes, between two characters.
fn shorten(text: &mut String, limit: usize) {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit));
    }
}

async fn publish(
    recorder: Recorder,
    queue: &mut mpsc::Receiver<(ObjectReference, Told)>,
    lost: Arc<AtomicU64>,
    mut hush: watch::Receiver<bool>,
) {
    let mut failing = false;
    while let Some((about, told)) = queue.recv().await {
        // The last of a leaving agent is told, too.
        let _ = hush.wait_for(|hush| !hush).await;
        let Told { warning, reason, action, note } = told;
        let type_ = if warning { EventType::Warning } else { EventType::Normal };
        let event = Event { type_, reason: reason.to_owned(), note: Some(note), action, secondary: None };
        let error = match timeout(PATIENCE, recorder.publish(&event, &about)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("no answer".to_owned()),
        };
        if let Some(error) = &error {
            lost.fetch_add(1, Ordering::Relaxed);
            if !failing {
                let remedy = "kubectl apply -k deploy/base restores the rights (create, patch)";
                warn!(
                    reason,
                    error, remedy, "cannot write Kubernetes events; said once until one is written"
                );
            }
        }
        failing = error.is_some();
        sleep(PACE).await;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        kube::Snapshot,
        policy::{Hindrance, Nobody},
    };

    const VIP: &str = "10.4.11.1";

    fn service() -> Service {
        let service = json!({
            "kind": "Service",
            "metadata": {"namespace": "default", "name": "httpbin", "uid": "u"},
            "spec": {"type": "LoadBalancer"},
        });
        let snapshot = Snapshot::of_objects([service]).expect("a Service");
        snapshot.services.into_values().next().expect("a Service")
    }

    fn first(events: &Events) -> (ObjectReference, Told) {
        events.end.try_lock().expect("nobody publishes").try_recv().expect("an event")
    }

    fn told(notice: &Notice) -> (ObjectReference, Told) {
        let events = Events::new("bettley");
        events.service(&service(), VIP.parse().expect("an address"), notice);
        first(&events)
    }

    #[test]
    fn taking_an_address_is_metallbs_event_on_the_service() {
        let (about, told) = told(&Notice::NodeAssigned);
        assert_eq!(
            (about.kind.as_deref(), about.namespace.as_deref(), about.name.as_deref(), about.uid.as_deref()),
            (Some("Service"), Some("default"), Some("httpbin"), Some("u"))
        );
        assert_eq!((told.warning, told.reason), (false, "nodeAssigned"));
        assert_eq!(told.note, r#"announcing from node "bettley" with protocol "layer2""#);
    }

    #[test]
    fn interfaces_that_no_node_has_are_metallbs_warning() {
        let (_, told) = told(&Notice::AnnounceFailed);
        assert_eq!((told.warning, told.reason), (true, "announceFailed"));
        assert_eq!(
            told.note,
            r#"the interfaces specified by LB IP "10.4.11.1" doesn't exist in assigned node "bettley" with protocol "layer2""#
        );
    }

    #[test]
    fn why_nobody_announces_an_address_is_a_warning_with_the_way_out() {
        let because = Nobody::Hindered(Hindrance::EndpointsWithoutNode).words();
        let (_, told) = told(&Notice::NotAnnounced { because });
        assert_eq!((told.warning, told.reason), (true, "notAnnounced"));
        assert_eq!(
            told.note,
            "no node announces 10.4.11.1: externalTrafficPolicy is Local, and no serving endpoint says which node it is on: \
             set nodeName in the EndpointSlices, or externalTrafficPolicy: Cluster"
        );
    }

    #[test]
    fn an_invalid_object_is_told_on_itself_with_field_fault_and_way_out() {
        let pool = json!({
            "apiVersion": "metallb.io/v1beta1",
            "kind": "IPAddressPool",
            "metadata": {"namespace": "metallb", "name": "primary", "uid": "p"},
            "spec": {"addresses": ["10.4.11.0/33"]},
        });
        let snapshot = Snapshot::of_objects([pool]).expect("a pool");
        let events = Events::new("bettley");
        events.invalid(&snapshot.invalid[0]);
        let (about, told) = first(&events);
        assert_eq!((about.kind.as_deref(), about.uid.as_deref()), (Some("IPAddressPool"), Some("p")));
        assert_eq!(told.reason, "invalidConfiguration");
        assert!(told.note.starts_with(r#"spec.addresses[0]: "10.4.11.0/33" is neither"#), "{}", told.note);
    }

    #[test]
    fn a_note_prints_no_control_or_bidi_character_of_an_object() {
        let pool = json!({
            "apiVersion": "metallb.io/v1beta1",
            "kind": "IPAddressPool",
            "metadata": {"namespace": "metallb", "name": "primary", "uid": "p"},
            "spec": {"addresses": ["\u{9b}2J\u{202e}"]},
        });
        let snapshot = Snapshot::of_objects([pool]).expect("a pool");
        let mut object = snapshot.invalid[0].clone();
        object.field = "spec.\u{85}".to_owned();
        for object in [&snapshot.invalid[0], &object] {
            let events = Events::new("bettley");
            events.invalid(object);
            let (_, told) = first(&events);
            for text in [told.note, told.action] {
                assert!(!text.contains(crate::report::printable::is_unfit), "{text:?}");
            }
        }
    }

    #[test]
    fn an_unreadable_object_is_told_on_itself_with_what_becomes_of_it() {
        let node =
            json!({"kind": "Node", "metadata": {"name": "a", "uid": "n"}, "spec": {"unschedulable": "no"}});
        let events = Events::new("bettley");
        events.unreadable(&Snapshot::of_objects([node]).expect_err("no Node"));
        let (about, told) = first(&events);
        assert_eq!((about.kind.as_deref(), about.uid.as_deref()), (Some("Node"), Some("n")));
        assert_eq!((about.namespace.as_deref(), told.reason), (None, "unreadableObject"));
        let note = r#"cannot be read: spec.unschedulable: invalid type: string "no", expected a boolean. It is left out"#;
        assert_eq!(told.note, note);
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let events = Events::new("bettley");
        for _ in 0..QUEUE + 3 {
            events.service(&service(), VIP.parse().expect("an address"), &Notice::NodeAssigned);
        }
        assert_eq!(events.lost(), 3);
    }
}

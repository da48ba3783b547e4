//! Leases as agents write them.

use serde_json::{Value, json};

/// What is there, and what is written in its place.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) old: Option<Value>,
    pub(super) new: Option<Value>,
}

/// A session that lasts 15 s, with these annotations besides those that every one has.
pub(super) fn session(name: &str, holder: &str, epoch: i64, notes: &[(&str, &str)]) -> Value {
    let annotations = [("protocol", "1"), ("renewal", "r")];
    let mut lease = lease(name, "session", holder, epoch, &[&annotations[..], notes].concat());
    lease["spec"]["leaseDurationSeconds"] = json!(15);
    lease
}

const PUBLISHED: [(&str, &str); 4] =
    [("links", "eth0"), ("version", "0.1.0"), ("on-api-loss", "hold"), ("fencing", "early")];

/// The session of `bettley`, held by it.
pub(super) fn own(epoch: i64, notes: &[(&str, &str)]) -> Value {
    session("session-bettley", "bettley/boot/machine", epoch, &[&PUBLISHED[..], notes].concat())
}

/// The session of `cargyll`.
pub(super) fn peers(holder: &str, epoch: i64, notes: &[(&str, &str)]) -> Value {
    session("session-cargyll", holder, epoch, &[&PUBLISHED[..], notes].concat())
}

/// A claim that has moved once, bound to epoch 1 unless the notes say otherwise.
pub(super) fn claim(holder: &str, notes: &[(&str, &str)]) -> Value {
    let annotations = [("protocol", "1"), ("session-uid", "u"), ("session-epoch", "1"), ("write", "w")];
    lease("vip-10.4.11.1", "claim", holder, 1, &[&annotations[..], notes].concat())
}

/// The same without one of its annotations.
pub(super) fn without(mut lease: Value, note: &str) -> Value {
    if let Some(annotations) = lease["metadata"]["annotations"].as_object_mut() {
        annotations.remove(&format!("announcer.io/{note}"));
    }
    lease
}

fn lease(name: &str, kind: &str, holder: &str, transitions: i64, notes: &[(&str, &str)]) -> Value {
    let note = |(key, value): &(&str, &str)| (format!("announcer.io/{key}"), Value::from(*value));
    let annotations: serde_json::Map<String, Value> = notes.iter().map(note).collect();
    json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "labels": {"announcer.io/kind": kind}, "annotations": annotations},
        "spec": {"holderIdentity": holder, "leaseTransitions": transitions},
    })
}

//! The kinds of writes that the election makes, and one of each: what the cluster's admission policy has to let through.
//!
//! `tests/tests/cluster/admission/writes.jsonl` has one of each kind, and a real API server judges them there. A kind that is new
//! to it fails the test here: `ANNOUNCER_SIM_WRITES=FILE cargo xtask sim` writes the file anew.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::election::{
    Request,
    lease::{Bound, Claim, Record, Session, session_name},
};

const KNOWN: &str = include_str!("../../../../tests/tests/cluster/admission/writes.jsonl");

/// One write of each kind, as a line of JSON, by kind.
#[derive(Clone, Debug, Default)]
pub struct Kinds(BTreeMap<String, String>);

impl Kinds {
    /// A write of `node`'s that the store took.
    pub fn note(&mut self, node: &str, old: Option<&Record>, request: &Request) {
        let (new, deletes) = match request {
            Request::Put(new) => (new, false),
            Request::Delete(gone) => (gone, true),
            _ => return,
        };
        let new = Some(new).filter(|_| !deletes);
        let kind = match (old, new) {
            (Some(Record::Session(old)), None) => session(node, Some(old), None),
            (None, Some(Record::Session(new))) => session(node, None, Some(new)),
            (Some(Record::Session(old)), Some(Record::Session(new))) => session(node, Some(old), Some(new)),
            (Some(Record::Claim(old)), None) => claim(node, Some(old), None),
            (None, Some(Record::Claim(new))) => claim(node, None, Some(new)),
            (Some(Record::Claim(old)), Some(Record::Claim(new))) => claim(node, Some(old), Some(new)),
            _ => return,
        };
        self.0.entry(kind).or_insert_with_key(|kind| {
            json!({"kind": kind, "node": node, "old": lease(old), "new": lease(new)}).to_string()
        });
    }

    pub fn add(&mut self, other: &Self) {
        for (kind, line) in &other.0 {
            self.0.entry(kind.clone()).or_insert_with(|| line.clone());
        }
    }

    /// Those that no real API server has judged.
    pub fn unknown(&self) -> Vec<&String> {
        let known = |kind: &&String| KNOWN.contains(&format!("\"kind\":{}", json!(kind)));
        self.0.keys().filter(|kind| !known(kind)).collect()
    }

    /// All of them, for the file.
    pub fn lines(&self) -> String {
        self.0.values().map(|line| format!("{line}\n")).collect()
    }
}

/// Without what is for people.
fn lease(record: Option<&Record>) -> Value {
    let Some(record) = record else { return Value::Null };
    let lease = record.to_lease(jiff::Timestamp::UNIX_EPOCH);
    json!({
        "metadata": {
            "name": lease.metadata.name,
            "labels": lease.metadata.labels,
            "annotations": lease.metadata.annotations,
        },
        "spec": {
            "holderIdentity": lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone()),
            "leaseTransitions": lease.spec.as_ref().and_then(|spec| spec.lease_transitions),
            "leaseDurationSeconds": lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds),
        },
    })
}

/// How a field goes from one value to another: a change to the node's own name, to nothing, to another.
fn step<T: PartialEq>(old: Option<T>, new: Option<T>, is_ours: impl Fn(&T) -> bool) -> String {
    let whose = |some: &Option<T>| match some {
        None => "none",
        Some(value) if is_ours(value) => "ours",
        Some(_) => "another's",
    };
    if old == new {
        return format!("{} stays", whose(&old));
    }
    format!("{} → {}", whose(&old), whose(&new))
}

fn session(node: &str, old: Option<&Session>, new: Option<&Session>) -> String {
    let name = old.or(new).map_or("", |session| session.name.as_str());
    let own = name == session_name(node);
    let holders =
        step(old.and_then(|old| old.holder.clone()), new.and_then(|new| new.holder.clone()), |holder| {
            holder.node == node
        });
    let whose = if own { "own" } else { "another's" };
    let Some(new) = new else { return format!("{whose} session is deleted, {holders}") };
    let Some(old) = old else { return format!("{whose} session is created, {holders}") };
    let epoch = if new.epoch > old.epoch { "grows" } else { "stays" };
    let mut kind = format!("{whose} session, holder {holders}, epoch {epoch}");
    let left = step(old.left, new.left, |left| *left == old.epoch);
    if own {
        return format!("{kind}, left {left}");
    }
    let early = step(old.early, new.early, |early| *early == old.epoch);
    kind += &format!(", left {left}, early {early}, {} {}", old.fencing, old.on_api_loss);
    let names = |set: &std::collections::BTreeSet<String>| if set.is_empty() { "without" } else { "with" };
    kind + &format!(", {} links, {} of them only named", names(&old.links.up), names(&old.links.only_named))
}

fn claim(node: &str, old: Option<&Claim>, new: Option<&Claim>) -> String {
    let of = |claim: Option<&Claim>| {
        (
            claim.and_then(|claim| claim.holder.clone()),
            claim.and_then(|claim| claim.heir.clone()),
            claim.and_then(|claim| claim.preferred.clone()),
        )
    };
    let ((was, heir_was, preferred_was), (is, heir_is, preferred_is)) = (of(old), of(new));
    let is_node = |name: &String| name == node;
    let holders = step(was, is, is_node);
    let heirs = step(heir_was, heir_is, |heir: &Bound| heir.node == node);
    let preferred = step(preferred_was, preferred_is, is_node);
    let Some(new) = new else { return format!("a claim is deleted, holder {holders}, heir {heirs}") };
    let Some(old) = old else {
        return format!("a claim is created, holder {holders}, moves {}", new.transitions);
    };
    let binding = if new.session_uid == old.session_uid { "the same" } else { "another" };
    let epoch = match new.session_epoch {
        0 => "none",
        epoch if epoch == old.session_epoch => "the same",
        _ => "another",
    };
    let moves = new.transitions - old.transitions;
    format!(
        "a claim, holder {holders}, heir {heirs}, preferred {preferred}, {binding} session, {epoch} epoch, moves {moves}"
    )
}

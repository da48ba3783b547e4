//! Leases as the API server sends them: each is read by itself, and one that cannot be read hides no other.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use serde::Deserialize;

use crate::{
    election::{
        interface::Input,
        lease::{Record, Version},
    },
    kube::{
        Fate, UnreadableObject,
        raw::{Metadata, RawObject, Text, null_is_default},
        unreadable,
    },
};

/// What of a Lease's JSON is used. Its times are for people: one that is out of range is left out.
#[derive(Debug, Deserialize)]
struct Wire {
    metadata: Metadata,
    #[serde(default, deserialize_with = "null_is_default")]
    spec: Spec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    holder_identity: Option<String>,
    lease_duration_seconds: Option<i32>,
    lease_transitions: Option<i32>,
    acquire_time: Text,
    renew_time: Text,
}

/// What a Lease says.
#[derive(Debug, PartialEq)]
pub(super) enum Read {
    /// One of ours, with the time of its last write by the writer's wall clock: for people alone.
    Ours(Box<Record>, Option<jiff::Timestamp>),
    /// Another's, in the same namespace.
    NotOurs,
    /// It cannot be read; what is wrong with it.
    Unreadable(String),
}

/// Reads one Lease.
pub(super) fn read(object: &RawObject) -> Read {
    let Wire { metadata, spec } = match object.decode() {
        Ok(wire) => wire,
        Err(problem) => return Read::Unreadable(problem),
    };
    let lease = Lease {
        metadata: ObjectMeta {
            annotations: Some(metadata.annotations()),
            name: Some(metadata.name),
            uid: Some(metadata.uid.0).filter(|uid| !uid.is_empty()),
            resource_version: Some(metadata.resource_version.0),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: spec.holder_identity,
            lease_duration_seconds: spec.lease_duration_seconds,
            lease_transitions: spec.lease_transitions,
            acquire_time: spec.acquire_time.time().map(MicroTime),
            ..LeaseSpec::default()
        }),
    };
    let written = spec.renew_time.time();
    Record::read(&lease).map_or(Read::NotOurs, |record| Read::Ours(Box::new(record), written))
}

/// What each Lease last said, and which of them cannot be read now.
#[derive(Debug, Default)]
pub(super) struct Readable(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: BTreeMap<String, Record>,
    unreadable: BTreeMap<String, UnreadableObject>,
    told: unreadable::Told,
}

impl Readable {
    /// The records of a complete list; of a Lease that cannot be read, what it last said.
    pub(super) fn listed(&self, objects: Vec<Listed>) -> Vec<Record> {
        let mut state = self.state();
        let mut before = std::mem::take(&mut *state);
        state.told = std::mem::take(&mut before.told);
        for object in objects {
            let Listed { key, read, .. } = &object;
            if let (Read::Unreadable(_), Some(last)) = (read, before.last.remove(&key.name)) {
                state.last.insert(key.name.clone(), last);
            }
            state.take(object);
        }
        state.tell();
        state.last.values().cloned().collect()
    }

    /// The record of one Lease of many that were read; if it cannot be read, what it last said.
    pub(super) fn one_of(&self, object: Listed) -> Option<Record> {
        match object.read {
            Read::Ours(record, _) => Some(*record),
            Read::NotOurs => None,
            Read::Unreadable(_) => {
                let mut state = self.state();
                let last = state.last.get(&object.key.name).cloned();
                state.take(object);
                state.tell();
                last
            }
        }
    }

    /// A Lease was added or modified.
    pub(super) fn changed(&self, object: &RawObject) -> Option<Input> {
        let mut state = self.state();
        let record = state.take(Listed::of(object));
        state.tell();
        record.map(Input::Changed)
    }

    /// A Lease was deleted. One that cannot be read is told as it last was, at the version of its deletion.
    pub(super) fn deleted(&self, object: &RawObject) -> Option<Input> {
        let Listed { key, read, .. } = Listed::of(object);
        let mut state = self.state();
        let last = state.last.remove(&key.name);
        state.unreadable.remove(&key.name);
        state.tell();
        let record = match read {
            Read::Ours(record, _) => Some(*record),
            Read::NotOurs => None,
            Read::Unreadable(_) => last.map(|last| {
                let version = object.version().and_then(|version| version.parse().ok());
                version.map_or(last.clone(), |version| last.clone().at(Version(version)))
            }),
        };
        record.map(Input::Deleted)
    }

    /// The Leases that cannot be read now.
    pub(super) fn unreadable(&self) -> Vec<UnreadableObject> {
        self.state().unreadable.values().cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A Lease of a list.
pub(super) struct Listed {
    key: crate::kube::ObjectKey,
    uid: String,
    pub(super) read: Read,
}

impl Listed {
    pub(super) fn of(object: &RawObject) -> Self {
        Self { key: object.key().unwrap_or_default(), uid: object.uid().to_owned(), read: read(object) }
    }
}

impl State {
    /// Takes note of what a Lease says now: its record, if it can be read and is ours.
    fn take(&mut self, object: Listed) -> Option<Record> {
        let Listed { key, uid, read } = object;
        match read {
            Read::Ours(record, _) => {
                self.unreadable.remove(&key.name);
                self.last.insert(key.name, (*record).clone());
                Some(*record)
            }
            Read::NotOurs => {
                self.unreadable.remove(&key.name);
                None
            }
            Read::Unreadable(problem) => {
                let fate = if self.last.contains_key(&key.name) { Fate::Kept } else { Fate::LeftOut };
                let object = UnreadableObject { kind: "Lease", key: key.clone(), uid, problem, fate };
                self.unreadable.insert(key.name, object);
                None
            }
        }
    }

    fn tell(&mut self) {
        self.told.tell(self.unreadable.values());
    }
}

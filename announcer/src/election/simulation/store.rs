//! The API server's store: compare-and-swap on versions and UIDs, deletion, and a log for watches.

use std::collections::BTreeMap;

use crate::election::{
    Answer, Request,
    lease::{Record, Version},
};

/// One entry of the watch log.
#[derive(Clone, Debug)]
pub enum Event {
    Changed(Record),
    Deleted(Record),
}

impl Event {
    pub fn version(&self) -> Version {
        match self {
            Self::Changed(record) | Self::Deleted(record) => record.version(),
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Store {
    pub objects: BTreeMap<String, Record>,
    pub revision: u64,
    pub log: Vec<(u64, Event)>,
    uids: u64,
    pub writes: u64,
}

fn stamp(record: &mut Record, uid: Option<String>, version: u64) {
    let (to_uid, to_version) = match record {
        Record::Session(session) => (&mut session.uid, &mut session.version),
        Record::Claim(claim) => (&mut claim.uid, &mut claim.version),
    };
    if let Some(uid) = uid {
        *to_uid = uid;
    }
    *to_version = Version(version);
}

impl Store {
    /// Performs a request as kube-apiserver does with Leases, which may be created by an update: a PUT for an
    /// object that is gone conflicts only because it names a UID.
    pub fn perform(&mut self, now: u64, request: &Request) -> Answer {
        match request {
            Request::Get(name) => self.objects.get(name).cloned().map_or(Answer::NotFound, Answer::Done),
            Request::Survey => Answer::Surveyed(
                self.objects
                    .values()
                    .filter(|record| matches!(record, Record::Session(_)))
                    .cloned()
                    .collect(),
            ),
            Request::Put(record) => {
                let there = self.objects.get(&record.name());
                if record.version() == Version(0) {
                    return if there.is_some() {
                        Answer::Conflict
                    } else {
                        self.commit(now, record.clone(), true)
                    };
                }
                match there {
                    None if record.uid().is_empty() => self.commit(now, record.clone(), true),
                    Some(old) if old.version() == record.version() && old.uid() == record.uid() => {
                        let mut same = record.clone();
                        stamp(&mut same, None, old.version().0);
                        if same == *old {
                            Answer::Done(same)
                        } else {
                            self.commit(now, record.clone(), false)
                        }
                    }
                    _ => Answer::Conflict,
                }
            }
            Request::Delete(record) => match self.objects.get(&record.name()) {
                None => Answer::NotFound,
                Some(old) if old.version() == record.version() => {
                    self.delete(now, &record.name());
                    Answer::Done(record.clone())
                }
                Some(_) => Answer::Conflict,
            },
            Request::Probe(_) | Request::Challenge | Request::Relist => Answer::Lost,
        }
    }

    fn commit(&mut self, now: u64, mut record: Record, new: bool) -> Answer {
        self.revision += 1;
        self.writes += 1;
        let uid = new.then(|| {
            self.uids += 1;
            format!("u{}", self.uids)
        });
        stamp(&mut record, uid, self.revision);
        self.objects.insert(record.name(), record.clone());
        self.log.push((now, Event::Changed(record.clone())));
        Answer::Done(record)
    }

    /// `kubectl delete`: no precondition.
    pub fn delete(&mut self, now: u64, name: &str) {
        let Some(mut record) = self.objects.remove(name) else { return };
        self.revision += 1;
        self.writes += 1;
        stamp(&mut record, None, self.revision);
        self.log.push((now, Event::Deleted(record)));
    }

    /// `kubectl annotate`: a new version of the same.
    pub fn annotate(&mut self, now: u64, name: &str) {
        let Some(record) = self.objects.get(name).cloned() else { return };
        self.commit(now, record, false);
    }

    /// `kubectl edit`: whatever is there, this is there now.
    pub fn edit(&mut self, now: u64, record: Record) {
        self.commit(now, record, false);
    }

    /// etcd restored from `snapshot`. UIDs are random in truth, so they do not start over.
    pub fn restore(&mut self, snapshot: &Self) {
        let (uids, writes) = (self.uids, self.writes);
        *self = snapshot.clone();
        (self.uids, self.writes) = (uids, writes);
    }
}

//! The kernel of one node as far as the election can see it, and the order in which an agent changes it.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    election::Target,
    vocabulary::{BootNs, Vip},
};

/// The pinned maps: they survive the agent, not the machine.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Kernel {
    session: Option<(String, u64)>,
    deadline: BootNs,
    /// Owned entries and the session that each belongs to.
    entries: BTreeMap<Vip, (String, u64)>,
}

/// One write to the maps, or a wait.
#[derive(Clone, Debug)]
pub enum Write {
    Elsewhere(Vip),
    Grace,
    Session(Option<(String, u64)>),
    Owned(Vip),
    Deadline(BootNs),
}

impl Kernel {
    /// Whether a request for the VIP is answered at this boot time.
    pub fn answers(&self, vip: Vip, now: BootNs) -> bool {
        now < self.deadline && self.session.is_some() && self.entries.get(&vip) == self.session.as_ref()
    }

    pub fn answered(&self, now: BootNs) -> impl Iterator<Item = Vip> {
        self.entries.keys().copied().filter(move |vip| self.answers(*vip, now))
    }

    /// The UID and epoch that it answers by.
    pub fn session(&self) -> Option<&(String, u64)> {
        self.session.as_ref()
    }

    /// Whether there is an entry.
    pub fn has(&self, vip: Vip) -> bool {
        self.entries.contains_key(&vip)
    }

    /// What a new agent finds.
    pub fn inherited(&self) -> Target {
        let of_session =
            |(vip, session): (&Vip, &(String, u64))| (Some(session) == self.session.as_ref()).then_some(*vip);
        Target {
            session: self.session.clone(),
            deadline: self.deadline,
            held: self.entries.iter().filter_map(of_session).collect(),
        }
    }

    /// The writes that make the maps match `target`, in the order that the election relies on.
    pub fn plan(&self, target: &Target) -> VecDeque<Write> {
        let mut plan = VecDeque::new();
        let same = self.session == target.session;
        // As `cli/kernel.rs` does: nothing is added under a deadline that is too late for it.
        let nearer = same && target.deadline < self.deadline;
        plan.extend(nearer.then_some(Write::Deadline(target.deadline)));
        let stale = |(vip, session): &(&Vip, &(String, u64))| {
            !target.held.contains(*vip) || Some(*session) != target.session.as_ref()
        };
        let removed: Vec<Vip> = self.entries.iter().filter(stale).map(|(vip, _)| *vip).collect();
        plan.extend(removed.iter().copied().map(Write::Elsewhere));
        if !removed.is_empty() {
            plan.push_back(Write::Grace);
        }
        if !same {
            plan.extend([
                Write::Deadline(BootNs::NONE),
                Write::Grace,
                Write::Session(target.session.clone()),
            ]);
        }
        let there = |vip: &Vip| same && self.entries.get(vip) == target.session.as_ref();
        plan.extend(target.held.iter().filter(|vip| !there(vip)).copied().map(Write::Owned));
        if !same || self.deadline < target.deadline {
            plan.push_back(Write::Deadline(target.deadline));
        }
        plan
    }

    pub fn write(&mut self, write: Write) {
        match write {
            Write::Elsewhere(vip) => {
                self.entries.remove(&vip);
            }
            Write::Grace => {}
            Write::Session(session) => self.session = session,
            Write::Owned(vip) => {
                if let Some(session) = self.session.clone() {
                    self.entries.insert(vip, session);
                }
            }
            Write::Deadline(deadline) => self.deadline = deadline,
        }
    }
}

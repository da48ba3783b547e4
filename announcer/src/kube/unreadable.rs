//! An object that cannot be decoded: which one, what is wrong, and what becomes of it.

use std::fmt;

use super::object_key::ObjectKey;

/// An object that this agent cannot read. It is passed over alone. Reads as one line for an operator.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, thiserror::Error)]
pub struct UnreadableObject {
    /// Its kind, such as `Service` or `Lease`.
    pub kind: &'static str,
    /// Which one; without a name if even that cannot be read.
    pub key: ObjectKey,
    /// Its UID, for the Kubernetes event on it; empty if that cannot be read.
    pub uid: String,
    /// The field that is wrong, and why.
    pub problem: String,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of an object that cannot be read, until it can be read again or is deleted.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Fate {
    /// It was readable before: its last readable content stays in force.
    Kept,
    /// It was never readable: it is left out.
    LeftOut,
}

impl Fate {
    /// In an operator's words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Kept => "its last readable content stays in force",
            Self::LeftOut => "it is left out",
        }
    }
}

impl fmt::Display for UnreadableObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, key, uid: _, problem, fate } = self;
        write!(f, "{kind} {key} cannot be read: {problem}; {}", fate.words())
    }
}

/// What cannot be read now, and what of it was told: each object once, until it can be read again or is gone.
#[derive(Debug, Default)]
pub(crate) struct Told(std::collections::BTreeSet<(&'static str, ObjectKey)>);

impl Told {
    /// Logs what has become unreadable since, and what is so no longer.
    pub(crate) fn tell<'a>(&mut self, now: impl IntoIterator<Item = &'a UnreadableObject>) {
        let mut current = std::collections::BTreeSet::new();
        for object in now {
            let UnreadableObject { kind, key, problem, fate, .. } = object;
            let name = (*kind, key.clone());
            if !self.0.contains(&name) {
                let fate = fate.words();
                tracing::warn!(kind, object = %key, error = problem, fate, "Object cannot be read; all others are");
            }
            current.insert(name);
        }
        for (kind, key) in self.0.difference(&current) {
            tracing::info!(kind, object = %key, "Object can be read again, or is gone");
        }
        self.0 = current;
    }
}

//! Who may announce a Service's address, node by node, for thousands of Services at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{demand::Candidate, reason::Refusal};

/// What the advertisements that reach a Service and the nodes' labels say of each node, by name. It does not depend on
/// endpoints, so that thousands of Services share one.
pub(super) type Anywhere = BTreeMap<String, Result<Candidate, Refusal>>;

/// Who may announce a Service's address. With `externalTrafficPolicy: Local` Services differ in the few nodes that have an
/// endpoint, and share what is said of the many.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verdicts {
    anywhere: Arc<Anywhere>,
    /// `externalTrafficPolicy: Local`: no node but these has a serving endpoint.
    local: Option<BTreeSet<String>>,
}

impl Verdicts {
    pub(super) fn new(anywhere: Arc<Anywhere>, local: Option<BTreeSet<String>>) -> Self {
        Self { anywhere, local }
    }

    /// Whether this node may; `None`: there is no such node.
    pub fn of(&self, node: &str) -> Option<Result<&Candidate, Refusal>> {
        let verdict = self.anywhere.get(node)?.as_ref().map_err(|refusal| *refusal);
        let here = self.local.as_ref().is_none_or(|local| local.contains(node));
        Some(if here { verdict } else { verdict.and(Err(Refusal::NoLocalEndpoint)) })
    }

    /// The nodes that may, by name.
    pub(super) fn candidates(&self) -> BTreeMap<&str, &Candidate> {
        fn may<'a>(
            (node, verdict): (&'a String, &'a Result<Candidate, Refusal>),
        ) -> Option<(&'a str, &'a Candidate)> {
            Some((node, verdict.as_ref().ok()?))
        }
        match &self.local {
            None => self.anywhere.iter().filter_map(may).collect(),
            Some(local) => {
                let known = local.iter().filter_map(|node| self.anywhere.get_key_value(node));
                known.filter_map(may).collect()
            }
        }
    }

    /// How far a node got at most, if none may; `None`: there is no node.
    pub(super) fn furthest(&self) -> Option<Refusal> {
        self.anywhere
            .values()
            .map(|verdict| verdict.as_ref().err().copied().unwrap_or(Refusal::NoLocalEndpoint))
            .max()
    }
}

//! Services that share one address: who may announce it for all of them.
//!
//! MetalLB decides per Service and lets a node announce if it may for any, so that two Services can put one address on
//! two nodes (its split brain with shared addresses). One node answers for an address here, so the Services must agree:
//! - a Service that nobody may announce now (no endpoint, say) has no vote;
//! - the candidates are the nodes that may announce for *every* Service with a vote;
//! - if there is no such node (`externalTrafficPolicy: Local` with endpoints apart), the nodes that may for *any*:
//!   serving one Service is better than serving none.
//!
//! A candidate's weight is the greatest that any of the Services gives it (they are not added up: a second Service on
//! the address must not change who is preferred), its interfaces are all that any of them gives it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    coverage::union,
    demand::{Candidate, Candidates, VipDemand},
    explain::ServiceVerdict,
    reason::Nobody,
    verdicts::Verdicts,
};

/// Candidates of one Service, never empty.
type Vote<'a> = BTreeMap<&'a str, &'a Candidate>;

/// Candidates already worked out, by the verdicts of the one Service that they follow from.
#[derive(Default)]
pub(super) struct Shared(HashMap<*const Verdicts, Arc<Candidates>>);

impl Shared {
    /// One demand for all Services on an address. `verdicts` is not empty, and outlives this.
    pub(super) fn merge(&mut self, verdicts: &[ServiceVerdict]) -> VipDemand {
        let candidates = match verdicts {
            [ServiceVerdict { nodes: Ok(nodes), .. }] => {
                self.0.entry(Arc::as_ptr(nodes)).or_insert_with(|| Arc::new(agree(verdicts))).clone()
            }
            _ => Arc::new(agree(verdicts)),
        };
        VipDemand {
            services: verdicts.iter().map(|verdict| verdict.service.to_string()).collect(),
            nobody_because: candidates.is_empty().then(|| nobody_because(verdicts)),
            candidates,
            own_address_of: None,
        }
    }
}

fn agree(verdicts: &[ServiceVerdict]) -> Candidates {
    let votes: Vec<Vote<'_>> = verdicts.iter().map(vote).filter(|vote| !vote.is_empty()).collect();
    let in_all = |node: &str| votes.iter().all(|vote| vote.contains_key(node));
    let agreed = votes.iter().flat_map(Vote::keys).any(|node| in_all(node));
    let mut candidates = Candidates::new();
    for (node, candidate) in votes.iter().flatten().filter(|(node, _)| !agreed || in_all(node)) {
        match candidates.get_mut(*node) {
            None => drop(candidates.insert((*node).to_owned(), (*candidate).clone())),
            Some(known) => {
                known.weight = known.weight.max(candidate.weight);
                let Candidate { interfaces, .. } = known.clone();
                known.interfaces = union(interfaces, candidate.interfaces.clone());
            }
        }
    }
    candidates
}

fn vote(verdict: &ServiceVerdict) -> Vote<'_> {
    verdict.nodes.as_ref().map(|nodes| nodes.candidates()).unwrap_or_default()
}

/// The reason of the Service that got furthest.
fn nobody_because(verdicts: &[ServiceVerdict]) -> Nobody {
    let judged = verdicts.iter().filter_map(|verdict| verdict.nodes.as_ref().ok());
    let hindrance = || verdicts.iter().find_map(|verdict| verdict.nodes.as_ref().err().copied());
    let furthest = judged.filter_map(|nodes| nodes.furthest()).max().map(Nobody::Refused);
    furthest.or_else(|| hindrance().map(Nobody::Hindered)).unwrap_or(Nobody::NoNode)
}

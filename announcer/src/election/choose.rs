//! Who should own each VIP: every node computes the same answer from the same view and acts on its own share only.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use sha2::{Digest, Sha256};

use crate::{
    policy::{Candidate, Candidates, Demand, Interfaces, Links, Nobody, Tier, VipDemand},
    vocabulary::Vip,
};

/// Whether a VIP goes back to a node that would have been chosen in the first place (`--failback`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum Failback {
    /// Only to a node that an advertisement prefers more (`preferredNodeSelectors`).
    #[default]
    Preferred,
    /// Always to the node that MetalLB would choose: by preference and hash alone, however many it holds, and back to
    /// it whenever it returns. Twice the interruptions.
    Always,
    /// Never while the owner is eligible.
    Never,
}

/// When an owner gives up what it might keep.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moves {
    /// To a node that would have been chosen first.
    pub failback: Failback,
    /// To any Ready node: this one has been not Ready for long enough.
    pub unready: bool,
}

/// A node with a live session, as its session describes it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LiveNode {
    /// Its announcing links with carrier, by name.
    pub links: Links,
    /// It was heard not long ago: nothing is handed over to a node that may be dead, though not yet fenced.
    pub heard: bool,
}

/// What is known of a VIP's claim.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ClaimState<'a> {
    /// The holder of a claim that is not void.
    pub owner: Option<&'a str>,
    /// The successor that the last release named, or whom its owner would have as its heir.
    pub preferred: Option<&'a str>,
    /// Its owner released it.
    pub released: bool,
    /// It was taken while others that became free with it are still to be taken: it counts for its owner from its place in
    /// the order on, as it did when nobody had taken any. Nodes that look at different moments rank alike.
    pub fresh: bool,
    /// How the nodes were ranked when it became free. While a thousand VIPs are taken, each claim changes the count of
    /// somebody's, and the turns must not change with it.
    pub standing: Option<&'a Arc<[String]>>,
}

/// What should happen to one VIP.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Its owner keeps it.
    Keep,
    /// Its owner passes it on, because a better node is there; without that node it would keep it.
    HandOver {
        /// The successor.
        to: String,
        /// In an operator's words.
        why: &'static str,
    },
    /// Its owner may not announce it any more.
    GiveUp {
        /// The successor, if anybody may.
        to: Option<String>,
        /// In an operator's words.
        why: &'static str,
    },
    /// Nobody owns it: these may take it, best first, each a step later than the one before.
    Take(Arc<[String]>),
}

/// The hash that breaks ties, as in MetalLB: `sha256(node + "#" + ip)`, least first, the IP in RFC 5952 text.
pub fn tie_break(node: &str, vip: Vip) -> [u8; 32] {
    tie_break_of(node, &vip.to_string())
}

/// The same for anything else that nodes take turns at.
pub(super) fn tie_break_of(node: &str, what: &str) -> [u8; 32] {
    Sha256::digest(format!("{node}#{what}")).into()
}

/// The verdict for every VIP in demand, walked in ascending order of the 16-byte form, counting valid claims and
/// what this pass assigns.
pub fn choose(
    demand: &Demand,
    live: &BTreeMap<String, LiveNode>,
    claims: &BTreeMap<Vip, ClaimState<'_>>,
    moves: Moves,
) -> BTreeMap<Vip, Verdict> {
    let mut load: BTreeMap<&str, i64> = BTreeMap::new();
    for owner in claims.values().filter(|claim| !claim.fresh).filter_map(|claim| claim.owner) {
        *load.entry(owner).or_default() += 1;
    }
    let unclaimed = ClaimState::default();
    let mut verdicts = BTreeMap::new();
    // VIPs share their candidates by the thousand.
    let mut groups: HashMap<*const Candidates, Eligible<'_>> = HashMap::new();
    for (vip, wanted) in &demand.vips {
        let claim = claims.get(vip).unwrap_or(&unclaimed);
        if let Some(owner) = claim.owner.filter(|_| claim.fresh) {
            *load.entry(owner).or_default() += 1;
        }
        let group = groups.entry(Arc::as_ptr(&wanted.candidates));
        let eligible = &*group.or_insert_with(|| Eligible::new(&wanted.candidates, live));
        if stays(claim, eligible, moves.failback) {
            verdicts.insert(*vip, Verdict::Keep);
            continue;
        }
        let rank = || rank(*vip, eligible, claim, &load, moves.failback);
        let verdict = match claim.owner {
            None => Verdict::Take(
                claim.standing.cloned().unwrap_or_else(|| rank().into_iter().map(str::to_owned).collect()),
            ),
            Some(owner) => {
                // Only the owner acts on this, so it may use what only it has heard.
                let heard = |name: &str| live.get(name).is_some_and(|node| node.heard);
                let successors: Vec<&str> = rank().into_iter().filter(|name| heard(name)).collect();
                judge(*vip, owner, wanted, live, eligible, &successors, moves)
            }
        };
        let (from, to) = match &verdict {
            Verdict::Keep => (None, None),
            Verdict::HandOver { to, .. } => (claim.owner, Some(to)),
            Verdict::GiveUp { to, .. } => (claim.owner, to.as_ref()),
            Verdict::Take(ranked) => (None, ranked.first()),
        };
        if let Some(from) = from {
            *load.entry(from).or_default() -= 1;
        }
        // The verdict owns its names; the load borrows those of the demand.
        if let Some((name, _)) = to.and_then(|to| wanted.candidates.get_key_value(to)) {
            *load.entry(name).or_default() += 1;
        }
        verdicts.insert(*vip, verdict);
    }
    verdicts
}

/// Whom the owner of these VIPs would have as its heir: the best of the others, spread as if it were gone. Who would do as
/// well as any other stays.
pub fn heirs<'a>(
    owner: &str,
    demand: &'a Demand,
    live: &BTreeMap<String, LiveNode>,
    claims: &BTreeMap<Vip, ClaimState<'a>>,
    failback: Failback,
) -> BTreeMap<Vip, Option<&'a str>> {
    let mut others = live.clone();
    others.remove(owner);
    let mut load: BTreeMap<&str, i64> = BTreeMap::new();
    for owner in claims.values().filter_map(|claim| claim.owner) {
        *load.entry(owner).or_default() += 1;
    }
    let mut groups: HashMap<*const Candidates, Eligible<'a>> = HashMap::new();
    let (mut found, mut rest) = (BTreeMap::new(), Vec::new());
    for (vip, wanted) in &demand.vips {
        let Some(claim) = claims.get(vip).filter(|claim| claim.owner == Some(owner)) else { continue };
        let group = Arc::as_ptr(&wanted.candidates);
        let eligible = groups.entry(group).or_insert_with(|| Eligible::new(&wanted.candidates, &others));
        let heir = ClaimState { owner: claim.preferred, ..*claim };
        if stays(&heir, eligible, failback) {
            *load.entry(claim.preferred.unwrap_or_default()).or_default() += 1;
            found.insert(*vip, claim.preferred);
        } else {
            rest.push((*vip, claim, group));
        }
    }
    for (vip, claim, group) in rest {
        let best = groups.get(&group).and_then(|of| rank(vip, of, claim, &load, failback).first().copied());
        if let Some(best) = best {
            *load.entry(best).or_default() += 1;
        }
        found.insert(vip, best);
    }
    found
}

/// Whether no ranking could move this VIP: the usual case, for which nobody is hashed.
fn stays(claim: &ClaimState<'_>, eligible: &Eligible<'_>, failback: Failback) -> bool {
    let Some(own) = claim.owner.and_then(|owner| eligible.nodes.get(owner)) else { return false };
    match failback {
        Failback::Never => eligible.best == Some(own.tier),
        Failback::Preferred => eligible.best == Some(own.tier) && own.weight >= eligible.weight,
        Failback::Always => false,
    }
}

/// The candidates that have a live session and a link to announce on.
struct Eligible<'a> {
    nodes: BTreeMap<&'a str, &'a Candidate>,
    /// The best tier that any of them is in.
    best: Option<Tier>,
    /// The greatest weight in that tier.
    weight: u32,
}

impl<'a> Eligible<'a> {
    fn new(candidates: &'a Candidates, live: &BTreeMap<String, LiveNode>) -> Self {
        let may = |(name, candidate): &(&String, &Candidate)| {
            live.get(*name).is_some_and(|node| has_link(candidate, node))
        };
        let nodes: BTreeMap<&str, &Candidate> =
            candidates.iter().filter(may).map(|(name, candidate)| (name.as_str(), candidate)).collect();
        let best = nodes.values().map(|candidate| candidate.tier).min();
        let of_best = nodes.values().filter(|candidate| Some(candidate.tier) == best);
        let weight = of_best.map(|candidate| candidate.weight).max().unwrap_or_default();
        Self { nodes, best, weight }
    }
}

fn has_link(candidate: &Candidate, node: &LiveNode) -> bool {
    node.links.announce(&candidate.interfaces)
}

/// The best non-empty tier, by preference weight, then by fewest VIPs (not where MetalLB's choice is wanted: it would be
/// moved there at once), then by [`tie_break`]. Before all of them whom a release has named; of those that weigh the same,
/// the heir, unless MetalLB's choice is wanted.
fn rank<'a>(
    vip: Vip,
    eligible: &Eligible<'a>,
    claim: &ClaimState<'_>,
    load: &BTreeMap<&str, i64>,
    failback: Failback,
) -> Vec<&'a str> {
    let named = |name: &str| Some(name) == claim.preferred;
    let (heir, held) = match failback {
        Failback::Always => (None, None),
        Failback::Preferred | Failback::Never => (claim.preferred, Some(load)),
    };
    let held = |name: &str| held.and_then(|load| load.get(name)).copied().unwrap_or_default();
    let best = eligible.nodes.iter().filter(|(_, c)| Some(c.tier) == eligible.best);
    let mut ranked: Vec<(&str, &Candidate)> = best.map(|(name, c)| (*name, *c)).collect();
    ranked.sort_by_cached_key(|(name, candidate)| {
        let weight = Reverse(candidate.weight);
        (!(claim.released && named(name)), weight, heir != Some(*name), held(name), tie_break(name, vip))
    });
    ranked.into_iter().map(|(name, _)| name).collect()
}

/// The node that would own this VIP if it had one of the interfaces that advertisements name; `None` while some live
/// candidate has one, or none is named.
pub fn stranded<'a>(vip: Vip, wanted: &'a VipDemand, live: &BTreeMap<String, LiveNode>) -> Option<&'a str> {
    let alive =
        || wanted.candidates.iter().filter_map(|(name, candidate)| Some((name, candidate, live.get(name)?)));
    let somewhere = |(_, candidate, node): (_, &Candidate, &LiveNode)| {
        candidate.interfaces == Interfaces::All || has_link(candidate, node)
    };
    if alive().any(somewhere) {
        return None;
    }
    let order = |(name, candidate, _): &(&String, &Candidate, &LiveNode)| {
        (candidate.tier, Reverse(candidate.weight), tie_break(name, vip))
    };
    alive().min_by_key(order).map(|(name, ..)| name.as_str())
}

fn judge(
    vip: Vip,
    owner: &str,
    wanted: &VipDemand,
    live: &BTreeMap<String, LiveNode>,
    eligible: &Eligible<'_>,
    ranked: &[&str],
    moves: Moves,
) -> Verdict {
    let other = ranked.iter().find(|node| **node != owner);
    let Some(own) = eligible.nodes.get(owner) else {
        return Verdict::GiveUp {
            to: other.map(|node| (*node).to_owned()),
            why: ineligible_because(owner, wanted, live),
        };
    };
    let Some(best) = other.and_then(|node| eligible.nodes.get_key_value(*node)) else { return Verdict::Keep };
    let hand_over = |to: &str, why| Verdict::HandOver { to: to.to_owned(), why };
    if own.tier == Tier::NotReady && best.1.tier < own.tier && !moves.unready {
        return Verdict::Keep;
    }
    if best.1.tier < own.tier {
        let why = match own.tier {
            Tier::Ready | Tier::Cordoned => "node is cordoned",
            Tier::Unsteady => "endpoints on the node come and go",
            Tier::NotReady => "node is not ready",
        };
        return hand_over(best.0, why);
    }
    let metallb =
        |(name, candidate): &(&&str, &&Candidate)| (Reverse(candidate.weight), tie_break(name, vip));
    let in_tier = eligible.nodes.iter().filter(|(_, candidate)| candidate.tier == own.tier);
    match moves.failback {
        Failback::Never => Verdict::Keep,
        Failback::Preferred if best.1.weight > own.weight => hand_over(best.0, "another node is preferred"),
        Failback::Preferred => Verdict::Keep,
        Failback::Always => match in_tier.min_by_key(metallb) {
            Some((first, _)) if *first != owner && ranked.contains(first) => {
                hand_over(first, "the first choice is back")
            }
            _ => Verdict::Keep,
        },
    }
}

fn ineligible_because(owner: &str, wanted: &VipDemand, live: &BTreeMap<String, LiveNode>) -> &'static str {
    let Some(candidate) = wanted.candidates.get(owner) else {
        let otherwise = "node is no longer selected, or is excluded";
        return wanted.nobody_because.map_or(otherwise, Nobody::words);
    };
    match live.get(owner) {
        Some(node) if !has_link(candidate, node) => "no selected interface has carrier",
        _ => "session is not live",
    }
}

#[cfg(test)]
mod tests;

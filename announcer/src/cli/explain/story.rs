//! The story of one address: pure, from a Snapshot and the Leases.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    election::{
        ClaimState, Failback, LiveNode, Moves, Verdict, choose,
        lease::{Claim, Record, Session},
    },
    kube::{ObjectKey, Snapshot},
    policy::{self, Demand, Explanation, Hindrance, Interfaces, LeftOut, Options, Refusal, Tier, VipDemand},
    vocabulary::Vip,
};

/// Everything there is to say. Its names are an interface: fields come, none goes or changes its meaning.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Story {
    pub(super) ip: String,
    /// Who announces it; `null`: nobody.
    pub(super) owner: Option<Owner>,
    /// Why nobody does.
    pub(super) not_announced_because: Option<String>,
    pub(super) pool: Option<String>,
    pub(super) advertisements: Vec<String>,
    pub(super) services: Vec<String>,
    /// Every node: its owner, who could take it in the order of the election, who could not.
    pub(super) nodes: Vec<NodeStory>,
    /// What else an operator should know.
    pub(super) notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Owner {
    pub(super) node: String,
    pub(super) epoch: u64,
    /// When it took the address, by its own clock.
    pub(super) since: Option<Timestamp>,
    /// How often the address has moved.
    pub(super) moves: u64,
    /// Seconds since its session was renewed, by its own clock, if that is longer than its lease.
    pub(super) silent_seconds: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NodeStory {
    pub(super) node: String,
    pub(super) role: Role,
    /// Place among those that could take it, from 1.
    pub(super) rank: Option<usize>,
    pub(super) weight: Option<u32>,
    pub(super) why: String,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Role {
    /// It announces the address.
    Owner,
    /// It would, if those before it did not.
    Could,
    /// It may not, or is not able to.
    Cannot,
}

/// A Lease and when it was last written.
pub(super) type Written = (Record, Option<Timestamp>);

struct Leases<'a> {
    /// By node.
    sessions: BTreeMap<&'a str, (&'a Session, Option<Timestamp>)>,
    claims: BTreeMap<Vip, (&'a Claim, Option<Timestamp>)>,
    /// Who holds the address of the story.
    owner: Option<Owner>,
    /// Who has accepted to inherit it.
    heir: Option<&'a str>,
}

pub(super) fn tell(
    snapshot: &Snapshot,
    options: &Options,
    written: &[Written],
    failback: Failback,
    vip: Vip,
    now: Timestamp,
) -> Story {
    let mut explanation = policy::explain(snapshot, options, vip);
    let mut demand = policy::decide(snapshot, options).demand;
    let leases = Leases::read(written, vip, now);
    if let Some(wanted) = demand.vips.get_mut(&vip) {
        leases.unsteady(vip).for_each(|node| wanted.distrust(node));
    }
    let lists = |(node, (session, _)): (&&str, &(&Session, _))| {
        session.links.own.contains(&vip).then(|| (*node).to_owned())
    };
    explanation.own_address_of =
        explanation.own_address_of.or_else(|| leases.sessions.iter().find_map(lists));
    let live = leases.live();
    let mut claims = leases.states();
    let verdict = choose(&demand, &live, &claims, Moves { failback, unready: true }).remove(&vip);
    let mut heard = live.clone();
    heard.retain(|node, _| {
        leases.sessions.get(node.as_str()).is_none_or(|session| silence(session, now).is_none())
    });
    let ranked = successors(&demand, heard, &mut claims, failback, vip);
    let names = snapshot.nodes.keys().cloned();
    let nodes = demand
        .vips
        .get(&vip)
        .map(|wanted| nodes(wanted, &explanation, &leases, &ranked, now, names))
        .unwrap_or_default();
    let (services, advertisements) = asked_by(&explanation);
    let mut notes = notes(snapshot, &explanation);
    notes.extend(left_out(&leases));
    if let (Some(node), Some(_)) = (&explanation.own_address_of, &leases.owner) {
        notes.push(format!("node {node} has the address itself, too: two hosts answer for it"));
    }
    if let Some((claim, _)) = leases.claims.get(&vip)
        && let (None, Some(holder)) = (&leases.owner, &claim.holder)
    {
        notes.push(format!("the claim of {holder} is void: its session was fenced or is gone"));
    }
    if let Some(Verdict::HandOver { to, why } | Verdict::GiveUp { to: Some(to), why }) = &verdict {
        notes.push(format!("its owner is about to hand it over to {to}: {why}"));
    }
    let because =
        leases.owner.is_none().then(|| nobody_because(snapshot, &explanation, &demand, &ranked, vip));
    Story {
        ip: vip.to_string(),
        owner: leases.owner,
        not_announced_because: because,
        pool: explanation.pool.as_ref().map(ToString::to_string),
        advertisements,
        services,
        nodes,
        notes,
    }
}

// === impl Leases ===

impl<'a> Leases<'a> {
    fn read(written: &'a [Written], vip: Vip, now: Timestamp) -> Self {
        let (mut sessions, mut claims) = (BTreeMap::new(), BTreeMap::new());
        for (record, at) in written {
            match record {
                Record::Claim(claim) => drop(claims.insert(claim.vip, (claim, *at))),
                Record::Session(session) => {
                    let node = session.holder.as_ref().map(|holder| holder.node.as_str());
                    let node = node.or_else(|| session.name.strip_prefix("session-"));
                    sessions.insert(node.unwrap_or_default(), (session, *at));
                }
            }
        }
        let mut leases = Self { sessions, claims, owner: None, heir: None };
        leases.owner = leases.owner_of(vip, now);
        leases.heir =
            leases.claims.get(&vip).and_then(|(claim, _)| leases.valid(claim).nth(1)).map(|(node, _)| node);
        leases
    }

    /// The nodes whose endpoints for this address come and go, as they say themselves.
    fn unsteady(&self, vip: Vip) -> impl Iterator<Item = &'a str> {
        let named = self.sessions.iter().filter(move |(_, (session, _))| session.unsteady.contains(&vip));
        named.map(|(node, _)| *node)
    }

    /// As the agents see them: alive until fenced.
    fn live(&self) -> BTreeMap<String, LiveNode> {
        let alive = self.sessions.iter().filter(|(_, (session, _))| session.holder.is_some());
        alive
            .map(|(node, (session, _))| {
                let live = LiveNode { links: session.links.clone(), heard: true };
                ((*node).to_owned(), live)
            })
            .collect()
    }

    /// Its holder and its heir, whichever's epoch is not over; and that epoch. The first one owns it.
    fn valid(&self, claim: &'a Claim) -> impl Iterator<Item = (&'a str, u64)> {
        let valid = move |(node, uid, epoch): &(&str, &str, u64)| {
            let session = self.sessions.get(node).map(|(session, _)| session);
            session.is_some_and(|s| s.uid == *uid && s.epoch == *epoch && s.holder.is_some())
        };
        claim.bindings().filter(valid).map(|(node, _, epoch)| (node, epoch))
    }

    fn states(&self) -> BTreeMap<Vip, ClaimState<'a>> {
        let state = |claim: &'a Claim| ClaimState {
            owner: self.valid(claim).next().map(|(node, _)| node),
            preferred: claim.preferred.as_deref(),
            released: claim.holder.is_none(),
            ..ClaimState::default()
        };
        self.claims.iter().map(|(vip, (claim, _))| (*vip, state(claim))).collect()
    }

    fn owner_of(&self, vip: Vip, now: Timestamp) -> Option<Owner> {
        let (claim, since) = self.claims.get(&vip)?;
        let (node, epoch) = self.valid(claim).next()?;
        let silent_seconds = self.sessions.get(node).and_then(|session| silence(session, now));
        Some(Owner { node: node.to_owned(), epoch, since: *since, moves: claim.transitions, silent_seconds })
    }
}

/// Who would take the address if its owner were gone, best first.
fn successors(
    demand: &Demand,
    mut live: BTreeMap<String, LiveNode>,
    claims: &mut BTreeMap<Vip, ClaimState<'_>>,
    failback: Failback,
    vip: Vip,
) -> Vec<String> {
    if let Some(claim) = claims.get_mut(&vip)
        && let Some(owner) = claim.owner.take()
    {
        live.remove(owner);
    }
    match choose(demand, &live, claims, Moves { failback, unready: true }).remove(&vip) {
        Some(Verdict::Take(ranked)) => ranked.to_vec(),
        _ => Vec::new(),
    }
}

/// Every node's part in it.
fn nodes(
    wanted: &VipDemand,
    explanation: &Explanation,
    leases: &Leases<'_>,
    ranked: &[String],
    now: Timestamp,
    names: impl Iterator<Item = String>,
) -> Vec<NodeStory> {
    let story = |node: String| {
        let candidate = wanted.candidates.get(&node);
        let rank = ranked.iter().position(|ranked| *ranked == node).map(|place| place + 1);
        let session = leases.sessions.get(node.as_str());
        let owns = leases.owner.as_ref().is_some_and(|owner| owner.node == node);
        let cannot = candidate.map_or_else(
            || Some(refusal(explanation, &node).to_owned()),
            |candidate| unable(&candidate.interfaces, session.map(|(session, _)| *session)),
        );
        let (role, why) = match cannot {
            _ if owns => (Role::Owner, state(session, now)),
            Some(why) => (Role::Cannot, why),
            None => {
                let tier = candidate.map_or(Tier::Ready, |candidate| candidate.tier);
                let health = match tier {
                    Tier::Ready => String::new(),
                    Tier::Cordoned => "cordoned, only if no better node is left; ".to_owned(),
                    Tier::Unsteady => {
                        "its endpoints come and go, only if no better node is left; ".to_owned()
                    }
                    Tier::NotReady => "not ready, only if no better node is left; ".to_owned(),
                };
                let heir = leases.heir == Some(node.as_str());
                let heir = if heir { "takes over with the owner's fence; " } else { "" };
                (Role::Could, health + heir + &state(session, now))
            }
        };
        let weight = candidate.map(|candidate| candidate.weight);
        NodeStory { node, role, rank: rank.filter(|_| role == Role::Could), weight, why }
    };
    let mut nodes: Vec<NodeStory> = names.map(story).collect();
    nodes.sort_by_key(|node| (node.role, node.rank.unwrap_or(usize::MAX), node.node.clone()));
    nodes
}

/// Of a node that policy lets announce: what keeps it from doing so.
fn unable(interfaces: &Interfaces, session: Option<&Session>) -> Option<String> {
    let Some(session) = session else {
        return Some("no agent has run there, for it has no session Lease: look for its Pod".to_owned());
    };
    if session.holder.is_none() && session.left.is_some_and(|left| left + 1 == session.epoch) {
        return Some("its agent was told to stop, and ended its session: start it again".to_owned());
    }
    if session.holder.is_none() {
        return Some(format!(
            "its session was fenced (epoch {}), and its agent is silent: its log says why",
            session.epoch
        ));
    }
    if session.links.announce(interfaces) {
        return None;
    }
    let names = |names: &BTreeSet<String>| match names.is_empty() {
        true => "none".to_owned(),
        false => names.iter().cloned().collect::<Vec<_>>().join(", "),
    };
    Some(match interfaces {
        Interfaces::Named(wanted) => format!(
            "no selected interface has carrier there: advertised on {}, up: {}",
            names(wanted),
            names(&session.links.up)
        ),
        _ => format!(
            "no interface that announces has carrier there: up, but excluded or without an address: {}",
            names(&session.links.up)
        ),
    })
}

/// How an agent is doing.
fn state(session: Option<&(&Session, Option<Timestamp>)>, now: Timestamp) -> String {
    let Some((session, at)) = session else { return "no session".to_owned() };
    let Some(at) = at else { return "session live".to_owned() };
    match silence(&(*session, Some(*at)), now) {
        Some(age) => format!("its session has been silent for {age} s, longer than its lease"),
        None => format!("session live, renewed {} s ago", now.duration_since(*at).as_secs().max(0)),
    }
}

/// Seconds since a session was renewed, if they are more than its lease.
fn silence((session, at): &(&Session, Option<Timestamp>), now: Timestamp) -> Option<i64> {
    let age = now.duration_since((*at)?).as_secs();
    (age > i64::try_from(session.lease.as_secs()).unwrap_or(i64::MAX)).then_some(age)
}

/// The reason of the Service that got furthest with this node.
fn refusal(explanation: &Explanation, node: &str) -> &'static str {
    let of = |verdict: &policy::ServiceVerdict| match &verdict.nodes {
        Ok(nodes) => nodes.of(node).and_then(Result::err),
        Err(_) => None,
    };
    let hindrance = || explanation.services.iter().find_map(|verdict| verdict.nodes.as_ref().err().copied());
    let furthest = explanation.services.iter().filter_map(of).max().map(Refusal::words);
    furthest
        .or_else(|| hindrance().map(Hindrance::words))
        .unwrap_or("another Service on the address keeps it out")
}

fn asked_by(explanation: &Explanation) -> (Vec<String>, Vec<String>) {
    let services = explanation.services.iter().map(|verdict| verdict.service.to_string()).collect();
    let mut ads: Vec<String> = explanation
        .services
        .iter()
        .flat_map(|verdict| &verdict.advertisements)
        .map(ToString::to_string)
        .collect();
    ads.sort();
    ads.dedup();
    (services, ads)
}

fn list(keys: &[ObjectKey]) -> String {
    keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn nobody_because(
    snapshot: &Snapshot,
    explanation: &Explanation,
    demand: &Demand,
    ranked: &[String],
    vip: Vip,
) -> String {
    let Explanation { pool, own_address_of, services, other_class, uncovered } = explanation;
    if let Some(node) = own_address_of {
        return format!("it is the own address of node {node}: take it out of the IPAddressPool");
    }
    if services.is_empty() && uncovered.is_empty() {
        return match other_class.as_slice() {
            [] => "no Service of type LoadBalancer has it in its status: look at MetalLB's controller"
                .to_owned(),
            keys => format!("{} is of another load balancer class (--lb-class)", list(keys)),
        };
    }
    if demand.refused.contains_key(&vip) {
        return format!(
            "the cluster has more addresses of its family than announcer announces ({}). Namespaces take turns, the oldest \
             address of each first, and this one's turn does not come",
            policy::MOST_VIPS
        );
    }
    let Some(VipDemand { nobody_because, .. }) = demand.vips.get(&vip) else {
        let ads = snapshot.configuration.advertisements.len();
        return match pool {
            None => "no IPAddressPool has it: add it to one".to_owned(),
            Some(pool) if ads == 0 => {
                format!("there is no L2Advertisement, so pool {pool} is not announced: create one")
            }
            Some(pool) => format!(
                "no L2Advertisement covers pool {pool} for Service {}: see their ipAddressPools and serviceSelectors",
                list(uncovered)
            ),
        };
    };
    match (nobody_because, ranked.first()) {
        (Some(because), _) => because.words().to_owned(),
        (None, Some(first)) => format!("nobody has claimed it yet; {first} is next"),
        (None, None) => "none of the nodes that may announce it is able to: each says why".to_owned(),
    }
}

/// Interfaces on which nodes announce nothing by themselves: one note for each, however many nodes have it.
fn left_out(leases: &Leases<'_>) -> Vec<String> {
    let mut nodes: BTreeMap<(&String, &LeftOut), Vec<&str>> = BTreeMap::new();
    for (node, (session, _)) in leases.sessions.iter().filter(|(_, (session, _))| session.holder.is_some()) {
        for reason in &session.links.left_out {
            nodes.entry(reason).or_default().push(node);
        }
    }
    let note = |((link, why), nodes): ((&String, &LeftOut), Vec<&str>)| {
        let (named, more) = nodes.split_at(nodes.len().min(3));
        let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
        let why = why.words();
        format!("not announced on {link} of {}{more}: {why}", named.join(", "))
    };
    nodes.into_iter().map(note).collect()
}

fn notes(snapshot: &Snapshot, explanation: &Explanation) -> Vec<String> {
    let mut notes = Vec::new();
    if !explanation.services.is_empty() {
        for key in &explanation.other_class {
            notes.push(format!("Service {key} has it too, and is of another load balancer class"));
        }
        for key in &explanation.uncovered {
            notes.push(format!("Service {key} has it too, and no L2Advertisement covers it"));
        }
    }
    let invalid = |object| format!("invalid, so agents may go by an older configuration: {object}");
    notes.extend(snapshot.invalid.iter().map(invalid));
    notes.extend(snapshot.unreadable.iter().map(ToString::to_string));
    for (key, service) in &snapshot.services {
        notes.extend(service.misspelt.iter().map(|ip| {
            format!("Service {key} has {ip:?} in its status, which is no address as it is written: no agent reads it")
        }));
    }
    notes
}

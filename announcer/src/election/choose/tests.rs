use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::policy::Interfaces;

fn vip(text: &str) -> Vip {
    text.parse().expect("an address")
}

fn candidate(weight: u32, tier: Tier) -> Candidate {
    Candidate { weight, tier, interfaces: Interfaces::All }
}

fn demand(vips: &[&str], nodes: &[(&str, u32, Tier)]) -> Demand {
    let candidates: BTreeMap<String, Candidate> =
        nodes.iter().map(|(name, weight, tier)| ((*name).to_owned(), candidate(*weight, *tier))).collect();
    Demand {
        vips: vips
            .iter()
            .map(|v| (vip(v), VipDemand { candidates: candidates.clone().into(), ..VipDemand::default() }))
            .collect(),
        nodes: candidates.keys().cloned().collect(),
        ..Demand::default()
    }
}

fn live(nodes: &[&str]) -> BTreeMap<String, LiveNode> {
    let node = LiveNode { links: Links::from_iter(["eth0".to_owned()]), heard: true };
    nodes.iter().map(|name| ((*name).to_owned(), node.clone())).collect()
}

fn owned<'a>(by: &[(&str, &'a str)]) -> BTreeMap<Vip, ClaimState<'a>> {
    by.iter().map(|(v, n)| (vip(v), ClaimState { owner: Some(*n), ..ClaimState::default() })).collect()
}

/// With an owner that has been not Ready for long, if it is not.
fn choose(
    demand: &Demand,
    live: &BTreeMap<String, LiveNode>,
    claims: &BTreeMap<Vip, ClaimState<'_>>,
    failback: Failback,
) -> BTreeMap<Vip, Verdict> {
    super::choose(demand, live, claims, Moves { failback, unready: true })
}

fn take(nodes: &[&str]) -> Verdict {
    Verdict::Take(nodes.iter().map(|n| (*n).to_owned()).collect())
}

#[test]
fn ties_break_as_in_metallb() {
    // reference: MetalLB's TestSortL2Candidates and the same formula elsewhere
    for (ip, order) in [
        ("10.20.30.1", vec!["iris2", "iris1"]),
        ("10.0.0.1", vec!["node-b", "node-a", "node-c"]),
        ("10.0.0.2", vec!["node-b", "node-c", "node-a"]),
        ("10.20.30.1", vec!["node-b", "node-c", "node-a"]),
        ("192.168.1.240", vec!["node-a", "node-c", "node-b"]),
        ("192.168.1.241", vec!["node-c", "node-a", "node-b"]),
        ("192.168.1.240", vec!["worker-5", "worker-2", "worker-1", "worker-3", "worker-4"]),
        ("fc00:f853:ccd:e799::1", vec!["worker-3", "worker-2", "worker-1", "worker-5", "worker-4"]),
    ] {
        let mut nodes = order.clone();
        nodes.sort_by_key(|node| tie_break(node, vip(ip)));
        assert_eq!(nodes, order, "{ip}");
    }
    // The digests themselves: another spelling of the address could sort these few alike.
    let prefix = |node| tie_break(node, vip("10.20.30.1"))[..4].to_vec();
    assert_eq!(prefix("iris1"), [0xe4, 0x2a, 0xd6, 0x1a]);
    assert_eq!(prefix("iris2"), [0xaf, 0x6c, 0xb4, 0xe7]);
}

#[test]
fn vips_without_an_owner_spread_over_the_nodes() {
    let vips: Vec<String> = (1..=9).map(|n| format!("10.4.11.{n}")).collect();
    let vips: Vec<&str> = vips.iter().map(String::as_str).collect();
    let nodes = [("a", 0, Tier::Ready), ("b", 0, Tier::Ready), ("c", 0, Tier::Ready)];
    let mut count = BTreeMap::<String, usize>::new();
    for verdict in
        choose(&demand(&vips, &nodes), &live(&["a", "b", "c"]), &BTreeMap::new(), Failback::Preferred)
            .into_values()
    {
        let Verdict::Take(ranked) = verdict else { panic!("{verdict:?}") };
        *count.entry(ranked[0].clone()).or_default() += 1;
    }
    assert_eq!(count.into_values().collect::<Vec<_>>(), [3, 3, 3]);
}

#[test]
fn a_returning_node_takes_nothing_back() {
    let nodes = [("a", 0, Tier::Ready), ("b", 0, Tier::Ready)];
    for owner in ["a", "b"] {
        let verdicts = choose(
            &demand(&["10.0.0.1"], &nodes),
            &live(&["a", "b"]),
            &owned(&[("10.0.0.1", owner)]),
            Failback::Preferred,
        );
        assert_eq!(verdicts[&vip("10.0.0.1")], Verdict::Keep);
    }
}

#[test]
fn a_preferred_node_takes_its_vip_back_unless_told_never() {
    let demand = demand(&["10.0.0.1"], &[("a", 0, Tier::Ready), ("b", 50, Tier::Ready)]);
    let verdict = |failback| {
        choose(&demand, &live(&["a", "b"]), &owned(&[("10.0.0.1", "a")]), failback)[&vip("10.0.0.1")].clone()
    };
    assert_eq!(
        verdict(Failback::Preferred),
        Verdict::HandOver { to: "b".into(), why: "another node is preferred" }
    );
    assert_eq!(verdict(Failback::Never), Verdict::Keep);
}

#[test]
fn failback_always_returns_to_metallbs_choice() {
    let demand = demand(&["10.20.30.1"], &[("iris1", 0, Tier::Ready), ("iris2", 0, Tier::Ready)]);
    let verdicts =
        choose(&demand, &live(&["iris1", "iris2"]), &owned(&[("10.20.30.1", "iris1")]), Failback::Always);
    assert_eq!(
        verdicts[&vip("10.20.30.1")],
        Verdict::HandOver { to: "iris2".into(), why: "the first choice is back" }
    );
}

#[test]
fn a_cordoned_owner_hands_over_to_a_ready_node() {
    let demand = demand(&["10.0.0.1"], &[("a", 0, Tier::Cordoned), ("b", 0, Tier::Ready)]);
    let verdicts = choose(&demand, &live(&["a", "b"]), &owned(&[("10.0.0.1", "a")]), Failback::Never);
    assert_eq!(verdicts[&vip("10.0.0.1")], Verdict::HandOver { to: "b".into(), why: "node is cordoned" });
}

#[test]
fn a_cordoned_owner_alone_keeps_its_vip() {
    let demand = demand(&["10.0.0.1"], &[("a", 0, Tier::Cordoned), ("b", 0, Tier::Ready)]);
    let verdicts = choose(&demand, &live(&["a"]), &owned(&[("10.0.0.1", "a")]), Failback::Preferred);
    assert_eq!(verdicts[&vip("10.0.0.1")], Verdict::Keep);
}

#[test]
fn nothing_moves_when_every_node_is_not_ready() {
    let demand = demand(&["10.0.0.1"], &[("a", 0, Tier::NotReady), ("b", 0, Tier::NotReady)]);
    for owner in ["a", "b"] {
        let verdicts =
            choose(&demand, &live(&["a", "b"]), &owned(&[("10.0.0.1", owner)]), Failback::Preferred);
        assert_eq!(verdicts[&vip("10.0.0.1")], Verdict::Keep);
    }
}

#[test]
fn an_owner_without_carrier_gives_up() {
    let demand = demand(&["10.0.0.1"], &[("a", 0, Tier::Ready), ("b", 0, Tier::Ready)]);
    let mut live = live(&["a", "b"]);
    live.get_mut("a").expect("a").links.up.clear();
    let verdicts = choose(&demand, &live, &owned(&[("10.0.0.1", "a")]), Failback::Preferred);
    assert_eq!(
        verdicts[&vip("10.0.0.1")],
        Verdict::GiveUp { to: Some("b".into()), why: "no selected interface has carrier" }
    );
}

#[test]
fn a_link_that_announces_only_what_names_it_is_none_for_other_addresses() {
    let both = [("a", 0, Tier::Ready), ("b", 0, Tier::Ready)];
    let mut live = live(&["a", "b"]);
    let mgmt = BTreeSet::from(["mgmt0".to_owned()]);
    live.get_mut("a").expect("a").links =
        Links { up: mgmt.clone(), only_named: mgmt.clone(), ..Links::default() };
    let verdict = |interfaces: Interfaces| {
        let mut demand = demand(&["10.0.0.1"], &both);
        for candidate in demand.vips.values_mut().flat_map(|v| Arc::make_mut(&mut v.candidates).values_mut())
        {
            candidate.interfaces = interfaces.clone();
        }
        choose(&demand, &live, &owned(&[("10.0.0.1", "a")]), Failback::Preferred)[&vip("10.0.0.1")].clone()
    };
    let gives_up = |verdict| matches!(verdict, Verdict::GiveUp { to: Some(to), .. } if to == "b");
    assert!(gives_up(verdict(Interfaces::All)));
    assert!(gives_up(verdict(Interfaces::AllAnd(BTreeSet::from(["eth9".to_owned()])))));
    assert_eq!(verdict(Interfaces::Named(mgmt.clone())), Verdict::Keep);
    assert_eq!(verdict(Interfaces::AllAnd(mgmt.clone())), Verdict::Keep);
}

#[test]
fn an_interface_that_only_one_node_has_elects_that_node() {
    let mut demand = demand(&["10.0.0.1"], &[("a", 0, Tier::Ready), ("b", 0, Tier::Ready)]);
    for candidate in demand.vips.values_mut().flat_map(|v| Arc::make_mut(&mut v.candidates).values_mut()) {
        candidate.interfaces = Interfaces::Named(BTreeSet::from(["eth1".to_owned()]));
    }
    let mut live = live(&["a", "b"]);
    live.get_mut("b").expect("b").links.up.insert("eth1".to_owned());
    let verdicts = choose(&demand, &live, &BTreeMap::new(), Failback::Preferred);
    assert_eq!(verdicts[&vip("10.0.0.1")], take(&["b"]));
}

#[test]
fn the_successor_named_by_a_release_comes_first() {
    let demand = demand(&["10.20.30.1"], &[("iris1", 0, Tier::Ready), ("iris2", 0, Tier::Ready)]);
    let claims = BTreeMap::from([(
        vip("10.20.30.1"),
        ClaimState { preferred: Some("iris1"), ..ClaimState::default() },
    )]);
    let verdicts = choose(&demand, &live(&["iris1", "iris2"]), &claims, Failback::Preferred);
    assert_eq!(verdicts[&vip("10.20.30.1")], take(&["iris1", "iris2"]));
}

#[test]
fn a_node_that_is_not_ready_keeps_its_vips_until_it_has_been_so_for_a_while() {
    let demand = demand(&["10.0.0.1"], &[("a", 0, Tier::NotReady), ("b", 0, Tier::Ready)]);
    let verdict = |unready| {
        let moves = Moves { unready, ..Moves::default() };
        let owned = owned(&[("10.0.0.1", "a")]);
        super::choose(&demand, &live(&["a", "b"]), &owned, moves)[&vip("10.0.0.1")].clone()
    };
    assert_eq!(verdict(false), Verdict::Keep);
    assert_eq!(verdict(true), Verdict::HandOver { to: "b".into(), why: "node is not ready" });
}

#[test]
fn a_vip_whose_interfaces_no_live_node_has_is_stranded_at_the_one_that_would_be_first() {
    let mut demand = demand(&["10.20.30.1"], &[("iris1", 0, Tier::Ready), ("iris2", 0, Tier::Ready)]);
    let vip = vip("10.20.30.1");
    let stranded = |demand: &Demand, live| stranded(vip, &demand.vips[&vip], &live).map(str::to_owned);
    assert_eq!(stranded(&demand, live(&["iris1", "iris2"])), None);
    let candidates = demand.vips.values().flat_map(|of| of.candidates.iter());
    let candidates: BTreeMap<String, Candidate> = candidates
        .map(|(name, candidate)| {
            let interfaces = Interfaces::Named(BTreeSet::from(["eth9".to_owned()]));
            (name.clone(), Candidate { interfaces, ..candidate.clone() })
        })
        .collect();
    demand.vips.insert(vip, VipDemand { candidates: candidates.into(), ..VipDemand::default() });
    assert_eq!(stranded(&demand, live(&["iris1", "iris2"])), Some("iris2".to_owned()));
    assert_eq!(stranded(&demand, live(&["iris1"])), Some("iris1".to_owned()));
    let mut there = live(&["iris1", "iris2"]);
    there.get_mut("iris1").expect("iris1").links.up.insert("eth9".to_owned());
    assert_eq!(stranded(&demand, there), None);
}

#[test]
fn whoever_looks_while_claims_come_in_finds_the_turns_of_whoever_looked_before() {
    let vips: Vec<String> = (1..=30).map(|n| format!("10.4.11.{n}")).collect();
    let vips: Vec<&str> = vips.iter().map(String::as_str).collect();
    let demand = demand(&vips, &[("a", 0, Tier::Ready), ("b", 0, Tier::Ready), ("c", 0, Tier::Ready)]);
    let live = live(&["a", "b", "c"]);
    let before = choose(&demand, &live, &BTreeMap::new(), Failback::Preferred);
    // The last ten are taken first.
    let turns: BTreeMap<Vip, Arc<[String]>> = before
        .iter()
        .map(|(vip, verdict)| match verdict {
            Verdict::Take(ranked) => (*vip, ranked.clone()),
            other => panic!("{vip}: {other:?}"),
        })
        .collect();
    let state = |(n, (vip, turns)): (usize, (&Vip, &Arc<[String]>))| {
        let owner = (n >= 20).then(|| turns[0].clone());
        (*vip, owner)
    };
    let owners: BTreeMap<Vip, Option<String>> = turns.iter().enumerate().map(state).collect();
    for has_looked_before in [true, false] {
        let claims = turns.iter().map(|(vip, turns)| {
            let (owner, standing) = (owners[vip].as_deref(), has_looked_before.then_some(turns));
            (*vip, ClaimState { owner, standing, fresh: true, ..ClaimState::default() })
        });
        let after = choose(&demand, &live, &claims.collect(), Failback::Preferred);
        for (vip, verdict) in after.iter().filter(|(vip, _)| owners[vip].is_none()) {
            assert_eq!(verdict, &before[vip], "{vip}");
        }
    }
}

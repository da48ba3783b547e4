//! Services whose endpoints, or whose status, come and go.

use std::time::{Duration, Instant};

use super::*;
use crate::policy::{Damped, Damping};

/// Agents that see one Snapshot after the other.
struct Played {
    damping: Damping,
    now: Instant,
    damped: Damped,
}

impl Played {
    fn new() -> Self {
        Self { damping: Damping::default(), now: Instant::now(), damped: Damped::default() }
    }

    /// What is asked for, so many seconds later.
    fn after(&mut self, seconds: u64, cluster: &Cluster) -> Demand {
        self.now += Duration::from_secs(seconds);
        let (snapshot, options) = (cluster.snapshot(), Options::default());
        let mut decision = decide(&snapshot, &options);
        self.damped = self.damping.damp(self.now, &snapshot, &options, &mut decision);
        decision.demand
    }

    /// The tier of each candidate.
    fn tiers(&mut self, seconds: u64, cluster: &Cluster) -> Vec<(String, Tier)> {
        let demand = self.after(seconds, cluster);
        let candidates =
            demand.vips.get(&vip(VIP)).map(|wanted| wanted.candidates.clone()).unwrap_or_default();
        candidates.iter().map(|(node, candidate)| (node.clone(), candidate.tier)).collect()
    }

    fn nodes(&mut self, seconds: u64, cluster: &Cluster) -> Vec<String> {
        self.tiers(seconds, cluster).into_iter().map(|(node, _)| node).collect()
    }
}

fn cluster(policy: Value) -> Cluster {
    Cluster::new().nodes(&["iris1", "iris2"]).advertise("ad", json!({})).service("s", &[VIP], policy)
}

fn local_on(nodes: &[&str]) -> Cluster {
    cluster(local()).served_on("s", nodes)
}

fn both() -> Cluster {
    local_on(&["iris1", "iris2"])
}

fn tiers(of: [(&str, Tier); 2]) -> Vec<(String, Tier)> {
    of.map(|(node, tier)| (node.to_owned(), tier)).to_vec()
}

#[test]
fn a_node_that_loses_its_endpoint_twice_is_trusted_when_it_has_one_again() {
    let mut played = Played::new();
    played.after(0, &both());
    for _ in 0..2 {
        assert_eq!(played.nodes(1, &local_on(&["iris2"])), ["iris2"]);
        assert_eq!(played.tiers(1, &both()), tiers([("iris1", Tier::Ready), ("iris2", Tier::Ready)]));
    }
    assert_eq!(played.damped, Damped::default());
}

#[test]
fn a_node_whose_endpoint_comes_and_goes_is_the_last_choice_for_twice_as_long_each_time() {
    let mut played = Played::new();
    played.after(0, &both());
    let mut longest = Vec::new();
    for _ in 0..12 {
        played.after(1, &local_on(&["iris2"]));
        assert!(
            played.nodes(0, &local_on(&["iris2"])) == ["iris2"],
            "without an endpoint it is no candidate"
        );
        let due = played.damped.due().map_or(0, |due| due.as_secs());
        longest.push(due);
        let unsteady = if due > 1 { Tier::Unsteady } else { Tier::Ready };
        assert_eq!(played.tiers(1, &both()), tiers([("iris1", unsteady), ("iris2", Tier::Ready)]));
    }
    assert_eq!(longest, [0, 0, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
}

#[test]
fn a_node_that_was_the_last_choice_is_trusted_again_when_its_time_is_over() {
    let mut played = Played::new();
    played.after(0, &both());
    for _ in 0..3 {
        played.after(1, &local_on(&["iris2"]));
        played.after(0, &both());
    }
    assert_eq!(played.damped.due(), Some(Duration::from_secs(4)));
    assert_eq!(played.tiers(4, &both()), tiers([("iris1", Tier::Ready), ("iris2", Tier::Ready)]));
    assert_eq!(played.damped, Damped::default());
}

#[test]
fn an_unsteady_node_that_is_the_only_one_is_still_a_candidate() {
    let mut played = Played::new();
    played.after(0, &both());
    for _ in 0..6 {
        played.after(1, &local_on(&["iris2"]));
        played.after(1, &both());
    }
    assert_eq!(played.tiers(1, &local_on(&["iris1"])), [("iris1".to_owned(), Tier::Unsteady)]);
}

#[test]
fn losses_are_forgiven_one_after_the_other() {
    let mut played = Played::new();
    played.after(0, &both());
    for _ in 0..3 {
        played.after(1, &local_on(&["iris2"]));
        played.after(0, &both());
    }
    // Two of three are forgiven: the next ones are the second and the third.
    played.after(240, &both());
    for expected in [None, Some(Duration::from_secs(4))] {
        played.after(1, &local_on(&["iris2"]));
        assert_eq!(played.damped.due(), expected);
        played.after(0, &both());
    }
}

#[test]
fn what_an_operator_says_is_not_damped() {
    let mut played = Played::new();
    let excluded = || {
        let label = json!({"node.kubernetes.io/exclude-from-external-load-balancers": ""});
        both().node("iris1", label)
    };
    played.after(0, &both());
    for _ in 0..6 {
        assert_eq!(played.nodes(1, &excluded()), ["iris2"]);
        assert_eq!(played.tiers(1, &both()), tiers([("iris1", Tier::Ready), ("iris2", Tier::Ready)]));
    }
}

#[test]
fn an_address_whose_last_endpoint_comes_and_goes_stays_where_it_is_from_the_third_time_on() {
    for policy in [json!({}), local()] {
        let mut played = Played::new();
        let (served, unserved) = (cluster(policy.clone()).served_on("s", &["iris1"]), cluster(policy));
        let before = played.nodes(0, &served);
        let mut stayed = Vec::new();
        for _ in 0..5 {
            stayed.push(played.nodes(1, &unserved) == before);
            assert_eq!(played.nodes(1, &served), before);
        }
        assert_eq!(stayed, [false, false, true, true, true]);
        played.after(1, &unserved);
        let left = played.damped.kept[&vip(VIP)];
        assert!(left <= Duration::from_secs(60), "{left:?}");
        assert_eq!(played.nodes(left.as_secs(), &unserved), [""; 0], "and not for ever");
    }
}

#[test]
fn an_address_that_another_controller_takes_out_of_the_status_and_back_stays_from_the_third_time_on() {
    let mut played = Played::new();
    let served = || cluster(json!({})).served_on("s", &["iris1"]);
    let others = json!({"status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}}});
    let flipped = || cluster(others.clone()).served_on("s", &["iris1"]);
    let before = played.nodes(0, &served());
    let stayed: Vec<bool> = (0..5)
        .map(|_| {
            let stayed = played.nodes(1, &flipped()) == before;
            assert_eq!(played.nodes(1, &served()), before);
            stayed
        })
        .collect();
    assert_eq!(stayed, [false, false, true, true, true]);
}

#[test]
fn an_address_that_comes_and_goes_ends_at_once_with_its_service_or_its_class() {
    let flapping = || {
        let mut played = Played::new();
        let (served, unserved) = (cluster(json!({})).served_on("s", &["iris1"]), cluster(json!({})));
        for _ in 0..4 {
            played.after(1, &served);
            played.after(0, &unserved);
        }
        assert_eq!(played.nodes(0, &unserved), ["iris1", "iris2"]);
        played
    };
    let deleted = Cluster::new().nodes(&["iris1", "iris2"]).advertise("ad", json!({}));
    assert_eq!(flapping().nodes(0, &deleted), [""; 0]);
    let classed = cluster(json!({"spec": {"loadBalancerClass": "x/y"}}));
    assert_eq!(flapping().nodes(0, &classed), [""; 0]);
    let unadvertised = Cluster::new().nodes(&["iris1"]).service("s", &[VIP], json!({}));
    assert_eq!(flapping().nodes(0, &unadvertised), [""; 0]);
}

#[test]
fn nothing_is_remembered_of_what_has_been_steady_for_long() {
    let mut played = Played::new();
    for number in 0..200 {
        let ip = format!("10.20.30.{number}");
        let served =
            Cluster::new().nodes(&["iris1"]).advertise("ad", json!({})).service("s", &[&ip], local());
        for nodes in [&["iris1"][..], &[], &["iris1"], &[], &["iris1"], &[]] {
            let slice = |nodes: &[&str]| {
                served.0.iter().cloned().fold(Cluster(Vec::new()), Cluster::with).served_on("s", nodes)
            };
            played.after(5, &slice(nodes));
        }
    }
    assert!(played.damping.remembered() < 200, "{}", played.damping.remembered());
    played.after(1_300, &Cluster::new());
    assert_eq!(played.damping.remembered(), 0);
}

//! Who announces in the end: `speaker/layer2_controller_test.go`, case by case, with every node alive and
//! `--failback=always`, which is MetalLB's order. The election is asked as well: MetalLB knows no line between the two.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::election::{ClaimState, Failback, LiveNode, Moves, Verdict, choose};

const OTHER: &str = "10.20.30.2";

fn live(names: &[&str]) -> BTreeMap<String, LiveNode> {
    let node = LiveNode { links: ["eth0".to_owned()].into_iter().collect(), heard: true };
    names.iter().map(|name| ((*name).to_owned(), node.clone())).collect()
}

/// Best first; empty: nobody.
fn ranking(demand: &Demand, address: &str, alive: &[&str]) -> Vec<String> {
    match choose(demand, &live(alive), &BTreeMap::new(), Moves { failback: Failback::Always, unready: true })
        .remove(&vip(address))
    {
        Some(Verdict::Take(ranked)) => ranked.to_vec(),
        _ => Vec::new(),
    }
}

/// Of the nodes iris1 and iris2; `-` for nobody.
fn winner(cluster: &Cluster, address: &str) -> String {
    let ranked = ranking(&cluster.demand(), address, &["iris1", "iris2"]);
    ranked.first().cloned().unwrap_or_else(|| "-".to_owned())
}

fn two_nodes() -> Cluster {
    Cluster::new().nodes(&["iris1", "iris2"])
}

/// An endpoint: `+` ready, `-` not, and its node.
fn endpoints(service: &str, cluster: Cluster, text: &str) -> Cluster {
    let of = |word: &str| json!({"ready": word.starts_with('+')});
    let all: Vec<(&str, Value)> = text.split_whitespace().map(|word| (&word[1..], of(word))).collect();
    cluster.slice(service, &all)
}

/// `TestShouldAnnounceEPSlices`: 10.20.30.1 hashes to iris2 first, 10.20.30.2 to iris1.
#[test]
fn local_endpoints_decide_who_announces_in_metallbs_thirteen_cases() {
    let cases = [
        ("one service, an endpoint on iris1", "+iris1", None, "iris1", "-"),
        ("one service, an endpoint on iris2", "+iris2", None, "iris2", "-"),
        ("one service, nothing ready", "-iris1 -iris2", None, "-", "-"),
        ("one service, endpoints across both: the hash", "+iris1 +iris2", None, "iris2", "-"),
        ("one service, the hash's winner not ready", "+iris1 -iris2", None, "iris1", "-"),
        ("one service, both on the loser, one unready", "+iris1 -iris1", None, "iris1", "-"),
        ("two services, apart", "+iris1", Some("+iris2"), "iris1", "iris2"),
        ("two services, both on iris1", "+iris1", Some("+iris1"), "iris1", "iris1"),
        ("two services, across both", "+iris1 +iris2", Some("+iris1 +iris2"), "iris2", "iris1"),
        (
            "two services, one with an unready endpoint",
            "+iris1 -iris2",
            Some("+iris1 +iris2"),
            "iris1",
            "iris1",
        ),
        ("two services, both with one", "+iris1 -iris2", Some("-iris1 +iris2"), "iris1", "iris2"),
        ("three endpoints, unevenly: the count does not matter", "+iris1 +iris1 +iris2", None, "iris2", "-"),
        ("three endpoints, those of the winner unready", "-iris2 -iris2 +iris1", None, "iris1", "-"),
    ];
    for (case, first, second, announces, announces_other) in cases {
        let cluster = two_nodes().advertise("ad", json!({})).service("s", &[VIP], local());
        let mut cluster = endpoints("s", cluster, first);
        if let Some(second) = second {
            cluster = endpoints("t", cluster.service("t", &[OTHER], local()), second);
        }
        assert_eq!(winner(&cluster, VIP), announces, "{case}");
        assert_eq!(winner(&cluster, OTHER), announces_other, "{case}");
    }
}

/// `TestShouldAnnounceFromNodes`.
#[test]
fn selectors_labels_and_local_endpoints_decide_together_in_metallbs_nine_cases() {
    let both: &[&str] = &["iris1", "iris2"];
    // The nodes selected, those with the exclude label, those with endpoints under Local, the flag; who announces.
    type Case<'a> = (&'a str, &'a [&'a str], &'a [&'a str], &'a [&'a str], bool, &'a str);
    let cases: [Case<'_>; 9] = [
        ("selector on one node", &["iris1"], &[], both, false, "iris1"),
        ("selector on the other", &["iris2"], &[], both, false, "iris2"),
        ("selector on both: the hash", both, &[], both, false, "iris2"),
        ("endpoints on both, selector on one", &["iris1"], &[], both, false, "iris1"),
        ("the endpoint on a node that is not selected", &["iris1"], &[], &["iris2"], false, "-"),
        ("the hash's winner excluded", both, &["iris2"], both, false, "iris1"),
        ("the loser excluded", both, &["iris1"], both, false, "iris2"),
        ("both excluded", both, both, both, false, "-"),
        ("both excluded, and the label ignored", both, both, both, true, "iris2"),
    ];
    for (case, selected, excluded, served, ignore_exclude_lb, announces) in cases {
        let label = |name| match excluded.contains(&name) {
            true => json!({"node.kubernetes.io/exclude-from-external-load-balancers": ""}),
            false => json!({}),
        };
        let cluster = Cluster::new()
            .node("iris1", label("iris1"))
            .node("iris2", label("iris2"))
            .advertise("ad", json!({"nodeSelectors": hosts(selected)}))
            .service("s", &[VIP], local())
            .served_on("s", served);
        let options = Options { ignore_exclude_lb, ..Options::default() };
        let ranked = ranking(&decide(&cluster.snapshot(), &options).demand, VIP, both);
        assert_eq!(ranked.first().map_or("-", String::as_str), announces, "{case}");
    }
}

/// `TestClusterPolicy`.
#[test]
fn under_cluster_policy_each_of_255_addresses_has_one_announcer_whoever_asks_and_both_nodes_have_some() {
    let shared = json!({"metadata": {"annotations": {"metallb.io/allow-shared-ip": "k"}}});
    let mut cluster = two_nodes().advertise("ad", json!({}));
    let mut reversed = two_nodes().advertise("ad", json!({}));
    for n in 1..=255 {
        let ip = format!("10.20.30.{n}");
        let (s, t) = (format!("s{n}"), format!("t{n}"));
        cluster = cluster.service(&s, &[&ip], shared.clone()).service(&t, &[&ip], shared.clone());
        cluster = cluster.served_on(&s, &["iris1"]).served_on(&t, &["iris2"]);
        reversed = reversed.service(&t, &[&ip], shared.clone()).served_on(&t, &["iris2"]);
    }
    let (both, one) = (cluster.demand(), reversed.demand());
    for failback in [Failback::Always, Failback::Preferred] {
        // What one node has heard and another not must not make them differ about what nobody owns.
        let mut deaf = live(&["iris1", "iris2"]);
        deaf.values_mut().for_each(|node| node.heard = false);
        let verdicts =
            choose(&both, &live(&["iris1", "iris2"]), &BTreeMap::new(), Moves { failback, unready: true });
        assert_eq!(verdicts, choose(&both, &deaf, &BTreeMap::new(), Moves { failback, unready: true }));
        assert_eq!(verdicts, choose(&one, &deaf, &BTreeMap::new(), Moves { failback, unready: true }));
        let mut count = BTreeMap::<String, usize>::new();
        for verdict in verdicts.into_values() {
            let Verdict::Take(ranked) = verdict else { panic!("{verdict:?}") };
            assert_eq!(ranked.iter().collect::<BTreeSet<_>>().len(), 2);
            *count.entry(ranked[0].clone()).or_default() += 1;
        }
        assert_eq!(count.values().sum::<usize>(), 255);
        assert!(count.values().all(|n| *n > 90), "{failback:?}: {count:?}");
    }
}

fn preferring(names: &[&str], terms: &[(&str, i32)]) -> Cluster {
    let terms: Vec<Value> = terms
        .iter()
        .map(|(name, weight)| json!({"weight": weight, "preference": {"matchLabels": {"kubernetes.io/hostname": name}}}))
        .collect();
    Cluster::new()
        .nodes(names)
        .advertise("ad", json!({"preferredNodeSelectors": terms}))
        .service("s", &["10.20.30.1"], json!({}))
        .served_on("s", names)
}

/// `TestSortL2Candidates`: 10.20.30.1 hashes to b, c, a.
#[test]
fn candidates_are_sorted_by_score_and_then_by_hash_in_metallbs_seven_cases() {
    let nodes = ["node-a", "node-b", "node-c"];
    type Case<'a> = (&'a str, &'a [&'a str], &'a [(&'a str, i32)], &'a [&'a str]);
    let cases: [Case<'_>; 7] = [
        ("no scores: the hash", &nodes, &[], &["node-b", "node-c", "node-a"]),
        ("one node alone", &["node-a"], &[], &["node-a"]),
        ("one with a score", &nodes, &[("node-a", 1)], &["node-a", "node-b", "node-c"]),
        (
            "the higher score first",
            &nodes,
            &[("node-a", 10), ("node-c", 20)],
            &["node-c", "node-a", "node-b"],
        ),
        ("equal scores: the hash", &nodes, &[("node-a", 5), ("node-c", 5)], &["node-c", "node-a", "node-b"]),
        (
            "all scores equal: the hash",
            &nodes,
            &[("node-a", 5), ("node-b", 5), ("node-c", 5)],
            &["node-b", "node-c", "node-a"],
        ),
        (
            "a score of a node that is no candidate",
            &["node-a", "node-c"],
            &[("node-b", 9)],
            &["node-c", "node-a"],
        ),
    ];
    for (case, names, scores, order) in cases {
        let demand = preferring(names, scores).demand();
        assert_eq!(ranking(&demand, "10.20.30.1", &nodes), order, "{case}");
    }
}

/// `TestShouldAnnouncePreferredNode`.
#[test]
fn the_most_preferred_node_announces_unless_it_has_no_local_endpoint() {
    let prefer = json!({"preferredNodeSelectors": [
        {"weight": 10, "preference": {"matchLabels": {"kubernetes.io/hostname": "iris2"}}},
        {"weight": 90, "preference": {"matchLabels": {"kubernetes.io/hostname": "iris1"}}},
    ]});
    let cluster = |served: &[&str]| {
        two_nodes().advertise("ad", prefer.clone()).service("s", &[VIP], local()).served_on("s", served)
    };
    assert_eq!(winner(&cluster(&["iris1", "iris2"]), VIP), "iris1");
    assert_eq!(winner(&cluster(&["iris2"]), VIP), "iris2");
}

/// `TestShouldAnnounceSplitBrainWithMixedAds`: in MetalLB each node once counted only the advertisements that it matched
/// itself, and both announced.
#[test]
fn advertisements_that_differ_by_node_do_not_make_two_announcers() {
    let cluster = two_nodes()
        .advertise("everywhere", json!({}))
        .advertise(
            "one",
            json!({
                "nodeSelectors": hosts(&["iris1"]),
                "preferredNodeSelectors": [{"weight": 50, "preference": {}}],
            }),
        )
        .service("s", &[VIP], json!({}))
        .served_on("s", &["iris2"]);
    assert_eq!(ranking(&cluster.demand(), VIP, &["iris1", "iris2"]), ["iris1", "iris2"]);
}

/// `TestShouldAnnouncePreferredNodeFailover`.
#[test]
fn a_preferred_node_that_is_gone_gives_way_and_one_that_returns_reclaims() {
    let names = ["node-a", "node-b", "node-c"];
    let demand = preferring(&names, &[("node-a", 90), ("node-c", 50)]).demand();
    assert_eq!(ranking(&demand, VIP, &names)[0], "node-a");
    assert_eq!(ranking(&demand, VIP, &["node-b", "node-c"])[0], "node-c", "the other preferred one");
    assert_eq!(ranking(&demand, VIP, &["node-b"])[0], "node-b", "none: the hash");
    let owned =
        |by: &'static str| [(vip(VIP), ClaimState { owner: Some(by), ..ClaimState::default() })].into();
    for failback in [Failback::Always, Failback::Preferred] {
        let verdicts = choose(&demand, &live(&names), &owned("node-c"), Moves { failback, unready: true });
        let Verdict::HandOver { to, .. } = &verdicts[&vip(VIP)] else { panic!("{verdicts:?}") };
        assert_eq!(to, "node-a", "{failback:?}");
    }
}

/// `TestUsableNodesEPSlicesWithSpeakerlistDisabled` has no equal here: a node without a live session never announces.
#[test]
fn a_node_without_a_live_session_is_no_candidate_whatever_the_policy_says() {
    let cluster = two_nodes().advertise("ad", json!({})).service("s", &[VIP], json!({}));
    let demand = cluster.served_on("s", &["iris1"]).demand();
    assert_eq!(ranking(&demand, VIP, &["iris1"]), ["iris1"]);
    assert_eq!(ranking(&demand, VIP, &[]), [""; 0]);
}

/// The two addresses of a Service are elected each by itself; MetalLB elects by the first (issue with shared IPv6).
#[test]
fn both_addresses_of_a_dual_stack_service_are_elected_each_by_its_own_hash() {
    let names = ["worker-1", "worker-2", "worker-3", "worker-4", "worker-5"];
    let cluster = Cluster::new()
        .pool("kind", json!({}), &["192.168.1.0/24", "fc00:f853:ccd:e799::/64"])
        .nodes(&names)
        .advertise("ad", json!({}))
        .service("s", &["192.168.1.240", "fc00:f853:ccd:e799::1"], json!({}))
        .served_on("s", &names);
    let demand = cluster.demand();
    assert_eq!(ranking(&demand, "192.168.1.240", &names)[0], "worker-5");
    assert_eq!(ranking(&demand, "fc00:f853:ccd:e799::1", &names)[0], "worker-3");
}

fn named_or_all(all: bool, names: &[&str]) -> Interfaces {
    match (all, names) {
        (true, []) => Interfaces::All,
        (true, names) => Interfaces::AllAnd(names.iter().map(|name| (*name).to_owned()).collect()),
        (false, names) => interfaces(names),
    }
}

/// `TestIPAdvertisementFor`, where one advertisement for all interfaces wins: here its neighbours' names stay known, for a
/// name reaches an interface that the exclude list keeps out.
#[test]
fn interfaces_of_the_advertisements_for_a_node_are_merged() {
    let cases: [(&[&[&str]], Interfaces); 4] = [
        (&[&[]], named_or_all(true, &[])),
        (&[&["eth0"]], named_or_all(false, &["eth0"])),
        (&[&["eth0"], &["eth1", "eth0"]], named_or_all(false, &["eth0", "eth1"])),
        (&[&["eth0"], &[]], named_or_all(true, &["eth0"])),
    ];
    for (advertised, expected) in cases {
        let mut cluster = two_nodes().service("s", &[VIP], json!({})).served_on("s", &["iris1"]);
        for (n, names) in advertised.iter().enumerate() {
            cluster = cluster.advertise(&format!("ad{n}"), json!({"interfaces": names}));
        }
        assert_eq!(cluster.vip(VIP).candidates["iris1"].interfaces, expected, "{advertised:?}");
    }
}

/// `TestL2ServiceSelectors` (4), `TestL2AdsForService` (5).
#[test]
fn an_advertisement_is_for_the_services_that_any_of_its_selectors_matches() {
    let tier = |value: &str| json!({"matchLabels": {"tier": value}});
    let cases = [
        ("no selector: every service", vec![json!([])], true),
        ("one that matches", vec![json!([tier("gold")])], true),
        ("one that does not", vec![json!([tier("bronze")])], false),
        ("any of several", vec![json!([tier("bronze"), tier("gold")])], true),
        ("none of several", vec![json!([tier("bronze"), tier("silver")])], false),
        ("an expression", vec![json!([{"matchExpressions": [{"key": "tier", "operator": "Exists"}]}])], true),
        ("two advertisements, one matches", vec![json!([tier("bronze")]), json!([tier("gold")])], true),
        ("two advertisements, none matches", vec![json!([tier("bronze")]), json!([tier("silver")])], false),
        ("no advertisement", vec![], false),
    ];
    for (case, selectors, wanted) in cases {
        let mut cluster =
            two_nodes().service("s", &[VIP], labels(json!({"tier": "gold"}))).served_on("s", &["iris1"]);
        for (n, selectors) in selectors.into_iter().enumerate() {
            cluster = cluster.advertise(&format!("ad{n}"), json!({"serviceSelectors": selectors}));
        }
        assert_eq!(cluster.demand().vips.contains_key(&vip(VIP)), wanted, "{case}");
    }
}

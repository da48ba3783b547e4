//! `preferredNodeSelectors` (`TestPreferredScoresFor`, `TestPreferredNodeScores`).

use super::*;

fn prefer(weight: i32, preference: Value) -> Value {
    json!({"weight": weight, "preference": preference})
}

fn rack(number: &str) -> Value {
    json!({"matchLabels": {"rack": number}})
}

fn weights(cluster: Cluster) -> Vec<(String, u32)> {
    let vip = cluster.service("s", &[VIP], json!({})).served_on("s", &["a"]).vip(VIP);
    vip.candidates.iter().map(|(name, candidate)| (name.clone(), candidate.weight)).collect()
}

fn cluster() -> Cluster {
    Cluster::new()
        .node("a", json!({"rack": "1"}))
        .node("b", json!({"rack": "2", "fast": "yes"}))
        .node("c", json!({}))
}

fn expect(weights: [(&str, u32); 3]) -> Vec<(String, u32)> {
    weights.map(|(name, weight)| (name.to_owned(), weight)).into()
}

#[test]
fn weights_that_match_a_node_add_up_within_and_across_advertisements() {
    let fast = json!({"matchExpressions": [{"key": "fast", "operator": "Exists"}]});
    let cluster = cluster()
        .advertise("x", json!({"preferredNodeSelectors": [prefer(60, rack("1")), prefer(50, rack("2"))]}))
        .advertise("y", json!({"preferredNodeSelectors": [prefer(60, fast)]}));
    assert_eq!(weights(cluster), expect([("a", 60), ("b", 110), ("c", 0)]));
}

#[test]
fn an_empty_preference_is_every_eligible_node() {
    let cluster = cluster().advertise("x", json!({"preferredNodeSelectors": [prefer(7, json!({}))]}));
    assert_eq!(weights(cluster), expect([("a", 7), ("b", 7), ("c", 7)]));
}

#[test]
fn a_preference_counts_only_where_its_own_advertisement_selects_the_node() {
    let cluster = cluster().advertise("all", json!({})).advertise(
        "only-a",
        json!({
            "nodeSelectors": hosts(&["a"]),
            "preferredNodeSelectors": [prefer(9, json!({}))],
        }),
    );
    assert_eq!(weights(cluster), expect([("a", 9), ("b", 0), ("c", 0)]));
}

#[test]
fn a_preference_of_an_advertisement_for_other_services_does_not_count() {
    let cluster = cluster().advertise("all", json!({})).advertise(
        "gold",
        json!({
            "serviceSelectors": [{"matchLabels": {"tier": "gold"}}],
            "preferredNodeSelectors": [prefer(9, rack("1"))],
        }),
    );
    assert_eq!(weights(cluster), expect([("a", 0), ("b", 0), ("c", 0)]));
}

#[test]
fn equal_advertisements_with_preferences_count_each() {
    let spec = json!({"preferredNodeSelectors": [prefer(5, rack("1"))]});
    let cluster = cluster().advertise("x", spec.clone()).advertise("y", spec);
    assert_eq!(weights(cluster), expect([("a", 10), ("b", 0), ("c", 0)]));
}

#[test]
fn local_policy_drops_a_preferred_node_without_endpoint() {
    let cluster = cluster().advertise("x", json!({"preferredNodeSelectors": [prefer(100, rack("1"))]}));
    let cluster = cluster.service("s", &[VIP], local()).served_on("s", &["b", "c"]);
    assert_eq!(cluster.candidates(VIP), ["b", "c"]);
}

//! A node's health is a preference, never a prohibition.

use super::*;

fn tier(spec: Value, conditions: Value) -> Tier {
    let cluster = Cluster::new().node_that("iris1", json!({}), spec, conditions).advertise("ad", json!({}));
    let vip = cluster.service("s", &[VIP], json!({})).served_on("s", &["iris1"]).vip(VIP);
    vip.candidates["iris1"].tier
}

fn ready() -> Value {
    json!([{"type": "Ready", "status": "True"}, {"type": "NetworkUnavailable", "status": "False"}])
}

#[test]
fn a_ready_schedulable_node_is_the_best_choice() {
    assert_eq!(tier(json!({}), ready()), Tier::Ready);
}

#[test]
fn a_cordoned_node_comes_second() {
    assert_eq!(tier(json!({"unschedulable": true}), ready()), Tier::Cordoned);
}

#[test]
fn a_node_that_its_cloud_shuts_down_comes_second() {
    let taints = json!([{"key": "node.cloudprovider.kubernetes.io/shutdown", "effect": "NoSchedule"}]);
    assert_eq!(tier(json!({"taints": taints}), ready()), Tier::Cordoned);
}

#[test]
fn a_node_that_is_not_ready_or_has_no_network_comes_last() {
    assert_eq!(tier(json!({}), json!([{"type": "Ready", "status": "Unknown"}])), Tier::NotReady);
    assert_eq!(tier(json!({}), json!([])), Tier::NotReady);
    let cut = json!([{"type": "Ready", "status": "True"}, {"type": "NetworkUnavailable", "status": "True"}]);
    assert_eq!(tier(json!({}), cut), Tier::NotReady);
    let cordoned_too = json!([{"type": "Ready", "status": "False"}]);
    assert_eq!(tier(json!({"unschedulable": true}), cordoned_too), Tier::NotReady);
}

#[test]
fn all_nodes_are_counted_whatever_their_health() {
    let cluster = Cluster::new().nodes(&["iris1"]).node_that("iris2", json!({}), json!({}), json!([]));
    assert_eq!(cluster.demand().nodes, ["iris1".to_owned(), "iris2".to_owned()].into());
}

#[test]
fn health_can_be_ignored_but_for_the_network_as_in_metallb() {
    let options = Options { node_health: crate::policy::NodeHealth::Ignore, ..Options::default() };
    let cut = json!([{"type": "Ready", "status": "True"}, {"type": "NetworkUnavailable", "status": "True"}]);
    let cluster = Cluster::new()
        .node_that("cordoned", json!({}), json!({"unschedulable": true}), ready())
        .node_that("cut", json!({}), json!({}), cut)
        .node_that("dead", json!({}), json!({}), json!([]))
        .advertise("ad", json!({}))
        .service("s", &[VIP], json!({}))
        .served_on("s", &["dead"]);
    let mut demand = decide(&cluster.snapshot(), &options).demand;
    let vip = demand.vips.remove(&vip(VIP)).expect("a VIP");
    let tier = |name: &str| vip.candidates[name].tier;
    assert_eq!([tier("cordoned"), tier("dead"), tier("cut")], [Tier::Ready, Tier::Ready, Tier::NotReady]);
}

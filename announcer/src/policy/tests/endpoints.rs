//! Endpoints and `externalTrafficPolicy` (`TestUsableNodesEPSlices`, `TestShouldAnnounceEPSlices`).

use super::*;

fn cluster(policy: Value) -> Cluster {
    Cluster::new().nodes(&["iris1", "iris2"]).advertise("ad", json!({})).service("s", &[VIP], policy)
}

fn unready() -> Value {
    json!({"ready": false})
}

#[test]
fn cluster_policy_ignores_where_the_endpoints_are() {
    assert_eq!(cluster(json!({})).served_on("s", &["iris2"]).candidates(VIP), ["iris1", "iris2"]);
}

#[test]
fn local_policy_wants_a_serving_endpoint_on_the_node() {
    assert_eq!(cluster(local()).served_on("s", &["iris2"]).candidates(VIP), ["iris2"]);
    assert_eq!(cluster(local()).served_on("s", &["iris1", "iris2"]).candidates(VIP), ["iris1", "iris2"]);
}

#[test]
fn endpoints_of_several_slices_add_up() {
    let cluster = cluster(local()).served_on("s", &["iris1"]).served_on("s", &["iris2"]);
    assert_eq!(cluster.candidates(VIP), ["iris1", "iris2"]);
}

#[test]
fn the_number_of_endpoints_does_not_matter() {
    let cluster = cluster(local()).served_on("s", &["iris1", "iris1", "iris2"]);
    assert_eq!(cluster.candidates(VIP), ["iris1", "iris2"]);
}

#[test]
fn a_node_whose_endpoints_are_all_unready_is_out_under_local_policy() {
    let slice = [("iris1", unready()), ("iris1", unready()), ("iris2", json!({"ready": true}))];
    assert_eq!(cluster(local()).slice("s", &slice).candidates(VIP), ["iris2"]);
}

#[test]
fn one_serving_endpoint_among_unready_ones_is_enough() {
    let slice = [("iris1", unready()), ("iris1", json!({"ready": true})), ("iris2", unready())];
    assert_eq!(cluster(local()).slice("s", &slice).candidates(VIP), ["iris1"]);
}

#[test]
fn a_terminating_endpoint_that_still_serves_counts() {
    let slice = [("iris1", json!({"ready": false, "serving": true, "terminating": true}))];
    assert_eq!(cluster(local()).slice("s", &slice).candidates(VIP), ["iris1"]);
}

#[test]
fn a_ready_endpoint_that_does_not_say_serving_counts() {
    let slice = [("iris1", json!({"ready": true, "serving": false}))];
    assert_eq!(cluster(local()).slice("s", &slice).candidates(VIP), ["iris1"]);
}

#[test]
fn without_a_serving_endpoint_nobody_announces_under_either_policy() {
    for policy in [json!({}), local()] {
        let none = cluster(policy.clone()).vip(VIP);
        let dead = cluster(policy).slice("s", &[("iris1", unready()), ("iris2", unready())]).vip(VIP);
        for vip in [none, dead] {
            assert_eq!(names(&vip), [""; 0]);
            assert_eq!(vip.nobody_because, Some(Nobody::Hindered(Hindrance::NoEndpoint)));
        }
    }
}

#[test]
fn an_endpoint_without_a_node_serves_under_cluster_policy() {
    let cluster = cluster(json!({})).slice("s", &[("", json!({"ready": true}))]);
    assert_eq!(cluster.candidates(VIP), ["iris1", "iris2"]);
}

#[test]
fn endpoints_without_a_node_cannot_be_local_and_that_is_said() {
    let vip = cluster(local()).slice("s", &[("", json!({"ready": true}))]).vip(VIP);
    assert_eq!(vip.nobody_because, Some(Nobody::Hindered(Hindrance::EndpointsWithoutNode)));
}

#[test]
fn local_endpoints_and_node_selectors_must_agree() {
    let cluster = |selected: &[&str], served: &[&str]| {
        Cluster::new()
            .nodes(&["iris1", "iris2"])
            .advertise("ad", json!({"nodeSelectors": hosts(selected)}))
            .service("s", &[VIP], local())
            .served_on("s", served)
            .vip(VIP)
    };
    assert_eq!(names(&cluster(&["iris1", "iris2"], &["iris1"])), ["iris1"]);
    assert_eq!(names(&cluster(&["iris2"], &["iris1", "iris2"])), ["iris2"]);
    let apart = cluster(&["iris1"], &["iris2"]);
    assert_eq!(apart.nobody_because, Some(Nobody::Refused(Refusal::NoLocalEndpoint)));
}

#[test]
fn two_services_follow_their_own_endpoints() {
    let cluster = cluster(local()).served_on("s", &["iris1"]);
    let cluster = cluster.service("t", &["10.20.30.2"], local()).served_on("t", &["iris2"]);
    assert_eq!(cluster.candidates(VIP), ["iris1"]);
    assert_eq!(cluster.candidates("10.20.30.2"), ["iris2"]);
}

//! Services that share an address.

use super::*;

const KEYS: [&str; 2] = ["metallb.io/allow-shared-ip", "metallb.universe.tf/allow-shared-ip"];

fn sharing(key: &str, policy: &str) -> Value {
    json!({"metadata": {"annotations": {key: "k"}}, "spec": {"externalTrafficPolicy": policy}})
}

fn two(policies: [&str; 2]) -> Cluster {
    Cluster::new()
        .nodes(&["a", "b", "c"])
        .advertise("ad", json!({}))
        .service("s", &[VIP], sharing(KEYS[0], policies[0]))
        .service("t", &[VIP], sharing(KEYS[0], policies[1]))
}

#[test]
fn services_on_one_address_are_one_demand() {
    let cluster = two(["Cluster", "Cluster"]).served_on("s", &["a"]).served_on("t", &["b"]);
    let vip = cluster.vip(VIP);
    assert_eq!(vip.services, ["web/s".to_owned(), "web/t".to_owned()].into());
    assert_eq!(names(&vip), ["a", "b", "c"]);
}

#[test]
fn under_local_policy_both_services_must_agree_on_the_node() {
    let cluster = two(["Local", "Local"]).served_on("s", &["a", "b"]).served_on("t", &["b", "c"]);
    assert_eq!(cluster.candidates(VIP), ["b"]);
    let mixed = two(["Local", "Cluster"]).served_on("s", &["a"]).served_on("t", &["c"]);
    assert_eq!(mixed.candidates(VIP), ["a"]);
}

#[test]
fn where_they_cannot_agree_each_of_their_nodes_is_better_than_none() {
    let cluster = two(["Local", "Local"]).served_on("s", &["a"]).served_on("t", &["b"]);
    assert_eq!(cluster.candidates(VIP), ["a", "b"]);
}

#[test]
fn a_service_without_endpoints_has_no_vote() {
    let cluster = two(["Local", "Local"]).served_on("s", &["a"]);
    assert_eq!(cluster.candidates(VIP), ["a"]);
}

#[test]
fn when_no_service_has_endpoints_nobody_announces() {
    let because = two(["Local", "Cluster"]).vip(VIP).nobody_because;
    assert_eq!(because, Some(Nobody::Hindered(Hindrance::NoEndpoint)));
}

#[test]
fn a_second_service_does_not_double_a_preference() {
    let prefer = json!({"preferredNodeSelectors": [{"weight": 5, "preference": {}}]});
    let cluster = two(["Cluster", "Cluster"]).served_on("s", &["a"]).served_on("t", &["a"]);
    assert_eq!(cluster.advertise("more", prefer).vip(VIP).candidates["a"].weight, 5);
}

fn guarded(key: &str, selectors: [Option<Value>; 2]) -> VipDemand {
    let service = json!({"metadata": {"annotations": {key: ""}, "labels": {"tier": "gold"}}});
    let mut cluster = Cluster::new().nodes(&["a"]).service("s", &[VIP], service).served_on("s", &["a"]);
    for (name, selector) in ["x", "y"].into_iter().zip(selectors) {
        let selectors: Vec<Value> = selector.into_iter().collect();
        cluster = cluster.advertise(name, json!({"serviceSelectors": selectors}));
    }
    cluster.vip(VIP)
}

#[test]
fn a_shareable_service_with_a_service_selector_is_announced_by_nobody() {
    let gold = || Some(json!({"matchLabels": {"tier": "gold"}}));
    for key in KEYS {
        for selectors in [[gold(), gold()], [gold(), None]] {
            let vip = guarded(key, selectors);
            assert_eq!(names(&vip), [""; 0]);
            let hindrance = Hindrance::SharedWithServiceSelectors;
            assert_eq!(vip.nobody_because, Some(Nobody::Hindered(hindrance)));
        }
    }
}

#[test]
fn a_shareable_service_without_service_selectors_is_announced() {
    assert_eq!(names(&guarded(KEYS[0], [None, None])), ["a"]);
}

#[test]
fn service_selectors_for_other_services_do_not_stop_a_shareable_one() {
    let bronze = Some(json!({"matchLabels": {"tier": "bronze"}}));
    assert_eq!(names(&guarded(KEYS[0], [bronze, None])), ["a"]);
}

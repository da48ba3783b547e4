//! `--lb-class` and the exclude label (`TestLBClass`, `TestShouldAnnounceFromNodes`).

use super::*;

fn classed(class: Value) -> Cluster {
    Cluster::new()
        .nodes(&["iris1"])
        .advertise("ad", json!({}))
        .service("s", &[VIP], json!({"spec": {"loadBalancerClass": class}}))
        .served_on("s", &["iris1"])
}

#[test]
fn a_service_counts_by_its_class() {
    let cases = [
        (json!(null), None, true),
        (json!("mine/l2"), None, false),
        (json!(null), Some("mine/l2"), false),
        (json!("mine/l2"), Some("mine/l2"), true),
        (json!("other/l2"), Some("mine/l2"), false),
    ];
    for (class, flag, wanted) in cases {
        let options = Options { lb_class: flag.map(Into::into), ..Options::default() };
        let demand = decide(&classed(class.clone()).snapshot(), &options).demand;
        assert_eq!(demand.vips.contains_key(&vip(VIP)), wanted, "class {class}, flag {flag:?}");
    }
}

fn excluded(names: &[&str]) -> Cluster {
    let label = |name| match names.contains(&name) {
        true => json!({"node.kubernetes.io/exclude-from-external-load-balancers": "false"}),
        false => json!({}),
    };
    Cluster::new()
        .node("iris1", label("iris1"))
        .node("iris2", label("iris2"))
        .advertise("ad", json!({}))
        .service("s", &[VIP], json!({}))
        .served_on("s", &["iris1", "iris2"])
}

#[test]
fn a_node_with_the_exclude_label_may_not_announce_whatever_the_labels_value() {
    assert_eq!(excluded(&["iris1"]).candidates(VIP), ["iris2"]);
    assert_eq!(excluded(&["iris2"]).candidates(VIP), ["iris1"]);
}

#[test]
fn with_every_node_excluded_nobody_announces() {
    let because = excluded(&["iris1", "iris2"]).vip(VIP).nobody_because;
    assert_eq!(because, Some(Nobody::Refused(Refusal::Excluded)));
    assert!(because.is_some_and(|because| because.words().contains("--ignore-exclude-lb")));
}

#[test]
fn the_exclude_label_can_be_ignored() {
    let options = Options { ignore_exclude_lb: true, ..Options::default() };
    let demand = decide(&excluded(&["iris1", "iris2"]).snapshot(), &options).demand;
    assert_eq!(names(&demand.vips[&vip(VIP)]), ["iris1", "iris2"]);
}

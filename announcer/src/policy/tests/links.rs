//! Which links carry the program.

use super::*;
use crate::policy::{LinkPlan, interfaces_for, link_plan};

fn plan(cluster: &Cluster, node: &str) -> LinkPlan {
    link_plan(&cluster.snapshot(), node)
}

#[test]
fn without_an_advertisement_no_link_carries_the_program() {
    let nowhere = LinkPlan { attach: interfaces(&[]), announce: interfaces(&[]) };
    assert_eq!(plan(&Cluster::new().nodes(&["iris1"]), "iris1"), nowhere);
}

#[test]
fn a_node_that_may_not_announce_carries_the_program_all_the_same() {
    let cluster = Cluster::new().nodes(&["iris1", "iris2"]);
    let cluster = cluster
        .advertise("a", json!({"nodeSelectors": hosts(&["iris1"]), "interfaces": ["eth0"]}))
        .advertise("b", json!({"nodeSelectors": hosts(&["iris2"]), "interfaces": ["eth1"]}));
    let attach = interfaces(&["eth0", "eth1"]);
    assert_eq!(plan(&cluster, "iris1"), LinkPlan { attach: attach.clone(), announce: interfaces(&["eth0"]) });
    assert_eq!(plan(&cluster, "iris2"), LinkPlan { attach, announce: interfaces(&["eth1"]) });
}

#[test]
fn links_do_not_follow_services_or_endpoints() {
    let cluster = || Cluster::new().nodes(&["iris1"]).advertise("ad", json!({"interfaces": ["eth0"]}));
    let served = cluster().service("s", &[VIP], local()).served_on("s", &["iris1"]);
    assert_eq!(plan(&cluster(), "iris1"), plan(&served, "iris1"));
    assert_eq!(interfaces_for(&cluster().demand(), "iris1"), interfaces(&[]));
    assert_eq!(interfaces_for(&served.demand(), "iris1"), interfaces(&["eth0"]));
}

//! Which advertisements cover an address, and which nodes they select.

use super::*;

fn served() -> Cluster {
    Cluster::new().nodes(&["iris1", "iris2"]).service("s", &[VIP], json!({})).served_on("s", &["iris1"])
}

fn is_asked_for(cluster: &Cluster) -> bool {
    cluster.demand().vips.contains_key(&vip(VIP))
}

#[test]
fn an_address_without_an_advertisement_is_not_asked_for() {
    assert!(!is_asked_for(&served()));
}

#[test]
fn an_address_outside_every_pool_is_not_asked_for() {
    let cluster = Cluster::new().nodes(&["iris1"]).advertise("ad", json!({}));
    let cluster = cluster.service("s", &["10.99.0.1"], json!({})).served_on("s", &["iris1"]);
    assert_eq!(cluster.demand().vips.len(), 0);
}

#[test]
fn the_bare_advertisement_lets_every_node_announce_everywhere() {
    let vip = served().advertise("ad", json!({})).vip(VIP);
    let anyone = Candidate { weight: 0, tier: Tier::Ready, interfaces: Interfaces::All };
    assert_eq!(
        vip,
        VipDemand {
            services: ["web/s".to_owned()].into(),
            candidates: std::collections::BTreeMap::from(
                ["iris1", "iris2"].map(|name| (name.to_owned(), anyone.clone()))
            )
            .into(),
            nobody_because: None,
            own_address_of: None,
        }
    );
}

#[test]
fn pools_are_covered_by_name_or_by_label_or_all() {
    let cluster = |spec: Value| {
        served().pool("labelled", json!({"tier": "gold"}), &["10.20.40.0/24"]).advertise("ad", spec)
    };
    let gold = json!([{"matchLabels": {"tier": "gold"}}]);
    let cases = [
        (json!({}), true),
        (json!({"ipAddressPools": ["default"]}), true),
        (json!({"ipAddressPools": ["other"]}), false),
        (json!({"ipAddressPoolSelectors": gold}), false),
        (json!({"ipAddressPools": ["default"], "ipAddressPoolSelectors": gold}), true),
    ];
    for (spec, covered) in cases {
        assert_eq!(is_asked_for(&cluster(spec.clone())), covered, "{spec}");
    }
}

#[test]
fn node_selectors_are_alternatives() {
    let cluster = served().node("iris3", json!({}));
    let cluster = cluster.advertise("ad", json!({"nodeSelectors": hosts(&["iris1", "iris3"])}));
    assert_eq!(cluster.candidates(VIP), ["iris1", "iris3"]);
}

#[test]
fn a_host_name_of_one_star_selects_every_node() {
    let cluster = served().advertise("ad", json!({"nodeSelectors": hosts(&["*"])}));
    assert_eq!(cluster.candidates(VIP), ["iris1", "iris2"]);
}

#[test]
fn an_advertisement_that_selects_no_node_leaves_nobody_and_says_so() {
    let vip = served().advertise("ad", json!({"nodeSelectors": hosts(&["ghost"])})).vip(VIP);
    assert_eq!(names(&vip), [""; 0]);
    assert_eq!(vip.nobody_because, Some(Nobody::Refused(Refusal::NotSelected)));
}

#[test]
fn advertisements_add_up_in_nodes_and_interfaces() {
    let cluster = served()
        .advertise("a", json!({"nodeSelectors": hosts(&["iris1"]), "interfaces": ["eth0"]}))
        .advertise("b", json!({"nodeSelectors": hosts(&["iris1", "iris2"]), "interfaces": ["eth1"]}));
    let vip = cluster.vip(VIP);
    assert_eq!(vip.candidates["iris1"].interfaces, interfaces(&["eth0", "eth1"]));
    assert_eq!(vip.candidates["iris2"].interfaces, interfaces(&["eth1"]));
}

#[test]
fn an_advertisement_for_all_interfaces_adds_to_one_that_names_some() {
    let cluster = served().advertise("a", json!({"interfaces": ["eth0"]})).advertise("b", json!({}));
    assert_eq!(
        cluster.vip(VIP).candidates["iris1"].interfaces,
        Interfaces::AllAnd(["eth0".to_owned()].into())
    );
}

#[test]
fn service_selectors_are_alternatives_and_scope_nodes_too() {
    let cluster = |tier: &str| {
        Cluster::new()
            .nodes(&["iris1", "iris2"])
            .advertise("gold", json!({
                "serviceSelectors": [{"matchLabels": {"tier": "gold"}}, {"matchLabels": {"tier": "silver"}}],
                "nodeSelectors": hosts(&["iris1"]),
            }))
            .service("s", &[VIP], labels(json!({"tier": tier})))
            .served_on("s", &["iris2"])
    };
    assert_eq!(cluster("gold").candidates(VIP), ["iris1"]);
    assert_eq!(cluster("silver").candidates(VIP), ["iris1"]);
    assert!(!is_asked_for(&cluster("bronze")));
}

#[test]
fn an_advertisement_for_other_services_lends_its_nodes_to_nobody_else() {
    let cluster = served().advertise("all", json!({"nodeSelectors": hosts(&["iris1"])})).advertise(
        "gold",
        json!({
            "serviceSelectors": [{"matchLabels": {"tier": "gold"}}],
            "nodeSelectors": hosts(&["iris2"]),
            "interfaces": ["eth9"],
        }),
    );
    assert_eq!(cluster.candidates(VIP), ["iris1"]);
}

#[test]
fn both_addresses_of_a_dual_stack_service_are_asked_for() {
    let cluster = Cluster::new().nodes(&["iris1"]).advertise("ad", json!({}));
    let cluster = cluster.service("s", &[VIP, "fd00:20::1"], json!({})).served_on("s", &["iris1"]);
    assert_eq!(cluster.candidates(VIP), ["iris1"]);
    assert_eq!(cluster.candidates("fd00:20::1"), ["iris1"]);
}

#[test]
fn an_address_is_a_nodes_own_if_it_is_the_first_that_the_node_lists_and_else_it_is_reported() {
    let listing = |addresses: &[&str]| {
        let address = |ip: &&str| json!({"type": "InternalIP", "address": ip});
        let addresses: serde_json::Value = addresses.iter().map(address).collect();
        let node = json!({"kind": "Node", "metadata": {"name": "iris3"}, "status": {"addresses": addresses}});
        served().with(node).advertise("ad", json!({}))
    };
    let clashes = |cluster: &Cluster| decide(&cluster.snapshot(), &Options::default()).clashes;
    let own = listing(&[VIP]);
    assert_eq!(own.vip(VIP).own_address_of.as_deref(), Some("iris3"));
    assert_eq!(clashes(&own), [].into());
    let claims_more = listing(&["10.0.0.1", VIP]);
    assert_eq!(claims_more.vip(VIP).own_address_of, None);
    assert_eq!(clashes(&claims_more), [(vip(VIP), "iris3".to_owned())].into());
}

#[test]
fn an_address_that_is_not_unicast_is_announced_by_nobody() {
    let cluster = Cluster::new().nodes(&["iris1"]).pool("odd", json!({}), &["224.0.0.0/24"]);
    let cluster = cluster.advertise("ad", json!({})).service("s", &["224.0.0.1"], json!({}));
    let vip = cluster.served_on("s", &["iris1"]).vip("224.0.0.1");
    assert_eq!(vip.nobody_because, Some(Nobody::Hindered(Hindrance::NotUnicast)));
}

//! The user's own cluster (`scenario/fixing-metallb.md`), and what `announcer explain` says of it.

use super::*;
use crate::{kube::ObjectKey, policy::explain};

const HTTPBIN: &str = "10.4.11.1";

fn goldentooth(spec: Value) -> Cluster {
    Cluster::new()
        .pool("primary", json!({}), &["10.4.11.0/24"])
        .nodes(&["allyrion", "bettley", "cargyll"])
        .advertise("primary", spec)
        .service("httpbin", &[HTTPBIN], json!({}))
        .served_on("httpbin", &["cargyll"])
}

fn full() -> Value {
    json!({"ipAddressPools": ["primary"], "nodeSelectors": hosts(&["*"]), "interfaces": ["eth0"]})
}

#[test]
fn both_forms_of_the_advertisement_let_every_node_announce() {
    for (spec, interfaces) in [(json!(null), Interfaces::All), (full(), interfaces(&["eth0"]))] {
        let vip = goldentooth(spec).vip(HTTPBIN);
        assert_eq!(names(&vip), ["allyrion", "bettley", "cargyll"]);
        assert!(vip.candidates.values().all(|candidate| candidate.interfaces == interfaces));
    }
}

#[test]
fn a_service_moves_from_bgp_to_layer_2_with_its_address() {
    let bgp_only = goldentooth(json!({"ipAddressPools": ["something-else"]}));
    assert_eq!(bgp_only.demand().vips.len(), 0);
    assert_eq!(goldentooth(full()).demand().vips.keys().copied().collect::<Vec<_>>(), [vip(HTTPBIN)]);
}

#[test]
fn an_explanation_says_of_each_node_whether_and_why_not() {
    let cluster = goldentooth(json!({"nodeSelectors": hosts(&["allyrion", "bettley"])}))
        .service("local", &["10.4.11.2"], local())
        .served_on("local", &["bettley"]);
    let explained = explain(&cluster.snapshot(), &Options::default(), vip("10.4.11.2"));
    assert_eq!(explained.pool, Some(ObjectKey { namespace: "metallb".into(), name: "primary".into() }));
    let nodes = explained.services[0].nodes.as_ref().expect("a verdict for each node");
    let anyone = Candidate { weight: 0, tier: Tier::Ready, interfaces: Interfaces::All };
    assert_eq!(nodes.of("allyrion"), Some(Err(Refusal::NoLocalEndpoint)));
    assert_eq!(nodes.of("bettley"), Some(Ok(&anyone)));
    assert_eq!(nodes.of("cargyll"), Some(Err(Refusal::NotSelected)));
}

#[test]
fn an_explanation_names_what_stands_in_the_way_of_all() {
    let cluster = goldentooth(full()).service("empty", &["10.4.11.3"], json!({}));
    let explained = explain(&cluster.snapshot(), &Options::default(), vip("10.4.11.3"));
    assert_eq!(explained.services[0].nodes, Err(Hindrance::NoEndpoint));
}

#[test]
fn an_explanation_names_services_that_do_not_count() {
    let cluster = goldentooth(json!({"ipAddressPools": ["something-else"]})).service(
        "classy",
        &[HTTPBIN],
        json!({"spec": {"loadBalancerClass": "x/y"}}),
    );
    let explained = explain(&cluster.snapshot(), &Options::default(), vip(HTTPBIN));
    let key = |name: &str| ObjectKey { namespace: "web".into(), name: name.into() };
    assert_eq!(explained.other_class, [key("classy")]);
    assert_eq!(explained.uncovered, [key("httpbin")]);
}

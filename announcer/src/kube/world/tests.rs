use serde_json::json;

use super::*;
use crate::kube::{Problem, TrafficPolicy};

fn pool(name: &str, addresses: &[&str]) -> Value {
    json!({
        "apiVersion": "metallb.io/v1beta1",
        "kind": "IPAddressPool",
        "metadata": {"namespace": "metallb", "name": name, "uid": format!("uid-{name}")},
        "spec": {"addresses": addresses},
    })
}

fn advertisement(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "metallb.io/v1beta1",
        "kind": "L2Advertisement",
        "metadata": {"namespace": "metallb", "name": name},
        "spec": spec,
    })
}

fn world(objects: impl IntoIterator<Item = Value>) -> World {
    let mut world = World::default();
    world.complete();
    objects.into_iter().for_each(|object| world.take(&object));
    world
}

fn pools_of(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.configuration.pools.keys().map(String::as_str).collect()
}

fn told(world: &mut World) -> Vec<String> {
    snapshot(world).invalid.iter().map(ToString::to_string).collect()
}

fn snapshot(world: &mut World) -> Snapshot {
    world.snapshot().expect("every store has synced")
}

#[test]
fn there_is_no_snapshot_before_every_store_has_synced() {
    let mut world = World::default();
    for kind in Kind::ALL {
        assert_eq!(world.snapshot(), None);
        world.on(kind.boil(Event::InitDone));
    }
    assert_eq!(world.snapshot(), Some(Snapshot::default()));
}

#[test]
fn a_service_is_boiled_down_with_the_endpoints_of_all_its_slices() {
    let slice = |name: &str, node: Option<&str>| {
        json!({
            "kind": "EndpointSlice",
            "metadata": {"namespace": "web", "name": name, "labels": {"kubernetes.io/service-name": "httpbin"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.1.0.1"], "nodeName": node}],
        })
    };
    let service = json!({
        "kind": "Service",
        "metadata": {
            "namespace": "web",
            "name": "httpbin",
            "uid": "u",
            "labels": {"app": "httpbin"},
            "annotations": {"metallb.universe.tf/allow-shared-ip": ""},
        },
        "spec": {"type": "LoadBalancer", "loadBalancerClass": "x/y", "externalTrafficPolicy": "Local"},
        "status": {"loadBalancer": {"ingress": [{"ip": "10.4.11.1"}, {"hostname": "lb"}, {"ip": "::ffff:10.4.11.2"}, {"ip": "010.4.11.3"}]}},
    });
    let mut world = world([service, slice("a", Some("bettley")), slice("b", None)]);
    let key = ObjectKey { namespace: "web".into(), name: "httpbin".into() };
    assert_eq!(
        snapshot(&mut world).services[&key],
        Service {
            key: key.clone(),
            uid: "u".into(),
            labels: [("app".to_owned(), "httpbin".to_owned())].into(),
            class: Some("x/y".into()),
            created: String::new(),
            traffic_policy: TrafficPolicy::Local,
            addresses: ["10.4.11.1", "10.4.11.2"].map(|a| a.parse().expect("an address")).into(),
            misspelt: ["010.4.11.3".to_owned()].into(),
            shares_address: true,
            endpoints: Endpoints { nodes: ["bettley".to_owned()].into(), unplaced: true },
        }
    );
}

#[test]
fn a_service_that_is_no_longer_of_type_load_balancer_is_gone() {
    let service = |kind: &str| json!({"kind": "Service", "metadata": {"name": "s"}, "spec": {"type": kind}});
    let mut world = world([service("LoadBalancer")]);
    assert_eq!(snapshot(&mut world).services.len(), 1);
    world.take(&service("ClusterIP"));
    assert_eq!(snapshot(&mut world).services.len(), 0);
}

#[test]
fn the_bare_advertisement_covers_everything() {
    let bare = json!({
        "apiVersion": "metallb.io/v1beta1",
        "kind": "L2Advertisement",
        "metadata": {"namespace": "metallb", "name": "primary"},
    });
    let snapshot = snapshot(&mut world([pool("primary", &["10.4.11.0/24"]), bare]));
    assert_eq!(snapshot.invalid, []);
    let ad = &snapshot.configuration.advertisements["primary"];
    assert!(ad.covers(&snapshot.configuration.pools["primary"]));
    assert!(ad.selects(&Node::default()));
    assert!(ad.serves(&Default::default()));
    assert!(ad.interfaces.is_empty());
}

#[test]
fn null_means_absent() {
    let null = advertisement("a", json!({"interfaces": null, "nodeSelectors": [{"matchLabels": null}]}));
    let mut world = world([null]);
    assert_eq!(told(&mut world), [""; 0]);
}

#[test]
fn an_invalid_object_is_named_with_its_field_and_the_way_out() {
    let mut world = world([
        pool("primary", &["10.4.11.0/24", "10.4.12.0/33"]),
        advertisement(
            "a",
            json!({"nodeSelectors": [{"matchExpressions": [{"key": "k", "operator": "Is"}]}]}),
        ),
        advertisement("b", json!({"preferredNodeSelectors": [{"weight": 101, "preference": {}}]})),
        advertisement("c", json!({"interfaces": "eth0"})),
    ]);
    let told = told(&mut world);
    let starts = [
        "IPAddressPool metallb/primary: spec.addresses[1]: \"10.4.12.0/33\" is neither a CIDR prefix nor a range; write",
        "L2Advertisement metallb/a: spec.nodeSelectors[0].matchExpressions[0].operator: \"Is\" is not an operator; write",
        "L2Advertisement metallb/b: spec.preferredNodeSelectors[0].weight: 101 is out of range; write",
        "L2Advertisement metallb/c: spec.interfaces: invalid type: string \"eth0\", expected a sequence; write",
    ];
    assert_eq!(told.len(), starts.len(), "{told:#?}");
    for (line, start) in told.iter().zip(starts) {
        assert!(line.starts_with(start), "{line}");
    }
}

#[test]
fn a_pool_without_addresses_is_invalid() {
    let snapshot = snapshot(&mut world([pool("empty", &[])]));
    assert_eq!(snapshot.invalid[0].problem, Problem::NoAddresses);
}

#[test]
fn of_two_pools_that_overlap_the_younger_is_at_fault() {
    let born = |mut pool: Value, at: &str| {
        pool["metadata"]["creationTimestamp"] = at.into();
        pool
    };
    let old = born(pool("z-old", &["10.4.11.0/24"]), "2024-01-01T00:00:00Z");
    let young = born(pool("a-young", &["10.4.12.0/24", "10.4.11.9-10.4.11.20"]), "2025-01-01T00:00:00Z");
    let snapshot = snapshot(&mut world([young, old]));
    assert_eq!(pools_of(&snapshot), ["z-old"]);
    assert_eq!(snapshot.invalid[0].key.name, "a-young");
    assert_eq!(snapshot.invalid[0].field, "spec.addresses[1]");
}

#[test]
fn a_pool_that_overlaps_itself_is_invalid() {
    let snapshot = snapshot(&mut world([pool("twice", &["10.4.11.0/24", "10.4.11.7/32"])]));
    assert!(matches!(snapshot.invalid[0].problem, Problem::Overlap { .. }));
}

#[test]
fn the_whole_configuration_stays_as_it_last_was_valid() {
    let mut world = world([pool("primary", &["10.4.11.0/24"])]);
    let good = snapshot(&mut world).configuration;
    world.take(&pool("primary", &["nonsense"]));
    world.take(&pool("other", &["10.4.12.0/24"]));
    let broken = snapshot(&mut world);
    assert_eq!(broken.configuration, good);
    assert_eq!(broken.invalid.len(), 1);
    world.take(&pool("primary", &["10.4.13.0/24"]));
    let mended = snapshot(&mut world);
    assert_eq!(pools_of(&mended), ["other", "primary"]);
    assert_eq!(mended.configuration.pools["primary"].ranges, ["10.4.13.0/24".parse().expect("a range")]);
    assert_eq!(mended.invalid, []);
}

#[test]
fn without_a_last_good_configuration_what_is_valid_counts() {
    let snapshot = snapshot(&mut world([pool("primary", &["10.4.11.0/24"]), pool("bad", &["nonsense"])]));
    assert_eq!(pools_of(&snapshot), ["primary"]);
    assert_eq!(snapshot.invalid.len(), 1);
}

#[test]
fn what_is_new_only_in_heartbeats_is_no_change() {
    let node = |at: &str| {
        let condition = json!({"type": "Ready", "status": "True", "lastHeartbeatTime": at});
        let node = json!({"metadata": {"name": "a"}, "status": {"conditions": [condition]}});
        Kind::Nodes.boil(Event::Apply(RawObject::new(node.to_string().into_bytes())))
    };
    let mut world = world([]);
    assert!(world.on(node("2025-01-01T00:00:00Z")));
    assert!(!world.on(node("2025-01-01T00:05:00Z")));
}

/// The other half of MetalLB's `TestNodeReconcilerPredicate`.
#[test]
fn a_nodes_label_and_its_network_are_changes() {
    let node = |labels: serde_json::Value, network: &str| {
        let conditions = json!([
            {"type": "Ready", "status": "True"},
            {"type": "NetworkUnavailable", "status": network},
        ]);
        let node = json!({"metadata": {"name": "a", "labels": labels}, "status": {"conditions": conditions}});
        Kind::Nodes.boil(Event::Apply(RawObject::new(node.to_string().into_bytes())))
    };
    let mut world = world([]);
    assert!(world.on(node(json!({}), "False")));
    assert!(world.on(node(json!({"zone": "1"}), "False")), "a label");
    assert!(world.on(node(json!({"zone": "2"}), "False")), "its value");
    assert!(world.on(node(json!({"zone": "2"}), "True")), "the network");
    assert!(world.on(node(json!({"zone": "2"}), "False")), "and back");
    assert!(!world.on(node(json!({"zone": "2"}), "False")));
}

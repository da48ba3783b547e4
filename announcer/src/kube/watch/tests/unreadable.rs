//! One object that cannot be decoded, beside others: at the start, in a running agent, after 410, after a restart of the
//! API server.

use super::{server::Habits, *};
use crate::kube::{Fate, Service};

/// Greater than any time that our types hold; the API server keeps it, and gives it back.
const BEYOND: &str = "9999-12-31T23:59:59Z";

fn service(name: &str, address: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": "web", "name": name, "resourceVersion": "2"},
        "spec": {"type": "LoadBalancer"},
        "status": {"loadBalancer": {"ingress": [{"ip": address}]}},
    })
}

/// As an editor of any namespace may write it.
fn poison(mut object: Value) -> Value {
    object["metadata"]["managedFields"] = json!([{
        "manager": "x", "operation": "Update", "apiVersion": "v1", "time": BEYOND,
        "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:labels": {"f:absent": {}}}},
    }]);
    object
}

/// As no API server writes it today.
fn spoil(mut object: Value) -> Value {
    object["spec"]["externalTrafficPolicy"] = json!(7);
    object
}

fn named(name: &str) -> ObjectKey {
    ObjectKey { namespace: "web".into(), name: name.into() }
}

/// Waits for a Snapshot in which this holds.
async fn until(snapshots: &mut Snapshots, what: &str, holds: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
    let wait = snapshots.wait_for(|snapshot| snapshot.as_deref().is_some_and(&holds));
    let found = timeout(Duration::from_secs(60), wait).await;
    found
        .unwrap_or_else(|_| panic!("no Snapshot: {what}"))
        .expect("a watcher that runs")
        .clone()
        .expect("a Snapshot")
}

fn has(name: &str, address: &str) -> impl Fn(&Snapshot) -> bool {
    let (key, vip) = (named(name), address.parse().expect("an address"));
    move |snapshot| {
        snapshot.services.get(&key).is_some_and(|service: &Service| service.addresses.contains(&vip))
    }
}

#[tokio::test(start_paused = true)]
async fn a_time_that_nobody_can_hold_hides_no_other_service_at_the_start() {
    let objects = [poison(service("poison", "10.4.11.2")), service("good", "10.4.11.1")];
    let server = Server::complete(&[(SERVICES, &objects)]);
    let (mut snapshots, _task) = start(&server);
    until(&mut snapshots, "the good Service", has("good", "10.4.11.1")).await;
}

#[tokio::test(start_paused = true)]
async fn a_time_that_nobody_can_hold_hides_no_other_service_in_a_running_agent() {
    let server = Server::complete(&[]);
    let (mut snapshots, _task) = start(&server);
    server.watched(SERVICES).await;
    server.tell(SERVICES, "ADDED", &poison(service("poison", "10.4.11.2")));
    server.tell(SERVICES, "ADDED", &service("good", "10.4.11.1"));
    until(&mut snapshots, "the good Service", has("good", "10.4.11.1")).await;
}

#[tokio::test(start_paused = true)]
async fn a_time_that_nobody_can_hold_hides_no_other_service_after_410_and_after_a_restart() {
    let server = Server::complete(&[]);
    let (mut snapshots, _task) = start(&server);
    server.watched(SERVICES).await;
    server.install(SERVICES, &[poison(service("poison", "10.4.11.2")), service("good", "10.4.11.1")]);
    server.expire(SERVICES);
    until(&mut snapshots, "the good Service after 410", has("good", "10.4.11.1")).await;
    server.end(SERVICES);
    server.watched(SERVICES).await;
    server.tell(SERVICES, "MODIFIED", &poison(service("poison", "10.4.11.3")));
    server.tell(SERVICES, "MODIFIED", &service("good", "10.4.11.4"));
    until(&mut snapshots, "the good Service after a restart", has("good", "10.4.11.4")).await;
}

#[tokio::test(start_paused = true)]
async fn an_object_that_becomes_unreadable_stays_as_it_was_and_is_told_until_it_is_deleted() {
    let server = Server::complete(&[(SERVICES, &[service("web", "10.4.11.1")])]);
    let (mut snapshots, _task) = start(&server);
    server.watched(SERVICES).await;
    let spoilt = spoil(service("web", "10.4.11.9"));
    server.install(SERVICES, std::slice::from_ref(&spoilt));
    server.tell(SERVICES, "MODIFIED", &spoilt);
    let told = until(&mut snapshots, "told", |snapshot| !snapshot.unreadable.is_empty()).await;
    assert!(has("web", "10.4.11.1")(&told), "{:?}", told.services);
    assert_eq!(
        told.unreadable[0].to_string(),
        "Service web/web cannot be read: spec.externalTrafficPolicy: invalid type: integer `7`, expected a string; \
         its last readable content stays in force"
    );
    // A list says the same.
    server.expire(SERVICES);
    server.watched(SERVICES).await;
    server.tell(SERVICES, "ADDED", &service("other", "10.4.11.5"));
    let told = until(&mut snapshots, "another Service", has("other", "10.4.11.5")).await;
    assert!(has("web", "10.4.11.1")(&told) && told.unreadable[0].fate == Fate::Kept, "{told:?}");

    server.tell(SERVICES, "DELETED", &spoilt);
    let told = until(&mut snapshots, "gone", |snapshot| snapshot.services.len() == 1).await;
    assert_eq!(told.unreadable, []);
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_object_that_is_mended_is_in_force_as_it_is() {
    let server = Server::complete(&[(SERVICES, &[spoil(service("web", "10.4.11.1"))])]);
    let (mut snapshots, _task) = start(&server);
    let told = until(&mut snapshots, "told", |snapshot| !snapshot.unreadable.is_empty()).await;
    assert_eq!((told.services.len(), told.unreadable[0].fate), (0, Fate::LeftOut));
    server.watched(SERVICES).await;
    server.tell(SERVICES, "MODIFIED", &service("web", "10.4.11.1"));
    let told = until(&mut snapshots, "mended", has("web", "10.4.11.1")).await;
    assert_eq!(told.unreadable, []);
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_object_that_a_list_does_not_hold_is_gone() {
    let server = Server::complete(&[(SERVICES, &[spoil(service("web", "10.4.11.1"))])]);
    let (mut snapshots, _task) = start(&server);
    until(&mut snapshots, "told", |snapshot| !snapshot.unreadable.is_empty()).await;
    server.watched(SERVICES).await;
    server.install(SERVICES, &[]);
    server.expire(SERVICES);
    until(&mut snapshots, "gone", |snapshot| snapshot.unreadable.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn of_every_kind_one_that_is_spoilt_leaves_the_others_listed_and_watched() {
    let slice = |name: &str, of: Value| {
        json!({
            "metadata": {"namespace": "web", "name": name, "labels": {"kubernetes.io/service-name": "good"}},
            "endpoints": of,
        })
    };
    let node = |name: &str, of: Value| json!({"metadata": {"name": name}, "spec": {"unschedulable": of}});
    let advertisement = |name: &str, labels: Value| json!({"metadata": {"namespace": "metallb", "name": name, "labels": labels}, "spec": {}});
    let mut bad_pool = pool("bad", json!({"addresses": ["10.4.12.0/24"]}));
    bad_pool["metadata"]["labels"] = json!({"a": {"b": 1}});
    let endpoints = json!([{"addresses": ["10.1.0.1"], "nodeName": "a"}]);
    let server = Server::complete(&[
        (SERVICES, &[spoil(service("bad", "10.4.11.2")), service("good", "10.4.11.1")]),
        (SLICES, &[slice("bad", json!({"not": "a list"})), slice("good", endpoints)]),
        (NODES, &[node("bad", json!("no")), node("good", json!(true))]),
        (POOLS, &[bad_pool, pool("good", json!({"addresses": ["10.4.11.0/24"]}))]),
        (ADVERTISEMENTS, &[advertisement("bad", json!([])), advertisement("good", json!(null))]),
    ]);
    let (mut snapshots, _task) = start(&server);
    let told =
        until(&mut snapshots, "five that cannot be read", |snapshot| snapshot.unreadable.len() == 5).await;
    let kinds: Vec<&str> = told.unreadable.iter().map(|object| object.kind).collect();
    assert_eq!(kinds, ["EndpointSlice", "IPAddressPool", "L2Advertisement", "Node", "Service"]);
    assert!(told.services[&named("good")].endpoints.nodes.contains("a") && told.nodes["good"].unschedulable);
    assert_eq!(told.configuration.pools.keys().collect::<Vec<_>>(), ["good"]);
    assert_eq!(told.configuration.advertisements.keys().collect::<Vec<_>>(), ["good"]);
}

#[tokio::test(start_paused = true)]
async fn an_object_of_a_megabyte_and_a_half_hurts_nobody() {
    let mut large = service("large", "10.4.11.2");
    large["metadata"]["annotations"] = json!({"a": "x".repeat(1_500_000)});
    let server = Server::complete(&[(SERVICES, &[large, service("good", "10.4.11.1")])]);
    let (mut snapshots, _task) = start(&server);
    let told = until(&mut snapshots, "the good Service", has("good", "10.4.11.1")).await;
    assert!(has("large", "10.4.11.2")(&told) && told.unreadable.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_long_list_comes_in_pages() {
    let services: Vec<Value> = (1..=7).map(|n| service(&format!("s{n}"), &format!("10.4.11.{n}"))).collect();
    let server = Server::complete(&[(SERVICES, &services)]);
    server.behave(SERVICES, Habits { page: Some(3), ..Habits::default() });
    let (mut snapshots, _task) = start(&server);
    until(&mut snapshots, "all Services", |snapshot| snapshot.services.len() == 7).await;
}

#[tokio::test(start_paused = true)]
async fn services_are_asked_for_by_type_where_that_is_served_and_all_where_it_is_not() {
    let lists = |server: &Server| -> Vec<String> {
        server.asked().into_iter().filter(|asked| asked.starts_with(SERVICES)).collect()
    };
    let server = Server::complete(&[(SERVICES, &[service("web", "10.4.11.1")])]);
    let (mut snapshots, _task) = start(&server);
    until(&mut snapshots, "the Service", has("web", "10.4.11.1")).await;
    server.watched(SERVICES).await;
    assert!(
        lists(&server).iter().all(|asked| asked.contains("spec.type%3DLoadBalancer")),
        "{:?}",
        lists(&server)
    );

    let server = Server::complete(&[(SERVICES, &[service("web", "10.4.11.1")])]);
    server.behave(SERVICES, Habits { refuses_fields: true, ..Habits::default() });
    let (mut snapshots, _task) = start(&server);
    until(&mut snapshots, "the Service", has("web", "10.4.11.1")).await;
    server.watched(SERVICES).await;
    assert!(lists(&server)[1..].iter().all(|asked| !asked.contains("fieldSelector")), "{:?}", lists(&server));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_list_deletes_nothing_and_is_asked_for_again() {
    for instead in ["<html>", "{}", "[]", r#"{"items":[]}"#, r#"{"items":[{"#] {
        let server = Server::complete(&[(SERVICES, &[service("web", "10.4.11.1")])]);
        let (mut snapshots, _task) = start(&server);
        server.watched(SERVICES).await;
        server.behave(SERVICES, Habits { instead: Some(instead), ..Habits::default() });
        server.expire(SERVICES);
        tokio::time::sleep(Duration::from_secs(20)).await;
        until(&mut snapshots, "the Service", has("web", "10.4.11.1")).await;
        server.install(SERVICES, &[service("web", "10.4.11.2")]);
        server.behave(SERVICES, Habits::default());
        until(&mut snapshots, "the Service as it is now", has("web", "10.4.11.2")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_line_that_names_no_object_is_followed_by_a_list() {
    for line in ["nonsense\n", "{}\n", r#"{"type":"DELETED","object":{"metadata":{}}}"#] {
        let server = Server::complete(&[(SERVICES, &[service("web", "10.4.11.1")])]);
        let (mut snapshots, _task) = start(&server);
        server.watched(SERVICES).await;
        until(&mut snapshots, "the Service", has("web", "10.4.11.1")).await;
        server.install(SERVICES, &[]);
        server.tell_raw(SERVICES, format!("{line}\n").into_bytes());
        until(&mut snapshots, "its deletion", |snapshot| snapshot.services.is_empty()).await;
    }
}

mod fuzz;
mod mutate;
mod server;
mod unreadable;

use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::timeout};

use self::server::{ADVERTISEMENTS, NODES, POOLS, SERVICES, SLICES, Server};
use super::*;

/// Longer than a few tries of a watch that fails, and a burst.
const SOON: Duration = Duration::from_secs(10);

fn pool(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "metallb.io/v1beta1",
        "kind": "IPAddressPool",
        "metadata": {"namespace": "metallb", "name": name, "resourceVersion": "2"},
        "spec": spec,
    })
}

type Snapshots = watch::Receiver<Option<Arc<Snapshot>>>;

async fn next(snapshots: &mut Snapshots) -> Arc<Snapshot> {
    timeout(SOON, snapshots.changed()).await.expect("a Snapshot in time").expect("a watcher that runs");
    snapshots.borrow_and_update().clone().expect("a Snapshot")
}

/// Watches in a task of its own.
fn start(server: &Arc<Server>) -> (Snapshots, JoinHandle<()>) {
    let (sender, snapshots) = watch::channel(None);
    (snapshots, tokio::spawn(super::watch(server.client(), "metallb", sender)))
}

#[tokio::test]
async fn nothing_is_published_until_every_kind_has_been_listed() {
    let server = Server::with(&[(NODES, &[]), (SERVICES, &[]), (SLICES, &[]), (POOLS, &[])]);
    let (mut snapshots, _task) = start(&server);
    timeout(Duration::from_millis(300), snapshots.changed()).await.expect_err("no Snapshot yet");
    server.install(ADVERTISEMENTS, &[]);
    assert_eq!(*next(&mut snapshots).await, Snapshot::default());
}

#[tokio::test]
async fn an_object_of_a_wrong_shape_does_not_end_the_watch_of_the_others() {
    let misshapen = pool("bad", json!({"addresses": {"first": 1}}));
    let server = Server::with(&[
        (NODES, &[]),
        (SERVICES, &[]),
        (SLICES, &[]),
        (POOLS, &[misshapen, pool("good", json!({"addresses": ["10.4.11.0/24"]}))]),
        (ADVERTISEMENTS, &[]),
    ]);
    let (mut snapshots, _task) = start(&server);
    let snapshot = next(&mut snapshots).await;
    assert_eq!(snapshot.configuration.pools.keys().collect::<Vec<_>>(), ["good"]);
    assert_eq!(snapshot.invalid[0].field, "spec.addresses");

    server.watched(POOLS).await;
    server.tell(POOLS, "MODIFIED", &pool("bad", json!({"addresses": ["10.4.12.0/24"]})));
    let snapshot = next(&mut snapshots).await;
    assert_eq!(snapshot.configuration.pools.keys().collect::<Vec<_>>(), ["bad", "good"]);
    assert_eq!(snapshot.invalid, []);
}

#[tokio::test]
async fn a_burst_of_changes_makes_few_snapshots() {
    let empty: [(&'static str, &[Value]); 5] =
        [(NODES, &[]), (SERVICES, &[]), (SLICES, &[]), (POOLS, &[]), (ADVERTISEMENTS, &[])];
    let server = Server::with(&empty);
    let (mut snapshots, _task) = start(&server);
    next(&mut snapshots).await;
    // The watches follow the lists.
    server.watched(NODES).await;
    let node = |i: u32| json!({"metadata": {"name": format!("n{i}"), "resourceVersion": "2"}});
    (0..50).for_each(|i| server.tell(NODES, "ADDED", &node(i)));
    let mut made = 1;
    while next(&mut snapshots).await.nodes.len() < 50 {
        made += 1;
    }
    assert!(made <= 5, "{made} Snapshots");
}

#[tokio::test]
async fn the_task_ends_with_its_last_receiver() {
    let (snapshots, task) = start(&Server::with(&[]));
    drop(snapshots);
    timeout(SOON, task).await.expect("an end in time").expect("no panic");
}

#[tokio::test]
async fn who_watches_after_one_that_was_killed_lists_anew_and_keeps_the_last_good_configuration() {
    let good = pool("primary", json!({"addresses": ["10.4.11.0/24"]}));
    let server = Server::with(&[
        (NODES, &[]),
        (SERVICES, &[]),
        (SLICES, &[]),
        (POOLS, &[good]),
        (ADVERTISEMENTS, &[]),
    ]);
    let (sender, mut snapshots) = watch::channel(None);
    let first = tokio::spawn(super::watch(server.client(), "metallb", sender.clone()));
    let before = next(&mut snapshots).await;
    first.abort();
    first.await.expect_err("it was killed");

    server.install(POOLS, &[pool("primary", json!({"addresses": ["10.4.11.0/33"]}))]);
    server.install(NODES, &[json!({"metadata": {"name": "n1", "resourceVersion": "2"}})]);
    let _second = tokio::spawn(super::watch(server.client(), "metallb", sender));
    let after = next(&mut snapshots).await;
    assert_eq!((after.nodes.len(), after.invalid.len()), (1, 1));
    assert_eq!(after.configuration, before.configuration);
}

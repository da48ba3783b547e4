use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody, combinators::BoxBody};
use hyper::body::Frame;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use super::*;

const ADVERTISEMENTS: &str = "/apis/metallb.io/v1beta1/namespaces/metallb/l2advertisements";
const POOLS: &str = "/apis/metallb.io/v1beta1/namespaces/metallb/ipaddresspools";
const NODES: &str = "/api/v1/nodes";
const SERVICES: &str = "/api/v1/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";

/// Longer than a few tries of a watch that fails, and a burst.
const SOON: Duration = Duration::from_secs(10);

/// An API server with these objects; a kind that is not listed here is unknown to it.
#[derive(Default)]
struct Server {
    kinds: Mutex<BTreeMap<&'static str, Kind>>,
}

#[derive(Default)]
struct Kind {
    objects: Vec<Value>,
    watches: Vec<mpsc::UnboundedSender<Value>>,
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

impl Server {
    fn with(kinds: &[(&'static str, &[Value])]) -> Arc<Self> {
        let server = Self::default();
        for (path, objects) in kinds {
            server.install(path, objects);
        }
        Arc::new(server)
    }

    fn install(&self, path: &'static str, objects: &[Value]) {
        self.kinds().insert(path, Kind { objects: objects.to_vec(), watches: Vec::new() });
    }

    /// Tells every watch of the kind.
    fn tell(&self, path: &str, kind: &str, object: &Value) {
        let event = json!({"type": kind, "object": object});
        for watch in &self.kinds()[path].watches {
            watch.send(event.clone()).expect("a watch that is open");
        }
    }

    fn kinds(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, Kind>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn client(self: &Arc<Self>) -> Client {
        let server = self.clone();
        Client::new(
            tower::service_fn(move |request: Request<Body>| {
                let answer = server.answer(&request);
                async { Ok::<_, Infallible>(answer) }
            }),
            "default",
        )
    }

    fn answer(&self, request: &Request<Body>) -> Answer {
        let mut kinds = self.kinds();
        let Some(kind) = kinds.get_mut(request.uri().path()) else {
            let status = json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound"});
            return whole(StatusCode::NOT_FOUND, &status);
        };
        if request.uri().query().is_some_and(|query| query.contains("watch=true")) {
            let (sender, receiver) = mpsc::unbounded_channel();
            kind.watches.push(sender);
            return lines(receiver);
        }
        whole(StatusCode::OK, &json!({"metadata": {"resourceVersion": "1"}, "items": kind.objects}))
    }
}

fn whole(status: StatusCode, content: &Value) -> Answer {
    let body = http_body_util::Full::new(Bytes::from(content.to_string())).boxed();
    Response::builder().status(status).body(body).expect("a response")
}

fn lines(events: mpsc::UnboundedReceiver<Value>) -> Answer {
    let frames = futures::stream::unfold(events, |mut events| async {
        let line = format!("{}\n", events.recv().await?);
        Some((Ok(Frame::data(Bytes::from(line))), events))
    });
    Response::new(BoxBody::new(StreamBody::new(frames)))
}

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
    while server.kinds()[NODES].watches.is_empty() {
        tokio::task::yield_now().await;
    }
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

//! An API server whose answers are in the test's hands.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody, combinators::BoxBody};
use hyper::body::Frame;
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};

pub(super) const ADVERTISEMENTS: &str = "/apis/metallb.io/v1beta1/namespaces/metallb/l2advertisements";
pub(super) const POOLS: &str = "/apis/metallb.io/v1beta1/namespaces/metallb/ipaddresspools";
pub(super) const NODES: &str = "/api/v1/nodes";
pub(super) const SERVICES: &str = "/api/v1/services";
pub(super) const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";
pub(super) const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/metallb/leases";

/// Objects of these kinds; a kind that is not listed here is unknown.
#[derive(Default)]
pub(super) struct Server {
    kinds: Mutex<BTreeMap<&'static str, Kind>>,
    asked: Mutex<Vec<String>>,
    /// A watch was opened.
    opened: Notify,
}

#[derive(Default)]
struct Kind {
    objects: Vec<Vec<u8>>,
    watches: Vec<mpsc::UnboundedSender<Vec<u8>>>,
    habits: Habits,
}

/// How lists are answered.
#[derive(Clone, Copy, Default)]
pub(super) struct Habits {
    /// With no more than so many objects at a time.
    pub(super) page: Option<usize>,
    /// Not at all if a field is to be selected.
    pub(super) refuses_fields: bool,
    /// With this.
    pub(super) instead: Option<&'static str>,
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

impl Server {
    pub(super) fn with(kinds: &[(&'static str, &[Value])]) -> Arc<Self> {
        let server = Self::default();
        for (path, objects) in kinds {
            server.install(path, objects);
        }
        Arc::new(server)
    }

    /// With all kinds, and no objects but these.
    pub(super) fn complete(of: &[(&'static str, &[Value])]) -> Arc<Self> {
        let server =
            Self::with(&[NODES, SERVICES, SLICES, POOLS, ADVERTISEMENTS, LEASES].map(|kind| (kind, &[][..])));
        of.iter().for_each(|(path, objects)| server.install(path, objects));
        server
    }

    pub(super) fn install(&self, path: &'static str, objects: &[Value]) {
        self.install_raw(path, objects.iter().map(bytes).collect());
    }

    /// Whatever is watched goes on being watched.
    pub(super) fn install_raw(&self, path: &'static str, objects: Vec<Vec<u8>>) {
        self.kinds().entry(path).or_default().objects = objects;
    }

    pub(super) fn behave(&self, path: &'static str, habits: Habits) {
        self.kinds().entry(path).or_default().habits = habits;
    }

    /// Tells every watch of the kind.
    pub(super) fn tell(&self, path: &str, kind: &str, object: &Value) {
        self.tell_raw(path, event(kind, &bytes(object)));
    }

    /// Every watch of the kind gets this line.
    pub(super) fn tell_raw(&self, path: &str, line: Vec<u8>) {
        let mut kinds = self.kinds();
        let watches = &mut kinds.get_mut(path).expect("a kind").watches;
        watches.retain(|watch| watch.send(line.clone()).is_ok());
        assert!(!watches.is_empty(), "nobody watches {path}");
    }

    /// Every watch of the kind ends: its version is too old, and a list has to follow.
    pub(super) fn expire(&self, path: &str) {
        let status = json!({"kind": "Status", "status": "Failure", "code": 410, "reason": "Expired"});
        self.tell(path, "ERROR", &status);
        self.end(path);
    }

    /// Every watch of the kind ends, as in a restart.
    pub(super) fn end(&self, path: &str) {
        self.kinds().get_mut(path).expect("a kind").watches.clear();
    }

    /// Waits until the kind is watched.
    pub(super) async fn watched(&self, path: &str) {
        loop {
            let opened = self.opened.notified();
            if self.kinds()[path].watches.iter().any(|watch| !watch.is_closed()) {
                return;
            }
            opened.await;
        }
    }

    /// What was asked for, by path and query.
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn kinds(&self) -> MutexGuard<'_, BTreeMap<&'static str, Kind>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn client(self: &Arc<Self>) -> Client {
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
        let query = request.uri().query().unwrap_or_default();
        let failure = |code: StatusCode, reason: &str| {
            let status =
                json!({"kind": "Status", "status": "Failure", "code": code.as_u16(), "reason": reason});
            whole(code, bytes(&status))
        };
        let mut kinds = self.kinds();
        let Some(kind) = kinds.get_mut(request.uri().path()) else {
            return failure(StatusCode::NOT_FOUND, "NotFound");
        };
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(request.uri().to_string());
        if kind.habits.refuses_fields && query.contains("fieldSelector") {
            return failure(StatusCode::BAD_REQUEST, "BadRequest");
        }
        if query.contains("watch=true") {
            let (sender, receiver) = mpsc::unbounded_channel();
            kind.watches.push(sender);
            self.opened.notify_waiters();
            return lines(receiver);
        }
        if let Some(instead) = kind.habits.instead {
            return whole(StatusCode::OK, instead.as_bytes().to_vec());
        }
        let from =
            query.split('&').find_map(|part| part.strip_prefix("continue=")?.parse().ok()).unwrap_or(0);
        let left = &kind.objects[from..];
        let here = &left[..left.len().min(kind.habits.page.unwrap_or(usize::MAX))];
        let next = if here.len() < left.len() { (from + here.len()).to_string() } else { String::new() };
        let metadata = json!({"resourceVersion": "1", "continue": next}).to_string();
        // The metadata stands where it does in lists of custom resources.
        let items = here.join(&b","[..]);
        let list = [br#"{"items":["#, items.as_slice(), b"],\"metadata\":", metadata.as_bytes(), b"}"];
        whole(StatusCode::OK, list.concat())
    }
}

/// A line of a watch.
pub(super) fn event(kind: &str, object: &[u8]) -> Vec<u8> {
    [br#"{"type":""#, kind.as_bytes(), br#"","object":"#, object, b"}\n"].concat()
}

pub(super) fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn whole(status: StatusCode, content: Vec<u8>) -> Answer {
    let body = http_body_util::Full::new(Bytes::from(content)).boxed();
    Response::builder().status(status).body(body).expect("a response")
}

fn lines(lines: mpsc::UnboundedReceiver<Vec<u8>>) -> Answer {
    let frames = futures::stream::unfold(lines, |mut lines| async {
        let line = lines.recv().await?;
        Some((Ok(Frame::data(Bytes::from(line))), lines))
    });
    Response::new(BoxBody::new(StreamBody::new(frames)))
}

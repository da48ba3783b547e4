use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::advance;

use super::*;

/// An API server that knows `reader`, who may, and `stranger`, who may not.
#[derive(Default)]
struct Server {
    asked: AtomicUsize,
    away: AtomicBool,
}

impl Server {
    fn gate(self: &Arc<Self>) -> Gate {
        let server = self.clone();
        let answer = move |request: Request<Body>| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        };
        Gate::new(Client::new(tower::service_fn(answer), "default"))
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.away.load(Ordering::Relaxed) {
            return Response::builder().status(503).body(Body::empty()).expect("an answer");
        }
        let path = request.uri().path().to_owned();
        let bytes = request.into_body().collect().await.expect("a body").to_bytes();
        let mut object: Value = serde_json::from_slice(&bytes).expect("JSON");
        object["status"] = match path.as_str() {
            "/apis/authentication.k8s.io/v1/tokenreviews" => match object["spec"]["token"].as_str() {
                Some(token @ ("reader" | "stranger")) => {
                    json!({"authenticated": true, "user": {"username": token, "groups": ["people"]}})
                }
                _ => json!({"authenticated": false}),
            },
            "/apis/authorization.k8s.io/v1/subjectaccessreviews" => {
                assert_eq!(
                    object["spec"]["nonResourceAttributes"],
                    json!({"path": "/metrics", "verb": "get"})
                );
                assert_eq!(object["spec"]["groups"], json!(["people"]));
                json!({"allowed": object["spec"]["user"] == "reader"})
            }
            path => panic!("asked for {path}"),
        };
        Response::new(Body::from(object.to_string().into_bytes()))
    }

    fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::Relaxed)
    }
}

async fn ask(gate: &Gate, token: &str) -> Result<(), Refusal> {
    let header = HeaderValue::from_str(&format!("Bearer {token}")).expect("a header");
    gate.admit(Some(&header)).await
}

#[tokio::test(start_paused = true)]
async fn who_may_is_let_in_and_others_are_told_why_not() {
    let server = Arc::new(Server::default());
    let gate = server.gate();
    assert_eq!(ask(&gate, "reader").await, Ok(()));
    assert_eq!(ask(&gate, "stranger").await, Err(Refusal::Forbidden("stranger".to_owned())));
    assert_eq!(ask(&gate, "made up").await, Err(Refusal::Unknown));
}

#[tokio::test(start_paused = true)]
async fn who_sends_no_token_costs_the_api_server_nothing() {
    let server = Arc::new(Server::default());
    let gate = server.gate();
    let long = format!("Bearer {}", "x".repeat(LONGEST + 1));
    for header in ["", "Basic abc", "Bearer ", "Bearer", &long] {
        let header = HeaderValue::from_str(header).expect("a header");
        assert_eq!(gate.admit(Some(&header)).await, Err(Refusal::NoToken));
    }
    assert_eq!(gate.admit(None).await, Err(Refusal::NoToken));
    assert_eq!(server.asked(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_holds_for_a_minute() {
    let server = Arc::new(Server::default());
    let gate = server.gate();
    for token in ["reader", "stranger"] {
        let first = ask(&gate, token).await;
        assert_eq!(server.asked(), 2, "whose it is, and what that one may");
        advance(KNOWN - Duration::from_millis(1)).await;
        assert_eq!(ask(&gate, token).await, first);
        assert_eq!(server.asked(), 0);
        advance(Duration::from_millis(1)).await;
        assert_eq!(ask(&gate, token).await, first);
        assert_eq!(server.asked(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_made_up_tokens_is_not_passed_on_and_keeps_out_nobody_who_was_let_in() {
    let server = Arc::new(Server::default());
    let gate = server.gate();
    assert_eq!(ask(&gate, "reader").await, Ok(()));
    server.asked();
    let mut busy = 0;
    for number in 0..10_000 {
        busy += usize::from(ask(&gate, &format!("made up {number}")).await == Err(Refusal::Busy));
        advance(Duration::from_millis(10)).await;
    }
    let asked = server.asked();
    assert!(asked <= 10 + 100 && busy + asked == 10_000, "{asked} of 10 000 in 100 s, {busy} refused");
    assert_eq!(gate.state().known.len(), TOKENS);
    assert_eq!(ask(&gate, "reader").await, Ok(()), "long after the minute");
    assert_eq!(server.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn while_the_api_server_is_away_only_who_was_let_in_shortly_before_is_let_in() {
    let server = Arc::new(Server::default());
    let gate = server.gate();
    assert_eq!(ask(&gate, "reader").await, Ok(()));
    server.away.store(true, Ordering::Relaxed);
    assert!(matches!(ask(&gate, "stranger").await, Err(Refusal::Unanswered(_))));
    advance(TRUSTED - Duration::from_secs(1)).await;
    assert_eq!(ask(&gate, "reader").await, Ok(()));
    advance(KNOWN + Duration::from_secs(1)).await;
    assert!(matches!(ask(&gate, "reader").await, Err(Refusal::Unanswered(_))));
}

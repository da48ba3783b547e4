//! How the Leases are watched, beside a server whose answers are in the test's hands and a clock that nobody waits for. Beside real
//! ones: `tests/cluster`.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use announcer::election::{
    Answer, Input, Leases, Request as Asked,
    lease::{Record, Version},
};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::body::Frame;
use kube::{Client, client::Body};
use serde_json::json;

/// What the server answers with.
#[derive(Clone, Copy)]
enum Says {
    /// A list at this version, of nothing.
    List(u64),
    /// A watch that brings nothing and ends after so long.
    Watch(Duration),
    /// A failure.
    Status(u16, &'static str),
    /// An answer of these words.
    Words(&'static str),
    /// A watch that brings these lines, and ends in its time.
    Lines(&'static str),
}

/// The client asks that each watch be ended after so long.
const OWN_END: Says = Says::Watch(Duration::from_secs(25));

/// A server that says these in turn, then ends each watch in its time; what it was asked for.
fn serving(says: &[Says]) -> (Leases, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (says, log) = (Mutex::new(VecDeque::from(says.to_vec())), asked.clone());
    let client = Client::new(
        tower::service_fn(move |request: Request<Body>| {
            let query = request.uri().query().unwrap_or_default();
            let at = query.split('&').find_map(|part| part.strip_prefix("resourceVersion="));
            let asks = at.map_or("list".to_owned(), |version| format!("watch {version}"));
            log.lock().expect("a log").push(asks);
            let says = says.lock().expect("a script").pop_front().unwrap_or(OWN_END);
            async move { Ok::<_, Infallible>(answer(says)) }
        }),
        "metallb",
    );
    (Leases::new(client, "metallb"), asked)
}

fn answer(says: Says) -> Response<BoxBody<Bytes, Infallible>> {
    let whole = |code, content: serde_json::Value| {
        let body = Full::new(Bytes::from(content.to_string())).boxed();
        Response::builder().status(code).body(body).expect("a response")
    };
    match says {
        Says::List(version) => {
            let version = version.to_string();
            whole(StatusCode::OK, json!({"metadata": {"resourceVersion": version}, "items": []}))
        }
        Says::Status(code, reason) => {
            let status = json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason});
            whole(StatusCode::from_u16(code).expect("a status"), status)
        }
        Says::Words(words) => Response::new(Full::new(Bytes::from_static(words.as_bytes())).boxed()),
        Says::Lines(lines) => {
            let brings = stream::iter([Ok(Frame::data(Bytes::from_static(lines.as_bytes())))]);
            let end = stream::once(tokio::time::sleep(Duration::from_secs(25)));
            let body = brings.chain(end.map(|()| Ok(Frame::data(Bytes::new()))));
            Response::new(BoxBody::new(StreamBody::new(body)))
        }
        Says::Watch(lasts) => {
            let end = stream::once(tokio::time::sleep(lasts)).map(|()| Ok(Frame::data(Bytes::new())));
            Response::new(BoxBody::new(StreamBody::new(end)))
        }
    }
}

/// What is observed in two minutes (of a clock that nobody waits for), and what the server was asked for.
async fn two_minutes(leases: &Leases, asked: &Mutex<Vec<String>>) -> (Vec<String>, Vec<String>) {
    let word = |input| match input {
        Input::Listed(Version(version), _) => format!("listed {version}"),
        Input::Compared(Version(version), _) => format!("compared {version}"),
        Input::Changed(record) => format!("changed {} at {}", record.name(), record.version().0),
        Input::Deleted(record) => format!("deleted {} at {}", record.name(), record.version().0),
        other => format!("{other:?}"),
    };
    let end = tokio::time::sleep(Duration::from_secs(120));
    let observed = leases.observe().take_until(end).map(word).collect().await;
    (observed, asked.lock().expect("a log").clone())
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_the_server_ends_in_its_time_goes_on_without_a_list() {
    let (leases, asked) = serving(&[Says::List(100), OWN_END, OWN_END]);
    let (observed, asked) = two_minutes(&leases, &asked).await;
    assert_eq!(observed, ["listed 100"]);
    assert_eq!(asked[..4], ["list", "watch 100", "watch 100", "watch 100"]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_early_goes_on_where_it_stood_and_a_list_is_compared() {
    let (leases, asked) =
        serving(&[Says::List(100), Says::Watch(Duration::from_secs(9)), OWN_END, Says::List(105)]);
    let (observed, asked) = two_minutes(&leases, &asked).await;
    assert_eq!(observed, ["listed 100", "Unchecked", "compared 105"]);
    assert_eq!(asked[..5], ["list", "watch 100", "watch 100", "list", "watch 100"]);
}

#[tokio::test(start_paused = true)]
async fn that_a_watch_broke_is_told_before_anything_is_waited_for() {
    let lasts = Duration::from_secs(9);
    let (leases, _) = serving(&[Says::List(100), Says::Watch(lasts)]);
    let begun = tokio::time::Instant::now();
    let observed: Vec<Input> = leases.observe().take(2).collect().await;
    assert!(matches!(observed[1], Input::Unchecked), "{:?}", observed[1]);
    assert!(begun.elapsed() < lasts + Duration::from_millis(50), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_went_back_is_watched_from_where_it_is() {
    let (leases, asked) =
        serving(&[Says::List(100), Says::Watch(Duration::from_secs(9)), OWN_END, Says::List(40)]);
    let (observed, asked) = two_minutes(&leases, &asked).await;
    assert_eq!(observed, ["listed 100", "Unchecked", "compared 40"]);
    assert_eq!(asked[..5], ["list", "watch 100", "watch 100", "list", "watch 40"]);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_cannot_be_had_holds_no_watch_up_and_is_tried_again() {
    let failed = Says::Status(500, "InternalError");
    let early = Says::Watch(Duration::from_secs(9));
    let (leases, asked) = serving(&[Says::List(100), early, OWN_END, failed, failed, Says::List(105)]);
    let (observed, asked) = two_minutes(&leases, &asked).await;
    assert_eq!(observed, ["listed 100", "Unchecked", "Unanswered", "Unanswered", "compared 105"]);
    assert_eq!(asked[..7], ["list", "watch 100", "watch 100", "list", "list", "list", "watch 100"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_patience_has_not_forgotten_where_the_watch_stood() {
    let busy = Says::Status(429, "TooManyRequests");
    let (leases, asked) = serving(&[Says::List(100), busy, OWN_END, Says::List(105)]);
    let (observed, asked) = two_minutes(&leases, &asked).await;
    assert_eq!(observed, ["listed 100", "Unchecked", "Spoke", "compared 105"]);
    assert_eq!(asked[..4], ["list", "watch 100", "watch 100", "list"]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_refused_leaves_lists_until_it_is_not() {
    let refused = Says::Status(403, "Forbidden");
    let (leases, asked) = serving(&[Says::List(100), refused, Says::List(101), refused, Says::List(102)]);
    let (observed, asked) = two_minutes(&leases, &asked).await;
    let (broke, spoke) = ("WatchBroke", "Spoke");
    assert_eq!(observed, ["listed 100", broke, spoke, "listed 101", broke, spoke, "listed 102"]);
    assert_eq!(asked[..6], ["list", "watch 100", "list", "watch 101", "list", "watch 102"]);
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_too_old_is_followed_by_a_list_of_its_own() {
    let gone = Says::Status(410, "Expired");
    let (leases, asked) = serving(&[Says::List(100), gone, Says::List(200)]);
    let (observed, asked) = two_minutes(&leases, &asked).await;
    assert_eq!(observed, ["listed 100", "WatchBroke", "Spoke", "listed 200"]);
    assert_eq!(asked[..4], ["list", "watch 100", "list", "watch 200"]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_to_begin_anew_does_so_with_a_list() {
    let (leases, asked) = serving(&[Says::List(100), OWN_END, Says::List(40)]);
    let later = leases.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(5)).await;
        later.begin_anew();
    });
    let (observed, asked) = two_minutes(&leases, &asked).await;
    assert_eq!(observed, ["listed 100", "WatchBroke", "listed 40"]);
    assert_eq!(asked[..4], ["list", "watch 100", "list", "watch 40"]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_at_once_again_and_again_is_not_followed_by_lists_without_a_pause() {
    let ended = [Says::Watch(Duration::ZERO), Says::List(100)];
    let says: Vec<Says> =
        std::iter::once(Says::List(100)).chain(ended.into_iter().cycle().take(1_000)).collect();
    let (leases, asked) = serving(&says);
    let (_, asked) = two_minutes(&leases, &asked).await;
    let lists = asked.iter().filter(|asked| *asked == "list").count();
    assert!(lists <= 125, "{lists} lists in 120 s");
}

/// A good claim and a spoilt one, which was good before.
const SPOILT: &str = r#"{"metadata":{"resourceVersion":"105"},"items":[
    {"metadata":{"name":"session-spoilt","resourceVersion":"99"},"spec":{"holderIdentity":["a"]}},
    {"metadata":{"name":"vip-10.4.11.1","resourceVersion":"98"},"spec":{"holderIdentity":"a"}}]}"#;
const SPOILS: &str = r#"{"type":"MODIFIED","object":{"metadata":{"name":"vip-10.4.11.1","resourceVersion":"106"},"spec":{"leaseTransitions":9999999999}}}
{"type":"ADDED","object":{"metadata":{"name":"vip-10.4.11.2","resourceVersion":"107","managedFields":[{"time":"9999-12-31T23:59:59Z"}]},"spec":{"renewTime":"9999-12-31T23:59:59.999999Z"}}}
"#;
const SPOILS_AND_DELETES: &str = r#"{"type":"MODIFIED","object":{"metadata":{"name":"vip-10.4.11.1","resourceVersion":"106"},"spec":7}}
{"type":"DELETED","object":{"metadata":{"name":"vip-10.4.11.1","resourceVersion":"108"},"spec":7}}
"#;

fn unreadable(leases: &Leases) -> Vec<String> {
    leases.unreadable().iter().map(ToString::to_string).collect()
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_cannot_be_read_hides_no_other_and_is_named() {
    let (leases, asked) = serving(&[Says::Words(SPOILT), Says::Lines(SPOILS), OWN_END]);
    let (observed, asked) = two_minutes(&leases, &asked).await;
    assert_eq!(observed, ["listed 105", "changed vip-10.4.11.2 at 107"]);
    assert_eq!(asked[..4], ["list", "watch 105", "watch 107", "watch 107"]);
    assert_eq!(
        unreadable(&leases),
        [
            "Lease session-spoilt cannot be read: spec.holderIdentity: invalid type: sequence, expected a string; it is left out",
            "Lease vip-10.4.11.1 cannot be read: spec.leaseTransitions: invalid value: integer `9999999999`, expected i32; \
             its last readable content stays in force",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_becomes_unreadable_is_listed_as_it_last_was() {
    let early = Says::Lines(SPOILS);
    let spoilt = r#"{"metadata":{"resourceVersion":"109"},"items":[
        {"metadata":{"name":"vip-10.4.11.1","resourceVersion":"106"},"spec":7}]}"#;
    let gone = Says::Status(410, "Expired");
    let (leases, _) = serving(&[Says::Words(SPOILT), early, gone, Says::Words(spoilt)]);
    let end = tokio::time::sleep(Duration::from_secs(120));
    let observed: Vec<Input> = leases.observe().take_until(end).collect().await;
    let Some(Input::Listed(Version(109), records)) = observed.last() else { panic!("{observed:?}") };
    let [Record::Claim(claim)] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!((claim.version, claim.holder.as_deref()), (Version(98), Some("a")));
    assert_eq!(unreadable(&leases).len(), 1, "{:?}", unreadable(&leases));
}

#[tokio::test(start_paused = true)]
async fn the_deletion_of_a_lease_that_cannot_be_read_is_seen() {
    let (leases, asked) = serving(&[Says::Words(SPOILT), Says::Lines(SPOILS_AND_DELETES)]);
    let (observed, _) = two_minutes(&leases, &asked).await;
    assert_eq!(observed, ["listed 105", "deleted vip-10.4.11.1 at 108"]);
    assert_eq!(unreadable(&leases).len(), 1, "the session alone: {:?}", unreadable(&leases));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_no_list_is_a_word_of_the_api_server() {
    let (leases, asked) = serving(&[Says::Words("<html>"), Says::Words("{}"), Says::List(100)]);
    let (observed, asked) = two_minutes(&leases, &asked).await;
    assert_eq!(observed, ["Spoke", "Spoke", "listed 100"]);
    assert_eq!(asked[..4], ["list", "list", "list", "watch 100"]);
}

#[tokio::test(start_paused = true)]
async fn a_line_that_names_no_lease_is_followed_by_a_list() {
    let (leases, asked) = serving(&[Says::List(100), Says::Lines("nonsense\n"), Says::List(101)]);
    let (observed, asked) = two_minutes(&leases, &asked).await;
    assert_eq!(observed, ["listed 100", "WatchBroke", "listed 101"]);
    assert_eq!(asked[..4], ["list", "watch 100", "list", "watch 101"]);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_there_and_cannot_be_read_is_not_called_absent() {
    let (leases, _) = serving(&[Says::Words(r#"{"metadata":{"name":"vip-10.4.11.1"},"spec":7}"#)]);
    let answer = leases.perform(Asked::Get("vip-10.4.11.1".to_owned())).await;
    assert!(matches!(answer, Answer::Refused), "{answer:?}");
}

/// It was made, or not: whoever wrote reads it back.
#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_cannot_be_read_is_lost() {
    let good = r#"{"metadata":{"name":"vip-10.4.11.1","uid":"u","resourceVersion":"7"},"spec":{"holderIdentity":"a"}}"#;
    let (leases, _) = serving(&[Says::Words(good), Says::Words("<html>"), Says::Words(good)]);
    let Answer::Done(record) = leases.perform(Asked::Get("vip-10.4.11.1".to_owned())).await else {
        panic!("a claim")
    };
    let answer = leases.perform(Asked::Put(record.clone())).await;
    assert!(matches!(answer, Answer::Lost), "{answer:?}");
    let answer = leases.perform(Asked::Put(record)).await;
    assert!(matches!(answer, Answer::Done(_)), "{answer:?}");
}

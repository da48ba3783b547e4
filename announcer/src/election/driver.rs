//! The thin rim of the election: lists, watches and writes Leases, each request with a deadline, none retried
//! behind the machine's back.

mod reading;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{Stream, StreamExt, stream};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Client,
    api::{DeleteParams, ListParams, Preconditions, WatchParams},
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout, timeout_at},
};
use tracing::{debug, info, warn};

use self::reading::{Listed, Read, Readable, read};
use super::{
    interface::{Answer, Input, Request},
    lease::{KIND_LABEL, Record, Version},
    times::{LISTED_WITHIN, LONG_TIMEOUT, REQUEST_TIMEOUT},
};
use crate::kube::{
    UnreadableObject,
    raw::{Collection, End, Line, Lines, RawObject, is_garbled},
};

/// How long the server keeps one watch open: a half-open connection is noticed after little more than this.
const WATCH_SECONDS: u32 = 25;
const WATCH_GRACE: Duration = Duration::from_secs(5);
/// Ended after so long, it was ended by that: something else ends it earlier.
const ENDS_AFTER: Duration = Duration::from_secs(WATCH_SECONDS as u64 - 2);
const RELIST_PAUSE: Duration = Duration::from_secs(1);
/// A list that is to be compared and could not be had is tried again so soon: nothing is taken before.
const COMPARE_AGAIN: Duration = Duration::from_secs(2);

/// The Leases of our namespace.
#[derive(Clone)]
pub struct Leases {
    /// What requests go through, until one has no answer.
    current: Arc<Mutex<Arc<Collection>>>,
    /// Makes another client, with connections of its own.
    another: Option<Arc<dyn Fn() -> Option<Client> + Send + Sync>>,
    namespace: String,
    patience: Arc<Patience>,
    told: Arc<Told>,
    readable: Arc<Readable>,
    /// The watch is to begin anew.
    anew: Arc<Notify>,
}

/// An answer that the machine gets, and why it is none that it asked for.
type Heard = Result<Answer, Failed>;

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
enum Failed {
    /// The API server's no, or none of its words.
    #[error(transparent)]
    Request(#[from] kube::Error),
    /// The API server's answer to a read cannot be read.
    #[error("the lease cannot be read: {0}")]
    Unreadable(String),
    /// The API server took a write, and its answer cannot be read: what became of it has to be read back.
    #[error("the API server took the write, and its answer cannot be read: {0}")]
    WroteUnreadable(String),
}

/// How long the API server is given for a write at present.
#[derive(Debug, Default)]
struct Patience {
    is_long: AtomicBool,
}

/// Failures that are remembered at once: beyond that, those that last are told once more.
const MOST_TOLD: usize = 1_024;

/// The failures that were told of, by Lease and whether it was to be written: each once, until it is over.
#[derive(Debug, Default)]
struct Told(Mutex<BTreeMap<(String, bool), String>>);

impl Leases {
    /// `client` must not retry by itself (`default_retry = false`): the machine has to know every attempt.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self {
            current: Arc::new(Mutex::new(Arc::new(leases_of(client, namespace)))),
            another: None,
            namespace: namespace.to_owned(),
            patience: Arc::default(),
            told: Arc::default(),
            readable: Arc::default(),
            anew: Arc::default(),
        }
    }

    /// With a way to make another client after a request without an answer: all idle connections may be as dead as that one's,
    /// and each would cost a timeout.
    #[must_use]
    pub fn with_another(self, another: impl Fn() -> Option<Client> + Send + Sync + 'static) -> Self {
        Self { another: Some(Arc::new(another)), ..self }
    }

    /// The Leases that cannot be read now: each is passed over alone.
    pub fn unreadable(&self) -> Vec<UnreadableObject> {
        self.readable.unreadable()
    }

    fn collection(&self) -> Arc<Collection> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// No more requests through connections that may be dead.
    fn give_up(&self, used: &Arc<Collection>) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let client = self.another.as_ref().filter(|_| Arc::ptr_eq(&current, used)).and_then(|make| make());
        if let Some(client) = client {
            *current = Arc::new(leases_of(client, &self.namespace));
        }
    }

    /// Lets [`Self::observe`] begin anew, with a list: [`Request::Relist`].
    pub fn begin_anew(&self) {
        self.anew.notify_one();
    }

    /// Performs one request of the machine. Probes are not for the API server and end as lost.
    pub async fn perform(&self, request: Request) -> Answer {
        let name = match &request {
            Request::Get(name) => name.clone(),
            Request::Put(record) | Request::Delete(record) => record.name(),
            Request::Survey => "all sessions".to_owned(),
            Request::Probe(_) | Request::Challenge | Request::Relist => return Answer::Lost,
        };
        let is_write = !matches!(request, Request::Get(_) | Request::Survey);
        let limit = if is_write { self.patience.limit() } else { REQUEST_TIMEOUT };
        let (begun, leases) = (Instant::now(), self.collection());
        match timeout(limit, self.send(&leases, &name, request)).await {
            Ok(outcome) => {
                let took_us = begun.elapsed().as_micros() as u64;
                if is_write {
                    self.patience.answered(begun.elapsed());
                }
                let answer = outcome.unwrap_or_else(|error| {
                    let answer = error.answer();
                    let said = error.words();
                    if matches!(answer, Answer::Refused | Answer::Lost)
                        && self.told.is_news(&name, is_write, &said)
                    {
                        warn!(lease = %name, error = said, "API server did not take a lease request");
                    }
                    answer
                });
                let done = matches!(answer, Answer::Done(_));
                debug!(lease = %name, write = is_write, done, took_us, "API server answered a lease request");
                if !matches!(answer, Answer::Refused | Answer::Lost) && self.told.is_over(&name, is_write) {
                    info!(lease = %name, "API server takes lease requests again");
                }
                answer
            }
            Err(_) => {
                self.give_up(&leases);
                if is_write {
                    self.patience.ran_out();
                }
                if self.told.is_news(&name, is_write, "no answer") {
                    warn!(lease = %name, after_ms = limit.as_millis() as u64, "API server did not answer a lease request");
                }
                Answer::Lost
            }
        }
    }

    async fn send(&self, leases: &Collection, name: &str, request: Request) -> Heard {
        Ok(match request {
            Request::Get(_) => match read(&leases.get(name).await?) {
                Read::Ours(record, _) => Answer::Done(*record),
                Read::NotOurs => Answer::NotFound,
                // It is there.
                Read::Unreadable(problem) => return Err(Failed::Unreadable(problem)),
            },
            Request::Survey => {
                let sessions = ListParams::default().labels(&format!("{KIND_LABEL}=session"));
                let (_, listed) = list(leases, &sessions).await?;
                Answer::Surveyed(listed.into_iter().filter_map(|lease| self.readable.one_of(lease)).collect())
            }
            Request::Put(record) => {
                let lease = record.to_lease(jiff::Timestamp::now());
                let written = match record.version() {
                    Version(0) => leases.create(&lease).await?,
                    Version(_) => leases.replace(name, &lease).await?,
                };
                match read(&written) {
                    Read::Ours(record, _) => Answer::Done(*record),
                    Read::NotOurs => Answer::NotFound,
                    Read::Unreadable(problem) => return Err(Failed::WroteUnreadable(problem)),
                }
            }
            Request::Delete(record) => {
                let preconditions =
                    Preconditions { resource_version: Some(record.version().0.to_string()), uid: None };
                leases.delete(name, &DeleteParams::default().preconditions(preconditions)).await?;
                Answer::Done(record)
            }
            Request::Probe(_) | Request::Challenge | Request::Relist => Answer::Lost,
        })
    }

    /// All Leases as they are, each with the time of its last write, or of a claim with that at which it was taken, by the
    /// writer's wall clock: for people alone. Those that cannot be read are then in [`Self::unreadable`].
    ///
    /// # Errors
    /// What the API server said, or that it did not answer.
    pub async fn read(&self) -> Result<Vec<(Record, Option<jiff::Timestamp>)>, kube::Error> {
        let (_, listed) = list(&self.collection(), &ListParams::default()).await?;
        let with_time = |lease: Listed| match lease.read {
            Read::Ours(record, written) => {
                let taken = if let Record::Claim(claim) = &*record { claim.acquired } else { None };
                Some((*record, taken.or(written)))
            }
            Read::NotOurs => None,
            Read::Unreadable(_) => {
                self.readable.one_of(lease);
                None
            }
        };
        Ok(listed.into_iter().filter_map(with_time).collect())
    }

    /// Everything that happens to the Leases, for ever: a complete list, then each change, then a list again
    /// whenever the watch could not be continued where it stood.
    pub fn observe(&self) -> impl Stream<Item = Input> + Send + use<> {
        let leases = self.clone();
        stream::unfold((leases, Position::Start { said: None }), |(leases, position)| async move {
            let (inputs, next) = leases.advance(position).await;
            Some((stream::iter(inputs), (leases, next)))
        })
        .flatten()
    }

    /// The next step of [`Self::observe`], or its beginning anew.
    async fn advance(&self, position: Position) -> (Vec<Input>, Position) {
        tokio::select! {
            next = self.go_on(position) => next,
            () = self.anew.notified() => (vec![Input::WatchBroke], Position::Start { said: None }),
        }
    }

    async fn go_on(&self, position: Position) -> (Vec<Input>, Position) {
        match position {
            Position::Start { said } => match self.list(LISTED_WITHIN).await {
                Ok((version, records)) => {
                    let told = said.is_some();
                    let closed = Position::Closed { version: version.0.to_string(), told, compare: false };
                    (vec![Input::Listed(version, records)], closed)
                }
                Err((heard, error)) => {
                    if said.as_ref() != Some(&error) {
                        warn!(error = %error, "Cannot list leases; trying again every second");
                    }
                    (vec![heard], Position::Start { said: Some(error) }.after(RELIST_PAUSE))
                }
            },
            Position::Closed { version, told, compare } => self.open(version, told, compare).await,
            Position::Open { version, watch } if watch.compare.is_some_and(|at| at <= Instant::now()) => {
                self.compare(version, watch).await
            }
            Position::Open { version, watch } => self.next(version, watch).await,
            Position::Pause { lasts, then } => {
                tokio::time::sleep(lasts).await;
                (Vec::new(), *then)
            }
        }
    }

    async fn list(&self, limit: Duration) -> Result<(Version, Vec<Record>), (Input, String)> {
        match timeout(limit, list(&self.collection(), &ListParams::default())).await {
            Ok(Ok((version, listed))) => {
                Ok((Version(version.parse().unwrap_or_default()), self.readable.listed(listed)))
            }
            Ok(Err(error)) => Err((heard(&error), error.to_string())),
            Err(_) => Err((Input::Unanswered, "no answer".to_owned())),
        }
    }

    async fn open(&self, version: String, told: bool, compare: bool) -> (Vec<Input>, Position) {
        let params = WatchParams::default().timeout(WATCH_SECONDS);
        // The server counts from before its answer.
        let opened = Instant::now();
        match timeout(REQUEST_TIMEOUT, self.collection().watch(&params, &version)).await {
            Ok(Ok(lines)) => {
                if told {
                    info!("Lease watch continues");
                }
                let watch = Watch { lines, opened, compare: compare.then_some(opened) };
                (Vec::new(), Position::Open { version, watch })
            }
            // The server's own word, most often 410: this version cannot be continued from.
            Ok(Err(error)) if matches!(heard(&error), Input::Spoke) && !is_busy(&error) => {
                // Who may list, but not watch, lists again and again, and should know why.
                let refused = matches!(&error, kube::Error::Api(status) if matches!(status.code, 401 | 403));
                if refused && !told {
                    warn!(%error, "Lease watch is refused; listing every second instead");
                }
                let said = refused.then(|| error.to_string());
                (vec![Input::WatchBroke, Input::Spoke], Position::Start { said }.after(RELIST_PAUSE))
            }
            failed => {
                if !told {
                    let error = match &failed {
                        Ok(Err(error)) => error.to_string(),
                        _ => "no answer".to_owned(),
                    };
                    warn!(error, "Lease watch cannot be opened; trying again every second");
                }
                let heard = if let Ok(Err(error)) = &failed { heard(error) } else { Input::Unanswered };
                (
                    vec![Input::Unchecked, heard],
                    Position::Closed { version, told: true, compare: true }.after(RELIST_PAUSE),
                )
            }
        }
    }

    /// An API server continues a watch from any version that it has not reached yet, and says nothing until it has: if its
    /// store was restored, for ever.
    async fn compare(&self, version: String, mut watch: Watch) -> (Vec<Input>, Position) {
        watch.compare = None;
        // Meanwhile the watch is not read.
        match self.list(REQUEST_TIMEOUT).await {
            Ok((listed, records)) => {
                let lost = version.parse().is_ok_and(|version| listed < Version(version));
                let position = if lost {
                    Position::Closed { version: listed.0.to_string(), told: false, compare: false }
                } else {
                    Position::Open { version, watch }
                };
                (vec![Input::Compared(listed, records)], position)
            }
            // A server that cannot list may yet go on with the watch.
            Err((heard, _)) => {
                watch.compare = Some(Instant::now() + COMPARE_AGAIN);
                (vec![heard], Position::Open { version, watch })
            }
        }
    }

    async fn next(&self, version: String, mut watch: Watch) -> (Vec<Input>, Position) {
        let limit = Instant::now() + Duration::from_secs(u64::from(WATCH_SECONDS)) + WATCH_GRACE;
        let compare = watch.compare.filter(|at| *at < limit);
        let line = match timeout_at(compare.unwrap_or(limit), watch.lines.next()).await {
            Err(_) if compare.is_some() => return (Vec::new(), Position::Open { version, watch }),
            Ok(Ok(Some(line))) => line,
            // The server ended it, as it does every 25 s.
            Ok(Ok(None)) if watch.opened.elapsed() >= ENDS_AFTER => {
                let compare = watch.compare.is_some();
                return (Vec::new(), Position::Closed { version, told: false, compare });
            }
            // It broke, or the server went away: it continues where it stood, so that nothing is missed.
            Ok(Ok(None) | Err(_)) | Err(_) => {
                // One that ends as soon as it was opened, again and again, is not followed by list upon list.
                let lasted = watch.opened.elapsed() >= WATCH_GRACE;
                let pause = if lasted { RELIST_PAUSE / 5 } else { RELIST_PAUSE };
                let closed = Position::Closed { version, told: false, compare: true };
                return (vec![Input::Unchecked], closed.after(pause));
            }
        };
        let now_at = |object: &RawObject| object.version().map_or(version.clone(), str::to_owned);
        let (input, version) = match line {
            Line::Changed(lease) => (self.readable.changed(&lease), now_at(&lease)),
            Line::Deleted(lease) => (self.readable.deleted(&lease), now_at(&lease)),
            Line::Bookmark(version) => (None, version),
            // Most often 410: the version is too old to continue from.
            Line::Ended(_) => {
                return (vec![Input::WatchBroke], Position::Start { said: None }.after(RELIST_PAUSE));
            }
            // Something there that names no Lease: a list shows what is there now.
            Line::Garbled(error) => {
                warn!(error, "A line of the lease watch cannot be read; listing again");
                return (vec![Input::WatchBroke], Position::Start { said: None }.after(RELIST_PAUSE));
            }
        };
        (Vec::from_iter(input), Position::Open { version, watch })
    }
}

fn leases_of(client: Client, namespace: &str) -> Collection {
    Collection::of::<Lease>(client, Some(namespace))
}

/// A complete list, and its version.
async fn list(leases: &Collection, params: &ListParams) -> kube::Result<(String, Vec<Listed>)> {
    let (mut page, mut listed) = (leases.list(params).await?, Vec::new());
    loop {
        match page.next().await? {
            Ok(lease) => listed.push(Listed::of(&lease)),
            Err(End { version, next: None }) => return Ok((version, listed)),
            Err(End { next: Some(next), .. }) => {
                page = leases.list(&ListParams { continue_token: Some(next), ..params.clone() }).await?;
            }
        }
    }
}

impl Failed {
    /// What it proves.
    fn answer(&self) -> Answer {
        match self {
            Self::Request(error) if is_garbled(error) => Answer::Refused,
            Self::Request(error) => classify(error),
            // The API server has spoken, and there is nothing to go by.
            Self::Unreadable(_) => Answer::Refused,
            // The machine reads back what became of a write that was lost.
            Self::WroteUnreadable(_) => Answer::Lost,
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Request(error) => words(error),
            unreadable => unreadable.to_string(),
        }
    }
}

impl Patience {
    fn limit(&self) -> Duration {
        if self.is_long.load(Ordering::Relaxed) { LONG_TIMEOUT } else { REQUEST_TIMEOUT }
    }

    fn ran_out(&self) {
        self.is_long.store(true, Ordering::Relaxed);
    }

    /// An answer that came soon is one of a server that is well again.
    fn answered(&self, after: Duration) {
        if after < REQUEST_TIMEOUT / 2 {
            self.is_long.store(false, Ordering::Relaxed);
        }
    }
}

impl Told {
    fn is_news(&self, lease: &str, is_write: bool, words: &str) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let what = (lease.to_owned(), is_write);
        if told.len() >= MOST_TOLD && !told.contains_key(&what) {
            // Leases that nobody asks for any more are among them.
            told.clear();
        }
        told.insert(what, words.to_owned()).is_none_or(|before| before != words)
    }

    fn is_over(&self, lease: &str, is_write: bool) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.remove(&(lease.to_owned(), is_write)).is_some()
    }
}

/// What an operator can use of an error: the server's own words, without the object around them.
fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} {}: {}", status.code, status.reason, status.message),
        other => other.to_string(),
    }
}

enum Position {
    /// A list is next; `said`: what went wrong with the last one.
    Start {
        said: Option<String>,
    },
    /// The watch is to be opened where it stood, and a list to be compared then; `told`: that it cannot be opened was said.
    Closed {
        version: String,
        told: bool,
        compare: bool,
    },
    Open {
        version: String,
        watch: Watch,
    },
    /// Nothing is asked for a while.
    Pause {
        lasts: Duration,
        then: Box<Self>,
    },
}

impl Position {
    /// What was observed is told at once, and this follows later.
    fn after(self, lasts: Duration) -> Self {
        Self::Pause { lasts, then: Box::new(self) }
    }
}

/// A watch that is open.
struct Watch {
    lines: Lines,
    opened: Instant,
    /// When a list is to be compared, if one is.
    compare: Option<Instant>,
}

/// Whether an error is the API server's own word, or shows that it is away. An answer that cannot be read is a word.
fn heard(error: &kube::Error) -> Input {
    match classify(error) {
        Answer::Lost if !is_garbled(error) => Input::Unanswered,
        _ => Input::Spoke,
    }
}

/// Whether the server only asks for patience: 429.
fn is_busy(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 429)
}

/// What an error proves about a write. Only a definite no is one: a gateway's or a server's failure may hide a
/// write that was made.
fn classify(error: &kube::Error) -> Answer {
    match error {
        kube::Error::Api(status) => match status.code {
            404 if status.reason == "NotFound" => Answer::NotFound,
            409 if matches!(status.reason.as_str(), "Conflict" | "AlreadyExists") => Answer::Conflict,
            // Or something before the API server says so, which knows nothing of Leases.
            404 | 408 | 409 => Answer::Lost,
            400..=499 => Answer::Refused,
            _ => Answer::Lost,
        },
        _ => Answer::Lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_let_one_write_down_is_given_longer_until_it_answers_soon() {
        let patience = Patience::default();
        assert_eq!(patience.limit(), REQUEST_TIMEOUT);
        patience.ran_out();
        patience.answered(Duration::from_secs(4));
        assert_eq!(patience.limit(), LONG_TIMEOUT);
        patience.answered(Duration::from_millis(20));
        assert_eq!(patience.limit(), REQUEST_TIMEOUT);
    }

    #[test]
    fn only_the_api_servers_own_word_proves_that_a_lease_is_absent_or_another() {
        let said = |code, reason| {
            classify(&kube::Error::Api(Box::new(kube::core::Status::failure("", reason).with_code(code))))
        };
        assert!(matches!(said(404, "NotFound"), Answer::NotFound));
        assert!(matches!(said(409, "Conflict"), Answer::Conflict));
        assert!(matches!(said(409, "AlreadyExists"), Answer::Conflict));
        assert!(matches!(said(404, "Failed to parse error data"), Answer::Lost), "a load balancer's page");
        assert!(matches!(said(403, "Forbidden"), Answer::Refused));
    }

    #[test]
    fn a_failure_is_told_once_until_it_is_another_or_over() {
        let told = Told::default();
        assert!(told.is_news("session-a", true, "500"));
        assert!(!told.is_news("session-a", true, "500"));
        assert!(!told.is_over("session-a", false), "reads never failed");
        assert!(told.is_news("session-a", true, "403"));
        assert!(told.is_over("session-a", true) && !told.is_over("session-a", true));
        assert!(told.is_news("session-a", true, "403"));
    }

    #[test]
    fn failures_of_leases_that_nobody_asks_for_again_are_not_remembered_for_ever() {
        let told = Told::default();
        for n in 0..3 * MOST_TOLD {
            assert!(told.is_news(&format!("vip-{n}"), true, "500"));
        }
        assert!(told.0.lock().is_ok_and(|told| told.len() <= MOST_TOLD));
        assert!(!told.is_news(&format!("vip-{}", 3 * MOST_TOLD - 1), true, "500"));
    }
}

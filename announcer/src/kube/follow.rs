//! One kind of object, listed and watched for ever: what was decoded whole by a framework, and broke as a whole, is told
//! here object by object.

use std::time::Duration;

use futures::{Stream, stream};
use kube::{
    Error,
    api::{ListParams, WatchParams},
    core::Status,
};
use tokio::time::{Instant, sleep, timeout};
use tracing::info;

use super::{
    backoff::WatchBackoff,
    raw::{Collection, End, Line, Lines, Page, RawObject},
};

/// In seconds. The server ends each watch after this, so that a dead connection is noticed 5 s later, not after 5 min.
const WATCH_TIMEOUT: u32 = 30;
const GRACE: Duration = Duration::from_secs(5);

/// Objects in a page of a list: client-go's.
const PAGE: u32 = 500;

/// What has happened to the objects of one kind.
#[derive(Clone, Debug)]
pub(super) enum Event<O> {
    /// A list begins.
    Init,
    /// It holds this object.
    InitApply(O),
    /// It is complete: what it did not hold is gone.
    InitDone,
    /// An object was added or modified.
    Apply(O),
    /// An object was deleted.
    Delete(O),
}

impl<O> Event<O> {
    pub(super) fn map<P>(self, of: impl FnOnce(O) -> P) -> Event<P> {
        match self {
            Self::Init => Event::Init,
            Self::InitApply(object) => Event::InitApply(of(object)),
            Self::InitDone => Event::InitDone,
            Self::Apply(object) => Event::Apply(of(object)),
            Self::Delete(object) => Event::Delete(of(object)),
        }
    }
}

/// Why following a kind does not get on. It is tried again.
#[derive(Debug, thiserror::Error)]
pub(super) enum FollowError {
    /// A list could not be had.
    #[error("cannot list: {0}")]
    List(#[source] Error),
    /// A watch could not be opened.
    #[error("cannot watch: {0}")]
    Open(#[source] Error),
    /// The API server ended the watch, and says why.
    #[error("the API server ended the watch: {0}")]
    Ended(#[source] Box<Status>),
    /// The connection of the watch broke, or nothing came through it.
    #[error("the watch broke")]
    Broke,
    /// The watch told something that names no object.
    #[error("a line of the watch cannot be read: {0}")]
    Garbled(String),
}

/// What the API server is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Selection {
    /// A field selector, for a server that serves it; one that refuses it is asked for all.
    pub(super) fields: Option<&'static str>,
}

/// Everything that happens to the objects of a collection, for ever.
pub(super) fn follow(
    collection: Collection,
    selection: Selection,
) -> impl Stream<Item = Result<Event<RawObject>, FollowError>> + Send {
    let follower = Follower {
        collection,
        selection,
        state: State::Start,
        backoff: WatchBackoff::default(),
        pause: Duration::ZERO,
    };
    stream::unfold(follower, |mut follower| async move { Some((follower.next().await, follower)) })
}

struct Follower {
    collection: Collection,
    selection: Selection,
    state: State,
    backoff: WatchBackoff,
    /// How long nothing is asked for, after what was told last.
    pause: Duration,
}

enum State {
    /// A list is next.
    Start,
    /// The page that begins here is next, or the first one.
    Pages(Option<String>),
    /// A page is arriving.
    Arriving(Page),
    /// Everything up to this version is told, and the watch is to be opened.
    Listed(String),
    /// The watch is open since then.
    Watching(String, Lines, Instant),
}

/// What a step told, if anything, and what follows it.
type Step = (Option<Result<Event<RawObject>, FollowError>>, State);

impl Follower {
    async fn next(&mut self) -> Result<Event<RawObject>, FollowError> {
        loop {
            // Even no time at all would be a millisecond, for each object of a list.
            if !self.pause.is_zero() {
                sleep(std::mem::take(&mut self.pause)).await;
            }
            let state = std::mem::replace(&mut self.state, State::Start);
            let (news, state) = self.step(state).await;
            self.state = state;
            let Some(news) = news else { continue };
            if news.is_err() {
                self.pause = self.backoff.wait();
            }
            return news;
        }
    }

    async fn step(&mut self, state: State) -> Step {
        match state {
            State::Start => (Some(Ok(Event::Init)), State::Pages(None)),
            State::Pages(from) => self.list(from).await,
            State::Arriving(page) => arriving(page).await,
            State::Listed(version) => self.open(version).await,
            State::Watching(version, lines, opened) => self.watching(version, lines, opened).await,
        }
    }

    async fn list(&mut self, from: Option<String>) -> Step {
        let mut params = ListParams::default().limit(PAGE);
        params.field_selector = self.selection.fields.map(str::to_owned);
        params.continue_token = from;
        match self.collection.list(&params).await {
            Ok(page) => (None, State::Arriving(page)),
            Err(Error::Api(status)) if status.code == 400 && self.selection.fields.is_some() => {
                let fields = self.selection.fields.take();
                info!(
                    fields,
                    error = status.message,
                    "The API server does not select by this field: reading all"
                );
                (None, State::Start)
            }
            Err(error) => (Some(Err(FollowError::List(error))), State::Start),
        }
    }

    async fn open(&mut self, version: String) -> Step {
        let mut params = WatchParams::default().timeout(WATCH_TIMEOUT);
        params.field_selector = self.selection.fields.map(str::to_owned);
        match self.collection.watch(&params, &version).await {
            Ok(lines) => (None, State::Watching(version, lines, Instant::now())),
            // The API server does not go on from this version: what has happened since is in a list.
            Err(Error::Api(status)) if matches!(status.code, 400 | 410) => {
                (Some(Err(FollowError::Open(Error::Api(status)))), State::Start)
            }
            Err(error) => (Some(Err(FollowError::Open(error))), State::Listed(version)),
        }
    }

    async fn watching(&mut self, version: String, mut lines: Lines, opened: Instant) -> Step {
        let limit = Duration::from_secs(u64::from(WATCH_TIMEOUT)) + GRACE;
        let line = match timeout(limit, lines.next()).await {
            Ok(Ok(Some(line))) => line,
            // One that ends as soon as it was opened is not opened again and again without a pause.
            Ok(Ok(None)) if opened.elapsed() >= GRACE => return (None, State::Listed(version)),
            Ok(Ok(None) | Err(_)) | Err(_) => {
                return (Some(Err(FollowError::Broke)), State::Listed(version));
            }
        };
        let now_at = |object: &RawObject| object.version().map_or(version.clone(), str::to_owned);
        match line {
            Line::Changed(object) => {
                let version = now_at(&object);
                (Some(Ok(Event::Apply(object))), State::Watching(version, lines, opened))
            }
            Line::Deleted(object) => {
                let version = now_at(&object);
                (Some(Ok(Event::Delete(object))), State::Watching(version, lines, opened))
            }
            Line::Bookmark(version) => (None, State::Watching(version, lines, opened)),
            Line::Ended(status) => {
                let next = if status.code == 410 { State::Start } else { State::Listed(version) };
                (Some(Err(FollowError::Ended(status))), next)
            }
            // It may have told of a deletion.
            Line::Garbled(why) => (Some(Err(FollowError::Garbled(why))), State::Start),
        }
    }
}

async fn arriving(mut page: Page) -> Step {
    match page.next().await {
        Ok(Ok(object)) => (Some(Ok(Event::InitApply(object))), State::Arriving(page)),
        Ok(Err(End { next: Some(next), .. })) => (None, State::Pages(Some(next))),
        Ok(Err(End { version, next: None })) => (Some(Ok(Event::InitDone)), State::Listed(version)),
        Err(error) => (Some(Err(FollowError::List(error))), State::Start),
    }
}

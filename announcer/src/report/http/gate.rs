//! Who may read metrics: whoever the API server says may `get` the path `/metrics`. It is asked as MetalLB's and
//! controller-runtime's metrics servers ask it: whose token this is (TokenReview), and what that one may
//! (SubjectAccessReview).
//!
//! A client that makes up tokens must not make this agent ask without end: what is known is kept for a minute, strangers
//! are asked for within a budget, and who was let in before is asked for apart from them.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::HeaderValue;
use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec, UserInfo},
    authorization::v1::{NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, Client, api::PostParams};
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, timeout};

/// What is asked for.
const PATH: &str = "/metrics";
/// How long an answer of the API server holds.
const KNOWN: Duration = Duration::from_secs(60);
/// How long one who was let in is let in while the API server does not answer: metrics are wanted most then.
const TRUSTED: Duration = Duration::from_secs(600);
/// Tokens that are remembered.
const TOKENS: usize = 64;
/// The longest token that is asked for.
const LONGEST: usize = 16 * 1024;
/// Strangers that are asked for at once, and how long it takes until one more is.
const STRANGERS: u32 = 10;
const STRANGER_EVERY: Duration = Duration::from_secs(1);
/// For one request.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why metrics are not shown.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("a bearer token is needed")]
    NoToken,
    #[error("the API server does not know this token")]
    Unknown,
    #[error("{0} may not get {PATH}: bind the ClusterRole announcer-metrics-reader to it")]
    Forbidden(String),
    #[error("too many unknown tokens; try again in a second")]
    Busy,
    #[error("the API server could not be asked whose token this is: {0}")]
    Unanswered(String),
}

/// Asks, and remembers.
pub(super) struct Gate {
    client: Client,
    state: Mutex<State>,
}

struct State {
    /// By the token's hash.
    known: HashMap<[u8; 32], Known>,
    budget: Budget,
}

#[derive(Clone)]
struct Known {
    said: Result<(), Refusal>,
    /// When the API server said so.
    at: Instant,
    /// When it is asked again.
    again: Instant,
}

/// Strangers that may be asked for now.
struct Budget {
    left: u32,
    since: Instant,
}

impl Gate {
    /// Its connections belong to the runtime that `client` was made in.
    pub(super) fn new(client: Client) -> Self {
        let budget = Budget { left: STRANGERS, since: Instant::now() };
        Self { client, state: Mutex::new(State { known: HashMap::new(), budget }) }
    }

    /// Whether one who sends this header may read.
    pub(super) async fn admit(&self, authorization: Option<&HeaderValue>) -> Result<(), Refusal> {
        let token = authorization.and_then(|value| value.to_str().ok()).and_then(bearer);
        let token = token.filter(|token| token.len() <= LONGEST).ok_or(Refusal::NoToken)?;
        let hash: [u8; 32] = Sha256::digest(token).into();
        let now = Instant::now();
        let before = {
            let mut state = self.state();
            let before = state.known.get(&hash).cloned();
            match &before {
                Some(known) if now < known.again => return known.said.clone(),
                Some(known) if known.said.is_ok() && now - known.at < TRUSTED => {
                    // Others who come meanwhile are answered by what is known.
                    state.known.entry(hash).and_modify(|known| known.again = now + KNOWN);
                }
                _ if state.budget.take(now) => {}
                _ => return Err(Refusal::Busy),
            }
            before
        };
        match timeout(PATIENCE * 2, self.ask(token)).await {
            Ok(Ok(said)) => {
                self.state().learn(hash, Known { said: said.clone(), at: now, again: now + KNOWN });
                said
            }
            unanswered => {
                if before.is_some_and(|known| known.said.is_ok() && now - known.at < TRUSTED) {
                    return Ok(());
                }
                let why = match unanswered {
                    Ok(Err(error)) => error.to_string(),
                    _ => "no answer".to_owned(),
                };
                Err(Refusal::Unanswered(why))
            }
        }
    }

    /// The API server's word on a token.
    async fn ask(&self, token: &str) -> Result<Result<(), Refusal>, kube::Error> {
        let spec = TokenReviewSpec { token: Some(token.to_owned()), ..TokenReviewSpec::default() };
        let review = TokenReview { spec, ..TokenReview::default() };
        let reviewed = Api::all(self.client.clone()).create(&PostParams::default(), &review).await?;
        let status = reviewed.status.unwrap_or_default();
        let Some(UserInfo { username, uid, groups, extra }) =
            status.user.filter(|_| status.authenticated == Some(true))
        else {
            return Ok(Err(Refusal::Unknown));
        };
        let what = NonResourceAttributes { path: Some(PATH.to_owned()), verb: Some("get".to_owned()) };
        let user = username.clone();
        let spec = SubjectAccessReviewSpec {
            non_resource_attributes: Some(what),
            user: username,
            uid,
            groups,
            extra,
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let reviewed = Api::all(self.client.clone()).create(&PostParams::default(), &review).await?;
        let allowed = reviewed.status.is_some_and(|status| status.allowed);
        Ok(if allowed { Ok(()) } else { Err(Refusal::Forbidden(user.unwrap_or_default())) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Remembers; if there is no room, one who was refused is forgotten first, the longest known of them.
    fn learn(&mut self, hash: [u8; 32], known: Known) {
        if self.known.len() >= TOKENS && !self.known.contains_key(&hash) {
            let least = self.known.iter().min_by_key(|(_, known)| (known.said.is_ok(), known.at));
            if let Some(hash) = least.map(|(hash, _)| *hash) {
                self.known.remove(&hash);
            }
        }
        self.known.insert(hash, known);
    }
}

impl Budget {
    fn take(&mut self, now: Instant) -> bool {
        let earned = (now - self.since).as_millis() / STRANGER_EVERY.as_millis();
        if earned > 0 {
            self.left = u32::try_from(earned).unwrap_or(STRANGERS).saturating_add(self.left).min(STRANGERS);
            self.since = now;
        }
        let some = self.left > 0;
        self.left -= u32::from(some);
        some
    }
}

/// The token of an `Authorization` header.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests;

//! A way to the API server that outlasts what it was made from. A cluster's CA, a token and a kubeconfig change while an
//! agent runs; so they are read again when a request fails, and what is asked after that goes by what they say now.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{Request, Response, StatusCode};
use kube::{Client, Config, client::Body};
use tokio::time::Instant;
use tracing::warn;

use super::client::{ConnectError, client, read};
use crate::vocabulary::BootNs;

/// Between two looks at the configuration, if requests go on failing.
const LOOK_PAUSE: Duration = Duration::from_secs(5);

/// Where the configuration is.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// In this file.
    File(PathBuf),
    /// Where a Pod is given it.
    Pod,
    /// Where `$KUBECONFIG` says.
    Environment,
}

/// When the API server was last heard.
#[derive(Clone, Debug)]
pub struct Heard(Arc<AtomicU64>);

impl Heard {
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicU64::new(BootNs::now().0)))
    }

    /// The moment of its last answer on any of the clients, a refusal too; before the first, when they were made. What a
    /// gateway says in its place (5xx) is none.
    pub fn at(&self) -> BootNs {
        BootNs(self.0.load(Ordering::Relaxed))
    }

    fn now(&self) {
        self.0.fetch_max(BootNs::now().0, Ordering::Relaxed);
    }
}

/// One client, and how to make it anew.
pub(super) struct Line {
    source: Source,
    /// What this line wants otherwise than the configuration says.
    adapt: fn(&mut Config),
    heard: Heard,
    state: Mutex<State>,
}

struct State {
    client: Client,
    /// Its connections are of no use any more.
    is_dead: bool,
    looked: Option<Instant>,
    /// That the configuration cannot be read was said.
    told: bool,
}

impl Line {
    pub(super) fn new(
        source: Source,
        config: Config,
        adapt: fn(&mut Config),
        heard: Heard,
    ) -> Result<Arc<Self>, ConnectError> {
        let client = adapted(config, adapt)?;
        let state = Mutex::new(State { client, is_dead: false, looked: None, told: false });
        Ok(Arc::new(Self { source, adapt, heard, state }))
    }

    /// A client that sends each request once, by whatever is current then. Needs a tokio runtime.
    pub(super) fn client(self: &Arc<Self>) -> Client {
        let line = self.clone();
        let send = move |request| {
            let line = line.clone();
            async move { line.send(request).await }
        };
        Client::new(tower::service_fn(send), "default")
    }

    /// The next request is sent on connections of its own, by the configuration as it is then.
    pub(super) fn give_up(&self) {
        self.state().is_dead = true;
    }

    async fn send(&self, request: Request<Body>) -> kube::Result<Response<Body>> {
        if self.state().is_dead {
            self.make_anew().await;
        }
        let client = self.state().client.clone();
        let answer = client.send(request).await;
        match &answer {
            Ok(answer) if answer.status().is_server_error() => {}
            Ok(answer) => {
                self.heard.now();
                if answer.status() == StatusCode::UNAUTHORIZED {
                    self.failed();
                }
            }
            Err(_) => self.failed(),
        }
        answer
    }

    fn failed(&self) {
        let mut state = self.state();
        if state.looked.is_none_or(|at| at.elapsed() >= LOOK_PAUSE) {
            state.is_dead = true;
        }
    }

    async fn make_anew(&self) {
        let made = match read(&self.source).await {
            Ok(config) => adapted(config, self.adapt),
            Err(error) => Err(error),
        };
        let mut state = self.state();
        state.is_dead = false;
        state.looked = Some(Instant::now());
        match made {
            Ok(client) => {
                state.client = client;
                state.told = false;
            }
            Err(error) if !state.told => {
                state.told = true;
                warn!(%error, "The way to the API server cannot be read again; the old one is tried on");
            }
            Err(_) => {}
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn adapted(mut config: Config, adapt: fn(&mut Config)) -> Result<Client, ConnectError> {
    adapt(&mut config);
    client(config)
}

#[cfg(test)]
mod tests;

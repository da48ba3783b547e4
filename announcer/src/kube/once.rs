//! One view of the cluster by plain lists, for a command that looks once and ends.

use std::pin::pin;

use futures::StreamExt as _;
use kube::Client;

use super::{
    follow::{Event, FollowError, follow},
    raw::is_garbled,
    snapshot::Snapshot,
    world::{Kind, World},
};

/// A kind that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot list {kind}s: {}", words(error))]
pub struct ReadError {
    kind: &'static str,
    /// No `source`: its innermost cause is in the words already.
    error: Box<kube::Error>,
}

impl ReadError {
    /// What became of a list of this kind.
    pub fn new(kind: &'static str, error: kube::Error) -> Self {
        Self { kind, error: Box::new(error) }
    }
}

/// The cluster as it is now; pools and advertisements of `namespace` only. As after a restart of an agent: what is
/// invalid or cannot be read is left out, and in [`Snapshot::invalid`] or [`Snapshot::unreadable`].
///
/// # Errors
/// The first kind that the API server does not list.
pub async fn read(client: &Client, namespace: &str) -> Result<Snapshot, ReadError> {
    let mut world = World::default();
    for kind in Kind::ALL {
        let mut events = pin!(follow(kind.collection(client.clone(), namespace), kind.selection()));
        // A list is the beginning of a watch that is never opened.
        while let Some(event) = events.next().await {
            let event = event.map_err(|error| ReadError::new(kind.name(), error.into()))?;
            let is_complete = matches!(event, Event::InitDone);
            world.on(kind.boil(event));
            if is_complete {
                break;
            }
        }
    }
    Ok(world.snapshot().unwrap_or_default())
}

impl From<FollowError> for kube::Error {
    /// Of a list.
    fn from(error: FollowError) -> Self {
        match error {
            FollowError::List(error) | FollowError::Open(error) => error,
            FollowError::Ended(status) => Self::Api(status),
            FollowError::Broke | FollowError::Garbled(_) => {
                Self::ReadEvents(std::io::Error::other(error.to_string()))
            }
        }
    }
}

fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(answer) if answer.code == 404 => {
            "the cluster has no such kind: install MetalLB's CRDs".to_owned()
        }
        kube::Error::Api(answer) => answer.message.to_string(),
        error if is_garbled(error) => format!("its answer is no list: {}", super::trouble::innermost(error)),
        error => super::trouble::innermost(error),
    }
}

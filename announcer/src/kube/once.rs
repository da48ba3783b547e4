//! One view of the cluster by plain lists, for a command that looks once and ends.

use std::fmt::Debug;

use k8s_openapi::api::{core::v1 as core, discovery::v1::EndpointSlice};
use kube::{Api, Client, Resource, api::ListParams, runtime::watcher::Event};
use serde::de::DeserializeOwned;

use super::{
    advertisement::Advertisement,
    crds::{IPAddressPool, L2Advertisement},
    pool::Pool,
    snapshot::Snapshot,
    watch::custom,
    world::{Update, World},
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
/// invalid is left out, and in [`Snapshot::invalid`].
///
/// # Errors
/// The first kind that the API server does not list.
pub async fn read(client: &Client, namespace: &str) -> Result<Snapshot, ReadError> {
    let mut world = World::default();
    world.complete();
    list::<core::Service>("Service", Api::all(client.clone()), &mut world, Update::Services).await?;
    list::<EndpointSlice>("EndpointSlice", Api::all(client.clone()), &mut world, Update::Slices).await?;
    list::<core::Node>("Node", Api::all(client.clone()), &mut world, Update::Nodes).await?;
    let (pools, ads) =
        (custom::<IPAddressPool>(client, namespace), custom::<L2Advertisement>(client, namespace));
    list(Pool::KIND, pools, &mut world, Update::Pools).await?;
    list(Advertisement::KIND, ads, &mut world, Update::Advertisements).await?;
    Ok(world.snapshot().unwrap_or_default())
}

async fn list<K: Resource + Clone + DeserializeOwned + Debug>(
    kind: &'static str,
    api: Api<K>,
    world: &mut World,
    update: fn(Event<K>) -> Update,
) -> Result<(), ReadError> {
    let listed = api.list(&ListParams::default()).await;
    for object in listed.map_err(|error| ReadError::new(kind, error))? {
        world.on(update(Event::Apply(object)));
    }
    Ok(())
}

fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(answer) if answer.code == 404 => {
            "the cluster has no such kind: install MetalLB's CRDs".to_owned()
        }
        kube::Error::Api(answer) => answer.message.to_string(),
        error => super::trouble::innermost(error),
    }
}

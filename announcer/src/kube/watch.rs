//! The rim: five watches into one Snapshot.

use std::{collections::BTreeSet, fmt::Debug, sync::Arc, time::Duration};

use futures::{
    StreamExt,
    stream::{BoxStream, select_all},
};
use k8s_openapi::api::{core::v1 as core, discovery::v1::EndpointSlice};
use kube::{
    Api, Client, Resource,
    core::{ApiResource, DynamicObject},
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

use super::{
    advertisement::Advertisement,
    backoff::WatchBackoff,
    crds::{IPAddressPool, L2Advertisement},
    invalid::InvalidObject,
    pool::Pool,
    snapshot::Snapshot,
    trouble::{Told, Trouble},
    world::{Update, World},
};

/// In seconds. The server ends each watch after this, so that a dead connection is noticed 5 s later, not after 5 min.
const WATCH_TIMEOUT: u32 = 30;

/// Changes come in bursts (a Deployment, a list): one Snapshot for each burst.
const GATHER: Duration = Duration::from_millis(20);

/// A Snapshot that takes long to put together is put together more rarely: a tenth of the time at most.
const COST_FACTOR: u32 = 10;

type Updates = BoxStream<'static, (&'static str, Result<Update, watcher::Error>)>;

/// Watches the cluster until the last receiver of `sender` is dropped. Pools and advertisements are read from `namespace`
/// only. Whoever watches after one that was dropped lists everything anew; meanwhile the value stays.
///
/// The value is `None` until every kind has been listed once; it changes only when the Snapshot does. While the API
/// server is away it stays as it was: whoever acts on it must hold a lease.
pub fn watch(
    client: Client,
    namespace: &str,
    sender: watch::Sender<Option<Arc<Snapshot>>>,
) -> impl Future<Output = ()> + Send + use<> {
    let updates = select_all([
        updates::<core::Service>("Service", Api::all(client.clone()), Update::Services),
        updates::<EndpointSlice>("EndpointSlice", Api::all(client.clone()), Update::Slices),
        updates::<core::Node>("Node", Api::all(client.clone()), Update::Nodes),
        updates(Pool::KIND, custom::<IPAddressPool>(&client, namespace), Update::Pools),
        updates(Advertisement::KIND, custom::<L2Advertisement>(&client, namespace), Update::Advertisements),
    ]);
    Watcher::new(sender, namespace.to_owned()).run(updates.boxed())
}

/// Custom resources are watched as bare JSON: an object of a wrong shape must not end the watch of the others.
pub(super) fn custom<K: Resource<DynamicType = ()>>(client: &Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<K>(&()))
}

fn updates<K>(kind: &'static str, api: Api<K>, update: fn(Event<K>) -> Update) -> Updates
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    watcher(api, watcher::Config::default().timeout(WATCH_TIMEOUT))
        .backoff(WatchBackoff::default())
        .map(move |event| (kind, event.map(update)))
        .boxed()
}

struct Watcher {
    world: World,
    told: Told,
    named: BTreeSet<InvalidObject>,
    sender: watch::Sender<Option<Arc<Snapshot>>>,
    namespace: String,
}

impl Watcher {
    fn new(sender: watch::Sender<Option<Arc<Snapshot>>>, namespace: String) -> Self {
        // As long as it is not valid again, the configuration in force stays: also if another watched when it was.
        let world = sender.borrow().as_deref().map(World::after).unwrap_or_default();
        Self { world, told: Told::default(), named: BTreeSet::new(), sender, namespace }
    }

    async fn run(mut self, mut updates: Updates) {
        let mut due = None;
        let mut rested = Instant::now();
        loop {
            tokio::select! {
                () = self.sender.closed() => return,
                Some((kind, update)) = updates.next() => match update {
                    Ok(update) => {
                        if self.world.on(update) {
                            due.get_or_insert((Instant::now() + GATHER).max(rested));
                        }
                    }
                    Err(error) => self.tell(kind, &error),
                },
                () = sleep_until(due.unwrap_or(rested)), if due.is_some() => {
                    due = None;
                    let start = Instant::now();
                    self.publish();
                    rested = start + start.elapsed() * COST_FACTOR;
                }
            }
        }
    }

    fn publish(&mut self) {
        let Some(snapshot) = self.world.snapshot() else { return };
        self.name_invalid(&snapshot.invalid);
        self.sender.send_if_modified(|current| {
            let news = current.as_deref() != Some(&snapshot);
            if news {
                *current = Some(Arc::new(snapshot));
            }
            news
        });
    }

    /// One line when an object becomes invalid or is so in another way, and one when all is well again.
    fn name_invalid(&mut self, invalid: &[InvalidObject]) {
        let now: BTreeSet<InvalidObject> = invalid.iter().cloned().collect();
        for object in now.difference(&self.named) {
            let InvalidObject { kind, key, field, .. } = object;
            warn!(kind, object = %key, field, error = %object, "invalid object, the last good configuration stays");
        }
        if now.is_empty() && !self.named.is_empty() {
            info!("every IPAddressPool and L2Advertisement is valid again");
        }
        self.named = now;
    }

    fn tell(&mut self, kind: &'static str, error: &watcher::Error) {
        let Some(trouble) = Trouble::of(error) else { return };
        if !self.told.is_news(kind, &trouble, Instant::now().into_std()) {
            return;
        }
        let namespace = &self.namespace;
        match trouble {
            Trouble::NoSuchKind => warn!(
                kind,
                remedy = "install MetalLB's CRDs, or kubectl apply -k deploy/overlays/standalone",
                "the cluster has no such kind, waiting for it"
            ),
            Trouble::Forbidden(answer) => warn!(
                kind,
                namespace,
                error = answer,
                remedy = "kubectl apply -k deploy/base restores the rights (get, list, watch)",
                "missing right, waiting for it"
            ),
            Trouble::Unauthorized(answer) => warn!(
                kind,
                error = answer,
                remedy = "check the ServiceAccount's token, or the kubeconfig's credentials",
                "the API server refuses our credentials"
            ),
            Trouble::Unreachable(error) => {
                warn!(kind, error, "the API server does not answer, the last view stays");
            }
        }
    }
}

#[cfg(test)]
mod tests;

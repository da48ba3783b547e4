//! The rim: five watches into one Snapshot.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{
    StreamExt,
    stream::{BoxStream, select_all},
};
use k8s_openapi::api::{core::v1 as core, discovery::v1::EndpointSlice};
use kube::Client;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

use super::{
    crds::{IPAddressPool, L2Advertisement},
    follow::{FollowError, Selection, follow},
    invalid::InvalidObject,
    object_key::ObjectKey,
    range::instead_of_address,
    raw::Collection,
    snapshot::Snapshot,
    trouble::{Told, Trouble},
    unreadable,
    world::{Kind, Update, World},
};

/// Changes come in bursts (a Deployment, a list): one Snapshot for each burst.
const GATHER: Duration = Duration::from_millis(20);

/// A Snapshot that takes long to put together is put together more rarely: a tenth of the time at most.
const COST_FACTOR: u32 = 10;

type Updates = BoxStream<'static, (&'static str, Result<Update, FollowError>)>;

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
    let updates = select_all(Kind::ALL.map(|kind| updates(kind, &client, namespace)));
    Watcher::new(sender, namespace.to_owned()).run(updates.boxed())
}

fn updates(kind: Kind, client: &Client, namespace: &str) -> Updates {
    follow(kind.collection(client.clone(), namespace), kind.selection())
        .map(move |news| (kind.name(), news.map(|event| kind.boil(event))))
        .boxed()
}

impl Kind {
    /// Where its objects are.
    pub(super) fn collection(self, client: Client, namespace: &str) -> Collection {
        match self {
            Self::Services => Collection::of::<core::Service>(client, None),
            Self::Slices => Collection::of::<EndpointSlice>(client, None),
            Self::Nodes => Collection::of::<core::Node>(client, None),
            Self::Pools => Collection::of::<IPAddressPool>(client, Some(namespace)),
            Self::Advertisements => Collection::of::<L2Advertisement>(client, Some(namespace)),
        }
    }

    /// Which of them are asked for. Most Services have nothing to do with us: one that ceases to be a LoadBalancer is told
    /// as deleted.
    pub(super) fn selection(self) -> Selection {
        Selection { fields: (self == Self::Services).then_some("spec.type=LoadBalancer") }
    }
}

struct Watcher {
    world: World,
    told: Told,
    named: BTreeSet<InvalidObject>,
    unreadable: unreadable::Told,
    misspelt: BTreeSet<(ObjectKey, String)>,
    sender: watch::Sender<Option<Arc<Snapshot>>>,
    namespace: String,
}

impl Watcher {
    fn new(sender: watch::Sender<Option<Arc<Snapshot>>>, namespace: String) -> Self {
        // As long as it is not valid again, the configuration in force stays: also if another watched when it was.
        let world = sender.borrow().as_deref().map(World::after).unwrap_or_default();
        Self {
            world,
            told: Told::default(),
            named: BTreeSet::new(),
            unreadable: unreadable::Told::default(),
            misspelt: BTreeSet::new(),
            sender,
            namespace,
        }
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
        self.unreadable.tell(&snapshot.unreadable);
        self.name_misspelt(&snapshot);
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

    /// One line for each address in a Service's status that nobody can announce as it is written.
    fn name_misspelt(&mut self, snapshot: &Snapshot) {
        let of = |key: &ObjectKey, texts: &BTreeSet<String>| {
            texts.iter().map(|text| (key.clone(), text.clone())).collect::<Vec<_>>()
        };
        let now: BTreeSet<(ObjectKey, String)> =
            snapshot.services.iter().flat_map(|(key, service)| of(key, &service.misspelt)).collect();
        for (service, ip) in now.difference(&self.misspelt) {
            let remedy = instead_of_address(ip)
                .map_or("write an IPv4 or IPv6 address".to_owned(), |instead| format!("write {instead}"));
            let field = "status.loadBalancer.ingress";
            warn!(%service, field, ip, remedy, "A Service has an address that is none as it is written; not announced");
        }
        self.misspelt = now;
    }

    fn tell(&mut self, kind: &'static str, error: &FollowError) {
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
            Trouble::Failing(error) => {
                warn!(kind, error, "The API server answers that it cannot; the last view stays");
            }
            Trouble::Garbled(error) => {
                warn!(
                    kind,
                    error, "The API server's answer cannot be read; the last view stays, trying again"
                );
            }
            Trouble::Unreachable(error) => {
                warn!(kind, error, "the API server does not answer, the last view stays");
            }
        }
    }
}

#[cfg(test)]
mod tests;

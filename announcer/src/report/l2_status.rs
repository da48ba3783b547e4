//! `ServiceL2Status`, as MetalLB's speaker writes it: which node announces a Service, on which interfaces.
//!
//! [`plan`] is pure; a task beside the agent's loop lists what is there, compares, and writes what differs. Each node
//! keeps its own: the holder of an address writes, a node that lost it deletes, and what a dead node left is deleted by
//! whoever holds the Service's addresses now. Here each address is elected by itself, so that a Service with two
//! addresses may have a status on two nodes.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    time::Duration,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::json;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tracing::{info, warn};

use crate::kube::{InterfaceInfo, ObjectKey, ServiceL2Status, ServiceL2StatusSpec, ServiceL2StatusStatus};

/// Changes come in bursts, as in a failover.
const GATHER: Duration = Duration::from_millis(500);
/// Between two writes: they must not stand in the way of claims.
const PACE: Duration = Duration::from_millis(25);
/// For one request.
const PATIENCE: Duration = Duration::from_secs(5);
/// What others did to our objects is mended after so long; the kind is looked for again if the cluster has none.
const RESYNC: Duration = Duration::from_secs(300);
/// After a failure, doubled up to [`RESYNC`].
const RETRY: Duration = Duration::from_secs(1);

/// MetalLB's labels.
const NODE: &str = "metallb.io/node";
const SERVICE_NAME: &str = "metallb.io/service-name";
const SERVICE_NAMESPACE: &str = "metallb.io/service-namespace";
/// What a label value may have.
const LONGEST_LABEL: usize = 63;

/// Whose statuses these are.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Author {
    /// This node.
    pub node: String,
    /// The agent's Pod, name and UID, with which its statuses go.
    pub pod: Option<(String, String)>,
}

/// What this node announces now.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Wanted {
    /// Services with an address that this node holds, and the interfaces that advertisements name for them; none: all.
    pub here: BTreeMap<ObjectKey, BTreeSet<String>>,
    /// Other nodes that hold another address of such a Service.
    pub elsewhere: BTreeSet<(ObjectKey, String)>,
}

/// A write that makes the cluster say what is wanted.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Create(ObjectKey, BTreeSet<String>),
    /// The object of this name says something else, or nothing yet.
    Tell(String, ObjectKey, BTreeSet<String>),
    /// Its owner is a Pod that is gone.
    Adopt(String),
    Delete(Box<ObjectMeta>),
}

/// Keeps the statuses as wanted, in `namespace`, until the sender is dropped; `None` leaves them as they are.
///
/// Nothing is written while `hush` says so.
pub fn keep(
    client: Client,
    namespace: &str,
    author: Author,
    hush: watch::Receiver<bool>,
    wanted: watch::Receiver<Option<Wanted>>,
) -> impl Future<Output = ()> + Send + use<> {
    Keeper { api: Api::namespaced(client, namespace), author, hush }.run(wanted)
}

/// The Service and the node that an object is about: by its status, or by its labels before that is written.
fn subject(object: &ServiceL2Status) -> Option<(ObjectKey, String)> {
    let status = object.status.clone().unwrap_or_default();
    let label = |name: &str| object.metadata.labels.as_ref()?.get(name).cloned();
    let namespace = status.service_namespace.or_else(|| label(SERVICE_NAMESPACE))?;
    let name = status.service_name.or_else(|| label(SERVICE_NAME))?;
    Some((ObjectKey { namespace, name }, status.node.or_else(|| label(NODE))?))
}

fn plan(author: &Author, wanted: &Wanted, there: &[ServiceL2Status]) -> Vec<Step> {
    let mut missing = wanted.here.clone();
    let mut steps = Vec::new();
    for object in there {
        let Some((service, node)) = subject(object) else { continue };
        let delete = || Step::Delete(Box::new(object.metadata.clone()));
        if node != author.node {
            let left_over =
                wanted.here.contains_key(&service) && !wanted.elsewhere.contains(&(service, node));
            steps.extend(left_over.then(delete));
            continue;
        }
        let Some(interfaces) = missing.remove(&service) else {
            steps.push(delete());
            continue;
        };
        let name = object.metadata.name.clone().unwrap_or_default();
        let owners = object.metadata.owner_references.as_deref().unwrap_or_default();
        if author.pod.as_ref().is_some_and(|(_, uid)| owners.iter().all(|owner| owner.uid != *uid)) {
            steps.push(Step::Adopt(name.clone()));
        }
        if object.status.as_ref() != Some(&status(author, &service, &interfaces)) {
            steps.push(Step::Tell(name, service, interfaces));
        }
    }
    steps.extend(missing.into_iter().map(|(service, interfaces)| Step::Create(service, interfaces)));
    steps
}

fn status(author: &Author, service: &ObjectKey, interfaces: &BTreeSet<String>) -> ServiceL2StatusStatus {
    ServiceL2StatusStatus {
        node: Some(author.node.clone()),
        service_name: Some(service.name.clone()),
        service_namespace: Some(service.namespace.clone()),
        interfaces: interfaces.iter().map(|name| InterfaceInfo { name: Some(name.clone()) }).collect(),
    }
}

fn owners(author: &Author) -> Option<Vec<OwnerReference>> {
    let (name, uid) = author.pod.clone()?;
    let (api_version, kind) = ("v1".to_owned(), "Pod".to_owned());
    Some(vec![OwnerReference { api_version, kind, name, uid, ..OwnerReference::default() }])
}

struct Keeper {
    api: Api<ServiceL2Status>,
    author: Author,
    hush: watch::Receiver<bool>,
}

impl Keeper {
    async fn run(mut self, mut wanted: watch::Receiver<Option<Wanted>>) {
        let mut told: Option<String> = None;
        let mut retry = RETRY;
        loop {
            // A sender that is gone ends this; no change for long is a reason to look, too.
            if let Ok(Err(_)) = timeout(RESYNC, wanted.changed()).await {
                return;
            }
            loop {
                sleep(GATHER).await;
                self.silence().await;
                let Some(now) = wanted.borrow_and_update().clone() else { break };
                let Err(error) = self.reconcile(&now).await else {
                    if told.take().is_some() {
                        info!(node = self.author.node, "ServiceL2Status is written again");
                    }
                    retry = RETRY;
                    break;
                };
                let (text, rarely) = words(&error);
                if told.as_ref() != Some(&text) {
                    warn!(node = self.author.node, error = text, "ServiceL2Status is not written");
                    told = Some(text);
                }
                sleep(if rarely { RESYNC } else { retry }).await;
                retry = (retry * 2).min(RESYNC);
            }
        }
    }

    async fn silence(&mut self) {
        // An agent that is gone ends the task elsewhere.
        let _ = self.hush.wait_for(|hush| !hush).await;
    }

    /// One list, and the writes that it shows to be needed.
    async fn reconcile(&mut self, wanted: &Wanted) -> Result<(), kube::Error> {
        let there = within(self.api.list(&ListParams::default())).await?;
        let mut failed = Ok(());
        for step in plan(&self.author, wanted, &there.items) {
            match self.perform(step).await {
                // Somebody was quicker: the next look tells.
                Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => {}
                // One object that is refused must not keep the others from being written.
                Err(error) => failed = Err(error),
                Ok(()) => {}
            }
            sleep(PACE).await;
            self.silence().await;
        }
        failed
    }

    async fn perform(&self, step: Step) -> Result<(), kube::Error> {
        match step {
            Step::Create(service, interfaces) => {
                let object = self.object(&service);
                let made = within(self.api.create(&PostParams::default(), &object)).await?;
                self.tell(&made.metadata.name.unwrap_or_default(), &service, &interfaces).await
            }
            Step::Tell(name, service, interfaces) => self.tell(&name, &service, &interfaces).await,
            Step::Adopt(name) => {
                let patch = json!({"metadata": {"ownerReferences": owners(&self.author)}});
                within(self.api.patch(&name, &PatchParams::default(), &Patch::Merge(patch))).await.map(drop)
            }
            Step::Delete(meta) => {
                let ObjectMeta { name, uid, resource_version, .. } = *meta;
                let unchanged =
                    DeleteParams::default().preconditions(Preconditions { uid, resource_version });
                within(self.api.delete(&name.unwrap_or_default(), &unchanged)).await.map(drop)
            }
        }
    }

    async fn tell(
        &self,
        name: &str,
        service: &ObjectKey,
        interfaces: &BTreeSet<String>,
    ) -> Result<(), kube::Error> {
        let patch = json!({"status": status(&self.author, service, interfaces)});
        within(self.api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch))).await.map(drop)
    }

    fn object(&self, service: &ObjectKey) -> ServiceL2Status {
        let labels = [
            (NODE, &self.author.node),
            (SERVICE_NAME, &service.name),
            (SERVICE_NAMESPACE, &service.namespace),
        ];
        ServiceL2Status {
            metadata: ObjectMeta {
                generate_name: Some("l2-".to_owned()),
                labels: Some(
                    labels
                        .into_iter()
                        .filter(|(_, value)| value.len() <= LONGEST_LABEL)
                        .map(|(name, value)| (name.to_owned(), value.clone()))
                        .collect(),
                ),
                owner_references: owners(&self.author),
                ..ObjectMeta::default()
            },
            spec: ServiceL2StatusSpec {},
            status: None,
        }
    }
}

/// No answer in time is told as a gateway tells it.
async fn within<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    timeout(PATIENCE, request).await.unwrap_or_else(|_| {
        let status = kube::core::Status { code: 504, message: "no answer".into(), ..Default::default() };
        Err(kube::Error::Api(Box::new(status)))
    })
}

/// What is wrong and the way out; whether to look again only now and then.
fn words(error: &kube::Error) -> (String, bool) {
    match error {
        kube::Error::Api(answer) if answer.code == 404 => (
            "the cluster has no such kind: install MetalLB's CRDs, or kubectl apply -k deploy/overlays/standalone"
                .to_owned(),
            true,
        ),
        kube::Error::Api(answer) if answer.code == 403 => {
            (format!("{}: kubectl apply -k deploy/base restores the rights", answer.message), true)
        }
        error => (error.to_string(), false),
    }
}

#[cfg(test)]
mod tests;

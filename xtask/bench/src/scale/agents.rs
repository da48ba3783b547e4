//! Nodes of a lab for whole agents, and Services for them to announce.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use announcer::kube::connect;
use announcer_tests::{
    Cluster, Judge, Mode, Node, Process,
    product::{self, NAMESPACE},
    wait,
};
use anyhow::Result;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::api::in_control_plane;
use crate::progress::Progress;

/// Where the API server has all Leases of the agents.
pub const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/metallb/leases";
/// Makes every agent announce the VIPs.
pub const POOL: &str = "
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: scale, namespace: metallb}
spec: {addresses: [10.4.128.0/17]}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: scale, namespace: metallb}
";

/// Objects that are made at once.
pub const AT_ONCE: usize = 24;
/// A question for each VIP so often.
pub const ASK_EVERY: Duration = Duration::from_millis(100);

/// VIP `number`.
pub fn vip(number: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x0a04_8001 + u32::try_from(number).unwrap_or_default()))
}

/// A cluster of bare nodes, and the agents on some of them.
pub struct Lab {
    /// Ended before their cluster: fields drop in order.
    pub agents: Vec<Process>,
    pub cluster: Cluster,
    /// The agents', in the order of their nodes.
    pub kubeconfigs: Vec<String>,
    program: String,
}

impl Lab {
    /// Nodes without agents, and so many VIPs for them to announce.
    pub fn start(nodes: usize, vips: usize, progress: &Progress) -> Result<Self> {
        let lab = Self::bare(nodes)?;
        lab.cluster.apply_yaml(POOL)?;
        in_control_plane(&lab.cluster, || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(serve(&lab.cluster, vips, progress))
        })?;
        Ok(lab)
    }

    /// Nodes without agents, and nothing for them to announce.
    pub fn bare(nodes: usize) -> Result<Self> {
        let program = product::program()?.display().to_string();
        let cluster = Cluster::builder().nodes(nodes).mode(Mode::Tcx).api_only().start()?;
        cluster.install_metallb_crds()?;
        cluster.apply_kustomize(&product::deploy_dir().join("base"))?;
        let kubeconfig = |node| Ok(cluster.agent_kubeconfig(node)?.display().to_string());
        let kubeconfigs = cluster.nodes().iter().map(kubeconfig).collect::<Result<_>>()?;
        Ok(Self { agents: Vec::new(), kubeconfigs, program, cluster })
    }

    /// Starts the agent of a node.
    pub fn start_agent(&mut self, node: usize) -> Result<()> {
        let (program, kubeconfig) = (self.program.as_str(), self.kubeconfigs[node].as_str());
        let node = &self.cluster.nodes()[node];
        let argv = [program, "agent", "--node-name", node.name(), "--namespace", NAMESPACE];
        // What is told besides of each write is all that anybody could count them by.
        let more = ["--kubeconfig", kubeconfig, "--boot-id-file", Node::BOOT_ID_FILE, "--log-level=debug"];
        self.agents.push(node.spawn("agent", &[&argv[..], &more].concat())?);
        Ok(())
    }

    /// How many of the claims are like this.
    pub fn count_claims(&self, like: impl Fn(&Value) -> bool) -> Result<usize> {
        let listed =
            self.cluster.api("GET", &format!("{LEASES}?labelSelector=announcer.io/kind=claim"), None)?;
        Ok(listed["items"].as_array().into_iter().flatten().filter(|claim| like(claim)).count())
    }

    /// Waits until no claim is in the name of a node that is gone.
    pub fn wait_written_down(&self, gone: &str, limit: Duration, progress: &Progress) -> Result<()> {
        wait::until("every claim in its new owner's name", limit, || {
            std::thread::sleep(Duration::from_secs(1));
            let old = self.count_claims(|claim| claim["spec"]["holderIdentity"] == gone)?;
            progress.tell(&format!("{old} claims are still in the name of {gone}"));
            Ok((old == 0).then_some(()))
        })
    }

    /// Waits until each of so many claims has an heir: nothing is left to be written then.
    pub fn wait_heirs(&self, vips: usize, limit: Duration, progress: &Progress) -> Result<()> {
        wait::until("an heir for every claim", limit, || {
            std::thread::sleep(Duration::from_secs(1));
            let heirs = self.count_claims(|claim| {
                let heir = claim["metadata"]["annotations"]["announcer.io/heir"].as_str();
                heir.is_some_and(|heir| !heir.is_empty())
            })?;
            progress.tell(&format!("{heirs} of {vips} claims have an heir"));
            Ok((heirs == vips).then_some(()))
        })
    }

    /// Waits until all VIPs are answered.
    pub fn wait_answered(&self, judge: &Judge, vips: usize, progress: &Progress) -> Result<()> {
        wait::until("an answer for every VIP", Duration::from_secs(120), || {
            std::thread::sleep(Duration::from_millis(500));
            let mut answered: Vec<IpAddr> = judge
                .answers_since(judge.now().saturating_sub(2 * ASK_EVERY))
                .iter()
                .map(|answer| answer.vip)
                .collect();
            answered.sort();
            answered.dedup();
            progress.tell(&format!("{} of {vips} VIPs are answered", answered.len()));
            Ok((answered.len() == vips).then_some(()))
        })
    }
}

/// Makes so many Services, each with an address and an endpoint.
pub async fn serve(cluster: &Cluster, vips: usize, progress: &Progress) -> Result<()> {
    let client = connect(Some(&cluster.kubeconfig())).await?.leases;
    let services: Api<Service> = Api::namespaced(client.clone(), "default");
    let slices: Api<EndpointSlice> = Api::namespaced(client, "default");
    let one = |number: usize| {
        let (services, slices) = (services.clone(), slices.clone());
        async move {
            let name = format!("web-{number}");
            let service = json!({"metadata": {"name": name}, "spec": {
                "type": "LoadBalancer", "ports": [{"port": 80}], "allocateLoadBalancerNodePorts": false}});
            let slice = json!({
                "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
                "addressType": "IPv4",
                "endpoints": [{"addresses": ["10.244.0.9"], "conditions": {"ready": true}}]});
            let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": vip(number)}]}}});
            services.create(&PostParams::default(), &serde_json::from_value(service)?).await?;
            slices.create(&PostParams::default(), &serde_json::from_value(slice)?).await?;
            services.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?;
            anyhow::Ok(())
        }
    };
    let mut made = 0;
    let all = stream::iter(0..vips).map(one).buffer_unordered(AT_ONCE);
    all.try_for_each(|()| {
        made += 1;
        progress.tell(&format!("{made} of {vips} Services"));
        std::future::ready(Ok(()))
    })
    .await
}

//! A whole cluster with kubelets, whose DaemonSet is rolled out again and again.

use std::{thread, time::Duration};

use announcer_tests::{
    Cluster, Mode,
    product::{self, BARE_ADVERTISEMENT_YAML, DAEMON_SET, NAMESPACE, POOL_YAML},
};
use anyhow::{Result, anyhow, ensure};

use super::{
    field::VIP,
    watch::{Seen, Watch},
};
use crate::lab;

/// Its row in the table.
pub const NAME: &str = "DaemonSet rolled out";

/// One node after the other.
const NODES: usize = 2;
/// For both.
const LIMIT: Duration = Duration::from_secs(60);
/// What happens after the last pod is ready.
const AFTER: Duration = Duration::from_millis(1500);

const SERVICE_YAML: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: LoadBalancer, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 80}]
endpoints: [{addresses: [10.244.0.9], nodeName: bettley, conditions: {ready: true}}]
";

/// Starts it, with an owner of the VIP.
pub fn start() -> Result<Cluster> {
    lab::show_cgroups()?;
    let cluster = Cluster::builder().nodes(NODES).mode(Mode::Tcx).image(product::image()?).start()?;
    cluster.install_metallb_crds()?;
    cluster.install_announcer("overlays/lab-tcx")?;
    cluster.apply_yaml(&[SERVICE_YAML, POOL_YAML, BARE_ADVERTISEMENT_YAML].join("---"))?;
    cluster.set_ingress("default", "web", &[VIP.into()])?;
    cluster.wait_owner(VIP.into(), None, LIMIT)?;
    Ok(cluster)
}

/// One rollout, of all nodes, which is no reason for the VIP to move.
pub fn run(cluster: &Cluster) -> Result<Seen> {
    let before = cluster.wait_owner(VIP.into(), None, LIMIT)?;
    let (mut watch, _) = Watch::start(cluster, VIP, &["eth0"])?;
    thread::scope(|scope| {
        let rollout = scope.spawn(|| {
            cluster.kubectl(&["-n", NAMESPACE, "rollout", "restart", DAEMON_SET])?;
            cluster.wait_rollout(NAMESPACE, DAEMON_SET, LIMIT)
        });
        let ended = |_: &_| Ok(rollout.is_finished());
        watch.until("the rollout's end", 2 * LIMIT, Duration::from_millis(100), ended)?;
        rollout.join().map_err(|_| anyhow!("it has panicked"))?
    })?;
    watch.go_on(AFTER)?;
    let after = cluster.wait_owner(VIP.into(), None, LIMIT)?;
    ensure!(after == before, "the VIP has gone from {before} to {after}");
    watch.finish()
}

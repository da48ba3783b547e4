//! The DaemonSet's agent, with its own capabilities, is restarted and killed under a flood, and nobody notices.

use std::{net::IpAddr, time::Duration};

use announcer_tests::{
    Cluster, Flood, Mode, Node,
    flood::RATE,
    product::{self, BARE_ADVERTISEMENT_YAML, DAEMON_SET, FIRST_VIP, NAMESPACE},
    wait,
};
use anyhow::{Context as _, Result};

const RESTARTS: usize = 20;
const FIRST_VIP6: &str = "fd00:4::b:1";

const DUAL_STACK_YAML: &str = "
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: primary, namespace: metallb}
spec: {addresses: [10.4.11.0/24, 'fd00:4::b:0/112']}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: LoadBalancer, ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv4, IPv6], ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 80}]
endpoints: [{addresses: [10.244.0.9], nodeName: bettley, conditions: {ready: true}}]
";

#[test]
fn twenty_rollouts_and_twenty_kills_of_the_daemonset_lose_no_answer() -> Result<()> {
    let cluster =
        Cluster::builder().nodes(1).mode(Mode::Tcx).mld_snooping().image(product::image()?).start()?;
    cluster.install_metallb_crds()?;
    cluster.install_announcer("overlays/lab-tcx")?;
    cluster.apply_yaml(DUAL_STACK_YAML)?;
    cluster.apply_yaml(BARE_ADVERTISEMENT_YAML)?;
    cluster.assign_addresses()?;
    let vip6: IpAddr = FIRST_VIP6.parse()?;
    let judge = cluster.judge(&[FIRST_VIP, vip6])?;
    judge.wait_answer(FIRST_VIP, Duration::from_secs(20))?;
    judge.wait_answer(vip6, Duration::from_secs(20))?;
    drop(judge);

    flooded(&cluster, vip6, "rollouts", |_| {
        cluster.kubectl(&["-n", NAMESPACE, "rollout", "restart", DAEMON_SET])?;
        cluster.wait_rollout(NAMESPACE, DAEMON_SET, Duration::from_secs(60))
    })?;
    flooded(&cluster, vip6, "kills", |node| {
        let before = pod(&cluster)?;
        node.exec(&["pkill", "-KILL", "-x", "announcer"])?;
        // The kubelet would wait longer from one crash to the next; a new pod starts at once.
        cluster.kubectl(&["-n", NAMESPACE, "delete", "pod", &before, "--wait=false"])?;
        wait::until("another pod", Duration::from_secs(30), || {
            Ok(pod(&cluster).ok().filter(|now| !now.is_empty() && *now != before).map(|_| ()))
        })?;
        cluster.wait_rollout(NAMESPACE, DAEMON_SET, Duration::from_secs(60))
    })
}

/// Does `once` twenty times under two floods, and counts.
fn flooded(
    cluster: &Cluster,
    vip6: IpAddr,
    what: &str,
    mut once: impl FnMut(&Node) -> Result<()>,
) -> Result<()> {
    let floods = [FIRST_VIP, vip6].map(|vip| cluster.flood(vip));
    let node = cluster.nodes().first().context("a node")?;
    for _ in 0..RESTARTS {
        once(node)?;
    }
    for (flood, family) in floods.into_iter().zip(["ARP", "NS"]) {
        let flooded = flood.and_then(Flood::stop)?;
        println!("{RESTARTS} {what}, {family}: {flooded:?}, {:.0} a second", flooded.rate());
        assert_eq!(flooded.answered, flooded.sent, "{family}");
        assert!(flooded.rate() > 0.9 * f64::from(RATE), "the flood was none: {flooded:?}");
    }
    Ok(())
}

fn pod(cluster: &Cluster) -> Result<String> {
    let name = "jsonpath={.items[0].metadata.name}";
    cluster.kubectl(&["-n", NAMESPACE, "get", "pods", "-l", "component=speaker", "-o", name])
}

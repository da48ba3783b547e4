//! What the API server has to bear while nothing moves, by the count of VIPs and nodes.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use announcer::{election::Leases, kube::connect};
use announcer_tests::{Cluster, Mode};
use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    ResourceExt as _,
    api::{Api, ListParams},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    Effort,
    members::{self, demand},
};
use crate::{
    failover::within,
    progress::Progress,
    report::{Cell, Section},
};

/// How long all VIPs may take to be claimed, and then to find their heirs.
pub const SETTLE: Duration = Duration::from_secs(240);

/// The elections are at rest when no claim has been written for so long.
const REST: Duration = Duration::from_secs(15);

/// The table.
pub fn run(effort: Effort) -> Result<Section> {
    let cluster = Cluster::builder().nodes(1).mode(Mode::Tcx).api_only().start()?;
    let rows = in_control_plane(&cluster, || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let rows = runtime.block_on(measure(&cluster, effort));
        runtime.shutdown_timeout(Duration::from_secs(1));
        rows
    })?;
    Ok(Section {
        id: "api",
        title: "Writes to the API server while nothing moves".to_owned(),
        notes: vec![
            "Counted by the API server itself (apiserver_request_total of Leases, less what it writes of its own accord). The nodes \
             are elections without kernels, each with its own connections. The first ones claim the VIPs; the others join them, \
             as a cluster grows. Claimed: until every VIP had an owner; at rest: until every node was there and the last write of \
             any claim after that (its heir, and that one's consent). All of it runs on the same CPUs."
                .to_owned(),
        ],
        columns: ["", "writes/s", "per node and second", "claimed after, s", "at rest after, s"]
            .map(str::to_owned)
            .to_vec(),
        rows,
    })
}

/// Runs `work` in a thread that is in the network namespace of the API server.
pub fn in_control_plane<T: Send>(cluster: &Cluster, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    within(cluster.control_plane(), work)
}

/// A row of a table.
pub type Row = (String, Vec<Cell>);

async fn measure(cluster: &Cluster, effort: Effort) -> Result<Vec<Row>> {
    let quiet = Duration::from_secs(effort.quiet);
    let progress = Progress::start("scale: api", effort.nodes.len() * effort.vips.len());
    let background = writes_within(cluster, quiet).await?;
    let (mut rows, mut round) = (Vec::new(), 0);
    for vips in effort.vips {
        let namespace = format!("scale-{vips}");
        cluster.kubectl(&["create", "namespace", &namespace])?;
        let (demands, demanded) = watch::channel(Arc::new(demand(0, 0)));
        let (tell, mut told) = mpsc::unbounded_channel();
        let (mut members, mut held) = (JoinSet::new(), BTreeMap::new());
        for nodes in effort.nodes {
            progress.round(round);
            round += 1;
            let begun = Instant::now();
            demands.send_replace(Arc::new(demand(*vips, *nodes)));
            let first = members.is_empty();
            for number in members.len()..*nodes {
                let clients = connect(Some(&cluster.kubeconfig())).await?;
                let leases = Leases::new(clients.leases, &namespace);
                members.spawn(members::live(number, leases, demanded.clone(), tell.clone()));
            }
            let all = async {
                while held.values().sum::<usize>() < *vips {
                    let (number, count) = told.recv().await.context("members")?;
                    held.insert(number, count);
                    progress.tell(&format!("{} of {vips} VIPs have an owner", held.values().sum::<usize>()));
                }
                anyhow::Ok(())
            };
            let label = format!("{nodes} nodes, {vips} VIPs");
            let Ok(done) = timeout(SETTLE, all).await else {
                eprintln!("scale: api: {label}: not claimed within {} s", SETTLE.as_secs());
                break;
            };
            done?;
            let claimed = begun.elapsed().as_secs_f64();
            let Ok(rest) = timeout(SETTLE, at_rest(cluster, &namespace, *nodes, &progress)).await else {
                // A hundred elections on the CPUs of one machine are no hundred machines.
                eprintln!("scale: api: {label}: not at rest after {} s", SETTLE.as_secs());
                break;
            };
            let rested = rest?.saturating_duration_since(begun).as_secs_f64();
            let writes = (writes_within(cluster, quiet).await? - background).max(0.0);
            eprintln!(
                "scale: api: {label}: {writes:.2} writes/s, claimed after {claimed:.1} s, at rest after {rested:.1} s"
            );
            rows.push((
                label,
                vec![
                    Cell::number("writes_per_s", writes, 2),
                    Cell::number("per_node_per_s", writes / *nodes as f64, 3),
                    if first { Cell::number("claimed_s", claimed, 1) } else { Cell::none("claimed_s") },
                    Cell::number("rest_s", rested, 1),
                ],
            ));
        }
        drop(demands);
        members.shutdown().await;
    }
    Ok(rows)
}

/// Waits until every node has a session and no claim is written any more. When the last was seen to be.
pub async fn at_rest(
    cluster: &Cluster,
    namespace: &str,
    nodes: usize,
    progress: &Progress,
) -> Result<Instant> {
    let client = connect(Some(&cluster.kubeconfig())).await?.leases;
    let leases = Api::<Lease>::namespaced(client, namespace);
    let claims = ListParams::default().labels("announcer.io/kind=claim").match_any();
    let sessions = ListParams::default().labels("announcer.io/kind=session").match_any();
    let (mut newest, mut last) = (0, Instant::now());
    while last.elapsed() < REST {
        let listed = leases.list_metadata(&claims).await?.items;
        let versions =
            listed.iter().filter_map(|claim| claim.metadata.resource_version.as_ref()?.parse::<u64>().ok());
        let seen = versions.max().unwrap_or_default();
        let live = leases.list_metadata(&sessions).await?.items.len();
        if seen != newest || live < nodes {
            (newest, last) = (seen, Instant::now());
        }
        let heirs =
            listed.iter().filter(|claim| claim.annotations().contains_key("announcer.io/heir")).count();
        progress.tell(&format!("{live} nodes; {heirs} of {} claims have an heir", listed.len()));
        sleep(Duration::from_secs(1)).await;
    }
    Ok(last)
}

/// Writes of Leases per second, over so long.
async fn writes_within(cluster: &Cluster, span: Duration) -> Result<f64> {
    let (before, start) = (writes(cluster)?, Instant::now());
    sleep(span).await;
    Ok((writes(cluster)? - before) / start.elapsed().as_secs_f64())
}

fn writes(cluster: &Cluster) -> Result<f64> {
    let metrics = cluster.kubectl(&["get", "--raw", "/metrics"])?;
    let ours = |line: &&str| {
        line.starts_with("apiserver_request_total{")
            && line.contains("resource=\"leases\"")
            && ["POST", "PUT", "PATCH", "DELETE"]
                .iter()
                .any(|verb| line.contains(&format!("verb=\"{verb}\"")))
    };
    let values = metrics.lines().filter(ours).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    let values: Vec<f64> = values.collect();
    ensure!(!values.is_empty(), "the API server counts no writes of Leases");
    Ok(values.iter().sum())
}

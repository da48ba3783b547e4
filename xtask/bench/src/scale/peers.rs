//! What an agent costs while it watches many others: it asks some of them on the wire, and the API server tells of all.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use announcer::{
    election::{Leases, WATCHED_PEERS},
    kube::{connect, read},
    policy::{self, Demand, Options},
};
use announcer_tests::{Cluster, product::NAMESPACE};
use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::{coordination::v1::Lease, core::v1};
use kube::{
    Client, ResourceExt as _,
    api::{Api, ListParams, PostParams},
};
use serde_json::json;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    Effort,
    agents::{AT_ONCE, Lab, POOL, serve},
    api::{Row, SETTLE, at_rest, in_control_plane},
    members::{self, name},
    process::{cpu_seconds, sleeps, slept_since},
};
use crate::{
    failover::{index_of, within},
    progress::Progress,
    report::{Cell, Section},
    sys::packet::{self, Field},
};

/// VIPs for each node: all are claimed at once, so that everybody has some.
const VIPS_EACH: usize = 2;
/// Until nothing is left to do after a start, or after peers begin to answer.
const CALM: Duration = Duration::from_secs(5);

/// All of it, whatever does not answer.
const LIMIT: Duration = Duration::from_secs(900);
/// How long an agent asks the wire before it takes what nobody has claimed, and a little: members, who need not ask, wait
/// as long, and leave it its share.
const ASKS_FOR: Duration = Duration::from_millis(1_000);

/// One agent, before others join it and with them.
pub fn run(effort: Effort) -> Result<Section> {
    let progress = Progress::start("scale: peers", 3);
    let mut lab = Lab::bare(1)?;
    lab.start_agent(0)?;
    let pid = lab.agents[0].pid().context("the agent has ended")?;
    let rows = in_control_plane(&lab.cluster, || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let rows = runtime.block_on(async {
            timeout(LIMIT, measure(&lab, pid, effort, &progress)).await.context("not done in time")?
        });
        runtime.shutdown_timeout(Duration::from_secs(1));
        rows
    })?;
    let peers = effort.peers;
    Ok(Section {
        id: "peers",
        title: format!("An agent beside {peers} others, nothing moving"),
        notes: vec![format!(
            "One agent on a node of the lab, over {} s each: per cent of one CPU, in clock ticks; questions that reached the host \
             that answers for its peers, each to that host alone; and how often a thread of the agent went to sleep. With 0 peers there \
             is no Service yet. The {peers} peers are elections without kernels, with a Node, a session and about {VIPS_EACH} VIPs \
             each. No answers: the agent hears of them from the API server, and on the wire nobody answers for their VIPs yet, so \
             that it asks seldom, and everybody. Answers: a host of the LAN has all VIPs of the peers, so that it asks {} of them \
             for one VIP each, ten times a second.",
            effort.quiet,
            WATCHED_PEERS.min(peers),
        )],
        columns: ["", "CPU %", "questions/s", "VIPs asked for", "context switches/s"]
            .map(str::to_owned)
            .to_vec(),
        rows,
    })
}

async fn measure(lab: &Lab, pid: u32, effort: Effort, progress: &Progress) -> Result<Vec<Row>> {
    let (cluster, peers) = (&lab.cluster, effort.peers);
    let vips = (peers + 1) * VIPS_EACH;
    let client = connect(Some(&cluster.kubeconfig())).await?.leases;
    let scales = Scales::new(cluster, pid, Duration::from_secs(effort.quiet))?;
    let mut rows = Vec::new();
    progress.round(0);
    timeout(SETTLE, live(&client, 1, progress)).await.context("the agent's session")??;
    sleep(CALM).await;
    rows.push(scales.weigh("0 peers").await?.0);

    progress.round(1);
    make_nodes(&client, peers).await?;
    let (demands, demanded) = watch::channel(Arc::new(demand(&client).await?));
    let (held, _) = mpsc::unbounded_channel();
    let mut members = JoinSet::new();
    for number in 0..peers {
        let leases = Leases::new(connect(Some(&cluster.kubeconfig())).await?.leases, NAMESPACE);
        members.spawn(members::live(number, leases, demanded.clone(), held.clone()));
    }
    timeout(SETTLE, live(&client, peers + 1, progress)).await.context("a session for every node")??;
    serve(cluster, vips, progress).await?;
    // The pool comes last, for all at once: who hears of some VIPs before the others do takes them.
    cluster.apply_yaml(POOL)?;
    let wanted = demand(&client).await?;
    let all = wanted.vips.len() == vips && wanted.vips.values().all(|vip| vip.candidates.len() == peers + 1);
    ensure!(all, "not every node may have every VIP");
    sleep(ASKS_FOR).await;
    demands.send_replace(Arc::new(wanted));
    lab.wait_heirs(vips, SETTLE, progress)?;
    timeout(SETTLE, at_rest(cluster, NAMESPACE, peers + 1, progress)).await.context("no rest")??;
    let mut owned = owned(&client).await?;
    let own = owned.remove(cluster.nodes()[0].name()).map_or(0, |vips| vips.len());
    eprintln!("scale: peers: the agent owns {own} of {vips} VIPs, {} peers the others", owned.len());
    rows.push(scales.weigh(&format!("{peers} peers, no answers")).await?.0);

    progress.round(2);
    let addresses = owned.values().flatten().map(|vip| format!("address add {vip}/32 dev eth0\n"));
    let batch: String = addresses.collect();
    cluster.client().shell(&format!("ip -batch - <<'END'\n{batch}END\n"))?;
    sleep(CALM).await;
    let (row, asked) = scales.weigh(&format!("{peers} peers, answers")).await?;
    rows.push(row);
    let of = |ip: &Ipv4Addr| owned.iter().find(|(_, vips)| vips.contains(&IpAddr::V4(*ip))).map(|(of, _)| of);
    let nodes: BTreeSet<&String> = asked.keys().filter_map(of).collect();
    let watched = WATCHED_PEERS.min(peers);
    ensure!(nodes.len() == watched, "it asked {} peers, and not {watched}: {asked:?}", nodes.len());
    drop(demands);
    members.shutdown().await;
    Ok(rows)
}

/// Waits until so many nodes have a session.
async fn live(client: &Client, nodes: usize, progress: &Progress) -> Result<()> {
    let leases = Api::<Lease>::namespaced(client.clone(), NAMESPACE);
    let sessions = ListParams::default().labels("announcer.io/kind=session").match_any();
    loop {
        let live = leases.list_metadata(&sessions).await?.items.len();
        progress.tell(&format!("{live} of {nodes} nodes have a session"));
        if live == nodes {
            return Ok(());
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// Makes the Node of every member.
async fn make_nodes(client: &Client, peers: usize) -> Result<()> {
    let nodes: Api<v1::Node> = Api::all(client.clone());
    let one = |number: usize| {
        let (nodes, name) = (nodes.clone(), name(number));
        async move {
            let node = json!({
                "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
            nodes.create(&PostParams::default(), &serde_json::from_value(node)?).await?;
            anyhow::Ok(())
        }
    };
    stream::iter(0..peers).map(one).buffer_unordered(AT_ONCE).try_collect().await
}

/// What every agent makes of the cluster as it is now.
async fn demand(client: &Client) -> Result<Demand> {
    Ok(policy::decide(&read(client, NAMESPACE).await?, &Options::default()).demand)
}

/// The VIPs of each node, by the claims.
async fn owned(client: &Client) -> Result<BTreeMap<String, Vec<IpAddr>>> {
    let claims = ListParams::default().labels("announcer.io/kind=claim");
    let mut owned = BTreeMap::<String, Vec<IpAddr>>::new();
    for claim in Api::<Lease>::namespaced(client.clone(), NAMESPACE).list(&claims).await? {
        let name = claim.name_any();
        let vip =
            name.strip_prefix("vip-").with_context(|| format!("a claim of the name {name}"))?.parse()?;
        let owner = claim.spec.and_then(|spec| spec.holder_identity).context("a claim without an owner")?;
        owned.entry(owner).or_default().push(vip);
    }
    Ok(owned)
}

/// What an agent costs and asks.
struct Scales {
    pid: u32,
    /// At the host that answers, for questions of the agent's node to it alone.
    ear: OwnedFd,
    quiet: Duration,
}

impl Scales {
    fn new(cluster: &Cluster, pid: u32, quiet: Duration) -> Result<Self> {
        let [a, b, c, d, e, f] = cluster.nodes()[0].mac();
        let fields = [
            Field { at: 14 + 6, width: 2, value: 1 },
            Field { at: 14 + 8, width: 4, value: u32::from_be_bytes([a, b, c, d]) },
            Field { at: 14 + 12, width: 2, value: u32::from_be_bytes([0, 0, e, f]) },
        ];
        let ear = within(cluster.client(), || {
            packet::listen(index_of("eth0")?, libc::ETH_P_ARP, &fields).context("a packet socket")
        })?;
        Ok(Self { pid, ear, quiet })
    }

    /// A row of this name, over so long; and how often it asked for what.
    async fn weigh(&self, name: &str) -> Result<(Row, BTreeMap<Ipv4Addr, usize>)> {
        eprintln!("scale: peers: {name}: {} s", self.quiet.as_secs());
        self.asked()?;
        let (cpu, slept, start) = (cpu_seconds(self.pid)?, sleeps(self.pid)?, Instant::now());
        sleep(self.quiet).await;
        let seconds = start.elapsed().as_secs_f64();
        let percent = (cpu_seconds(self.pid)? - cpu) / seconds * 100.0;
        let switches = slept_since(&slept, &sleeps(self.pid)?) as f64 / seconds;
        let asked = self.asked()?;
        let questions = asked.values().sum::<usize>() as f64 / seconds;
        eprintln!(
            "scale: peers: {name}: {percent:.2} % of a CPU, {questions:.1} questions/s for {} VIPs, {switches:.0} switches/s",
            asked.len()
        );
        let cells = vec![
            Cell::number("cpu_percent", percent, 2),
            Cell::number("questions_per_s", questions, 1),
            Cell::number("asked", asked.len() as f64, 0),
            Cell::number("switches_per_s", switches, 0),
        ];
        Ok(((name.to_owned(), cells), asked))
    }

    /// How often it has asked for what since this was called last.
    fn asked(&self) -> Result<BTreeMap<Ipv4Addr, usize>> {
        let (mut asked, mut frame) = (BTreeMap::new(), [0; 64]);
        while let Some((length, _)) = packet::receive(self.ear.as_fd(), &mut frame)? {
            if let Some(ip) = frame[..length.min(64)].get(14 + 24..).and_then(<[u8]>::first_chunk::<4>) {
                *asked.entry(Ipv4Addr::from(*ip)).or_default() += 1;
            }
        }
        ensure!(packet::dropped(self.ear.as_fd())? == 0, "frames found no room in the bench's own socket");
        Ok(asked)
    }
}

//! Whole agents with their kernels, on nodes of a lab: a node that dies with all VIPs, and one agent on the scales.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use announcer::{
    election::{CLAIMS_IN_FLIGHT, Input, Leases, lease::Record},
    kube::connect,
};
use announcer_tests::{
    Cluster, Judge, Mode, Node, Process,
    product::{self, NAMESPACE},
    wait,
};
use anyhow::{Context as _, Result, anyhow};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Service, discovery::v1::EndpointSlice};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::{Effort, api::in_control_plane};
use crate::{
    progress::Progress,
    report::{Cell, Section},
    stats::Spread,
};

const POOL: &str = "
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: scale, namespace: metallb}
spec: {addresses: [10.4.128.0/17]}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: scale, namespace: metallb}
";

/// Services that are made at once.
const AT_ONCE: usize = 24;
/// A question for each VIP so often.
const ASK_EVERY: Duration = Duration::from_millis(100);

fn vip(number: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x0a04_8001 + u32::try_from(number).unwrap_or_default()))
}

struct Lab {
    /// Ended before their cluster: fields drop in order.
    agents: Vec<Process>,
    cluster: Cluster,
    kubeconfig: String,
    program: String,
}

impl Lab {
    fn start(nodes: usize, vips: usize, progress: &Progress) -> Result<Self> {
        let program = product::program()?.display().to_string();
        let cluster = Cluster::builder().nodes(nodes).mode(Mode::Tcx).api_only().start()?;
        cluster.install_metallb_crds()?;
        cluster.apply_kustomize(&product::deploy_dir().join("base"))?;
        cluster.apply_yaml(POOL)?;
        let kubeconfig = cluster.kubeconfig_as(&format!("system:serviceaccount:{NAMESPACE}:announcer"))?;
        in_control_plane(&cluster, || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(serve(&cluster, vips, progress))
        })?;
        Ok(Self { agents: Vec::new(), kubeconfig: kubeconfig.display().to_string(), program, cluster })
    }

    fn start_agent(&mut self, node: usize) -> Result<()> {
        let node = &self.cluster.nodes()[node];
        let (program, kubeconfig) = (self.program.as_str(), self.kubeconfig.as_str());
        let argv = [program, "agent", "--node-name", node.name(), "--namespace", NAMESPACE];
        let more = ["--kubeconfig", kubeconfig, "--boot-id-file", Node::BOOT_ID_FILE];
        self.agents.push(node.spawn("agent", &[&argv[..], &more].concat())?);
        Ok(())
    }

    /// Waits until each of so many claims has an heir: nothing is left to be written then.
    fn wait_heirs(&self, vips: usize, limit: Duration, progress: &Progress) -> Result<()> {
        wait::until("an heir for every claim", limit, || {
            std::thread::sleep(Duration::from_secs(1));
            let listed =
                self.cluster.api("GET", &format!("{LEASES}?labelSelector=announcer.io/kind=claim"), None)?;
            let claims = listed["items"].as_array().into_iter().flatten();
            let heir = |claim: &&Value| {
                let heir = claim["metadata"]["annotations"]["announcer.io/heir"].as_str();
                heir.is_some_and(|heir| !heir.is_empty())
            };
            let heirs = claims.filter(heir).count();
            progress.tell(&format!("{heirs} of {vips} claims have an heir"));
            Ok((heirs == vips).then_some(()))
        })
    }

    /// Waits until all VIPs are answered.
    fn wait_answered(&self, judge: &Judge, vips: usize, progress: &Progress) -> Result<()> {
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
async fn serve(cluster: &Cluster, vips: usize, progress: &Progress) -> Result<()> {
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

/// One node owns everything, and loses its power.
pub fn dead_node(effort: Effort) -> Result<Section> {
    let (vips, rounds) = effort.dead;
    let progress = Progress::start("scale: a dead node", rounds);
    let (mut last, mut half, mut dark, mut alone) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        progress.round(round);
        let mut lab = Lab::start(4, vips, &progress)?;
        let addresses: Vec<IpAddr> = (0..vips).map(vip).collect();
        let judge = lab.cluster.judge_every(&addresses, ASK_EVERY)?;
        // The first agent is alone, and takes everything; ownership is sticky.
        lab.start_agent(0)?;
        lab.wait_answered(&judge, vips, &progress)?;
        for node in 1..4 {
            lab.start_agent(node)?;
        }
        let joined = || {
            let listed =
                lab.cluster.api("GET", &format!("{LEASES}?labelSelector=announcer.io/kind=session"), None)?;
            let live = listed["items"].as_array().into_iter().flatten();
            let held =
                live.filter(|lease| lease["spec"]["holderIdentity"].as_str().is_some_and(|h| !h.is_empty()));
            Ok((held.count() == 4).then_some(()))
        };
        wait::until("four sessions", Duration::from_secs(30), joined)?;
        let dead = lab.cluster.nodes()[0].name().to_owned();
        let mac = lab.cluster.nodes()[0].mac();
        // As in any cluster that has been at peace for half a minute.
        lab.wait_heirs(vips, Duration::from_secs(90), &progress)?;
        lab.cluster.nodes()[0].crash()?;
        let crashed = judge.now();
        let fenced = in_control_plane(&lab.cluster, || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(fence(&lab.cluster, &dead))?;
            Ok(judge.now())
        })?;
        let successors = || {
            std::thread::sleep(Duration::from_millis(500));
            let mut firsts = std::collections::BTreeMap::new();
            for answer in judge.answers_since(crashed).iter().filter(|answer| answer.mac != mac) {
                let first = firsts.entry(answer.vip).or_insert(answer.at);
                *first = answer.at.min(*first);
            }
            Ok((firsts.len() == vips).then_some(firsts))
        };
        let firsts =
            wait::until("an answer by a successor for every VIP", Duration::from_secs(60), successors)?;
        let mut after: Vec<f64> = firsts.values().map(|at| at.as_secs_f64() - fenced.as_secs_f64()).collect();
        after.sort_by(f64::total_cmp);
        half.push(after[after.len() / 2]);
        last.extend(after.last());
        dark.push(fenced.as_secs_f64() - crashed.as_secs_f64());
        drop(judge);
        lab.agents.clear();
        let bare = in_control_plane(&lab.cluster, || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            runtime.block_on(bare_writes(&lab.kubeconfig, vips))
        })?;
        alone.push(bare.as_secs_f64());
        eprintln!(
            "scale: a dead node: half answered {:.2} s after the fence, the last {:.2} s; the same writes alone {:.2} s",
            after[after.len() / 2],
            after.last().copied().unwrap_or_default(),
            bare.as_secs_f64()
        );
    }
    Ok(Section {
        id: "dead_node",
        title: format!("A node dies with {vips} VIPs; three take over"),
        notes: vec![format!(
            "Seconds; {rounds} rounds, each on a new cluster, in which each claim has found its heir. Every VIP is asked for every {} ms, which is the resolution. After the \
             fence: from the moment its session was seen fenced to the first answer by a successor. Alone: as many updates of Leases, \
             by three clients with 16 on their way each, on the same API server with nothing else to do. API server, etcd, agents \
             and the judge share the CPUs of this machine.",
            ASK_EVERY.as_millis()
        )],
        columns: ["", "until the fence", "half after the fence", "last after the fence", "the writes alone"]
            .map(str::to_owned)
            .to_vec(),
        rows: vec![(
            format!("{vips} VIPs"),
            vec![
                Cell::spread("fence_s", Spread::of(dark), 1),
                Cell::spread("half_s", Spread::of(half), 2),
                Cell::spread("last_s", Spread::of(last), 2),
                Cell::spread("alone_s", Spread::of(alone), 2),
            ],
        )],
    })
}

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/metallb/leases";

/// How long so many updates of Leases take, without a decision between them.
async fn bare_writes(kubeconfig: &str, writes: usize) -> Result<Duration> {
    let mut clients = Vec::new();
    for _ in 0..3 {
        let client = connect(Some(kubeconfig.as_ref())).await?.leases;
        clients.push(Api::<Lease>::namespaced(client, NAMESPACE));
    }
    let through = |number: usize| clients[number % 3].clone();
    let made = stream::iter(0..writes).map(|number| {
        let spec = json!({"metadata": {"name": format!("bare-{number}")}, "spec": {"holderIdentity": "one"}});
        let api = through(number);
        async move {
            anyhow::Ok((number, api.create(&PostParams::default(), &serde_json::from_value(spec)?).await?))
        }
    });
    let made: Vec<(usize, Lease)> = made.buffer_unordered(AT_ONCE).try_collect().await?;
    let begun = Instant::now();
    let written = stream::iter(made).map(|(number, lease)| {
        let api = through(number);
        async move { api.replace(&format!("bare-{number}"), &PostParams::default(), &lease).await.map(drop) }
    });
    written.buffer_unordered(3 * CLAIMS_IN_FLIGHT).try_collect::<()>().await?;
    Ok(begun.elapsed())
}

/// Returns when this node's session is seen to be fenced.
async fn fence(cluster: &Cluster, node: &str) -> Result<()> {
    let clients = connect(Some(&cluster.kubeconfig())).await?;
    let leases = Leases::new(clients.leases, NAMESPACE);
    let mut seen = std::pin::pin!(leases.observe());
    let name = format!("session-{node}");
    while let Some(input) = seen.next().await {
        if let Input::Changed(Record::Session(session)) = input
            && session.name == name
            && session.holder.is_none()
        {
            return Ok(());
        }
    }
    Err(anyhow!("the watch has ended"))
}

/// One of three agents, while nothing moves.
pub fn weighed(effort: Effort) -> Result<Section> {
    let vips = effort.weighed;
    let progress = Progress::start("scale: an agent", 1);
    let mut lab = Lab::start(3, vips, &progress)?;
    for node in 0..3 {
        lab.start_agent(node)?;
    }
    let claimed = || {
        std::thread::sleep(Duration::from_secs(1));
        let listed =
            lab.cluster.api("GET", &format!("{LEASES}?labelSelector=announcer.io/kind=claim"), None)?;
        let claims = listed["items"].as_array().map_or(0, Vec::len);
        progress.tell(&format!("{claims} of {vips} VIPs have a claim"));
        Ok((claims == vips).then_some(()))
    };
    wait::until("a claim for every VIP", Duration::from_secs(180), claimed)?;
    lab.wait_heirs(vips, Duration::from_secs(300), &progress)?;
    // Five rounds of announcements at 2 000 frames a second.
    std::thread::sleep(Duration::from_secs(10 + vips as u64 * 10 / 3 / 2_000));
    let mut rows = Vec::new();
    for (agent, node) in lab.agents.iter().zip(lab.cluster.nodes()) {
        let pid = agent.pid().context("the agent has ended")?;
        let (cpu, start) = (cpu_seconds(pid)?, Instant::now());
        std::thread::sleep(Duration::from_secs(effort.quiet));
        let percent = (cpu_seconds(pid)? - cpu) / start.elapsed().as_secs_f64() * 100.0;
        eprintln!("scale: an agent: {:.0} MiB, {percent:.1} % of a CPU", resident_mib(pid)?);
        rows.push((
            node.name().to_owned(),
            vec![Cell::number("rss_mib", resident_mib(pid)?, 0), Cell::number("cpu_percent", percent, 1)],
        ));
    }
    Ok(Section {
        id: "agent",
        title: format!("An agent at {vips} VIPs, three nodes, nothing moving"),
        notes: vec![
            "Resident memory, and per cent of one CPU, once each claim has its heir and all is announced."
                .to_owned(),
        ],
        columns: ["", "MiB", "CPU %"].map(str::to_owned).to_vec(),
        rows,
    })
}

fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the agent has ended")?;
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks: f64 =
        after_name.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks / rustix::param::clock_ticks_per_second() as f64)
}

fn resident_mib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the agent has ended")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

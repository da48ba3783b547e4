//! Whole agents with their kernels, on nodes of a lab: a node that dies with all VIPs, and one agent on the scales.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use announcer::{
    election::{CLAIMS_IN_FLIGHT, Input, Leases, lease::Record},
    kube::connect,
};
use announcer_tests::{Cluster, Process, product::NAMESPACE, wait};
use anyhow::{Context as _, Result, anyhow};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, PostParams};
use serde_json::json;

use super::{
    Effort,
    agents::{ASK_EVERY, AT_ONCE, LEASES, Lab, vip},
    api::in_control_plane,
    process::{cpu_seconds, resident_mib},
};
use crate::{
    failover::{now, writes_at_once},
    progress::Progress,
    report::{Cell, Section},
    stats::Spread,
};

/// One node owns everything, and loses its power.
pub fn dead_node(effort: Effort) -> Result<Section> {
    let (vips, rounds) = effort.dead;
    let progress = Progress::start("scale: a dead node", rounds);
    let (mut last, mut half, mut dark, mut alone) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut at_once = Vec::new();
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
        let (crashed, died) = (judge.now(), now());
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
        lab.wait_written_down(&dead, Duration::from_secs(60), &progress)?;
        let logs: Vec<String> = lab.agents.iter().map(Process::log).collect();
        at_once.push(writes_at_once(&logs, died) as f64);
        lab.agents.clear();
        let bare = in_control_plane(&lab.cluster, || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            runtime.block_on(bare_writes(&lab, vips))
        })?;
        alone.push(bare.as_secs_f64());
        eprintln!(
            "scale: a dead node: fenced after {:.2} s; half answered {:.2} s after the fence, the last {:.2} s; the same writes alone {:.2} s",
            fenced.as_secs_f64() - crashed.as_secs_f64(),
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
             and the judge share the CPUs of this machine. Writes at once: the most that were on their way to the API server at any \
             moment, of all three successors together, until every claim was in its new owner's name.",
            ASK_EVERY.as_millis()
        )],
        columns: [
            "",
            "until the fence",
            "half after the fence",
            "last after the fence",
            "writes at once",
            "the writes alone",
        ]
        .map(str::to_owned)
        .to_vec(),
        rows: vec![(
            format!("{vips} VIPs"),
            vec![
                Cell::spread("fence_s", Spread::of(dark), 2),
                Cell::spread("half_s", Spread::of(half), 2),
                Cell::spread("last_s", Spread::of(last), 2),
                Cell::spread("at_once", Spread::of(at_once), 0),
                Cell::spread("alone_s", Spread::of(alone), 2),
            ],
        )],
    })
}

/// How long so many updates of Leases take, without a decision between them.
async fn bare_writes(lab: &Lab, writes: usize) -> Result<Duration> {
    let (kubeconfig, node) = (&lab.kubeconfigs[0], lab.cluster.nodes()[0].name());
    let mut clients = Vec::new();
    for _ in 0..3 {
        let client = connect(Some(kubeconfig.as_ref())).await?.leases;
        clients.push(Api::<Lease>::namespaced(client, NAMESPACE));
    }
    let through = |number: usize| clients[number % 3].clone();
    let made = stream::iter(0..writes).map(|number| {
        let metadata = json!({
            "name": bare_claim(number),
            "labels": {"announcer.io/kind": "claim"},
            "annotations": {"announcer.io/protocol": "1", "announcer.io/session-epoch": "0"},
        });
        let claim = json!({"metadata": metadata, "spec": {"holderIdentity": node}});
        let api = through(number);
        async move {
            anyhow::Ok((number, api.create(&PostParams::default(), &serde_json::from_value(claim)?).await?))
        }
    });
    let made: Vec<(usize, Lease)> = made.buffer_unordered(AT_ONCE).try_collect().await?;
    let begun = Instant::now();
    let written = stream::iter(made).map(|(number, lease)| {
        let api = through(number);
        async move { api.replace(&bare_claim(number), &PostParams::default(), &lease).await.map(drop) }
    });
    written.buffer_unordered(3 * CLAIMS_IN_FLIGHT).try_collect::<()>().await?;
    Ok(begun.elapsed())
}

/// Of no Service: it is written as any other, and nobody looks at it.
fn bare_claim(number: usize) -> String {
    format!("vip-10.9.{}.{}", number / 256 % 256, number % 256)
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
        let claims = lab.count_claims(|_| true)?;
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

//! `cargo xtask demo`: the main job on a real cluster, told as a timeline with measured times.

use std::{
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use announcer_tests::{
    Cluster, Judge, Mode, Node,
    addresses::format_mac,
    product::{ADVERTISEMENT_YAML, DAEMON_SET, FIRST_VIP, NAMESPACE, PINS, POOL_YAML},
    wait, web,
};
use anyhow::{Context as _, Result};

use crate::{
    image::{self, workspace},
    setup::{self, Need},
};

#[derive(clap::Args)]
pub struct Arguments {
    /// Leave the cluster standing until Ctrl-C, and say how to look around in it
    #[arg(long)]
    keep: bool,
    /// How the agents attach their program
    #[arg(long, value_enum, default_value_t = Attach::Native)]
    mode: Attach,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Attach {
    /// Native XDP; the switch's ports carry a program that passes everything, which veth links need for it
    Native,
    /// TCX
    Tcx,
    /// Generic XDP
    Generic,
}

impl Attach {
    fn overlay(self) -> &'static str {
        match self {
            Self::Native => "overlays/lab",
            Self::Tcx => "overlays/lab-tcx",
            Self::Generic => "overlays/lab-generic",
        }
    }

    fn switch(self) -> Mode {
        if self == Self::Native { Mode::Native } else { Mode::Tcx }
    }
}

/// What is told, and when it happened, counted from the start.
struct Timeline(Instant);

impl Timeline {
    fn tell(&self, text: &str) {
        for (number, line) in text.lines().enumerate() {
            match number {
                0 => println!("{:6.1} s  {line}", self.0.elapsed().as_secs_f64()),
                _ => println!("          {line}"),
            }
        }
    }

    fn heading(&self, text: &str) {
        println!("\n          {text}");
    }
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    setup::ensure(&[&Need::EBPF[..], &Need::lab()].concat())?;
    let archive = workspace().join("target/image/announcer.tar");
    let program = image::build(image::LAB_IMAGE, &archive)?;

    let time = Timeline(Instant::now());
    time.heading("A cluster from nothing: 3 nodes, a router, a client, on network namespaces");
    let start = time.0;
    let cluster = Cluster::builder()
        .nodes(3)
        .mode(arguments.mode.switch())
        .image(&archive)
        .progress(move |line| println!("{:6.1} s  {line}", start.elapsed().as_secs_f64()))
        .start()?;
    cluster.install_metallb_crds()?;
    cluster.apply_yaml(&web::manifest("httpbin", 3))?;
    let _allocator = cluster.allocator()?;
    time.tell("the lab hands out addresses of 10.4.11.0/24, in the place of MetalLB's controller");

    install(&cluster, &time, arguments.mode)?;
    let judge = first_answer(&cluster, &time)?;
    owner_map(&cluster, &time)?;
    drain(&cluster, &time, &judge)?;
    crash(&cluster, &time, &judge)?;
    let verdict = judge.finish()?;
    let two = verdict.two_macs_within(Duration::from_millis(10)).len();
    time.heading("The judge's words");
    time.tell(&format!(
        "{} questions in {:.0} s, {} answered; two nodes answered one question: {}",
        verdict.asked[&FIRST_VIP],
        verdict.watched.as_secs_f64(),
        verdict.answered(FIRST_VIP).count(),
        if two == 0 { "never".to_owned() } else { format!("{two} times") },
    ));
    if arguments.keep {
        keep(&cluster, &program);
    }
    drop(cluster);
    time.tell("everything is taken down again");
    Ok(if two == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn install(cluster: &Cluster, time: &Timeline, mode: Attach) -> Result<()> {
    time.heading(&format!("$ kubectl apply -k deploy/{}", mode.overlay()));
    cluster.install_announcer(mode.overlay())?;
    time.tell("an agent runs on every node");
    cluster.wait_for(&["--for=condition=Available", "deployment/httpbin"], Duration::from_secs(60))?;
    let address = wait::until("an address", Duration::from_secs(10), || {
        let jsonpath = "jsonpath={.status.loadBalancer.ingress[0].ip}";
        Ok(Some(cluster.kubectl(&["get", "service", "httpbin", "-o", jsonpath])?).filter(|ip| !ip.is_empty()))
    })?;
    time.tell(&format!(
        "web pods run on the nodes; Service httpbin has {address}, which nobody announces yet"
    ));
    Ok(())
}

fn first_answer(cluster: &Cluster, time: &Timeline) -> Result<Judge> {
    time.heading(
        "$ kubectl apply -f pool.yaml -f l2advertisement.yaml    (the scenario's, MetalLB's own kinds)",
    );
    let judge = cluster.judge(&[FIRST_VIP])?;
    cluster.apply_yaml(POOL_YAML)?;
    let asked_at = judge.now();
    cluster.apply_yaml(ADVERTISEMENT_YAML)?;
    let owner = cluster.wait_owner(FIRST_VIP, None, Duration::from_secs(30))?;
    let first = wait::until("an answer", Duration::from_secs(10), || {
        Ok(judge.so_far().answered(FIRST_VIP).next().copied())
    })?;
    time.tell(&format!(
        "{owner} is elected; its kernel answers ARP with {}: {:.2} s after kubectl began",
        format_mac(first.mac),
        first.at.saturating_sub(asked_at).as_secs_f64(),
    ));
    for (host, from) in [(cluster.client(), "the client"), (cluster.outside(), "beyond the router")] {
        let said = cluster.wait_curl(host, FIRST_VIP, Duration::from_secs(20))?;
        time.tell(&format!("curl http://{FIRST_VIP}/ from {from}: {}", pod(&said)));
    }
    Ok(judge)
}

fn owner_map(cluster: &Cluster, time: &Timeline) -> Result<()> {
    let owner = owner(cluster)?;
    let dump = owner.exec(&["bpftool", "map", "dump", "pinned", &format!("{PINS}/vips4")])?;
    time.heading(&format!("{}# bpftool map dump pinned {PINS}/vips4", owner.name()));
    for line in dump.lines() {
        println!("          {line}");
    }
    Ok(())
}

fn owner(cluster: &Cluster) -> Result<&Node> {
    cluster.node(&cluster.wait_owner(FIRST_VIP, None, Duration::from_secs(30))?)
}

/// The longest stretch without an answer since `from` on the judge's clock.
fn silence_since(judge: &Judge, from: Duration) -> Duration {
    let mut before = from;
    let mut longest = Duration::ZERO;
    for answer in judge.so_far().answered(FIRST_VIP).filter(|answer| answer.at >= from) {
        longest = longest.max(answer.at - before);
        before = answer.at;
    }
    longest
}

fn wait_answer_by(judge: &Judge, node: &Node, limit: Duration) -> Result<()> {
    wait::until(&format!("an answer by {}", node.name()), limit, || {
        let last = judge.so_far().answered(FIRST_VIP).last().copied();
        Ok(last.filter(|answer| answer.mac == node.mac()).map(drop))
    })
}

fn drain(cluster: &Cluster, time: &Timeline, judge: &Judge) -> Result<()> {
    let old = owner(cluster)?;
    time.heading(&format!("$ kubectl drain {} --ignore-daemonsets", old.name()));
    let from = judge.now();
    cluster.kubectl(&["drain", old.name(), "--ignore-daemonsets", "--force", "--delete-emptydir-data"])?;
    let new = cluster.node(&cluster.wait_owner(FIRST_VIP, Some(old.name()), Duration::from_secs(20))?)?;
    wait_answer_by(judge, new, Duration::from_secs(10))?;
    time.tell(&format!(
        "{} handed over to {}; longest stretch without an answer: {:.0} ms (asked every 20 ms)",
        old.name(),
        new.name(),
        silence_since(judge, from).as_secs_f64() * 1e3,
    ));
    let said = cluster.wait_curl(cluster.client(), FIRST_VIP, Duration::from_secs(20))?;
    time.tell(&format!("curl http://{FIRST_VIP}/: {}", pod(&said)));
    cluster.kubectl(&["uncordon", old.name()])?;
    time.tell(&format!("{} is back in service and takes nothing back", old.name()));
    Ok(())
}

fn crash(cluster: &Cluster, time: &Timeline, judge: &Judge) -> Result<()> {
    let old = owner(cluster)?;
    time.heading(&format!("{} loses power: its port leaves the switch, its processes are gone", old.name()));
    let from = judge.now();
    old.crash()?;
    let limit = Duration::from_secs(40);
    let new =
        wait_with_word(time, limit, || Ok(cluster.owner(FIRST_VIP)?.filter(|owner| owner != old.name())))?;
    let new = cluster.node(&new)?;
    wait_answer_by(judge, new, Duration::from_secs(10))?;
    time.tell(&format!(
        "failover: no node hears {}, which is fenced; {} answers, after {:.2} s",
        old.name(),
        new.name(),
        silence_since(judge, from).as_secs_f64(),
    ));
    let said = cluster.wait_curl(cluster.client(), FIRST_VIP, Duration::from_secs(60))?;
    time.tell(&format!("curl http://{FIRST_VIP}/: {}", pod(&said)));

    time.heading(&format!("{} boots again", old.name()));
    old.rejoin()?;
    cluster.wait_nodes_ready()?;
    cluster.wait_rollout(NAMESPACE, DAEMON_SET, Duration::from_secs(60))?;
    time.tell(&format!(
        "{} is Ready, its agent runs; {} keeps the address",
        old.name(),
        owner(cluster)?.name()
    ));
    let logs = cluster.kubectl(&["-n", NAMESPACE, "get", "leases"])?;
    time.tell(&format!("$ kubectl -n {NAMESPACE} get leases\n{}", logs.trim_end()));
    Ok(())
}

/// Waits, and says so every five seconds: nobody should wonder whether it hangs.
fn wait_with_word<T>(
    time: &Timeline,
    limit: Duration,
    mut check: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    let step = Duration::from_secs(5);
    loop {
        match wait::until("a new owner", step, &mut check) {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() >= limit => return Err(error).context("nobody took over"),
            Err(_) => time
                .tell("… nobody may answer yet: not all nodes agree, and the dead node's lease is running"),
        }
    }
}

/// Of what the web server said: which pod answered, on which node.
fn pod(said: &str) -> String {
    said.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

fn keep(cluster: &Cluster, program: &Path) -> ! {
    let name = cluster.name();
    println!(
        "
The cluster stands until Ctrl-C. To look around, from another terminal:
  cargo xtask cluster kubectl --name {name} -- -n {NAMESPACE} get pods,leases -o wide
  cargo xtask cluster kubectl --name {name} -- -n {NAMESPACE} logs -l component=speaker --tail=50",
    );
    for node in cluster.nodes() {
        println!(
            "  cargo xtask cluster exec --name {name} {} -- bpftool map dump pinned {PINS}/vips4",
            node.name()
        );
    }
    let program = program.display();
    println!("  cargo xtask cluster exec --name {name} {} -- {program} status", cluster.nodes()[0].name());
    loop {
        std::thread::park();
    }
}

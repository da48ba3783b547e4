//! `cargo xtask cluster`: a cluster that stands in the background until it is taken down.

use std::{
    convert::Infallible,
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

use announcer_tests::{
    Cluster, Mode, guard,
    state::{self, State},
};
use anyhow::{Context as _, Result, bail, ensure};
use clap::{Subcommand, ValueEnum};

use crate::setup::{self, Need};

/// The name of the cluster that has none given.
const DEFAULT: &str = "lab";
/// What the supervisor says when the cluster stands; all before it is progress.
const READY: &str = "ready";

#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Starts a cluster and leaves it standing
    Up(Up),
    /// Ends a cluster and clears everything of it away
    Down {
        /// The cluster's name
        #[arg(long, default_value = DEFAULT)]
        name: String,
        /// Every cluster on this machine, also what is left of broken ones
        #[arg(long)]
        all: bool,
    },
    /// Lists clusters, or shows one cluster's machines
    Status {
        /// The cluster's name
        #[arg(long)]
        name: Option<String>,
    },
    /// Runs kubectl: cargo xtask cluster kubectl -- get nodes
    Kubectl {
        /// The cluster's name
        #[arg(long, default_value = DEFAULT)]
        name: String,
        /// kubectl's arguments
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Runs a program on a machine: cargo xtask cluster exec bettley -- ip address
    Exec {
        /// The cluster's name
        #[arg(long, default_value = DEFAULT)]
        name: String,
        /// A node, or client, router, outside, switch, control-plane
        machine: String,
        /// The program and its arguments
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// The process that a standing cluster belongs to
    #[command(hide = true)]
    Hold(Up),
}

#[derive(clap::Args)]
struct Up {
    /// The cluster's name
    #[arg(long, default_value = DEFAULT)]
    name: String,
    /// How many nodes
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// native: switch ports run an XDP program, so that native XDP_TX works on the nodes' veths
    #[arg(long, value_enum, default_value_t = PortMode::Tcx)]
    mode: PortMode,
    /// etcd and the API server alone; nodes are bare machines
    #[arg(long)]
    api_only: bool,
    /// An OCI archive for every node
    #[arg(long)]
    image: Vec<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum PortMode {
    Native,
    Tcx,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    match &arguments.verb {
        Verb::Up(up) => start(up)?,
        Verb::Down { all: true, .. } => {
            for name in state::names() {
                guard::take_down(&name)?;
                println!("cluster {name} is gone");
            }
        }
        Verb::Down { name, all: false } => {
            guard::take_down(name)?;
            println!("cluster {name} is gone");
        }
        Verb::Status { name: None } => list()?,
        Verb::Status { name: Some(name) } => show(name)?,
        Verb::Kubectl { name, arguments } => {
            let mut command = Cluster::attach(name)?.kubectl_command();
            return Err(command.args(arguments).stdin(Stdio::inherit()).process_group(0).exec().into());
        }
        Verb::Exec { name, machine, command } => return exec(name, machine, command),
        Verb::Hold(up) => match hold(up)? {},
    }
    Ok(ExitCode::SUCCESS)
}

/// Starts the supervisor and shows its progress until the cluster stands.
fn start(up: &Up) -> Result<()> {
    setup::ensure(&Need::lab())?;
    ensure!(guard::is_name(&up.name), "`{}` cannot name a cluster: use letters, digits and dashes", up.name);
    let mut command = Command::new(env::current_exe()?);
    command.args(["cluster", "hold"]).args(env::args_os().skip_while(|word| word != "up").skip(1));
    // Its errors go through the same pipe: this process shows them, or nobody would.
    let (reader, writer) = std::io::pipe()?;
    let mut supervisor = command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()
        .context("start the cluster's supervisor")?;
    drop(command);
    for line in BufReader::new(reader).lines() {
        let line = line?;
        if line == READY {
            println!("{}", how_to_use(&up.name));
            return Ok(());
        }
        println!("{line}");
    }
    let status = supervisor.wait()?;
    bail!("the cluster did not start ({status}); the lines above say why");
}

/// Owns the cluster: its end is the cluster's end.
fn hold(up: &Up) -> Result<Infallible> {
    let start = Instant::now();
    let mut builder = Cluster::builder().name(&up.name).nodes(up.nodes).progress(move |line| {
        println!("{:6.1} s  {line}", start.elapsed().as_secs_f64());
    });
    builder = builder.mode(match up.mode {
        PortMode::Native => Mode::Native,
        PortMode::Tcx => Mode::Tcx,
    });
    if up.api_only {
        builder = builder.api_only();
    }
    for image in &up.image {
        let image = fs::canonicalize(image).with_context(|| format!("find the image {}", image.display()))?;
        builder = builder.image(image);
    }
    let cluster = builder.start()?;
    println!("{READY}");
    std::io::stdout().flush()?;
    // From here on nobody reads what this process says. A signal ends it, and its guard does the rest.
    loop {
        std::thread::park();
        std::hint::black_box(&cluster);
    }
}

fn how_to_use(name: &str) -> String {
    let option = if name == DEFAULT { String::new() } else { format!(" --name {name}") };
    format!(
        "cluster {name} stands; its kubeconfig is {kubeconfig} (it works inside the lab's network)
  cargo xtask cluster kubectl{option} -- get nodes
  cargo xtask cluster exec{option} client -- arping -c 1 -I eth0 10.4.11.1
  cargo xtask cluster status{list}
  cargo xtask cluster down{option}",
        kubeconfig = state::directory(name).join("kubeconfig").display(),
        list = format_args!(" --name {name}"),
    )
}

fn list() -> Result<()> {
    for name in state::names() {
        let Ok(state) = State::read(&name) else {
            println!("{name}  starting, or broken (`cargo xtask cluster down --name {name}` clears it away)");
            continue;
        };
        let running =
            state.nodes.iter().filter(|node| state.machines.get(*node).is_some_and(|one| one.is_running()));
        let owner = if state.owner.is_running() { "stands" } else { "its owner is gone" };
        println!("{name}  {} of {} nodes run, {owner}", running.count(), state.nodes.len());
    }
    Ok(())
}

fn show(name: &str) -> Result<()> {
    let state = State::read(name)?;
    for (machine, first) in &state.machines {
        let running = if first.is_running() { "runs" } else { "off" };
        println!("{machine:14} {running:5} first process {}", first.pid);
    }
    if state.kubelets {
        print!("{}", Cluster::attach(name)?.kubectl(&["get", "nodes", "-o", "wide"])?);
    }
    println!("{}", how_to_use(name));
    Ok(())
}

/// Runs a program on a machine, in place of this process.
fn exec(name: &str, machine: &str, command: &[String]) -> Result<ExitCode> {
    let cluster = Cluster::attach(name)?;
    let machine = match machine {
        "client" => cluster.client(),
        "router" => cluster.router(),
        "outside" => cluster.outside(),
        "switch" => cluster.switch(),
        "control-plane" => cluster.control_plane(),
        node => &cluster.node(node)?.machine(),
    };
    let (program, arguments) = command.split_first().context("which program?")?;
    let mut command = machine.command(program);
    let status = command.args(arguments).stdin(Stdio::inherit()).process_group(0).status()?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

//! The subcommands, nothing else.

mod agent;
mod answer;
mod cluster;
mod explain;
mod kernel;
mod limits;
mod station;
mod status;
mod tasks;
mod version;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{
    Parser, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};
use tracing::level_filters::LevelFilter;

use crate::{
    datapath::{Mode, Remains},
    report::printable,
    wire::groups::Groups,
};

/// Answers ARP and Neighbour Discovery for the LoadBalancer addresses of a Kubernetes cluster, in the kernel.
///
/// It takes the place of MetalLB's speaker in Layer 2 mode and reads MetalLB's own IPAddressPools and
/// L2Advertisements. One agent runs on each node; they agree through Leases who answers for which address.
#[derive(Debug, Parser)]
#[command(name = "announcer", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent of this node.
    Agent(Box<agent::Args>),
    /// Answer for addresses given here, without a cluster, until Ctrl-C.
    ///
    /// Attaches the program, announces the addresses (gratuitous ARP, unsolicited NA), joins their multicast groups and
    /// keeps the kernel's deadline ahead. It leaves the interface as it was when it ends.
    Answer(answer::Args),
    /// Show what this node's kernel answers for, from the pinned maps alone; no agent has to run.
    Status(status::Args),
    /// Tell who announces an address and why, who else could, and who could not.
    ///
    /// From the cluster's API alone: it runs anywhere, with rights to list Services, EndpointSlices, Nodes,
    /// IPAddressPools, L2Advertisements and Leases. Give it the agents' own flags where those are not the defaults.
    Explain(explain::Args),
    /// Remove every program, link and map of Announcer from this node.
    ///
    /// The addresses this node owns go silent at once; other nodes take them when its lease has run out.
    Uninstall(UninstallArgs),
    /// Tell what this program was built from: commit, compiler, linker, and the hash of the kernel object.
    Version(version::Args),
}

#[derive(Debug, clap::Args)]
struct UninstallArgs {
    #[command(flatten)]
    pins: Pins,
    /// Stay until SIGTERM or Ctrl-C when all is removed, as a Pod of a DaemonSet has to.
    #[arg(long)]
    stay: bool,
}

/// Where the kernel state is pinned.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Pins {
    /// Directory for pinned programs, links and maps; it must lie on a bpffs.
    #[arg(long, env = "ANNOUNCER_PIN_ROOT", value_name = "DIR", default_value = "/sys/fs/bpf/announcer")]
    pub(crate) pin_root: PathBuf,
}

/// Parses the command line and runs it. Exit status: 0 done, 1 the system refused, 2 wrong usage.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let result = match cli.command {
        Command::Agent(args) => agent::run(*args),
        Command::Answer(args) => answer::run(args),
        Command::Status(args) => status::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Uninstall(args) => uninstall(&args),
        Command::Version(args) => version::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            if error.is::<Usage>() { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
        }
    }
}

/// Exit status of wrong usage, clap's as well.
const USAGE: u8 = 2;

/// The command line is well formed, and asks for what can't be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// Help and version as clap prints them; a mistake in one line.
fn refuse(error: &clap::Error) -> ExitCode {
    if error.exit_code() == 0 {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.render().to_string();
    let told = text.split("\n\nUsage:").next().unwrap_or_default();
    let told = told.split("\n\nFor more information").next().unwrap_or_default();
    let words: Vec<&str> = told.trim_start_matches("error: ").split_whitespace().collect();
    complain(&anyhow::anyhow!("{} (see --help)", words.join(" ")));
    ExitCode::from(USAGE)
}

/// One line, on standard error: what is wrong, where, and the way out.
fn complain(error: &anyhow::Error) {
    use std::io::Write;
    let mut line = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Some libraries tell their cause in their own words already.
        if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    let line = line.replace('\n', " ");
    let _ = writeln!(std::io::stderr(), "announcer: {}", printable(&line));
}

fn uninstall(args: &UninstallArgs) -> anyhow::Result<()> {
    use std::io::Write;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut links, mut groups) = (0, 0);
    if let Some(remains) = Remains::lock(&args.pins.pin_root)? {
        (links, groups) = runtime.block_on(remove(remains))?;
    }
    writeln!(std::io::stdout(), "removed the program from {links} links, and {groups} multicast groups")?;
    if args.stay { runtime.block_on(end()) } else { Ok(()) }
}

/// Until somebody ends this process: the first of a container, which no signal ends that it does not wait for.
async fn end() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Leaves the host as it was, under the lock to the end: whoever starts next joins groups of its own. Says how many
/// links carried a program, and how many groups were left.
async fn remove(remains: Remains) -> anyhow::Result<(usize, usize)> {
    let links = remains.links()?;
    let left = async { Groups::open(links)?.leave_all().await }.await;
    let removed = remains.remove()?;
    Ok((removed.len(), left?.left))
}

const A_DAY: Duration = Duration::from_secs(86_400);

fn mode() -> impl TypedValueParser<Value = Mode> {
    PossibleValuesParser::new(["auto", "native", "tcx", "generic"]).try_map(|text| text.parse::<Mode>())
}

fn level() -> impl TypedValueParser<Value = LevelFilter> {
    PossibleValuesParser::new(["error", "warn", "info", "debug", "trace"])
        .try_map(|text| text.parse::<LevelFilter>())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(span) if span <= A_DAY => Ok(span),
        _ => Err("between 0 and 86400 seconds".to_owned()),
    }
}

/// Makes nonces and jitter unlike another process's.
fn random() -> anyhow::Result<u64> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .context("cannot get random bytes")?;
    Ok(u64::from_ne_bytes(bytes))
}

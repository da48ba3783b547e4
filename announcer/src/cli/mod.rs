//! The subcommands, nothing else.

mod agent;
mod status;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

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
    /// Show what this node's kernel answers for, from the pinned maps alone; no agent has to run.
    Status(status::Args),
    /// Remove every program, link and map of Announcer from this node.
    ///
    /// The addresses this node owns go silent at once; other nodes take them when its lease has run out.
    Uninstall(Pins),
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
    let result = match Cli::parse().command {
        Command::Agent(args) => agent::run(*args),
        Command::Status(args) => status::run(&args),
        Command::Uninstall(pins) => uninstall(&pins),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
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
    let _ = writeln!(std::io::stderr(), "announcer: {}", line.replace('\n', " "));
}

fn uninstall(pins: &Pins) -> anyhow::Result<()> {
    use std::io::Write;
    let links = crate::datapath::uninstall(&pins.pin_root)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let left = runtime.block_on(async { crate::wire::groups::Groups::open()?.leave_all().await })?;
    writeln!(
        std::io::stdout(),
        "removed the program from {} links, and {} multicast groups",
        links.len(),
        left.left
    )?;
    Ok(())
}

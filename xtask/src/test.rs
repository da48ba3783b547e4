//! `cargo xtask test`: everything a change has to pass, on plain stable Rust, from nothing.

use std::{
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::{
    build_ebpf,
    image::{self, workspace},
    setup::{self, Need},
};

#[derive(clap::Args)]
pub struct Arguments {
    /// Only these stages, in the order in which they always run
    #[arg(value_enum)]
    only: Vec<Stage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Stage {
    /// rustfmt
    Format,
    /// clippy, warnings denied, for the host and for the eBPF target
    Lint,
    /// Unit tests, live programs (BPF_PROG_TEST_RUN) and links in network namespaces
    Unit,
    /// The lab itself
    Lab,
    /// A real cluster, with the DaemonSet on it
    Cluster,
    /// What can change or break around four nodes, one thing at a time
    Faults,
}

/// For each command of a stage.
const LIMIT: Duration = Duration::from_secs(20 * 60);

const STAGES: [Stage; 6] =
    [Stage::Format, Stage::Lint, Stage::Unit, Stage::Lab, Stage::Cluster, Stage::Faults];

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let start = Instant::now();
    setup::ensure(&Need::all())?;
    let mut took = Vec::new();
    for stage in STAGES {
        if !arguments.only.is_empty() && !arguments.only.contains(&stage) {
            continue;
        }
        println!("\n=== {stage:?}");
        let begun = Instant::now();
        perform(stage)?;
        took.push((stage, begun.elapsed()));
    }
    println!();
    for (stage, time) in &took {
        println!("{:10} {:>5.0} s", format!("{stage:?}"), time.as_secs_f64());
    }
    println!("{:10} {:>5.0} s: all passed", "in all", start.elapsed().as_secs_f64());
    Ok(ExitCode::SUCCESS)
}

fn perform(stage: Stage) -> Result<()> {
    match stage {
        Stage::Format => {
            cargo(&["fmt", "--all", "--check"])?;
            // A workspace of its own.
            cargo(&["fmt", "--manifest-path", "announcer-ebpf/fuzz/Cargo.toml", "--check"])
        }
        Stage::Lint => {
            cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"])?;
            build_ebpf::lint()
        }
        Stage::Unit => cargo(&["test", "--quiet", "--package", "announcer", "--package", "announcer-ebpf"])
            .and_then(|()| {
                cargo(&[
                    "test",
                    "--quiet",
                    "--package",
                    "xtask",
                    "--package",
                    "announcer-tests",
                    "--package",
                    "announcer-sim",
                    "--lib",
                    "--bins",
                ])
            }),
        Stage::Lab => cargo(&["test", "--package", "announcer-tests", "--test", "lab", "--", "--nocapture"]),
        Stage::Cluster => cluster(&["--test-threads", "1", "--skip", "faults::"]),
        // Each has a cluster of its own and waits for leases most of the time: several at once.
        Stage::Faults => cluster(&["--test-threads", "4", "faults::"]),
    }
}

/// Runs those tests on real clusters that these arguments of the test program select.
fn cluster(selecting: &[&str]) -> Result<()> {
    let archive = workspace().join("target/image/announcer.tar");
    let program = image::build(image::LAB_IMAGE, &archive)?;
    let mut tests = Command::new(env!("CARGO"));
    tests
        .current_dir(workspace())
        .args(["test", "--package", "announcer-tests", "--test", "cluster", "--", "--nocapture"])
        .args(selecting)
        .env("ANNOUNCER_IMAGE", &archive)
        .env("ANNOUNCER_PROGRAM", &program);
    within(tests, LIMIT)
}

fn cargo(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(workspace()).args(arguments);
    within(command, LIMIT)
}

/// A hanging test must not hang whoever waits for it.
fn within(mut command: Command, limit: Duration) -> Result<()> {
    let mut child = command.spawn()?;
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return if status.success() { Ok(()) } else { bail!("{command:?} failed: {status}") };
        }
        if Instant::now() > deadline {
            // As Ctrl-C would: cargo, its tests and we are one group, and clusters end with their tests.
            eprintln!("error: {command:?} did not end within {} s", limit.as_secs());
            Command::new("sh").args(["-c", "kill -INT 0"]).status()?;
            bail!("{command:?} did not end within {} s", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

//! `cargo xtask sim`: simulated clusters by the hour, or every state of the exhaustive model's larger worlds.

use std::{
    env,
    process::{Command, ExitCode},
    thread,
};

use anyhow::{Context as _, Result};

use crate::image::workspace;

#[derive(clap::Args)]
pub struct Arguments {
    /// So many worlds, one for each seed
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    seeds: u64,
    /// As many worlds as add up to so many cluster-hours, instead of --seeds
    #[arg(long, value_name = "H", conflicts_with = "seeds")]
    hours: Option<u64>,
    /// The first seed
    #[arg(long, value_name = "F", default_value_t = 0)]
    first: u64,
    /// Worlds at once; without it, one on each CPU
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Worlds of minutes only, as in the unit tests: a seed gives another world
    #[arg(long)]
    short: bool,
    /// Tells the story of one seed
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seeds", "hours"])]
    replay: Option<u64>,
    /// Every interleaving of the protocol's model, in worlds too large for the unit tests
    #[arg(long, conflicts_with_all = ["seeds", "hours", "replay"])]
    exhaustive: bool,
}

const SIMULATION: &str = "election::simulation::simulated_clusters_keep_their_promises";
const EXHAUSTIVE: &str = "model::";

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let jobs = arguments
        .jobs
        .unwrap_or_else(|| thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get));
    let mut sim = Command::new(env!("CARGO"));
    sim.current_dir(workspace()).args([
        "test",
        "--quiet",
        "--locked",
        "--package",
        "announcer-sim",
        "--lib",
        "--",
    ]);
    if arguments.exhaustive {
        sim.args([EXHAUSTIVE, "--include-ignored", "--nocapture"]);
        sim.args(["--test-threads", &jobs.to_string()]);
    } else {
        sim.args([SIMULATION, "--exact", "--nocapture"]);
    }
    // What cargo says of this package: build scripts that look at it would run again.
    for (name, _) in env::vars_os() {
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|start| name.to_string_lossy().starts_with(start)) {
            sim.env_remove(name);
        }
    }
    let seeds = arguments.hours.map_or(Some(arguments.seeds), |_| None);
    let settings = [
        ("FIRST", Some(arguments.first)),
        ("JOBS", u64::try_from(jobs).ok()),
        ("SEEDS", seeds),
        ("HOURS", arguments.hours),
        ("SEED", arguments.replay),
        ("LONG", Some(u64::from(!arguments.short))),
    ];
    for (name, value) in settings {
        let name = format!("ANNOUNCER_SIM_{name}");
        match value {
            Some(value) => sim.env(name, value.to_string()),
            None => sim.env_remove(name),
        };
    }
    let status = sim.status().context("cargo could not be started")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

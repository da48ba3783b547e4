//! `cargo xtask`: one verb for each thing that is done to this project, one module for each verb.

mod cluster;
mod setup;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, tests and shows Announcer.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Installs and builds what the other verbs need, or lists it
    Setup(setup::Arguments),
    /// A real Kubernetes cluster on network namespaces
    Cluster(cluster::Arguments),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().verb {
        Verb::Setup(arguments) => setup::run(&arguments),
        Verb::Cluster(arguments) => cluster::run(&arguments),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

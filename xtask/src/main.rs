//! `cargo xtask`: one verb for each thing that is done to this project, one module for each verb.

mod bench;
mod build_ebpf;
mod cluster;
mod crds;
mod demo;
mod fuzz;
mod image;
mod reproducible;
mod sbom;
mod setup;
mod sim;
mod supply;
mod test;

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
    /// Builds the kernel object and says what is in it
    BuildEbpf,
    /// Makes the agent's OCI image, without any container engine
    Image(image::Arguments),
    /// Shows the main job on a real cluster, in under two minutes once built
    Demo(demo::Arguments),
    /// Measures the kernel side beside the kernel's own stack: ns per frame, round trips, floods, TCP
    #[command(disable_help_flag = true)]
    Bench(bench::Arguments),
    /// Runs everything a change has to pass
    Test(test::Arguments),
    /// Looks for a frame that the packet logic judges wrongly, or an object that hides others
    Fuzz(fuzz::Arguments),
    /// Prints the definitions of the custom resources, for a cluster that never had MetalLB
    Crds,
    /// Simulates clusters through faults by the hour, and looks at every state of small ones
    Sim(sim::Arguments),
    /// A real Kubernetes cluster on network namespaces
    Cluster(cluster::Arguments),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().verb {
        Verb::Setup(arguments) => setup::run(&arguments),
        Verb::BuildEbpf => build_ebpf::run().map(|()| ExitCode::SUCCESS),
        Verb::Image(arguments) => image::run(&arguments),
        Verb::Demo(arguments) => demo::run(&arguments),
        Verb::Bench(arguments) => bench::run(&arguments),
        Verb::Test(arguments) => test::run(&arguments),
        Verb::Fuzz(arguments) => fuzz::run(&arguments),
        Verb::Crds => crds::run(),
        Verb::Sim(arguments) => sim::run(&arguments),
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

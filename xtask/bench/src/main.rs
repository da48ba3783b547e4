//! Measures the kernel side: ns per frame, and on the wire beside the kernel's own stack and a plain responder.
//!
//! `cargo xtask bench` runs it. Everything is a comparison within one run: cases take turns, round by round, and a
//! figure is the median over rounds with the middle half of them.

mod asm;
mod busy;
mod calm;
mod failover;
mod flood;
mod frames;
mod lab;
mod machine;
mod micro;
mod programs;
mod progress;
mod report;
mod responders;
mod scale;
mod stats;
mod sys;
mod targets;
mod tcp;
mod wire;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, anyhow, ensure};
use clap::Parser;

use machine::Machine;
use report::Section;

/// Measures the kernel side of Announcer, side by side with what else could do its job
#[derive(Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
struct Arguments {
    /// Only these parts
    #[arg(value_enum)]
    only: Vec<Part>,
    /// A few seconds for each part, and figures that say little
    #[arg(long)]
    quick: bool,
    /// Runs of each scenario of `failover`, instead of 30, or of 3
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: Option<u32>,
    /// Where to write bench.md, bench.json and failover.svg
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Nanoseconds per frame over an empty program
    Micro,
    /// Round trips, idle and with busy CPUs
    Wire,
    /// Answers per second of one CPU
    Flood,
    /// A TCP stream through the interface
    Tcp,
    /// Deciding, by the count of VIPs and nodes
    Decide,
    /// A node that dies with many VIPs
    Dead,
    /// An agent's memory and idle CPU
    Agent,
    /// An agent's idle CPU beside a hundred others
    Peers,
    /// Writes to the API server, by the count of VIPs and nodes
    Writes,
    /// How long a client's packets are undelivered when the node with its address crashes, hands over, is upgraded
    Failover,
}

const PARTS: [Part; 10] = [
    Part::Micro,
    Part::Wire,
    Part::Flood,
    Part::Tcp,
    Part::Decide,
    Part::Dead,
    Part::Agent,
    Part::Peers,
    Part::Writes,
    Part::Failover,
];

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Part {
    fn run(self, quick: bool, runs: Option<u32>) -> Result<Vec<Section>> {
        match self {
            Self::Micro => Ok(vec![micro::run(micro::Effort::new(quick))?]),
            Self::Wire => wire::run(wire::Effort::new(quick)),
            Self::Flood => Ok(vec![flood::run(flood::Effort::new(quick))?]),
            Self::Tcp => Ok(vec![tcp::run(tcp::Effort::new(quick))?]),
            Self::Decide => Ok(vec![scale::decide(scale::Effort::new(quick))]),
            Self::Dead => Ok(vec![scale::dead_node(scale::Effort::new(quick))?]),
            Self::Agent => Ok(vec![scale::weighed(scale::Effort::new(quick))?]),
            Self::Peers => Ok(vec![scale::peers(scale::Effort::new(quick))?]),
            Self::Writes => Ok(vec![scale::writes(scale::Effort::new(quick))?]),
            Self::Failover => failover::run(failover::Effort::new(quick, runs)),
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "the bench makes namespaces: run it as root");
    let machine = Machine::this();
    lab::enter()?;
    let mut sections = Vec::new();
    for part in PARTS {
        if arguments.only.is_empty() || arguments.only.contains(&part) {
            // In a thread of its own: parts pin themselves to CPUs.
            let measured =
                std::thread::scope(|scope| scope.spawn(|| part.run(arguments.quick, arguments.runs)).join());
            sections.extend(measured.map_err(|_| anyhow!("{part:?} has panicked"))??);
        }
    }
    let markdown = report::markdown(&machine, &sections, &targets::of(&sections));
    print!("{markdown}");
    report::write(&arguments.out, &markdown, &machine, &sections)?;
    if let Some(plot) = failover::svg(&sections) {
        report::put(&arguments.out.join("failover.svg"), &plot)?;
    }
    println!("\nwritten to {}", arguments.out.join("bench.{md,json}").display());
    Ok(())
}

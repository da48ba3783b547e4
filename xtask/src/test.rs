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
    supply,
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
    /// Licences, sources and advisories of what is built in; that the kernel object is the same from any folder
    Supply,
    /// Unit tests, live programs (BPF_PROG_TEST_RUN) and links in network namespaces
    Unit,
    /// The agent on another kernel, in QEMU
    Kernels,
    /// The lab itself
    Lab,
    /// A real cluster, with the DaemonSet on it
    Cluster,
    /// What can change or break around four nodes, one thing at a time
    Faults,
}

/// For each command of a stage.
const LIMIT: Duration = Duration::from_secs(20 * 60);

const STAGES: [Stage; 8] = [
    Stage::Format,
    Stage::Lint,
    Stage::Supply,
    Stage::Unit,
    Stage::Kernels,
    Stage::Lab,
    Stage::Cluster,
    Stage::Faults,
];

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
            cargo(&[
                "clippy",
                "--quiet",
                "--locked",
                "--workspace",
                "--all-targets",
                "--",
                "--deny",
                "warnings",
            ])?;
            build_ebpf::lint()
        }
        Stage::Supply => supply::check(),
        Stage::Unit => {
            cargo(&["test", "--quiet", "--locked", "--package", "announcer", "--package", "announcer-ebpf"])
                .and_then(|()| {
                    cargo(&[
                        "test",
                        "--quiet",
                        "--locked",
                        "--package",
                        "xtask",
                        "--package",
                        "announcer-tests",
                        "--package",
                        "announcer-sim",
                        "--lib",
                        "--bins",
                    ])
                })
        }
        Stage::Lab => {
            cargo(&["test", "--locked", "--package", "announcer-tests", "--test", "lab", "--", "--nocapture"])
        }
        Stage::Kernels => with_image("kernels", &[]),
        Stage::Cluster => with_image("cluster", &["--test-threads", "1", "--skip", "faults::"]),
        // Each has a cluster of its own and waits for leases most of the time: several at once.
        Stage::Faults => with_image("cluster", &["--test-threads", "4", "faults::"]),
    }
}

/// Runs those tests of a test program that its arguments select, with the agent as it is shipped.
fn with_image(program_of_tests: &str, selecting: &[&str]) -> Result<()> {
    let archive = workspace().join("target/image/announcer.tar");
    let program = image::build(image::LAB_IMAGE, &archive)?;
    let mut tests = Command::new(env!("CARGO"));
    tests
        .current_dir(workspace())
        .args([
            "test",
            "--locked",
            "--package",
            "announcer-tests",
            "--test",
            program_of_tests,
            "--",
            "--nocapture",
        ])
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

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// Of a line of a table, what is set as code: files, and after each the tests of it.
    fn named(line: &str) -> Vec<(&str, &str)> {
        let mut file = None;
        let mut tests = Vec::new();
        for code in line.split('`').skip(1).step_by(2) {
            if Path::new(code).extension().is_some_and(|of| of == "rs") {
                file = Some(code);
            } else if let Some(file) = file {
                tests.push((file, code));
            }
        }
        tests
    }

    #[test]
    fn every_test_that_the_threat_model_names_is_there() {
        let text = fs::read_to_string(workspace().join("docs/threat-model.md")).expect("the threat model");
        let tests: Vec<_> = text.lines().filter(|line| line.starts_with('|')).flat_map(named).collect();
        assert!(tests.len() > 2, "{tests:?}");
        for (file, test) in tests {
            let source = fs::read_to_string(workspace().join(file)).unwrap_or_default();
            assert!(source.contains(&format!("fn {test}(")), "{file} has no test {test}");
        }
    }
}

//! `cargo xtask bench`: measures the kernel side, in a program of its own that is compiled for speed.

use std::{
    env,
    ffi::OsString,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};

use crate::{
    image::{self, workspace},
    setup::{self, Need},
};

#[derive(clap::Args)]
pub struct Arguments {
    /// Handed to the bench: parts (micro, wire, flood, tcp, decide, dead, agent, peers, writes, failover), --quick, --out DIR; none measures everything
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut needs = [&Need::EBPF[..], &Need::bench()].concat();
    let words = || arguments.rest.iter().map(|word| word.to_string_lossy());
    let all = words().all(|word| word.starts_with('-'));
    let asked = |parts: &[&str]| all || words().any(|word| parts.contains(&&*word));
    if asked(&["dead", "agent", "peers", "writes", "failover"]) {
        needs.extend(Need::lab());
    }
    if asked(&["failover"]) {
        needs.extend(Need::failover());
    }
    setup::ensure(&needs)?;
    // Agents of the lab's nodes.
    let built = cargo().args(["build", "--release", "--locked", "--package", "announcer"]).status();
    if !built.context("cargo could not be started")?.success() {
        return Ok(ExitCode::FAILURE);
    }
    let mut bench = cargo();
    bench.args(["run", "--release", "--locked", "--package", "announcer-bench", "--"]).args(&arguments.rest);
    bench.env("ANNOUNCER_PROGRAM", workspace().join("target/release/announcer"));
    if asked(&["failover"]) {
        // One scenario is a DaemonSet's.
        let archive = workspace().join("target/image/announcer.tar");
        image::build(image::LAB_IMAGE, &archive)?;
        bench.env("ANNOUNCER_IMAGE", archive);
    }
    let status = bench.status().context("cargo could not be started")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn cargo() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(workspace());
    // What cargo says of this package: build scripts that look at it would run again, and half of the agent be built.
    for (name, _) in env::vars_os() {
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|start| name.to_string_lossy().starts_with(start)) {
            cargo.env_remove(name);
        }
    }
    cargo
}

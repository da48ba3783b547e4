//! `cargo xtask bench`: measures the kernel side, in a program of its own that is compiled for speed.

use std::{
    ffi::OsString,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};

use crate::{
    image::workspace,
    setup::{self, Need},
};

#[derive(clap::Args)]
pub struct Arguments {
    /// Handed to the bench: parts (micro, wire, flood, tcp), --quick, --out DIR; none measures everything
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    setup::ensure(&[&Need::EBPF[..], &Need::bench()].concat())?;
    let status = Command::new(env!("CARGO"))
        .current_dir(workspace())
        .args(["run", "--package", "announcer-bench", "--"])
        .args(&arguments.rest)
        .status()
        .context("cargo could not be started")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

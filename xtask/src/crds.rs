//! `cargo xtask crds`: the definitions of the custom resources, as YAML.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::image::workspace;

/// Prints them; the agent's own types are where they come from.
pub fn run() -> Result<ExitCode> {
    let printed = Command::new(env!("CARGO"))
        .current_dir(workspace())
        .args(["run", "--quiet", "--locked", "--package", "announcer", "--example", "crds"])
        .status()?;
    Ok(if printed.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

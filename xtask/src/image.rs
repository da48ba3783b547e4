//! `cargo xtask image`: the agent as an OCI archive, one static program in it, without any container engine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};

use announcer_tests::image;
use anyhow::{Context as _, Result};

use crate::setup::{self, Need, build, toolchain::static_target};

/// The name under which the lab's nodes know the image, as in `deploy/overlays/lab`.
pub const LAB_IMAGE: &str = "localhost/announcer:lab";

#[derive(clap::Args)]
pub struct Arguments {
    /// Full name of the image, with registry and tag
    #[arg(long, default_value = LAB_IMAGE)]
    name: String,
    /// Where the archive is written
    #[arg(long, value_name = "FILE", default_value_os_t = workspace().join("target/image/announcer.tar"))]
    output: PathBuf,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let size = |path: &Path| fs::metadata(path).map_or(0.0, |file| file.len() as f64 / 1e6);
    let program = build(&arguments.name, &arguments.output)?;
    println!("program  {} ({:.1} MB, static)", program.display(), size(&program));
    println!(
        "image    {} ({:.1} MB) named {}",
        arguments.output.display(),
        size(&arguments.output),
        arguments.name
    );
    println!("load it with: ctr -n k8s.io images import {}", arguments.output.display());
    Ok(ExitCode::SUCCESS)
}

/// Builds the program and its image; returns where the program is.
pub fn build(name: &str, archive: &Path) -> Result<PathBuf> {
    setup::ensure(&Need::image())?;
    let target = static_target();
    let start = Instant::now();
    println!("image: building the agent for {target} (about 3 minutes the first time)");
    build::run(
        Command::new(env!("CARGO"))
            .current_dir(workspace())
            .args(["build", "--quiet", "--release", "--package", "announcer", "--bin", "announcer"])
            .args(["--target", &target]),
    )?;
    let program = target_dir().join(&target).join("release/announcer");
    if let Some(folder) = archive.parent() {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    image::write_program(name, &program, archive)?;
    println!("image: done in {:.0} s", start.elapsed().as_secs_f64());
    Ok(program)
}

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

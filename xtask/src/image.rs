//! `cargo xtask image`: the agent as an OCI archive, one static program in it, without any container engine, and beside it
//! the list of what the program is made of.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};

use announcer_tests::image;
use anyhow::{Context as _, Result};

use crate::{
    reproducible, sbom,
    setup::{self, Need, build, toolchain},
};

#[path = "../../announcer-ebpf/build/paths.rs"]
mod paths;

/// The name under which the lab's nodes know the image, as in `deploy/overlays/lab`.
pub const LAB_IMAGE: &str = "localhost/announcer:lab";

#[derive(clap::Args)]
pub struct Arguments {
    /// Full name of the image, with registry and tag
    #[arg(long, default_value = LAB_IMAGE)]
    name: String,
    /// Where the archive is written, and beside it, as FILE.cdx.json, its bill of materials
    #[arg(long, value_name = "FILE", default_value_os_t = workspace().join("target/image/announcer.tar"))]
    output: PathBuf,
    /// Builds everything twice, from two copies of the sources in folders of their own, and compares the bytes
    #[arg(long)]
    reproducible: bool,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let Arguments { name, output, reproducible } = arguments;
    if *reproducible {
        return reproducible::image().map(|()| ExitCode::SUCCESS);
    }
    let size = |path: &Path| fs::metadata(path).map_or(0.0, |file| file.len() as f64 / 1e6);
    let program = build(name, output)?;
    println!("program  {} ({:.1} MB, static)", program.display(), size(&program));
    println!("image    {} ({:.1} MB) named {name}", output.display(), size(output));
    println!("contents {} (CycloneDX)", sbom::beside(output).display());
    println!("load it with: ctr -n k8s.io images import {}", output.display());
    Ok(ExitCode::SUCCESS)
}

/// Builds the program and its image; returns where the program is.
pub fn build(name: &str, archive: &Path) -> Result<PathBuf> {
    setup::ensure(&Need::image())?;
    let target = toolchain::static_target();
    let start = Instant::now();
    println!("image: building the agent for {target} (about 3 minutes the first time)");
    // The names of its folders are known only when it has fetched them.
    build::run(
        Command::new(env!("CARGO"))
            .current_dir(workspace())
            .args(["fetch", "--quiet", "--locked", "--target", &target]),
    )?;
    build::run(
        Command::new(env!("CARGO"))
            .current_dir(workspace())
            .args([
                "build",
                "--quiet",
                "--locked",
                "--release",
                "--package",
                "announcer",
                "--bin",
                "announcer",
            ])
            .args(["--target", &target])
            .env_remove("RUSTFLAGS")
            .env("CARGO_ENCODED_RUSTFLAGS", flags()?),
    )?;
    let program = target_dir().join(&target).join("release/announcer");
    if let Some(folder) = archive.parent() {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    image::write_program(name, &program, archive)?;
    sbom::write(&program, &target, &sbom::beside(archive))?;
    println!("image: done in {:.0} s", start.elapsed().as_secs_f64());
    Ok(program)
}

/// rustc's flags, in cargo's encoding: those of the caller, and names for this machine's folders, which would else stand in the
/// program's panic messages.
fn flags() -> Result<OsString> {
    let given = std::env::var("RUSTFLAGS").unwrap_or_default();
    let source = PathBuf::from(toolchain::rust_source()?);
    let remapped = paths::remapped(workspace(), &target_dir(), Some(&source));
    let flags: Vec<String> = given.split_whitespace().map(str::to_owned).chain(remapped).collect();
    Ok(flags.join("\x1f").into())
}

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

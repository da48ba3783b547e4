//! `cargo xtask build-ebpf`: the kernel object, exactly the one that the agent embeds, and what is in it.

use std::{
    env, fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use aya_obj::{EbpfSectionKind, Object, generated::bpf_map_type};

const PACKAGE: &str = "announcer-ebpf";
const OBJECT: &str = "announcer-kernel";

/// Builds the object if anything changed, and prints its path, size, programs and maps.
pub fn run() -> Result<()> {
    let path = build()?;
    let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
    let object = Object::parse(&bytes).with_context(|| format!("{} is no eBPF object", path.display()))?;
    println!("{}  {} bytes", path.display(), bytes.len());

    let mut programs: Vec<_> = object.programs.iter().collect();
    programs.sort_by_key(|(name, _)| *name);
    for (name, program) in programs {
        let instructions =
            object.functions.get(&program.function_key()).map_or(0, |body| body.instructions.len());
        println!("program {name:<16} {instructions:>6} instructions  {:?}", program.section);
    }
    let mut maps: Vec<_> =
        object.maps.iter().filter(|(_, map)| map.section_kind() == EbpfSectionKind::BtfMaps).collect();
    maps.sort_by_key(|(name, _)| *name);
    for (name, map) in maps {
        let kind = bpf_map_type::try_from(map.map_type())
            .map_or_else(|_| map.map_type().to_string(), |kind| format!("{kind:?}"));
        let kind = kind.trim_start_matches("BPF_MAP_TYPE_").to_lowercase();
        let (key, value, entries) = (map.key_size(), map.value_size(), map.max_entries());
        println!("map     {name:<16} {kind:<13} key {key:>3} B  value {value:>3} B  {entries:>6} entries");
    }
    Ok(())
}

/// What cargo's JSON says of the build script's run has the directory that the object lies in.
fn build() -> Result<PathBuf> {
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "--locked", "--package", PACKAGE, "--features", "object"])
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit())
        .output()
        .context("cargo could not be started")?;
    if !output.status.success() {
        bail!("the eBPF object was not built; `cargo xtask setup` installs what is missing");
    }
    let messages = String::from_utf8(output.stdout).context("cargo's messages are not UTF-8")?;
    let out_dir = messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let ours = message["reason"] == "build-script-executed"
            && message["package_id"].as_str().is_some_and(|id| id.contains(PACKAGE));
        ours.then(|| message["out_dir"].as_str().map(PathBuf::from)).flatten()
    });
    Ok(out_dir.context("cargo did not say where it built the object")?.join(OBJECT))
}

/// clippy for the eBPF target, warnings denied. Unstable features (`-Zbuild-std`) are for this one command alone.
pub fn lint() -> Result<()> {
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["clippy", "--quiet", "--release", "--locked", "--package", PACKAGE, "--bin", OBJECT])
        .args(["--target", "bpfel-unknown-none", "-Zbuild-std=core", "--", "--deny", "warnings"])
        .env("RUSTC_BOOTSTRAP", "1")
        .status()
        .context("cargo could not be started")?;
    if !status.success() {
        bail!("clippy has words about the eBPF programs");
    }
    Ok(())
}

//! With the feature `object`: compiles this package's binary for the BPF target and leaves it in `OUT_DIR`.
//!
//! A nested cargo does it, in a target directory of its own that all profiles share, so that `build`, `clippy` and
//! `test` compile the object once. Only there `RUSTC_BOOTSTRAP=1` is set: building `core` for BPF is unstable.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, exit},
};

const LINKER: &str = "bpf-linker";
const OBJECT: &str = "announcer-kernel";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is_bpf = env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "bpf");
    if is_bpf || env::var_os("CARGO_FEATURE_OBJECT").is_none() {
        return;
    }
    if let Err(problem) = build() {
        println!("cargo::error={problem}");
        exit(1);
    }
}

fn build() -> Result<(), String> {
    let variable = |name: &str| env::var(name).map_err(|_| format!("cargo did not set {name}"));
    let out_dir = PathBuf::from(variable("OUT_DIR")?);
    let package = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let arch = variable("CARGO_CFG_TARGET_ARCH")?;
    let target = match variable("CARGO_CFG_TARGET_ENDIAN")?.as_str() {
        "big" => "bpfeb-unknown-none",
        _ => "bpfel-unknown-none",
    };
    for source in ["src", "Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", package.join(source).display());
    }
    let linker = find_linker()?;
    println!("cargo::rerun-if-changed={}", linker.display());
    find_rust_src(&variable("RUSTC")?)?;

    let mut path = vec![linker.parent().unwrap_or(Path::new("/")).to_owned()];
    path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let target_dir = shared_target_dir(&out_dir);
    let flags = ["--cfg", &format!("bpf_target_arch=\"{arch}\""), "-Cdebuginfo=2", "-Clink-arg=--btf"];
    let output = Command::new(variable("CARGO")?)
        .current_dir(&package)
        .args(["build", "--release", "--package", env!("CARGO_PKG_NAME"), "--bin", OBJECT])
        .args(["--target", target, "-Zbuild-std=core", "--target-dir"])
        .arg(&target_dir)
        // The workspace's release profile is the agent's: the object keeps its symbols, or it would have no maps.
        .args(["--config", "profile.release.strip=false", "--config", "profile.release.lto=\"off\""])
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("PATH", env::join_paths(path).map_err(|error| error.to_string())?)
        // Of the outer build: clippy's wrapper must not see the nested one.
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTFLAGS")
        .output()
        .map_err(|error| format!("cargo could not be started: {error}"))?;
    if !output.status.success() {
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        return Err("the eBPF object did not compile: see below, or run `cargo xtask setup`".to_owned());
    }
    let object = target_dir.join(target).join("release").join(OBJECT);
    fs::copy(&object, out_dir.join(OBJECT)).map_err(|error| format!("{}: {error}", object.display()))?;
    Ok(())
}

/// On `PATH`, or else the newest one that `cargo xtask setup` has built for any compiler.
fn find_linker() -> Result<PathBuf, String> {
    let path = env::var_os("PATH").unwrap_or_default();
    if let Some(linker) = env::split_paths(&path).map(|dir| dir.join(LINKER)).find(|path| path.is_file()) {
        return Ok(linker);
    }
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .unwrap_or_default()
        .join("announcer");
    let mut found: Vec<_> = fs::read_dir(&cache)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("bpf-linker-"))
        .map(|entry| entry.path().join("bin").join(LINKER))
        .filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, path)))
        .collect();
    found.sort();
    let newest = found.pop().map(|(_, path)| path);
    newest.ok_or_else(|| {
        format!("{LINKER} is neither on PATH nor in {}: run `cargo xtask setup`", cache.display())
    })
}

/// `-Zbuild-std` needs the sources of `core`; without them cargo's own words are a puzzle.
fn find_rust_src(rustc: &str) -> Result<(), String> {
    println!("cargo::rerun-if-env-changed=__CARGO_TESTS_ONLY_SRC_ROOT");
    if env::var_os("__CARGO_TESTS_ONLY_SRC_ROOT").is_some() {
        return Ok(());
    }
    let sysroot =
        Command::new(rustc).args(["--print", "sysroot"]).output().map_err(|error| error.to_string())?;
    let sysroot = String::from_utf8_lossy(&sysroot.stdout).trim().to_owned();
    let core = Path::new(&sysroot).join("lib/rustlib/src/rust/library/core");
    if core.is_dir() {
        return Ok(());
    }
    Err(format!("rust-src is missing ({} does not exist): run `cargo xtask setup`", core.display()))
}

/// `OUT_DIR` is `<target>[/<triple>]/<profile>/build/<package>/out`: the object is built in `<target>/ebpf`.
fn shared_target_dir(out_dir: &Path) -> PathBuf {
    let build = out_dir.ancestors().find(|path| path.file_name().is_some_and(|name| name == "build"));
    let Some(above) = build.and_then(|build| build.parent()?.parent()) else { return out_dir.join("ebpf") };
    let for_triple = env::var_os("TARGET").is_some_and(|triple| above.file_name() == Some(&triple));
    match above.parent() {
        Some(target) if for_triple => target.join("ebpf"),
        _ => above.join("ebpf"),
    }
}

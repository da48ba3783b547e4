//! With the feature `object`: compiles this package's binary for the BPF target and leaves it in `OUT_DIR`.
//!
//! A nested cargo does it, in a target directory of its own that all profiles share, so that `build`, `clippy` and
//! `test` compile the object once. Only there `RUSTC_BOOTSTRAP=1` is set: building `core` for BPF is unstable.

#[path = "build/paths.rs"]
mod paths;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, exit},
};

const LINKER: &str = "bpf-linker";
const OBJECT: &str = "announcer-kernel";

fn main() {
    for own in ["build.rs", "build", "bpf-linker.version"] {
        println!("cargo::rerun-if-changed={own}");
    }
    let is_bpf = env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "bpf");
    if is_bpf {
        // Memory is cleared by stores. Else it is by a loop, which goes through the stack by a variable, and for that the
        // verifier wants CAP_PERFMON.
        println!("cargo::rustc-link-arg-bins=--disable-expand-memcpy-in-order");
    }
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
    let rustc = variable("RUSTC")?;
    let linker = find_linker(&rustc)?;
    println!("cargo::rerun-if-changed={}", linker.display());
    println!("cargo::rustc-env=ANNOUNCER_EBPF_LINKER={LINKER} {}", linker_version());
    let rust_source = find_rust_src(&rustc)?;

    let mut path = vec![linker.parent().unwrap_or(Path::new("/")).to_owned()];
    path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let target_dir = shared_target_dir(&out_dir);
    let mut flags = ["--cfg", &format!("bpf_target_arch=\"{arch}\""), "-Cdebuginfo=2", "-Clink-arg=--btf"]
        .map(str::to_owned)
        .to_vec();
    // Debug information, and the BTF made from it, name source files.
    let workspace = package.parent().unwrap_or(&package);
    flags.extend(paths::remapped(workspace, &target_dir, Some(&rust_source)));
    let output = Command::new(variable("CARGO")?)
        .current_dir(&package)
        .args(["build", "--release", "--locked", "--package", env!("CARGO_PKG_NAME"), "--bin", OBJECT])
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

/// The linker of the release that is asked for, linked with this rustc's own LLVM: what `cargo xtask setup` has built, or
/// one on `PATH`. Another release makes another object, and is refused.
fn find_linker(rustc: &str) -> Result<PathBuf, String> {
    let release = rustc_release(rustc)?;
    let cache = env::var_os("XDG_CACHE_HOME")
        .filter(|home| !home.is_empty())
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .unwrap_or_default()
        .join(format!("announcer/{LINKER}-{}-rustc-{release}/bin", linker_version()));
    let path = env::var_os("PATH").unwrap_or_default();
    let mut others = Vec::new();
    for linker in [cache.clone()].into_iter().chain(env::split_paths(&path)).map(|dir| dir.join(LINKER)) {
        if !linker.is_file() {
            continue;
        }
        let version = version_of(&linker)?;
        if version == linker_version() {
            return Ok(linker);
        }
        others.push(format!("{} is {version}", linker.display()));
    }
    let others = if others.is_empty() { String::new() } else { format!(" ({})", others.join(", ")) };
    Err(format!(
        "{LINKER} {} is neither in {} nor on PATH{others}: run `cargo xtask setup`",
        linker_version(),
        cache.display()
    ))
}

/// The release that is asked for.
fn linker_version() -> &'static str {
    include_str!("bpf-linker.version").trim()
}

/// `bpf-linker 0.10.4` is what it says.
fn version_of(linker: &Path) -> Result<String, String> {
    let said = output(Command::new(linker).arg("--version"))?;
    let version = said.strip_prefix(LINKER).and_then(|rest| rest.split_whitespace().next());
    version
        .map(str::to_owned)
        .ok_or_else(|| format!("{} tells no version, but `{}`", linker.display(), said.trim()))
}

/// Such as `1.95.0`.
fn rustc_release(rustc: &str) -> Result<String, String> {
    let said = output(Command::new(rustc).arg("-vV"))?;
    let release = said.lines().find_map(|line| line.strip_prefix("release:"));
    release.map(|release| release.trim().to_owned()).ok_or_else(|| format!("`{rustc} -vV` names no release"))
}

fn output(command: &mut Command) -> Result<String, String> {
    let shown = command.get_program().display().to_string();
    let output = command.output().map_err(|error| format!("{shown} could not be started: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The folder of the standard library's sources. `-Zbuild-std` needs those of `core`; without them cargo's own words are a
/// puzzle.
fn find_rust_src(rustc: &str) -> Result<PathBuf, String> {
    println!("cargo::rerun-if-env-changed=__CARGO_TESTS_ONLY_SRC_ROOT");
    if let Some(root) = env::var_os("__CARGO_TESTS_ONLY_SRC_ROOT") {
        return Ok(PathBuf::from(root));
    }
    let sysroot = output(Command::new(rustc).args(["--print", "sysroot"]))?;
    let library = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library");
    if library.join("core").is_dir() {
        return Ok(library);
    }
    Err(format!("rust-src is missing (nothing in {}): run `cargo xtask setup`", library.display()))
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

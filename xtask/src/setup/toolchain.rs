//! What rustc needs beyond itself to make eBPF programs.

use std::{path::PathBuf, process::Command};

use announcer_tests::parts;
use anyhow::{Context as _, Result, bail, ensure};

use super::build::run;

/// The release of bpf-linker that the kernel object is linked with, and no other.
pub const BPF_LINKER_VERSION: &str = include_str!("../../../announcer-ebpf/bpf-linker.version").trim_ascii();

/// The release of cargo-fuzz that is known to work.
pub const CARGO_FUZZ_VERSION: &str = "0.13.2";

/// What to do where rustup cannot reach its server.
pub const RUST_SOURCE_REMEDY: &str = "rustup component add rust-src; where rustup cannot reach its server, unpack \
    `library/` of Debian's package rust-src of rustc's own version anywhere and set \
    __CARGO_TESTS_ONLY_SRC_ROOT to that folder";

/// The release of cargo-deny that is known to work.
pub const CARGO_DENY_VERSION: &str = "0.20.2";

/// The rustc on PATH.
#[derive(Debug)]
pub struct Rustc {
    /// Such as `1.95.0`.
    pub release: String,
    /// The major version of its LLVM.
    pub llvm: u32,
}

impl Rustc {
    /// Asks it.
    pub fn ask() -> Result<Self> {
        let text = output(Command::new("rustc").arg("-vV"))?;
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let release = field("release:").context("`rustc -vV` names no release")?.to_owned();
        let llvm = field("LLVM version:").and_then(|version| version.split('.').next()?.parse().ok());
        Ok(Self { release, llvm: llvm.context("`rustc -vV` names no LLVM version")? })
    }
}

/// Where the standard library's source is.
pub fn rust_source() -> Result<String> {
    let root = match std::env::var_os("__CARGO_TESTS_ONLY_SRC_ROOT") {
        Some(root) => PathBuf::from(root),
        None => sysroot()?.join("lib/rustlib/src/rust/library"),
    };
    ensure!(root.join("core/Cargo.toml").is_file(), "nothing in {}", root.display());
    Ok(root.display().to_string())
}

/// Lets rustup fetch it.
pub fn install_rust_source() -> Result<()> {
    rustup(&["component", "add", "rust-src"])
}

/// Lets rustup add something to the toolchain in use.
pub fn rustup(arguments: &[&str]) -> Result<()> {
    run(Command::new("rustup").args(arguments))
}

/// The target whose programs need nothing of the system they run on.
pub fn static_target() -> String {
    format!("{}-unknown-linux-musl", std::env::consts::ARCH)
}

/// Where the standard library for `target` is.
pub fn static_library(target: &str) -> Result<String> {
    let library = sysroot()?.join("lib/rustlib").join(target).join("lib");
    ensure!(library.is_dir(), "no {}", library.display());
    Ok(library.display().to_string())
}

/// The versions of rustfmt and clippy.
pub fn linters() -> Result<String> {
    let versions = [
        output(Command::new("cargo").args(["fmt", "--version"]))?,
        output(Command::new("cargo").args(["clippy", "--version"]))?,
    ];
    Ok(versions.iter().map(|version| version.trim()).collect::<Vec<_>>().join(", "))
}

fn sysroot() -> Result<PathBuf> {
    Ok(PathBuf::from(output(Command::new("rustc").args(["--print", "sysroot"]))?.trim()))
}

/// The linker; its folder belongs on PATH when eBPF programs are built.
pub fn bpf_linker() -> Result<PathBuf> {
    let program = bpf_linker_root(&Rustc::ask()?)?.join("bin/bpf-linker");
    ensure!(program.is_file(), "not built");
    Ok(program)
}

/// Compiles it. It is linked with rustc's own LLVM, so that each rustc has its own.
pub fn install_bpf_linker() -> Result<()> {
    let rustc = Rustc::ask()?;
    if !(21..=22).contains(&rustc.llvm) {
        bail!(
            "bpf-linker {BPF_LINKER_VERSION} cannot use the LLVM {} of rustc {}; take a rustc with LLVM 22, such as 1.95",
            rustc.llvm,
            rustc.release
        );
    }
    run(Command::new("cargo")
        .args(["install", "bpf-linker", "--version", BPF_LINKER_VERSION, "--locked", "--no-default-features"])
        .args(["--features", &format!("rust-llvm-{}", rustc.llvm)])
        .arg("--root")
        .arg(bpf_linker_root(&rustc)?)
        // The workspace's target folder and flags are none of its business.
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTFLAGS"))
}

/// The driver of libFuzzer, from the cache.
pub fn cargo_fuzz() -> Result<PathBuf> {
    tool("cargo-fuzz", CARGO_FUZZ_VERSION)
}

/// Compiles it.
pub fn install_cargo_fuzz() -> Result<()> {
    install_tool("cargo-fuzz", CARGO_FUZZ_VERSION, &[])
}

/// The checker of dependencies, from the cache.
pub fn cargo_deny() -> Result<PathBuf> {
    tool("cargo-deny", CARGO_DENY_VERSION)
}

/// Compiles it, without the link-time optimization that its own release profile asks for: it runs for a second, and compiles
/// for twice as long with it.
pub fn install_cargo_deny() -> Result<()> {
    let profile = [("LTO", "off"), ("CODEGEN_UNITS", "16"), ("OPT_LEVEL", "1")];
    install_tool("cargo-deny", CARGO_DENY_VERSION, &profile)
}

/// A program of this release, from the cache.
fn tool(name: &str, version: &str) -> Result<PathBuf> {
    let program = tool_root(name, version)?.join("bin").join(name);
    ensure!(program.is_file(), "not built");
    Ok(program)
}

/// Compiles it, with these settings of the release profile.
fn install_tool(name: &str, version: &str, profile: &[(&str, &str)]) -> Result<()> {
    let settings = profile.iter().map(|(name, value)| (format!("CARGO_PROFILE_RELEASE_{name}"), value));
    run(Command::new("cargo")
        .args(["install", name, "--version", version, "--locked", "--root"])
        .arg(tool_root(name, version)?)
        .envs(settings)
        // The workspace's target folder and flags are none of its business.
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTFLAGS"))
}

fn tool_root(name: &str, version: &str) -> Result<PathBuf> {
    Ok(parts::cache_dir()?.join(format!("{name}-{version}")))
}

fn bpf_linker_root(rustc: &Rustc) -> Result<PathBuf> {
    Ok(parts::cache_dir()?.join(format!("bpf-linker-{BPF_LINKER_VERSION}-rustc-{}", rustc.release)))
}

pub(super) fn output(command: &mut Command) -> Result<String> {
    let shown = command.get_program().display().to_string();
    let output = command.output().with_context(|| format!("run {shown}"))?;
    ensure!(output.status.success(), "{shown} ended with {}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

//! What the program says of its own build (`announcer version`): the commit, the compiler, the target.

use std::{
    env,
    path::Path,
    process::{Command, Stdio},
};

/// What the program is made from, below the workspace.
const SOURCES: [&str; 5] = ["announcer", "announcer-ebpf", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=ANNOUNCER_COMMIT");
    let rustc = output(Command::new(variable("RUSTC")).arg("-V")).unwrap_or_default();
    println!("cargo::rustc-env=ANNOUNCER_RUSTC={}", rustc.trim_start_matches("rustc "));
    println!("cargo::rustc-env=ANNOUNCER_TARGET={}", variable("TARGET"));
    println!("cargo::rustc-env=ANNOUNCER_COMMIT={}", commit().unwrap_or_default());
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}

/// The commit, with `-dirty` if what the program is made from differs from it. `ANNOUNCER_COMMIT` says it where there is
/// no git; a development build is made of no commit, and is not made anew for each.
fn commit() -> Option<String> {
    if let Some(given) = env::var("ANNOUNCER_COMMIT").ok().filter(|given| !given.is_empty()) {
        return Some(given);
    }
    if variable("PROFILE") != "release" {
        return None;
    }
    let workspace = variable("CARGO_MANIFEST_DIR") + "/..";
    let git = |arguments: &[&str]| output(Command::new("git").arg("-C").arg(&workspace).args(arguments));
    // Of another repository, in which an archive was unpacked, it would be another project's.
    git(&["ls-files", "--error-unmatch", "announcer/build.rs"])?;
    for file in ["HEAD", "logs/HEAD", "index"] {
        let path = git(&["rev-parse", "--path-format=absolute", "--git-path", file])?;
        if Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    for source in SOURCES {
        println!("cargo::rerun-if-changed={workspace}/{source}");
    }
    let head = git(&["rev-parse", "HEAD"])?;
    let changes = git(&[&["status", "--porcelain", "--"][..], &SOURCES].concat())?;
    Some(if changes.is_empty() { head } else { format!("{head}-dirty") })
}

/// What a command prints, without the last line's end; `None` if it fails.
fn output(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim_end().to_owned())
}

//! What others supply: licences, sources and advisories of all crates, and that nothing of this machine gets into the
//! kernel object.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::{
    image::workspace,
    reproducible,
    setup::{build, toolchain},
};

/// The checks that need nothing but the sources of the crates.
const ALWAYS: [&str; 3] = ["bans", "licenses", "sources"];

/// Checks all of it.
pub fn check() -> Result<()> {
    deny(|cargo_deny| build::run(cargo_deny.arg("check").args(ALWAYS)))?;
    advisories()?;
    reproducible::object()
}

/// Advisories are checked wherever RustSec's database can be had; where it cannot, that is said.
fn advisories() -> Result<()> {
    let fetched = deny(|cargo_deny| {
        let fetch = cargo_deny.args(["fetch", "db"]).stdin(Stdio::null()).output();
        fetch.context("run cargo-deny")
    })?;
    if fetched.status.success() {
        return deny(|cargo_deny| build::run(cargo_deny.args(["check", "--disable-fetch", "advisories"])));
    }
    let said = String::from_utf8_lossy(&fetched.stderr);
    // Nothing else is an excuse.
    if !said.contains("failed to fetch advisory database") {
        bail!("cargo-deny could not fetch advisories: {}", said.trim());
    }
    println!(
        "advisories NOT CHECKED: RustSec's database (github.com/rustsec/advisory-db) cannot be fetched from here"
    );
    Ok(())
}

fn deny<T>(run: impl FnOnce(&mut Command) -> Result<T>) -> Result<T> {
    let mut cargo_deny = Command::new(toolchain::cargo_deny()?);
    run(cargo_deny.current_dir(workspace()).args(["--locked", "--workspace"]))
}

//! `cargo xtask setup`: what the other verbs need, why, and how it gets here.

pub mod build;
pub mod need;
pub mod toolchain;

use std::{process::ExitCode, time::Instant};

use anyhow::{Context as _, Result, ensure};
pub use need::Need;

#[derive(clap::Args)]
pub struct Arguments {
    /// Only list what is there and what is missing; fails if something is
    #[arg(long)]
    check: bool,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut missing = Vec::new();
    for need in Need::all() {
        match need.present() {
            Ok(found) => println!("ok       {:24} {}", need.name(), found),
            Err(lack) => {
                println!("missing  {:24} {} ({lack}); {}", need.name(), need.why(), need.remedy());
                missing.push(need);
            }
        }
    }
    if missing.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.check {
        println!("{} missing; `cargo xtask setup` sees to what it can", missing.len());
        return Ok(ExitCode::FAILURE);
    }
    provide(&missing)?;
    println!("all is there");
    Ok(ExitCode::SUCCESS)
}

/// Makes sure of `needs` before a verb starts: silent if all is there, else it provides what is missing.
pub fn ensure(needs: &[Need]) -> Result<()> {
    let missing: Vec<Need> = needs.iter().filter(|need| need.present().is_err()).copied().collect();
    if missing.is_empty() { Ok(()) } else { provide(&missing) }
}

fn provide(missing: &[Need]) -> Result<()> {
    // What nothing can be done about comes first: nobody wants to learn of it after a ten-minute build.
    if let Some(need) = missing.iter().find(|need| !need.can_be_provided()) {
        anyhow::bail!("{} is missing: {}; {}", need.name(), need.why(), need.remedy());
    }
    let packages: Vec<&str> = missing.iter().filter_map(Need::package).collect();
    if !packages.is_empty() {
        println!("installing {}", packages.join(" "));
        build::install_packages(&packages)?;
    }
    for need in missing.iter().filter(|need| need.package().is_none()) {
        let start = Instant::now();
        println!("{}: {}", need.name(), need.why());
        need.provide().with_context(|| format!("{}; {}", need.name(), need.remedy()))?;
        println!("{}: done in {:.0} s", need.name(), start.elapsed().as_secs_f64());
    }
    for need in missing {
        let found = need.present();
        ensure!(found.is_ok(), "{} is still missing: {}", need.name(), need.remedy());
    }
    Ok(())
}

//! `cargo xtask fuzz`: packet logic against its oracle, on generated frames and on what libFuzzer finds; and objects of
//! the API server that were changed at random, beside good ones.

use std::{
    collections::VecDeque,
    fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    image::{target_dir, workspace},
    setup::{self, Need, toolchain},
};

/// libFuzzer's targets: what a frame is made of, and the seeds of which there are some.
const TARGETS: [&str; 2] = ["mutated_frame", "arbitrary_frame"];
/// A frame that is longer has nothing more to say.
const LONGEST: &str = "256";
/// How often progress is told.
const OFTEN: Duration = Duration::from_secs(5);
/// What is shown of libFuzzer's words after a wrong answer.
const LAST_WORDS: usize = 40;

#[derive(clap::Args)]
pub struct Arguments {
    /// Generated frames: the same ones for the same seed
    #[arg(long, value_name = "N", default_value_t = 5_000_000)]
    frames: u64,
    /// Of the generated frames (1 if not given), or of the objects (another each time)
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Objects and Leases, beside good ones in lists and watches, instead of frames
    #[arg(long)]
    objects: bool,
    /// How long each of libFuzzer's targets runs, 0 leaves them out; or how long objects are changed
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let &Arguments { frames, seed, objects, seconds } = arguments;
    if objects {
        return changed_objects(seed, seconds);
    }
    generated(frames, seed.unwrap_or(1))?;
    if seconds > 0 {
        setup::ensure(&Need::fuzz())?;
        for target in TARGETS {
            let (executed, took) = fuzz(target, seconds)?;
            println!("{target}: {executed} frames in {:.1} s, wrong answers 0", took.as_secs_f64());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn folder() -> PathBuf {
    workspace().join("announcer-ebpf/fuzz")
}

/// Frames of a seed, without libFuzzer and as fast as can be.
fn generated(frames: u64, seed: u64) -> Result<()> {
    if frames == 0 {
        return Ok(());
    }
    let example = ["run", "--quiet", "--release", "--locked", "--example", "generated_frames"];
    let status = Command::new("cargo")
        .current_dir(folder())
        .args(example)
        .arg("--target-dir")
        .arg(target_dir().join("fuzz"))
        .args(["--", &frames.to_string(), &seed.to_string()])
        .status()
        .context("run cargo")?;
    ensure!(status.success(), "generated_frames found a wrong answer, see above");
    Ok(())
}

/// The unit test of `kube/watch/tests/fuzz.rs`, for so many seconds.
fn changed_objects(seed: Option<u64>, seconds: u64) -> Result<ExitCode> {
    let mut tests = Command::new("cargo");
    tests.current_dir(workspace());
    tests.args(["test", "--quiet", "--package", "announcer", "--lib"]);
    tests.args(["kube::watch::tests::fuzz::", "--", "--nocapture"]);
    tests.env("ANNOUNCER_FUZZ_SECONDS", seconds.to_string());
    tests.envs(seed.map(|seed| ("ANNOUNCER_FUZZ_SEED", seed.to_string())));
    let status = tests.status().context("run cargo")?;
    ensure!(status.success(), "a good object did not come through, see above");
    Ok(ExitCode::SUCCESS)
}

/// How many frames libFuzzer tried in so many seconds, and how many they were in the end. It keeps what it learns beside
/// the build.
fn fuzz(target: &str, seconds: u64) -> Result<(u64, Duration)> {
    let corpus = target_dir().join("fuzz-corpus").join(target);
    fs::create_dir_all(&corpus).with_context(|| format!("make {}", corpus.display()))?;
    let seeds = folder().join("seeds").join(target);
    println!("{target}: building");
    let mut command = Command::new(toolchain::cargo_fuzz()?);
    // The packet logic is safe Rust: there is nothing for a sanitizer to see, and none needs no nightly compiler.
    command.current_dir(folder()).args(["run", target, "--sanitizer", "none", "--fuzz-dir", "."]);
    command.arg("--target-dir").arg(target_dir().join("fuzz")).arg(corpus);
    command.args(seeds.is_dir().then_some(seeds));
    command.args(["--", "-print_final_stats=1", "-timeout=10"]);
    command.args([format!("-max_total_time={seconds}"), format!("-max_len={LONGEST}")]);
    let mut child = command.stderr(Stdio::piped()).spawn().context("run cargo-fuzz")?;
    let stderr = child.stderr.take().context("no standard error")?;

    let (mut executed, mut words) = (None, VecDeque::new());
    let (mut begun, mut said) = (None, Instant::now());
    for line in BufReader::new(stderr).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        if let Some(count) = line.strip_prefix("stat::number_of_executed_units:") {
            executed = count.trim().parse().ok();
        }
        if begun.is_none() && line.starts_with("INFO: ") {
            begun = Some(Instant::now());
        }
        let so_far = line.strip_prefix('#').and_then(|rest| rest.split_whitespace().next());
        if let Some(so_far) = so_far.filter(|_| said.elapsed() > OFTEN) {
            println!("{target}: {so_far} frames");
            said = Instant::now();
        }
        words.push_back(line.into_owned());
        if words.len() > LAST_WORDS {
            words.pop_front();
        }
    }
    let status = child.wait()?;
    match (executed, begun) {
        (Some(executed), Some(begun)) if status.success() => Ok((executed, begun.elapsed())),
        _ => {
            words.iter().for_each(|line| eprintln!("{line}"));
            bail!("{target} ended with {status}");
        }
    }
}

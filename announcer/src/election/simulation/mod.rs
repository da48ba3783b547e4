//! Thousands of small clusters, each from its seed, through crashes, pauses, partitions, lost and late requests,
//! watch lag, clock drift and careless hands; what must hold is checked after every write to a kernel.
//!
//! `ANNOUNCER_SIM_SEEDS=100000 cargo test -p announcer simulated` runs that many; `ANNOUNCER_SIM_SEED=42` tells
//! the story of one.

mod brief;
mod checks;
mod faults;
mod host;
pub(super) mod kernel;
mod network;
mod rng;
mod setting;
pub(super) mod store;
mod world;

use world::World;

/// Seeds of every test run.
const SEEDS: u64 = 60;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The last events before a property broke, told by running the seed again.
fn story(seed: u64) -> String {
    let mut world = World::new(seed, true);
    let result = world.run();
    let lines: Vec<String> = world.trace.into_iter().flatten().collect();
    format!("seed {seed}: {:?}\n{:?}\n{}\n", result, world.setting, lines.join("\n"))
}

#[test]
fn simulated_clusters_keep_their_promises() {
    if let Some(seed) = number("ANNOUNCER_SIM_SEED") {
        panic!("{}", story(seed));
    }
    let (first, seeds) =
        (number("ANNOUNCER_SIM_FIRST").unwrap_or(0), number("ANNOUNCER_SIM_SEEDS").unwrap_or(SEEDS));
    let (mut simulated, mut gains, mut fences, mut doubles, mut adopted, mut events) = (0.0, 0, 0, 0, 0, 0);
    let mut failed = Vec::new();
    for seed in first..first + seeds {
        let mut world = World::new(seed, false);
        let result = world.run();
        simulated += world.now as f64 / 3.6e12;
        gains += world.checks.gains;
        fences += world.checks.fences;
        doubles += world.checks.doubles;
        adopted += world.checks.adopted;
        events += world.events();
        if let Err(broken) = result {
            failed.push((seed, broken));
            if failed.len() >= 20 {
                break;
            }
        }
    }
    let summary = format!(
        "{seeds} seeds, {simulated:.1} simulated hours, {events} events, {gains} VIPs gained, {fences} nodes fenced, \
         {adopted} adoptions, {doubles} answers doubled where that is allowed"
    );
    if let Some((seed, _)) = failed.first() {
        panic!("{}\n{summary}\nfailed: {failed:#?}", story(*seed));
    }
    println!("{summary}");
}

//! How long a client goes without its packets being delivered when something happens to the node that has its VIP, in
//! a lab of network namespaces with a real API server, and beside it keepalived.

mod ears;
mod field;
mod keepalived;
mod pace;
mod plot;
mod rollout;
mod scenario;
mod steady;
mod steps;
mod table;
mod trail;
mod watch;

use anyhow::Result;

pub use self::{ears::index_of, pace::within, plot::svg, steps::writes_at_once, trail::now};
use self::{field::Field, keepalived::Keepalived, scenario::Scenario, watch::Seen};
use crate::{progress::Progress, report::Section};

/// Failures one after the other, after which a scenario is given up.
const GIVE_UP_AFTER: usize = 3;

/// How much to measure.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    runs: usize,
}

/// What has become of a scenario's runs.
struct Runs {
    name: &'static str,
    seen: Vec<Seen>,
    /// Why a run did not come to its end.
    failures: Vec<String>,
}

impl Effort {
    /// Three quarters of an hour, or a few minutes.
    pub fn new(quick: bool, runs: Option<u32>) -> Self {
        Self { runs: runs.map_or(if quick { 3 } else { 30 }, |runs| runs as usize) }
    }
}

/// Runs all of it.
pub fn run(effort: Effort) -> Result<Vec<Section>> {
    let field = Field::start()?;
    let keepalived = Keepalived::default();
    let mut all = Vec::new();
    for scenario in Scenario::ALL {
        let mut is_set_up = false;
        all.push(repeat(scenario.name(), effort.runs, || {
            if !is_set_up {
                scenario.set_up(&field)?;
                is_set_up = true;
            }
            scenario.run(&field, &keepalived)
        }));
        if scenario == Scenario::Keepalived {
            keepalived.end();
        }
    }
    drop(keepalived);
    drop(field);
    let mut whole = None;
    all.push(repeat(rollout::NAME, effort.runs, || {
        let cluster = whole.take().map_or_else(rollout::start, Ok)?;
        rollout::run(whole.insert(cluster))
    }));
    let steps: Vec<_> = all.iter().flat_map(|runs| &runs.seen).filter_map(|seen| seen.steps).collect();
    Ok(vec![table::section(&all), steps::section(&steps)])
}

/// So many runs, one after the other. One that fails is no reason not to try the next, unless nothing works any more.
fn repeat(name: &'static str, count: usize, mut run: impl FnMut() -> Result<Seen>) -> Runs {
    let progress = Progress::start(name, count);
    let mut runs = Runs { name, seen: Vec::new(), failures: Vec::new() };
    let mut in_vain = 0;
    for number in 0..count {
        progress.round(number);
        match run() {
            Ok(seen) => {
                in_vain = 0;
                eprintln!("{name}: run {} of {count}: {seen}", number + 1);
                runs.seen.push(seen);
            }
            Err(error) => {
                in_vain += 1;
                eprintln!("{name}: run {} of {count} has failed: {error:#}", number + 1);
                runs.failures.push(format!("{error:#}"));
            }
        }
        if in_vain == GIVE_UP_AFTER {
            eprintln!("{name}: given up after {GIVE_UP_AFTER} failures one after the other");
            break;
        }
    }
    runs
}

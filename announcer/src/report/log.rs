//! How a log line looks: flat JSON as MetalLB's speaker writes it, or text for people. One line, one write.

mod fields;
mod layer;

use std::{
    panic::{self, PanicHookInfo},
    thread,
};

use clap::ValueEnum;
use tracing::{error, level_filters::LevelFilter};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

pub(in crate::report) use layer::LineLayer;

use crate::datapath::KernelLogReader;

/// `--log-format`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum LogFormat {
    /// One flat object a line: `{"level":"info","ts":"…","msg":"announcing","ip":"10.4.11.1",…}`.
    #[default]
    Json,
    /// `2024-01-15T10:30:00.000Z INFO  announcing ip=10.4.11.1 …`.
    Text,
}

/// A logger was installed before.
#[derive(Debug, thiserror::Error)]
#[error("can't start logging")]
pub struct LogError(#[source] tracing_subscriber::util::TryInitError);

/// Lines that wait for whoever reads standard output. When it has stopped to read, the newest are lost, and counted: a log
/// must not hold up a renewal.
const WAITING_LINES: usize = 8_192;

/// Writes what is still waiting when it is dropped.
#[must_use = "the last lines are lost without it"]
#[derive(Debug)]
pub struct Log {
    lost: ErrorCounter,
    _writer: WorkerGuard,
}

impl Log {
    /// Counts lines that nobody took.
    pub fn lost(&self) -> ErrorCounter {
        self.lost.clone()
    }
}

/// Logs to standard output from now on, for the whole process. `level` is for this crate; its dependencies speak from
/// `warn` up only, or they would drown it.
pub fn init(format: LogFormat, level: LevelFilter) -> Result<Log, LogError> {
    let (lines, writer) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(WAITING_LINES)
        .finish(std::io::stdout());
    let lost = lines.error_counter();
    let layer = LineLayer::new(format, jiff::Timestamp::now, lines);
    tracing_subscriber::registry().with(layer).with(filter(level)).try_init().map_err(LogError)?;
    panic::set_hook(Box::new(tell_panic));
    Ok(Log { lost, _writer: writer })
}

/// One line like all others, in place of the standard library's own on standard error.
fn tell_panic(panicked: &PanicHookInfo<'_>) {
    let words = panicked.payload_as_str().unwrap_or("it has no words");
    let at = panicked.location().map(ToString::to_string);
    error!(error = words, at, thread = thread::current().name(), "Panicked");
}

fn filter(level: LevelFilter) -> Targets {
    let silenced = ["kube_client", "kube_runtime"].map(|target| (target, LevelFilter::OFF));
    Targets::new()
        .with_target(env!("CARGO_CRATE_NAME"), level)
        // The kernel has a level of its own, and says nothing that is not asked for.
        .with_target(KernelLogReader::TARGET, LevelFilter::TRACE)
        // kube says each failed attempt again and again; the `kube` room says it once.
        .with_targets(silenced)
        .with_default(level.min(LevelFilter::WARN))
}

#[cfg(test)]
mod tests;

//! `announcer agent`: its flags, and the order in which it starts.

mod beside;
mod deciding;
mod mixed;
mod node;
mod owed;
mod room;
mod run;
mod state;
mod turn;

use std::{error::Error as _, net::SocketAddr, path::PathBuf, time::Duration};

use clap::builder::NonEmptyStringValueParser;
use tracing::level_filters::LevelFilter;

use super::{
    cluster::Cluster,
    level,
    station::{Announcing, Attaching},
};
use crate::{
    election::{Failback, OnApiLoss},
    report::log::LogFormat,
    wire::select::Excludes,
};

/// Flags of the agent. Each has an environment variable, so that a DaemonSet can set it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of this node, as `kubectl get nodes` shows it.
    #[arg(long, env = "ANNOUNCER_NODE_NAME", value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    node_name: String,

    #[command(flatten)]
    cluster: Cluster,

    /// Name of the agent's Pod; what the agent writes about Services goes with it.
    #[arg(long, env = "ANNOUNCER_POD_NAME", value_name = "NAME", requires = "pod_uid")]
    pod_name: Option<String>,

    /// UID of that Pod.
    #[arg(long, env = "ANNOUNCER_POD_UID", value_name = "UID", requires = "pod_name")]
    pod_uid: Option<String>,

    #[command(flatten)]
    attaching: Attaching,

    /// Let this node's own stack answer for an address that another node owns, as MetalLB does.
    #[arg(long, env = "ANNOUNCER_NO_SUPPRESS", default_value_t = false, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    no_suppress: bool,

    /// When an address goes back to a node that would have been chosen first.
    #[arg(long, env = "ANNOUNCER_FAILBACK", value_enum, default_value_t = Failback::Preferred)]
    failback: Failback,

    /// When this node may be replaced. `early`: as soon as all other nodes on its link find that its kernel does not answer on
    /// the wire; should the wire be split, both halves may then answer until this agent hears of it (at most 0.9 of a lease).
    /// `strict`: when its lease has run out, never before; and an address without a claim is waited for, 60 s.
    #[arg(long, env = "ANNOUNCER_FENCING", value_enum, default_value_t = Fencing::Early)]
    fencing: Fencing,

    /// How often each other node that owns an address is asked for it on the wire, as a client would ask. Its kernel answers,
    /// in well under a millisecond.
    #[arg(long, env = "ANNOUNCER_PROBE_INTERVAL", value_name = "TIME", default_value = "100ms", value_parser = probe_interval)]
    probe_interval: Duration,

    /// How many questions in a row a node may leave unanswered before it is suspected. After the first they come four times as
    /// often (at least every 250 ms), so a node that dies is found after 1 + MISSES/4 intervals at the latest: 0.175 s with
    /// the defaults.
    #[arg(long, env = "ANNOUNCER_PROBE_MISSES", value_name = "MISSES", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    probe_misses: u32,

    /// What happens to this node's addresses while the API server is away for longer than the lease. `hold` goes on
    /// answering, as long as probes show that nobody else does; `--fencing=strict` means `fence`.
    #[arg(long, env = "ANNOUNCER_ON_API_LOSS", value_enum, default_value_t = OnApiLoss::Hold)]
    on_api_loss: OnApiLoss,

    /// What happens to this node's addresses when the agent is told to stop. `auto` hands them over if the node is
    /// cordoned, being deleted or shutting down, and keeps them for the next agent otherwise.
    #[arg(long, env = "ANNOUNCER_ON_SHUTDOWN", value_enum, default_value_t = OnShutdown::Auto)]
    on_shutdown: OnShutdown,

    /// Interfaces never announced on unless an L2Advertisement names them: regular expressions; empty for none.
    #[arg(long, env = "ANNOUNCER_EXCLUDE_INTERFACES", value_name = "REGEX", value_delimiter = ',', value_parser = pattern, default_values = crate::wire::select::DEFAULT_EXCLUDES)]
    exclude_interfaces: Vec<String>,

    #[command(flatten)]
    announcing: Announcing,

    /// Address of the Prometheus metrics (`/metrics`); `127.0.0.1:9474` for this host alone.
    #[arg(long, env = "ANNOUNCER_METRICS_ADDRESS", value_name = "ADDR:PORT", default_value = "[::]:9474")]
    metrics_address: SocketAddr,

    /// Show metrics by HTTPS, and only to clients whose bearer token the API server lets `get` the path `/metrics`
    /// (ClusterRole `announcer-metrics-reader`). `false`: by HTTP, to everybody who reaches the address.
    #[arg(long, env = "ANNOUNCER_METRICS_SECURE", default_value_t = true, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    metrics_secure: bool,

    /// Certificate that metrics are shown with, in PEM form, read again each minute; without it, one that the agent makes
    /// for itself.
    #[arg(long, env = "ANNOUNCER_METRICS_CERT", value_name = "FILE", requires = "metrics_key")]
    metrics_cert: Option<PathBuf>,

    /// Key of that certificate.
    #[arg(long, env = "ANNOUNCER_METRICS_KEY", value_name = "FILE", requires = "metrics_cert")]
    metrics_key: Option<PathBuf>,

    /// Address of the probes (`/healthz`, `/readyz`).
    #[arg(
        long,
        env = "ANNOUNCER_HEALTH_ADDRESS",
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:9475"
    )]
    health_address: SocketAddr,

    /// How logs are written to standard output: `json` for machines, `text` for people.
    #[arg(long, env = "ANNOUNCER_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    log_format: LogFormat,

    /// Least important level that is logged.
    #[arg(long, env = "ANNOUNCER_LOG_LEVEL", value_name = "LEVEL", default_value = "info", value_parser = level())]
    log_level: LevelFilter,

    #[command(flatten)]
    pins: super::Pins,

    /// File with this boot's id, for labs whose nodes share one kernel.
    #[arg(
        long,
        env = "ANNOUNCER_BOOT_ID_FILE",
        value_name = "FILE",
        hide = true,
        default_value = "/proc/sys/kernel/random/boot_id"
    )]
    boot_id_file: PathBuf,

    /// Tasks beside the loop to kill, one for each SIGUSR2, for tests of what follows.
    #[arg(long, env = "ANNOUNCER_FAIL_TASK", value_name = "NAME", hide = true, value_delimiter = ',')]
    fail_task: Vec<String>,
}

/// How this node may be fenced.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Fencing {
    /// Once nobody hears its kernel; what nobody claims and nobody answers for may be taken at once.
    Early,
    /// Not before its lease has run out; nothing is taken before every lease that might cover it has.
    Strict,
}

/// What a leaving agent does with what it holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum OnShutdown {
    /// Hands over if the node goes away, keeps otherwise.
    Auto,
    /// The kernel goes on answering until the lease has run out.
    Keep,
    /// Another node takes over at once.
    Release,
}

/// `100ms`, `0.5s`: from 10 ms to 10 s.
fn probe_interval(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix('s').ok_or("a time has a unit: 100ms, 0.5s")?, 1.0),
    };
    let seconds = number.trim().parse::<f64>().map_err(|error| error.to_string())? * unit;
    let interval = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    let allowed = Duration::from_millis(10)..=Duration::from_secs(10);
    allowed.contains(&interval).then_some(interval).ok_or_else(|| "it must be from 10ms to 10s".to_owned())
}

fn pattern(text: &str) -> Result<String, String> {
    match Excludes::new([text]) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.source().map_or_else(|| error.to_string(), ToString::to_string)),
    }
}

/// Runs the agent until it is told to stop.
pub(super) fn run(args: Args) -> anyhow::Result<()> {
    run::run(args)
}

//! The agent's start, and its one loop: observe → decide → make the kernel match → write → announce.
//!
//! The loop that renews the session is the loop that applies results to the kernel, and it renews after it has
//! applied: a wedged loop cannot renew.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures::StreamExt;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval, sleep_until},
};
use tracing::{error, info, warn};

use super::{
    Args, Fencing,
    kernel::{Kernel, PauseWatch, owner_table, uuid_bytes},
    node,
};
use crate::{
    datapath::{Config, Datapath, DatapathError},
    election::{Answer, Change, Identity, Input, Leases, Machine, Request, Settings, Token},
    kube::{self, Snapshot},
    policy::{self, Demand, Interfaces},
    report::{self, Changes, Health, Metrics},
    vocabulary::{BootNs, Link, LinkId, Vip},
    wire::{self, LinkWatch, Schedule, Selection, Sender},
};

/// The loop turns at least this often: liveness, proofs and gauges hang on it.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Every held VIP is proven this often.
const PROOFS: Duration = Duration::from_secs(10);
const SUMMARY: Duration = Duration::from_secs(600);
/// How long a leaving node may take to hand over; a Pod is killed 10 s after SIGTERM.
const HANDOVER: Duration = Duration::from_secs(8);

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    report::init_log(args.log_format, &args.log_level)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(start(args));
    // Whatever is still waiting for the network must not hold up the end.
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

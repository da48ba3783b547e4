//! How the agent starts: everything that can be wrong is found before anything is changed.

use std::{
    num::NonZeroU32,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::sync::{mpsc, watch};

use super::{
    Args, Fencing,
    kernel::{Kernel, PauseWatch, uuid_bytes},
    node,
    state::Said,
    turn::{Agent, SharedCounts, keep_groups},
};
use crate::{
    datapath::{Config, Datapath},
    election::{Identity, Leases, Machine, Settings},
    kube, policy,
    report::{
        changes::Changes,
        health::Health,
        http::{Pages, Server},
        log,
        metrics::Metrics,
    },
    vocabulary::{BootNs, Link},
    wire::{announcements::Schedule, groups::Groups, links::LinkWatch, select::Excludes, sender::Sender},
};

/// How long an agent waits for another one on its node to end, as in a rolling update.
const PATIENCE: Duration = Duration::from_secs(20);
/// A loop that has not turned for so long is wedged; its kernel falls silent long before the kubelet acts.
const WEDGED: Duration = Duration::from_secs(30);
/// How much of the first ten minutes is taken for passed: the first summary comes 3 s after the start.
const SUMMARY_HEADSTART: Duration = Duration::from_secs(597);

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    log::init(args.log_format, args.log_level)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(start(args));
    // Whatever still waits for the network must not hold up the end.
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

async fn start(args: Args) -> anyhow::Result<()> {
    let excludes = Excludes::new(args.exclude_interfaces.iter().filter(|pattern| !pattern.is_empty()))
        .context("--exclude-interfaces")?;
    let holder = node::holder(&args.node_name, &args.boot_id_file)?;
    let clients = kube::connect(args.kubeconfig.as_deref()).await?;
    // The first summary comes with the start, so that a new Pod's log says at once what it holds.
    let ten_minutes_ago = Instant::now().checked_sub(SUMMARY_HEADSTART);
    let changes = Changes::new(&args.node_name, ten_minutes_ago.unwrap_or_else(Instant::now));
    changes.started(rustix::system::uname().release().to_str().unwrap_or("unknown"));

    let sender = Sender::new().context("cannot open a packet socket: the agent needs CAP_NET_RAW")?;
    let link_watch = LinkWatch::start().await.context("cannot follow the links of this node")?;
    let groups = Groups::open()?;
    let (groups_wanted, keep) = watch::channel(Default::default());
    tokio::spawn(keep_groups(groups, keep));
    let counts = SharedCounts::default();
    let shared = counts.clone();
    let scraped = move || shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let metrics = Arc::new(Metrics::new(&args.node_name, scraped));
    let health = Arc::new(Health::new(WEDGED, BootNs::now()));
    let links = link_watch.view();
    let view = links.borrow().clone();
    let config = Config {
        pin_root: args.pins.pin_root.clone(),
        mode: args.mode,
        suppress: !args.no_suppress,
        kernel_log: args.kernel_log,
    };
    let mut datapath = tokio::task::spawn_blocking(move || Datapath::open_within(config, PATIENCE))
        .await
        .context("datapath")??;
    // The ports are free once the lock is: an agent before us has ended.
    for (address, pages) in [
        (args.metrics_address, Pages::Metrics(metrics.clone())),
        (args.health_address, Pages::Health(health.clone())),
    ] {
        tokio::spawn(Server::bind(address, pages).await?.run());
    }

    // What carries the program already goes on doing so; more links come with the first view of the cluster.
    let kept = datapath.pinned_links();
    let carrying: Vec<Link> = view.links.values().filter(|link| kept.contains(&link.id)).cloned().collect();
    let reports = datapath.establish(&carrying)?;
    if let Some(log) = datapath.kernel_log() {
        log.spawn().context("cannot read the kernel's log")?;
    }
    let (kernel, target) = Kernel::new(datapath, uuid_bytes(&holder.boot_id))?;

    let seed = random()?;
    let identity = Identity { holder, seed, agent: env!("CARGO_PKG_VERSION").to_owned() };
    let settings = Settings { failback: args.failback, strict: args.fencing == Fencing::Strict };
    let rate = NonZeroU32::new(args.announce_rate).unwrap_or(NonZeroU32::MIN);
    let (outcomes, came_back) = mpsc::unbounded_channel();
    let (snapshots, _watching) = kube::watch(clients.watch, &args.namespace);
    let mut agent = Agent {
        node: args.node_name,
        options: policy::Options { lb_class: args.lb_class, ignore_exclude_lb: args.ignore_exclude_lb },
        excludes,
        machine: Machine::new(identity, settings, target),
        kernel,
        leases: Leases::new(clients.leases, &args.namespace),
        schedule: Schedule::new(rate, args.announce_interval, seed),
        sender,
        groups: groups_wanted,
        changes,
        metrics,
        counts,
        health,
        outcomes,
        view,
        snapshot: None,
        demand: None,
        said: Said::default(),
        pauses: PauseWatch::new(),
        unanswered: Default::default(),
    };
    agent.tell_links(&reports);
    agent.keep_announcing();
    agent.run(links, snapshots, came_back).await
}

/// Makes nonces unique to this process.
fn random() -> anyhow::Result<u64> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .context("cannot get random bytes")?;
    Ok(u64::from_ne_bytes(bytes))
}

//! How the agent starts: everything that can be wrong is found before anything is changed.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{sync::mpsc, time::sleep};
use tracing::info;

use super::{
    Args, Fencing,
    kernel::{Kernel, uuid_bytes},
    node,
    turn::Agent,
};
use crate::{
    datapath::{Config, Datapath, DatapathError},
    election::{Identity, Leases, Machine, Settings},
    kube, policy, report,
    wire::{
        announcements::Schedule,
        groups::Groups,
        links::LinkWatch,
        select::Excludes,
        sender::Sender,
    },
};

/// How often the agent looks whether another one has gone.
const LOCK_PAUSE: Duration = Duration::from_millis(200);

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    report::log::init(args.log_format, &args.log_level)?;
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
    let excludes = Excludes::new(&args.exclude_interfaces).context("--exclude-interfaces")?;
    let holder = node::holder(&args.node_name, &args.boot_id_file)?;
    let clients = kube::connect(args.kubeconfig.as_deref()).await?;
    let sender = Sender::new().context("cannot open a packet socket: the agent needs CAP_NET_RAW")?;
    let link_watch = LinkWatch::start().await.context("cannot follow the links of this node")?;
    let groups = Groups::new().context("cannot follow multicast groups")?;

    let health = Arc::new(report::Health::default());
    let metrics = Arc::new(report::Metrics::default());
    report::http::serve(args.metrics_address, args.health_address, metrics.clone(), health.clone()).await?;

    info!(
        node = %args.node_name,
        namespace = %args.namespace,
        version = env!("CARGO_PKG_VERSION"),
        "Announcer starts"
    );
    let mut datapath = open(&args).await?;
    let links = link_watch.view();
    let now = links.borrow().clone();
    let inherited: Vec<_> = {
        let kept = datapath.inherited().map(|inherited| inherited.links.clone()).unwrap_or_default();
        now.links.values().filter(|link| kept.contains(&link.id)).cloned().collect()
    };
    let reports = datapath.establish(&inherited)?;
    let (kernel, target) = Kernel::new(datapath, uuid_bytes(&holder.boot_id));

    let seed = u64::from_ne_bytes(*uuid_bytes(&format!("{:032x}", seed()?)).first_chunk().expect("16 bytes"));
    let identity = Identity { holder, seed, agent: env!("CARGO_PKG_VERSION").to_owned() };
    let settings = Settings { failback: args.failback, strict: args.fencing == Fencing::Strict };
    let (snapshots, _watch) = kube::watch(clients.watch.clone(), &args.namespace);
    let leases = Leases::new(clients.leases, &args.namespace);
    let rate = NonZeroU32::new(args.announce_rate).unwrap_or(NonZeroU32::MIN);
    let (answers, answered) = mpsc::unbounded_channel();
    let mut agent = Agent {
        options: policy::Options {
            lb_class: args.lb_class.clone(),
            ignore_exclude_lb: args.ignore_exclude_lb,
            ..policy::Options::default()
        },
        node: args.node_name.clone(),
        machine: Machine::new(identity, settings, target),
        kernel,
        view: now,
        excludes,
        demand: None,
        snapshot: None,
        schedule: Schedule::new(rate, args.announce_interval, seed),
        sender,
        groups,
        metrics,
        health,
        answers,
        leases,
        ..todo!()
    };
    agent.run(link_watch, snapshots, answered).await
}

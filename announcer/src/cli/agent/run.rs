//! How the agent starts: everything that can be wrong is found before anything is changed.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::sync::{mpsc, watch};

use super::{
    Args, Fencing,
    beside::Beside,
    deciding::Deciding,
    node,
    state::Said,
    turn::{Agent, SharedCounts},
};
use crate::{
    cli::{
        kernel::{Kernel, PauseWatch, Whose, uuid_bytes},
        limits,
        station::{self, Station},
        tasks::{Leash, Tasks, on_thread},
    },
    datapath::{Config, Datapath},
    election::{Identity, Leases, Machine, Settings},
    kube,
    report::{
        changes::Changes,
        health::Health,
        http::{self, Certificate, Pages, Port, Secure},
        l2_status::Author,
        log::{self, Log},
        metrics::{Metrics, Suppressed},
    },
    vocabulary::{BootNs, Link},
    wire::{
        detector::{Detection, Pace},
        hearing::Losses,
        links::LinkWatch,
        segments::SegmentWatch,
        select::Excludes,
    },
};

/// How long an agent waits for another one on its node to end, as in a rolling update.
const PATIENCE: Duration = Duration::from_secs(20);
/// A loop that has not turned for so long is wedged; its kernel falls silent long before the kubelet acts.
const WEDGED: Duration = Duration::from_secs(30);
/// How much of the first ten minutes is taken for passed: the first summary comes 3 s after the start.
const SUMMARY_HEADSTART: Duration = Duration::from_secs(597);

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let log = log::init(args.log_format, args.log_level)?;
    limits::raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(start(args, &log));
    // Whatever still waits for the network must not hold up the end.
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

async fn start(args: Args, log: &Log) -> anyhow::Result<()> {
    let excludes = Excludes::new(args.exclude_interfaces.iter().filter(|pattern| !pattern.is_empty()))
        .context("--exclude-interfaces")?;
    let holder = node::holder(&args.node_name, &args.boot_id_file)?;
    let clients = kube::connect(args.cluster.kubeconfig.as_deref()).await?;
    // The first summary comes with the start, so that a new Pod's log says at once what it holds.
    let ten_minutes_ago = Instant::now().checked_sub(SUMMARY_HEADSTART);
    let changes = Changes::new(&args.node_name, ten_minutes_ago.unwrap_or_else(Instant::now));
    changes.started(rustix::system::uname().release().to_str().unwrap_or("unknown"));

    let sender = station::sender()?;
    let pace = Pace { interval: args.probe_interval, misses: args.probe_misses };
    let losses = Losses::default();
    let detection = Detection::new(pace, losses.clone());
    let link_watch = LinkWatch::open().await.context("cannot follow the links of this node")?;
    let counts = SharedCounts::default();
    let shared = counts.clone();
    let scraped = move || shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let metrics = Arc::new(Metrics::new(&args.node_name, scraped));
    let health = Arc::new(Health::new(WEDGED, BootNs::now()));
    let links = link_watch.view();
    let view = links.borrow().clone();
    let config = Config { suppress: !args.no_suppress, ..args.attaching.config(&args.pins.pin_root) };
    let datapath = tokio::task::spawn_blocking(move || Datapath::open_within(config, PATIENCE))
        .await
        .context("datapath")??;
    // The ports are free once the lock is: an agent before us has ended.
    let mut tasks = Tasks::default();
    let probes = Port::bind(args.health_address, "probes")?;
    let state = health.clone();
    tasks.start("probes", move || {
        let (port, pages) = (probes.clone(), Pages::Health(state.clone()));
        on_thread("probes", move |leash| serve(&port, || Ok(pages), leash))
    });
    let scrapes = Port::bind(args.metrics_address, "metrics")?;
    let certificate = args.metrics_secure.then(|| certificate(&args)).transpose()?;
    let (state, reviewing) = (metrics.clone(), clients.clone());
    tasks.start("metrics", move || {
        let (port, state) = (scrapes.clone(), state.clone());
        let (certificate, clients) = (certificate.clone(), reviewing.clone());
        let pages = move || {
            let secure = match certificate {
                Some(certificate) => Some(Arc::new(Secure::new(certificate, clients.apart()?))),
                None => None,
            };
            Ok(Pages::Metrics(state, secure))
        };
        on_thread("metrics", move |leash| serve(&port, pages, leash))
    });
    station::follow(link_watch, &mut tasks);
    let detecting = detection.clone();
    tasks.start("detector", move || {
        let asking = detecting.run();
        async move { asking.await.context("cannot ask other nodes on the wire") }
    });

    // What carries the program already goes on doing so; more links come with the first view of the cluster.
    let kept = datapath.pinned_links();
    let carrying: Vec<Link> = view.links.values().filter(|link| kept.contains(&link.id)).cloned().collect();
    let boot_id = uuid_bytes(&holder.boot_id);
    let (kernel, target, reports) = Kernel::take_over(datapath, Whose::Agent, boot_id, &carrying)?;

    let seed = crate::cli::random()?;
    let identity = Identity { holder, seed, agent: env!("CARGO_PKG_VERSION").to_owned() };
    let settings = Settings {
        failback: args.failback,
        strict: args.fencing == Fencing::Strict,
        on_api_loss: args.on_api_loss,
    };
    let segment_watch = SegmentWatch::new(kernel.owned().map(|(_, link)| link).collect());
    let finding = segment_watch.clone();
    tasks.start("segments", move || {
        let listening = finding.run();
        async move { listening.await.context("cannot find interfaces on one segment") }
    });
    let announcing = &args.announcing;
    let mut station =
        Station::new(&args.node_name, kernel, changes, view, sender, announcing, seed, &mut tasks);
    station.tell_links(&reports);
    station.keep_announcing();
    let (outcomes, came_back) = mpsc::unbounded_channel();
    let (snapshot, snapshots) = watch::channel(None);
    let (client, namespace) = (clients.watch.clone(), args.cluster.namespace.clone());
    tasks.start("cluster-watch", move || {
        let watching = kube::watch(client.clone(), &namespace, snapshot.clone());
        async move {
            watching.await;
            Ok(())
        }
    });
    let author = Author { node: args.node_name.clone(), pod: args.pod_name.zip(args.pod_uid) };
    let agent = Agent {
        beside: Beside::new(&clients, &args.cluster.namespace, author, &mut tasks),
        node: args.node_name.clone(),
        excludes,
        on_shutdown: args.on_shutdown,
        machine: Machine::new(identity, settings, target),
        leases: Leases::new(clients.leases.clone(), &args.cluster.namespace).with_another(clients.another()),
        heard: clients.heard.clone(),
        metrics,
        counts,
        suppressed: Suppressed::default(),
        health,
        outcomes,
        detection,
        losses,
        unasked: None,
        addresses: BTreeSet::new(),
        segments: segment_watch.found().borrow().clone(),
        segment_watch,
        bystanders: BTreeSet::new(),
        station,
        snapshot: None,
        plan: None,
        whole: None,
        demand: None,
        beyond: BTreeSet::new(),
        said: Said::default(),
        stale: true,
        log_lost: log.lost(),
        pauses: PauseWatch::new(),
        restarted: BTreeSet::new(),
        policy_failed: false,
        victims: args.fail_task.into(),
        tasks,
    };
    let deciding = Deciding::new(args.node_name, args.cluster.options(), snapshots);
    agent.run(links, deciding, came_back).await
}

/// What metrics are shown with.
fn certificate(args: &Args) -> anyhow::Result<Arc<Certificate>> {
    let files = args.metrics_cert.clone().zip(args.metrics_key.clone());
    let identity = match files {
        Some((certificate, key)) => http::Identity::Files { certificate, key },
        None => http::Identity::Own(args.node_name.clone()),
    };
    Ok(Arc::new(Certificate::new(identity)?))
}

/// A runtime of its own: what asks us must not stand before what we ask the API server. `pages` is called in it.
fn serve(port: &Port, pages: impl FnOnce() -> anyhow::Result<Pages>, leash: Leash) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::select! {
            () = leash.slipped() => Ok(()),
            served = http::serve(port, pages()?) => match served? {},
        }
    })
}

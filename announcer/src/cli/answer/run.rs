//! The loop of `announcer answer`: keep the programs on the links, the deadline ahead, the neighbours informed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time::sleep_until,
};
use tracing::info;

use super::Args;
use crate::{
    cli::{
        Usage,
        kernel::{Kernel, NIL_UID_TEXT, NewOwners, Whose, uuid_bytes},
        limits, remove,
        station::{self, Station, ticker},
        tasks::Tasks,
    },
    datapath::{Datapath, DatapathError, LinkChange, LinkReport, Mode, Owners},
    election::Target,
    policy::Interfaces,
    report::{changes::Changes, log},
    vocabulary::{BootNs, Link, LinkId},
    wire::{
        links::{LinkView, LinkWatch},
        select::{Excludes, can_announce, select, why_missing},
    },
};

/// How long a process that was just killed may take to let go of the lock.
const PATIENCE: Duration = Duration::from_secs(1);
/// Links that refused the program are tried again, and every address is proven to be answered, this often.
const PROOFS: Duration = Duration::from_secs(10);
/// Conflicts on the wire are looked for this often.
const CONFLICTS: Duration = Duration::from_millis(200);
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let _log = log::init(args.log_format, args.log_level)?;
    limits::raise_open_files();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(start(args))
}

async fn start(args: &Args) -> anyhow::Result<()> {
    // From here on a signal is an event, and leaves nothing half done.
    let signals = Signals::new().context("cannot wait for signals")?;
    let link_watch = LinkWatch::open().await.context("cannot follow the links of this host")?;
    let links = link_watch.view();
    let view = links.borrow().clone();
    let mut tasks = Tasks::default();
    station::follow(link_watch, &mut tasks);
    let mut chosen = Chosen::new(&args.interfaces);
    let ids = chosen.links(&view);
    if !args.wait {
        chosen.complain(&view)?;
    }

    let boot_id = fs::read_to_string(BOOT_ID).with_context(|| format!("cannot read {BOOT_ID}"))?;
    let (sender, seed) = (station::sender()?, crate::cli::random()?);
    let datapath = Datapath::open_within(args.attaching.config(&args.pins.pin_root), PATIENCE)?;
    let mut epoch = 1;
    if let Some(inherited) = datapath.inherited() {
        let left = inherited.deadline.until(BootNs::now());
        if Whose::of(&inherited.session.uid) == Whose::Agent && !left.is_zero() {
            bail!(
                "the kernel answers for a cluster's agent for {:.0} s more (pinned under {}): wait for that, or run \
                 `announcer uninstall`",
                left.as_secs_f64(),
                args.pins.pin_root.display()
            );
        }
        epoch = inherited.session.epoch.saturating_add(1);
    }
    let on: Vec<Link> = ids.iter().filter_map(|id| view.links.get(id)).cloned().collect();
    let (kernel, adopted, reports) =
        Kernel::take_over(datapath, Whose::Standalone, uuid_bytes(boot_id.trim()), &on)?;
    if let Err(refused) = refuse_failed(&reports, args.attaching.mode()) {
        give_back(kernel, &view).await?;
        return Err(refused);
    }
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let changes = Changes::new(&host, Instant::now());
    let announcing = &args.announcing;
    let mut station = Station::new(&host, kernel, changes, view, sender, announcing, seed, &mut tasks);
    station.tell_links(&reports);
    // Announced already, if the kernel never stopped answering.
    if adopted.deadline > BootNs::now() {
        station.keep_announcing();
    }
    let session = adopted.session.or_else(|| Some((NIL_UID_TEXT.to_owned(), epoch)));
    let held = args.vips.iter().copied().collect();
    let lease = Lease { span: args.lease, target: Target { session, deadline: BootNs::NONE, held } };
    let ended = serve(args, signals, links, &mut station, &mut tasks, chosen, lease).await;
    let remains = station.close(&mut tasks).await;
    // With --keep, trouble is like a kill: the lease ends it, or the next start goes on.
    if !args.keep {
        let removed = remove(remains).await;
        if ended.is_ok() {
            removed?;
        }
    }
    say_goodbye(args, ended?);
    Ok(())
}

/// Answers until a signal comes; says which.
async fn serve(
    args: &Args,
    mut signals: Signals,
    mut links: watch::Receiver<Arc<LinkView>>,
    station: &mut Station,
    tasks: &mut Tasks,
    mut chosen: Chosen,
    mut lease: Lease,
) -> anyhow::Result<&'static str> {
    lease.renew(station, &mut chosen)?;
    say_hello(args, station, &chosen.links(&station.view));
    let (mut renewal, mut proofs) = (ticker(args.lease / 3), ticker(PROOFS));
    let mut conflicts = ticker(CONFLICTS);
    loop {
        station.announce();
        let due = station.next_due(None);
        tokio::select! {
            biased;
            name = signals.next() => {
                lease.renew(station, &mut chosen)?;
                return Ok(name);
            }
            _ = renewal.tick() => lease.renew(station, &mut chosen)?,
            changed = links.changed() => {
                changed.context("nobody follows the links of this host any more")?;
                let now = links.borrow_and_update().clone();
                let before = std::mem::replace(&mut station.view, now);
                chosen.carry(station)?;
                let started = station.restart_links(&before);
                station.announce_on(&started);
                lease.renew(station, &mut chosen)?;
            }
            _ = proofs.tick() => {
                if station.has_failed_links() {
                    chosen.carry(station)?;
                }
                station.prove();
                station.mend();
            }
            _ = conflicts.tick() => {
                station.defend();
            }
            _ = tasks.next() => {}
            () = sleep_until(due.into()) => {}
        }
    }
}

/// The session of this process: for ever its own, so nobody else is asked.
struct Lease {
    span: Duration,
    target: Target,
}

impl Lease {
    /// Every address owned on every chosen link, and the deadline moved ahead, in that order: a stuck loop renews
    /// nothing.
    fn renew(&mut self, station: &mut Station, chosen: &mut Chosen) -> Result<(), DatapathError> {
        let carrying = station.carrying();
        let on: BTreeSet<LinkId> =
            chosen.links(&station.view).into_iter().filter(|id| carrying.contains_key(id)).collect();
        let vips: BTreeMap<_, _> = self.target.held.iter().map(|vip| (*vip, on.clone())).collect();
        self.target.deadline = BootNs::now() + self.span;
        station.follow(&self.target, NewOwners::All(Owners { vips }))
    }
}

/// The interfaces of the command line, each with the device that has, or last had, its name.
struct Chosen {
    names: BTreeSet<String>,
    known: BTreeMap<String, LinkId>,
    excludes: Excludes,
}

impl Chosen {
    fn new(names: &[String]) -> Self {
        Self { names: names.iter().cloned().collect(), known: BTreeMap::new(), excludes: Excludes::default() }
    }

    /// The links that can announce. A device that was renamed is still meant, unless another has taken its name.
    fn links(&mut self, view: &LinkView) -> BTreeSet<LinkId> {
        let mut selection =
            select(&Interfaces::Named(self.names.clone()), view, &self.excludes, &BTreeSet::new());
        for name in &selection.missing {
            let renamed = self.known.get(name).filter(|id| can_announce(**id, view));
            selection.links.extend(renamed);
        }
        for name in &self.names {
            if let Some(link) = view.named(name) {
                self.known.insert(name.clone(), link.id);
            }
        }
        selection.links
    }

    /// Puts the program on the chosen links of the station's view.
    fn carry(&mut self, station: &mut Station) -> Result<(), DatapathError> {
        let links = self.links(&station.view);
        station.carry(&links)?;
        let selection =
            select(&Interfaces::Named(self.names.clone()), &station.view, &self.excludes, &BTreeSet::new());
        let renamed = |name: &String| self.known.get(name).is_some_and(|id| links.contains(id));
        let missing = selection.missing.into_iter().filter(|name| !renamed(name));
        let missing = missing.map(|name| {
            let why = why_missing(&name).to_owned();
            (name, why)
        });
        let unfit = selection.unfit.into_iter().map(|(name, why)| (name, why.to_owned()));
        station.changes.unusable(missing.chain(unfit).collect());
        Ok(())
    }

    /// Refuses names in which nobody can answer.
    fn complain(&self, view: &LinkView) -> Result<(), Usage> {
        let selection =
            select(&Interfaces::Named(self.names.clone()), view, &self.excludes, &BTreeSet::new());
        if let Some((name, why)) = selection.unfit.first_key_value() {
            return Err(Usage(format!("cannot answer on {name}: {why}")));
        }
        let Some(name) = selection.missing.first() else { return Ok(()) };
        if Path::new("/sys/class/net").join(name).exists() {
            return Err(Usage(format!("cannot answer on {name}: it is no Ethernet interface")));
        }
        let names: Vec<&str> = view.links.values().map(|link| link.name.as_str()).collect();
        let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Err(Usage(format!(
            "there is no interface {name} (Ethernet interfaces here: {there}); --wait waits for it"
        )))
    }
}

/// A link that refuses the program at the start ends it.
fn refuse_failed(reports: &[LinkReport], mode: Mode) -> anyhow::Result<()> {
    let failed = reports.iter().find_map(|report| match &report.change {
        LinkChange::Failed(error) => Some((&report.name, error)),
        _ => None,
    });
    let Some((name, error)) = failed else { return Ok(()) };
    let why = error.cause().map(|cause| format!(": {cause}")).unwrap_or_default();
    let way_out =
        if mode == Mode::Auto || error.is_gone() { "" } else { "; --mode auto looks for another way" };
    bail!("cannot answer on {name}: {error}{why}{way_out}")
}

fn say_hello(args: &Args, station: &Station, ids: &BTreeSet<LinkId>) {
    let names =
        |ids: &BTreeSet<LinkId>| ids.iter().map(|id| station.name(*id)).collect::<Vec<_>>().join(", ");
    let vips = args.vips.iter().map(ToString::to_string).collect::<Vec<_>>();
    let (shown, more) = vips.split_at(vips.len().min(8));
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    let on = if ids.is_empty() { "no interface yet".to_owned() } else { names(ids) };
    info!(
        "answering for {}{more} on {on}; the kernel goes silent {} s after this process",
        shown.join(", "),
        args.lease.as_secs_f64()
    );
}

fn say_goodbye(args: &Args, signal: &str) {
    if args.keep {
        info!(
            "{signal}: the kernel goes on answering for {} s; `announcer uninstall` removes what is kept",
            args.lease.as_secs_f64()
        );
    } else {
        info!("{signal}: no longer answering; program, pins and multicast groups are removed");
    }
}

/// Undoes a start that was refused: what another process has kept or left goes on as it was, on its own links.
async fn give_back(mut kernel: Kernel, view: &LinkView) -> anyhow::Result<()> {
    if kernel.carried.is_empty() {
        remove(kernel.datapath.into_remains()).await?;
        return Ok(());
    }
    let before: Vec<Link> = kernel.carried.iter().filter_map(|id| view.links.get(id)).cloned().collect();
    kernel.datapath.set_links(&before)?;
    Ok(())
}

/// What ends the process in good order.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "interrupted",
            _ = self.terminate.recv() => "told to stop",
            _ = self.hangup.recv() => "hung up",
        }
    }
}

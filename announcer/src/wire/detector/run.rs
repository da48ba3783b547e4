//! The rim of the detector: sockets, netlink, and the one task that asks and listens, beside the agent's loop.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, watch},
    task::{JoinSet, yield_now},
    time::{MissedTickBehavior, interval, sleep_until, timeout},
};
use tracing::warn;

use super::{
    Detector, Pace, Silent, Watching,
    ears::{Drained, Ears},
    gateways::gateways,
};
use crate::{
    vocabulary::{Link, LinkId, Vip},
    wire::{
        frames,
        hearing::Losses,
        sender::{Sender, Transmit as _},
    },
};

/// How often routes are looked at, beside when links change.
const ROUTES: Duration = Duration::from_secs(30);
const ROUTES_TIMEOUT: Duration = Duration::from_secs(5);
/// That answers are lost is said this often at most.
const DEAF_INTERVAL: Duration = Duration::from_secs(60);
/// Nobody is watched: look again then.
const IDLE: Duration = Duration::from_secs(3600);

/// Whom to ask, and who is silent. Peers are asked while the future of [`Detection::run`] is polled.
#[derive(Clone, Debug)]
pub struct Detection {
    pace: Pace,
    losses: Losses,
    watching: watch::Sender<Watching>,
    silent: watch::Sender<Silent>,
}

impl Detection {
    /// One that watches nobody yet, and counts what it cannot hear.
    pub fn new(pace: Pace, losses: Losses) -> Self {
        Self { pace, losses, watching: watch::Sender::default(), silent: watch::Sender::default() }
    }

    /// Asks and listens for ever. Needs CAP_NET_RAW and a tokio runtime, and uses the network namespace of the threads of
    /// that. Whoever does so after one that was dropped starts anew: nobody is silent who has not been heard before.
    ///
    /// # Errors
    /// A socket cannot be opened, or what runs beside it has ended.
    pub fn run(&self) -> impl Future<Output = io::Result<()>> + Send + use<> {
        let (pace, mut watched, tell) = (self.pace, self.watching.subscribe(), self.silent.clone());
        watched.mark_changed();
        let losses = self.losses.clone();
        async move { run(Detector::new(pace), Ears::new(losses), watched, tell).await }
    }

    /// Watches these from now on.
    pub fn watch(&self, watching: Watching) {
        self.watching.send_if_modified(|now| {
            let news = *now != watching;
            if news {
                *now = watching;
            }
            news
        });
    }

    /// Who has stopped answering, and every change of that.
    pub fn silent(&self) -> watch::Receiver<Silent> {
        self.silent.subscribe()
    }
}

async fn run(
    mut detector: Detector,
    mut ears: Ears,
    mut watched: watch::Receiver<Watching>,
    tell: watch::Sender<Silent>,
) -> io::Result<()> {
    let sender = Sender::new()?;
    let (netlink, routes, _) = rtnetlink::new_connection()?;
    let (mut more, mut said_deaf) = (false, None::<Instant>);
    let mut links: BTreeMap<LinkId, Link> = BTreeMap::new();
    let (look, found) = (Arc::new(Notify::new()), watch::Sender::new(BTreeSet::new()));
    let mut gateways = found.subscribe();
    let mut beside = JoinSet::new();
    beside.spawn(netlink);
    beside.spawn(keep_gateways(routes, look.clone(), found));
    loop {
        let due = detector.next_due().unwrap_or_else(|| Instant::now() + IDLE);
        let mut asks = false;
        tokio::select! {
            changed = watched.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                let watching = watched.borrow_and_update().clone();
                if !watching.links.keys().eq(links.keys()) {
                    look.notify_one();
                }
                detector.watch(&watching, Instant::now());
                links = watching.links;
                // Who is doubted is asked now.
                asks = true;
            }
            () = yield_now(), if more => {}
            () = ears.ready(), if !more => {}
            () = sleep_until(due.into()) => asks = true,
            Ok(()) = gateways.changed() => detector.set_gateways(gateways.borrow_and_update().clone()),
            _ = beside.join_next() => return Err(io::Error::other("nobody looks at the routes any more")),
        }
        // Whoever was late, or stopped, hears first what has come meanwhile.
        let drained = ears.drain(|link, ip, mac| detector.heard(link, ip, mac, Instant::now()));
        more = drained.more;
        for link in &drained.deaf {
            detector.deaf(*link);
        }
        tell_deaf(&drained, &links, &mut said_deaf);
        let questions = if asks { detector.poll(Instant::now()) } else { Vec::new() };
        ears.follow(detector.listens_to());
        for question in questions {
            let Some(link) = links.get(&question.link) else { continue };
            let frame = frames::question(question.ip, link, question.to);
            if sender.send(question.link, &frame).is_err() {
                detector.unsent(&question);
            }
        }
        let silent = detector.silent();
        tell.send_if_modified(|told| {
            let news = told != silent;
            if news {
                told.clone_from(silent);
            }
            news
        });
    }
}

/// Says that a flood keeps answers from us: meanwhile nobody is found silent there.
fn tell_deaf(drained: &Drained, links: &BTreeMap<LinkId, Link>, said: &mut Option<Instant>) {
    if drained.deaf.is_empty() || said.is_some_and(|at| at.elapsed() < DEAF_INTERVAL) {
        return;
    }
    *said = Some(Instant::now());
    let names = drained.deaf.iter().filter_map(|link| links.get(link)).map(|link| link.name.as_str());
    warn!(
        interfaces = names.collect::<Vec<_>>().join(","),
        "More ARP or Neighbour Advertisements arrive than can be read: no node is found silent on these interfaces"
    );
}

/// Looks at the routes from time to time, and when links have changed; beside the questions, for it may take its time.
async fn keep_gateways(
    netlink: rtnetlink::Handle,
    look: Arc<Notify>,
    found: watch::Sender<BTreeSet<(LinkId, Vip)>>,
) {
    let mut routes = interval(ROUTES);
    routes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = routes.tick() => {}
            () = look.notified() => {}
        }
        match timeout(ROUTES_TIMEOUT, gateways(&netlink)).await {
            Ok(Ok(now)) => drop(found.send_replace(now)),
            Ok(Err(error)) => warn!(%error, "cannot list routes: the gateway is no witness"),
            Err(_) => warn!("listing routes took more than 5 s: the gateway is no witness"),
        }
    }
}

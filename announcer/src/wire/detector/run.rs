//! The rim of the detector: sockets, netlink, and the one task that asks and listens, beside the agent's loop.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep_until, timeout},
};
use tracing::warn;

use super::{Detector, Pace, Silent, Watching, ears::Ears, gateways::gateways};
use crate::{
    vocabulary::{Link, LinkId, Vip},
    wire::{
        frames,
        sender::{Sender, Transmit as _},
    },
};

/// How often routes are looked at, beside when links change.
const ROUTES: Duration = Duration::from_secs(30);
const ROUTES_TIMEOUT: Duration = Duration::from_secs(5);
/// Nobody is watched: look again then.
const IDLE: Duration = Duration::from_secs(3600);

/// Watches peers for as long as it lives.
#[derive(Debug)]
pub struct Detection {
    watching: watch::Sender<Watching>,
    silent: watch::Receiver<Silent>,
    _task: JoinSet<()>,
}

impl Detection {
    /// Starts it, watching nobody. Needs CAP_NET_RAW and a tokio runtime, and uses the network namespace of the threads of
    /// that.
    pub fn start(pace: Pace) -> io::Result<Self> {
        let (watching, watched) = watch::channel(Watching::default());
        let (tell, silent) = watch::channel(Silent::new());
        let (netlink, routes, _) = rtnetlink::new_connection()?;
        let mut task = JoinSet::new();
        task.spawn(netlink);
        task.spawn(run(Detector::new(pace), watched, tell, Sender::new()?, routes));
        Ok(Self { watching, silent, _task: task })
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
        self.silent.clone()
    }
}

async fn run(
    mut detector: Detector,
    mut watched: watch::Receiver<Watching>,
    tell: watch::Sender<Silent>,
    sender: Sender,
    netlink: rtnetlink::Handle,
) {
    let mut ears = Ears::default();
    let mut links: BTreeMap<LinkId, Link> = BTreeMap::new();
    let (look, found) = (Arc::new(Notify::new()), watch::Sender::new(BTreeSet::new()));
    let mut gateways = found.subscribe();
    let mut beside = JoinSet::new();
    beside.spawn(keep_gateways(netlink, look.clone(), found));
    loop {
        let due = detector.next_due().unwrap_or_else(|| Instant::now() + IDLE);
        let mut asks = false;
        tokio::select! {
            changed = watched.changed() => {
                if changed.is_err() {
                    return;
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
            () = ears.ready() => {}
            () = sleep_until(due.into()) => asks = true,
            Ok(()) = gateways.changed() => detector.set_gateways(gateways.borrow_and_update().clone()),
        }
        // Whoever was late, or stopped, hears first what has come meanwhile.
        ears.drain(|link, ip, mac| detector.heard(link, ip, mac, Instant::now()));
        let questions = if asks { detector.poll(Instant::now()) } else { Vec::new() };
        ears.follow(&detector.listens_to());
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

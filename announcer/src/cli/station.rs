//! This node on its links: the kernel's programs and entries, announcements, multicast groups, proofs, and the words for
//! them. What `agent` and `answer` have in common; who owns what, and why, is decided by them.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tracing::{error, info, warn};

use super::{
    kernel::{Followed, Kernel, NewOwners},
    tasks::{Tasks, on_thread},
};
use crate::{
    datapath::{Config, DatapathError, KernelLog, LinkChange, LinkReport, Mended, Mode, Remains},
    election::Target,
    policy::Demand,
    report::changes::{Changes, Held},
    vocabulary::{BootNs, Link, LinkId, Vip},
    wire::{
        announcements::Schedule,
        groups::{Groups, Membership, wanted},
        links::{LinkView, LinkWatch},
        sender::{Sender, send_due},
    },
};

/// Of entries that the kernel refuses at once, so many are named.
const REFUSED_NAMED: usize = 10;

/// Nothing is due: look again then.
const IDLE: Duration = Duration::from_secs(3600);

/// The tasks beside the loop.
const GROUPS: &str = "multicast-groups";
const LINKS: &str = "links";
const KERNEL_LOG: &str = "kernel-log";

/// How often and how fast to announce.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Announcing {
    /// Announce each owned address again this often, in seconds, ± 10 %; 0 = only when something changes. Keep it
    /// below the 300 s after which switches forget a MAC.
    #[arg(long, env = "ANNOUNCER_ANNOUNCE_INTERVAL", value_name = "SECONDS", default_value = "120", value_parser = super::seconds)]
    announce_interval: Duration,

    /// Announcement frames per second at most, over all links.
    #[arg(long, env = "ANNOUNCER_ANNOUNCE_RATE", value_name = "FRAMES/S", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    announce_rate: u32,
}

/// Where the program runs, and what it tells.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Attaching {
    /// Where the program is attached: `auto` takes native XDP where it helps (never on a veth), else TCX, else
    /// generic XDP.
    #[arg(long, env = "ANNOUNCER_MODE", value_name = "MODE", default_value_t = Mode::Auto, value_parser = super::mode())]
    mode: Mode,

    /// What the kernel programs log of their decisions, whatever `--log-level` says: at `debug` every request answered,
    /// fenced or suppressed, at `trace` those passed as well. For looking for a fault: a line costs more than an answer.
    #[arg(long, env = "ANNOUNCER_KERNEL_LOG", value_name = "LEVEL", value_enum, default_value_t = KernelLog::Off)]
    kernel_log: KernelLog,
}

impl Attaching {
    /// The operator's wish.
    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    /// With these pins; requests for what is owned elsewhere are dropped.
    pub(super) fn config(&self, pin_root: &Path) -> Config {
        Config {
            pin_root: pin_root.to_owned(),
            mode: self.mode,
            kernel_log: self.kernel_log,
            ..Config::default()
        }
    }
}

/// Everything between an owner table and the wire.
pub(super) struct Station {
    pub(super) node: String,
    pub(super) kernel: Kernel,
    pub(super) changes: Changes,
    /// This node's links as last seen.
    pub(super) view: Arc<LinkView>,
    /// Held, but the last proof failed.
    pub(super) unanswered: BTreeSet<(Vip, LinkId)>,
    /// Whose the addresses are, as far as that is known.
    pub(super) demand: Option<Arc<Demand>>,
    schedule: Schedule,
    sender: Sender,
    /// The solicited-node memberships wanted, for the task that keeps them.
    groups: watch::Sender<BTreeSet<Membership>>,
    /// Links that refused the program and why, so that each is said once.
    failed: BTreeSet<(LinkId, String)>,
    /// Whether it was said that the kernel is silent for a removal that it refuses.
    stuck: bool,
    /// Entries that the kernel would not write, as last said.
    refused: BTreeSet<(Vip, LinkId)>,
    /// Why pins that are missing can't be made again; `None` while everything is pinned.
    unpinned: Option<String>,
}

impl Station {
    /// `seed` of the announcements' jitter. What runs beside it is added to `tasks`.
    #[expect(clippy::too_many_arguments, reason = "each is a part of it, and it is made in two places")]
    pub(super) fn new(
        node: &str,
        mut kernel: Kernel,
        changes: Changes,
        view: Arc<LinkView>,
        sender: Sender,
        announcing: &Announcing,
        seed: u64,
        tasks: &mut Tasks,
    ) -> Self {
        if let Some(log) = kernel.datapath.kernel_log() {
            let log = Arc::new(Mutex::new(log));
            tasks.start(KERNEL_LOG, move || {
                let log = log.clone();
                on_thread(KERNEL_LOG, move |leash| {
                    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                    log.read_while(|| !leash.is_slipped()).context("the kernel's log can't be read")
                })
            });
        }
        let (groups, keep) = watch::channel(BTreeSet::new());
        let carried = kernel.carried.clone();
        tasks.start(GROUPS, move || keep_groups(carried.clone(), keep.clone()));
        let rate = NonZeroU32::new(announcing.announce_rate).unwrap_or(NonZeroU32::MIN);
        Self {
            node: node.to_owned(),
            kernel,
            changes,
            view,
            unanswered: BTreeSet::new(),
            demand: None,
            schedule: Schedule::new(rate, announcing.announce_interval, seed),
            sender,
            groups,
            failed: BTreeSet::new(),
            stuck: false,
            refused: BTreeSet::new(),
            unpinned: None,
        }
    }

    /// What an older process announced is not new, but goes on being announced from time to time.
    pub(super) fn keep_announcing(&mut self) {
        for (vip, link) in self.kernel.owned() {
            self.schedule.keep(vip, link, Instant::now());
        }
        self.groups.send_modify(|groups| *groups = wanted(self.kernel.owned()));
    }

    /// Makes the kernel match `target` and `owners`, and starts or ends announcing what that changed.
    pub(super) fn follow(&mut self, target: &Target, owners: NewOwners) -> Result<(), DatapathError> {
        let all = matches!(owners, NewOwners::All(_));
        let applied = match self.kernel.follow(target, owners)? {
            Followed::Already | Followed::Silent(None) => return Ok(()),
            Followed::Silent(Some(error)) => {
                if !std::mem::replace(&mut self.stuck, true) {
                    self.changes.stuck(&error.in_a_line());
                }
                return Ok(());
            }
            Followed::Done(applied) => applied,
        };
        if std::mem::take(&mut self.stuck) {
            self.changes.unstuck();
        }
        self.tell_refused();
        // What the kernel's log tells comes from a new ring once the tables have grown.
        if let Some(mut log) = self.kernel.datapath.kernel_log() {
            let read = move || log.read_while(|| true);
            if let Err(error) = std::thread::Builder::new().name(KERNEL_LOG.to_owned()).spawn(read) {
                warn!(%error, "The kernel's log can't be read any more");
            }
        }
        let now = Instant::now();
        let mut with_groups = applied.lost.iter().chain(&applied.gained).any(|(vip, _)| vip.ip().is_ipv6());
        with_groups |= all;
        for (vip, link) in applied.lost {
            self.schedule.withdraw(vip, link);
            self.unanswered.remove(&(vip, link));
        }
        for (vip, link) in &applied.gained {
            self.schedule.announce(*vip, *link, now);
        }
        if with_groups {
            self.groups.send_if_modified(|groups| replace(groups, wanted(self.kernel.owned())));
        }
        // The others are proven from time to time: of a thousand that come in one after the other, each once.
        self.prove_these(applied.gained);
        Ok(())
    }

    /// Says which entries the kernel would not write, each once, and how many there are in all.
    fn tell_refused(&mut self) {
        let refused = self.kernel.refused();
        let news: Vec<_> = refused.keys().filter(|entry| !self.refused.contains(*entry)).copied().collect();
        for (vip, link) in news.iter().take(REFUSED_NAMED) {
            self.changes.refused(&self.held(*vip), &self.name(*link), &refused[&(*vip, *link)].to_string());
        }
        if news.len() > REFUSED_NAMED {
            error!(
                node = self.node,
                entries = refused.len(),
                "The kernel refused more entries than are named here"
            );
        }
        if !self.refused.is_empty() && refused.is_empty() {
            info!(node = self.node, "The kernel took all entries that it had refused");
        }
        self.refused = refused.keys().copied().collect();
    }

    /// Puts the program on these links and takes it off all others.
    pub(super) fn carry(&mut self, links: &BTreeSet<LinkId>) -> Result<(), DatapathError> {
        let links: Vec<_> = links.iter().filter_map(|id| self.view.links.get(id)).cloned().collect();
        let reports = self.kernel.datapath.set_links(&links)?;
        self.tell_links(&reports);
        Ok(())
    }

    /// The links that carry the program.
    pub(super) fn carrying(&self) -> BTreeMap<LinkId, Link> {
        let attached = self.kernel.datapath.attachments();
        self.view
            .links
            .iter()
            .filter(|(id, _)| attached.contains_key(id))
            .map(|(id, l)| (*id, l.clone()))
            .collect()
    }

    /// After the view has changed from `before`, and the program is where it belongs: on links that have started anew the
    /// groups are joined again. Which they are: what is owned there is to be announced again.
    pub(super) fn restart_links(&mut self, before: &LinkView) -> BTreeSet<LinkId> {
        let carrying = self.kernel.datapath.attachments();
        for id in carrying.keys() {
            match (before.links.get(id), self.view.links.get(id)) {
                (Some(old), Some(new)) if old.carrier && !new.carrier => self.changes.link_down(&new.name),
                (Some(old), Some(new)) if !old.carrier && new.carrier => {
                    self.changes.link_up(&new.name, new.mac)
                }
                _ => {}
            }
        }
        let started = self.view.started_since(before);
        for gone in before.links.keys().filter(|id| !self.view.links.contains_key(id)) {
            self.schedule.link_gone(*gone);
        }
        if !started.is_empty() {
            // Look again even if the same are wanted: a link that was made anew has none.
            self.groups.send_modify(|_| ());
        }
        let carried = |link: &LinkId| self.kernel.datapath.attachments().contains_key(link);
        started.into_iter().filter(carried).collect()
    }

    /// Announces again what is owned on these links.
    pub(super) fn announce_on(&mut self, links: &BTreeSet<LinkId>) {
        links.iter().for_each(|link| self.schedule.link_up(*link, Instant::now()));
    }

    /// Whether a link refused the program: whoever held its hook may be gone by now.
    pub(super) fn has_failed_links(&self) -> bool {
        !self.failed.is_empty()
    }

    /// Says what happened to links, a refusal once.
    pub(super) fn tell_links(&mut self, reports: &[LinkReport]) {
        let mut failed = BTreeSet::new();
        let mut attached = Vec::new();
        for LinkReport { link, name, change } in reports {
            match change {
                // The next view of the links will say so.
                LinkChange::Failed(error) if error.is_gone() => {}
                LinkChange::Failed(error) => {
                    let key = (*link, error.to_string());
                    if !self.failed.contains(&key) {
                        let cause = error.cause();
                        error!(node = self.node, interface = name, %error, cause, "cannot attach the program");
                    }
                    failed.insert(key);
                }
                LinkChange::MacChanged { mac } => self.changes.link_mac_changed(name, *mac),
                LinkChange::Detached => self.changes.link_gone(name),
                LinkChange::Attached { attachment, why: Some(why) } => {
                    attached.push(format!("{name} ({attachment}: {why})"));
                }
                LinkChange::Attached { attachment, why: None } => {
                    attached.push(format!("{name} ({attachment})"))
                }
                LinkChange::Adopted { attachment } => {
                    attached.push(format!("{name} ({attachment}, adopted)"))
                }
            }
        }
        self.failed = failed;
        if !attached.is_empty() {
            self.changes.attached(&attached);
        }
    }

    /// Runs the live program on a request for each held VIP, on each of its links, while the deadline is ahead.
    pub(super) fn prove(&mut self) {
        let owned: BTreeSet<_> = self.kernel.owned().collect();
        self.unanswered.retain(|one| owned.contains(one));
        self.prove_these(owned);
    }

    fn prove_these(&mut self, which: BTreeSet<(Vip, LinkId)>) {
        if self.kernel.datapath.deadline() <= BootNs::now() {
            return;
        }
        for (vip, link) in which {
            let name = self.name(link);
            let reason = match self.kernel.datapath.prove(vip, link) {
                Ok(true) => {
                    if self.unanswered.remove(&(vip, link)) {
                        self.changes.answered_again(&self.held(vip), &name);
                    }
                    continue;
                }
                Ok(false) => "the program did not answer a synthetic request".to_owned(),
                Err(error) => error.to_string(),
            };
            if self.unanswered.insert((vip, link)) {
                self.changes.unanswered(&self.held(vip), &name, &reason);
            }
        }
    }

    /// Looks whether what the next process needs is still pinned, and pins it again if not; how many pins that were.
    pub(super) fn mend(&mut self) -> usize {
        let Mended { pins, failed } = self.kernel.datapath.mend_pins();
        let failed = failed.map(|error| error.in_a_line());
        if let Some(first) = pins.first() {
            let (node, pin, count) = (&self.node, first.display(), pins.len());
            warn!(node, %pin, count, "Pins were missing under the running process; they are made again");
        }
        if failed != self.unpinned {
            match &failed {
                Some(error) => {
                    error!(
                        node = self.node,
                        error, "Pins are missing, and can't be made again: a restart would cost an outage"
                    );
                }
                None => info!(node = self.node, "Everything is pinned again"),
            }
            self.unpinned = failed;
        }
        pins.len()
    }

    /// Why pins that are missing can't be made again.
    pub(super) fn unpinned(&self) -> Option<&str> {
        self.unpinned.as_deref()
    }

    /// Reports other hosts that claimed a held VIP, and announces it again (RFC 5227 §2.4 (c)). Which of them
    /// are answered for here.
    pub(super) fn defend(&mut self) -> BTreeSet<Vip> {
        let mut contested = BTreeSet::new();
        for seen in self.kernel.drain_conflicts() {
            let (held, name) = (self.held(seen.vip), self.name(seen.link));
            self.changes.conflict(&held, &name, seen.mac, Instant::now());
            if self.kernel.datapath.entry_live(seen.vip, seen.link) {
                self.schedule.defend(seen.vip, seen.link, Instant::now());
                contested.insert(seen.vip);
            }
        }
        contested
    }

    /// Sends the announcements that are due, each only if entry, epoch and deadline still allow it; returns frames sent
    /// per VIP.
    pub(super) fn announce(&mut self) -> BTreeMap<Vip, u32> {
        let (kernel, links) = (&self.kernel, &self.view.links);
        let may = |vip, link| kernel.datapath.entry_live(vip, link);
        let sent = send_due(&self.sender, &mut self.schedule, Instant::now(), links, may);
        for (vip, link) in sent.first {
            if let Some(link) = links.get(&link) {
                self.changes.announced(&self.held(vip), &link.name, link.mac);
            }
        }
        for (vip, link, error) in sent.failed {
            warn!(ip = %vip, link = link.0, %error, "cannot announce");
        }
        sent.frames
    }

    /// Lets go of the kernel, which goes on as it was told, once no membership is being changed any more. What is pinned
    /// stays locked.
    pub(super) async fn close(self, tasks: &mut Tasks) -> Remains {
        drop(self.groups);
        tasks.finish(GROUPS).await;
        self.kernel.datapath.into_remains()
    }

    /// When something is due without anything having happened; `also`: what its owner waits for.
    pub(super) fn next_due(&self, also: Option<Instant>) -> Instant {
        also.into_iter().chain(self.schedule.next_due()).fold(Instant::now() + IDLE, Instant::min)
    }

    /// For whom an address is held and by which session, for a log line. A session that no Lease has has no epoch.
    fn held(&self, vip: Vip) -> Held {
        let wanted = self.demand.as_ref().and_then(|demand| demand.vips.get(&vip));
        let session = self.kernel.target().session.as_ref().filter(|_| self.demand.is_some());
        Held {
            vip,
            services: wanted.map(|wanted| wanted.services.clone()),
            epoch: session.map(|(_, epoch)| *epoch),
        }
    }

    /// The interface's name, or its ifindex if it is gone.
    pub(super) fn name(&self, link: LinkId) -> String {
        self.view.links.get(&link).map_or_else(|| link.to_string(), |link| link.name.clone())
    }
}

fn replace<T: PartialEq>(place: &mut T, value: T) -> bool {
    let changed = *place != value;
    *place = value;
    changed
}

/// Follows the links beside the loop.
pub(super) fn follow(links: LinkWatch, tasks: &mut Tasks) {
    tasks.start(LINKS, move || {
        let following = links.follow();
        async move { match following.await {} }
    });
}

/// Keeps the memberships as wanted, beside the loop: netlink may take its time. `links`: see [`Groups::open`].
async fn keep_groups(
    links: BTreeSet<LinkId>,
    wanted: watch::Receiver<BTreeSet<Membership>>,
) -> anyhow::Result<()> {
    Groups::open(links)?.keep(wanted).await;
    Ok(())
}

/// What announcements leave by; opened before anything is changed.
pub(super) fn sender() -> anyhow::Result<Sender> {
    Sender::new().context("cannot open a packet socket: CAP_NET_RAW is needed")
}

/// A ticker that does not hurry to make up for what it missed.
pub(super) fn ticker(every: Duration) -> tokio::time::Interval {
    let mut ticker = interval(every);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticker
}

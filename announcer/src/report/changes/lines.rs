//! The lines themselves: one method each, in the order of the table above.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use tracing::{error, info, warn};

use super::{
    Changes, Gain, Held, Loss, Summary, announcement_sent,
    limits::{Every, Often},
    list,
};
use crate::{
    policy::LeftOut,
    report::build::Build,
    vocabulary::{Mac, Vip},
};

const CONFLICT_INTERVAL: Duration = Duration::from_secs(60);
const SUMMARY_INTERVAL: Duration = Duration::from_secs(600);

impl Changes {
    /// Speaks for `node`; the first summary is due ten minutes after `now`.
    pub fn new(node: impl Into<String>, now: Instant) -> Self {
        Self {
            node: node.into(),
            conflicts: Often::new(CONFLICT_INTERVAL),
            summary: Every::new(SUMMARY_INTERVAL, now),
            unusable: BTreeSet::new(),
            left_out: BTreeMap::new(),
        }
    }

    /// The process runs.
    pub fn started(&self, kernel: &str) {
        let build @ Build { version, commit: _, dirty: _, rustc, linker, target, object_sha256 } =
            Build::this();
        let (commit, object) = (build.commit_text(), object_sha256);
        info!(node = self.node, version, kernel, commit, rustc, linker, target, object, "announcer started");
    }

    /// The first links carry the program; each as `name (mode)`.
    pub fn attached(&self, interfaces: &[String]) {
        info!(node = self.node, interfaces = list(interfaces), "programs attached");
    }

    /// The first complete view of the cluster.
    pub fn synced(&self, services: usize, nodes: usize) {
        info!(node = self.node, services, nodes, "cluster synced");
    }

    /// This node's session is live; `adopted` addresses were kept from before a restart.
    pub fn joined(&self, epoch: u64, adopted: usize) {
        info!(node = self.node, epoch, adopted, "leader election joined");
    }

    /// This node took `vip`, and its kernel answers on `interfaces`.
    pub fn gained(
        &self,
        vip: Vip,
        services: &BTreeSet<String>,
        interfaces: &BTreeSet<String>,
        why: &Gain,
        epoch: u64,
    ) {
        let (service, interface) = (list(services), list(interfaces));
        info!(ip = %vip, node = self.node, service, interface, reason = %why, epoch, "announcing");
    }

    /// The first announcement of an address left on `interface`: `wire::sender::Sent::first`.
    pub fn announced(&self, held: &Held, interface: &str, mac: Mac) {
        let (vip, service, epoch) = (held.vip, held.service(), held.epoch);
        info!(ip = %vip, node = self.node, service, interface, mac = %mac, epoch, "{}", announcement_sent(vip));
    }

    /// This node no longer answers for `vip`, which it held under `epoch`.
    pub fn lost(&self, vip: Vip, services: &BTreeSet<String>, why: &Loss, epoch: u64) {
        info!(ip = %vip, node = self.node, service = list(services), reason = %why, epoch, "withdrawn");
    }

    /// This node ended the session of `from`, whose `ips` addresses are free now.
    pub fn fenced_other(&self, from: &str, epoch: u64, ips: usize, reason: &str) {
        warn!(from, node = self.node, epoch, ips, reason, "failover: silent node fenced");
    }

    /// Another node ended this one's session, with `ips` addresses.
    pub fn fenced_here(&self, epoch: u64, ips: usize) {
        warn!(node = self.node, epoch, ips, "fenced: another node ended this session");
    }

    /// The deadline passed: the kernel is silent, though nobody has taken the `ips` addresses yet.
    pub fn lease_ran_out(&self, ips: usize) {
        warn!(node = self.node, ips, "not answering: the lease ran out");
    }

    /// A renewal came through after all.
    pub fn lease_renewed(&self, ips: usize) {
        info!(node = self.node, ips, "answering again: the lease is renewed");
    }

    /// The running program would not answer for an address that this node holds.
    pub fn unanswered(&self, held: &Held, interface: &str, reason: &str) {
        let (vip, service, epoch) = (held.vip, held.service(), held.epoch);
        error!(ip = %vip, node = self.node, service, interface, reason, epoch, "held but not answered");
    }

    /// The kernel would not let go of an entry: nothing at all is answered until it does.
    pub fn stuck(&self, reason: &str) {
        error!(node = self.node, reason, "not answering: the kernel refused to give up an address");
    }

    /// It did.
    pub fn unstuck(&self) {
        info!(node = self.node, "answering again: the kernel gave up what it had refused to");
    }

    /// The kernel would not write an entry, so that this address is not answered for, or not kept from this node's own
    /// stack, on `interface`.
    pub fn refused(&self, held: &Held, interface: &str, reason: &str) {
        let (vip, service, epoch) = (held.vip, held.service(), held.epoch);
        error!(ip = %vip, node = self.node, service, interface, reason, epoch, "entry refused by the kernel");
    }

    /// It would again.
    pub fn answered_again(&self, held: &Held, interface: &str) {
        let (vip, service, epoch) = (held.vip, held.service(), held.epoch);
        info!(ip = %vip, node = self.node, service, interface, epoch, "answered again");
    }

    /// A foreign host claimed an address on the wire; told once a minute per address and MAC.
    pub fn conflict(&mut self, held: &Held, interface: &str, mac: Mac, now: Instant) {
        let vip = held.vip;
        if self.conflicts.tell(vip, mac, now) {
            let (service, epoch) = (held.service(), held.epoch);
            warn!(ip = %vip, node = self.node, service, interface, mac = %mac, epoch, "another host claims this address");
        }
    }

    /// An announcing link has carrier (again).
    pub fn link_up(&self, interface: &str, mac: Mac) {
        info!(interface, node = self.node, mac = %mac, "link up");
    }

    /// It lost its carrier.
    pub fn link_down(&self, interface: &str) {
        info!(interface, node = self.node, "link down");
    }

    /// It has another hardware address.
    pub fn link_mac_changed(&self, interface: &str, mac: Mac) {
        info!(interface, node = self.node, mac = %mac, "link MAC changed");
    }

    /// It was removed, or is no longer one to announce on.
    pub fn link_gone(&self, interface: &str) {
        info!(interface, node = self.node, "link gone");
    }

    /// All names that advertisements give in vain, with the reason; each is told once, and again after it was usable.
    pub fn unusable(&mut self, names: BTreeSet<(String, String)>) {
        for (interface, reason) in names.difference(&self.unusable) {
            warn!(interface, node = self.node, reason, "interface not usable");
        }
        self.unusable = names;
    }

    /// These links have an address and announce nothing by themselves; told when that is new.
    pub fn left_out(&mut self, links: &BTreeMap<String, LeftOut>) {
        for (interface, why) in links.iter().filter(|(link, why)| self.left_out.get(*link) != Some(why)) {
            info!(interface, node = self.node, reason = why.words(), "interface does not announce");
        }
        self.left_out.clone_from(links);
    }

    /// When [`Self::summary`] speaks next.
    pub fn summary_due(&self) -> Instant {
        self.summary.next()
    }

    /// The state, in one line every ten minutes; silent before.
    pub fn summary(&mut self, now: Instant, summary: &Summary) {
        if !self.summary.tell(now) {
            return;
        }
        let Summary { announcing, addresses, unanswered, nodes, live, epoch } = *summary;
        let state = if live { "live" } else { "not live" };
        info!(
            node = self.node,
            announcing,
            addresses,
            unanswered,
            nodes,
            epoch,
            "announcing {announcing} of {addresses} addresses; leader election {state}"
        );
    }
}

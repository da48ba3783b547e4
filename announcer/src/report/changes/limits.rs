//! How often a line may repeat. Pure: the time is passed in.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::vocabulary::{Mac, Vip};

/// Beyond this many hosts that claim one address in an interval, a flood is told by its first ones only. It leaves every
/// other address its own.
const HOSTS: usize = 10;

/// Once per interval for each address and host.
#[derive(Debug)]
pub(super) struct Often {
    interval: Duration,
    told: BTreeMap<Vip, BTreeMap<Mac, Instant>>,
    /// When addresses of which nothing is remembered are forgotten next.
    tidy: Option<Instant>,
}

/// Once per interval, the first time after one.
#[derive(Debug)]
pub(super) struct Every {
    interval: Duration,
    next: Instant,
}

impl Often {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, told: BTreeMap::new(), tidy: None }
    }

    pub(super) fn tell(&mut self, vip: Vip, mac: Mac, now: Instant) -> bool {
        let interval = self.interval;
        let recent = |at: &Instant| now.saturating_duration_since(*at) < interval;
        if self.tidy.is_none_or(|due| due <= now) {
            self.tidy = Some(now + interval);
            self.told.retain(|_, hosts| hosts.values().any(recent));
        }
        let hosts = self.told.entry(vip).or_default();
        hosts.retain(|_, at| recent(at));
        if hosts.contains_key(&mac) || hosts.len() >= HOSTS {
            return false;
        }
        hosts.insert(mac, now);
        true
    }
}

impl Every {
    pub(super) fn new(interval: Duration, now: Instant) -> Self {
        Self { interval, next: now + interval }
    }

    pub(super) fn tell(&mut self, now: Instant) -> bool {
        if now < self.next {
            return false;
        }
        self.next = now + self.interval;
        true
    }

    pub(super) fn next(&self) -> Instant {
        self.next
    }
}

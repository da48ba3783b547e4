//! How often a line may repeat. Pure: the time is passed in.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::vocabulary::{Mac, Vip};

/// Beyond this many different claims in a minute, a flood is told by its first ones only.
const REMEMBERED: usize = 1000;

/// Once per interval for each subject.
#[derive(Debug)]
pub(super) struct Often {
    interval: Duration,
    told: BTreeMap<(Vip, Mac), Instant>,
}

/// Once per interval, the first time after one.
#[derive(Debug)]
pub(super) struct Every {
    interval: Duration,
    next: Instant,
}

impl Often {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, told: BTreeMap::new() }
    }

    pub(super) fn tell(&mut self, vip: Vip, mac: Mac, now: Instant) -> bool {
        let interval = self.interval;
        self.told.retain(|_, at| now.saturating_duration_since(*at) < interval);
        if self.told.contains_key(&(vip, mac)) || self.told.len() >= REMEMBERED {
            return false;
        }
        self.told.insert((vip, mac), now);
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

//! How long a failing watch waits before it tries again.

use std::{
    hash::{BuildHasher, RandomState},
    time::{Duration, Instant},
};

const FIRST: Duration = Duration::from_millis(500);
/// kube's default is 30 s; custom resources or rights that an operator adds should be seen sooner.
const LONGEST: Duration = Duration::from_secs(15);
/// Failures this far apart have nothing to do with each other.
const FORGET: Duration = Duration::from_secs(60);

/// Doubles from 0.5 s to 15 s, up to a quarter less so that agents spread out, and starts over after a quiet minute.
///
/// A success does not reset it: a list that begins is one, and may fail again and again.
#[derive(Debug, Default)]
pub(super) struct WatchBackoff {
    last: Option<(Instant, Duration)>,
}

impl WatchBackoff {
    /// How long to wait after a failure now.
    pub(super) fn wait(&mut self) -> Duration {
        let wait = self.after(Instant::now());
        let spread = u32::try_from(RandomState::new().hash_one(0) % 256).unwrap_or(0);
        wait - wait * spread / 1024
    }

    /// The full wait after a failure at `now`.
    fn after(&mut self, now: Instant) -> Duration {
        let wait = match self.last {
            Some((at, wait)) if now.duration_since(at) < FORGET + wait => (wait * 2).min(LONGEST),
            _ => FIRST,
        };
        self.last = Some((now, wait));
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_the_longest() {
        let (mut backoff, start) = (WatchBackoff::default(), Instant::now());
        let waits: Vec<_> = (0..7).map(|_| backoff.after(start).as_millis()).collect();
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000]);
    }

    #[test]
    fn a_failure_after_a_quiet_minute_starts_over() {
        let (mut backoff, start) = (WatchBackoff::default(), Instant::now());
        backoff.after(start);
        assert_eq!(backoff.after(start + FORGET + FIRST), FIRST);
    }
}

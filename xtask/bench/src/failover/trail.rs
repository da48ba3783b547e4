//! Numbered things that were sent, which of them arrived, and what that says about a time without delivery.

use std::time::{Duration, UNIX_EPOCH};

/// What arrives later than this was of no use to whoever waited for it.
const LATE: Duration = Duration::from_millis(50);

/// Times of the wall clock, by number.
#[derive(Clone, Debug, Default)]
pub struct Trail {
    /// When each was sent.
    pub sent: Vec<Duration>,
    /// When each arrived first, if it did. May be shorter than `sent`.
    pub arrived: Vec<Option<Duration>>,
}

/// What a trail says about a window of time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outage {
    /// The longest stretch undelivered: from the sending of the first that did not arrive in time to that of the next
    /// that did, or to the window's end.
    pub longest: Duration,
    /// When that began, by the wall clock.
    pub since: Duration,
    /// How many never arrived.
    pub lost: usize,
    /// How many arrived too late to count.
    pub late: usize,
    /// The longest time between two sendings: nothing shorter than that is sure to be seen.
    pub resolution: Duration,
}

/// The wall clock, as the kernel stamps frames.
pub fn now() -> Duration {
    UNIX_EPOCH.elapsed().unwrap_or_default()
}

/// To the microsecond: that is what the clocks are good for.
pub fn milliseconds(time: std::time::Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

impl Trail {
    /// Notes an arrival; the first one counts.
    pub fn arrives(&mut self, number: usize, at: Duration) {
        if self.arrived.len() <= number {
            self.arrived.resize(number + 1, None);
        }
        self.arrived[number].get_or_insert(at);
    }

    /// Of what was sent between two times.
    pub fn outage(&self, from: Duration, to: Duration) -> Outage {
        let mut outage = Outage::default();
        let (mut dark_since, mut before) = (None, None);
        for (number, at) in self.sent.iter().enumerate().filter(|(_, at)| (from..to).contains(*at)) {
            let gap = before.replace(*at).map_or(Duration::ZERO, |before| at.saturating_sub(before));
            outage.resolution = outage.resolution.max(gap);
            let took = self.arrived.get(number).copied().flatten().map(|arrived| arrived.saturating_sub(*at));
            match took {
                Some(took) if took <= LATE => {
                    let since = dark_since.take().unwrap_or(*at);
                    outage.note(since, *at);
                }
                missed => {
                    dark_since.get_or_insert(*at);
                    *(if missed.is_some() { &mut outage.late } else { &mut outage.lost }) += 1;
                }
            }
        }
        let since = dark_since.unwrap_or(to);
        outage.note(since, to);
        outage
    }
}

impl Outage {
    fn note(&mut self, since: Duration, until: Duration) {
        let dark = until.saturating_sub(since);
        if dark > self.longest {
            (self.longest, self.since) = (dark, since);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn trail(arrives: impl Fn(u32) -> Option<Duration>) -> Trail {
        let mut trail = Trail { sent: (0..100).map(|number| MS * number).collect(), ..Trail::default() };
        for number in 0..100 {
            if let Some(at) = arrives(number) {
                trail.arrives(number as usize, at);
            }
        }
        trail
    }

    #[test]
    fn a_stretch_without_delivery_is_as_long_as_its_packets_are_apart() {
        let trail = trail(|number| (!(20..50).contains(&number)).then_some(MS * number));
        let expected = Outage { longest: MS * 30, since: MS * 20, lost: 30, late: 0, resolution: MS };
        assert_eq!(trail.outage(Duration::ZERO, MS * 100), expected);
        let none = Outage { longest: Duration::ZERO, since: Duration::ZERO, lost: 0, ..expected };
        assert_eq!(trail.outage(MS * 60, MS * 100), none);
    }

    #[test]
    fn what_is_never_delivered_again_is_dark_to_the_end() {
        let trail = trail(|number| (number < 20).then_some(MS * number));
        assert_eq!(trail.outage(Duration::ZERO, MS * 90).longest, MS * 70);
    }

    #[test]
    fn what_arrives_late_is_not_lost_but_dark() {
        let trail = trail(|number| Some(if number == 7 { MS * 80 } else { MS * number }));
        let expected = Outage { longest: MS, since: MS * 7, lost: 0, late: 1, resolution: MS };
        assert_eq!(trail.outage(Duration::ZERO, MS * 100), expected);
    }
}

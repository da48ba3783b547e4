//! The protocol's times, all derived from the number of nodes.

use std::time::Duration;

/// The longest lease any session may be written with: a constant of the protocol, so that an observer that has
/// never seen a session still knows how long it may answer.
pub const D_MAX: Duration = Duration::from_secs(60);

/// How long rank k waits for rank k − 1, times k.
pub const RANK_STEP: Duration = Duration::from_secs(1);

/// How much longer for each VIP that may be taken: a thousand are not taken at once.
pub const RANK_STEP_PER_OPEN: Duration = Duration::from_millis(2);

/// How long a fresh cluster (no claim at all) waits for the sessions of its other nodes.
pub const SETTLE: Duration = Duration::from_secs(5);

/// How long the fenced session of a deleted Node is kept.
pub const SESSION_KEPT: Duration = Duration::from_secs(3600);

/// How long a request may take. Well below D − M, so that several fit into one lease.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a write may take after one that had no answer in that time. To give a request up is to undo it: its connection closes, and
/// the API server makes no write for somebody who has gone. Two still fit into one lease.
#[cfg(any(test, not(simulation)))]
pub const LONG_TIMEOUT: Duration = Duration::from_secs(6);

/// The same of a complete list: it may have left the server so long before it came.
pub const LISTED_WITHIN: Duration = REQUEST_TIMEOUT.saturating_mul(3);

/// Renewal interval, lease duration and margin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Times {
    /// R: a session is renewed this often, ± 10 %.
    pub renew: Duration,
    /// D = 3R, in whole seconds: observers fence after this much silence.
    pub lease: Duration,
    /// M = max(1 s, D/10): the owner's kernel goes silent this much earlier.
    pub margin: Duration,
}

impl Times {
    /// R = nodes/20 s, at least 5 s and at most 20 s, so that the API server sees at most 20 renewals a second
    /// up to 400 nodes.
    pub fn for_nodes(nodes: usize) -> Self {
        Self::for_renewal(Duration::from_millis((nodes as u64).saturating_mul(50)))
    }

    /// As a session with this lease has them, within the same bounds.
    pub(super) fn for_lease(lease: Duration) -> Self {
        Self::for_renewal(lease / 3)
    }

    fn for_renewal(renew: Duration) -> Self {
        let renew = renew.clamp(Duration::from_secs(5), Duration::from_secs(20));
        let lease = Duration::from_secs((renew * 3).as_millis().div_ceil(1000) as u64).min(D_MAX);
        Self { renew, lease, margin: (lease / 10).max(Duration::from_secs(1)) }
    }

    /// How long after the boot time of an attempt the kernel may answer: D − M.
    pub fn answer_for(&self) -> Duration {
        self.lease - self.margin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_cluster_renews_every_five_seconds_and_fences_after_fifteen() {
        let times = Times::for_nodes(3);
        assert_eq!((times.renew, times.lease), (Duration::from_secs(5), Duration::from_secs(15)));
        assert_eq!(times.answer_for(), Duration::from_millis(13_500));
    }

    #[test]
    fn no_cluster_is_large_enough_to_pass_the_longest_lease() {
        assert_eq!(Times::for_nodes(1_000_000).lease, D_MAX);
    }
}

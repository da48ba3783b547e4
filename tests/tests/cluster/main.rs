//! Announcer on real clusters: the user's own manifests and commands, and what must not happen when things break.
//! Run by `cargo xtask test cluster` and `… faults`, which build the image.

mod admission;
mod bare;
mod faults;
mod policy;
mod processes;
mod restarts;
mod scenario;
mod untouched_base;
mod watch;

use std::{net::IpAddr, time::Duration};

use announcer_tests::{Verdict, product::FIRST_VIP};

/// Replies to one broadcast question arrive within a millisecond; questions are 20 ms apart.
const ONE_QUESTION: Duration = Duration::from_millis(10);

/// Nobody else answers while somebody does, nobody announces an address after another has begun to answer for it, and
/// none goes back and forth: `owners` in order, each once.
fn assert_one_owner_at_a_time(verdict: &Verdict, vip: IpAddr, owners: &[[u8; 6]]) {
    let story = verdict.summary();
    let mut two = verdict.two_macs_within(ONE_QUESTION);
    two.retain(|(one, _)| one.vip == vip);
    assert!(two.is_empty(), "two MACs answered one question: {two:?}\n{story}");
    let stale = verdict.stale_announcements(vip);
    assert!(stale.is_empty(), "announced by who had lost it: {stale:?}\n{story}");
    let seen: Vec<[u8; 6]> = verdict.owners(vip).iter().map(|answer| answer.mac).collect();
    assert_eq!(seen, owners, "{story}");
}

/// Every question was answered.
fn assert_no_answer_lost(verdict: &Verdict) {
    let asked = verdict.asked[&FIRST_VIP];
    let answered = verdict.answered(FIRST_VIP).count() as u64;
    // The last question may still be on its way when the judge stops.
    assert!(asked - answered <= 1, "{}", verdict.summary());
}

//! Every interleaving of the protocol in small worlds (`DESIGN` §5): with all rules nothing goes wrong, and without any
//! one of them two kernels answer. `reference/ownership-attacks.md` tells the stories.

mod early;
mod protocol;
mod search;

use protocol::{Budget, Rules, World};
use search::{Outcome, explore};

const LIMIT: usize = 30_000_000;

fn world(ends: u8, budget: Budget) -> World {
    World { rules: Rules::ALL, observers: 1, ends, lease: 3, budget }
}

fn holds(world: &World) {
    match explore(world, LIMIT) {
        Outcome::Exhausted { states } => println!(
            "{states} states, until {} with a lease of {}, {:?}",
            world.ends, world.lease, world.budget
        ),
        Outcome::Broken { states, story } => panic!("broken after {states} states\n{story}"),
        Outcome::TooMany { states } => panic!("more than {states} states"),
    }
}

/// The shortest story without a rule.
fn breaks(without: &str, world: &World) {
    match explore(world, LIMIT) {
        Outcome::Broken { states, story } => println!("{without}: found after {states} states\n{story}\n"),
        other => panic!("{without}: not found, {other:?}"),
    }
}

const NOTHING: Budget = Budget {
    writes: 0,
    releases: 0,
    returns: 0,
    kills: 0,
    reboots: 0,
    slow: 0,
    shorter: 0,
    deleted_sessions: 0,
    deleted_claims: 0,
    twice: 0,
    heirs: 0,
    leaves: 0,
};

// === with every rule ===

#[test]
fn lost_late_and_repeated_requests_break_nothing() {
    holds(&world(6, Budget { writes: 2, twice: 1, ..NOTHING }));
    holds(&world(5, Budget { writes: 3, ..NOTHING }));
}

#[test]
fn an_address_handed_to_and_fro_is_answered_once() {
    holds(&world(5, Budget { writes: 2, releases: 1, returns: 1, ..NOTHING }));
}

#[test]
fn an_agent_that_is_killed_anywhere_and_adopts_answers_alone() {
    holds(&world(6, Budget { writes: 2, kills: 1, ..NOTHING }));
}

#[test]
fn a_machine_that_reboots_anywhere_answers_alone() {
    holds(&world(6, Budget { writes: 2, reboots: 1, ..NOTHING }));
}

#[test]
fn a_clock_that_is_slow_within_the_margin_breaks_nothing() {
    holds(&world(6, Budget { writes: 2, slow: 1, ..NOTHING }));
}

#[test]
fn a_lease_that_gets_shorter_breaks_nothing() {
    holds(&World { lease: 4, ..world(7, Budget { writes: 2, shorter: 1, ..NOTHING }) });
}

#[test]
fn a_session_deleted_by_hand_breaks_nothing() {
    holds(&world(6, Budget { writes: 2, deleted_sessions: 1, ..NOTHING }));
}

#[test]
fn a_claim_deleted_by_hand_breaks_nothing() {
    holds(&world(6, Budget { writes: 1, deleted_claims: 1, ..NOTHING }));
}

#[test]
fn two_observers_break_nothing() {
    holds(&World { observers: 2, ..world(5, Budget { writes: 1, ..NOTHING }) });
}

#[test]
fn a_claim_that_is_inherited_is_answered_once() {
    holds(&World { observers: 2, ..world(4, Budget { writes: 2, releases: 1, heirs: 1, ..NOTHING }) });
    holds(&world(5, Budget { writes: 2, kills: 1, heirs: 1, ..NOTHING }));
}

#[test]
fn an_heir_that_fails_inherits_or_not_and_answers_alone() {
    holds(&world(4, Budget { writes: 3, releases: 1, returns: 1, heirs: 1, ..NOTHING }));
}

#[test]
fn a_node_that_ends_its_own_epoch_answers_no_more() {
    holds(&world(5, Budget { writes: 3, leaves: 1, ..NOTHING }));
    holds(&world(5, Budget { writes: 2, leaves: 1, kills: 1, ..NOTHING }));
    holds(&World { observers: 2, ..world(3, Budget { writes: 2, heirs: 1, leaves: 1, ..NOTHING }) });
}

// === larger worlds: cargo xtask sim --exhaustive ===

#[test]
#[ignore = "minutes and gigabytes: cargo xtask sim --exhaustive"]
fn larger_worlds_break_nothing() {
    holds(&world(7, Budget { writes: 3, twice: 1, ..NOTHING }));
    holds(&world(6, Budget { writes: 3, releases: 1, returns: 1, ..NOTHING }));
    holds(&world(6, Budget { writes: 3, kills: 1, ..NOTHING }));
    holds(&world(6, Budget { writes: 3, reboots: 1, ..NOTHING }));
    holds(&world(7, Budget { writes: 2, kills: 1, slow: 1, ..NOTHING }));
    holds(&world(6, Budget { writes: 2, kills: 1, deleted_sessions: 1, ..NOTHING }));
    holds(&world(6, Budget { writes: 2, kills: 1, deleted_claims: 1, ..NOTHING }));
    holds(&world(7, Budget { writes: 2, deleted_claims: 1, ..NOTHING }));
    holds(&World { observers: 2, ..world(6, Budget { writes: 2, ..NOTHING }) });
    holds(&World { observers: 2, ..world(6, Budget { writes: 2, releases: 1, heirs: 2, ..NOTHING }) });
    holds(&world(5, Budget { writes: 2, releases: 1, returns: 1, kills: 1, heirs: 1, ..NOTHING }));
    holds(&world(5, Budget { writes: 3, releases: 1, returns: 1, heirs: 1, ..NOTHING }));
    holds(&world(5, Budget { writes: 3, kills: 1, heirs: 1, leaves: 1, ..NOTHING }));
}

// === without one of them ===

macro_rules! mutants {
    ($($name:ident: $rule:ident, $world:expr;)*) => {$(
        #[test]
        fn $name() {
            let world: World = $world;
            breaks(stringify!($rule), &World { rules: Rules { $rule: false, ..Rules::ALL }, ..world });
        }
    )*};
}

mutants! {
    a_deadline_read_late_is_caught: boot_time_before_request, world(6, Budget { writes: 1, ..NOTHING });
    the_newest_attempt_credited_is_caught: attempt_known_by_number, world(6, Budget { writes: 2, ..NOTHING });
    renewals_that_change_nothing_are_caught: renewals_differ, world(6, Budget { writes: 2, ..NOTHING });
    void_by_another_epoch_is_caught: void_by_greater, world(5, Budget { writes: 2, reboots: 1, ..NOTHING });
    a_claim_not_bound_to_its_epoch_is_caught: claims_bound_to_epoch, world(5, Budget { writes: 1, ..NOTHING });
    a_kernel_that_compares_no_epochs_is_caught: kernel_compares_epochs,
        world(5, Budget { writes: 3, reboots: 1, ..NOTHING });
    entries_relabelled_to_a_new_epoch_are_caught: entries_stay_in_epoch, world(5, Budget { writes: 1, ..NOTHING });
    a_new_epoch_without_adoption_or_silence_is_caught: silence_before_new_epoch,
        world(5, Budget { writes: 1, kills: 1, ..NOTHING });
    a_fence_without_waiting_is_caught: fence_waits, world(4, NOTHING);
    no_margin_with_a_slow_clock_is_caught: margin, world(5, Budget { slow: 1, ..NOTHING });
    a_wall_clock_is_caught: own_clock, world(5, Budget { writes: 1, ..NOTHING });
    a_shorter_lease_that_binds_late_is_caught: capped_before_shortening,
        World { lease: 4, ..world(7, Budget { writes: 1, shorter: 1, ..NOTHING }) };
    an_entry_from_the_cache_is_caught: no_entry_from_cache, world(4, Budget { writes: 1, releases: 1, ..NOTHING });
    an_entry_after_a_read_back_is_caught: no_entry_from_read, world(4, Budget { writes: 1, releases: 1, ..NOTHING });
    absence_of_a_session_as_death_is_caught: absence_proves_nothing,
        world(4, Budget { deleted_sessions: 1, ..NOTHING });
    absence_of_a_claim_as_release_is_caught: absence_proves_nothing,
        world(4, Budget { deleted_claims: 1, ..NOTHING });
    an_entry_that_goes_after_the_release_is_caught: entry_before_release,
        world(4, Budget { writes: 1, releases: 1, ..NOTHING });
    a_fence_of_whatever_version_is_caught: fence_by_version, world(5, Budget { writes: 1, ..NOTHING });
    a_lease_longer_than_what_is_known_of_its_claim_is_caught: bound_by_claim,
        world(7, Budget { writes: 1, deleted_claims: 1, ..NOTHING });
    an_heir_passed_over_is_caught: heir_is_heard, World { observers: 2, ..world(4, Budget { heirs: 1, ..NOTHING }) };
    a_release_that_strikes_the_heir_out_is_caught: release_keeps_heir,
        World { observers: 2, ..world(4, Budget { writes: 1, releases: 1, heirs: 1, ..NOTHING }) };
    an_heir_by_what_it_reads_is_caught: accepted_by_own_write,
        world(1, Budget { writes: 3, releases: 1, returns: 1, kills: 1, heirs: 1, ..NOTHING });
    an_heir_that_has_declined_is_caught: declined_before_written,
        world(1, Budget { writes: 3, releases: 1, returns: 1, heirs: 1, ..NOTHING });
    a_retake_that_strikes_the_heir_out_is_caught: retake_keeps_heir,
        World { observers: 2, ..world(4, Budget { writes: 2, releases: 1, heirs: 1, ..NOTHING }) };
    an_agent_that_goes_on_after_its_end_is_caught: leaves_for_good,
        world(3, Budget { writes: 2, leaves: 1, ..NOTHING });
    an_end_written_before_the_kernel_is_silent_is_caught: silent_before_leaving,
        world(3, Budget { writes: 1, leaves: 1, ..NOTHING });
    an_heir_of_an_epoch_that_is_over_is_caught: heir_bound_to_epoch,
        world(5, Budget { writes: 3, releases: 1, returns: 1, heirs: 1, ..NOTHING });
}

//! Every interleaving of early fencing in small worlds (`DESIGN` §5.7), with a wire that is cut. With all rules two answer
//! only if a question between them was lost, until the old agent sees its fence or its lease ends; and an owner that
//! its peers hear is not fenced early.

mod protocol;

use super::search::{Outcome, explore};
use protocol::{Budget, Rules, Search, World};

const LIMIT: usize = 30_000_000;
const NOTHING: Budget = Budget { cuts: 0, writes: 0, switches: 0, deaths: 0, releases: 0 };

/// Two peers, no gateway.
fn world(ends: u8, budget: Budget) -> World {
    World {
        rules: Rules::ALL,
        search: Search::Wrong,
        observers: 2,
        gateway: false,
        strict: false,
        free: false,
        heir: false,
        prompt: true,
        c_only_suspects: true,
        b_stops: false,
        by_version: false,
        clients_at_once: false,
        ends,
        lease: 4,
        budget,
    }
}

/// One peer, and the gateway as its witness.
fn pair(ends: u8, budget: Budget) -> World {
    World { observers: 1, gateway: true, ..world(ends, budget) }
}

/// A lease so long that `a` answers all the time without a renewal.
fn long(ends: u8, budget: Budget) -> World {
    World { lease: ends + 3, ..world(ends, budget) }
}

fn holds(world: &World) {
    match explore(world, LIMIT) {
        Outcome::Exhausted { states } => println!(
            "{states} states, until {} with a lease of {}, {} peers, {:?}",
            world.ends, world.lease, world.observers, world.budget
        ),
        Outcome::Broken { states, story } => panic!("broken after {states} states\n{story}"),
        Outcome::TooMany { states } => panic!("more than {states} states"),
    }
}

/// The shortest story without a rule, which must end like this.
fn breaks(without: &str, world: &World, how: &str) {
    match explore(world, LIMIT) {
        Outcome::Broken { states, story } => {
            println!("{without}: found after {states} states\n{story}\n");
            assert!(story.ends_with(how), "{without}: another end than {how:?}\n{story}");
        }
        other => panic!("{without}: not found, {other:?}"),
    }
}

const TWO: &str = "two answer, and no question between them was lost";
const TWO_STRICT: &str = "two answer, and a is strict";
const TWO_FENCED: &str = "two answer, and a's agent has seen its fence";
const HEARD: &str = "fenced early, and a peer has not lost it under that epoch, or heard it again long since";
const NOT_SUSPECTED: &str = "fenced early, and a peer did not suspect it";
const CUT_OFF: &str = "fenced early by a peer that was cut off itself";

// === what it is for, and what it costs ===

#[test]
fn a_dead_owner_is_followed_before_its_lease_ends() {
    let world = World { search: Search::EarlySuccessor, ..world(3, Budget { deaths: 1, ..NOTHING }) };
    breaks("an early successor", &world, "in time");
}

#[test]
fn two_may_answer_while_the_wire_is_cut_between_them() {
    let world = World { search: Search::TwoAnswers, ..pair(3, Budget { cuts: 1, ..NOTHING }) };
    breaks("a wire that is whole", &world, "two answer");
}

// === with every rule ===

#[test]
fn on_a_whole_wire_one_answers() {
    let search = Search::TwoAnswers;
    holds(&World { search, ..pair(5, Budget { writes: 2, ..NOTHING }) });
    holds(&World { search, free: true, ..pair(5, Budget { writes: 3, ..NOTHING }) });
    holds(&World { search, ..world(4, Budget { writes: 1, ..NOTHING }) });
}

#[test]
fn with_a_wire_that_is_cut_two_answer_only_if_a_question_was_lost() {
    holds(&pair(4, Budget { cuts: 2, writes: 2, ..NOTHING }));
    holds(&World { free: true, ..pair(4, Budget { cuts: 1, writes: 2, ..NOTHING }) });
    holds(&world(3, Budget { cuts: 1, writes: 1, ..NOTHING }));
}

#[test]
fn an_heir_asks_as_whoever_takes_does() {
    holds(&World { heir: true, ..pair(4, Budget { cuts: 2, writes: 2, ..NOTHING }) });
}

#[test]
fn an_owner_that_its_peers_hear_is_not_fenced_early() {
    holds(&long(5, Budget { cuts: 2, ..NOTHING }));
}

#[test]
fn a_strict_owner_is_never_one_of_two() {
    let search = Search::TwoAnswers;
    holds(&World { search, strict: true, ..pair(6, Budget { cuts: 2, writes: 2, ..NOTHING }) });
    holds(&World { search, strict: true, ..world(5, Budget { cuts: 2, writes: 2, ..NOTHING }) });
}

#[test]
fn an_owner_whose_mode_changes_is_strict_once_that_is_confirmed() {
    holds(&pair(3, Budget { cuts: 1, writes: 2, switches: 2, ..NOTHING }));
}

#[test]
fn who_follows_somebody_that_may_not_have_asked_asks() {
    holds(&world(3, Budget { cuts: 2, releases: 1, ..NOTHING }));
}

/// That a kernel asks does not need luck in who is suspected.
#[test]
fn whoever_is_suspected_wrongly_two_do_not_answer() {
    let rules = Rules { heard_before: false, ..Rules::ALL };
    let search = Search::WrongAnswers;
    holds(&World { rules, search, free: true, ..pair(4, Budget { cuts: 1, writes: 2, ..NOTHING }) });
}

/// The same with less: whoever begins to answer asks after that, and is silent again if it hears somebody.
#[test]
fn two_that_answer_clients_at_once_do_so_only_until_both_have_asked() {
    let at_once = World { clients_at_once: true, ..pair(4, Budget { cuts: 2, writes: 2, ..NOTHING }) };
    holds(&at_once);
    holds(&World { heir: true, ..at_once });
    let rules = Rules { heard_before: false, ..Rules::ALL };
    let budget = Budget { cuts: 1, writes: 2, ..NOTHING };
    holds(&World { rules, search: Search::WrongAnswers, free: true, budget, ..at_once });
}

// === larger worlds: cargo xtask sim --exhaustive ===

#[test]
#[ignore = "minutes and gigabytes: cargo xtask sim --exhaustive"]
fn larger_worlds_with_a_wire_that_is_cut_break_nothing() {
    holds(&pair(5, Budget { cuts: 2, writes: 3, ..NOTHING }));
    holds(&World { free: true, ..pair(5, Budget { cuts: 2, writes: 3, ..NOTHING }) });
    holds(&World { heir: true, ..pair(5, Budget { cuts: 2, writes: 3, ..NOTHING }) });
    holds(&pair(5, Budget { cuts: 2, writes: 2, switches: 2, ..NOTHING }));
    holds(&world(4, Budget { cuts: 1, writes: 1, ..NOTHING }));
    holds(&world(3, Budget { cuts: 2, writes: 1, ..NOTHING }));
    holds(&World { heir: true, ..world(3, Budget { cuts: 2, writes: 1, ..NOTHING }) });
    holds(&World { c_only_suspects: false, ..world(2, Budget { cuts: 2, writes: 1, ..NOTHING }) });
    holds(&world(2, Budget { cuts: 2, writes: 1, releases: 1, ..NOTHING }));
    holds(&World { b_stops: true, ..world(4, Budget { cuts: 2, writes: 1, ..NOTHING }) });
    holds(&World { clients_at_once: true, ..world(3, Budget { cuts: 1, writes: 1, ..NOTHING }) });
    holds(&World {
        clients_at_once: true,
        b_stops: true,
        ..world(4, Budget { cuts: 2, writes: 1, ..NOTHING })
    });
    holds(&long(6, Budget { cuts: 3, ..NOTHING }));
    holds(&World { prompt: false, by_version: true, ..long(5, Budget { cuts: 2, ..NOTHING }) });
    holds(&World { prompt: false, by_version: true, ..long(3, Budget { cuts: 2, writes: 1, ..NOTHING }) });
}

// === without one of them ===

macro_rules! mutants {
    ($($name:ident: $rule:ident, $world:expr, $how:expr;)*) => {$(
        #[test]
        fn $name() {
            let world: World = $world;
            breaks(stringify!($rule), &World { rules: Rules { $rule: false, ..world.rules }, ..world }, $how);
        }
    )*};
}

mutants! {
    a_peer_that_hears_the_owner_and_is_not_asked_is_caught: all_agree,
        world(3, Budget { cuts: 1, ..NOTHING }), NOT_SUSPECTED;
    an_agreement_from_the_watch_is_caught: quorum_read, world(3, Budget { cuts: 2, ..NOTHING }), NOT_SUSPECTED;
    a_suspicion_that_does_not_lapse_is_caught: lapses, long(5, Budget { cuts: 2, ..NOTHING }), HEARD;
    a_suspicion_of_any_epoch_is_caught: bound_to_epoch, pair(3, Budget { cuts: 1, writes: 1, ..NOTHING }), HEARD;
    a_mode_that_is_not_the_owners_is_caught: owners_mode,
        World { strict: true, ..pair(3, Budget { cuts: 1, ..NOTHING }) }, TWO_STRICT;
    a_successor_that_does_not_ask_is_caught: probed_first, pair(3, Budget { cuts: 1, ..NOTHING }), TWO;
    a_mark_that_gets_lost_is_caught: mark_kept, world(0, Budget { cuts: 2, releases: 1, ..NOTHING }), TWO;
    an_early_fence_of_whatever_version_is_caught: fence_by_version,
        pair(3, Budget { cuts: 1, writes: 1, switches: 1, ..NOTHING }), TWO_STRICT;
    a_peer_that_is_cut_off_itself_is_caught: not_alone, pair(3, Budget { cuts: 2, ..NOTHING }), CUT_OFF;
    an_owner_suspected_before_it_was_heard_is_caught: heard_before,
        World { free: true, ..pair(3, Budget { writes: 1, ..NOTHING }) }, HEARD;
    an_owner_that_answers_again_without_asking_is_caught: owner_asks,
        pair(3, Budget { writes: 1, ..NOTHING }), TWO;
    an_owner_that_has_seen_its_fence_and_answers_is_caught: silent_when_fenced,
        pair(3, Budget { cuts: 1, ..NOTHING }), TWO_FENCED;
    an_entry_of_an_owner_that_does_not_ask_is_caught: owner_asks, World {
        free: true,
        search: Search::WrongAnswers,
        rules: Rules { heard_before: false, ..Rules::ALL },
        ..pair(3, Budget { writes: 1, ..NOTHING })
    }, TWO;
    a_successor_that_is_silent_while_it_asks_is_caught: on_while_probing,
        pair(3, Budget { writes: 1, ..NOTHING }), TWO;
    a_successor_that_does_not_ask_again_is_caught: on_while_probing,
        World { clients_at_once: true, ..pair(3, Budget { writes: 1, ..NOTHING }) }, TWO;
}

/// A limit, and not a rule left out: two rounds are counted from when a suspicion is first seen. Of a peer that stopped
/// after it wrote it, whose write was seen late, it is older than that. `by_version` would bound it by the owner's next
/// renewal.
#[test]
fn a_suspicion_first_seen_late_counts_too_long() {
    breaks("prompt", &World { prompt: false, ..long(5, Budget { cuts: 2, ..NOTHING }) }, HEARD);
}

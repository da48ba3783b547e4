//! The ways in which the protocol breaks when a rule is left out (`reference/ownership-attacks.md`), each played by
//! hand. The number in front of a test is the row there. What is no matter of the state machine alone is played elsewhere:
//!
//! | # | rule | played by |
//! |---|---|---|
//! | 1 | entries only after an own successful write | here |
//! | 2 | an attempt is known by its number, its boot time read before it is sent | here |
//! | 3 | a renewal changes the object | here |
//! | 4 | absence proves nothing | here |
//! | 5 | given up means elsewhere, not unknown | `tests/datapath/rules.rs`: `a_vip_owned_elsewhere_is_dropped_and_counted` |
//! | 6 | void only by a greater epoch | here |
//! | 7 | the kernel compares epochs; silence before a new one | here; `tests/datapath/rules.rs`: `entries_of_another_epoch_are_not_answered` |
//! | 8 | the deadline is lowered before a shorter lease is sent | here |
//! | 9 | `hold` is bounded | `holding.rs`: all of it; the late fence: `a_fence_that_the_network_held_back_…` |
//! | 10 | an old kernel answers until its agent sees the fence | `simulation`: Leases deleted by hand, without `strict` (`checks.rs`, `deleted_at`) |
//! | 11 | one agent, which adopts from the link's own program | `tests/datapath`: `pins.rs`, `a_second_agent_is_refused_while_the_first_lives`; `restart.rs`, `a_kill_between_two_swaps_…`; `adoption.rs`, `a_link_whose_programs_no_folder_has_…` |
//! | 12 | the boot id is part of the holder | here; `holding.rs`: `another_machine_of_our_name_that_holds_on_is_asked_for_first` |
//! | 13 | a pause of the machine is shorter than the margin, or noticed | here |
//! | 14 | memory counts for more than the store | here |
//! | 15 | ownership is asked before every frame | `wire/sender/tests.rs`: `ownership_is_asked_before_every_frame`; the lab's judge, in every fault |
//! | 16 | an address has one spelling | `lease.rs`: `one_address_has_one_claim_name_…`, `a_second_spelling_of_an_address_is_no_claim` |
//! | 17 | somebody answers in the end, and nothing moves without a cause | here; `simulation`: after all faults |

use std::sync::Arc;

use super::{
    Answer, Change, Input, Request, Target, View,
    lease::{Claim, Record, Session, Version, claim_name},
    scripted::{Cluster, at, demand, holder, vip, written},
    times::D_MAX,
};
use crate::vocabulary::BootNs;

const ANSWERS_FOR: u64 = 13_500;

fn sent_for(deadline: BootNs) -> u64 {
    (deadline.0 - at(0).0) / 1_000_000 - ANSWERS_FOR
}

/// 1
#[test]
fn a_release_whose_answer_is_lost_is_not_undone_by_what_the_cache_says() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    cluster.node("a").held_back = true;
    cluster.step("a", Input::Demand(Arc::new(demand(&["a", "b"], &["a"], 0))));
    let (token, release) = cluster.next_request("a");
    assert!(cluster.answering().is_empty(), "the entry goes before the release is sent");
    cluster.commit(&release);
    cluster.step("a", Input::Demand(Arc::new(demand(&["a", "b"], &[], 0))));
    cluster.answer("a", token, Answer::Lost);
    cluster.run(2_000);
    assert!(cluster.target("a").held.is_empty(), "no write of its own gave the entry back");
    assert_eq!(cluster.answering(), ["b"]);
    cluster.node("a").held_back = false;
    cluster.run(5_000);
    assert_eq!(cluster.answering(), ["b"]);
}

/// 1
#[test]
fn a_release_that_commits_after_it_was_read_back_is_still_a_release() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    cluster.node("a").held_back = true;
    cluster.step("a", Input::Demand(Arc::new(demand(&["a", "b"], &["a"], 0))));
    let (token, release) = cluster.next_request("a");
    cluster.step("a", Input::Demand(Arc::new(demand(&["a", "b"], &[], 0))));
    cluster.answer("a", token, Answer::Lost);
    // What is there still names a, under its epoch. That alone must not bring the entry back.
    let claim = cluster.claim().expect("a claim");
    cluster.step("a", Input::Changed(Record::Claim(claim)));
    assert!(cluster.target("a").held.is_empty());
    cluster.commit(&release);
    cluster.node("a").held_back = false;
    cluster.run(5_000);
    assert_eq!(cluster.answering().len(), 1);
}

/// 2
#[test]
fn a_late_renewal_earns_only_the_boot_time_of_its_own_attempt() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    let (first, late) = cluster.until_it_sends("a");
    let sent = cluster.now;
    cluster.run(3_000);
    cluster.answer("a", first, Answer::Lost);
    let (read, get) = cluster.next_request("a");
    let answer = cluster.commit(&get);
    cluster.answer("a", read, answer);
    let (second, renewal) = cluster.next_request("a");
    cluster.commit(&late);
    let refused = cluster.commit(&renewal);
    assert!(matches!(refused, Answer::Conflict));
    cluster.answer("a", second, refused);
    let (read, get) = cluster.next_request("a");
    let answer = cluster.commit(&get);
    cluster.answer("a", read, answer);
    assert_eq!(sent_for(cluster.target("a").deadline), sent);
}

/// 2
#[test]
fn the_deadline_counts_from_before_the_request_and_not_from_its_answer() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    let (token, renewal) = cluster.until_it_sends("a");
    let sent = cluster.now;
    let answer = cluster.commit(&renewal);
    cluster.run(2_000);
    cluster.answer("a", token, answer);
    assert_eq!(sent_for(cluster.target("a").deadline), sent);
}

/// 3
#[test]
fn a_renewal_that_changed_nothing_earns_nothing() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    let before = cluster.target("a").deadline;
    let (token, renewal) = cluster.until_it_sends("a");
    let mut same = written(&renewal).clone();
    same.version = cluster.session("a").version;
    cluster.answer("a", token, Answer::Done(Record::Session(same)));
    assert_eq!(cluster.target("a").deadline, before);
}

/// 3
#[test]
fn no_two_renewals_are_the_same() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..5 {
        let (token, renewal) = cluster.until_it_sends("a");
        assert!(seen.insert(written(&renewal).renewal.clone()));
        let answer = cluster.commit(&renewal);
        cluster.answer("a", token, answer);
        cluster.node("a").held_back = false;
        cluster.run(50);
    }
}

/// 4
#[test]
fn a_deleted_session_is_fenced_like_a_silent_one_and_no_earlier() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    cluster.node("a").cut = true;
    cluster.store.delete(cluster.now, "session-a");
    cluster.run(14_800);
    assert_ne!(cluster.answering(), ["b"]);
    cluster.run(5_000);
    assert_eq!(cluster.answering(), ["b"]);
    let (old, new) = (1, cluster.session("a").epoch);
    assert!(new > old, "an epoch is not used twice: {new}");
}

/// 4
#[test]
fn a_deleted_claim_is_not_taken_before_the_longest_lease_has_passed() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    // The owner's watch lags: it renews, and does not know.
    cluster.store.delete(cluster.now, "vip-10.0.0.1");
    cluster.node("b").held_back = false;
    cluster.node("a").held_back = true;
    cluster.node("b").step(at(0), Input::Tick);
    cluster.exchange();
    cluster.run(ANSWERS_FOR);
    assert!(cluster.claim().is_none(), "b waits");
    cluster.run(u64::try_from(D_MAX.as_millis()).expect("short") + 2_000);
    assert_eq!(cluster.claim().and_then(|claim| claim.holder).as_deref(), Some("b"));
}

/// 4
#[test]
fn a_write_for_a_deleted_lease_does_not_create_it_anew() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    let (_, renewal) = cluster.until_it_sends("a");
    cluster.store.delete(cluster.now, "session-a");
    assert!(matches!(cluster.commit(&renewal), Answer::Conflict));
    let Request::Put(record) = renewal else { panic!("a write") };
    let lease = record.to_lease(jiff::Timestamp::UNIX_EPOCH);
    assert!(lease.metadata.uid.is_some_and(|uid| !uid.is_empty()), "the server compares UIDs, or creates");
}

/// 4
#[test]
fn an_answer_that_comes_after_the_deletion_does_not_bring_a_claim_back() {
    let mut cluster = Cluster::empty(&["a"], false);
    cluster.start("a", "boot1", Target::default());
    let (token, take) = loop {
        let (token, request) = cluster.until_it_sends("a");
        if matches!(request, Request::Put(Record::Claim(_))) {
            break (token, request);
        }
        if let Request::Probe(vip) = request {
            cluster.step("a", Input::Probed(vip, super::Probed::Unused));
            continue;
        }
        let answer = cluster.commit(&request);
        cluster.answer("a", token, answer);
    };
    let answer = cluster.commit(&take);
    cluster.store.delete(cluster.now, "vip-10.0.0.1");
    let Answer::Done(mut gone) = answer.clone() else { panic!("taken") };
    if let Record::Claim(claim) = &mut gone {
        claim.version = Version(cluster.store.revision);
    }
    cluster.step("a", Input::Deleted(gone));
    cluster.answer("a", token, answer);
    assert!(cluster.target("a").held.is_empty());
}

/// 4
#[test]
fn a_claim_created_by_a_strict_node_gives_no_entry_before_its_watch_shows_it() {
    let mut cluster = Cluster::empty(&["a"], true);
    cluster.start("a", "boot1", Target::default());
    cluster.run(59_000);
    cluster.node("a").held_back = true;
    let mut writes = 0;
    for _ in 0..200 {
        cluster.run(50);
        while let Some((token, request)) = cluster.node("a").out.pop() {
            writes += u32::from(matches!(request, Request::Put(Record::Claim(_))));
            let answer = cluster.commit(&request);
            cluster.answer("a", token, answer);
        }
    }
    assert!(writes == 1 && cluster.answering().is_empty(), "{writes} writes");
    cluster.node("a").held_back = false;
    cluster.run(1_000);
    assert_eq!(cluster.answering(), ["a"]);
}

/// 4
#[test]
fn an_owner_whose_watch_is_silent_learns_in_time_that_its_claim_was_deleted() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    cluster.node("a").held_back = true;
    cluster.store.delete(cluster.now, "vip-10.0.0.1");
    for _ in 0..1_500 {
        // Never two: `run` looks. Requests of a go through, its watch tells nothing.
        cluster.run(50);
        while let Some((token, request)) = cluster.node("a").out.pop() {
            let answer = cluster.commit(&request);
            cluster.answer("a", token, answer);
        }
    }
    assert_eq!(cluster.answering(), ["b"]);
    assert!(cluster.session("a").holder.is_some(), "a was never fenced");
}

/// 4, and a counter-example to the design: in a large cluster, where D = D_MAX, an owner whose watch is silent renews after
/// its claim was deleted, and is stopped. Its kernel would answer for D − M from that renewal, and the others wait D_MAX
/// from the deletion.
#[test]
fn an_owner_that_renews_without_hearing_of_its_deleted_claim_and_stops_is_silent_in_time() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    for name in ["a", "b"] {
        cluster.step(name, Input::Demand(Arc::new(demand(&["a", "b"], &[], 1_200))));
    }
    cluster.run(70_000);
    // The last thing it hears is its own renewal.
    let heard = cluster.session("a").version;
    while cluster.session("a").version == heard {
        cluster.run(50);
    }
    cluster.node("a").held_back = true;
    cluster.store.delete(cluster.now, "vip-10.0.0.1");
    for _ in 0..580 {
        cluster.run(50);
        while let Some((token, request)) = cluster.node("a").out.pop() {
            let answer = cluster.commit(&request);
            cluster.answer("a", token, answer);
        }
    }
    let stopped = cluster.nodes.remove("a").expect("a");
    for _ in 0..2_000 {
        cluster.run(50);
        let both = stopped.kernel.answers(vip(), at(cluster.now)) && !cluster.answering().is_empty();
        assert!(!both, "two answer at {} ms", cluster.now);
    }
    assert_eq!(cluster.answering(), ["b"]);
}

/// 6
#[test]
fn a_claim_above_the_epoch_in_view_is_not_void() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    let mut claim = cluster.claim().expect("a claim");
    claim.session_epoch += 1;
    claim.version = Version(cluster.store.revision + 1);
    cluster.node("b").held_back = true;
    cluster.step("b", Input::Changed(Record::Claim(claim)));
    for ms in [3_000, 3_000] {
        cluster.now += ms;
        cluster.step("b", Input::Tick);
    }
    let wrote = |(_, request): &(super::Token, Request)| matches!(request, Request::Put(Record::Claim(_)));
    assert!(!cluster.node("b").out.iter().any(wrote), "our view is the stale one");
}

/// 7
#[test]
fn an_agent_that_may_not_adopt_is_silent_before_its_new_epoch_is_sent() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    let mut inherited = cluster.crash("a");
    inherited.session = inherited.session.map(|(uid, epoch)| (uid, epoch + 5));
    cluster.start("a", "boot1", inherited);
    assert_eq!(cluster.target("a"), &Target::default());
    assert!(cluster.answering().is_empty());
    let (_, write) = cluster.next_request("a");
    assert!(written(&write).epoch > 6, "memory counts: {}", written(&write).epoch);
}

/// 7
#[test]
fn an_inherited_entry_whose_claim_names_another_epoch_is_not_adopted() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    let inherited = cluster.crash("a");
    let mut claim = cluster.claim().expect("a claim");
    claim.session_epoch -= 1;
    cluster.commit(&Request::Put(Record::Claim(claim)));
    cluster.start("a", "boot1", inherited);
    assert!(cluster.target("a").session.is_some() && cluster.target("a").held.is_empty());
}

/// 7
#[test]
fn a_claim_taken_under_an_epoch_that_ended_gives_no_entry() {
    let mut cluster = Cluster::settled(&["b", "a"]);
    cluster.node("a").held_back = true;
    cluster.step("b", Input::Demand(Arc::new(demand(&["a", "b"], &["b"], 0))));
    cluster.exchange();
    let claim = cluster.claim().expect("a claim");
    cluster.step("a", Input::Changed(Record::Claim(claim)));
    let (token, take) = cluster.next_request("a");
    let taken = cluster.commit(&take);
    let mut fenced = cluster.session("a");
    (fenced.holder, fenced.epoch, fenced.renewal) = (None, fenced.epoch + 1, "b-1".to_owned());
    let Answer::Done(fenced) = cluster.commit(&Request::Put(Record::Session(fenced))) else {
        panic!("fenced")
    };
    cluster.step("a", Input::Changed(fenced));
    let (own, write) = cluster.next_request("a");
    let answer = cluster.commit(&write);
    cluster.answer("a", own, answer);
    cluster.answer("a", token, taken);
    assert!(cluster.target("a").held.is_empty());
}

/// 8
#[test]
fn a_shorter_lease_binds_the_kernel_before_it_is_sent() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    for name in ["a", "b"] {
        cluster.step(name, Input::Demand(Arc::new(demand(&["a", "b"], &[], 1_200))));
    }
    cluster.run(30_000);
    let long = cluster.target("a").deadline;
    assert!(long > at(cluster.now + 30_000), "a lease of a minute");
    cluster.step("a", Input::Demand(Arc::new(demand(&["a", "b"], &[], 0))));
    let (token, renewal) = cluster.until_it_sends("a");
    assert_eq!(written(&renewal).lease.as_secs(), 15);
    assert!(cluster.target("a").deadline <= at(cluster.now + ANSWERS_FOR));
    cluster.answer("a", token, Answer::Lost);
    assert!(cluster.target("a").deadline <= at(cluster.now + ANSWERS_FOR), "whatever became of it");
}

/// 12
#[test]
fn another_boot_under_our_name_is_waited_for_as_long_as_any_other_node() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    cluster.node("b").cut = true;
    let before = cluster.session("a").epoch;
    cluster.crash("a");
    cluster.start("a", "boot2", Target::default());
    cluster.run(14_900);
    assert_eq!(cluster.session("a").epoch, before);
    cluster.run(200);
    assert!(cluster.session("a").epoch > before);
}

/// 12
#[test]
fn a_claim_of_our_name_under_a_session_we_never_held_is_not_ours_to_take() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    // The first machine lives on, cut off; somebody deletes its session and installs a second one.
    let first = cluster.nodes.remove("a").expect("a");
    cluster.store.delete(cluster.now, "session-a");
    cluster.start("a", "boot2", Target::default());
    for _ in 0..400 {
        cluster.run(50);
        let both = first.kernel.answers(vip(), at(cluster.now)) && !cluster.answering().is_empty();
        assert!(!both, "two copies answer at {} ms", cluster.now);
    }
    assert_eq!(cluster.answering().len(), 1);
}

/// 12, found by simulation: another machine of our name had followed upon us, unheard, and taken a claim under its own epoch,
/// which we took for a hand's; written in as its holder, under the epoch that was over, we gave it to a third one.
#[test]
fn a_claim_under_a_greater_epoch_of_our_session_is_left_alone_until_that_was_written_since() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    cluster.crash("b");
    cluster.node("a").held_back = true;
    cluster.fence("a");
    let fenced = cluster.session("a");
    let (holder, epoch) = (Some(holder("a", "boot2")), fenced.epoch + 1);
    cluster.put(Record::Session(Session { holder, epoch, renewal: "boot2".to_owned(), ..fenced }));
    let claim = cluster.claim().expect("a claim");
    cluster.put(Record::Claim(Claim { session_epoch: epoch, write: "boot2".to_owned(), ..claim }));
    let taken = cluster.claim().expect("a claim");
    // It reads the claim before its watch brings what came before.
    cluster.step("a", Input::Changed(Record::Claim(taken.clone())));
    for _ in 0..20 {
        while let Some((token, request)) = cluster.node("a").out.pop() {
            match request {
                Request::Probe(vip) => cluster.step("a", Input::Probed(vip, super::Probed::Unused)),
                request => {
                    let answer = cluster.commit(&request);
                    cluster.answer("a", token, answer);
                }
            }
        }
        cluster.run(50);
    }
    assert_eq!(cluster.claim(), Some(taken));
    assert_eq!(cluster.target("a"), &Target::default(), "and knows by now");
}

/// 12
#[test]
fn a_claim_whose_epoch_was_raised_by_hand_is_taken_again() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    let claim = cluster.claim().expect("a claim");
    let (epoch, held) = (cluster.session("a").epoch, claim.session_epoch);
    cluster.put(Record::Claim(Claim { session_epoch: held + 1, write: "by hand".to_owned(), ..claim }));
    cluster.run(2_000);
    assert_eq!((cluster.session("a").epoch, cluster.answering()), (epoch, vec!["a"]));
}

/// 13
#[test]
fn after_a_clock_jump_only_a_renewal_sent_since_is_believed() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    let (token, renewal) = cluster.until_it_sends("a");
    cluster.step("a", Input::ClockJumped);
    assert!(cluster.answering().is_empty());
    let answer = cluster.commit(&renewal);
    cluster.answer("a", token, answer);
    assert!(cluster.answering().is_empty());
    cluster.node("a").held_back = false;
    cluster.run(1_000);
    assert_eq!(cluster.answering(), ["a"]);
}

/// 14
#[test]
fn memory_counts_for_more_than_a_restored_store() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    let snapshot = cluster.store.clone();
    cluster.run(6_000);
    let epoch = cluster.session("a").epoch;
    cluster.store.restore(&snapshot);
    cluster.list("a");
    assert!(cluster.target("a").held.is_empty());
    assert!(cluster.node("a").machine.take_changes().any(|change| matches!(change, Change::Restored(_))));
    cluster.list("b");
    let limit = u64::try_from(D_MAX.as_millis()).expect("short");
    for _ in 0..(limit - 1_000) / 50 {
        cluster.run(50);
        assert!(cluster.answering().is_empty(), "nothing is taken yet");
    }
    assert!(cluster.session("a").epoch > epoch);
    cluster.run(5_000);
    assert_eq!(cluster.answering().len(), 1);
}

/// 17
#[test]
fn a_lease_that_only_ran_out_keeps_its_epoch_and_its_vips() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    let epoch = cluster.session("a").epoch;
    cluster.node("a").cut = true;
    cluster.node("b").cut = true;
    cluster.run(40_000);
    assert!(cluster.answering().is_empty());
    cluster.node("a").cut = false;
    cluster.node("b").cut = false;
    cluster.run(4_000);
    assert_eq!((cluster.session("a").epoch, cluster.answering()), (epoch, vec!["a"]));
}

/// 17
#[test]
fn nothing_is_claimed_under_an_epoch_that_is_not_confirmed() {
    let mut cluster = Cluster::empty(&["a"], false);
    cluster.start("a", "boot1", Target::default());
    cluster.node("a").held_back = true;
    let (token, _) = cluster.next_request("a");
    cluster.answer("a", token, Answer::Lost);
    cluster.run(20_000);
    let ours =
        |(_, request): &(super::Token, Request)| matches!(request, Request::Get(name) if name == "session-a");
    assert!(cluster.node("a").out.iter().all(ours), "{:?}", cluster.node("a").out);
    assert!(cluster.node("a").machine.target().session.is_none());
}

/// 17
#[test]
fn the_next_in_rank_takes_what_the_first_does_not_want() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    // a is alive and does not know that the VIP is wanted.
    let mut nothing = demand(&["a", "b"], &[], 0);
    nothing.vips.clear();
    cluster.step("a", Input::Demand(Arc::new(nothing)));
    cluster.run(2_500);
    assert_eq!(cluster.answering(), ["b"]);
}

#[test]
fn a_silent_session_is_fenced_after_its_lease_and_no_earlier() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    let (_, renewal) = cluster.until_it_sends("a");
    cluster.commit(&renewal);
    cluster.node("a").cut = true;
    cluster.run(14_900);
    assert_eq!(cluster.session("a").holder, Some(holder("a", "boot1")));
    cluster.run(1_000);
    assert_eq!(cluster.session("a").holder, None);
    assert_eq!(cluster.answering(), ["b"]);
}

/// Found by simulation: emptied by hand it looked fenced, and no claim of it was ever void.
#[test]
fn a_session_emptied_by_hand_is_fenced_like_a_silent_one() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    cluster.crash("a");
    let emptied = Session { holder: None, ..cluster.session("a") };
    cluster.commit(&Request::Put(Record::Session(emptied)));
    cluster.run(40_000);
    assert_eq!(cluster.answering(), ["b"]);
}

/// Found by simulation: its lease is still good and its requests are on their way, and what it has not heard was the
/// server's silence.
#[test]
fn an_observer_that_has_had_no_word_of_the_api_server_lately_fences_nobody() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    let (_, renewal) = cluster.until_it_sends("a");
    cluster.commit(&renewal);
    cluster.node("a").cut = true;
    let silent = cluster.now;
    cluster.run(3_400);
    let (token, renewal) = cluster.until_it_sends("b");
    let answer = cluster.commit(&renewal);
    cluster.answer("b", token, answer);
    cluster.run(silent + 16_500 - cluster.now);
    assert!(cluster.target("b").deadline > at(cluster.now), "its own lease is good");
    let fences = |(_, request): &(super::Token, Request)| matches!(request, Request::Put(Record::Session(session)) if session.name == "session-a");
    assert!(!cluster.node("b").out.iter().any(fences));
}

#[test]
fn an_observer_that_was_cut_off_itself_starts_to_wait_anew() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    cluster.node("a").cut = true;
    cluster.node("b").cut = true;
    cluster.run(20_000);
    cluster.node("b").cut = false;
    cluster.run(14_000);
    assert!(cluster.session("a").holder.is_some(), "what b did not hear while it was deaf proves nothing");
    cluster.run(5_000);
    assert!(cluster.session("a").holder.is_none());
}

/// Found by simulation: by hand, one claim of a was given to a node that never was. The session that it was bound to
/// counted as gone, and with it went every other claim of a.
#[test]
fn a_claim_spoilt_by_hand_makes_no_other_claim_void() {
    let cluster = Cluster::settled(&["a", "b"]);
    let good = cluster.claim().expect("a claim");
    let other = "10.0.0.2".parse().expect("an address");
    let mut spoilt = Claim { vip: other, heir: None, ..good.clone() };
    spoilt.holder = Some("nobody".to_owned());
    let mut nobody = cluster.session("b");
    (nobody.name, nobody.uid) = ("session-nobody".to_owned(), "n".to_owned());
    let mut view = View::default();
    for record in [
        Record::Session(cluster.session("a")),
        Record::Session(nobody),
        Record::Claim(good.clone()),
        Record::Claim(spoilt.clone()),
    ] {
        view.seen(at(0), record);
    }
    assert!(view.is_void(&spoilt, at(70_000)), "bound to a session that its holder never had");
    assert!(!view.is_void(&good, at(70_000)));
}

/// Found by simulation: `strict`; a node was cut off from before a claim was made until after it was deleted by hand. To it
/// the address had been without a claim all that time.
#[test]
fn what_came_and_went_while_the_watch_was_broken_was_not_absent() {
    let mut view = View::default();
    view.listed(at(0), Version(1), Vec::new());
    assert_eq!(view.absent_claim_since(vip(), at(0)), at(0));
    view.gap();
    view.listed(at(70_000), Version(9), Vec::new());
    assert_eq!(view.absent_claim_since(vip(), at(70_000)), at(70_000));
}

/// Found by simulation: the store was wiped, and another claim came to have the very version of the one before. Its UID
/// was another, so that no write to it could succeed, and no read brought it.
#[test]
fn another_object_of_the_same_version_is_the_one_that_is_there() {
    let cluster = Cluster::settled(&["a", "b"]);
    let lost = cluster.claim().expect("a claim");
    let there = Claim { uid: "another".to_owned(), ..lost.clone() };
    let mut view = View::default();
    view.seen(at(0), Record::Claim(lost.clone()));
    view.read(at(1), Record::Claim(there.clone()), lost.version);
    assert_eq!(view.claims.get(&vip()), Some(&there));
    view.seen(at(2), Record::Claim(Claim { version: Version(lost.version.0 + 1), ..there.clone() }));
    view.listed(at(3), Version(100), vec![Record::Claim(there)]);
    assert!(view.take_regressed(), "versions of another history");
}

/// Found by simulation: a strict node's watch was silent while another one's claim was made and deleted by hand. Then it created the
/// claim, and the list that followed upon the broken watch had that creation, but nothing of what came before.
#[test]
fn ones_own_creation_in_a_list_after_a_broken_watch_does_not_show_what_came_before() {
    let mut cluster = Cluster::empty(&["a", "b"], true);
    for name in ["a", "b"] {
        cluster.start(name, "boot1", Target::default());
    }
    cluster.run(59_000);
    let (token, creation) = loop {
        let (token, request) = cluster.until_it_sends("b");
        if matches!(request, Request::Put(Record::Claim(_))) {
            break (token, request);
        }
        let answer = cluster.commit(&request);
        cluster.answer("b", token, answer);
    };
    cluster.run(1_000);
    assert_eq!(cluster.answering(), ["a"]);
    cluster.node("a").held_back = true;
    cluster.store.delete(cluster.now, &claim_name(vip()));
    let created = cluster.commit(&creation);
    assert!(matches!(created, Answer::Done(_)));
    cluster.answer("b", token, created);
    cluster.step("b", Input::WatchBroke);
    cluster.list("b");
    cluster.node("b").held_back = false;
    cluster.run(5_000);
    assert_eq!(cluster.answering(), ["a"]);
    cluster.node("a").held_back = false;
    for _ in 0..7 {
        cluster.run(10_000);
        cluster.step("b", Input::WatchBroke);
        cluster.list("b");
    }
    assert_eq!(cluster.answering(), ["b"], "in the end time tells, whatever the watch did");
}

/// Found by simulation: a node that was cut off held a claim of the history that was lost, and the claim of the new one had come
/// to that very version. So it wrote over the new one, as void as the old one was, while the new owner answered.
#[test]
fn other_content_of_the_same_version_is_another_history() {
    let cluster = Cluster::settled(&["a", "b"]);
    let lost = cluster.claim().expect("a claim");
    let there = Claim { session_epoch: lost.session_epoch + 1, write: "another".to_owned(), ..lost.clone() };
    for way in ["list", "watch", "read"] {
        let mut view = View::default();
        view.listed(at(0), Version(0), Vec::new());
        view.seen(at(0), Record::Claim(lost.clone()));
        let found = Record::Claim(there.clone());
        match way {
            "list" => view.listed(at(1), lost.version, vec![found]),
            "watch" => view.changed(at(1), found),
            _ => view.read(at(1), found, lost.version),
        }
        assert_eq!(view.claims.get(&vip()), Some(&there), "by {way}");
        assert!(view.take_regressed() || way == "read", "versions of another history, by {way}");
    }
}

/// An API server continues a watch from a version that its restored store has not reached, and is silent. So no list came, each peer
/// was found out by an attempt to fence it, and every time all were silent for a minute.
#[test]
fn a_restored_store_that_a_read_finds_is_listed_and_silences_a_cluster_once() {
    let mut cluster = Cluster::early(&["a", "b", "c", "d", "e", "f"]);
    let snapshot = cluster.store.clone();
    cluster.run(3_600_000);
    cluster.store.restore(&snapshot);
    let mut dark = 0;
    for _ in 0..400 {
        cluster.run(1_000);
        dark += usize::from(cluster.answering().is_empty());
    }
    assert!((50..75).contains(&dark), "{dark} s");
}

/// Found by simulation (180017388): a node that might not list took what it thought released, at a version that in the restored store
/// was its owner's.
#[test]
fn who_does_not_know_whether_the_store_is_the_same_takes_nothing() {
    for broke in [Input::Unchecked, Input::WatchBroke] {
        let mut cluster = Cluster::settled(&["a", "b"]);
        cluster.step("b", broke);
        cluster.crash("a");
        cluster.run(40_000);
        assert!(cluster.answering().is_empty());
        let version = Version(cluster.store.revision);
        let records = cluster.store.objects.values().cloned().collect();
        cluster.step("b", Input::Compared(version, records));
        cluster.run(2_000);
        assert_eq!(cluster.answering(), ["b"]);
    }
}

#[test]
fn a_list_after_a_broken_connection_is_taken_only_if_it_does_not_follow() {
    let cluster = Cluster::settled(&["a", "b"]);
    let (session, claim) = (cluster.session("a"), cluster.claim().expect("a claim"));
    let session_at =
        |version, epoch| Record::Session(Session { version: Version(version), epoch, ..session.clone() });
    let claim_at = |version| Record::Claim(Claim { version: Version(version), ..claim.clone() });
    let compared = |version, records: &[Record]| {
        let mut view = View::default();
        view.listed(at(0), Version(100), vec![session_at(98, 2), claim_at(99)]);
        view.seen(at(1), claim_at(110));
        view.compared(at(2), Version(version), records.to_vec());
        (view.watching_since == Some(at(0)), view.take_regressed())
    };
    assert_eq!(compared(115, &[session_at(112, 2), claim_at(110)]), (true, false), "it goes on");
    assert_eq!(
        compared(115, &[session_at(112, 2), claim_at(113)]),
        (true, false),
        "the watch will bring that"
    );
    assert_eq!(compared(105, &[session_at(98, 2), claim_at(99)]), (true, false), "it was on its way");
    assert_eq!(compared(115, &[session_at(112, 2)]), (false, false), "deleted, or never there");
    assert_eq!(compared(99, &[session_at(98, 2), claim_at(99)]), (false, true), "it went back");
    assert_eq!(compared(115, &[session_at(98, 2), claim_at(99)]), (false, true), "a claim went back");
    assert_eq!(compared(115, &[session_at(112, 1), claim_at(110)]), (false, true), "an epoch went back");
}

#[test]
fn an_epoch_that_a_hand_has_lowered_is_no_other_history_days_later() {
    let cluster = Cluster::settled(&["a", "b"]);
    let session = cluster.session("a");
    let session_at =
        |version, epoch| Record::Session(Session { version: Version(version), epoch, ..session.clone() });
    let mut view = View::default();
    view.listed(at(0), Version(100), vec![session_at(100, 500)]);
    view.changed(at(1), session_at(101, 3));
    view.changed(at(2), session_at(102, 4));
    view.compared(at(3), Version(110), vec![session_at(110, 4)]);
    view.seen(at(4), session_at(111, 4));
    assert!(!view.take_regressed() && view.watching_since == Some(at(0)));
}

#[test]
fn two_reads_that_crossed_two_deletions_are_no_other_history() {
    let cluster = Cluster::settled(&["a", "b"]);
    let claim = cluster.claim().expect("a claim");
    let claim_at = |version| Record::Claim(Claim { version: Version(version), ..claim.clone() });
    let mut view = View::default();
    view.listed(at(0), Version(99), Vec::new());
    for version in [100, 200] {
        view.changed(at(version), claim_at(version));
        view.watched_deletion(at(version), &claim_at(version + 1));
        view.read(at(version), claim_at(version), Version(0));
        assert!(!view.take_regressed() && view.claims.is_empty());
    }
}

/// The last writes of a store were lost with it, among them a fence and a claim; it came to greater versions before anybody looked,
/// and the watch went on.
#[test]
fn a_watch_that_passes_a_version_over_is_of_another_history() {
    let cluster = Cluster::settled(&["a", "b"]);
    let claim = cluster.claim().expect("a claim");
    let claim_at = |version| Record::Claim(Claim { version: Version(version), ..claim.clone() });
    let mut view = View::default();
    view.listed(at(0), Version(100), vec![claim_at(99)]);
    view.seen(at(1), claim_at(110));
    view.changed(at(2), claim_at(110));
    view.seen(at(3), claim_at(120));
    assert!(!view.take_regressed());
    view.changed(at(4), claim_at(121));
    assert!(view.take_regressed(), "121 came, and 120 did not");
    assert_eq!(view.claims.get(&vip()).map(|claim| claim.version), Some(Version(121)));
}

/// Found by simulation: the store was wiped. A claim that was known to be deleted stood again, at a version before its
/// deletion; its owner read it again and again, and did not believe it.
#[test]
fn what_two_reads_found_is_there_whatever_was_deleted() {
    let cluster = Cluster::settled(&["a", "b"]);
    let claim = cluster.claim().expect("a claim");
    let mut view = View::default();
    view.seen(at(0), Record::Claim(claim.clone()));
    view.missing(at(1), &claim_name(vip()), claim.version);
    view.read(at(2), Record::Claim(claim.clone()), Version(0));
    assert!(view.claims.is_empty(), "this read may have been on its way when the claim was deleted");
    view.read(at(3), Record::Claim(claim.clone()), Version(0));
    assert_eq!(view.claims.get(&vip()), Some(&claim));
    assert!(view.take_regressed(), "versions of another history");
}

/// Found by simulation: a strict node's creation, given up as lost, was written after a deletion by hand, bound to an epoch that
/// was over by then; whoever took that void claim answered beside the owner of the deleted one, which had not heard of it.
#[test]
fn what_was_created_and_not_confirmed_proves_as_little_as_an_absent_claim() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    let claim = cluster.claim().expect("a claim");
    cluster.node("a").held_back = true;
    cluster.store.delete(cluster.now, &claim_name(vip()));
    let created = Claim {
        uid: String::new(),
        version: Version(0),
        holder: Some("b".to_owned()),
        session_uid: cluster.session("b").uid,
        session_epoch: cluster.session("b").epoch,
        heir: None,
        transitions: 0,
        write: "late".to_owned(),
        ..claim
    };
    assert!(matches!(cluster.commit(&Request::Put(Record::Claim(created))), Answer::Done(_)));
    cluster.crash("b");
    cluster.names.push("c");
    cluster.start("c", "boot1", Target::default());
    for _ in 0..500 {
        cluster.run(50);
        let renewals: Vec<_> = std::mem::take(&mut cluster.node("a").out);
        for (token, request) in renewals {
            if !matches!(request, Request::Put(Record::Session(_))) {
                continue;
            }
            let answer = cluster.commit(&request);
            cluster.answer("a", token, answer);
        }
    }
    assert_eq!(cluster.answering(), ["a"], "its watch lags, its renewals pass");
    cluster.run(70_000);
    assert_eq!(cluster.answering(), ["c"]);
}

//! Who inherits a claim, played by hand.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Answer, Input, Request, Target,
    heirs::CHORES_IN_FLIGHT,
    lease::{Claim, Record, claim_name},
    scripted::{Cluster, at, demand, vip},
    simulation::store::Event,
};
use crate::policy::Demand;

fn heir(cluster: &Cluster) -> String {
    let claim = cluster.claim().expect("a claim");
    let heir = claim.heir.expect("an heir");
    assert_eq!(
        (claim.preferred, heir.session_epoch),
        (Some(heir.node.clone()), cluster.session(&heir.node).epoch)
    );
    heir.node
}

fn put_claim(requests: &[(super::Token, Request)]) -> Option<&Claim> {
    requests.iter().find_map(|(_, request)| match request {
        Request::Put(Record::Claim(claim)) => Some(claim),
        _ => None,
    })
}

#[test]
fn the_fence_alone_passes_a_claim_on() {
    let mut cluster = Cluster::settled(&["a", "b", "c"]);
    let next = if heir(&cluster) == "b" { "b" } else { "c" };
    cluster.crash("a");
    cluster.run(13_000);
    cluster.node(next).held_back = true;
    cluster.run(2_500);
    let fenced = cluster.session("a");
    assert!(fenced.holder.is_none() && cluster.answering().is_empty());
    cluster.step(next, Input::Changed(Record::Session(fenced)));
    assert_eq!(cluster.answering(), [next], "before it has written anything");
    cluster.node(next).held_back = false;
    cluster.run(20_000);
    let claim = cluster.claim().expect("a claim");
    assert_eq!(claim.holder.as_deref(), Some(next), "it is written down when there is time");
    assert_eq!(heir(&cluster), if next == "b" { "c" } else { "b" }, "and has an heir again");
}

#[test]
fn a_release_alone_passes_a_claim_on() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    cluster.node("b").held_back = true;
    let cordoned = Arc::new(demand(&["a", "b"], &["a"], 0));
    cluster.step("a", Input::Demand(cordoned));
    cluster.exchange();
    let released = cluster.claim().expect("a claim");
    assert!(released.holder.is_none() && released.heir.is_some());
    cluster.step("b", Input::Changed(Record::Claim(released)));
    assert_eq!(cluster.answering(), ["b"]);
}

/// As row 1: what the view says is not what this process has written.
#[test]
fn an_agent_started_again_inherits_by_a_write_of_its_own() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    let kernel = cluster.crash("b");
    cluster.start_unlisted("b", "boot1", kernel);
    cluster.node("b").held_back = true;
    cluster.list("b");
    cluster.crash("a");
    let fenced = cluster.fence("a");
    cluster.step("b", fenced);
    assert!(cluster.answering().is_empty(), "its predecessor may have declined, and the write be on its way");
    cluster.node("b").held_back = false;
    cluster.run(1_000);
    assert_eq!(cluster.answering(), ["b"]);
}

/// Found by simulation: an heir that a policy had made decline inherited after all when the policy was another; its
/// refusal, given up as lost, was written later.
#[test]
fn who_has_declined_inherits_only_by_a_write_of_its_own() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    cluster.node("b").held_back = true;
    let claim = cluster.claim().expect("a claim");
    let unwanted = Claim { preferred: None, write: "by hand".to_owned(), ..claim };
    let unwanted = cluster.put(Record::Claim(unwanted));
    cluster.node("b").out.clear();
    cluster.step("b", unwanted);
    let (token, decline) = cluster.next_request("b");
    assert!(put_claim(&[(token, decline.clone())]).is_some_and(|claim| claim.heir.is_none()));
    cluster.answer("b", token, Answer::Lost);
    let fenced = cluster.fence("a");
    cluster.crash("a");
    cluster.step("b", fenced);
    assert!(cluster.answering().is_empty());
    assert!(matches!(cluster.commit(&decline), Answer::Done(_)), "late");
    cluster.node("b").held_back = false;
    cluster.run(5_000);
    assert_eq!(cluster.answering(), ["b"], "by a write of its own");
}

/// Found by simulation: an heir's watch was late by more than a minute. When it brought the end of the owner's epoch, the claim
/// had been deleted by hand, and another node had it.
#[test]
fn an_heir_whose_watch_was_late_reads_the_claim_before_it_answers() {
    for (deleted, owner) in [(true, "a"), (false, "b")] {
        let mut cluster = Cluster::settled(&["a", "b"]);
        cluster.node("b").held_back = true;
        let fenced = cluster.fence("a");
        if deleted {
            cluster.store.delete(cluster.now, &claim_name(vip()));
        }
        for _ in 0..1_500 {
            cluster.run(50);
            let ours = |request: &Request| matches!(request, Request::Put(Record::Session(session)) if session.name == "session-b");
            let renewals = std::mem::take(&mut cluster.node("b").out);
            for (token, request) in renewals.into_iter().filter(|(_, request)| ours(request)) {
                let answer = cluster.commit(&request);
                cluster.answer("b", token, answer);
            }
        }
        cluster.step("b", fenced);
        let target = cluster.target("b");
        assert!(target.deadline > at(cluster.now), "whatever else it had would be silent");
        assert!(target.held.is_empty(), "what it knows of the claim is old");
        cluster.node("b").held_back = false;
        cluster.exchange();
        assert_eq!(cluster.answering(), [owner]);
    }
}

/// Found by simulation: the owner held on, cut off from the API server. Its heir was to give the address away before it had
/// asked for it, and struck the owner out of the claim; the next one saw nobody whom it had to ask for.
#[test]
fn an_heir_that_asked_nobody_leaves_the_owner_in_the_claim() {
    let mut cluster = Cluster::holding(&["a", "b"]);
    assert_eq!(heir(&cluster), "b");
    cluster.node("a").cut = true;
    cluster.run(14_000);
    cluster.step("b", Input::Demand(Arc::new(demand(&["a"], &[], 0))));
    cluster.run(5_000);
    let claim = cluster.claim().expect("a claim");
    assert!(claim.holder.as_deref() == Some("a") && claim.heir.is_none(), "{claim:?}");
    assert_eq!(cluster.answering(), ["a"], "it holds on");
    cluster.step("b", Input::Demand(Arc::new(demand(&["a", "b"], &[], 0))));
    cluster.run(5_000);
    assert_eq!(cluster.answering(), ["a"], "and is heard");
}

/// Found by simulation: a store was wiped while an owner, cut off, held on. The claim had been absent for so long that
/// nobody asked.
#[test]
fn a_claim_that_was_lost_is_not_taken_while_its_owner_is_heard() {
    let mut cluster = Cluster::holding(&["a", "b"]);
    cluster.node("a").cut = true;
    cluster.run(5_000);
    cluster.store.delete(cluster.now, &claim_name(vip()));
    cluster.run(100_000);
    assert_eq!(cluster.answering(), ["a"]);
}

/// Found by simulation: as above, and nobody had seen the claim go.
#[test]
fn who_begins_after_a_claim_was_lost_does_not_take_it_while_its_owner_is_heard() {
    let mut cluster = Cluster::holding(&["a", "b"]);
    cluster.node("a").cut = true;
    cluster.run(5_000);
    cluster.store.delete(cluster.now, &claim_name(vip()));
    cluster.crash("b");
    cluster.start("b", "boot2", Target::default());
    cluster.run(150_000);
    assert_eq!(cluster.answering(), ["a"]);
}

/// `b`, `strict` or not, has started beside `a`, which owns the address, is cut off and will hold on.
fn beside_a_holder(strict: bool) -> Cluster {
    let mut cluster = Cluster::holding(&["a", "b"]);
    cluster.crash("b");
    cluster.strict = strict;
    cluster.start("b", "boot2", Target::default());
    cluster.run(70_000);
    cluster.node("a").cut = true;
    cluster
}

/// What `a` holds on to is `b`'s when `a` dies, and not before.
fn is_taken_when_it_dies(cluster: &mut Cluster) {
    // Never two: `run` looks.
    cluster.run(150_000);
    assert_eq!(cluster.answering(), ["a"]);
    cluster.crash("a");
    cluster.run(10_000);
    assert_eq!(cluster.answering(), ["b"]);
}

/// Found by simulation: an owner, cut off, held on. Nobody wanted the address for a while, and its void claim was swept. When it was
/// wanted again, a strict node took it and asked nobody. So did any node that had been restarted meanwhile and watched for D_MAX.
#[test]
fn a_claim_that_was_swept_is_not_taken_while_its_owner_is_heard() {
    for (strict, restarts) in [(true, false), (true, true), (false, false), (false, true)] {
        let mut cluster = beside_a_holder(strict);
        let wanted = Arc::new(demand(&["a", "b"], &[], 0));
        let unwanted = Arc::new(Demand { vips: BTreeMap::new(), ..Demand::clone(&wanted) });
        cluster.step("b", Input::Demand(unwanted.clone()));
        cluster.run(100_000);
        assert!(cluster.claim().is_none() && cluster.session("a").holder.is_none(), "fenced and swept");
        if restarts {
            let left = cluster.crash("b");
            cluster.start_unlisted("b", "boot2", left);
            cluster.step("b", Input::Demand(unwanted));
            cluster.list("b");
        }
        cluster.run(100_000);
        cluster.step("b", Input::Demand(wanted));
        is_taken_when_it_dies(&mut cluster);
    }
}

/// Found by simulation: an owner, cut off, held on, and a hand wrote a session into its claim that nobody knew. A strict node, which
/// did not know of it that its owner might hold on, took it and asked nobody.
#[test]
fn a_claim_of_a_session_that_nobody_knows_is_not_taken_while_its_owner_is_heard() {
    for strict in [false, true] {
        let mut cluster = beside_a_holder(strict);
        cluster.run(20_000);
        let claim = cluster.claim().expect("a claim");
        cluster.put(Record::Claim(Claim { session_uid: "by hand".to_owned(), ..claim }));
        is_taken_when_it_dies(&mut cluster);
    }
}

/// Found by simulation: an owner, cut off, held on, and was fenced. A hand wrote into its void claim that it was released. More than a
/// minute later somebody wanted the address again, and asked nobody.
#[test]
fn a_claim_that_a_hand_has_released_is_not_taken_while_its_fenced_owner_is_heard() {
    let mut cluster = Cluster::holding(&["a", "b"]);
    cluster.node("a").cut = true;
    cluster.run(5_000);
    cluster.step("b", Input::Demand(Arc::new(demand(&["a"], &[], 0))));
    cluster.run(30_000);
    assert!(cluster.session("a").holder.is_none(), "fenced");
    for restarts in [false, true] {
        let claim = cluster.claim().expect("a claim");
        cluster.put(Record::Claim(Claim { holder: None, heir: None, write: "by hand".to_owned(), ..claim }));
        if restarts {
            let left = cluster.crash("b");
            cluster.start_unlisted("b", "boot2", left);
            cluster.step("b", Input::Demand(Arc::new(demand(&["a"], &[], 0))));
            cluster.list("b");
        }
        cluster.run(90_000);
        cluster.step("b", Input::Demand(Arc::new(demand(&["a", "b"], &[], 0))));
        // Never two: `run` looks.
        cluster.run(30_000);
        assert_eq!(cluster.answering(), ["a"]);
        cluster.step("b", Input::Demand(Arc::new(demand(&["a"], &[], 0))));
    }
    cluster.crash("a");
    cluster.step("b", Input::Demand(Arc::new(demand(&["a", "b"], &[], 0))));
    cluster.run(5_000);
    assert_eq!(cluster.answering(), ["b"]);
}

/// Found by simulation: as above, and the claim that stood in the new history was one of our own.
#[test]
fn after_a_restored_store_nothing_is_taken_from_whoever_is_heard() {
    let mut cluster = Cluster::holding(&["a", "b"]);
    let snapshot = cluster.store.clone();
    cluster.crash("a");
    cluster.run(60_000);
    assert_eq!(cluster.answering(), ["b"]);
    cluster.start("a", "boot2", Target::default());
    cluster.run(5_000);
    cluster.node("b").cut = true;
    cluster.store.restore(&snapshot);
    cluster.step("a", Input::WatchBroke);
    cluster.list("a");
    cluster.run(100_000);
    assert_eq!(cluster.answering(), ["b"], "it holds on, and is heard");
}

/// A hand lowered an epoch; the node died, and began again with that one. Whoever remembered the greater one took from it.
#[test]
fn what_a_session_says_now_is_true_for_those_who_remember_more() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    let mut raised = cluster.session("a");
    (raised.epoch, raised.renewal, raised.version.0) =
        (raised.epoch + 5, "by hand".to_owned(), raised.version.0 + 1);
    let view = |cluster: &Cluster| {
        let claim = cluster.claim().expect("a claim");
        cluster.nodes["b"].machine.view().owner(&claim, at(cluster.now)).map(|(node, ..)| node.to_owned())
    };
    let before = cluster.session("a");
    cluster.node("b").held_back = true;
    cluster.step("b", Input::Changed(Record::Session(raised.clone())));
    assert_eq!(view(&cluster).as_deref(), Some("b"), "its heir");
    let lowered = super::lease::Session {
        epoch: before.epoch,
        version: super::lease::Version(raised.version.0 + 1),
        ..raised
    };
    cluster.step("b", Input::Changed(Record::Session(lowered)));
    assert_eq!(view(&cluster).as_deref(), Some("a"));
}

#[test]
fn a_link_that_comes_and_goes_names_no_other_heir() {
    let mut cluster = Cluster::settled(&["a", "b", "c"]);
    let (before, writes) = (heir(&cluster), cluster.claim().map(|claim| claim.version));
    let next = if before == "b" { "b" } else { "c" };
    cluster.step(next, Input::Links(Default::default()));
    cluster.run(5_000);
    cluster.step(next, Input::Links(["eth0".to_owned()].into_iter().collect()));
    cluster.run(30_000);
    assert_eq!(cluster.claim().map(|claim| claim.version), writes);
    cluster.step(next, Input::Links(Default::default()));
    cluster.run(15_000);
    assert_ne!(heir(&cluster), before, "gone for long");
}

fn want_many(cluster: &mut Cluster, nodes: &[&str], count: u32) {
    let mut many = demand(nodes, &[], 0);
    let wanted = many.vips[&vip()].clone();
    for n in 0..count {
        let address = std::net::Ipv4Addr::from_bits(0x0a01_0000 + n);
        many.vips.insert(crate::vocabulary::Vip::from(address), wanted.clone());
    }
    let many = Arc::new(many);
    for name in nodes {
        cluster.step(name, Input::Demand(many.clone()));
    }
}

#[test]
fn hundreds_of_claims_find_their_heirs_a_few_at_a_time() {
    let mut cluster = Cluster::holding(&["a", "b"]);
    want_many(&mut cluster, &["a", "b"], 500);
    cluster.node("b").held_back = true;
    cluster.run(1_000);
    let puts = cluster
        .node("b")
        .out
        .iter()
        .filter(|(_, request)| put_claim(&[(super::Token(0), request.clone())]).is_some());
    assert!(puts.count() <= CHORES_IN_FLIGHT);
    cluster.node("b").held_back = false;
    cluster.run(3_000);
    let heirs = cluster
        .store
        .objects
        .values()
        .filter(|record| matches!(record, Record::Claim(claim) if claim.heir.is_some()));
    assert_eq!(heirs.count(), 501);
}

#[test]
fn one_tenants_address_does_not_stand_behind_hundreds_of_anothers_that_are_handed_over() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    want_many(&mut cluster, &["a", "b"], 500);
    cluster.run(100_000);
    let mut cordoned = demand(&["a", "b"], &["a"], 0);
    let wanted = |service: &str| {
        let services = [service.to_owned()].into();
        crate::policy::VipDemand { services, ..cordoned.vips[&vip()].clone() }
    };
    let (noisy, quiet) = (wanted("noisy/web"), wanted("quiet/web"));
    let last = *cluster.target("a").held.last().expect("hundreds");
    let whose = |vip| if vip == last { quiet.clone() } else { noisy.clone() };
    cordoned.vips = cluster.target("a").held.iter().map(|vip| (*vip, whose(*vip))).collect();
    cluster.node("a").held_back = true;
    cluster.step("a", Input::Demand(Arc::new(cordoned)));
    cluster.run(100);
    assert!(!cluster.target("a").held.contains(&last), "the last of hundreds is among the first to go");
}

#[test]
fn of_hundreds_of_addresses_that_are_handed_over_each_is_answered_until_its_turn() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    want_many(&mut cluster, &["a", "b"], 500);
    cluster.run(100_000);
    let mut cordoned = demand(&["a", "b"], &["a"], 0);
    let wanted = cordoned.vips[&vip()].clone();
    cordoned.vips = cluster.target("a").held.iter().map(|vip| (*vip, wanted.clone())).collect();
    let all = cordoned.vips.len();
    assert!(all > 250, "{all}");
    cluster.node("a").held_back = true;
    cluster.step("a", Input::Demand(Arc::new(cordoned)));
    cluster.run(100);
    let out = &cluster.node("a").out;
    let released = out.iter().filter(
        |(_, request)| matches!(request, Request::Put(Record::Claim(claim)) if claim.holder.is_none()),
    );
    assert_eq!(released.count(), super::CLAIMS_IN_FLIGHT);
    assert_eq!(cluster.target("a").held.len(), all - super::CLAIMS_IN_FLIGHT);
    cluster.node("a").held_back = false;
    cluster.run(3_000);
    assert!(cluster.target("a").held.is_empty());
}

/// Found by reading: written late, after the fence, it would have voided the claim under an heir that answers.
#[test]
fn an_owner_that_takes_its_own_claim_again_leaves_its_heir() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    cluster.node("a").held_back = true;
    cluster.step("a", Input::Links(Default::default()));
    for (token, _) in std::mem::take(&mut cluster.node("a").out) {
        cluster.answer("a", token, Answer::Refused);
    }
    cluster.step("a", Input::Links(["eth0".to_owned()].into_iter().collect()));
    cluster.now += 1_500;
    cluster.node("a").out.clear();
    cluster.step("a", Input::Tick);
    let out = cluster.node("a").out.clone();
    let again = put_claim(&out).expect("it takes what it gave up, and still has");
    assert_eq!(
        (again.holder.as_deref(), again.heir.as_ref().map(|heir| heir.node.as_str())),
        (Some("a"), Some("b"))
    );
}

/// Found by reading: an heir whose consent was on its way when the fence came answered only seconds later. By the same way a
/// release was forgotten.
#[test]
fn what_is_due_when_a_chore_ends_is_done_at_once() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    let claim = cluster.claim().expect("a claim");
    cluster.node("b").held_back = true;
    let asked = Claim { heir: None, write: "by hand".to_owned(), ..claim };
    let asked = cluster.put(Record::Claim(asked));
    cluster.step("b", asked);
    let (token, accept) = cluster.next_request("b");
    let fenced = cluster.fence("a");
    cluster.crash("a");
    let accepted = cluster.commit(&accept);
    cluster.step("b", fenced);
    assert!(cluster.answering().is_empty(), "its consent is not known to be written");
    cluster.answer("b", token, accepted);
    assert_eq!(cluster.answering(), ["b"], "at once");
}

/// Found by reading, and by a test on real parts: an agent ended before its release, which had collided, was written again.
#[test]
fn an_agent_that_goes_away_stays_until_its_session_is_ended() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    cluster.node("a").held_back = true;
    cluster.step("a", Input::Shutdown(true));
    let (token, ended) = cluster.next_request("a");
    let edited = super::lease::Session { renewal: "by hand".to_owned(), ..cluster.session("a") };
    assert!(matches!(cluster.commit(&Request::Put(Record::Session(edited))), Answer::Done(_)));
    let conflict = cluster.commit(&ended);
    cluster.answer("a", token, conflict);
    let (token, look) = cluster.next_request("a");
    let found = cluster.commit(&look);
    cluster.answer("a", token, found);
    assert!(cluster.node("a").machine.is_busy(), "though nothing is on its way");
    cluster.node("a").held_back = false;
    cluster.run(300);
    assert_eq!(cluster.answering(), ["b"]);
    assert!(!cluster.node("a").machine.is_busy());
}

#[test]
fn who_has_ended_its_session_itself_is_not_asked_for() {
    let mut cluster = Cluster::holding(&["a", "b"]);
    cluster.step("a", Input::Shutdown(true));
    let (_, ended) = cluster.next_request("a");
    let Answer::Done(ended) = cluster.commit(&ended) else { panic!("a conflict") };
    cluster.node("b").held_back = true;
    cluster.step("b", Input::Changed(ended));
    let (token, read) = cluster.next_request("b");
    assert_eq!(read, Request::Get("session-b".to_owned()), "whether it was fenced itself is all it asks");
    let answer = cluster.commit(&read);
    cluster.answer("b", token, answer);
    assert_eq!(cluster.answering(), ["b"]);
}

/// Found by simulation: who had been fenced saw no more than that its session was gone, and took its claim again at once; then
/// the late watch of its heir brought the fence.
#[test]
fn who_may_have_been_fenced_before_its_session_was_deleted_leaves_its_claims_to_their_heirs() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    let late = cluster.node("a").cursor;
    cluster.node("a").cursor = usize::MAX;
    cluster.node("b").cursor = usize::MAX;
    cluster.fence("a");
    cluster.store.delete(cluster.now, "session-a");
    cluster.run(12_000);
    assert_eq!(
        cluster.session("a").holder,
        Some(super::scripted::holder("a", "boot1")),
        "it has begun another"
    );
    assert!(cluster.answering().is_empty());
    cluster.node("b").cursor = late;
    cluster.run(1_000);
    assert_eq!(cluster.answering(), ["b"]);
}

#[test]
fn whose_session_is_seen_to_be_deleted_unfenced_answers_again_at_once() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    cluster.store.delete(cluster.now, "session-a");
    cluster.run(500);
    assert_eq!(cluster.answering(), ["a"]);
}

/// Found by simulation: one that hears badly took an address from an owner that was cut off, passed it on before it had answered,
/// and its successor, to which it seemed to be handed over, asked nobody.
#[test]
fn who_passes_on_what_it_took_and_did_not_answer_for_leaves_it_to_its_successor_to_ask() {
    let mut cluster = Cluster::empty(&["a", "b"], false);
    cluster.start("a", "boot1", Target::default());
    cluster.start("b", "boot1", Target::default());
    cluster.node("a").held_back = true;
    cluster.run(100);
    cluster.node("b").held_back = true;
    cluster.list("a");
    loop {
        let (token, request) = cluster.until_it_sends("a");
        if let Request::Probe(vip) = request {
            cluster.step("a", Input::Probed(vip, super::Probed::Unused));
            continue;
        }
        let answer = cluster.commit(&request);
        cluster.answer("a", token, answer);
        if put_claim(&[(token, request)]).is_some() {
            break;
        }
    }
    let renewal = "2".to_owned();
    let renewed = Record::Session(super::lease::Session { renewal, ..cluster.session("b") });
    let renewed = cluster.put(renewed);
    cluster.step("a", renewed);
    cluster.step("a", Input::Demand(Arc::new(demand(&["a", "b"], &["a"], 0))));
    let released = put_claim(&cluster.node("a").out).cloned().expect("it is cordoned");
    assert!(cluster.answering().is_empty(), "and not sure yet that it may answer");
    let released = cluster.put(Record::Claim(released));
    let session = Record::Session(cluster.session("a"));
    cluster.step("b", Input::Changed(session));
    cluster.step("b", released);
    let (_, asked) = cluster.until_it_sends("b");
    assert_eq!(asked, Request::Probe(vip()));
}

/// Found on a real cluster: a node was drained just when its heir wrote its consent, and the address was dark for 250 ms.
#[test]
fn a_release_that_collides_is_written_again_as_soon_as_it_is_read_with_what() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    cluster.node("a").held_back = true;
    let consent = Claim { write: "meanwhile".to_owned(), ..cluster.claim().expect("a claim") };
    cluster.put(Record::Claim(consent));
    cluster.step("a", Input::Demand(Arc::new(demand(&["a", "b"], &["a"], 0))));
    assert!(cluster.answering().is_empty(), "given up");
    for _ in ["the release", "the read", "the release again"] {
        let (token, request) = cluster.next_request("a");
        let answer = cluster.commit(&request);
        cluster.answer("a", token, answer);
    }
    assert_eq!(cluster.claim().and_then(|claim| claim.holder), None);
}

#[test]
fn a_release_that_is_refused_as_a_conflict_again_and_again_is_not_written_without_a_pause() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    cluster.node("a").held_back = true;
    cluster.step("a", Input::Demand(Arc::new(demand(&["a", "b"], &["a"], 0))));
    let mut writes = 0;
    while !cluster.node("a").out.is_empty() && writes < 10 {
        let (token, request) = cluster.next_request("a");
        let refused = matches!(request, Request::Put(Record::Claim(_)));
        writes += u32::from(refused);
        // As an admission webhook may.
        let answer = if refused { super::Answer::Conflict } else { cluster.commit(&request) };
        cluster.answer("a", token, answer);
    }
    assert_eq!(writes, 1);
}

#[test]
fn an_heir_without_a_policy_leaves_what_it_inherits_to_others() {
    let mut cluster = Cluster::settled(&["a", "b", "c"]);
    let (next, other) = if heir(&cluster) == "b" { ("b", "c") } else { ("c", "b") };
    let kernel = cluster.crash(next);
    cluster.begin(next, "boot1", kernel);
    cluster.list(next);
    cluster.crash("a");
    cluster.run(20_000);
    assert!(cluster.answering().is_empty(), "it is the heir's");
    cluster.run(15_000);
    assert_eq!(cluster.answering(), [other]);
}

#[test]
fn an_heir_that_cannot_ask_leaves_what_it_inherits_to_others() {
    let mut cluster = Cluster::holding(&["a", "b", "c"]);
    let (next, other) = if heir(&cluster) == "b" { ("b", "c") } else { ("c", "b") };
    cluster.node(next).dark = true;
    cluster.crash("a");
    cluster.run(35_000);
    assert_eq!(cluster.answering(), [other]);
}

/// Found by simulation: it had answered for it before in the same epoch, and the one that came after it was forgotten.
#[test]
fn who_inherits_what_it_once_had_and_cannot_ask_names_the_one_that_had_it_since() {
    let mut cluster = Cluster::holding(&["a", "b"]);
    let cordoned = |of: &[&str]| Input::Demand(Arc::new(demand(&["a", "b"], of, 0)));
    ["a", "b"].iter().for_each(|name| cluster.step(name, cordoned(&["a"])));
    cluster.run(1_000);
    assert_eq!(cluster.answering(), ["b"]);
    ["a", "b"].iter().for_each(|name| cluster.step(name, cordoned(&[])));
    cluster.run(20_000);
    assert_eq!(heir(&cluster), "a");
    cluster.node("a").dark = true;
    cluster.crash("b");
    cluster.run(35_000);
    let released = cluster.claim().expect("a claim");
    assert_eq!((released.holder.as_deref(), released.heir), (Some("b"), None));
}

#[test]
fn what_is_handed_over_to_another_than_its_heir_moves_once() {
    let mut cluster = Cluster::holding(&["a", "b", "c"]);
    let (next, other) = if heir(&cluster) == "b" { ("b", "c") } else { ("c", "b") };
    let cordoned = Arc::new(demand(&["a", "b", "c"], &["a", next], 0));
    let before = cluster.store.log.len();
    for name in ["a", "b", "c"] {
        cluster.step(name, Input::Demand(cordoned.clone()));
    }
    cluster.run(1_000);
    assert_eq!(cluster.answering(), [other], "as soon as that one has accepted");
    let released = cluster.store.log[before..].iter().find_map(|(_, event)| match event {
        Event::Changed(Record::Claim(claim)) if claim.holder.is_none() => claim.heir.clone(),
        _ => None,
    });
    assert_eq!(released.map(|heir| heir.node).as_deref(), Some(other), "by the release alone");
}

#[test]
fn nodes_that_come_and_go_leave_no_claim_without_an_heir() {
    let mut cluster = Cluster::settled(&["a", "b", "c", "d"]);
    let before = heir(&cluster);
    let restless = if before == "d" { "c" } else { "d" };
    let before = *cluster.names.iter().find(|name| **name == before).expect("a node");
    cluster.crash(before);
    for round in 0..20 {
        let links = if round % 2 == 0 { None } else { Some("eth0".to_owned()) };
        cluster.step(restless, Input::Links(links.into_iter().collect()));
        cluster.run(5_000);
    }
    assert_ne!(heir(&cluster), before);
}

#[test]
fn a_node_that_may_not_have_an_address_is_not_its_heir() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    cluster.step("b", Input::Demand(Arc::new(demand(&["a"], &[], 0))));
    cluster.run(10_000);
    let claim = cluster.claim().expect("a claim");
    assert_eq!((claim.preferred.as_deref(), claim.heir), (Some("b"), None), "whatever its owner sees");
    cluster.step("b", Input::Demand(Arc::new(demand(&["a", "b"], &[], 0))));
    cluster.run(10_000);
    assert_eq!(heir(&cluster), "b");
}

/// Found by simulation: another machine of that name, which does not hold on, had begun a greater epoch; nobody asked for the
/// first one any more, which did.
#[test]
fn what_a_session_says_is_said_of_its_own_epoch_alone() {
    let mut cluster = Cluster::holding(&["a", "b"]);
    cluster.node("a").cut = true;
    cluster.run(8_000);
    cluster.node("b").held_back = true;
    let session = cluster.session("a");
    let other = super::lease::Session {
        holder: Some(super::scripted::holder("a", "boot of another machine")),
        epoch: session.epoch + 1,
        on_api_loss: "fence".to_owned(),
        renewal: "1".to_owned(),
        ..session
    };
    let other = cluster.put(Record::Session(other));
    cluster.step("b", other);
    assert_eq!(cluster.answering(), ["a"], "it holds on, and is to be asked for");
    assert!(cluster.node("b").out.iter().any(|(_, request)| matches!(request, Request::Probe(_))));
}

/// Found by simulation: as above, and whoever followed had begun only then. What the other machine says, which is `strict`, was
/// believed of an epoch that it never held.
#[test]
fn of_an_epoch_that_another_machine_held_a_strict_one_says_nothing() {
    let mut cluster = Cluster::holding(&["a", "b"]);
    cluster.node("a").cut = true;
    cluster.run(8_000);
    let session = cluster.session("a");
    let other = super::lease::Session {
        holder: Some(super::scripted::holder("a", "boot of another machine")),
        epoch: session.epoch + 1,
        on_api_loss: "fence".to_owned(),
        fencing: "strict".to_owned(),
        renewal: "1".to_owned(),
        ..session
    };
    cluster.put(Record::Session(other));
    let kernel = cluster.crash("b");
    cluster.start("b", "boot1", kernel);
    // Never two: `run` looks.
    cluster.run(60_000);
    assert_eq!(cluster.answering(), ["a"], "it holds on, and is heard");
}

/// Found by reading: once nodes that come and go had been waited for for long enough, a few claims found an heir, and the rest
/// waited anew.
#[test]
fn nodes_that_come_and_go_leave_none_of_many_claims_without_an_heir() {
    let mut cluster = Cluster::settled(&["a", "b", "c", "d"]);
    want_many(&mut cluster, &["a", "b", "c", "d"], 60);
    cluster.run(100_000);
    cluster.crash("b");
    for round in 0..20 {
        let links = if round % 2 == 0 { None } else { Some("eth0".to_owned()) };
        cluster.step("d", Input::Links(links.into_iter().collect()));
        cluster.run(5_000);
    }
    let claims = cluster.store.objects.values();
    let of_dead =
        |record: &&Record| matches!(record, Record::Claim(claim) if claim.preferred.as_deref() == Some("b"));
    assert_eq!(claims.filter(of_dead).count(), 0);
}

/// Found by reading: who joins after the holder has left, and before its heir has written anything, asks for that one.
#[test]
fn who_has_died_last_is_named_as_the_one_that_failed() {
    let mut cluster = Cluster::settled(&["a", "b", "c"]);
    let (next, other) = if heir(&cluster) == "b" { ("b", "c") } else { ("c", "b") };
    cluster.step("a", Input::Shutdown(true));
    let (_, ended) = cluster.next_request("a");
    cluster.crash("a");
    cluster.node(next).held_back = true;
    let Answer::Done(ended) = cluster.commit(&ended) else { panic!("a conflict") };
    cluster.step(next, Input::Changed(ended));
    assert_eq!(cluster.answering(), [next]);
    cluster.crash(next);
    cluster.run(30_000);
    let gained = cluster.node(other).machine.take_changes().find_map(|change| match change {
        super::Change::Gained { why, .. } => Some(why),
        _ => None,
    });
    assert_eq!(gained, Some(super::Why::Failover(next.to_owned())));
}

/// Found by reading: the agent was restarted with `hold`, and nobody saw it say so but in the fence.
#[test]
fn a_fence_tells_what_the_version_before_it_said() {
    let cluster = Cluster::holding(&["a", "b"]);
    let said = cluster.session("a");
    let mut view = super::View::default();
    let fence = super::lease::Session { on_api_loss: "fence".to_owned(), ..said.clone() };
    view.changed(at(0), Record::Session(fence));
    let binding = ("a", said.uid.as_str(), said.epoch);
    assert_eq!(view.may_hold_on(binding), Some(false));
    let version = super::lease::Version(said.version.0 + 2);
    let fenced =
        super::lease::Session { holder: None, epoch: said.epoch + 1, version, ..cluster.session("a") };
    view.changed(at(1), Record::Session(fenced));
    assert_eq!(view.may_hold_on(binding), Some(true));
}

#[test]
fn a_node_that_joins_is_no_reason_to_go_through_thousands_of_claims_at_once() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    let joined = super::lease::Session {
        name: super::lease::session_name("c"),
        uid: String::new(),
        version: super::lease::Version(0),
        holder: Some(super::scripted::holder("c", "boot1")),
        ..cluster.session("b")
    };
    let joined = cluster.put(Record::Session(joined));
    let now = cluster.now;
    let machine = &mut cluster.node("a").machine;
    (machine.claims_due, machine.claims_due_at) = (false, None);
    machine.step(at(now), joined);
    assert!(!machine.claims_due);
    assert!(machine.claims_due_at.is_some_and(|due| due > at(now) && due <= at(now + 1_000)));
}

#[test]
fn a_peer_that_is_heard_in_time_is_no_reason_to_go_through_thousands_of_claims() {
    let mut cluster = Cluster::settled(&["a", "b"]);
    cluster.run(20_000);
    let now = cluster.now;
    let machine = &mut cluster.node("a").machine;
    let due = machine.unheard_at.expect("somebody is heard");
    assert!(due > at(now), "{due:?}");
    let last = machine.view().sessions.values().map(|seen| seen.heard_until()).max().expect("b");
    (machine.claims_due_at, machine.unheard_at) = (None, Some(at(now - 1)));
    machine.find_unheard(at(now));
    assert!(machine.claims_due_at.is_none() && machine.unheard_at.is_some_and(|due| due > at(now)));
    machine.find_unheard(last);
    assert!(machine.claims_due_at.is_some_and(|due| due > last), "nobody has been heard since");
}

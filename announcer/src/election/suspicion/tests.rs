use std::sync::Arc;

use super::{super::scripted, *};
use crate::{
    election::{
        Answer, Change, Input, Request,
        scripted::{Cluster, at, demand, vip},
    },
    policy::Interfaces,
};

/// These nodes hear nothing of `of` any more.
fn silent(cluster: &mut Cluster, by: &[&'static str], of: &str, witness: Witness) {
    let silent: SilentPeers = [((of.to_owned(), "eth0".to_owned()), witness)].into();
    for name in by {
        cluster.step(name, Input::Silent(silent.clone()));
    }
}

fn heard(cluster: &mut Cluster, by: &str) {
    cluster.step(by, Input::Silent(SilentPeers::new()));
}

/// The owner's machine is gone, and its kernel with it.
fn dies(cluster: &mut Cluster, name: &str) {
    cluster.crash(name);
}

/// Whether it was, be it that it lives again by now under another epoch.
fn is_fenced(cluster: &Cluster, name: &str) -> bool {
    let session = cluster.session(name);
    session.holder.is_none() || session.early.is_some()
}

#[test]
fn a_node_that_nobody_hears_is_fenced_and_replaced_while_its_lease_is_running() {
    let mut cluster = Cluster::early(&["a", "b", "c"]);
    let epoch = cluster.session("a").epoch;
    dies(&mut cluster, "a");
    silent(&mut cluster, &["b", "c"], "a", Witness::Peer);
    cluster.run(150);
    let session = cluster.session("a");
    assert_eq!((session.holder, session.epoch, session.early), (None, epoch + 1, Some(epoch)));
    assert_eq!(cluster.answering().len(), 1);
    let told = |cluster: &mut Cluster, name| cluster.node(name).machine.take_changes().collect::<Vec<_>>();
    let changes = [told(&mut cluster, "b"), told(&mut cluster, "c")].concat();
    let grounds = Grounds::Wire { link: "eth0".to_owned(), agreed: 2 };
    let fence = |change: &&Change| matches!(change, Change::FencedPeer { grounds: g, .. } if *g == grounds);
    assert_eq!(changes.iter().filter(fence).count(), 1, "one fences: {changes:?}");
}

#[test]
fn one_that_still_hears_it_is_enough_to_leave_it_alone() {
    let mut cluster = Cluster::early(&["a", "b", "c", "d"]);
    silent(&mut cluster, &["b", "c"], "a", Witness::Gateway);
    cluster.run(10_000);
    assert!(!is_fenced(&cluster, "a"));
    assert_eq!(cluster.answering(), ["a"]);
}

#[test]
fn of_two_nodes_the_one_that_the_gateway_answers_fences_the_other() {
    let mut cluster = Cluster::early(&["a", "b"]);
    dies(&mut cluster, "a");
    silent(&mut cluster, &["b"], "a", Witness::Peer);
    cluster.run(3_000);
    assert!(!is_fenced(&cluster, "a"), "who hears no gateway may be the one that is cut off");
    silent(&mut cluster, &["b"], "a", Witness::Gateway);
    cluster.run(300);
    assert!(is_fenced(&cluster, "a"));
    assert_eq!(cluster.answering(), ["b"]);
}

/// Found by simulation: of two nodes one agrees with itself, and it ended what the survey had found, whatever that was.
#[test]
fn an_epoch_that_only_the_survey_has_brought_is_not_fenced_for_the_one_before() {
    let mut cluster = Cluster::early(&["a", "b"]);
    dies(&mut cluster, "a");
    cluster.node("b").held_back = true;
    let session = cluster.session("a");
    let renewal = "2".to_owned();
    cluster.put(Record::Session(Session { epoch: session.epoch + 1, renewal, ..session }));
    silent(&mut cluster, &["b"], "a", Witness::Gateway);
    let mut surveys = 0;
    while surveys == 0 {
        let (token, request) = cluster.until_it_sends("b");
        surveys += u32::from(request == Request::Survey);
        let answer = cluster.commit(&request);
        cluster.answer("b", token, answer);
    }
    let fences = |(_, request): &(_, Request)| matches!(request, Request::Put(Record::Session(put)) if put.name == "session-a");
    assert!(!cluster.node("b").out.iter().any(fences));
}

#[test]
fn half_of_a_split_segment_fences_the_other_half_only_with_the_gateway() {
    let mut cluster = Cluster::early(&["a", "b", "c", "d"]);
    for name in ["c", "d"] {
        let both = ["a", "b"].map(|of| ((of.to_owned(), "eth0".to_owned()), Witness::Peer));
        cluster.step(name, Input::Silent(both.into()));
    }
    cluster.run(3_000);
    assert!(!is_fenced(&cluster, "a") && !is_fenced(&cluster, "b"));
    for name in ["a", "b"] {
        dies(&mut cluster, name);
    }
    for name in ["c", "d"] {
        let both = ["a", "b"].map(|of| ((of.to_owned(), "eth0".to_owned()), Witness::Gateway));
        cluster.step(name, Input::Silent(both.into()));
    }
    cluster.run(300);
    assert!(is_fenced(&cluster, "a") && is_fenced(&cluster, "b"));
}

#[test]
fn more_than_half_are_never_fenced_by_the_others() {
    let mut cluster = Cluster::early(&["a", "b", "c"]);
    let both = ["a", "b"].map(|of| ((of.to_owned(), "eth0".to_owned()), Witness::Gateway));
    cluster.step("c", Input::Silent(both.into()));
    cluster.run(5_000);
    assert!(!is_fenced(&cluster, "a") && !is_fenced(&cluster, "b"));
}

#[test]
fn who_lets_itself_be_fenced_only_strictly_is_not_even_suspected() {
    let mut cluster = Cluster::settled(&["a", "b", "c"]);
    dies(&mut cluster, "a");
    silent(&mut cluster, &["b", "c"], "a", Witness::Gateway);
    cluster.run(10_000);
    assert!(!is_fenced(&cluster, "a"));
    assert!(cluster.session("b").suspects.is_empty());
}

#[test]
fn what_a_stopped_node_suspected_lapses() {
    let mut cluster = Cluster::early(&["a", "b", "c"]);
    silent(&mut cluster, &["c"], "a", Witness::Gateway);
    cluster.exchange();
    assert_eq!(cluster.session("c").suspects.len(), 1);
    cluster.node("c").held_back = true;
    cluster.run(2_100);
    silent(&mut cluster, &["b"], "a", Witness::Gateway);
    cluster.run(900);
    assert!(!is_fenced(&cluster, "a"));
    assert_eq!(cluster.session("c").suspects.len(), 1, "it is still written there");
}

#[test]
fn a_hand_that_edits_a_session_does_not_suspect_in_its_name() {
    let mut cluster = Cluster::early(&["a", "b", "c"]);
    silent(&mut cluster, &["c"], "a", Witness::Gateway);
    cluster.exchange();
    cluster.node("c").held_back = true;
    cluster.run(2_100);
    cluster.store.annotate(cluster.now, "session-c");
    silent(&mut cluster, &["b"], "a", Witness::Gateway);
    cluster.run(900);
    assert!(!is_fenced(&cluster, "a"));
}

#[test]
fn a_suspicion_that_was_taken_back_unseen_is_found_out_by_the_survey() {
    let mut cluster = Cluster::early(&["a", "b", "c"]);
    silent(&mut cluster, &["c"], "a", Witness::Gateway);
    cluster.exchange();
    // b's watch is silent from now on: it does not see that c hears a again.
    cluster.node("b").held_back = true;
    heard(&mut cluster, "c");
    cluster.exchange();
    assert!(cluster.session("c").suspects.is_empty());
    silent(&mut cluster, &["b"], "a", Witness::Gateway);
    let mut surveys = 0;
    for _ in 0..20 {
        while let Some((token, request)) = cluster.node("b").out.pop() {
            surveys += u32::from(request == Request::Survey);
            let answer = cluster.commit(&request);
            cluster.answer("b", token, answer);
        }
        cluster.run(50);
    }
    assert!(surveys > 0, "it believed to agree with c");
    assert!(!is_fenced(&cluster, "a"));
}

#[test]
fn a_suspicion_is_of_one_epoch() {
    let mut cluster = Cluster::early(&["a", "b", "c"]);
    silent(&mut cluster, &["c"], "a", Witness::Gateway);
    cluster.exchange();
    let before = cluster.session("c").suspects;
    cluster.node("c").held_back = true;
    cluster.fence("a");
    cluster.node("b").held_back = true;
    cluster.run(100);
    let after = cluster.session("a");
    assert!(after.holder.is_some() && before.iter().all(|one| one.epoch < after.epoch));
    cluster.node("b").held_back = false;
    silent(&mut cluster, &["b"], "a", Witness::Gateway);
    // Longer than it takes until a node that is back may be accused, and shorter than until a suspicion lapses.
    cluster.run(1_500);
    assert_eq!(cluster.session("a").epoch, after.epoch);
}

#[test]
fn what_was_ended_early_is_taken_only_once_nobody_answers_for_it() {
    let mut cluster = Cluster::early(&["a", "b", "c"]);
    // a is cut off from the API server, and its kernel goes on until its deadline; b and c are deaf to it at first.
    cluster.node("a").cut = true;
    silent(&mut cluster, &["b", "c"], "a", Witness::Peer);
    cluster.exchange();
    cluster.run(4_000);
    assert!(is_fenced(&cluster, "a"));
    assert_eq!(cluster.answering(), ["a"], "it is heard when its address is asked for");
    cluster.run(14_000);
    assert_eq!(cluster.answering().len(), 1);
    assert_ne!(cluster.answering(), ["a"]);
}

#[test]
fn a_suspicion_without_agreement_costs_a_few_writes_and_no_more() {
    let mut cluster = Cluster::early(&["a", "b", "c"]);
    silent(&mut cluster, &["b"], "a", Witness::Gateway);
    let before = cluster.store.writes;
    cluster.run(60_000);
    let renewals = 3 * 60 / 4;
    assert!(cluster.store.writes - before <= renewals + 8, "{}", cluster.store.writes - before);
    assert!(cluster.session("b").suspects.is_empty(), "in the end the lease decides");
}

#[test]
fn who_is_suspected_by_others_is_asked_by_everybody() {
    let mut cluster = Cluster::early(&["a", "b", "c"]);
    let watched = |cluster: &Cluster| {
        let key = ("a".to_owned(), "eth0".to_owned());
        cluster.nodes["c"].machine.watched().get(&key).cloned()
    };
    assert_eq!(watched(&cluster), Some(Watched { vips: vec![vip()], doubted: false }));
    silent(&mut cluster, &["b"], "a", Witness::Gateway);
    cluster.run(100);
    assert_eq!(watched(&cluster), Some(Watched { vips: vec![vip()], doubted: true }));
    heard(&mut cluster, "b");
    cluster.run(100);
    assert_eq!(watched(&cluster), Some(Watched { vips: vec![vip()], doubted: false }));
}

#[test]
fn a_false_alarm_of_all_moves_nothing_once_it_is_over_in_time() {
    let mut cluster = Cluster::early(&["a", "b", "c"]);
    // All are deaf to a, but b and c cannot write: nothing is agreed.
    cluster.node("b").cut = true;
    silent(&mut cluster, &["b", "c"], "a", Witness::Gateway);
    cluster.run(1_000);
    for name in ["b", "c"] {
        heard(&mut cluster, name);
    }
    cluster.node("b").cut = false;
    cluster.run(20_000);
    assert_eq!(cluster.answering(), ["a"]);
}

#[test]
fn in_a_large_cluster_each_node_watches_a_few_and_each_is_watched_by_as_many() {
    for size in 2..60_usize {
        let names: Vec<String> = (0..size).map(|n| format!("node-{n}")).collect();
        let mut watchers: BTreeMap<&str, usize> = BTreeMap::new();
        for me in &names {
            let watched = ring(me, names.iter().map(String::as_str).filter(|name| name != me));
            assert_eq!(watched.len(), WATCHED_PEERS.min(size - 1));
            watched.into_iter().for_each(|name| *watchers.entry(name).or_default() += 1);
        }
        assert!(names.iter().all(|name| watchers[name.as_str()] == WATCHED_PEERS.min(size - 1)), "{size}");
    }
}

#[test]
fn an_address_is_asked_for_on_the_links_that_announce_it_and_both_have() {
    let mut cluster = Cluster::early(&["a", "b"]);
    cluster.step("a", Input::Links(["eth0", "eth1"].map(str::to_owned).into_iter().collect()));
    cluster.step("b", Input::Links(["eth0", "eth2"].map(str::to_owned).into_iter().collect()));
    cluster.run(2_000);
    let links: Vec<&String> = cluster.nodes["b"].machine.watched().keys().map(|(_, link)| link).collect();
    assert_eq!(links, ["eth0"]);
}

/// Found by a reader: peers went on asking on the other links, where its kernel rightly said nothing, and fenced it.
#[test]
fn an_address_that_is_announced_on_fewer_links_than_before_is_asked_for_on_those() {
    let both = || ["eth0", "eth1"].map(str::to_owned).into_iter();
    let watched_after = |a: Links, interfaces: Interfaces| {
        let mut cluster = Cluster::early(&["a", "b"]);
        cluster.step("a", Input::Links(both().collect()));
        cluster.step("b", Input::Links(both().collect()));
        cluster.run(2_000);
        assert_eq!(cluster.nodes["b"].machine.watched().len(), 2);
        cluster.step("a", Input::Links(a));
        let mut demand = demand(&["a", "b"], &[], 0);
        for candidate in demand.vips.values_mut().flat_map(|v| Arc::make_mut(&mut v.candidates).values_mut())
        {
            candidate.interfaces = interfaces.clone();
        }
        cluster.run(1_000);
        cluster.step("b", Input::Demand(Arc::new(demand)));
        let watched = cluster.nodes["b"].machine.watched().keys();
        watched.map(|(_, link)| link.clone()).collect::<Vec<_>>()
    };
    let eth1 = || BTreeSet::from(["eth1".to_owned()]);
    assert_eq!(watched_after(both().collect(), Interfaces::Named(eth1())), ["eth1"]);
    let unaddressed = Links { up: both().collect(), only_named: eth1(), ..Links::default() };
    assert_eq!(watched_after(unaddressed, Interfaces::All), ["eth0"]);
}

#[test]
fn a_survey_that_lacks_a_session_leads_to_no_fence() {
    let mut cluster = Cluster::early(&["a", "b", "c"]);
    dies(&mut cluster, "a");
    for name in ["b", "c"] {
        cluster.node(name).held_back = true;
    }
    silent(&mut cluster, &["b", "c"], "a", Witness::Peer);
    for _ in 0..30 {
        for name in ["b", "c"] {
            while let Some((token, request)) = cluster.node(name).out.pop() {
                let mut answer = cluster.commit(&request);
                if let Answer::Surveyed(sessions) = &mut answer {
                    sessions.retain(|session| session.name() != "session-c");
                }
                cluster.answer(name, token, answer);
            }
            for of in ["b", "c"] {
                let session = cluster.session(of);
                cluster.step(name, Input::Changed(Record::Session(session)));
            }
        }
        cluster.run(50);
    }
    assert!(!is_fenced(&cluster, "a"));
}

#[test]
fn a_node_that_shuts_down_suspects_nobody() {
    let mut cluster = Cluster::early(&["a", "b", "c"]);
    cluster.step("b", Input::Demand(Arc::new(demand(&["a", "b", "c"], &[], 0))));
    cluster.node("b").held_back = true;
    cluster.step("b", Input::Shutdown(false));
    silent(&mut cluster, &["b"], "a", Witness::Gateway);
    let (_, last) = cluster.next_request("b");
    assert!(scripted::written(&last).suspects.is_empty());
    assert!(cluster.target("b").deadline > at(cluster.now));
}

#[test]
fn an_agent_that_has_just_been_started_again_has_a_voice_within_a_second() {
    let mut cluster = Cluster::early(&["a", "b", "c"]);
    let left = cluster.crash("c");
    cluster.start("c", "boot1", left);
    dies(&mut cluster, "a");
    silent(&mut cluster, &["b", "c"], "a", Witness::Peer);
    cluster.run(500);
    assert!(!is_fenced(&cluster, "a"));
    cluster.run(700);
    assert!(is_fenced(&cluster, "a"));
}

#[test]
fn a_kernel_that_is_silent_because_the_api_server_was_away_is_no_dead_node() {
    let mut cluster = Cluster::early(&["a", "b", "c"]);
    for name in ["a", "b", "c"] {
        cluster.node(name).cut = true;
    }
    cluster.run(20_000);
    assert!(cluster.answering().is_empty());
    silent(&mut cluster, &["b", "c"], "a", Witness::Gateway);
    // One after the other is back; the detectors ask again only after a while.
    for name in ["b", "c", "a"] {
        cluster.node(name).cut = false;
        cluster.run(700);
    }
    for name in ["b", "c"] {
        heard(&mut cluster, name);
    }
    cluster.run(20_000);
    assert_eq!(cluster.answering(), ["a"]);
    assert!(!is_fenced(&cluster, "a"));
}

/// Found by the exhaustive model: the renewal commits, its answer is late, and the kernel falls silent; whoever finds that fences
/// this very version, so nothing collides.
#[test]
fn a_late_answer_revives_no_kernel_that_was_fenced_while_it_was_silent() {
    let mut cluster = Cluster::early(&["a", "b", "c"]);
    let (token, renewal) = cluster.until_it_sends("a");
    let answer = cluster.commit(&renewal);
    cluster.now += 10_000;
    assert!(cluster.answering().is_empty());
    cluster.store.annotate(cluster.now, "session-b");
    let session = cluster.session("a");
    cluster.put(Record::Session(Session {
        holder: None,
        epoch: session.epoch + 1,
        early: Some(session.epoch),
        renewal: "by b".to_owned(),
        ..session
    }));
    cluster.answer("a", token, answer);
    assert!(cluster.answering().is_empty(), "it asks first");
    let (token, read) = cluster.next_request("a");
    let answer = cluster.commit(&read);
    cluster.answer("a", token, answer);
    assert_eq!(cluster.target("a"), &Default::default());
}

/// Found by a reader: each slow read was followed by another one, and the renewal never went out.
#[test]
fn an_api_server_that_takes_two_seconds_for_each_answer_keeps_nobody_from_renewing() {
    let mut cluster = Cluster::early(&["a", "b"]);
    cluster.node("a").held_back = true;
    cluster.step("a", Input::LinkUp);
    let mut on_their_way: Vec<(u64, crate::election::Token, Answer)> = Vec::new();
    for _ in 0..1_200 {
        for (token, request) in std::mem::take(&mut cluster.node("a").out) {
            let answer = cluster.commit(&request);
            on_their_way.push((cluster.now + 2_000, token, answer));
        }
        let now = cluster.now;
        let (due, later) = on_their_way.into_iter().partition(|(at, ..)| *at <= now);
        on_their_way = later;
        let due: Vec<(u64, crate::election::Token, Answer)> = due;
        for (_, token, answer) in due {
            cluster.answer("a", token, answer);
        }
        cluster.run(50);
        assert_eq!(cluster.answering(), ["a"], "at {} ms", cluster.now);
    }
}

/// Found by a reader: two halves that both hear the gateway fenced each other, and nobody answered.
#[test]
fn of_two_halves_that_both_hear_the_gateway_one_fences_the_other() {
    let mut cluster = Cluster::early(&["a", "b"]);
    let before = [cluster.session("a").epoch, cluster.session("b").epoch];
    silent(&mut cluster, &["a"], "b", Witness::Gateway);
    silent(&mut cluster, &["b"], "a", Witness::Gateway);
    cluster.run(500);
    let begun = [cluster.session("a").epoch, cluster.session("b").epoch];
    let fenced = begun.iter().zip(before).filter(|(now, before)| **now > *before).count();
    assert_eq!(fenced, 1, "{begun:?}");
}

use super::*;
use crate::election::{
    Input, SilentPeers, Target, Witness,
    scripted::{Cluster, vip},
};

fn silent(cluster: &mut Cluster, by: &[&'static str], of: &str) {
    let silent: SilentPeers = [((of.to_owned(), "eth0".to_owned()), Witness::Gateway)].into();
    for name in by {
        cluster.step(name, Input::Silent(silent.clone()));
    }
}

fn cut(cluster: &mut Cluster, names: &[&'static str], cut: bool) {
    names.iter().for_each(|name| cluster.node(name).cut = cut);
}

#[test]
fn an_owner_that_dies_while_the_api_server_is_away_is_replaced_by_one_and_claims_settle_it() {
    let mut cluster = Cluster::taking_over(&["a", "b", "c"]);
    cluster.run(20_000);
    cut(&mut cluster, &["a", "b", "c"], true);
    cluster.run(60_000);
    assert_eq!(cluster.answering(), ["a"], "it holds on");
    cluster.crash("a");
    silent(&mut cluster, &["b", "c"], "a");
    cluster.run(2_000);
    let taker = cluster.answering();
    assert_eq!(taker.len(), 1);
    let taken =
        |change: &Change| matches!(change, Change::Gained { why: Why::Provisional(from), .. } if from == "a");
    assert!(cluster.node(taker[0]).machine.take_changes().any(|change| taken(&change)));
    cluster.run(60_000);
    assert_eq!(cluster.answering(), taker, "for as long as it takes");
    cut(&mut cluster, &["b", "c"], false);
    for _ in 0..600 {
        cluster.run(100);
        assert_eq!(cluster.answering(), taker, "at {} ms", cluster.now);
    }
    let claim = cluster.claim().expect("a claim");
    assert_eq!(claim.holder.as_deref(), Some(taker[0]));
    assert_eq!(cluster.nodes[taker[0]].machine.provisional().count(), 0);
}

#[test]
fn an_owner_that_is_heard_when_its_address_is_asked_for_keeps_it() {
    let mut cluster = Cluster::taking_over(&["a", "b", "c"]);
    cut(&mut cluster, &["a", "b", "c"], true);
    cluster.run(30_000);
    silent(&mut cluster, &["b", "c"], "a");
    cluster.run(30_000);
    assert_eq!(cluster.answering(), ["a"]);
}

/// Both are cut off, the owner's agent and kernel are gone, and the other one answers in its place; what the owner left.
fn taken_over(owner: &'static str, taker: &'static str) -> (Cluster, Target) {
    let mut cluster = Cluster::taking_over(&[owner, taker]);
    cut(&mut cluster, &[owner, taker], true);
    cluster.run(30_000);
    let left = cluster.crash(owner);
    silent(&mut cluster, &[taker], owner);
    cluster.run(3_000);
    assert_eq!(cluster.answering(), [taker]);
    (cluster, left)
}

#[test]
fn a_provisional_taker_gives_way_as_soon_as_the_owner_is_heard_by_the_api_server() {
    let (mut cluster, left) = taken_over("a", "b");
    // The owner's agent comes back to a kernel whose deadline has passed, and to the API server first.
    cluster.run(20_000);
    cluster.start("a", "boot1", left);
    cluster.step("b", Input::Silent(SilentPeers::new()));
    cut(&mut cluster, &["b"], false);
    cluster.exchange();
    assert_eq!(cluster.answering(), ["a"]);
    cluster.run(30_000);
    assert_eq!(cluster.answering(), ["a"]);
}

#[test]
fn who_holds_and_does_not_take_over_leaves_a_dead_owners_address_alone() {
    let mut cluster = Cluster::holding(&["a", "b"]);
    cut(&mut cluster, &["a", "b"], true);
    cluster.run(30_000);
    cluster.crash("a");
    silent(&mut cluster, &["b"], "a");
    cluster.run(30_000);
    assert!(cluster.answering().is_empty());
}

#[test]
fn who_hears_nobody_takes_nothing() {
    let mut cluster = Cluster::taking_over(&["a", "b"]);
    cut(&mut cluster, &["a", "b"], true);
    cluster.run(30_000);
    cluster.crash("a");
    // The detector of a node without a witness names nobody.
    cluster.step("b", Input::Silent(SilentPeers::new()));
    cluster.run(30_000);
    assert!(cluster.answering().is_empty());
}

#[test]
fn while_the_api_server_answers_nothing_is_taken_provisionally() {
    let mut cluster = Cluster::taking_over(&["a", "b", "c"]);
    silent(&mut cluster, &["b"], "a");
    cluster.run(5_000);
    assert_eq!(cluster.nodes["b"].machine.provisional().count(), 0);
    assert!(cluster.target("b").held.is_empty());
    assert!(cluster.target("a").held.contains(&vip()));
}

/// Found by a reader: whoever took some of a dead node's addresses was heard in its place, and the others left the rest alone.
#[test]
fn that_others_have_taken_some_of_it_ends_no_takeover_of_the_rest() {
    let mut cluster = Cluster::taking_over(&["a", "b"]);
    cut(&mut cluster, &["a", "b"], true);
    cluster.run(30_000);
    cluster.crash("a");
    silent(&mut cluster, &["b"], "a");
    cluster.node("b").dark = true;
    cluster.run(1_200);
    // Another of its addresses is answered by now, and it cannot ask for this one yet.
    cluster.step("b", Input::Silent(SilentPeers::new()));
    cluster.node("b").dark = false;
    cluster.run(3_000);
    assert_eq!(cluster.answering(), ["b"]);
}

/// Found by simulation: the agent of a provisional taker was killed, and the next one, which the API server did not answer, held on to
/// what it found in the kernel as to its own: beside the owner, which had its lease again, for as long as a lease lasts.
#[test]
fn a_provisional_taker_that_is_started_again_gives_way_as_soon_as_the_owner_goes_on_answering() {
    let (mut cluster, left) = taken_over("z", "a");
    let taken = cluster.crash("a");
    cluster.start_unlisted("a", "boot1", taken);
    cut(&mut cluster, &["a"], true);
    cluster.run(20_000);
    assert_eq!(cluster.answering(), ["a"], "it holds on");
    cluster.start("z", "boot1", left);
    cluster.exchange();
    assert_eq!(cluster.answering(), ["a", "z"], "it was not heard, and has its lease again");
    contest(&mut cluster, 1_000);
    assert_eq!(cluster.answering(), ["a", "z"], "it could be one that answers in another's place, too");
    contest(&mut cluster, 1_500);
    assert_eq!(cluster.answering(), ["z"]);
    cluster.run(60_000);
    assert_eq!(cluster.answering(), ["z"]);
}

/// An owner that holds on was started again while another answered in its place: the one that knows gives way.
#[test]
fn an_owner_that_is_started_again_waits_for_a_provisional_taker_to_give_way() {
    let (mut cluster, left) = taken_over("a", "b");
    cluster.start_unlisted("a", "boot1", left);
    cut(&mut cluster, &["a"], true);
    assert_eq!(cluster.answering(), ["a", "b"]);
    contest(&mut cluster, 4_000);
    assert_eq!(cluster.answering(), ["a"]);
}

/// Both kernels tell of the other's answers.
fn contest(cluster: &mut Cluster, ms: u64) {
    for now in 1..=ms / 50 {
        cluster.exchange();
        cluster.now += 50;
        for name in cluster.names.clone() {
            let contested = now % 5 == 0 && cluster.answering().len() > 1;
            cluster.step(name, if contested { Input::Contested([vip()].into()) } else { Input::Tick });
        }
    }
}

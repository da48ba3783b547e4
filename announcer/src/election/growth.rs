//! A year in which addresses come and go, and machines die and are replaced: what a machine remembers at its end is no more
//! than after its first days.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Input, OnApiLoss, Target, View,
    lease::{Claim, Record, Version},
    scripted::{Cluster, at},
    times::D_MAX,
    view::MOST_DELETED,
};
use crate::{
    policy::{Candidate, Demand, Interfaces, Tier, VipDemand},
    vocabulary::{BootNs, Vip},
};

const NODES: [&str; 3] = ["a", "b", "c"];
/// Addresses at a time, and how long they live: a million in a year.
const AT_ONCE: u32 = 20;
const LIFE_MS: u64 = 630_720;
/// Every so many lives a machine dies, and another one takes its name.
const DEATH_EVERY: u64 = 7;
/// Every so many, somebody deletes the session of one.
const DELETION_EVERY: u64 = 11;

/// Addresses altogether: few where the election is not compiled for speed. ANNOUNCER_YEAR=1000000 is the whole year.
fn addresses() -> u64 {
    let few = if env!("CARGO_PKG_NAME") == "announcer-sim" { 8_000 } else { 800 };
    std::env::var("ANNOUNCER_YEAR").ok().and_then(|text| text.parse().ok()).unwrap_or(few)
}

/// Those of one life; no address comes twice.
fn demand(life: u64) -> Arc<Demand> {
    let candidate = || Candidate { weight: 0, tier: Tier::Ready, interfaces: Interfaces::All };
    let candidates = Arc::new(NODES.iter().map(|node| ((*node).to_owned(), candidate())).collect());
    let first = u32::try_from(life).expect("a year") * AT_ONCE;
    let vip = |n: u32| Vip::from(std::net::Ipv4Addr::from(0x0a00_0100 + first + n));
    let wanted = || VipDemand { candidates: Arc::clone(&candidates), ..VipDemand::default() };
    // As many nodes as renew their sessions every 20 seconds.
    let others = (0..400).map(|n| format!("other-{n}"));
    Demand {
        vips: (0..AT_ONCE).map(|n| (vip(n), wanted())).collect(),
        nodes: NODES.iter().map(|node| (*node).to_owned()).chain(others).collect(),
        ..Demand::default()
    }
    .into()
}

/// Lets time pass from one thing that is due to the next.
fn pass(cluster: &mut Cluster, ms: u64) {
    let end = cluster.now + ms;
    loop {
        cluster.exchange();
        // All have read it.
        cluster.store.log.clear();
        cluster.nodes.values_mut().for_each(|node| node.cursor = 0);
        let due = cluster.nodes.values().filter_map(|node| node.machine.wake_at()).min();
        let due = due.map_or(end, |due| (due.0 - at(0).0).div_ceil(1_000_000).max(cluster.now + 1));
        if due >= end {
            cluster.now = end;
            return;
        }
        cluster.now = due;
        let now = at(due);
        for node in cluster.nodes.values_mut() {
            if node.machine.wake_at().is_some_and(|due| due <= now) {
                node.step(now, Input::Tick);
            }
        }
    }
}

fn want(cluster: &mut Cluster, wanted: &Arc<Demand>) {
    for name in NODES {
        cluster.step(name, Input::Demand(Arc::clone(wanted)));
    }
}

/// The most that any machine remembers, by field.
fn sizes(cluster: &mut Cluster) -> BTreeMap<&'static str, usize> {
    let mut most = BTreeMap::new();
    for node in cluster.nodes.values_mut() {
        node.machine.take_changes().for_each(drop);
        for (field, size) in node.machine.sizes() {
            let size = size.max(most.get(field).copied().unwrap_or_default());
            most.insert(field, size);
        }
    }
    most
}

#[test]
fn after_a_year_of_addresses_and_machines_that_come_and_go_no_more_is_remembered_than_after_days() {
    let begun = Instant::now();
    let mut cluster = Cluster { on_api_loss: OnApiLoss::Hold, ..Cluster::empty(&NODES, false) };
    for name in NODES {
        cluster.begin(name, "boot", Target::default());
        cluster.step(name, Input::Demand(demand(0)));
        cluster.list(name);
    }
    let lives = addresses() / u64::from(AT_ONCE);
    let first = (lives / 100).max(2 * DELETION_EVERY);
    let (mut after_days, mut at_last) = (BTreeMap::new(), BTreeMap::new());
    for life in 0..lives {
        let wanted = demand(life);
        want(&mut cluster, &wanted);
        pass(&mut cluster, LIFE_MS / 2);
        let held =
            |cluster: &Cluster| cluster.nodes.values().map(|n| n.machine.target().held.len()).sum::<usize>();
        assert_eq!(held(&cluster), AT_ONCE as usize, "in life {life}");
        let name = NODES[usize::try_from(life).expect("a year") % NODES.len()];
        if life % DEATH_EVERY == DEATH_EVERY - 1 {
            cluster.crash(name);
            pass(&mut cluster, 120_000);
            cluster.begin(name, if life % 2 == 0 { "even" } else { "odd" }, Target::default());
            cluster.step(name, Input::Demand(Arc::clone(&wanted)));
            cluster.list(name);
        }
        if life % DELETION_EVERY == DELETION_EVERY - 1 {
            let now = cluster.now;
            cluster.store.delete(now, &format!("session-{name}"));
        }
        let left = (life + 1) * LIFE_MS - cluster.now;
        pass(&mut cluster, left);
        let most = if life < first { &mut after_days } else { &mut at_last };
        if life < first || life + first >= lives {
            for (field, size) in sizes(&mut cluster) {
                let known: &mut usize = most.entry(field).or_default();
                *known = size.max(*known);
            }
        }
    }
    println!(
        "{} addresses in {:.0} s: {at_last:?}",
        lives * u64::from(AT_ONCE),
        begun.elapsed().as_secs_f64()
    );
    for (field, size) in at_last {
        let before = after_days[field];
        assert!(
            size <= before + before / 4 + 4,
            "{field}: {before} after {first} lives, {size} after {lives}"
        );
    }
}

/// Claims whose owners nobody knows to be silent are remembered one by one, and beyond a number all together: the wire is
/// asked for any address then.
#[test]
fn of_more_deleted_claims_than_are_remembered_each_may_be_held_on() {
    let mut view = View::default();
    view.listed(at(0), Version(1), Vec::new());
    let vip = |n: u32| Vip::from(std::net::Ipv4Addr::from(0x0a00_0000 + n));
    let claim = |n: u32| Claim {
        vip: vip(n),
        uid: format!("u{n}"),
        version: Version(2 + u64::from(n)),
        holder: Some("gone".to_owned()),
        session_uid: "s".to_owned(),
        session_epoch: 1,
        preferred: None,
        heir: None,
        acquired: None,
        write: String::new(),
        transitions: 1,
        understood: true,
    };
    let most = u32::try_from(MOST_DELETED).expect("a number");
    let forget = |view: &mut View, now: BootNs| view.forget_old(now, &[vip(0)].into(), |_| false);
    for n in 0..=most {
        view.changed(at(1), Record::Claim(claim(n)));
        view.watched_deletion(at(1), &Record::Claim(claim(n)));
    }
    let later = at(1) + D_MAX;
    forget(&mut view, at(1) + (D_MAX - Duration::from_millis(1)));
    assert_eq!(view.sizes()["view.deleted_claims"], MOST_DELETED + 1);
    // That one is known to be harmless.
    forget(&mut view, later);
    assert!(!view.may_have_been_claimed(vip(0)) && view.may_have_been_claimed(vip(1)));
    assert_eq!(view.sizes()["view.deleted_claims"], MOST_DELETED);
    assert!(!view.may_have_been_claimed(vip(most + 1)));

    view.changed(later, Record::Claim(claim(most + 1)));
    view.watched_deletion(later, &Record::Claim(claim(most + 1)));
    forget(&mut view, later + D_MAX);
    assert!(view.may_have_been_claimed(vip(1)) && view.may_have_been_claimed(vip(most + 2)));
    let sizes = view.sizes();
    assert_eq!((sizes["view.deleted_claims"], sizes["view.deleted"], sizes["view.epochs"]), (0, 0, 0));
}

/// An answer to a request that was sent before the claim was deleted may come as late as requests may take.
#[test]
fn an_answer_that_was_on_its_way_brings_no_deleted_claim_back() {
    let claim = Cluster::settled(&["a", "b"]).claim().expect("a claim");
    let mut view = View::default();
    view.listed(at(0), Version(0), vec![Record::Claim(claim.clone())]);
    let deleted = Claim { version: Version(claim.version.0 + 1), ..claim.clone() };
    view.watched_deletion(at(1), &Record::Claim(deleted));
    let soon = at(1) + (D_MAX - Duration::from_secs(1));
    view.forget_old(soon, &Default::default(), |_| true);
    view.seen(soon, Record::Claim(claim.clone()));
    assert!(view.claims.is_empty());
}

//! More addresses than there is room for: who gets an entry.

use std::collections::BTreeMap;

use super::*;
use crate::policy::{MostVips, in_order};

/// Services as `namespace/name`, each with its last byte and the second it was made in.
fn cluster(services: &[(&str, u8, u8)]) -> Cluster {
    let start = Cluster::new().nodes(&["a"]).advertise("all", json!({}));
    services.iter().fold(start, |cluster, (namespace, last, second)| {
        let made = format!("2026-11-30T10:00:{second:02}Z");
        let metadata =
            json!({"namespace": namespace, "uid": format!("{namespace}-{last}"), "creationTimestamp": made});
        cluster.service(&format!("s{last}"), &[&format!("10.20.30.{last}")], json!({"metadata": metadata}))
    })
}

fn decided(cluster: &Cluster, most: usize) -> Demand {
    decide(&cluster.snapshot(), &Options { most_vips: MostVips(most), ..Options::default() }).demand
}

/// Last bytes of the addresses that are announced.
fn admitted(cluster: &Cluster, most: usize) -> Vec<u8> {
    let last = |vip: Vip| vip.octets16()[15];
    decided(cluster, most).vips.into_keys().map(last).collect()
}

const CROWD: [(&str, u8, u8); 7] = [
    ("greedy", 1, 1),
    ("greedy", 2, 2),
    ("greedy", 3, 3),
    ("greedy", 4, 4),
    ("modest", 11, 9),
    ("modest", 12, 10),
    ("late", 21, 30),
];

#[test]
fn namespaces_take_turns_and_each_brings_its_oldest_first() {
    assert_eq!(admitted(&cluster(&CROWD), 7), [1, 2, 3, 4, 11, 12, 21]);
    assert_eq!(admitted(&cluster(&CROWD), 6), [1, 2, 3, 11, 12, 21]);
    assert_eq!(admitted(&cluster(&CROWD), 5), [1, 2, 11, 12, 21]);
    assert_eq!(admitted(&cluster(&CROWD), 3), [1, 11, 21]);
    assert_eq!(admitted(&cluster(&CROWD), 2), [1, 11], "in the last turn the oldest");
}

#[test]
fn a_smaller_table_holds_the_first_of_what_a_larger_one_holds() {
    let cluster = cluster(&CROWD);
    for most in 1..CROWD.len() {
        let (few, many) = (admitted(&cluster, most - 1), admitted(&cluster, most));
        assert!(
            few.len() + 1 == many.len() && few.iter().all(|last| many.contains(last)),
            "{few:?} {many:?}"
        );
    }
}

#[test]
fn a_newcomer_displaces_nobody_unless_its_namespace_has_less_than_the_others() {
    let with = |namespace| {
        let newcomer = (namespace, 99, 59);
        let services: Vec<_> = CROWD.into_iter().chain([newcomer]).collect();
        admitted(&cluster(&services), 5)
    };
    for full in ["greedy", "modest", "late"] {
        assert_eq!(
            with(full),
            admitted(&cluster(&CROWD), 5),
            "{full} has two of five, or comes last in its turn"
        );
    }
    assert_eq!(with("new"), [1, 2, 11, 21, 99], "it takes the youngest second address");
}

#[test]
fn what_goes_makes_room_for_one_and_moves_no_other() {
    let all = cluster(&CROWD);
    for most in 1..CROWD.len() {
        let before = admitted(&all, most);
        for gone in &before {
            let rest: Vec<_> = CROWD.into_iter().filter(|(_, last, _)| last != gone).collect();
            let after = admitted(&cluster(&rest), most);
            assert!(
                before.iter().filter(|last| *last != gone).all(|last| after.contains(last)),
                "{before:?} {after:?}"
            );
        }
    }
}

#[test]
fn who_is_refused_is_in_nobodys_demand_and_named_with_its_service() {
    let demand = decided(&cluster(&CROWD), 6);
    assert_eq!(demand.refused, BTreeMap::from([(vip("10.20.30.4"), ["greedy/s4".to_owned()].into())]));
    assert!(!demand.vips.contains_key(&vip("10.20.30.4")));
}

#[test]
fn each_family_has_a_limit_of_its_own() {
    let cluster =
        cluster(&CROWD[..2]).service("six", &["fd00:20::1"], json!({"metadata": {"namespace": "greedy"}}));
    let demand = decided(&cluster, 2);
    assert_eq!((demand.vips.len(), demand.refused.len()), (3, 0));
}

#[test]
fn an_address_that_is_shared_is_as_old_as_its_oldest_service() {
    let shared = cluster(&CROWD).service(
        "other",
        &["10.20.30.4"],
        json!({"metadata": {"namespace": "modest", "creationTimestamp": "2026-11-30T09:00:00Z"}}),
    );
    let snapshot = shared.snapshot();
    let demand = decided(&shared, 99);
    assert_eq!(in_order(&snapshot, &demand.vips)[0], vip("10.20.30.4"));
}

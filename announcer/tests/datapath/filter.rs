//! The filter before the owner maps: it never hides an entry, and forgets what no entry needs.

use std::{collections::BTreeMap, net::Ipv4Addr, path::Path};

use announcer::{
    datapath::{Datapath, Mode, Owners},
    vocabulary::{LinkId, Vip},
};
use announcer_ebpf::layout::{FILTER_WORDS, FilterBit};
use aya::maps::{Array, Map, MapData};

use crate::support::{Lab, begin, link, pin_root};

/// How many bits are set in the live filter.
fn bits() -> u32 {
    let map = MapData::from_pin(Path::new("/sys/fs/bpf/announcer/filter")).expect("the pin");
    let filter: Array<_, u64> =
        Map::from_map_data(map).expect("a map").try_into().expect("an array of words");
    (0..FILTER_WORDS).map(|word| filter.get(&word, 0).expect("a word").count_ones()).sum()
}

/// Two addresses with one bit.
fn twins() -> (Vip, Vip) {
    let mut seen = BTreeMap::new();
    for number in 0_u32.. {
        let address = Ipv4Addr::from(0x0a09_0000 + number);
        if let Some(first) = seen.insert(FilterBit::v4(address.octets()), address) {
            return (first.into(), address.into());
        }
    }
    unreachable!("there are more addresses than bits")
}

fn owning(vips: impl IntoIterator<Item = Vip>, link: LinkId) -> Owners {
    Owners { vips: vips.into_iter().map(|vip| (vip, [link].into())).collect() }
}

fn assert_proved(datapath: &Datapath, link: LinkId, vips: &[Vip]) {
    for vip in vips {
        assert!(datapath.prove(*vip, link).expect("a proof"), "{vip}");
        assert!(datapath.entry_live(*vip, link), "{vip}");
    }
}

#[test]
fn a_bit_lives_as_long_as_one_of_its_entries_needs_it() {
    let lab = Lab::new();
    let (mut datapath, left) = lab.answering(Mode::Tcx, &[]);
    let (one, other) = twins();
    datapath.apply(&owning([one, other], left.id)).expect("applied");
    assert_proved(&datapath, left.id, &[one, other]);
    assert_eq!(bits(), 1);
    datapath.apply(&owning([other], left.id)).expect("applied");
    assert_proved(&datapath, left.id, &[other]);
    assert!(!datapath.prove(one, left.id).expect("a proof"));
    datapath.apply(&Owners::default()).expect("applied");
    assert_eq!(bits(), 0, "nobody is left who needs it");
    datapath.apply(&owning([one], left.id)).expect("applied");
    assert_proved(&datapath, left.id, &[one]);
}

#[test]
fn a_vip_that_is_gone_on_one_link_is_found_on_the_other() {
    let lab = Lab::new();
    lab.add_veth("second", "second-far");
    let second = link("second");
    let (mut datapath, left) = lab.answering(Mode::Tcx, &[]);
    datapath.set_links(&[left.clone(), second.clone()]).expect("two links");
    let (vip, _) = twins();
    let owners = Owners { vips: BTreeMap::from([(vip, [left.id, second.id].into())]) };
    datapath.apply(&owners).expect("applied");
    datapath.set_links(std::slice::from_ref(&left)).expect("one link");
    assert_proved(&datapath, left.id, &[vip]);
    assert_eq!(bits(), 1);
}

#[test]
fn every_vip_is_found_after_any_change_and_any_adoption() {
    let lab = Lab::new();
    let (mut datapath, left) = lab.answering(Mode::Tcx, &[]);
    let vips: Vec<Vip> = (0_u32..2000)
        .map(|number| Ipv4Addr::from(0x0a09_0000 + number * 7).into())
        .chain((0_u128..2000).map(|number| std::net::Ipv6Addr::from((0xfd09 << 112) + number * 7).into()))
        .collect();
    let (some, rest) = vips.split_at(2500);
    datapath.apply(&owning(vips.iter().copied(), left.id)).expect("applied");
    assert_proved(&datapath, left.id, &vips);
    datapath.apply(&owning(some.iter().copied(), left.id)).expect("applied");
    assert_proved(&datapath, left.id, some);
    let few = bits();
    assert!(few <= 2500, "{few}");
    drop(datapath);

    let mut datapath = Datapath::open(Lab::config(Mode::Tcx)).expect("a datapath");
    datapath.establish(std::slice::from_ref(&left)).expect("established");
    assert_proved(&datapath, left.id, some);
    assert_eq!(bits(), few, "a new agent takes over what entries need, and no more");
    begin(&mut datapath, 2);
    datapath.apply(&owning(rest.iter().copied(), left.id)).expect("applied");
    assert_proved(&datapath, left.id, rest);
    assert!(pin_root().exists());
}

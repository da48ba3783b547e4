//! Links that come, go and change while the agent runs; owner maps that follow them. Needs root.

use std::collections::BTreeSet;

use crate::support::{
    Lab,
    asker::Asker,
    frames::{Arp, BROADCAST, STRANGER, arp_reply},
    ip, link, owning, pin_root,
    programs::{
        Live,
        Said::{Answer, Drop, Pass},
    },
    vip,
};
use announcer::{
    datapath::{Applied, Datapath, LinkChange, Mode},
    vocabulary::{LinkId, Mac},
};

const VIP4: &str = "10.9.0.100";
const OTHER4: &str = "10.9.0.101";

#[test]
fn a_new_hardware_address_is_in_the_next_answer_and_the_old_one_is_a_stranger_s() {
    let lab = Lab::new();
    let (mut datapath, old) = lab.answering(Mode::Tcx, &[VIP4]);
    ip("link set left address 02:00:00:00:77:01");
    let new = link("left");
    let reports = datapath.set_links(std::slice::from_ref(&new)).expect("followed");
    assert!(
        matches!(reports[0].change, LinkChange::MacChanged { mac: Mac([2, 0, 0, 0, 0x77, 1]) }),
        "{reports:?}"
    );
    let asker = Asker::start(&lab.client, VIP4);
    assert_eq!(asker.stop().macs, BTreeSet::from([new.mac.0]));

    let mut reader = datapath.events().expect("a ring").expect("the first time");
    let claim =
        Arp { to: BROADCAST, from: old.mac.0, sender_mac: old.mac.0, sender: VIP4, ..Arp::request(VIP4) };
    assert_eq!(Live::open(&pin_root()).xdp(new.id.0, &claim.bytes()), Pass);
    assert_eq!(reader.drain().iter().map(|seen| seen.mac).collect::<Vec<_>>(), [old.mac]);
    drop(lab);
}

#[test]
fn on_a_link_that_comes_later_every_vip_is_elsewhere_until_it_is_given() {
    let lab = Lab::new();
    let (mut datapath, left) = lab.answering(Mode::Tcx, &[VIP4]);
    lab.add_veth("late", "late-far");
    let late = link("late");
    datapath.set_links(&[left.clone(), late.clone()]).expect("followed");
    let live = Live::open(&pin_root());
    let request = Arp::request(VIP4);
    assert_eq!(live.both(late.id.0, &request.bytes()), Drop);
    datapath.apply(&owning(&[VIP4], &[left.id, late.id])).expect("applied");
    assert_eq!(live.both(late.id.0, &request.bytes()), Answer(arp_reply(&request, late.mac.0)));
    assert_eq!(live.both(left.id.0, &request.bytes()), Answer(arp_reply(&request, left.mac.0)));
}

#[test]
fn a_vip_that_moved_alone_is_taken_away_and_given_alone() {
    let lab = Lab::new();
    let (mut datapath, left) = lab.answering(Mode::Tcx, &[VIP4, OTHER4]);
    let live = Live::open(&pin_root());
    let (moved, stays) = (Arp::request(VIP4), Arp::request(OTHER4));
    let only = [vip(VIP4)].into();
    let mut owners = owning(&[VIP4, OTHER4], &[left.id]);
    owners.vips.insert(vip(VIP4), [].into());
    let applied = datapath.apply_of(&owners, &only).expect("applied");
    assert_eq!((applied.lost, applied.gained), ([(vip(VIP4), left.id)].into(), [].into()));
    assert_eq!(live.both(left.id.0, &moved.bytes()), Drop);
    assert_eq!(live.both(left.id.0, &stays.bytes()), Answer(arp_reply(&stays, left.mac.0)));
    let applied = datapath.apply_of(&owning(&[VIP4, OTHER4], &[left.id]), &only).expect("applied");
    assert_eq!((applied.lost, applied.gained), ([].into(), [(vip(VIP4), left.id)].into()));
    assert_eq!(live.both(left.id.0, &moved.bytes()), Answer(arp_reply(&moved, left.mac.0)));
}

#[test]
fn a_sibling_link_s_address_is_no_stranger_s() {
    let lab = Lab::new();
    let (mut datapath, left) = lab.answering(Mode::Tcx, &[VIP4]);
    lab.add_veth("late", "late-far");
    let late = link("late");
    datapath.set_links(&[left.clone(), late.clone()]).expect("followed");
    let mut reader = datapath.events().expect("a ring").expect("the first time");
    let live = Live::open(&pin_root());
    let claim = |mac| Arp { from: mac, sender_mac: mac, sender: VIP4, ..Arp::request(VIP4) }.bytes();
    assert_eq!(live.both(left.id.0, &claim(late.mac.0)), Pass);
    assert_eq!(reader.drain(), []);
    datapath.set_links(std::slice::from_ref(&left)).expect("followed");
    assert_eq!(live.both(left.id.0, &claim(late.mac.0)), Pass);
    assert_eq!(reader.drain().len(), 1, "it is not ours any more");
    assert_eq!(live.both(left.id.0, &claim(STRANGER)), Pass);
}

#[test]
fn a_device_made_anew_under_the_same_name_is_attached_anew() {
    let lab = Lab::new();
    let (mut datapath, old) = lab.answering(Mode::Tcx, &[VIP4]);
    ip("link del left");
    datapath.set_links(&[]).expect("followed");
    assert!(datapath.attachments().is_empty());
    lab.add_veth("left", "right");
    let new = link("left");
    assert_ne!(new.id, old.id);
    let reports = datapath.set_links(std::slice::from_ref(&new)).expect("followed");
    assert!(matches!(reports[0].change, LinkChange::Attached { .. }), "{reports:?}");
    datapath.apply(&owning(&[VIP4], &[new.id])).expect("applied");
    let asked = Asker::start(&lab.client, VIP4).stop();
    assert_eq!((asked.answered, asked.macs), (asked.sent, BTreeSet::from([new.mac.0])));
}

#[test]
fn a_device_made_anew_while_no_agent_ran_is_attached_anew() {
    let lab = Lab::new();
    let (datapath, old) = lab.answering(Mode::Tcx, &[VIP4]);
    drop(datapath);
    ip("link del left");
    lab.add_veth("left", "right");
    let new = link("left");
    let mut datapath = Datapath::open(Lab::config(Mode::Tcx)).expect("a datapath");
    datapath.establish(std::slice::from_ref(&new)).expect("established");
    assert_eq!(datapath.attachments().keys().copied().collect::<Vec<_>>(), [new.id]);
    assert_ne!(new.id, old.id);
}

#[test]
fn links_with_a_high_ifindex_are_found_beyond_the_array() {
    let lab = Lab::without_links();
    ip("link add left index 4711 type veth peer name right");
    ip(&format!("link set right netns {}", lab.client.tid));
    ip("link set left up");
    lab.client.run(|| ip("link set right up"));
    let (datapath, left) = lab.answering(Mode::Tcx, &[VIP4]);
    assert_eq!(left.id, LinkId(4711));
    assert!(datapath.prove(vip(VIP4), left.id).expect("a proof"));
    let asked = Asker::start(&lab.client, VIP4).stop();
    assert_eq!(asked.answered, asked.sent);
}

#[test]
fn apply_says_what_changed_and_a_vip_that_is_gone_is_the_stack_s_again() {
    let lab = Lab::new();
    let (mut datapath, left) = lab.answering(Mode::Tcx, &[VIP4]);
    let live = Live::open(&pin_root());
    let said = |text| live.both(left.id.0, &Arp::request(text).bytes());

    let nowhere = LinkId(999);
    let mut owners = owning(&[OTHER4], &[left.id, nowhere]);
    owners.vips.extend(owning(&[VIP4], &[]).vips);
    let applied = datapath.apply(&owners).expect("applied");
    let expected = Applied {
        gained: BTreeSet::from([(vip(OTHER4), left.id)]),
        lost: BTreeSet::from([(vip(VIP4), left.id)]),
        unserved: BTreeSet::from([(vip(OTHER4), nowhere)]),
        ..Applied::default()
    };
    assert_eq!(applied, expected);
    assert_eq!((said(VIP4), matches!(said(OTHER4), Answer(_))), (Drop, true));

    let applied = datapath.apply(&owning(&[OTHER4], &[left.id])).expect("applied");
    assert_eq!(applied, Applied::default(), "nothing that was owned changed");
    assert_eq!(said(VIP4), Pass);
    assert!(!datapath.counters().expect("counters").contains_key(&(vip(VIP4), left.id)));
}

#[test]
fn counts_start_at_zero_when_a_slot_is_given_to_another_vip() {
    let lab = Lab::new();
    let (mut datapath, left) = lab.answering(Mode::Tcx, &[VIP4]);
    let live = Live::open(&pin_root());
    live.both(left.id.0, &Arp::request(VIP4).bytes());
    datapath.apply(&owning(&[OTHER4], &[left.id])).expect("applied");
    let counters = datapath.counters().expect("counters");
    assert_eq!(counters[&(vip(OTHER4), left.id)].requests, 0);
    drop(lab);
}

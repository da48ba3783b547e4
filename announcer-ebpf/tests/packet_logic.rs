//! The packet logic against an oracle of another hand: any frame, any maps, the same verdict, bytes and books.

mod oracle;

use std::collections::{BTreeMap, BTreeSet};

use announcer_ebpf::{
    layout::{LinkEntry, Vip4Key, Vip6Key, VipEntry, elsewhere},
    packet::{Ingress, SessionView, Verdict},
};
use oracle::{
    FakeNode, NOW, QUIET,
    build::{Arp, Ndp, option as option_bytes, tag},
    run,
};
use proptest::{collection::vec, option, prelude::*, sample::select};

const OWN: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
const SIBLING: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];
const CLIENT: [u8; 6] = [0x02, 0, 0, 0, 0, 0xc1];
const GROUP: [u8; 6] = [0x33, 0x33, 0xff, 0, 0, 5];
const IFINDEX: u32 = 3;

/// Any of the addresses that matter.
fn mac() -> impl Strategy<Value = [u8; 6]> {
    select(vec![
        OWN,
        SIBLING,
        CLIENT,
        GROUP,
        [0x33, 0x33, 0, 0, 0, 1],
        [0xff; 6],
        [0; 6],
        [1, 0, 0x5e, 0, 0, 1],
    ])
}

/// Mostly one that is for us.
fn to() -> impl Strategy<Value = [u8; 6]> {
    prop_oneof![8 => select(vec![OWN, [0xff; 6], GROUP]), 2 => mac()]
}

/// Mostly a client's.
fn from() -> impl Strategy<Value = [u8; 6]> {
    prop_oneof![9 => Just(CLIENT), 2 => mac()]
}

fn v4() -> impl Strategy<Value = [u8; 4]> {
    select(vec![[10, 4, 11, 1], [10, 4, 11, 2], [10, 4, 11, 3], [10, 4, 0, 9], [0; 4]])
}

fn v6() -> impl Strategy<Value = [u8; 16]> {
    let texts =
        ["fd00::1", "fd00::2", "fd00::5", "fe80::9", "::", "ff02::1", "ff02::1:ff00:5", "ff02::1:ff00:1"];
    select(texts.map(v6_of).to_vec())
}

fn v6_of(text: &str) -> [u8; 16] {
    text.parse::<std::net::Ipv6Addr>().expect("an address").octets()
}

fn arp() -> impl Strategy<Value = Vec<u8>> {
    let opcode = prop_oneof![6 => Just(1_u16), 2 => Just(2), 1 => any::<u16>()];
    let sender = prop_oneof![3 => Just([10, 4, 0, 9]), 1 => v4()];
    (to(), from(), opcode, from(), sender, mac(), v4()).prop_map(
        |(to, from, opcode, sender_mac, sender, target_mac, target)| {
            Arp { to, from, opcode, sender_mac, sender, target_mac, target }.bytes()
        },
    )
}

fn ndp_option() -> impl Strategy<Value = Vec<u8>> {
    let kind = select(vec![1_u8, 1, 2, 2, 3, 14, 200]);
    let units = prop_oneof![12 => Just(1_u8), 1 => 0_u8..4];
    (kind, units, from()).prop_map(|(kind, units, mac)| option_bytes(kind, units, mac))
}

fn ndp() -> impl Strategy<Value = Vec<u8>> {
    let kind = select(vec![135_u8, 135, 135, 136, 136, 128]);
    let source = prop_oneof![3 => Just(v6_of("fe80::9")), 1 => v6()];
    let target = prop_oneof![3 => select(["fd00::1", "fd00::2", "fd00::5"].map(v6_of).to_vec()), 1 => v6()];
    let hop_limit = prop_oneof![9 => Just(255_u8), 1 => any::<u8>()];
    let code = prop_oneof![19 => Just(0_u8), 1 => any::<u8>()];
    let spoilt = prop::bool::weighted(0.05);
    (to(), from(), source, v6(), hop_limit, kind, code, target, vec(ndp_option(), 0..3), spoilt).prop_map(
        |(to, from, source, destination, hop_limit, kind, code, target, options, spoilt)| {
            let options = options.concat();
            Ndp { to, from, source, destination, hop_limit, kind, code, target, options, spoilt }.bytes()
        },
    )
}

/// What the wire does to a frame: a tag, padding, a cut, a byte changed.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let sound = prop_oneof![4 => arp(), 5 => ndp(), 1 => vec(any::<u8>(), 0..120)];
    let tags =
        option::weighted(0.3, select(vec![vec![0_u16], vec![5], vec![5 | 0x2000], vec![6], vec![5, 5]]));
    let changed = option::weighted(0.15, (any::<prop::sample::Index>(), any::<u8>()));
    let cut = option::weighted(0.1, any::<prop::sample::Index>());
    (sound, tags, 0_usize..40, changed, cut).prop_map(|(mut frame, tags, padding, changed, cut)| {
        tags.unwrap_or_default().into_iter().for_each(|control| tag(&mut frame, control));
        frame.resize(frame.len() + padding.saturating_sub(20), 0);
        if let Some((at, byte)) = changed.filter(|_| !frame.is_empty()) {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        if let Some(cut) = cut {
            frame.truncate(cut.index(frame.len() + 1));
        }
        frame
    })
}

fn entry() -> impl Strategy<Value = VipEntry> {
    let role = prop_oneof![6 => Just(1_u32), 3 => Just(2), 1 => any::<u32>()];
    (select(vec![7_u64, 7, 7, 8]), role, 0_u32..4).prop_map(|(epoch, role, counter_slot)| VipEntry {
        epoch,
        role,
        counter_slot,
    })
}

fn mapped(v4: [u8; 4]) -> [u8; 16] {
    std::net::Ipv4Addr::from(v4).to_ipv6_mapped().octets()
}

/// When user space was told of a conflict: around the end of the silence after it.
fn moment() -> impl Strategy<Value = u64> {
    select(vec![NOW - QUIET - 1, NOW - QUIET, NOW - QUIET + 1, NOW, NOW + 1])
}

prop_compose! {
    fn node()(
        vips4 in vec((v4(), entry()), 1..6),
        vips6 in vec((v6(), entry()), 1..6),
        vlan_id in option::weighted(0.2, select(vec![0_u16, 5, 6])),
        deadline_boot_ns in prop_oneof![1 => select(vec![0, NOW - 1, NOW]), 3 => select(vec![NOW + 1, u64::MAX])],
        elsewhere in select(vec![elsewhere::DROPPED, elsewhere::DROPPED, elsewhere::PASSED, 9]),
        told in vec((prop_oneof![v4().prop_map(mapped), v6()], moment()), 0..4),
    ) -> FakeNode {
        let link = |link_id, mac| LinkEntry { link_id, mac, flags: 0 };
        FakeNode {
            ingress: Ingress { ifindex: IFINDEX, vlan_id },
            links: BTreeMap::from([((IFINDEX, 0), link(IFINDEX, OWN)), ((IFINDEX, 5), link(IFINDEX, OWN))]),
            macs: BTreeSet::from([OWN, SIBLING]),
            vips4: vips4.into_iter().map(|(address, e)| (Vip4Key { link_id: IFINDEX, address }, e)).collect(),
            vips6: vips6.into_iter().map(|(address, e)| (Vip6Key { link_id: IFINDEX, address }, e)).collect(),
            session: SessionView { deadline_boot_ns, epoch: 7, elsewhere },
            told: told.into_iter().map(|(address, at)| ((IFINDEX, address), at)).collect(),
            ..FakeNode::default()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn every_frame_is_judged_answered_and_booked_as_the_oracle_says(node in node(), frame in frame()) {
        let (mut ours, mut theirs) = (node.clone(), node);
        let wanted = oracle::judge(&mut theirs, &frame);
        let got = run(&mut ours, &frame, 64);
        prop_assert_eq!(got, wanted);
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn a_frame_that_is_not_answered_is_not_touched(node in node(), frame in frame()) {
        let mut node = node;
        let (verdict, after) = run(&mut node, &frame, 0);
        prop_assert!(verdict == Verdict::Answer || after == frame);
        // What the table forbids at all times, whatever the frame.
        let session = node.session;
        if verdict == Verdict::Answer {
            prop_assert!(NOW < session.deadline_boot_ns);
            prop_assert_eq!(&after[6..12], &OWN[..]);
            prop_assert!(node.conflicts.is_empty() && node.withheld.is_empty());
        }
    }

    #[test]
    fn bytes_without_any_form_never_panic(frame in vec(any::<u8>(), 0..200), node in node()) {
        run(&mut node.clone(), &frame, 8);
    }
}

#[test]
fn the_generators_reach_every_verdict_and_every_book() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let (mut answers4, mut answers6, mut drops, mut malformed, mut conflicts, mut tagged) =
        (0, 0, 0, 0, 0, 0);
    let mut withheld = 0;
    for _ in 0..20_000 {
        let (mut node, frame) = (node(), frame()).new_tree(&mut runner).expect("a value").current();
        let (verdict, after) = run(&mut node, &frame, 64);
        if verdict == Verdict::Answer {
            tagged += u32::from(after[12..14] == [0x81, 0]);
            if after[12..14] == [8, 6] { answers4 += 1 } else { answers6 += 1 }
        }
        drops += u32::from(verdict == Verdict::Drop);
        malformed += node.malformed;
        conflicts += u32::try_from(node.conflicts.len()).expect("one at most");
        withheld += u32::try_from(node.withheld.len()).expect("one at most");
    }
    let reached = [answers4, answers6, drops, malformed, tagged, conflicts, withheld];
    assert!(reached.iter().all(|count| *count >= 30), "{reached:?}");
}

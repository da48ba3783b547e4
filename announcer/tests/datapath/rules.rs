//! What both families share: truncation, roles, epochs, deadlines, tags, proofs.

use std::time::Duration;

use announcer::{
    datapath::{Config, Counters, Datapath, Mode},
    vocabulary::{BootNs, Link},
};

use crate::support::{
    Lab, begin,
    bench::{Bench, OTHER4, OTHER6, VIP4, VIP6},
    frames::{Arp, CLIENT, Ndp, advertised, arp_reply, tagged},
    ip, link, owning, pin_root,
    programs::{
        Live,
        Said::{Answer, Drop, Pass},
    },
    vip,
};

#[test]
fn a_truncated_frame_is_passed_at_every_length() {
    let bench = Bench::new();
    // The kernel refuses to run a classifier on a bare Ethernet header, or on less than an IP header.
    for (whole, classified) in [(Arp::request(VIP4).bytes(), 15), (Ndp::solicitation(VIP6).bytes(), 54)] {
        for length in 14..whole.len() {
            assert_eq!(bench.live.xdp(bench.left.id.0, &whole[..length]), Pass, "{length} bytes");
        }
        for length in classified..whole.len() {
            assert_eq!(bench.live.tcx(bench.left.id.0, &whole[..length]), Pass, "{length} bytes");
        }
    }
}

#[test]
fn a_vip_owned_elsewhere_is_dropped_and_counted() {
    let bench = Bench::new();
    assert_eq!(bench.said(&Arp::request(OTHER4).bytes()), Drop);
    assert_eq!(bench.said(&Ndp::solicitation(OTHER6).bytes()), Drop);
    for text in [OTHER4, OTHER6] {
        let count = bench.count(text);
        assert_eq!((count.requests, count.replies, count.suppressed), (2, 0, 2));
    }
}

#[test]
fn a_passed_deadline_silences_at_once_and_is_counted() {
    let mut bench = Bench::new();
    bench.datapath.set_deadline(BootNs::now()).expect("a deadline");
    assert_eq!(bench.said(&Arp::request(VIP4).bytes()), Drop);
    assert_eq!(bench.said(&Ndp::solicitation(VIP6).bytes()), Drop);
    assert_eq!((bench.count(VIP4).fenced, bench.count(VIP6).fenced), (2, 2));
    bench.datapath.set_deadline(BootNs::now() + Duration::from_secs(60)).expect("a deadline");
    assert!(matches!(bench.said(&Arp::request(VIP4).bytes()), Answer(_)));
    assert!(matches!(bench.said(&Ndp::solicitation(VIP6).bytes()), Answer(_)));
}

#[test]
fn entries_of_another_epoch_are_not_answered() {
    let mut bench = Bench::new();
    begin(&mut bench.datapath, 2);
    assert_eq!(bench.said(&Arp::request(VIP4).bytes()), Drop);
    assert_eq!(bench.said(&Ndp::solicitation(VIP6).bytes()), Drop);
    assert_eq!(bench.count(VIP4).suppressed, 2, "a new session begins with nothing owned");
    assert!(!bench.datapath.entry_live(vip(VIP4), bench.left.id));
    bench.datapath.apply(&owning(&[VIP4], &[bench.left.id])).expect("applied");
    assert!(bench.datapath.entry_live(vip(VIP4), bench.left.id));
    assert!(matches!(bench.said(&Arp::request(VIP4).bytes()), Answer(_)));
}

#[test]
fn a_tagged_request_is_answered_with_its_tag_only_where_the_vlan_is_announced() {
    let lab = Lab::new();
    // This kernel may have no 802.1Q devices; to the program the tag's link is a number and a hardware address.
    ip("link add left.5 type bridge");
    ip("link set left.5 up");
    let left = link("left");
    let vlan = Link { vlan: Some((left.id, 5)), ..link("left.5") };
    let mut datapath = Datapath::open(Lab::config(Mode::Tcx)).expect("a datapath");
    datapath.establish(&[left.clone(), vlan.clone()]).expect("established");
    begin(&mut datapath, 1);
    datapath.apply(&owning(&[VIP4, VIP6], &[vlan.id])).expect("applied");
    let live = Live::open(&pin_root());
    let (arp, ndp) = (Arp::request(VIP4), Ndp::solicitation(VIP6));
    let said = |frame: &[u8]| live.both(left.id.0, frame);
    assert_eq!(said(&tagged(&arp.bytes(), 5)), Answer(tagged(&arp_reply(&arp, vlan.mac.0), 5)));
    assert_eq!(said(&tagged(&ndp.bytes(), 5)), Answer(tagged(&advertised(&ndp, vlan.mac.0, CLIENT), 5)));
    let urgent = 5 | 0x6000;
    let answer = tagged(&arp_reply(&arp, vlan.mac.0), urgent);
    assert_eq!(said(&tagged(&arp.bytes(), urgent)), Answer(answer), "the priority is kept, too");
    for (request, family) in [(arp.bytes(), "ARP"), (ndp.bytes(), "ND")] {
        assert_eq!(said(&request), Drop, "{family}: on the untagged link it is owned elsewhere");
        assert_eq!(said(&tagged(&request, 0)), Drop, "{family}: a priority tag is of the untagged link");
        assert_eq!(said(&tagged(&request, 6)), Pass, "{family}: another VLAN");
        assert_eq!(said(&tagged(&tagged(&request, 5), 5)), Pass, "{family}: two tags");
        let mut service = tagged(&request, 5);
        service[12..14].copy_from_slice(&[0x88, 0xa8]);
        assert_eq!(said(&service), Pass, "{family}: an 802.1ad tag");
    }
    drop(lab);
}

#[test]
fn a_vlan_device_s_frames_are_answered_where_its_program_runs() {
    let lab = Lab::new();
    ip("link add left.5 type bridge");
    ip("link set left.5 up");
    let left = link("left");
    let vlan = Link { vlan: Some((left.id, 5)), ..link("left.5") };
    let mut datapath = Datapath::open(Lab::config(Mode::Tcx)).expect("a datapath");
    // The device below carries no program: the tag is gone when the VLAN device's own program runs.
    datapath.establish(std::slice::from_ref(&vlan)).expect("established");
    begin(&mut datapath, 1);
    datapath.apply(&owning(&[VIP4], &[vlan.id])).expect("applied");
    let arp = Arp::request(VIP4);
    let (untagged, with_tag) = (arp.bytes(), tagged(&arp.bytes(), 5));
    let said = |index, frame: &[u8]| Live::open(&pin_root()).both(index, frame);
    assert_eq!(said(vlan.id.0, &untagged), Answer(arp_reply(&arp, vlan.mac.0)));
    // It does: then its program answers, with the tag, and both ways stay open.
    datapath.set_links(&[left.clone(), vlan.clone()]).expect("followed");
    assert_eq!(said(left.id.0, &with_tag), Answer(tagged(&arp_reply(&arp, vlan.mac.0), 5)));
    assert_eq!(said(vlan.id.0, &untagged), Answer(arp_reply(&arp, vlan.mac.0)));
    // The device below goes and comes again; then the VLAN device goes.
    datapath.set_links(std::slice::from_ref(&vlan)).expect("followed");
    assert_eq!(said(left.id.0, &untagged), Pass, "nothing is announced there");
    datapath.set_links(&[vlan.clone(), left.clone()]).expect("followed");
    assert_eq!(said(left.id.0, &with_tag), Answer(tagged(&arp_reply(&arp, vlan.mac.0), 5)));
    datapath.set_links(std::slice::from_ref(&left)).expect("followed");
    assert_eq!(said(left.id.0, &with_tag), Pass);
    assert_eq!(said(vlan.id.0, &untagged), Pass);
    drop(lab);
}

#[test]
fn a_proof_runs_the_live_program_and_leaves_the_books_alone() {
    let mut bench = Bench::new();
    let id = bench.left.id;
    let proved = |bench: &Bench, text| bench.datapath.prove(vip(text), id).expect("a proof");
    assert!(proved(&bench, VIP4) && proved(&bench, VIP6));
    assert!(!proved(&bench, OTHER4) && !proved(&bench, OTHER6));
    bench.datapath.silence().expect("silent");
    assert!(!proved(&bench, VIP4) && !proved(&bench, VIP6));
    assert!(bench.datapath.counters().expect("counters").values().all(|count| *count == Counters::default()));
}

#[test]
fn without_suppression_the_stack_gets_what_is_owned_elsewhere() {
    let lab = Lab::new();
    let left = link("left");
    let config = Config { suppress: false, ..Lab::config(Mode::Tcx) };
    let mut datapath = Datapath::open(config).expect("a datapath");
    datapath.establish(std::slice::from_ref(&left)).expect("established");
    begin(&mut datapath, 1);
    datapath.apply(&owning(&[OTHER4, OTHER6], &[])).expect("applied");
    let live = Live::open(&pin_root());
    assert_eq!(live.both(left.id.0, &Arp::request(OTHER4).bytes()), Pass);
    assert_eq!(live.both(left.id.0, &Ndp::solicitation(OTHER6).bytes()), Pass);
    drop(lab);
}

//! What a new agent finds and takes over, with the DaemonSet's capabilities and no more.

use std::collections::{BTreeMap, BTreeSet};

use announcer::{
    datapath::{Attachment, Datapath, DatapathError, Inherited, LinkChange, Mode, uninstall},
    vocabulary::BootNs,
};
use aya::programs::{Xdp, XdpMode, links::FdLink};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

use crate::support::{Lab, begin, link, owning, pin_root, session, sh, vip};

const VIP4: &str = "10.9.0.100";
const VIP6: &str = "fd00:9::100";
const OTHER4: &str = "10.9.0.101";

#[test]
fn what_the_kernel_holds_is_found_as_it_was_left() {
    let lab = Lab::new();
    let (mut datapath, left) = lab.answering(Mode::Tcx, &[VIP4, VIP6]);
    let mut owners = owning(&[VIP4, VIP6], &[left.id]);
    owners.vips.extend(owning(&[OTHER4], &[]).vips);
    datapath.apply(&owners).expect("applied");
    let deadline = datapath.deadline();
    drop(datapath);

    let datapath = Datapath::open(Lab::config(Mode::Tcx)).expect("a datapath");
    let on_left = BTreeSet::from([left.id]);
    let expected = Inherited {
        session: session(1),
        deadline,
        owned: BTreeMap::from([(vip(VIP4), on_left.clone()), (vip(VIP6), on_left)]),
        known: BTreeSet::from([vip(VIP4), vip(VIP6), vip(OTHER4)]),
    };
    assert_eq!(datapath.inherited(), Some(&expected));
    assert_eq!(datapath.deadline(), deadline);
}

#[test]
fn entries_of_an_older_epoch_are_known_but_not_owned() {
    let lab = Lab::new();
    let (mut datapath, _) = lab.answering(Mode::Tcx, &[VIP4]);
    begin(&mut datapath, 2);
    drop(datapath);
    let datapath = Datapath::open(Lab::config(Mode::Tcx)).expect("a datapath");
    let inherited = datapath.inherited().expect("a session");
    assert_eq!(inherited.session, session(2));
    assert_eq!((inherited.owned.len(), &inherited.known), (0, &BTreeSet::from([vip(VIP4)])));
}

#[test]
fn the_old_generation_is_silent_once_the_new_one_runs() {
    let lab = Lab::new();
    let (datapath, left) = lab.answering(Mode::Tcx, &[VIP4]);
    let deadline = datapath.deadline();
    drop(datapath);
    // Somebody else may keep the old maps alive.
    sh("bpftool map pin pinned /sys/fs/bpf/announcer/gen-1/session /sys/fs/bpf/kept");
    let mut datapath = Datapath::open(Lab::config(Mode::Tcx)).expect("a datapath");
    datapath.establish(std::slice::from_ref(&left)).expect("established");
    assert!(sh("bpftool map dump pinned /sys/fs/bpf/kept").contains("\"deadline_boot_ns\": 0,"));
    assert_eq!(datapath.deadline(), deadline, "the new one has it");
}

#[test]
fn a_change_of_mode_that_was_killed_halfway_leaves_one_link_in_the_end() {
    let lab = Lab::new();
    let (datapath, left) = lab.answering(Mode::Tcx, &[VIP4]);
    drop(datapath);
    let root = "/sys/fs/bpf/announcer";
    let attach_type = aya_obj::programs::XdpAttachType::Interface;
    let mut xdp = Xdp::from_pin(format!("{root}/gen-1/announcer_xdp"), attach_type).expect("the program");
    let second = xdp.attach_to_if_index(left.id.0, XdpMode::Skb).expect("attached");
    let second: FdLink = xdp.take_link(second).expect("the link").try_into().expect("a bpf_link");
    drop(second.pin(format!("{root}/link-{}-generic", left.id)).expect("pinned"));

    let mut datapath = Datapath::open(Lab::config(Mode::Tcx)).expect("a datapath");
    assert!(datapath.inherited().is_some());
    datapath.establish(std::slice::from_ref(&left)).expect("established");
    assert_eq!(datapath.attachments()[&left.id].0, Attachment::Tcx);
    let pins = sh(&format!("ls {root}"));
    assert_eq!(pins.lines().filter(|name| name.starts_with("link-")).count(), 1, "{pins}");
    assert!(!sh("ip -d link show left").contains("xdp"));
    assert!(datapath.prove(vip(VIP4), left.id).expect("a proof"));
}

#[test]
fn a_generation_with_one_xdp_program_for_both_modes_is_adopted() {
    let lab = Lab::new();
    let (datapath, left) = lab.answering(Mode::Native, &[VIP4]);
    drop(datapath);
    // As agents left it before generic XDP had a program of its own.
    sh("rm /sys/fs/bpf/announcer/gen-1/announcer_xdp_generic");
    let mut datapath = Datapath::open(Lab::config(Mode::Native)).expect("a datapath");
    assert!(datapath.inherited().is_some());
    datapath.establish(std::slice::from_ref(&left)).expect("established");
    assert!(datapath.prove(vip(VIP4), left.id).expect("a proof"));
    drop(lab);
}

#[test]
fn a_generation_that_did_not_remember_what_it_told_is_adopted() {
    let lab = Lab::new();
    let (datapath, left) = lab.answering(Mode::Tcx, &[VIP4]);
    drop(datapath);
    // As agents left it before conflicts had a budget.
    sh("rm /sys/fs/bpf/announcer/gen-1/told");
    let mut datapath = Datapath::open(Lab::config(Mode::Tcx)).expect("a datapath");
    assert!(datapath.inherited().is_some());
    datapath.establish(std::slice::from_ref(&left)).expect("established");
    assert!(datapath.prove(vip(VIP4), left.id).expect("a proof"));
    drop(lab);
}

#[test]
fn links_that_are_not_wanted_any_more_are_detached() {
    let lab = Lab::new();
    lab.add_veth("second", "second-far");
    let (mut datapath, left) = lab.answering(Mode::Tcx, &[VIP4]);
    let second = link("second");
    datapath.set_links(&[left.clone(), second.clone()]).expect("two links");
    drop(datapath);
    let mut datapath = Datapath::open(Lab::config(Mode::Tcx)).expect("a datapath");
    let reports = datapath.establish(std::slice::from_ref(&left)).expect("established");
    let detached = reports.iter().find(|report| report.link == second.id);
    assert!(detached.is_some_and(|report| matches!(report.change, LinkChange::Detached)), "{reports:?}");
    assert_eq!(datapath.attachments().keys().copied().collect::<Vec<_>>(), [left.id]);
    drop(lab);
}

#[test]
fn a_link_whose_programs_no_folder_has_is_silenced_and_swapped() {
    let lab = Lab::new();
    let (datapath, left) = lab.answering(Mode::Tcx, &[VIP4]);
    drop(datapath);
    sh("rm -r /sys/fs/bpf/announcer/gen-1");
    let mut datapath = Datapath::open(Lab::config(Mode::Tcx)).expect("a datapath");
    assert_eq!(datapath.inherited(), None);
    datapath.establish(std::slice::from_ref(&left)).expect("established");
    assert_eq!((datapath.deadline(), datapath.session().epoch), (BootNs::NONE, 0));
    assert!(!datapath.prove(vip(VIP4), left.id).expect("a proof"));
    begin(&mut datapath, 7);
    datapath.apply(&owning(&[VIP4], &[left.id])).expect("applied");
    assert!(datapath.prove(vip(VIP4), left.id).expect("a proof"));
}

#[test]
fn the_daemonset_s_capabilities_are_enough_for_a_restart() {
    let lab = Lab::new();
    let (datapath, left) = lab.answering(Mode::Tcx, &[VIP4]);
    drop(datapath);
    let few = CapabilitySet::BPF | CapabilitySet::NET_ADMIN | CapabilitySet::PERFMON | CapabilitySet::NET_RAW;
    let sets = CapabilitySets { effective: few, permitted: few, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).expect("this thread gives up the rest");
    let mut datapath = Datapath::open(Lab::config(Mode::Tcx)).expect("a datapath");
    assert!(datapath.inherited().is_some());
    datapath.establish(std::slice::from_ref(&left)).expect("established");
    assert!(datapath.prove(vip(VIP4), left.id).expect("a proof"));
    datapath.apply(&owning(&[OTHER4], &[left.id])).expect("applied");
    assert!(datapath.prove(vip(OTHER4), left.id).expect("a proof"));
    datapath.events().expect("a ring").expect("the first time");
    datapath.silence().expect("silent");
    drop(datapath);
    uninstall(&pin_root()).expect("uninstalled");
    drop(lab);
}

#[test]
fn a_missing_capability_is_named() {
    let _lab = Lab::without_links();
    let few = CapabilitySet::BPF | CapabilitySet::NET_RAW;
    let sets = CapabilitySets { effective: few, permitted: few, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).expect("this thread gives up the rest");
    let error = Datapath::open(Lab::config(Mode::Tcx)).expect_err("not without CAP_NET_ADMIN");
    assert!(
        matches!(&error, DatapathError::MissingCapabilities { names } if names == &["CAP_NET_ADMIN"]),
        "{error}"
    );
}

//! An agent restart is not an outage: adoption, kills after every step, changes of mode, with least privileges. Root.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    sync::{Arc, Mutex},
};

use announcer::{
    datapath::{Attachment, Datapath, DatapathError, Inherited, LinkChange, Mode, Step},
    vocabulary::{BootNs, Link},
};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use support::{
    Asked, Asker, Lab, begin, ip, link, owning, pin_root,
    programs::PassEverything,
    session, sh, vip,
};

const VIP4: &str = "10.9.0.100";
const VIP6: &str = "fd00:9::100";
const OTHER4: &str = "10.9.0.101";

/// Generations under the pin directory.
fn generations() -> Vec<String> {
    let names = std::fs::read_dir(pin_root()).expect("pins").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.retain(|name| name.starts_with("gen-"));
    names.sort();
    names
}

fn lost_none(asked: &Asked, left: &Link) {
    assert_eq!(asked.answered, asked.sent, "every request is answered");
    assert_eq!(asked.macs, BTreeSet::from([left.mac.0]));
}

/// Twenty agents, one after the other, while the client asks without a pause.
fn restarts_lose_nothing(mode: Mode) {
    let lab = Lab::new();
    let _far_end = lab.client.run(|| PassEverything::native(link("right").id.0));
    let (datapath, left) = lab.answering(mode, &[VIP4, VIP6]);
    drop(datapath);
    let asker = Asker::start(&lab.client, VIP4);
    for _ in 0..20 {
        let mut datapath = Datapath::open(Lab::config(mode)).expect("a datapath");
        let reports = datapath.establish(std::slice::from_ref(&left)).expect("established");
        assert!(matches!(reports[..], [ref one] if matches!(one.change, LinkChange::Adopted { .. })), "{reports:?}");
        assert!(datapath.entry_live(vip(VIP4), left.id) && datapath.entry_live(vip(VIP6), left.id));
        assert!(datapath.prove(vip(VIP6), left.id).expect("a proof"));
    }
    let asked = asker.stop();
    lost_none(&asked, &left);
    let counts = {
        let mut datapath = Datapath::open(Lab::config(mode)).expect("a datapath");
        datapath.establish(std::slice::from_ref(&left)).expect("established");
        datapath.counters().expect("counters")
    };
    assert_eq!(counts[&(vip(VIP4), left.id)].replies, asked.sent, "no count is lost either");
}

#[test]
fn restarts_under_load_lose_no_answer_in_tcx_mode() {
    restarts_lose_nothing(Mode::Tcx);
}

#[test]
fn restarts_under_load_lose_no_answer_in_native_mode() {
    restarts_lose_nothing(Mode::Native);
}

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
fn an_agent_killed_after_any_step_leaves_what_the_next_one_takes_over() {
    let lab = Lab::new();
    lab.add_veth("second", "second-far");
    let (mut datapath, left) = lab.answering(Mode::Tcx, &[VIP4, VIP6]);
    let links = [left.clone(), link("second")];
    datapath.set_links(&links).expect("two links");
    datapath.apply(&owning(&[VIP4, VIP6], &[left.id])).expect("applied");
    let inherited = {
        drop(datapath);
        Datapath::open(Lab::config(Mode::Tcx)).expect("a datapath").inherited().cloned()
    };
    assert!(inherited.is_some());

    let asker = Asker::start(&lab.client, VIP4);
    let mut steps = Vec::new();
    loop {
        let mut datapath = Datapath::open(Lab::config(Mode::Tcx)).expect("a datapath");
        assert_eq!(datapath.inherited(), inherited.as_ref(), "after {:?}", steps.last());
        let done = Arc::new(Mutex::new(Vec::new()));
        let (log, stop_after) = (Arc::clone(&done), steps.len() + 1);
        datapath.on_step(Box::new(move |step| {
            let mut log = log.lock().expect("no panic");
            log.push(step);
            if log.len() == stop_after { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }));
        match datapath.establish(&links) {
            Err(DatapathError::Stopped(step)) => steps.push(step),
            Ok(_) => break,
            Err(error) => panic!("{error}"),
        }
    }
    lost_none(&asker.stop(), &left);
    assert_eq!(generations().len(), 1, "all others are deleted");
    for wanted in [Step::Loaded, Step::Copied, Step::Swapped(left.id), Step::GracePassed, Step::Shown("session")] {
        assert!(steps.contains(&wanted), "{wanted:?} in {steps:?}");
    }
}

#[test]
fn a_kill_between_two_swaps_leaves_one_session_with_two_generations() {
    let lab = Lab::new();
    lab.add_veth("second", "second-far");
    let (mut datapath, left) = lab.answering(Mode::Tcx, &[VIP4]);
    let links = [left.clone(), link("second")];
    datapath.set_links(&links).expect("two links");
    datapath.apply(&owning(&[VIP4], &[links[0].id, links[1].id])).expect("applied");
    drop(datapath);
    let mut datapath = Datapath::open(Lab::config(Mode::Tcx)).expect("a datapath");
    datapath.on_step(Box::new(|step| match step {
        Step::Swapped(_) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    }));
    let stopped = datapath.establish(&links);
    assert!(matches!(stopped, Err(DatapathError::Stopped(Step::Swapped(_)))));
    drop(datapath);
    assert_eq!(generations(), ["gen-1", "gen-2"]);

    let mut datapath = Datapath::open(Lab::config(Mode::Tcx)).expect("a datapath");
    let owned = datapath.inherited().map(|inherited| inherited.owned.clone());
    assert_eq!(owned, Some(owning(&[VIP4], &[links[0].id, links[1].id]).vips));
    datapath.establish(&links).expect("established");
    assert_eq!(generations(), ["gen-3"]);
    assert!(links.iter().all(|link| datapath.entry_live(vip(VIP4), link.id)));
    drop(lab);
}

#[test]
fn a_change_of_mode_loses_no_answer() {
    let lab = Lab::new();
    let _far_end = lab.client.run(|| PassEverything::native(link("right").id.0));
    let (datapath, left) = lab.answering(Mode::Tcx, &[VIP4]);
    drop(datapath);
    let asker = Asker::start(&lab.client, VIP4);
    for (mode, attachment) in [
        (Mode::Generic, Attachment::Generic),
        (Mode::Tcx, Attachment::Tcx),
        (Mode::Generic, Attachment::Generic),
        (Mode::Auto, Attachment::Generic),
    ] {
        let mut datapath = Datapath::open(Lab::config(mode)).expect("a datapath");
        datapath.establish(std::slice::from_ref(&left)).expect("established");
        assert_eq!(datapath.attachments()[&left.id].0, attachment);
    }
    lost_none(&asker.stop(), &left);
    let pins = sh("ls /sys/fs/bpf/announcer");
    assert_eq!(pins.lines().filter(|name| name.starts_with("link-")).collect::<Vec<_>>(), [format!("link-{}-generic", left.id)]);
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
    ip("link set left mtu 1500");
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
    announcer::datapath::uninstall(&pin_root()).expect("uninstalled");
    drop(lab);
}

#[test]
fn a_missing_capability_is_named() {
    let _lab = Lab::without_links();
    let few = CapabilitySet::BPF | CapabilitySet::NET_ADMIN;
    let sets = CapabilitySets { effective: few, permitted: few, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).expect("this thread gives up the rest");
    let error = Datapath::open(Lab::config(Mode::Tcx)).expect_err("not without CAP_PERFMON");
    assert!(matches!(&error, DatapathError::MissingCapabilities { names } if names == &["CAP_PERFMON"]), "{error}");
}

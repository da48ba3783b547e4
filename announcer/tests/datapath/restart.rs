//! An agent restart is not an outage: adoption, kills after every step, changes of mode, with least privileges. Root.

use std::{
    collections::BTreeSet,
    ops::ControlFlow,
    sync::{Arc, Mutex},
};

use crate::support::{
    Lab,
    asker::{Asked, Asker},
    foreign::Foreign,
    link, owning, pin_root, sh, vip,
};
use announcer::{
    datapath::{Attachment, Datapath, DatapathError, LinkChange, Mode, Step},
    vocabulary::Link,
};

const VIP4: &str = "10.9.0.100";
const VIP6: &str = "fd00:9::100";

/// Generations under the pin directory.
fn generations() -> Vec<String> {
    let names =
        std::fs::read_dir(pin_root()).expect("pins").map(|entry| entry.expect("an entry").file_name());
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
    let _far_end = lab.client.run(|| Foreign::passing_xdp(link("right").id.0));
    let (datapath, left) = lab.answering(mode, &[VIP4, VIP6]);
    drop(datapath);
    let asker = Asker::start(&lab.client, VIP4);
    for _ in 0..20 {
        let mut datapath = Datapath::open(Lab::config(mode)).expect("a datapath");
        let reports = datapath.establish(std::slice::from_ref(&left)).expect("established");
        assert!(
            matches!(reports[..], [ref one] if matches!(one.change, LinkChange::Adopted { .. })),
            "{reports:?}"
        );
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
    for wanted in
        [Step::Loaded, Step::Copied, Step::Swapped(left.id), Step::GracePassed, Step::Shown("session")]
    {
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
    let _far_end = lab.client.run(|| Foreign::passing_xdp(link("right").id.0));
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
    assert_eq!(
        pins.lines().filter(|name| name.starts_with("link-")).collect::<Vec<_>>(),
        [format!("link-{}-generic", left.id)]
    );
}

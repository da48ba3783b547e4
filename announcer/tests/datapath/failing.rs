//! The kernel refuses one call, or all of them from one on: nothing else changes, and all is well once it stops. Needs root.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use announcer::{
    datapath::{Datapath, DatapathError, Mode, Status},
    vocabulary::{BootNs, Link, LinkId, Vip},
};

use crate::support::{Lab, begin, link, owning, pin_root, session, vip};

const STAYS: &str = "10.9.0.100";
const GOES: &str = "10.9.0.101";
const COMES: &str = "10.9.0.102";
const COMES6: &str = "fd00:9::102";

/// Which calls fail: those whose number is in the range, from 0; and how many there were.
struct Failing {
    calls: Arc<AtomicUsize>,
}

impl Failing {
    fn calls(datapath: &mut Datapath, which: std::ops::Range<usize>, errno: i32) -> Self {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        datapath.on_call(Box::new(move |_| {
            which.contains(&counted.fetch_add(1, Ordering::SeqCst)).then_some(errno)
        }));
        Self { calls }
    }

    fn end(self, datapath: &mut Datapath) -> usize {
        datapath.on_call(Box::new(|_| None));
        self.calls.load(Ordering::SeqCst)
    }
}

fn answered(datapath: &Datapath, text: &str, link: LinkId) -> bool {
    datapath.prove(vip(text), link).expect("a proof")
}

/// One address goes, two come, a link comes and goes; what stays must be answered throughout, or everything be silent.
fn change(datapath: &mut Datapath, left: &Link, second: &Link) {
    let told = |result: Result<(), DatapathError>| match result {
        Ok(()) | Err(DatapathError::NotTakenAway { .. }) => {}
        Err(error) => panic!("the loop would have ended: {error}"),
    };
    let mut owners = owning(&[STAYS, COMES, COMES6], &[left.id]);
    owners.vips.extend(owning(&[GOES], &[]).vips);
    told(datapath.apply(&owners).map(drop));
    let silent = datapath.deadline() == BootNs::NONE;
    assert!(silent || answered(datapath, STAYS, left.id));
    assert!(!answered(datapath, GOES, left.id), "what was to go is not answered, whatever failed");
    told(datapath.set_links(&[left.clone(), second.clone()]).map(drop));
    assert!(silent || answered(datapath, STAYS, left.id));
    told(datapath.set_links(std::slice::from_ref(left)).map(drop));
    owners.vips.remove(&vip(GOES));
    told(datapath.apply(&owners).map(drop));
    assert!(datapath.deadline() == BootNs::NONE || answered(datapath, STAYS, left.id));
    assert!(!answered(datapath, GOES, left.id));
}

fn mended(datapath: &mut Datapath, left: &Link) {
    let owners = owning(&[STAYS, COMES, COMES6], &[left.id]);
    let applied = datapath.apply(&owners).expect("applied");
    assert_eq!((applied.refused.len(), applied.unserved.len()), (0, 0));
    datapath.set_deadline(BootNs::now() + std::time::Duration::from_secs(60)).expect("a deadline");
    for text in [STAYS, COMES, COMES6] {
        assert!(answered(datapath, text, left.id), "{text}");
    }
    let status = Status::read(&pin_root()).expect("pins").expect("maps").expect("of this build");
    let known: Vec<(Vip, LinkId)> = status.vips.into_keys().collect();
    assert_eq!(known, [STAYS, COMES, COMES6].map(|text| (vip(text), left.id)), "and no other is known");
    // As it was at the beginning.
    datapath.apply(&owning(&[STAYS, GOES], &[left.id])).expect("applied");
}

/// For each n: the n-th call fails, and so do `as_many` after it.
fn each_call_fails(as_many: usize, errno: i32) {
    let lab = Lab::new();
    lab.add_veth("second", "second-far");
    let (mut datapath, left) = lab.answering(Mode::Tcx, &[STAYS, GOES]);
    let second = link("second");
    for number in 0.. {
        let failing = Failing::calls(&mut datapath, number..number.saturating_add(as_many), errno);
        change(&mut datapath, &left, &second);
        let calls = failing.end(&mut datapath);
        mended(&mut datapath, &left);
        if number >= calls {
            assert!(calls > 10, "{calls}");
            break;
        }
    }
    drop(lab);
}

#[test]
fn whichever_call_finds_no_memory_all_else_goes_on_and_all_is_well_after_it() {
    each_call_fails(1, libc::ENOMEM);
}

#[test]
fn whichever_call_finds_no_room_all_else_goes_on_and_all_is_well_after_it() {
    each_call_fails(1, libc::ENOSPC);
    each_call_fails(1, libc::E2BIG);
}

#[test]
fn a_kernel_that_refuses_every_call_from_one_on_is_silent_or_right_and_well_again_after_it() {
    each_call_fails(usize::MAX, libc::ENOMEM);
}

#[test]
fn an_entry_that_cannot_be_taken_away_silences_all_until_it_can() {
    let lab = Lab::new();
    let (mut datapath, left) = lab.answering(Mode::Tcx, &[STAYS, GOES]);
    let mut owners = owning(&[STAYS], &[left.id]);
    owners.vips.extend(owning(&[GOES], &[]).vips);
    let failing = Failing::calls(&mut datapath, 0..usize::MAX, libc::ENOMEM);
    for _ in 0..2 {
        let error = datapath.apply(&owners).expect_err("it is not taken away");
        assert!(matches!(error, DatapathError::NotTakenAway { vip: of, .. } if of == vip(GOES)), "{error}");
        assert_eq!(datapath.deadline(), BootNs::NONE);
        assert!(!answered(&datapath, GOES, left.id) && !answered(&datapath, STAYS, left.id));
    }
    let error = datapath.begin_session(&session(2)).expect_err("nor may a session begin");
    assert!(matches!(error, DatapathError::NotTakenAway { .. }), "{error}");
    assert_eq!(datapath.session(), session(1));
    failing.end(&mut datapath);
    let applied = datapath.apply(&owners).expect("applied");
    assert_eq!(applied.lost, [(vip(GOES), left.id)].into(), "told once it is true");
    begin(&mut datapath, 1);
    datapath.apply(&owners).expect("applied");
    assert!(answered(&datapath, STAYS, left.id) && !answered(&datapath, GOES, left.id));
    drop(lab);
}

#[test]
fn a_start_that_finds_no_memory_for_any_entry_is_a_start_and_mended_by_the_first_apply() {
    let lab = Lab::new();
    let (datapath, left) = lab.answering(Mode::Tcx, &[STAYS, GOES]);
    drop(datapath);
    for call in ["VIPS4", "FILTER", "COUNTERS", "MACS", "LINKS"] {
        let mut datapath = Datapath::open(Lab::config(Mode::Tcx)).expect("a datapath");
        datapath.on_call(Box::new(move |of| (of == call).then_some(libc::ENOMEM)));
        datapath.establish(std::slice::from_ref(&left)).expect("no error: the agent starts");
        datapath.on_call(Box::new(|_| None));
        datapath.set_links(std::slice::from_ref(&left)).expect("followed");
        let applied = datapath.apply(&owning(&[STAYS, GOES], &[left.id])).expect("applied");
        assert_eq!(applied.refused, [].into(), "{call}");
        assert!(answered(&datapath, STAYS, left.id) && answered(&datapath, GOES, left.id), "{call}");
    }
    assert!(pin_root().exists());
    drop(lab);
}

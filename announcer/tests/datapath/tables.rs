//! Tables that are full, and tables that grow: what is beyond a limit is refused alone. Needs root.

use std::{
    collections::BTreeSet,
    io::Write,
    net::{Ipv4Addr, Ipv6Addr},
    ops::ControlFlow,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use announcer::{
    datapath::{
        Applied, AttachError, Config, Datapath, DatapathError, LinkChange, LinkReport, Mode, Owners,
        PerFamily, Refused, Step, Tables,
    },
    vocabulary::{Link, LinkId, Vip},
};

use crate::support::{
    Lab,
    asker::Asker,
    frames::{Arp, STRANGER},
    ip, link, owning, pin_root,
    programs::{Live, Said::Pass},
    sh, vip,
};

const VIP4: &str = "10.9.0.100";

fn config(tables: Tables) -> Config {
    Config { tables, ..Lab::config(Mode::Tcx) }
}

fn vips(count: u32) -> impl Iterator<Item = Vip> {
    (0..count).map(|number| Ipv4Addr::from(0x0a0a_0000 + number).into())
}

fn owned(vips: impl IntoIterator<Item = Vip>, on: &[LinkId]) -> Owners {
    Owners { vips: vips.into_iter().map(|vip| (vip, on.iter().copied().collect())).collect() }
}

/// `left` and so many more.
fn links(lab: &Lab, more: &[(&'static str, &'static str)]) -> Vec<Link> {
    more.iter().for_each(|(near, far)| lab.add_veth(near, far));
    std::iter::once(link("left")).chain(more.iter().map(|(near, _)| link(near))).collect()
}

fn ids(links: &[Link]) -> Vec<LinkId> {
    links.iter().map(|link| link.id).collect()
}

/// So many devices, with ifindexes from `first` on.
fn many_links(first: u32, count: u32) -> Vec<Link> {
    // Every second ifindex is the far end's.
    let lines = (first..first + count).map(|n| {
        let index = first + (n - first) * 2;
        format!("link add many{n} index {index} type veth peer name far{n}\nlink set many{n} up\n")
    });
    let mut ip = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("ip, which is installed");
    let mut input = ip.stdin.take().expect("a pipe");
    input.write_all(lines.collect::<String>().as_bytes()).expect("written");
    drop(input);
    assert!(ip.wait().expect("ip ended").success());
    (first..first + count).map(|n| link(&format!("many{n}"))).collect()
}

/// The live generation's number.
fn generation() -> String {
    sh("ls /sys/fs/bpf/announcer | grep ^gen-").trim().to_owned()
}

fn failure(reports: &[LinkReport], id: LinkId) -> Option<&AttachError> {
    reports.iter().find_map(|report| match &report.change {
        LinkChange::Failed(error) if report.link == id => Some(error),
        _ => None,
    })
}

fn assert_proved(datapath: &Datapath, entries: impl IntoIterator<Item = (Vip, LinkId)>) {
    for (vip, link) in entries {
        assert!(datapath.prove(vip, link).expect("a proof"), "{vip} on {link}");
        assert!(datapath.entry_live(vip, link), "{vip} on {link}");
    }
}

#[test]
fn eleven_thousand_addresses_on_three_links_are_all_answered() {
    let lab = Lab::new();
    let (mut datapath, _) = lab.answering(Mode::Tcx, &[]);
    let links = links(&lab, &[("two", "two-far"), ("three", "three-far")]);
    datapath.set_links(&links).expect("three links");
    let on = ids(&links);
    let applied = datapath.apply(&owned(vips(11_000), &on)).expect("applied");
    assert_eq!((applied.gained.len(), applied.refused.len()), (33_000, 0));
    assert_proved(
        &datapath,
        vips(11_000).step_by(499).flat_map(|vip| on.iter().map(move |link| (vip, *link))),
    );
}

#[test]
fn a_full_table_keeps_what_it_holds_and_refuses_alone_what_is_beyond() {
    let lab = Lab::new();
    let (mut datapath, left) = lab.answering_as(config(Tables { vips: 8..=8, links: 8..=8 }), &[VIP4]);
    let six: Vec<Vip> = (0..6_u16).map(|n| Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, n).into()).collect();
    let mut owners = owned(vips(10).chain(six.iter().copied()), &[left.id]);
    owners.vips.insert(vip(VIP4), [left.id].into());
    let Applied { gained, lost, refused, .. } = datapath.apply(&owners).expect("no error: others go on");
    let expected: Vec<Vip> = vips(10).skip(7).collect();
    assert_eq!(refused.keys().map(|(vip, _)| *vip).collect::<Vec<_>>(), expected);
    assert!(refused.values().all(|why| *why == Refused::Full), "{refused:?}");
    assert_eq!(
        (gained.len(), lost.len()),
        (13, 0),
        "seven beside the one that is held, and the other family"
    );
    assert_proved(&datapath, vips(7).chain(six).chain([vip(VIP4)]).map(|vip| (vip, left.id)));

    // Room is used once there is some.
    let owners = owned(vips(10).skip(2), &[left.id]);
    let applied = datapath.apply(&owners).expect("applied");
    assert_eq!(applied.refused, [].into());
    assert_proved(&datapath, vips(10).skip(2).map(|vip| (vip, left.id)));
}

#[test]
fn room_is_what_every_link_has_room_for_and_grows_as_far_as_it_may() {
    let lab = Lab::new();
    let (mut datapath, _) = lab.answering_as(config(Tables { vips: 8..=64, links: 8..=8 }), &[VIP4]);
    let links = links(&lab, &[("two", "two-far"), ("three", "three-far")]);
    datapath.set_links(&links).expect("three links");
    let mut room = |v4, v6| datapath.make_room(PerFamily { v4, v6 }).expect("established");
    assert_eq!(room(2, 1), PerFamily { v4: 2, v6: 2 });
    assert_eq!(room(9, 1), PerFamily { v4: 10, v6: 2 });
    assert_eq!(room(1000, 21), PerFamily { v4: 21, v6: 21 });
    drop(lab);
}

#[test]
fn tables_that_grow_miss_no_question_and_forget_nothing() {
    let lab = Lab::new();
    let (mut datapath, left) = lab.answering_as(config(Tables { vips: 8..=1024, links: 8..=8 }), &[VIP4]);
    let mut reader = datapath.events().expect("a ring").expect("the first time");
    let foreign = Arp { sender_mac: STRANGER, sender: VIP4, ..Arp::request("10.9.0.7") }.bytes();
    assert_eq!(Live::open(&pin_root()).xdp(left.id.0, &foreign), Pass);
    let asker = Asker::start(&lab.client, VIP4);
    let deadline = datapath.deadline();
    for count in [20, 80, 300, 1000] {
        let mut owners = owned(vips(count), &[left.id]);
        owners.vips.insert(vip(VIP4), [left.id].into());
        let applied = datapath.apply(&owners).expect("applied");
        assert_eq!(applied.refused, [].into());
        assert_proved(&datapath, vips(count).chain([vip(VIP4)]).map(|vip| (vip, left.id)));
    }
    let asked = asker.stop();
    assert_eq!((asked.answered, asked.macs), (asked.sent, BTreeSet::from([left.mac.0])));
    assert_eq!(generation(), "gen-5");
    assert_eq!((datapath.deadline(), datapath.session().epoch), (deadline, 1));
    let count = datapath.counters().expect("counters")[&(vip(VIP4), left.id)];
    assert_eq!((count.replies, count.conflicts), (asked.sent, 1), "no count is lost");
    assert_eq!(reader.drain().len(), 1, "nor what was seen before");
    drop(datapath);
    let datapath = Datapath::open(Lab::config(Mode::Tcx)).expect("a datapath");
    assert_eq!(datapath.inherited().expect("a session").owned.len(), 1001);
}

#[test]
fn an_agent_killed_while_its_tables_grow_leaves_what_the_next_one_takes_over() {
    let lab = Lab::new();
    lab.add_veth("second", "second-far");
    let small = || config(Tables { vips: 4..=64, links: 8..=8 });
    let (mut datapath, left) = lab.answering_as(small(), &[VIP4]);
    let links = [left.clone(), link("second")];
    datapath.set_links(&links).expect("two links");
    datapath.apply(&owning(&[VIP4], &[left.id])).expect("applied");
    drop(datapath);
    let asker = Asker::start(&lab.client, VIP4);
    let mut steps = Vec::new();
    loop {
        let mut datapath = Datapath::open(small()).expect("a datapath");
        let owned_before = datapath.inherited().expect("a session").owned.clone();
        assert_eq!(owned_before, owning(&[VIP4], &[left.id]).vips, "after {:?}", steps.last());
        datapath.establish(&links).expect("established");
        let done = Arc::new(Mutex::new(0));
        let stop_after = steps.len() + 1;
        datapath.on_step(Box::new(move |_| {
            let mut done = done.lock().expect("no panic");
            *done += 1;
            if *done == stop_after { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }));
        match datapath.make_room(PerFamily { v4: 20, v6: 0 }) {
            Err(DatapathError::Stopped(step)) => steps.push(step),
            Ok(room) => break assert_eq!(room, PerFamily { v4: 32, v6: 2 }),
            Err(error) => panic!("{error}"),
        }
    }
    let asked = asker.stop();
    assert_eq!(asked.answered, asked.sent);
    for wanted in
        [Step::Loaded, Step::Copied, Step::Swapped(left.id), Step::GracePassed, Step::Shown("session")]
    {
        assert!(steps.contains(&wanted), "{wanted:?} in {steps:?}");
    }
}

#[test]
fn tables_that_the_kernel_refuses_to_enlarge_stay_as_they_are_until_it_does() {
    let lab = Lab::new();
    for call in ["load", "pin", "VIPS4", "FILTER", "MACS", "LINKS"] {
        let (mut datapath, left) = lab.answering_as(config(Tables { vips: 2..=64, links: 8..=8 }), &[VIP4]);
        let before = generation();
        let failing = Arc::new(AtomicBool::new(true));
        let fails = failing.clone();
        datapath.on_call(Box::new(move |of| {
            (of == call && fails.load(Ordering::SeqCst)).then_some(libc::ENOMEM)
        }));
        let room = datapath.make_room(PerFamily { v4: 20, v6: 0 }).expect("no error: the loop goes on");
        assert_eq!((room.v4, generation()), (2, before), "{call}");
        assert_proved(&datapath, [(vip(VIP4), left.id)]);
        failing.store(false, Ordering::SeqCst);
        let soon = datapath.make_room(PerFamily { v4: 20, v6: 0 }).expect("no error");
        assert_eq!(soon.v4, 2, "it is not asked at every turn");
        datapath.silence().expect("silent");
        drop(datapath);
        announcer::datapath::uninstall(&pin_root()).expect("uninstalled");
    }
}

#[test]
fn a_link_beyond_the_last_entry_is_refused_alone_and_taken_once_there_is_room() {
    let lab = Lab::new();
    let (mut datapath, left) = lab.answering_as(config(Tables { vips: 64..=64, links: 2..=4 }), &[VIP4]);
    let mut links = vec![left.clone()];
    links.extend(many_links(100, 5));
    let reports = datapath.set_links(&links).expect("no error: other links go on");
    let (fifth, last) = (links[4].id, links[5].id);
    // `left` has an entry in the array, and its hardware address one in MACS, as the first three have.
    let refused: Vec<LinkId> =
        ids(&links).into_iter().filter(|id| failure(&reports, *id).is_some()).collect();
    assert_eq!(refused, [fifth, last], "{reports:?}");
    let error = failure(&reports, last).expect("a failure");
    assert!(matches!(error, AttachError::TooManyLinks { most: 4, first: 64 }), "{error}");
    let on: Vec<LinkId> = datapath.attachments().into_keys().collect();
    let applied = datapath.apply(&owning(&[VIP4], &on)).expect("applied");
    assert_eq!((applied.gained.len(), applied.refused.len()), (3, 0));
    assert_proved(&datapath, on.iter().map(|link| (vip(VIP4), *link)));

    ip("link del many100");
    links.remove(1);
    let reports = datapath.set_links(&links).expect("followed");
    assert!(failure(&reports, fifth).is_none(), "{reports:?}");
    assert!(failure(&reports, last).is_some(), "{reports:?}");
}

#[test]
fn a_link_for_whose_addresses_there_is_no_room_is_refused_and_those_that_are_held_stay() {
    let lab = Lab::new();
    let (mut datapath, left) = lab.answering_as(config(Tables { vips: 8..=8, links: 8..=8 }), &[]);
    datapath.apply(&owned(vips(3), &[left.id])).expect("applied");
    let links = links(&lab, &[("two", "two-far"), ("three", "three-far")]);
    let reports = datapath.set_links(&links).expect("no error: other links go on");
    assert!(failure(&reports, links[1].id).is_none(), "{reports:?}");
    let error = failure(&reports, links[2].id).expect("a failure");
    assert!(matches!(error, AttachError::TableFull { vips: 3, links: 3, most: 8 }), "{error}");
    let on = ids(&links[..2]);
    datapath.apply(&owned(vips(3), &on)).expect("applied");
    assert_proved(&datapath, vips(3).flat_map(|vip| on.iter().map(move |link| (vip, *link))));
}

/// As many links as `LINKS_BEYOND` begins with, and more: `ANNOUNCER_TEST_LINKS=1100`, some seconds.
#[test]
fn more_links_than_the_first_table_holds_are_all_answered_on() {
    let count: u32 = std::env::var("ANNOUNCER_TEST_LINKS").map_or(40, |text| text.parse().expect("a number"));
    let lab = Lab::new();
    let first = if count > 1000 { 1024 } else { 32 };
    let (mut datapath, left) =
        lab.answering_as(config(Tables { vips: 1024..=1 << 16, links: first..=1 << 14 }), &[VIP4]);
    let links: Vec<Link> = std::iter::once(left).chain(many_links(5000, count)).collect();
    let reports = datapath.set_links(&links).expect("followed");
    assert!(links.iter().all(|link| failure(&reports, link.id).is_none()));
    let on = ids(&links);
    let applied = datapath.apply(&owning(&[VIP4], &on)).expect("applied");
    assert_eq!(
        (applied.gained.len(), applied.refused.len()),
        (count as usize, 0),
        "on all but `left`, which had it"
    );
    assert_proved(&datapath, on.iter().map(|link| (vip(VIP4), *link)));
    drop(lab);
}

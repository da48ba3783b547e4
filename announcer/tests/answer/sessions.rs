//! A standalone session and a cluster's are never mistaken for each other; and a lease is kept by whoever runs.

use std::time::Duration;

use announcer::{
    datapath::{Datapath, Mode},
    vocabulary::BootNs,
};
use rustix::process::Signal;

use crate::{
    process::{Announcer, run},
    support::{Lab, UID, foreign::Foreign, frames::Arp, link, pin_root, sh, socket::Wire, try_sh},
};

const VIP4: &str = "10.9.0.100";
const OTHER4: &str = "10.9.0.101";

fn answered(lab: &Lab, address: &'static str) -> bool {
    lab.client.run(move || try_sh(&format!("arping -c 1 -w 1 -I right {address}")).0)
}

#[test]
fn an_agent_s_live_session_is_left_alone() {
    let lab = Lab::new();
    drop(lab.answering(Mode::Auto, &[VIP4]));
    let ended = run(&format!("answer --interface left --vip {OTHER4}"));
    assert_eq!((ended.status, ended.stderr.lines().count()), (Some(1), 1), "{ended:?}");
    assert!(ended.stderr.contains("the kernel answers for a cluster's agent for"), "{ended:?}");
    assert!(answered(&lab, VIP4), "the agent's address is answered as before");
}

#[test]
fn an_agent_s_dead_session_is_not_gone_on_with() {
    let lab = Lab::new();
    let (mut datapath, _) = lab.answering(Mode::Auto, &[VIP4]);
    datapath.set_deadline(BootNs::now()).expect("a deadline");
    drop(datapath);
    let answer = Announcer::answer(&format!("--interface left --vip {OTHER4}"));
    assert!(answered(&lab, OTHER4) && !answered(&lab, VIP4));
    drop(answer);
    let datapath = Datapath::open(Lab::config(Mode::Auto)).expect("a datapath");
    assert_eq!(datapath.session().uid, [0; 16], "not {UID:?}");
}

#[test]
fn a_process_that_is_stopped_goes_silent_with_its_lease() {
    let lab = Lab::new();
    let answer = Announcer::answer(&format!("--interface left --vip {VIP4} --lease 1"));
    assert!(answered(&lab, VIP4));
    answer.signal(Signal::STOP);
    let stopped = BootNs::now();
    let silent_at = lab.client.run(|| {
        let wire = Wire::open(link("right").id.0);
        loop {
            let asked = BootNs::now();
            wire.send(&Arp::request(VIP4).bytes());
            if wire.receive(|frame| frame.get(12..14) == Some(&[8, 6]) && frame[21] == 2).is_none() {
                return asked;
            }
        }
    });
    assert!(silent_at < stopped + Duration::from_secs(1), "silent within its lease");
    answer.signal(Signal::CONT);
    let goes_on = (0..10).any(|_| answered(&lab, VIP4));
    assert!(goes_on, "nobody else can have taken it: it goes on as soon as it runs");
}

#[test]
fn what_is_kept_is_removed_by_uninstall() {
    let lab = Lab::new();
    let answer = Announcer::answer(&format!("--interface left --vip {VIP4} --vip fd00:9::100 --keep"));
    assert!(answer.end(Signal::TERM).success());
    assert!(answered(&lab, VIP4), "the kernel goes on");
    let ended = run("uninstall");
    assert_eq!(ended.stdout, "removed the program from 1 links, and 1 multicast groups\n", "{ended:?}");
    assert!(!answered(&lab, VIP4) && !pin_root().exists());
}

#[test]
fn the_next_one_answers_for_its_own_addresses_only() {
    let lab = Lab::new();
    let first = Announcer::answer(&format!("--interface left --vip {VIP4} --keep"));
    assert!(first.end(Signal::KILL).code().is_none());
    let _second = Announcer::answer(&format!("--interface left --vip {OTHER4}"));
    assert!(answered(&lab, OTHER4) && !answered(&lab, VIP4));
}

#[test]
fn a_refused_start_leaves_what_was_kept_as_it_was() {
    let lab = Lab::new();
    lab.add_veth("other", "far");
    let _foreign = Foreign::passing_xdp(link("other").id.0);
    let kept = Announcer::answer(&format!("--interface left --vip {VIP4} --mode native --keep"));
    assert!(kept.end(Signal::TERM).success());
    let ended = run(&format!("answer --interface left --interface other --vip {VIP4} --mode native"));
    assert_eq!(ended.status, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("cannot answer on other: another XDP program is attached"), "{ended:?}");
    let status = run("status").stdout;
    assert!(
        status.starts_with("answering for") && status.contains("left") && !status.contains("other"),
        "{status}"
    );
}

#[test]
fn one_that_ends_as_the_next_one_starts_takes_nothing_from_it() {
    let lab = Lab::new();
    let arguments = format!("answer --interface left --vip {VIP4} --vip fd00:9::100");
    for _ in 0..5 {
        let first = Announcer::answer(arguments.trim_start_matches("answer "));
        let mut second = Announcer::start(&arguments);
        assert!(first.end(Signal::INT).success(), "an ordinary end");
        second.wait_for("answering for");
        assert!(answered(&lab, VIP4));
        let joined = || sh("ip -6 maddr show dev left").contains("ff02::1:ff00:100");
        let in_time = (0..200).any(|_| {
            joined() || {
                std::thread::sleep(Duration::from_millis(10));
                false
            }
        });
        assert!(in_time, "the group is the second one's now");
        assert!(second.end(Signal::INT).success());
    }
}

#[test]
fn what_others_put_beside_our_pins_is_left_alone_and_ours_go_nevertheless() {
    let lab = Lab::new();
    let answer = Announcer::answer(&format!("--interface left --vip {VIP4} --vip fd00:9::100"));
    sh("mkdir -p /sys/fs/bpf/announcer/foreign/sub /sys/fs/bpf/announcer/gen-18446744073709551615");
    assert!(answer.end(Signal::TERM).success());
    assert_eq!(sh("ls /sys/fs/bpf/announcer"), "foreign\ngen-18446744073709551615\n");
    assert!(!answered(&lab, VIP4) && !sh("ip -6 maddr show dev left").contains("ff02::1:ff00:100"));
    let _again = Announcer::answer(&format!("--interface left --vip {VIP4}"));
    assert!(answered(&lab, VIP4));
}

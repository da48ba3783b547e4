//! A standalone session and a cluster's are never mistaken for each other; and a lease is kept by whoever runs.

use std::time::Duration;

use announcer::{
    datapath::{Datapath, Mode},
    vocabulary::BootNs,
};
use rustix::process::Signal;

use crate::{
    process::{Announcer, run},
    support::{Lab, UID, frames::Arp, link, pin_root, socket::Wire, try_sh},
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
    assert!(answered(&lab, VIP4), "nobody else can have taken it: it goes on");
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

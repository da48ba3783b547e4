//! The kernel holds the lease: past the deadline it is silent by itself, whatever became of the agent.

use std::time::Duration;

use announcer::{datapath::Mode, vocabulary::BootNs};

use crate::support::{
    Lab,
    agent::RenewingAgent,
    begin,
    bench::{VIP4, VIP6},
    frames::{Arp, Ndp},
    link,
    rig::Rig,
    socket::Wire,
};

in_every_mode!(
    a_passed_deadline_is_silence_and_counted_as_fenced,
    a_stopped_agent_s_kernel_is_silent_after_the_lease
);

fn a_passed_deadline_is_silence_and_counted_as_fenced(mut rig: Rig) {
    let frames = || [Arp::request(VIP4).bytes(), Ndp::solicitation(VIP6).bytes()];
    let mut tcpdump = rig.tcpdump();
    rig.datapath.set_deadline(BootNs::now()).expect("a deadline");
    rig.send(frames());
    let seen = rig.settled(&mut tcpdump);
    assert!(!seen.contains(&rig.is_at(VIP4)) && !seen.contains("neighbor advertisement"), "{seen}");
    for address in [VIP4, VIP6] {
        let count = rig.count(address);
        assert_eq!((count.requests, count.replies, count.fenced), (1, 0, 1), "{address}");
    }
    rig.datapath.set_deadline(BootNs::now() + Duration::from_secs(60)).expect("a deadline");
    rig.send(frames());
    tcpdump.until(&Rig::target_option(rig.left.mac));

    // The same under another epoch than the entries', as after a fence.
    begin(&mut rig.datapath, 2);
    rig.send(frames());
    let seen = rig.settled(&mut tcpdump);
    assert!(!seen.contains(&rig.is_at(VIP4)) && !seen.contains("neighbor advertisement"), "{seen}");
}

/// Asks without a pause until there is no answer: when the last answered question was asked, and the first in vain.
fn asked_until_silent(lab: &Lab) -> (BootNs, BootNs) {
    lab.client.run(|| {
        let wire = Wire::open(link("right").id.0);
        let mut last_answer = BootNs::NONE;
        loop {
            let asked = BootNs::now();
            wire.send(&Arp::request(VIP4).bytes());
            match wire.receive(|frame| frame.get(12..14) == Some(&[8, 6]) && frame[21] == 2) {
                Some(_) => last_answer = asked,
                None => return (last_answer, asked),
            }
        }
    })
}

/// The last request that is answered is one before the deadline, and the first that is not is none long before it.
fn silent_at(deadline: BootNs, lab: &Lab) {
    let (last_answer, first_silence) = asked_until_silent(lab);
    assert!(last_answer > BootNs::NONE, "it is answered at first");
    assert!(last_answer < deadline, "no request after the deadline is answered");
    assert!(first_silence + Duration::from_millis(100) > deadline, "and not long before it goes silent");
}

fn a_stopped_agent_s_kernel_is_silent_after_the_lease(mut rig: Rig) {
    let lease = Duration::from_millis(500);
    let begun = BootNs::now();
    let agent = RenewingAgent::start(&mut rig.datapath, lease);
    let asks = |rig: &Rig| rig.try_client(&format!("arping -f -c 1 -w 1 -I right {VIP4}")).0;
    while BootNs::now() < begun + lease + lease {
        assert!(asks(&rig), "it is answered for as long as it renews");
    }
    agent.stop();
    silent_at(rig.datapath.deadline(), &rig.lab);
    assert!(!asks(&rig) && rig.count(VIP4).fenced >= 2);
    agent.go_on();
    // arping fails if any probe stayed without an answer, and the first may come too early.
    let (_, said) = rig.try_client(&format!("arping -f -c 5 -w 5 -I right {VIP4}"));
    assert!(said.contains("Received 1 response"), "it renews again: {said}");
}

#[test]
fn the_kernel_goes_silent_at_the_deadline_with_no_agent() {
    let Rig { mut datapath, lab, .. } = Rig::new(Mode::Tcx);
    let deadline = BootNs::now() + Duration::from_millis(400);
    datapath.set_deadline(deadline).expect("a deadline");
    // Nobody renews any more.
    drop(datapath);
    silent_at(deadline, &lab);
}

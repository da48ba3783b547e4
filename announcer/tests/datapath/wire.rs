//! The programs on a real link, in every mode, judged by tools that are not ours. Needs root, arping and ndisc6.

use std::time::Duration;

use crate::support::{
    Lab, begin, frames::Arp, ip, link, owning, pin_root, programs::Foreign, sh, socket::Wire, try_sh, vip,
};
use announcer::{
    datapath::{AttachError, Attachment, Datapath, LinkChange, Mode, Reason, uninstall},
    vocabulary::{BootNs, Link},
};

const VIP4: &str = "10.9.0.100";
const VIP6: &str = "fd00:9::100";

/// In the client's namespace: `arping` and `ndisc6` find the VIPs at that hardware address.
fn found_by_tools(lab: &Lab, left: &Link) {
    let mac = left.mac.to_string();
    let arping = lab.client.run(|| sh(&format!("arping -c 3 -w 3 -I right {VIP4}")));
    assert_eq!(arping.to_lowercase().matches(&mac).count(), 3, "{arping}");
    let ndisc6 = lab.client.run(|| sh(&format!("ndisc6 -q -r 1 -w 1000 {VIP6} right")));
    assert_eq!(ndisc6.trim().to_lowercase(), mac);
    let duplicate = lab.client.run(|| try_sh(&format!("arping -D -c 2 -w 2 -I right {VIP4}")));
    assert!(!duplicate.0, "duplicate address detection finds the VIP in use: {}", duplicate.1);
    // The kernel's own neighbour table, as a client fills it; and what is not ours still reaches the stack.
    lab.client.run(|| {
        sh("ip neigh flush dev right");
        try_sh(&format!("ping -c 1 -W 1 {VIP4} 2>/dev/null || (echo > /dev/udp/{VIP4}/9) 2>/dev/null"));
        sh("arping -c 1 -w 2 -I right 10.9.0.1");
        sh("ndisc6 -q -r 1 -w 1000 fd00:9::1 right");
    });
}

#[test]
fn tcx_answers_on_the_wire() {
    let lab = Lab::new();
    let (datapath, left) = lab.answering(Mode::Tcx, &[VIP4, VIP6]);
    assert_eq!(datapath.attachments()[&left.id].0, Attachment::Tcx);
    found_by_tools(&lab, &left);
}

#[test]
fn generic_xdp_answers_on_the_wire() {
    let lab = Lab::new();
    let (datapath, left) = lab.answering(Mode::Generic, &[VIP4, VIP6]);
    assert_eq!(datapath.attachments()[&left.id].0, Attachment::Generic);
    found_by_tools(&lab, &left);
}

#[test]
fn native_xdp_answers_on_the_wire() {
    let lab = Lab::new();
    // XDP_TX of a veth reaches only a far end that runs XDP, too.
    let _far_end = lab.client.run(|| Foreign::passing_xdp(link("right").id.0));
    let (datapath, left) = lab.answering(Mode::Native, &[VIP4, VIP6]);
    assert_eq!(datapath.attachments()[&left.id].0, Attachment::Native);
    found_by_tools(&lab, &left);
}

#[test]
fn auto_takes_tcx_on_a_veth_and_says_why() {
    let lab = Lab::new();
    let (datapath, left) = lab.answering(Mode::Auto, &[VIP4]);
    assert_eq!(datapath.attachments()[&left.id], (Attachment::Tcx, Some(Reason::Veth)));
}

#[test]
fn a_far_end_with_jumbo_frames_gets_native_xdp() {
    let lab = Lab::new();
    ip("link set left mtu 9000");
    let (datapath, left) = lab.answering(Mode::Native, &[VIP4]);
    assert_eq!(datapath.attachments()[&left.id].0, Attachment::Native);
}

#[test]
fn nobody_else_s_program_is_detached() {
    let lab = Lab::new();
    let left = Link { kind: None, ..link("left") };
    let foreign = Foreign::passing_xdp(left.id.0);
    let shown = || {
        let text = sh("ip -d link show left");
        text.split("prog/xdp id ").nth(1).and_then(|rest| rest.split(' ').next()).map(str::to_owned)
    };
    let before = shown();
    assert!(before.is_some());
    {
        let mut datapath = Datapath::open(Lab::config(Mode::Auto)).expect("a datapath");
        datapath.establish(std::slice::from_ref(&left)).expect("established");
        begin(&mut datapath, 1);
        datapath.apply(&owning(&[VIP4, VIP6], &[left.id])).expect("applied");
        assert_eq!(datapath.attachments()[&left.id], (Attachment::Tcx, Some(Reason::HookTaken)));
        found_by_tools(&lab, &left);
    }
    for mode in [Mode::Native, Mode::Generic] {
        uninstall(&pin_root()).expect("uninstalled");
        assert_eq!(shown(), before, "the other's program stays");
        let mut datapath = Datapath::open(Lab::config(mode)).expect("a datapath");
        let reports = datapath.establish(std::slice::from_ref(&left)).expect("established");
        assert!(matches!(reports[0].change, LinkChange::Failed(AttachError::HookTaken(_))), "{reports:?}");
        assert_eq!(shown(), before);
    }
    drop(foreign);
}

#[test]
fn a_tcx_program_behind_ours_gets_what_we_pass_and_not_what_we_answer() {
    let lab = Lab::new();
    let before_us = Foreign::dropping_tcx(link("left").id.0);
    let (_datapath, left) = lab.answering(Mode::Tcx, &[VIP4]);
    let asks = |address: &str| {
        let command = format!("arping -c 1 -w 1 -I right {address}");
        lab.client.run(move || try_sh(&command).0)
    };
    // We attach at the head whoever came first: the VIP is answered before the other could drop the request.
    assert!(asks(VIP4));
    assert!(!asks("10.9.0.1"), "the other program has dropped it, so it was run");
    drop(before_us);
    assert!(asks("10.9.0.1"), "without it the stack gets the request");
    let _after_us = Foreign::dropping_tcx(left.id.0);
    assert!(asks(VIP4) && !asks("10.9.0.1"));
}

#[test]
fn a_vip_owned_elsewhere_stays_silent_although_a_local_device_has_it() {
    let lab = Lab::new();
    ip(&format!("addr add {VIP4}/32 dev lo"));
    sh("sysctl -qw net.ipv4.conf.all.arp_ignore=0 net.ipv4.conf.left.arp_ignore=0");
    let asks = || lab.client.run(|| try_sh(&format!("arping -c 2 -w 2 -I right {VIP4}")).0);
    assert!(asks(), "without us the stack answers");
    for mode in [Mode::Tcx, Mode::Generic, Mode::Native] {
        let (mut datapath, left) = lab.answering(mode, &[]);
        datapath.apply(&owning(&[VIP4], &[])).expect("applied");
        assert!(!asks(), "{mode}: the request is dropped");
        let count = datapath.counters().expect("counters")[&(vip(VIP4), left.id)];
        assert_eq!((count.requests, count.suppressed), (2, 2));
        drop(datapath);
        uninstall(&pin_root()).expect("uninstalled");
    }
    assert!(asks(), "and it answers again when we are gone");
}

#[test]
fn the_kernel_goes_silent_at_the_deadline_with_no_agent() {
    let lab = Lab::new();
    let (mut datapath, _) = lab.answering(Mode::Tcx, &[VIP4]);
    let deadline = BootNs::now() + Duration::from_millis(400);
    datapath.set_deadline(deadline).expect("a deadline");
    // Nobody renews any more.
    drop(datapath);
    let (last_answer, first_silence) = lab.client.run(|| {
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
    });
    assert!(last_answer > BootNs::NONE, "it was answered at first");
    assert!(last_answer < deadline, "no request after the deadline is answered");
    assert!(first_silence + Duration::from_millis(100) > deadline, "and not long before it goes silent");
}

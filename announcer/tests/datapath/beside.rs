//! Beside other people's programs: theirs stay, ours works, and whoever comes behind sees every frame that we pass.

use announcer::{
    datapath::{AttachError, Attachment, Datapath, LinkChange, Mode, Reason, uninstall},
    vocabulary::Link,
};

use crate::support::{
    Lab, begin,
    bench::{OTHER4, OTHER6, VIP4, VIP6},
    foreign::{Foreign, Hook},
    frames::{Arp, CLIENT, Ndp, tagged},
    link, odd, owning, pin_root,
    rig::Rig,
    sh, try_sh,
};

/// `left`, as a physical NIC would look.
fn nic() -> Link {
    Link { kind: None, ..link("left") }
}

/// In the client's namespace: arping and ndisc6 find both VIPs, and the stack behind us.
fn found_by_tools(lab: &Lab, what: &str) {
    for command in [
        format!("arping -f -c 2 -w 2 -I right {VIP4}"),
        format!("ndisc6 -q -r 2 -w 1000 {VIP6} right"),
        "arping -f -c 2 -w 2 -I right 10.9.0.1".to_owned(),
        "ndisc6 -q -r 2 -w 1000 fd00:9::1 right".to_owned(),
    ] {
        let (found, said) = lab.client.run({
            let command = command.clone();
            move || try_sh(&command)
        });
        assert!(found, "{what}: {command}: {said}");
    }
}

/// The id of the XDP program that `ip` shows on `left`.
fn xdp_shown() -> Option<String> {
    let text = sh("ip -d link show left");
    text.split("prog/xdp id ").nth(1).and_then(|rest| rest.split(' ').next()).map(str::to_owned)
}

/// `auto` on a link whose XDP hook is taken: beside it by TCX. Forced XDP: refused. The other's program stays.
fn beside_xdp(lab: &Lab, what: &str) {
    let left = nic();
    let before = xdp_shown();
    assert!(before.is_some(), "{what}");
    for mode in [Mode::Auto, Mode::Tcx] {
        let mut datapath = Datapath::open(Lab::config(mode)).expect("a datapath");
        datapath.establish(std::slice::from_ref(&left)).expect("established");
        begin(&mut datapath, 1);
        datapath.apply(&owning(&[VIP4, VIP6], &[left.id])).expect("applied");
        let why = (mode == Mode::Auto).then_some(Reason::HookTaken);
        assert_eq!(datapath.attachments()[&left.id], (Attachment::Tcx, why), "{what}, {mode}");
        found_by_tools(lab, what);
        drop(datapath);
        uninstall(&pin_root()).expect("uninstalled");
        assert_eq!(xdp_shown(), before, "{what}: the other's program stays");
    }
    for mode in [Mode::Native, Mode::Generic] {
        let mut datapath = Datapath::open(Lab::config(mode)).expect("a datapath");
        let reports = datapath.establish(std::slice::from_ref(&left)).expect("established");
        let taken = matches!(reports[0].change, LinkChange::Failed(AttachError::HookTaken(_)));
        assert!(taken, "{what}, {mode}: {reports:?}");
        assert_eq!(xdp_shown(), before, "{what}, {mode}");
        drop(datapath);
        uninstall(&pin_root()).expect("uninstalled");
    }
}

#[test]
fn beside_a_native_xdp_program() {
    let lab = Lab::new();
    let _foreign = Foreign::passing_xdp(nic().id.0);
    beside_xdp(&lab, "native");
}

#[test]
fn behind_a_generic_xdp_program() {
    let lab = Lab::new();
    // Behind generic XDP, which copies packets, the data begins after the Ethernet header (seen on Linux 6.18).
    let _foreign = Foreign::xdp(nic().id.0, Hook::Generic, true).expect("attached");
    beside_xdp(&lab, "generic");
}

#[test]
fn beside_an_xdp_program_that_ip_has_attached() {
    let lab = Lab::new();
    Foreign::loose_xdp().pin("/sys/fs/bpf/theirs");
    for mode in ["xdpdrv", "xdpgeneric"] {
        sh(&format!("ip link set dev left {mode} pinned /sys/fs/bpf/theirs"));
        beside_xdp(&lab, mode);
        sh(&format!("ip link set dev left {mode} off"));
    }
}

#[test]
fn before_a_tcx_program_whoever_came_first() {
    let lab = Lab::new();
    let first = Foreign::dropping_tcx(nic().id.0);
    let (datapath, _) = lab.answering(Mode::Tcx, &[VIP4]);
    let asks = |address: &str| {
        let command = format!("arping -f -c 1 -w 1 -I right {address}");
        lab.client.run(move || try_sh(&command).0)
    };
    assert!(asks(VIP4), "answered before the other could drop the request");
    assert!(!asks("10.9.0.1"), "the other program has dropped it, so it was run");
    drop(datapath);
    uninstall(&pin_root()).expect("uninstalled");
    assert!(!asks("10.9.0.1"), "it is still there when we are gone");
    drop(first);
    assert!(asks("10.9.0.1"), "without it the stack gets the request");
}

#[test]
fn before_a_clsact_filter_that_was_there() {
    let lab = Lab::new();
    Foreign::loose_dropping().pin("/sys/fs/bpf/theirs");
    sh("tc qdisc add dev left clsact && tc filter add dev left ingress bpf da pinned /sys/fs/bpf/theirs");
    let filters = || sh("tc filter show dev left ingress");
    let before = filters();
    for mode in [Mode::Tcx, Mode::Generic] {
        let (datapath, _) = lab.answering(mode, &[VIP4]);
        let asks = |address: &str| {
            let command = format!("arping -f -c 1 -w 1 -I right {address}");
            lab.client.run(move || try_sh(&command).0)
        };
        assert!(asks(VIP4) && !asks("10.9.0.1"), "{mode}: ours answers, and theirs drops what we pass");
        drop(datapath);
        uninstall(&pin_root()).expect("uninstalled");
        assert_eq!(filters(), before, "{mode}");
    }
}

/// Frames that we pass, of all kinds.
fn passed(own: [u8; 6]) -> Vec<Vec<u8>> {
    let cases = [odd::other_arp(own), odd::other_ipv6(own), odd::malformed_solicitations()].concat();
    let mut frames: Vec<_> = cases.into_iter().map(|(_, frame)| frame).collect();
    frames.retain(|frame| frame[6..12] == CLIENT);
    frames.extend([tagged(&Arp::request(VIP4).bytes(), 9), tagged(&Ndp::solicitation(VIP6).bytes(), 9)]);
    frames.push(Ndp::advertisement("fd00:9::7", CLIENT).bytes());
    // A conflict, too.
    frames.push(Ndp::advertisement(VIP6, CLIENT).bytes());
    frames.push(Arp { sender: VIP4, ..Arp::request(VIP4) }.bytes());
    frames
}

/// A TCX program and a clsact filter behind ours count every frame that we pass, and none that we answer or drop.
fn seen_behind(rig: Rig) {
    let filter = Foreign::loose_counting(CLIENT);
    filter.pin("/sys/fs/bpf/theirs");
    sh("tc qdisc add dev left clsact && tc filter add dev left ingress bpf da pinned /sys/fs/bpf/theirs");
    let program = Foreign::counting_tcx(rig.left.id.0, CLIENT);
    let frames = passed(rig.left.mac.0);
    assert!(frames.len() > 30);
    let mut tcpdump = rig.tcpdump();
    rig.send(frames.clone());
    rig.settled(&mut tcpdump);
    // Two more, with which it settled.
    let expected = frames.len() as u64 + 2;
    assert_eq!((program.count(), filter.count()), (expected, expected), "what we pass");

    let ours = [VIP4, OTHER4].map(|vip| Arp::request(vip).bytes());
    let ours6 = [VIP6, OTHER6].map(|vip| Ndp::solicitation(vip).bytes());
    rig.send([ours, ours6].concat());
    rig.settled(&mut tcpdump);
    assert_eq!((program.count(), filter.count()), (expected + 2, expected + 2), "what we answer or drop");
}

#[test]
fn whoever_comes_behind_sees_all_that_we_pass_tcx() {
    seen_behind(Rig::new(Mode::Tcx));
}

#[test]
fn whoever_comes_behind_sees_all_that_we_pass_generic() {
    seen_behind(Rig::new(Mode::Generic));
}

#[test]
fn whoever_comes_behind_sees_all_that_we_pass_native() {
    seen_behind(Rig::new(Mode::Native));
}

//! A restart is not an outage: nothing is lost at 20 000 questions a second, by broadcast ARP or by multicast NS
//! through a bridge that forwards multicast to members only.

use std::{thread, time::Duration};

use announcer_tests::flood::{Flood, RATE, Sockets};
use rustix::process::Signal;

use crate::{
    process::Announcer,
    support::{
        Client, Lab,
        frames::{Arp, Ndp},
        ip, link, pin_root, sh,
        socket::Wire,
    },
};

const VIP4: &str = "10.9.0.100";
const VIP6: &str = "fd00:9::100";
const RESTARTS: usize = 20;

/// The client asks from a bridge, `right`, with MLD snooping and a querier; its port leads to `left`.
fn bridged() -> Lab {
    let lab = Lab::without_links();
    lab.add_veth("left", "port");
    ip("addr add 10.9.0.1/24 dev left");
    ip("addr add fd00:9::1/64 dev left nodad");
    lab.client.run(|| {
        // 100: a second, after which the querier is believed to have heard everybody.
        // The address that the questions come from.
        ip("link add right address 02:00:00:00:00:c1 type bridge mcast_snooping 1 mcast_querier 1 mcast_query_response_interval 100");
        ip("link set port master right");
        ip("addr add 10.9.0.2/24 dev right");
        ip("addr add fd00:9::2/64 dev right nodad");
        ip("link set right up");
    });
    lab
}

fn is_question(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[0x86, 0xdd]) && frame.get(54) == Some(&135)
}

fn is_advertisement(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[0x86, 0xdd]) && frame.get(54) == Some(&136)
}

fn is_reply(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[8, 6]) && frame.get(20..22) == Some(&[0, 2])
}

/// Waits until the bridge keeps questions for a group that nobody is in to itself.
fn wait_for_snooping(client: &Client) {
    let wire = Wire::open(link("left").id.0);
    let arrives = || {
        client.run(|| {
            let out = Wire::open(link("right").id.0);
            out.send(&Ndp::solicitation(VIP6).bytes());
        });
        wire.receive(is_question).is_some()
    };
    for _ in 0..100 {
        if !arrives() {
            return;
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("the bridge does not snoop: {}", client.run(|| sh("bridge -d mdb show; ip -d link show right")));
}

/// Floods while the process is ended by `signal` and started again, twenty times.
fn restarts_lose_nothing(signal: Signal) {
    let lab = bridged();
    wait_for_snooping(&lab.client);
    let start = || Announcer::answer(&format!("--interface left --vip {VIP4} --vip {VIP6} --keep"));
    let mut answer = start();
    // The bridge has heard the membership report when the first question arrives.
    let wire = Wire::open(link("left").id.0);
    let reached = (0..100).any(|_| {
        lab.client.run(|| Wire::open(link("right").id.0).send(&Ndp::solicitation(VIP6).bytes()));
        wire.receive(is_question).is_some()
    });
    assert!(reached, "the group is forwarded to the port of a member");
    drop(wire);

    let sockets = |ethertype: libc::c_int| {
        let opened = lab.client.run(move || Sockets::open("right", ethertype as u16));
        opened.expect("sockets")
    };
    let arp = Flood::start(sockets(libc::ETH_P_ARP), Arp::request(VIP4).bytes(), is_reply);
    let ndp = Flood::start(sockets(libc::ETH_P_IPV6), Ndp::solicitation(VIP6).bytes(), is_advertisement);
    for _ in 0..RESTARTS {
        answer.end(signal);
        answer = start();
    }
    let (arp, ndp) = (arp.stop().expect("a count"), ndp.stop().expect("a count"));
    println!("{RESTARTS} times {signal:?}: ARP {arp:?}, NS {ndp:?}");
    for flooded in [arp, ndp] {
        assert_eq!(flooded.answered, flooded.sent, "every question is answered");
        assert!(flooded.rate() > 0.9 * f64::from(RATE), "the flood was none: {flooded:?}");
    }
}

#[test]
fn restarts_that_keep_lose_no_answer() {
    restarts_lose_nothing(Signal::TERM);
}

#[test]
fn kills_and_new_starts_lose_no_answer() {
    restarts_lose_nothing(Signal::KILL);
}

#[test]
fn pins_that_are_deleted_under_it_are_noticed_and_made_again() {
    let _lab = Lab::new();
    let mut answer = Announcer::answer(&format!("--interface left --vip {VIP4}"));
    let pinned = || sh("cd /sys/fs/bpf/announcer && find . | sort");
    let before = pinned();
    sh("rm -r /sys/fs/bpf/announcer");
    let line = answer.wait_for("Pins were missing under the running process");
    assert!(line.contains("pin=/sys/fs/bpf/announcer/gen-1/"), "{line}");
    assert_eq!(pinned(), before);
    assert!(answer.end(Signal::INT).success());
    assert!(!pin_root().exists());
}

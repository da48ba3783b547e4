//! Links that go down, change their address or name, vanish, come late or join a bridge while addresses are answered.
//! After each: the right MAC in answers, announcements at once, and the IPv6 group joined.

use std::{
    thread,
    time::{Duration, Instant},
};

use announcer::vocabulary::Mac;

use crate::{
    process::{Announcer, PATIENCE},
    support::{
        Client, Lab,
        frames::{Arp, Ndp},
        ip, link, sh,
        socket::Wire,
    },
};

const VIP4: &str = "10.9.0.100";
const VIP6: &str = "fd00:9::100";
/// The group of `VIP6`, as `ip maddr` prints it.
const GROUP: &str = "ff02::1:ff00:100";

/// The far end of the cable, listening.
struct Ear(Wire);

impl Ear {
    fn new(client: &Client, interface: &'static str) -> Self {
        Self(client.run(move || Wire::open(link(interface).id.0)))
    }

    /// Waits for both families' announcements of `mac`: the request form first, then the reply form, and the NA.
    fn hears_announcements_of(&self, mac: Mac) {
        let from = |frame: &[u8], ethertype: [u8; 2]| {
            frame.get(6..14) == Some(&[&mac.0[..], &ethertype[..]].concat()[..])
        };
        let vip4 = [10, 9, 0, 100];
        let is_gratuitous = |frame: &[u8], opcode: u8| {
            from(frame, [8, 6]) && frame[21] == opcode && frame[28..32] == vip4 && frame[38..42] == vip4
        };
        let is_unsolicited =
            |frame: &[u8]| from(frame, [0x86, 0xdd]) && frame[54] == 136 && frame[58] == 0x20;
        self.wait("a gratuitous request", |frame| is_gratuitous(frame, 1));
        self.wait("a gratuitous reply", |frame| is_gratuitous(frame, 2));
        self.wait("an unsolicited advertisement", is_unsolicited);
    }

    fn wait(&self, what: &str, wanted: impl Fn(&[u8]) -> bool) {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if self.0.receive(&wanted).is_some() {
                return;
            }
        }
        panic!("never heard {what}");
    }

    /// Asks for both addresses until each is answered, by `mac`. (A far end that was without carrier drops what it
    /// sends until the kernel's link watch gets round to it.)
    fn is_answered_by(&self, mac: Mac) {
        assert_eq!(self.ask(&Arp::request(VIP4).bytes(), arp_answer), mac);
        assert_eq!(self.ask(&Ndp::solicitation(VIP6).bytes(), nd_answer), mac);
    }

    fn ask(&self, question: &[u8], answer: impl Fn(&[u8]) -> Option<Mac>) -> Mac {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            self.0.send(question);
            if let Some(frame) = self.0.receive(|frame| answer(frame).is_some()) {
                return answer(&frame).expect("just looked at");
            }
        }
        panic!("no answer");
    }
}

/// Who answers, by a reply that is no announcement.
fn arp_answer(frame: &[u8]) -> Option<Mac> {
    let is_answer = frame.get(12..14) == Some(&[8, 6]) && frame[21] == 2 && frame[0] != 0xff;
    is_answer.then(|| Mac(frame[22..28].try_into().expect("six bytes")))
}

/// Who answers, by a solicited advertisement.
fn nd_answer(frame: &[u8]) -> Option<Mac> {
    let is_answer = frame.get(12..14) == Some(&[0x86, 0xdd]) && frame[54] == 136 && frame[58] == 0x60;
    is_answer.then(|| Mac(frame[80..86].try_into().expect("six bytes")))
}

fn group_is_joined(interface: &str) {
    let joined = || sh(&format!("ip -6 maddr show dev {interface}")).contains(GROUP);
    for _ in 0..200 {
        if joined() {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("{interface} has not joined {GROUP}: {}", sh(&format!("ip -6 maddr show dev {interface}")));
}

fn answer(rest: &str) -> Announcer {
    Announcer::answer(&format!("--vip {VIP4} --vip {VIP6} {rest}"))
}

/// All that must hold after a change.
fn all_is_right(ear: &Ear, interface: &'static str) {
    let mac = link(interface).mac;
    ear.hears_announcements_of(mac);
    ear.is_answered_by(mac);
    group_is_joined(interface);
}

#[test]
fn a_link_that_was_down_is_announced_again_at_once() {
    let lab = Lab::new();
    let mut answer = answer("--interface left");
    let ear = Ear::new(&lab.client, "right");
    all_is_right(&ear, "left");
    ip("link set left down");
    answer.wait_for("link down");
    let ear = Ear::new(&lab.client, "right");
    ip("link set left up");
    answer.wait_for("link up");
    all_is_right(&ear, "left");
}

#[test]
fn a_link_whose_cable_was_pulled_is_announced_again_at_once() {
    let lab = Lab::new();
    let mut answer = answer("--interface left");
    lab.client.run(|| ip("link set right down"));
    answer.wait_for("link down");
    lab.client.run(|| ip("link set right up"));
    let ear = Ear::new(&lab.client, "right");
    answer.wait_for("link up");
    all_is_right(&ear, "left");
}

#[test]
fn a_changed_mac_is_in_answers_and_announced_at_once() {
    let lab = Lab::new();
    let mut answer = answer("--interface left");
    let ear = Ear::new(&lab.client, "right");
    all_is_right(&ear, "left");
    ip("link set left address 02:00:00:00:77:01");
    answer.wait_for("link MAC changed");
    all_is_right(&ear, "left");
    assert_eq!(link("left").mac, Mac([2, 0, 0, 0, 0x77, 1]));
}

#[test]
fn a_renamed_link_goes_on() {
    let lab = Lab::new();
    let _answer = answer("--interface left");
    let ear = Ear::new(&lab.client, "right");
    all_is_right(&ear, "left");
    ip("link set left name uplink0");
    ear.is_answered_by(link("uplink0").mac);
    ip("link set uplink0 address 02:00:00:00:77:02");
    all_is_right(&ear, "uplink0");
}

#[test]
fn a_link_made_anew_under_its_name_is_announced_at_once() {
    let lab = Lab::new();
    let mut answer = answer("--interface left");
    ip("link del left");
    answer.wait_for("link gone");
    lab.add_veth("left", "right");
    let ear = Ear::new(&lab.client, "right");
    answer.wait_for("programs attached");
    all_is_right(&ear, "left");
}

#[test]
fn a_link_that_comes_late_is_announced_at_once() {
    let lab = Lab::without_links();
    let mut answer = answer("--wait --interface left");
    lab.add_veth("left", "right");
    let ear = Ear::new(&lab.client, "right");
    answer.wait_for("programs attached");
    all_is_right(&ear, "left");
}

#[test]
fn a_link_that_becomes_a_bridge_port_gives_way_to_the_bridge_and_back() {
    let lab = Lab::new();
    let mut answer = answer("--wait --interface left --interface br0");
    let ear = Ear::new(&lab.client, "right");
    all_is_right(&ear, "left");
    ip("link add br0 address 02:00:00:00:77:03 type bridge");
    ip("link set br0 up");
    ip("link set left master br0");
    answer.wait_for("a port of a bridge");
    all_is_right(&ear, "br0");
    ip("link set left nomaster");
    all_is_right(&ear, "left");
}

use std::net::{IpAddr, Ipv4Addr};

use super::*;

const LINK: LinkId = LinkId(2);
const PACE: Pace = Pace { interval: Duration::from_millis(100), misses: 3 };
const GATEWAY: u8 = 254;
const NODE: u8 = 200;

/// A wire on which time passes a millisecond at a time, and whoever is on it answers at once.
struct Wire {
    detector: Detector,
    watching: Watching,
    start: Instant,
    ms: u64,
    answering: BTreeSet<u8>,
    asked: Vec<(u64, u8, bool)>,
}

fn ip(last: u8) -> Vip {
    Vip::from(Ipv4Addr::new(10, 4, 11, last))
}

fn mac(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, last])
}

fn link() -> Link {
    Link {
        id: LINK,
        name: "eth0".to_owned(),
        mac: mac(99),
        kind: None,
        carrier: true,
        mtu: 1500,
        master: None,
        vlan: None,
        has_global_address: true,
        ipv6_source: None,
    }
}

impl Wire {
    /// Peers that own addresses with these last bytes; the gateway and another node are there.
    fn with(peers: &[u8]) -> Self {
        let peer =
            |last: &u8| ((LINK, format!("node-{last}")), Peer { vips: vec![ip(*last)], doubted: false });
        let watching = Watching {
            links: [(LINK, link())].into(),
            peers: peers.iter().map(peer).collect(),
            nodes: [ip(NODE)].into(),
        };
        let start = Instant::now();
        let mut detector = Detector::new(PACE);
        detector.set_gateways([(LINK, ip(GATEWAY))].into());
        detector.watch(&watching, start);
        let answering = peers.iter().copied().chain([GATEWAY, NODE]).collect();
        Self { detector, watching, start, ms: 0, answering, asked: Vec::new() }
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.ms)
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.step(|_| true);
            self.ms += 1;
        }
    }

    /// What is due now; answers to some questions are lost.
    fn step(&mut self, arrives: impl Fn(&Question) -> bool) {
        let now = self.now();
        if self.detector.next_due().is_none_or(|due| due > now) {
            return;
        }
        for question in self.detector.poll(now) {
            let IpAddr::V4(v4) = question.ip.ip() else { continue };
            let last = v4.octets()[3];
            self.asked.push((self.ms, last, question.to.is_some()));
            let listens = self.detector.listens_to()[&LINK].contains(&question.ip);
            if self.answering.contains(&last) && arrives(&question) && listens {
                self.detector.heard(LINK, question.ip, mac(last), now);
            }
        }
    }

    fn silent(&self) -> Vec<(&str, Witness)> {
        self.detector.silent().iter().map(|((_, node), witness)| (node.as_str(), *witness)).collect()
    }

    fn until_silent(&mut self, limit: u64) -> u64 {
        let begun = self.ms;
        while self.silent().is_empty() && self.ms < begun + limit {
            self.run(1);
        }
        self.ms - begun
    }
}

#[test]
fn in_peace_each_peer_is_asked_once_an_interval_and_nobody_else_ever() {
    let mut wire = Wire::with(&[1, 2]);
    wire.run(1_000);
    let strangers = wire.asked.iter().filter(|(_, last, _)| *last == GATEWAY || *last == NODE).count();
    assert_eq!((wire.asked.iter().filter(|(_, last, _)| *last == 1).count(), strangers), (10, 0));
    assert!(wire.asked[2..].iter().all(|(_, _, unicast)| *unicast), "by its MAC, once that is known");
    assert!(wire.silent().is_empty());
}

#[test]
fn a_peer_that_dies_is_silent_within_the_time_that_the_pace_promises() {
    for moment in 0..100 {
        let mut wire = Wire::with(&[1, 2]);
        wire.run(300 + moment);
        wire.answering.remove(&1);
        let took = wire.until_silent(10_000);
        assert!(took <= PACE.worst().as_millis() as u64 + 1, "{took} ms after one that died at {moment}");
        assert_eq!(wire.silent(), [("node-1", Witness::Gateway)]);
    }
}

#[test]
fn one_lost_answer_is_asked_for_again_at_once_and_forgotten() {
    let mut wire = Wire::with(&[1, 2]);
    wire.run(250);
    while wire.ms < 320 {
        let at = wire.ms;
        wire.step(move |question| question.ip != ip(1) || at != 300);
        wire.ms += 1;
    }
    wire.run(2_000);
    assert!(wire.asked.contains(&(325, 1, true)), "{:?}", wire.asked);
    assert!(wire.silent().is_empty());
}

#[test]
fn who_hears_nobody_suspects_nobody() {
    let mut wire = Wire::with(&[1, 2]);
    wire.run(300);
    wire.answering.clear();
    assert_eq!(wire.until_silent(5_000), 5_000);
}

#[test]
fn another_peer_or_another_nodes_own_address_is_a_witness_too() {
    for witness in [2, NODE] {
        let mut wire = Wire::with(&[1, 2]);
        wire.run(300);
        wire.answering = [witness].into();
        wire.run(400);
        assert!(wire.silent().contains(&("node-1", Witness::Peer)), "{witness}");
    }
}

#[test]
fn who_is_cut_off_later_takes_its_suspicion_back() {
    let mut wire = Wire::with(&[1, 2]);
    wire.run(300);
    wire.answering.remove(&1);
    wire.run(1_000);
    assert_eq!(wire.silent().len(), 1);
    wire.answering.clear();
    wire.run(1_000);
    assert!(wire.silent().is_empty());
}

#[test]
fn a_peer_that_answers_again_is_silent_no_more() {
    let mut wire = Wire::with(&[1, 2]);
    wire.run(300);
    wire.answering.remove(&1);
    wire.run(1_000);
    wire.answering.insert(1);
    wire.run(101);
    assert!(wire.silent().is_empty());
}

#[test]
fn a_peer_whose_mac_changed_is_found_by_the_last_question_which_is_for_all() {
    let mut wire = Wire::with(&[1, 2]);
    wire.run(250);
    while wire.ms < 1_000 {
        wire.step(|question| question.ip != ip(1) || question.to != Some(mac(1)));
        wire.ms += 1;
        assert!(wire.silent().is_empty(), "at {}", wire.ms);
    }
}

#[test]
fn who_has_never_answered_is_not_silent_unless_others_say_so() {
    let mut wire = Wire::with(&[1, 2]);
    wire.answering.remove(&1);
    assert_eq!(wire.until_silent(5_000), 5_000);
    wire.watching.peers.insert((LINK, "node-1".to_owned()), Peer { vips: vec![ip(1)], doubted: true });
    let now = wire.now();
    wire.detector.watch(&wire.watching, now);
    wire.asked.clear();
    for _ in 0..80 {
        for question in wire.detector.poll(wire.now()) {
            let IpAddr::V4(v4) = question.ip.ip() else { continue };
            if wire.answering.contains(&v4.octets()[3]) {
                wire.detector.heard(LINK, question.ip, mac(v4.octets()[3]), wire.now());
            }
        }
        wire.ms += 1;
    }
    assert_eq!(wire.silent(), [("node-1", Witness::Gateway)], "within {} ms", 80);
}

#[test]
fn who_is_doubted_by_others_and_answers_us_is_asked_at_once_and_is_not_silent() {
    let mut wire = Wire::with(&[1, 2]);
    wire.run(310);
    wire.watching.peers.insert((LINK, "node-1".to_owned()), Peer { vips: vec![ip(1)], doubted: true });
    let now = wire.now();
    wire.detector.watch(&wire.watching, now);
    let asked = wire.detector.poll(now);
    assert!(asked.iter().any(|question| question.ip == ip(1)), "{asked:?}");
    wire.detector.heard(LINK, ip(1), mac(1), now);
    wire.run(1_000);
    assert!(wire.silent().is_empty());
}

#[test]
fn a_detector_that_was_stopped_hears_what_has_come_before_it_counts() {
    let mut wire = Wire::with(&[1, 2]);
    wire.run(300);
    wire.step(|_| false);
    wire.ms += 20_000;
    let now = wire.now();
    for last in [1, 2] {
        wire.detector.heard(LINK, ip(last), mac(last), now);
    }
    wire.run(1_000);
    assert!(wire.silent().is_empty());
}

#[test]
fn a_question_that_could_not_be_sent_is_not_missed() {
    let mut wire = Wire::with(&[1, 2]);
    wire.run(300);
    for _ in 0..2_000 {
        if wire.detector.next_due().is_some_and(|due| due <= wire.now()) {
            for question in wire.detector.poll(wire.now()) {
                wire.detector.unsent(&question);
            }
        }
        wire.ms += 1;
    }
    assert!(wire.silent().is_empty());
}

#[test]
fn an_address_that_moved_to_another_peer_is_not_held_against_the_one_before() {
    let mut wire = Wire::with(&[1, 2]);
    wire.run(300);
    wire.answering.remove(&1);
    wire.run(140);
    wire.watching.peers.insert((LINK, "node-1".to_owned()), Peer { vips: vec![ip(3)], doubted: false });
    wire.answering.insert(3);
    let now = wire.now();
    wire.detector.watch(&wire.watching, now);
    wire.run(1_000);
    assert!(wire.silent().is_empty());
}

#[test]
fn a_peer_that_answers_for_another_of_its_addresses_lives() {
    let mut wire = Wire::with(&[1, 2]);
    wire.watching
        .peers
        .insert((LINK, "node-1".to_owned()), Peer { vips: vec![ip(1), ip(3), ip(4)], doubted: false });
    let now = wire.now();
    wire.detector.watch(&wire.watching, now);
    wire.answering.insert(4);
    wire.run(300);
    assert!(wire.asked.iter().all(|(_, last, _)| *last <= 2), "in peace it is asked for the first");
    wire.answering.remove(&1);
    wire.run(2_000);
    assert!(wire.silent().is_empty());
    wire.answering.remove(&4);
    wire.run(200);
    assert_eq!(wire.silent().len(), 1);
}

#[test]
fn a_peer_that_has_taken_over_by_name_is_silent_only_after_it_has_answered_once() {
    let mut wire = Wire::with(&[1, 2]);
    wire.run(300);
    wire.watching.peers.insert((LINK, "node-1".to_owned()), Peer { vips: vec![ip(3)], doubted: false });
    let now = wire.now();
    wire.detector.watch(&wire.watching, now);
    wire.run(3_000);
    assert!(wire.silent().is_empty());
    wire.answering.insert(3);
    wire.run(1_100);
    wire.answering.remove(&3);
    wire.run(200);
    assert_eq!(wire.silent().len(), 1);
}

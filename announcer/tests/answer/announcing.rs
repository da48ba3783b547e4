//! Announcements as they arrive at the far end: in which order, and how fast.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use crate::{
    process::{Announcer, PATIENCE},
    support::{Lab, frames::BROADCAST, ip, link, sh, socket::Wire},
};

const MANY: u32 = 10_000;
const RATE: u32 = 10_000;
/// How far a pace may run ahead, in frames, as the schedule documents it: 50 ms.
const BURST: u32 = RATE / 20;

#[test]
fn ten_thousand_addresses_are_paced_and_each_is_announced_once_before_any_twice() {
    let lab = Lab::new();
    let wire = lab.client.run(|| Wire::listening(link("right").id.0, libc::ETH_P_ARP as u16));
    let vips = (0..MANY).map(|n| Ipv4Addr::from(0x0a63_0000 + n));
    let arguments: String = vips.map(|vip| format!(" --vip {vip}")).collect();
    let _answer = Announcer::start(&format!(
        "answer --interface left --announce-rate {RATE} --log-level warn{arguments}"
    ));

    let mut rounds: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
    let mut second_round = None;
    let until = Instant::now() + PATIENCE;
    while second_round.is_none() && Instant::now() < until {
        // The request form opens each announcement.
        let Some(frame) = wire.receive(|frame| frame[..6] == BROADCAST && frame[21] == 1) else { continue };
        let count = rounds.entry(frame[28..32].to_vec()).or_default();
        *count += 1;
        second_round = (*count == 2).then_some(rounds.len());
    }
    assert_eq!(second_round, Some(MANY as usize), "all had their first before any had its second");
}

#[test]
fn announcements_keep_to_their_rate() {
    let lab = Lab::new();
    let wire = lab.client.run(|| Wire::listening(link("right").id.0, libc::ETH_P_ARP as u16));
    let arguments: String =
        (0..2000).map(|n| format!(" --vip {}", Ipv4Addr::from(0x0a63_0000 + n))).collect();
    let _answer = Announcer::start(&format!(
        "answer --interface left --announce-rate {RATE} --log-level warn{arguments}"
    ));
    // The first round of 2 000 addresses is 4 000 frames: no sooner than 0.4 s less what may run ahead.
    let (mut first, mut frames) = (None, 0);
    let until = Instant::now() + PATIENCE;
    while frames < 4000 && Instant::now() < until {
        if wire.receive(|frame| frame[..6] == BROADCAST).is_some() {
            first.get_or_insert_with(Instant::now);
            frames += 1;
        }
    }
    assert_eq!(frames, 4000);
    let took = first.expect("at least one").elapsed();
    let least = Duration::from_secs(1) * (4000 - BURST) / RATE;
    assert!(took + Duration::from_millis(20) >= least, "{took:?} for 4 000 frames");
}

#[test]
fn a_client_with_a_stale_entry_moves_at_the_first_frame() {
    let lab = Lab::new();
    let old = "02:00:00:00:66:66";
    for address in ["10.9.0.100", "fd00:9::100"] {
        lab.client.run(move || ip(&format!("neigh replace {address} lladdr {old} dev right nud stale")));
    }
    let _answer = Announcer::answer("--interface left --vip 10.9.0.100 --vip fd00:9::100");
    let mac = link("left").mac.to_string();
    for address in ["10.9.0.100", "fd00:9::100"] {
        let entry = || lab.client.run(move || sh(&format!("ip neigh show {address} dev right")));
        let moved = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            entry().contains(&mac)
        });
        assert!(moved, "{}", entry());
    }
}

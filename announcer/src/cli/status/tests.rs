use serde_json::json;

use super::*;
use crate::{
    datapath::{Attachment, Counters, LinkStatus, PerFamily, SessionRecord, VipStatus},
    vocabulary::Mac,
};

const SECOND: u64 = 1_000_000_000;
const NOW: BootNs = BootNs(200_000 * SECOND);

fn ago(milliseconds: u64) -> u64 {
    NOW.0 - milliseconds * (SECOND / 1000)
}

/// eth0 answers for one address that was asked for, and knows another; eth1 runs what nobody can read.
fn status() -> Status {
    let (eth0, eth1) = (LinkId(2), LinkId(3));
    let deadline = BootNs(NOW.0 + 12 * SECOND + SECOND / 2);
    let link = |attachment, mac, deadline| LinkStatus { attachment, mac, deadline };
    let mac = Some(Mac([2, 0, 0, 0, 0, 1]));
    let counted = Counters {
        requests: 7,
        replies: 5,
        fenced: 2,
        conflicts: 1,
        last_seen_boot_ns: ago(3_200),
        ..Counters::default()
    };
    let vip = |role, epoch, counters| VipStatus { role, epoch, counters };
    let vips = [
        (("10.4.11.1", eth0), vip(Role::Owned, 4, counted)),
        (("10.4.11.1", eth1), vip(Role::Elsewhere, 0, Counters::default())),
        (
            ("fd00:4:b::1", eth0),
            vip(
                Role::Elsewhere,
                0,
                Counters {
                    suppressed: 3,
                    requests: 3,
                    last_seen_boot_ns: ago(7_200_000),
                    ..Counters::default()
                },
            ),
        ),
    ];
    Status {
        session: SessionRecord::parse(
            "0b7d2c3e-6a55-4f0e-9a51-3c2f1e0d9b8a",
            4,
            "00112233-4455-6677-8899-aabbccddeeff",
        )
        .expect("two UUIDs"),
        deadline,
        suppress: true,
        links: [
            (eth0, link(Attachment::Native, mac, Some(deadline))),
            (eth1, link(Attachment::Tcx, None, None)),
        ]
        .into(),
        vips: vips
            .into_iter()
            .map(|((ip, id), entry)| ((ip.parse().expect("an address"), id), entry))
            .collect(),
        node: Counters { malformed: 9, ..Counters::default() },
        capacity: PerFamily { v4: 8, v6: 4 },
    }
}

fn shown(status: &Status) -> Shown<'_> {
    Shown { status, now: NOW, names: [(2, "eth0".to_owned())].into() }
}

#[test]
fn the_table_is_as_wide_as_what_is_in_it() {
    let expected = "\
answering for 12.5 s more, unless renewed (session 0b7d2c3e-6a55-4f0e-9a51-3c2f1e0d9b8a, epoch 4)

INTERFACE  MODE    MAC                DEADLINE
eth0       native  02:00:00:00:00:01  in 12.5 s
ifindex 3  tcx     -                  unknown

VIP          INTERFACE  ROLE       REQUESTS  REPLIES  FENCED  SUPPRESSED  CONFLICTS  LAST SEEN
10.4.11.1    eth0       owned             7        5       2           0          1  3.2 s ago
10.4.11.1    ifindex 3  elsewhere         0        0       0           0          0          -
fd00:4:b::1  eth0       elsewhere         3        0       0           3          0    2 h ago
";
    assert_eq!(table::text(&shown(&status())), expected);
}

#[test]
fn a_table_that_is_full_has_a_line() {
    let mut status = status();
    status.capacity.v4 = 2;
    let text = table::text(&shown(&status));
    let lines: Vec<&str> = text.lines().skip(1).take(2).collect();
    assert_eq!(lines, ["the kernel's table for IPv4 is full: 2 of 2 entries; no other has room", ""]);
}

#[test]
fn an_ipv4_table_with_the_longest_names_fits_a_hundred_columns() {
    let mut status = status();
    let (_, entry) = status.vips.pop_first().expect("an entry");
    status.vips = [(("255.255.255.255".parse().expect("an address"), LinkId(2)), entry)].into();
    let shown = Shown { status: &status, now: NOW, names: [(2, "enp130s0f0np123".to_owned())].into() };
    let text = table::text(&shown);
    assert!(text.lines().all(|line| line.len() <= 100), "{text}");
}

#[test]
fn no_control_or_bidi_character_of_a_link_s_name_is_printed() {
    let status = status();
    let shown = Shown { status: &status, now: NOW, names: [(2, "e\u{9b}2J\u{202e}".to_owned())].into() };
    let text = table::text(&shown);
    assert!(text.contains("\ne\\u{9b}2J\\u{202e}  native  02:00:00:00:00:01  in 12.5 s\n"), "{text:?}");
    assert!(!text.contains(['\u{9b}', '\u{202e}']), "{text:?}");
    let object = json::text(&shown).expect("JSON");
    assert!(object.contains(r#""interface": "e\u009b2J\u202e""#), "{object}");
}

#[test]
fn a_passed_deadline_is_silence() {
    let mut status = status();
    status.deadline = NOW;
    status.links.values_mut().for_each(|link| link.deadline = Some(NOW));
    let text = table::text(&shown(&status));
    assert!(text.starts_with("silent: the lease has run out (session"), "{text}");
    assert!(text.contains("02:00:00:00:00:01  passed\n"), "{text}");
}

#[test]
fn the_object_has_every_name_that_programs_may_rely_on() {
    let status = status();
    let text = json::text(&shown(&status)).expect("JSON");
    let expected = json!({
        "answering": true, "deadlineSeconds": 12.5, "epoch": 4, "suppress": true, "malformed": 9,
        "sessionUid": "0b7d2c3e-6a55-4f0e-9a51-3c2f1e0d9b8a", "bootId": "00112233-4455-6677-8899-aabbccddeeff",
        "tables": [
            {"family": "IPv4", "entries": 2, "capacity": 8},
            {"family": "IPv6", "entries": 1, "capacity": 4},
        ],
        "interfaces": [
            {"interface": "eth0", "ifindex": 2, "mode": "native", "mac": "02:00:00:00:00:01", "deadlineSeconds": 12.5},
            {"interface": null, "ifindex": 3, "mode": "tcx", "mac": null, "deadlineSeconds": null},
        ],
        "vips": [
            {"ip": "10.4.11.1", "interface": "eth0", "ifindex": 2, "role": "owned", "epoch": 4, "requests": 7,
             "replies": 5, "fenced": 2, "suppressed": 0, "conflicts": 1, "eventsLost": 0, "lastSeenSeconds": 3.2},
            {"ip": "10.4.11.1", "interface": null, "ifindex": 3, "role": "elsewhere", "epoch": 0, "requests": 0,
             "replies": 0, "fenced": 0, "suppressed": 0, "conflicts": 0, "eventsLost": 0, "lastSeenSeconds": null},
            {"ip": "fd00:4:b::1", "interface": "eth0", "ifindex": 2, "role": "elsewhere", "epoch": 0, "requests": 3,
             "replies": 0, "fenced": 0, "suppressed": 3, "conflicts": 0, "eventsLost": 0, "lastSeenSeconds": 7200.0},
        ],
    });
    assert_eq!(serde_json::from_str::<serde_json::Value>(&text).expect("JSON"), expected);
}

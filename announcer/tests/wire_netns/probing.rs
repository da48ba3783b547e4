//! Probes, as a Linux kernel that owns the address answers them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    time::{Duration, Instant},
};

use announcer::{
    vocabulary::{Link, Mac, Vip},
    wire::{
        frames,
        hearing::Losses,
        probe::{Plan, ProbeError, Probed, Survey, probe},
        sender::{Sender, Transmit},
    },
};

use bytes::Bytes;
use socket2::{Domain, Protocol, Socket, Type};

use crate::lan::{Lan, Namespace, PATIENCE, Pending, ip_batch, small_optmem};

const QUICK: Plan = Plan { count: 3, spacing: Duration::from_millis(20), wait: Duration::from_millis(100) };
/// So long that only an answer can end it in time.
const LONG: Plan = Plan { count: 3, spacing: Duration::from_millis(200), wait: Duration::from_secs(3600) };

fn vip(text: &str) -> Vip {
    text.parse().expect("an address")
}

/// Probes of a single VIP.
async fn one(vip: Vip, links: Vec<Link>, own: BTreeSet<Mac>, plan: Plan) -> Result<Probed, ProbeError> {
    let survey = probe(&BTreeMap::from([(vip, links)]), &own, plan, &Losses::default()).await;
    survey.verdicts.into_iter().next().expect("a verdict").1
}

fn ask(
    from: &Namespace,
    vip: Vip,
    links: Vec<Link>,
    own: BTreeSet<Mac>,
    plan: Plan,
) -> Result<Probed, ProbeError> {
    from.run_async(move || one(vip, links, own, plan))
}

#[test]
fn a_kernel_that_has_the_address_answers() {
    let lan = Lan::new();
    let (link, client) = (lan.node.link("eth0"), lan.client.link("eth0"));
    for owned in ["10.4.0.2", "fd00:4::2"].map(vip) {
        let answer = ask(&lan.node, owned, vec![link.clone()], [link.mac].into(), LONG).expect("asked");
        assert_eq!(
            answer,
            Probed { answered_by: Some((link.id, client.mac)), contended_by: None },
            "{owned}"
        );
    }
}

#[test]
fn nobody_answers_for_an_unused_address() {
    let lan = Lan::new();
    let link = lan.node.link("eth0");
    for unused in ["10.4.11.1", "fd00:4::b:1"].map(vip) {
        let start = Instant::now();
        let answer = ask(&lan.node, unused, vec![link.clone()], [link.mac].into(), QUICK).expect("asked");
        assert_eq!(answer, Probed { answered_by: None, contended_by: None }, "{unused}");
        assert!(start.elapsed() >= Duration::from_millis(140), "it listened to the end");
    }
}

#[test]
fn a_probe_leaves_no_trace_in_a_neighbours_table() {
    let lan = Lan::new();
    let link = lan.node.link("eth0");
    lan.client.ip("neigh flush all");
    ask(&lan.node, vip("10.4.0.2"), vec![link.clone()], [link.mac].into(), QUICK).expect("asked");
    let table = lan.client.ip("-4 neigh show");
    assert!(!table.contains(&link.mac.to_string()), "{table}");
}

#[test]
fn an_answer_of_our_own_does_not_count() {
    let lan = Lan::new();
    let (link, client) = (lan.node.link("eth0"), lan.client.link("eth0"));
    let own = BTreeSet::from([link.mac, client.mac]);
    let answer = ask(&lan.node, vip("10.4.0.2"), vec![link], own, QUICK).expect("asked");
    assert_eq!(answer.answered_by, None);
}

#[test]
fn one_answer_on_any_link_ends_the_asking() {
    let lan = Lan::new();
    lan.node.ip("link add eth1 type veth peer name quiet");
    lan.node.ip("link set quiet up");
    lan.node.ip("link set eth1 up");
    let links = vec![lan.node.link("eth1"), lan.node.link("eth0")];
    let own = links.iter().map(|link| link.mac).collect();
    let answer = ask(&lan.node, vip("10.4.0.2"), links, own, LONG).expect("asked");
    let eth0 = lan.node.link("eth0").id;
    assert_eq!(answer.answered_by, Some((eth0, lan.client.link("eth0").mac)));
}

#[test]
fn an_announcement_during_the_probe_is_an_answer() {
    let lan = Lan::new();
    let (link, client) = (lan.node.link("eth0"), lan.client.link("eth0"));
    for vip in ["10.4.11.1", "fd00:4::b:1"].map(vip) {
        let (link, own, id) = (link.clone(), BTreeSet::from([link.mac]), link.id);
        let question = frames::probe(vip, link.mac);
        let announcing = client.clone();
        let announced = when_heard(&lan.client, question, move || {
            let sender = Sender::new().expect("CAP_NET_RAW");
            sender.send(announcing.id, &frames::announcement(vip, &announcing)[0]).expect("sent");
        });
        let answer = lan.node.run_async(move || one(vip, vec![link], own, LONG));
        assert_eq!(answer.expect("asked").answered_by, Some((id, client.mac)), "{vip}");
        announced.wait();
    }
}

/// Does `then` in `listener` once exactly this frame has been heard there.
fn when_heard(listener: &Namespace, frame: Bytes, then: impl FnOnce() + Send + 'static) -> Pending<()> {
    let everything = Protocol::from(i32::from((libc::ETH_P_ALL as u16).to_be()));
    let mut socket =
        listener.run(move || Socket::new(Domain::PACKET, Type::RAW, Some(everything)).expect("CAP_NET_RAW"));
    listener.start(move || {
        let mut heard = [0; 2048];
        while socket.read(&mut heard).map(|length| heard[..length] != frame).expect("frames") {}
        then();
    })
}

#[test]
fn two_probers_see_each_other_and_neither_takes_it_for_an_answer() {
    let lan = Lan::new();
    let (link, client) = (lan.node.link("eth0"), lan.client.link("eth0"));
    let plan = Plan { count: 10, spacing: Duration::from_millis(50), wait: Duration::from_millis(200) };
    for vip in ["10.4.11.1", "fd00:4::b:1"].map(vip) {
        let start = |from: &Namespace, link: Link| {
            let own = BTreeSet::from([link.mac]);
            from.start_async(move || one(vip, vec![link], own, plan))
        };
        let (ours, theirs) = (start(&lan.node, link.clone()), start(&lan.client, client.clone()));
        let expected = |mac| Probed { answered_by: None, contended_by: Some(mac) };
        assert_eq!(ours.wait().expect("asked"), expected(client.mac), "{vip}");
        assert_eq!(theirs.wait().expect("asked"), expected(link.mac), "{vip}");
    }
}

#[test]
fn silence_of_a_link_that_carries_nothing_proves_nothing() {
    let lan = Lan::new();
    let up = lan.node.link("eth0");
    lan.client.ip("link set eth0 down");
    let down = lan.node.link("eth0");
    let error = ask(&lan.node, vip("10.4.11.1"), vec![down], BTreeSet::new(), QUICK).expect_err("no carrier");
    assert_eq!(error.to_string(), "eth0 has no carrier");
    lan.node.ip("link set eth0 down");
    let error = ask(&lan.node, vip("10.4.11.1"), vec![up], BTreeSet::new(), QUICK).expect_err("down");
    assert!(matches!(error, ProbeError::Send { .. } | ProbeError::Listen { .. }), "{error:?}");
    let error = ask(&lan.node, vip("10.4.11.1"), vec![], BTreeSet::new(), QUICK).expect_err("nothing asked");
    assert!(matches!(error, ProbeError::NoLink));
}

#[test]
fn other_traffic_does_not_wake_the_prober() {
    let lan = Lan::new();
    let (link, client) = (lan.node.link("eth0"), lan.client.link("eth0"));
    let own = BTreeSet::from([link.mac]);
    let answer = lan.node.start_async(move || one(vip("10.4.11.1"), vec![link], own, QUICK));
    lan.client.run(move || {
        let sender = Sender::new().expect("CAP_NET_RAW");
        for n in 0..200 {
            let other = Vip::from(std::net::Ipv4Addr::new(10, 4, 12, n));
            frames::announcement(other, &client)
                .iter()
                .for_each(|f| sender.send(client.id, f).expect("sent"));
        }
    });
    assert_eq!(answer.wait().expect("asked"), Probed { answered_by: None, contended_by: None });
}

#[test]
fn of_many_addresses_asked_at_once_those_in_use_are_found() {
    let lan = Lan::new();
    let (link, client) = (lan.node.link("eth0"), lan.client.link("eth0"));
    for n in 0..100 {
        lan.client.ip(&format!("addr add 10.4.13.{n}/32 dev eth0"));
    }
    let vips = (0..200).map(|n| Vip::from(std::net::Ipv4Addr::new(10, 4, 13, n)));
    let more = ["fd00:4::2", "fd00:4::b:1"].map(vip);
    let questions: BTreeMap<Vip, Vec<Link>> = vips.chain(more).map(|vip| (vip, vec![link.clone()])).collect();
    let own = BTreeSet::from([link.mac]);
    let survey = all(&lan.node, questions, own);
    assert_eq!((survey.verdicts.len(), survey.failures.is_empty()), (202, true));
    for (vip, probed) in survey.verdicts {
        let used = match vip.ip() {
            std::net::IpAddr::V4(ip) => ip.octets()[3] < 100,
            std::net::IpAddr::V6(_) => vip == more[0],
        };
        assert_eq!(probed.expect("asked").answered_by, used.then_some((link.id, client.mac)), "{vip}");
    }
}

/// Asks for all of these, on a kernel whose `optmem_max` is that of older ones.
fn all(from: &Namespace, questions: BTreeMap<Vip, Vec<Link>>, own: BTreeSet<Mac>) -> Survey {
    from.run_async(move || async move {
        small_optmem();
        probe(&questions, &own, QUICK, &Losses::default()).await
    })
}

#[test]
fn four_thousand_addresses_of_each_family_are_asked_for_at_once() {
    let lan = Lan::new();
    let (link, client) = (lan.node.link("eth0"), lan.client.link("eth0"));
    let v4 = (0..4096_u32).map(|n| Vip::from(std::net::Ipv4Addr::from(0x0a04_1000 + n)));
    let v6 = (0..4096_u16).map(|n| Vip::from(std::net::Ipv6Addr::new(0xfd00, 4, 0, 0, 0, 0, 0xc, n)));
    let asked: Vec<Vip> = v4.chain(v6).collect();
    // One in so many is used, from the first to the last.
    let used: BTreeSet<Vip> = asked.iter().copied().step_by(273).collect();
    let line = |vip: &Vip| match vip.ip() {
        std::net::IpAddr::V4(ip) => format!("addr add {ip}/32 dev eth0\n"),
        std::net::IpAddr::V6(ip) => format!("addr add {ip}/128 dev eth0 nodad\n"),
    };
    let addresses: String = used.iter().map(line).collect();
    lan.client.run(move || ip_batch(&addresses));
    let questions = asked.iter().map(|vip| (*vip, vec![link.clone()])).collect();
    let survey = all(&lan.node, questions, [link.mac].into());
    assert_eq!((survey.verdicts.len(), survey.failures.to_string()), (8192, String::new()));
    let by = |vip: &Vip| survey.verdicts[vip].as_ref().expect("asked").answered_by;
    let found: BTreeSet<Vip> = asked.iter().copied().filter(|vip| by(vip).is_some()).collect();
    assert_eq!(found, used);
    assert!(used.iter().all(|vip| by(vip) == Some((link.id, client.mac))));
}

#[test]
fn what_cannot_be_asked_decides_nothing_else() {
    let lan = Lan::new();
    for name in ["unplugged", "refusing", "downed"] {
        lan.node.ip(&format!("link add {name} type veth peer name far-{name}"));
        lan.node.ip(&format!("link set {name} up"));
        lan.node.ip(&format!("link set far-{name} {}", if name == "unplugged" { "down" } else { "up" }));
    }
    lan.node.run(|| {
        // A queue without room: ENOBUFS for each frame.
        let add = ["qdisc", "add", "dev", "refusing", "root", "pfifo", "limit", "0"];
        assert!(std::process::Command::new("tc").args(add).status().expect("iproute2").success());
    });
    let link = lan.node.link("eth0");
    let [unplugged, refusing, downed] = ["unplugged", "refusing", "downed"].map(|name| lan.node.link(name));
    lan.node.ip("link set downed down");
    let here = vec![link.clone()];
    let everywhere = vec![link.clone(), unplugged.clone(), refusing.clone(), downed.clone()];
    let questions = BTreeMap::from([
        (vip("10.4.0.2"), here.clone()),
        (vip("10.4.11.1"), here),
        (vip("fd00:4::2"), everywhere.clone()),
        (vip("fd00:4::b:1"), everywhere),
        (vip("10.4.11.2"), vec![unplugged]),
        (vip("10.4.11.3"), vec![refusing.clone()]),
        (vip("fd00:4::b:3"), vec![refusing]),
        (vip("10.4.11.4"), vec![downed]),
        (vip("10.4.11.5"), vec![]),
    ]);
    let survey = all(&lan.node, questions, [link.mac].into());
    let used = Some((link.id, lan.client.link("eth0").mac));
    let said: Vec<_> = survey
        .verdicts
        .iter()
        .map(|(vip, verdict)| match verdict {
            Ok(probed) => (vip.to_string(), Ok(probed.answered_by)),
            Err(error) => (vip.to_string(), Err(error.to_string())),
        })
        .collect();
    let failed = |text: &str| Err(text.to_owned());
    let full = "can't send a probe on refusing: No buffer space available (os error 105)";
    assert_eq!(
        said,
        [
            ("10.4.0.2".to_owned(), Ok(used)),
            ("10.4.11.1".to_owned(), Ok(None)),
            ("10.4.11.2".to_owned(), failed("unplugged has no carrier")),
            ("10.4.11.3".to_owned(), failed(full)),
            ("10.4.11.4".to_owned(), failed("can't send a probe on downed: Network is down (os error 100)")),
            ("10.4.11.5".to_owned(), failed("no link to probe on")),
            ("fd00:4::2".to_owned(), Ok(used)),
            ("fd00:4::b:1".to_owned(), Ok(None)),
            ("fd00:4::b:3".to_owned(), failed(full)),
        ]
    );
    let failures = survey.failures.to_string();
    assert!(failures.contains("unplugged has no carrier (3 addresses)"), "{failures}");
}

#[test]
fn a_flood_about_other_addresses_keeps_nobody_from_asking_and_ending_in_time() {
    let lan = Lan::new();
    let (link, client) = (lan.node.link("eth0"), lan.client.link("eth0"));
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let flood = lan.client.start(move || {
        let sender = Sender::new().expect("CAP_NET_RAW");
        let frame = frames::gratuitous_reply(client.mac, std::net::Ipv4Addr::new(10, 4, 12, 1));
        let mut sent = 0_u64;
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            sent += u64::from(sender.send(client.id, &frame).is_ok());
        }
        sent
    });
    let questions: BTreeMap<Vip, Vec<Link>> =
        ["10.4.0.2", "10.4.11.1"].map(|ip| (vip(ip), vec![link.clone()])).into();
    let (survey, took, losses) = lan.node.run_async(move || async move {
        let (start, losses) = (Instant::now(), Losses::default());
        let survey = probe(&questions, &BTreeSet::new(), QUICK, &losses).await;
        (survey, start.elapsed(), losses.total())
    });
    stop.send(()).expect("a flood");
    let sent = flood.wait();
    eprintln!("{sent} frames, {losses} lost, {took:?}: {}", survey.failures);
    assert!(took < PATIENCE / 4, "{took:?}");
    // Lost or not: nobody who answers is taken for silent.
    match &survey.verdicts[&vip("10.4.0.2")] {
        Ok(probed) => assert!(probed.answered_by.is_some()),
        Err(error) => assert!(error.is_deaf(), "{error}"),
    }
}

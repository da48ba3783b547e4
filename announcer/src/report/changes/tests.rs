use std::{
    io,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tracing::subscriber::with_default;
use tracing_subscriber::{fmt::MakeWriter, layer::SubscriberExt};

use super::*;
use crate::{
    report::log::{LineLayer, LogFormat},
    vocabulary::Mac,
};

#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl io::Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Page {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// The lines `tell` makes, without their time.
fn lines(tell: impl FnOnce()) -> Vec<String> {
    let page = Page::default();
    let layer = LineLayer::new(LogFormat::Json, || jiff::Timestamp::UNIX_EPOCH, page.clone());
    with_default(tracing_subscriber::registry().with(layer), tell);
    let text = String::from_utf8(page.0.lock().expect("no panic").clone()).expect("text");
    text.lines().map(|line| line.replace(r#""ts":"1970-01-01T00:00:00.000Z","#, "")).collect()
}

const MAC: Mac = Mac([2, 0, 0, 0, 0, 0xaa]);

fn vip(n: u8) -> Vip {
    Vip::from(Ipv4Addr::new(10, 4, 11, n))
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

fn held(n: u8) -> Held {
    Held { vip: vip(n), services: Some(names(&["default/web"])), epoch: Some(7) }
}

fn changes() -> Changes {
    Changes::new("bettley", Instant::now())
}

#[test]
fn gaining_an_address_says_announcing_and_leader() {
    let gain = |why| lines(|| changes().gained(vip(1), &names(&["default/web"]), &names(&["eth0"]), &why, 7));
    let line = |reason: &str| {
        vec![format!(
            r#"{{"level":"info","msg":"announcing","ip":"10.4.11.1","node":"bettley","service":"default/web","interface":"eth0","reason":"{reason}","epoch":7}}"#
        )]
    };
    assert_eq!(gain(Gain::Free), line("leader elected"));
    assert_eq!(
        gain(Gain::HandedOver { from: "karstark".into() }),
        line("leader elected: handed over by karstark")
    );
    assert_eq!(
        gain(Gain::Failover { from: "karstark".into() }),
        line("leader elected: failover from karstark")
    );
    assert_eq!(gain(Gain::Adopted), line("leader elected before the agent restarted"));
}

#[test]
fn a_shared_address_names_all_its_services_and_interfaces() {
    let (services, interfaces) = (names(&["a/one", "b/two"]), names(&["eth0", "eth1"]));
    let told = lines(|| changes().gained(vip(1), &services, &interfaces, &Gain::Free, 7));
    assert!(told[0].contains(r#""service":"a/one,b/two","interface":"eth0,eth1""#), "{told:?}");
}

#[test]
fn the_first_announcement_says_gratuitous_arp_for_both_families() {
    let told = lines(|| {
        changes().announced(&held(1), "eth0", MAC);
        let vip = "fd00:4:b::1".parse().expect("an address");
        changes().announced(&Held { vip, ..held(1) }, "eth0", MAC);
    });
    assert_eq!(
        told,
        [
            r#"{"level":"info","msg":"gratuitous ARP sent","ip":"10.4.11.1","node":"bettley","service":"default/web","interface":"eth0","mac":"02:00:00:00:00:aa","epoch":7}"#,
            r#"{"level":"info","msg":"unsolicited NA sent (the gratuitous ARP of IPv6)","ip":"fd00:4:b::1","node":"bettley","service":"default/web","interface":"eth0","mac":"02:00:00:00:00:aa","epoch":7}"#,
        ]
    );
}

#[test]
fn losing_an_address_says_withdrawn_and_why() {
    let lose = |why| lines(|| changes().lost(vip(1), &names(&["default/web"]), &why, 7));
    let line = |reason: &str| {
        vec![format!(
            r#"{{"level":"info","msg":"withdrawn","ip":"10.4.11.1","node":"bettley","service":"default/web","reason":"{reason}","epoch":7}}"#
        )]
    };
    let handed = Loss::HandedOver { to: "karstark".into(), because: "cordoned".into() };
    assert_eq!(lose(handed), line("handed over to karstark: cordoned"));
    assert_eq!(lose(Loss::GivenUp { because: "service deleted".into() }), line("service deleted"));
}

#[test]
fn fencing_a_node_says_failover() {
    assert_eq!(
        lines(|| changes().fenced_other("karstark", 4, 7, "its lease ran out")),
        [
            r#"{"level":"warn","msg":"failover: silent node fenced","from":"karstark","node":"bettley","epoch":4,"ips":7,"reason":"its lease ran out"}"#
        ]
    );
}

#[test]
fn a_quiet_start_is_four_lines() {
    let build = crate::report::build::Build::this();
    let told = lines(|| {
        let changes = changes();
        changes.started("6.18.44");
        changes.attached(&["eth0 (native)".into()]);
        changes.synced(3, 4);
        changes.joined(1, 0);
    });
    assert_eq!(
        told,
        [
            format!(
                concat!(
                    r#"{{"level":"info","msg":"announcer started","node":"bettley","version":"{}","#,
                    r#""kernel":"6.18.44","commit":"{}","rustc":"{}","linker":"{}","target":"{}","object":"{}"}}"#,
                ),
                build.version,
                build.commit_text(),
                build.rustc,
                build.linker,
                build.target,
                build.object_sha256
            )
            .as_str(),
            r#"{"level":"info","msg":"programs attached","node":"bettley","interfaces":"eth0 (native)"}"#,
            r#"{"level":"info","msg":"cluster synced","node":"bettley","services":3,"nodes":4}"#,
            r#"{"level":"info","msg":"leader election joined","node":"bettley","epoch":1,"adopted":0}"#,
        ]
    );
}

#[test]
fn the_summary_comes_every_ten_minutes_with_the_words_users_search() {
    let start = Instant::now();
    let summary = Summary { announcing: 7, addresses: 21, unanswered: 0, nodes: 3, live: true, epoch: 5 };
    let told = lines(|| {
        let mut changes = Changes::new("bettley", start);
        for second in 0..1250 {
            changes.summary(start + Duration::from_secs(second), &summary);
        }
        assert_eq!(changes.summary_due(), start + Duration::from_secs(1800));
    });
    let line = r#"{"level":"info","msg":"announcing 7 of 21 addresses; leader election live","node":"bettley","announcing":7,"addresses":21,"unanswered":0,"nodes":3,"epoch":5}"#;
    assert_eq!(told, [line, line]);
}

#[test]
fn a_conflict_is_told_once_a_minute_per_address_and_mac() {
    let start = Instant::now();
    let told = lines(|| {
        let mut changes = Changes::new("bettley", start);
        for second in 0..90 {
            changes.conflict(&held(1), "eth0", MAC, start + Duration::from_secs(second));
        }
        changes.conflict(&held(2), "eth0", MAC, start);
    });
    assert_eq!(told.len(), 3);
    assert_eq!(
        told[0],
        r#"{"level":"warn","msg":"another host claims this address","ip":"10.4.11.1","node":"bettley","service":"default/web","interface":"eth0","mac":"02:00:00:00:00:aa","epoch":7}"#
    );
}

#[test]
fn an_address_that_is_held_and_not_answered_names_its_service_and_epoch_if_it_has_one() {
    let told = lines(|| {
        changes().unanswered(&held(1), "eth0", "no answer");
        changes().answered_again(&held(1), "eth0");
        changes().answered_again(&Held { vip: vip(1), services: None, epoch: None }, "eth0");
    });
    assert_eq!(
        told,
        [
            r#"{"level":"error","msg":"held but not answered","ip":"10.4.11.1","node":"bettley","service":"default/web","interface":"eth0","reason":"no answer","epoch":7}"#,
            r#"{"level":"info","msg":"answered again","ip":"10.4.11.1","node":"bettley","service":"default/web","interface":"eth0","epoch":7}"#,
            r#"{"level":"info","msg":"answered again","ip":"10.4.11.1","node":"bettley","interface":"eth0"}"#,
        ]
    );
}

#[test]
fn a_flood_of_claims_does_not_flood_the_log() {
    let start = Instant::now();
    let told = lines(|| {
        let mut changes = Changes::new("bettley", start);
        for n in 0..3000_u32 {
            let [.., a, b] = n.to_be_bytes();
            changes.conflict(&held(1), "eth0", Mac([2, 0, 0, 0, a, b]), start);
        }
    });
    assert_eq!(told.len(), 10);
}

#[test]
fn a_flood_of_claims_for_one_address_hides_no_conflict_of_another() {
    let start = Instant::now();
    let told = lines(|| {
        let mut changes = Changes::new("bettley", start);
        for n in 0..3000_u32 {
            let [.., a, b] = n.to_be_bytes();
            changes.conflict(&held(1), "eth0", Mac([2, 0, 0, 0, a, b]), start);
        }
        changes.conflict(&held(2), "eth0", MAC, start);
        changes.conflict(&held(1), "eth0", MAC, start + Duration::from_secs(60));
    });
    let of = |ip: &str| told.iter().filter(|line| line.contains(&format!(r#""ip":"{ip}""#))).count();
    assert_eq!((of("10.4.11.1"), of("10.4.11.2")), (11, 1));
}

#[test]
fn an_unusable_interface_is_told_once_until_it_was_usable() {
    let told = lines(|| {
        let mut changes = changes();
        let missing = BTreeSet::from([("eth9".to_owned(), "no such link".to_owned())]);
        changes.unusable(missing.clone());
        changes.unusable(missing.clone());
        changes.unusable(BTreeSet::new());
        changes.unusable(missing);
    });
    let line = r#"{"level":"warn","msg":"interface not usable","interface":"eth9","node":"bettley","reason":"no such link"}"#;
    assert_eq!(told, [line, line]);
}

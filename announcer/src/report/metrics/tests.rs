use std::time::Duration;

use super::*;
use crate::kube::{Fate, Service};

const NOW: BootNs = BootNs(1_000_000_000_000);

fn vip(text: &str) -> Vip {
    text.parse().expect("an address")
}

fn counts(ip: &str, interface: &str, requests: u64) -> KernelCounts {
    KernelCounts {
        vip: vip(ip),
        interface: interface.into(),
        requests,
        replies: requests - 1,
        fenced: 1,
        conflicts: 3,
        conflicts_lost: 2,
    }
}

/// The samples of one family, without comments.
fn samples<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let of = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
    text.lines().filter(of).collect()
}

fn metrics(owned: Vec<KernelCounts>) -> Metrics {
    let suppressed = [("eth0".to_owned(), 2)].into();
    Metrics::new("bettley", move || Counted {
        owned: owned.clone(),
        suppressed: BTreeMap::clone(&suppressed),
    })
}

#[test]
fn a_node_without_vips_still_shows_its_gauges() {
    let text = metrics(vec![]).render(NOW);
    for line in [
        "announcer_owned_vips 0.0",
        "announcer_unanswered_vips 0.0",
        "announcer_session_deadline_seconds 0.0",
        "announcer_session_epoch 0.0",
        "announcer_invalid_objects 0.0",
        "announcer_unreadable_objects{kind=\"Lease\"} 0.0",
        "announcer_gratuitous_sent_total 0",
    ] {
        assert!(text.lines().any(|present| present == line), "{line} in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn what_was_not_heard_is_counted_and_never_falls() {
    let metrics = metrics(vec![]);
    let shown = |unheard| {
        metrics.set_unheard(unheard);
        let text = metrics.render(NOW);
        ["announcer_frames_lost_total", "announcer_conflicts_lost_total", "announcer_malformed_total"]
            .map(|name| samples(&text, name).concat())
    };
    let before = shown(Unheard { frames_lost: 5, conflicts_lost: 1000, malformed: 2 });
    assert_eq!(
        before,
        [
            "announcer_frames_lost_total 5",
            "announcer_conflicts_lost_total 1000",
            "announcer_malformed_total 2"
        ]
    );
    // An address is gone, and its count with it.
    assert_eq!(shown(Unheard { frames_lost: 5, conflicts_lost: 3, malformed: 2 }), before);
    let after = shown(Unheard { frames_lost: 6, conflicts_lost: 4, malformed: 2 });
    assert_eq!(after[1], "announcer_conflicts_lost_total 1001");
}

#[test]
fn the_build_is_told_with_the_hash_of_its_kernel_object() {
    let text = metrics(vec![]).render(NOW);
    let build = crate::report::build::Build::this();
    let [line] = samples(&text, "announcer_build_info")[..] else { panic!("{text}") };
    for label in [
        format!("version=\"{}\"", env!("CARGO_PKG_VERSION")),
        format!("commit=\"{}\"", build.commit_text()),
        format!("linker=\"{}\"", build.linker),
        format!("object_sha256=\"{}\"", build.object_sha256),
    ] {
        assert!(line.contains(&label), "{label} in {line}");
    }
}

#[test]
fn ownership_is_shown_with_the_time_that_is_left() {
    let metrics = metrics(vec![]);
    metrics.set_ownership(Ownership {
        held: [(vip("10.4.11.1"), vec!["default/web".into()]), (vip("fd00::1"), vec![])].into(),
        unanswered: 1,
        deadline: NOW + Duration::from_millis(12_500),
        epoch: 7,
    });
    let text = metrics.render(NOW);
    assert_eq!(samples(&text, "announcer_owned_vips"), ["announcer_owned_vips 2.0"]);
    assert_eq!(samples(&text, "announcer_unanswered_vips"), ["announcer_unanswered_vips 1.0"]);
    assert_eq!(
        samples(&text, "announcer_session_deadline_seconds"),
        ["announcer_session_deadline_seconds 12.5"]
    );
    assert_eq!(samples(&text, "announcer_session_epoch"), ["announcer_session_epoch 7.0"]);
}

#[test]
fn what_there_is_no_room_for_and_claims_that_were_not_told_are_shown() {
    let metrics = metrics(vec![counts("10.4.11.1", "eth0", 7)]);
    metrics.set_no_room(NoRoom { cluster: 5, node: 2, entries: 9 });
    let text = metrics.render(NOW);
    let limits = [r#"{limit="cluster"} 5.0"#, r#"{limit="node"} 2.0"#];
    assert_eq!(
        samples(&text, "announcer_no_room_vips"),
        limits.map(|limit| format!("announcer_no_room_vips{limit}"))
    );
    assert_eq!(samples(&text, "announcer_refused_entries"), ["announcer_refused_entries 9.0"]);
    let lost = samples(&text, "announcer_conflict_events_lost_total");
    assert!(matches!(lost[..], [one] if one.contains("10.4.11.1") && one.ends_with(" 2")), "{lost:?}");
}

#[test]
fn an_invalid_object_is_shown_by_name_and_the_configuration_as_stale() {
    let metrics = metrics(vec![]);
    let shown = |name: &str| samples(&metrics.render(NOW), name).join("").to_owned();
    assert_eq!(shown("metallb_k8s_client_config_loaded_bool"), "metallb_k8s_client_config_loaded_bool 0.0");
    let pool = |addresses: &str| {
        serde_json::json!({
            "apiVersion": "metallb.io/v1beta1",
            "kind": "IPAddressPool",
            "metadata": {"namespace": "metallb", "name": "primary"},
            "spec": {"addresses": [addresses]},
        })
    };
    let invalid = |addresses| crate::kube::Snapshot::of_objects([pool(addresses)]).expect("a pool").invalid;
    metrics.set_invalid_objects(&invalid("nonsense"));
    let series = r#"announcer_invalid_object{kind="IPAddressPool",namespace="metallb",name="primary"} 1.0"#;
    assert_eq!(shown("announcer_invalid_object"), series);
    assert_eq!(shown("announcer_invalid_objects"), "announcer_invalid_objects 1.0");
    assert_eq!(shown("metallb_k8s_client_config_stale_bool"), "metallb_k8s_client_config_stale_bool 1.0");
    metrics.set_invalid_objects(&invalid("10.4.11.0/24"));
    assert_eq!(shown("announcer_invalid_object"), "");
    assert_eq!(shown("metallb_k8s_client_config_stale_bool"), "metallb_k8s_client_config_stale_bool 0.0");
    assert_eq!(shown("metallb_k8s_client_config_loaded_bool"), "metallb_k8s_client_config_loaded_bool 1.0");
}

#[test]
fn objects_that_cannot_be_read_are_counted_by_kind_until_they_can() {
    let metrics = metrics(vec![]);
    let service = |name: &str| UnreadableObject {
        kind: Service::KIND,
        key: ObjectKey { namespace: "web".into(), name: name.into() },
        uid: String::new(),
        problem: "spec.type: invalid type".into(),
        fate: Fate::Kept,
    };
    metrics.set_unreadable_objects(&[service("a"), service("b")]);
    let series = r#"announcer_unreadable_objects{kind="Service"} 2.0"#;
    assert!(samples(&metrics.render(NOW), "announcer_unreadable_objects").contains(&series));
    metrics.set_unreadable_objects(&[]);
    let series = r#"announcer_unreadable_objects{kind="Service"} 0.0"#;
    assert!(samples(&metrics.render(NOW), "announcer_unreadable_objects").contains(&series));
}

#[test]
fn a_passed_deadline_is_zero_seconds() {
    let metrics = metrics(vec![]);
    metrics.set_ownership(Ownership { deadline: NOW - Duration::from_secs(5), ..Ownership::default() });
    assert_eq!(
        samples(&metrics.render(NOW), "announcer_session_deadline_seconds"),
        ["announcer_session_deadline_seconds 0.0"]
    );
}

#[test]
fn lease_writes_are_counted_by_kind_and_outcome() {
    let metrics = metrics(vec![]);
    metrics.lease_written(LeaseKind::Session, LeaseOutcome::Ok);
    metrics.lease_written(LeaseKind::Session, LeaseOutcome::Ok);
    metrics.lease_written(LeaseKind::Claim, LeaseOutcome::Conflict);
    assert_eq!(
        samples(&metrics.render(NOW), "announcer_lease_writes_total"),
        [
            r#"announcer_lease_writes_total{kind="session",outcome="ok"} 2"#,
            r#"announcer_lease_writes_total{kind="claim",outcome="conflict"} 1"#,
        ]
    );
}

#[test]
fn kernel_counters_are_read_at_the_scrape() {
    let text = metrics(vec![counts("10.4.11.1", "eth0", 5)]).render(NOW);
    for (name, value) in [("requests", 5), ("replies", 4), ("fenced", 1), ("conflicts", 3)] {
        let name = format!("announcer_{name}_total");
        assert_eq!(samples(&text, &name), [format!(r#"{name}{{ip="10.4.11.1",interface="eth0"}} {value}"#)]);
    }
    // What others own is one number for each link.
    let name = "announcer_suppressed_total";
    assert_eq!(samples(&text, name), [format!(r#"{name}{{interface="eth0"}} 2"#)]);
}

#[test]
fn metallbs_names_are_there_summed_over_interfaces() {
    let metrics = metrics(vec![counts("10.4.11.1", "eth0", 5), counts("10.4.11.1", "eth1", 7)]);
    metrics.gratuitous_sent(&[(vip("10.4.11.1"), 2)].into());
    metrics.gratuitous_sent(&[(vip("10.4.11.1"), 2)].into());
    metrics.set_ownership(Ownership {
        held: [(vip("10.4.11.1"), vec!["default/web".into(), "default/dns".into()])].into(),
        ..Ownership::default()
    });
    let text = metrics.render(NOW);
    let ours = |line: &&str| line.starts_with("metallb_") && !line.starts_with("metallb_k8s");
    let all: Vec<_> = text.lines().filter(ours).collect();
    assert_eq!(
        all,
        [
            r#"metallb_layer2_requests_received{ip="10.4.11.1"} 12.0"#,
            r#"metallb_layer2_responses_sent{ip="10.4.11.1"} 10.0"#,
            r#"metallb_layer2_gratuitous_sent{ip="10.4.11.1"} 4.0"#,
            r#"metallb_speaker_announced{service="default/web",protocol="layer2",node="bettley",ip="10.4.11.1"} 1.0"#,
            r#"metallb_speaker_announced{service="default/dns",protocol="layer2",node="bettley",ip="10.4.11.1"} 1.0"#,
        ]
    );
    assert_eq!(samples(&text, "announcer_gratuitous_sent_total"), ["announcer_gratuitous_sent_total 4"]);
}

#[test]
fn a_vip_that_is_released_is_no_longer_announced() {
    let metrics = metrics(vec![]);
    let held = |vips: &[&str]| Ownership {
        held: vips.iter().map(|ip| (vip(ip), vec!["default/web".to_owned()])).collect(),
        ..Ownership::default()
    };
    metrics.set_ownership(held(&["10.4.11.1"]));
    metrics.set_ownership(held(&[]));
    assert_eq!(samples(&metrics.render(NOW), "metallb_speaker_announced"), [""; 0]);
}

#[test]
fn a_vip_that_is_not_held_any_more_ends_its_series_and_the_total_never_falls() {
    let metrics = metrics(vec![]);
    for n in 1..=3 {
        let ip = format!("10.4.11.{n}");
        metrics.gratuitous_sent(&[(vip(&ip), 2)].into());
        metrics.set_ownership(Ownership { held: [(vip(&ip), Vec::new())].into(), ..Ownership::default() });
    }
    let text = metrics.render(NOW);
    assert_eq!(
        samples(&text, "metallb_layer2_gratuitous_sent"),
        [r#"metallb_layer2_gratuitous_sent{ip="10.4.11.3"} 2.0"#]
    );
    assert_eq!(samples(&text, "announcer_gratuitous_sent_total"), ["announcer_gratuitous_sent_total 6"]);
}

#[test]
fn a_page_is_rendered_once_a_second_for_all_who_ask() {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };
    let rendered = Arc::new(AtomicUsize::new(0));
    let count = rendered.clone();
    let metrics = Metrics::new("bettley", move || {
        count.fetch_add(1, Ordering::Relaxed);
        Counted::default()
    });
    let first = metrics.page(NOW);
    for ms in [0, 1, 999] {
        assert_eq!(metrics.page(NOW + Duration::from_millis(ms)), first);
    }
    assert_eq!(rendered.load(Ordering::Relaxed), 1);
    metrics.set_events_lost(3);
    let later = metrics.page(NOW + Duration::from_secs(1));
    assert!(String::from_utf8_lossy(&later).contains("announcer_events_lost_total 3\n"));
    assert_eq!(rendered.load(Ordering::Relaxed), 2);
}

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};

use super::{story::*, table::text, *};
use crate::{
    election::lease::{Bound, Claim, Holder, Record, Session, Version},
    kube::Snapshot,
    policy::Options,
    report::printable,
};

const IP: &str = "10.4.11.1";

fn now() -> Timestamp {
    "2026-11-22T23:00:10Z".parse().expect("a time")
}

fn ago(seconds: i64) -> Option<Timestamp> {
    Some(now() - jiff::SignedDuration::from_secs(seconds))
}

fn node(name: &str, labels: Value, spec: Value) -> Value {
    let conditions = json!([{"type": "Ready", "status": "True"}]);
    json!({"kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": spec, "status": {"conditions": conditions}})
}

fn configuration(kind: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "metallb.io/v1beta1",
        "kind": kind,
        "metadata": {"namespace": "metallb", "name": "primary"},
        "spec": spec,
    })
}

fn service(spec: Value) -> Value {
    json!({
        "kind": "Service",
        "metadata": {"namespace": "default", "name": "httpbin"},
        "spec": spec,
        "status": {"loadBalancer": {"ingress": [{"ip": IP}]}},
    })
}

fn slice() -> Value {
    json!({
        "kind": "EndpointSlice",
        "metadata": {"namespace": "default", "name": "h", "labels": {"kubernetes.io/service-name": "httpbin"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.1.0.1"], "nodeName": "bettley"}],
    })
}

fn session(node: &str, epoch: u64, live: bool, links: &[&str], at: Option<Timestamp>) -> Written {
    let holder = Holder { node: node.into(), boot_id: "b".into(), machine_id: "m".into() };
    let session = Session {
        name: format!("session-{node}"),
        uid: format!("uid-{node}"),
        version: Version(1),
        holder: live.then_some(holder),
        epoch,
        lease: Duration::from_secs(15),
        renewal: "r".into(),
        links: links.iter().map(ToString::to_string).collect(),
        left: None,
        agent: "0.1.0".into(),
        on_api_loss: "fence".into(),
        fencing: "early".into(),
        suspects: BTreeSet::new(),
        early: None,
        unsteady: BTreeSet::new(),
        understood: true,
    };
    (Record::Session(session), at)
}

fn claim(node: &str, epoch: u64, at: Option<Timestamp>) -> Written {
    let claim = Claim {
        vip: IP.parse().expect("an address"),
        uid: "c".into(),
        version: Version(2),
        holder: Some(node.into()),
        session_uid: format!("uid-{node}"),
        session_epoch: epoch,
        preferred: None,
        heir: None,
        acquired: None,
        write: "w".into(),
        transitions: 2,
        understood: true,
    };
    (Record::Claim(claim), at)
}

/// Six nodes of which each is in another state.
fn cluster() -> Vec<Value> {
    let plain = || json!({});
    vec![
        node("allyrion", plain(), plain()),
        node("bettley", plain(), plain()),
        node("cargyll", plain(), json!({"unschedulable": true})),
        node("dalt", json!({"node.kubernetes.io/exclude-from-external-load-balancers": ""}), plain()),
        node("erenford", plain(), plain()),
        node("fenn", plain(), plain()),
        configuration("IPAddressPool", json!({"addresses": ["10.4.11.0/24"]})),
        configuration("L2Advertisement", json!({"interfaces": ["eth0"]})),
        service(json!({"type": "LoadBalancer"})),
        slice(),
    ]
}

fn leases() -> Vec<Written> {
    vec![
        session("allyrion", 1, true, &["eth0"], ago(3)),
        session("bettley", 4, true, &["eth0"], ago(2)),
        session("cargyll", 1, true, &["eth0"], ago(1)),
        session("erenford", 2, true, &["eth1"], ago(1)),
        session("fenn", 8, false, &[], ago(900)),
        claim("bettley", 4, ago(300)),
    ]
}

fn story(objects: Vec<Value>, leases: &[Written]) -> Story {
    let snapshot = Snapshot::of_objects(objects).expect("objects");
    let vip = IP.parse().expect("an address");
    tell(&snapshot, &Options::default(), leases, Failback::Preferred, vip, now())
}

#[test]
fn an_owner_that_nobody_has_heard_of_for_longer_than_its_lease_is_not_said_to_announce() {
    let mut leases = leases();
    for (record, at) in &mut leases {
        *at = at.filter(|_| matches!(record, Record::Claim(_))).or(ago(86_400));
    }
    let story = story(cluster(), &leases);
    assert_eq!(story.owner.as_ref().and_then(|owner| owner.silent_seconds), Some(86_400));
    assert!(story.nodes.iter().all(|node| node.rank.is_none()), "{:?}", story.nodes);
    let text = text(&story, now());
    let head = text
        .split_once("\nService")
        .map_or("", |(head, _)| head)
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    assert_eq!(
        head,
        "10.4.11.1 is claimed by bettley, since 2026-11-22T22:55:10Z (5 min ago), epoch 4, but that has been silent for \
         86400 s, longer than its lease, and nobody has fenced it yet: unless it holds on (--on-api-loss), nobody answers"
    );
}

fn because(objects: Vec<Value>, leases: &[Written]) -> String {
    story(objects, leases).not_announced_because.expect("a reason")
}

#[test]
fn the_table_says_who_announces_who_else_could_and_who_could_not_and_why() {
    let expected = "\
10.4.11.1 is announced by bettley, since 2026-11-22T22:55:10Z (5 min ago), epoch 4

Service          default/httpbin
IPAddressPool    metallb/primary
L2Advertisement  metallb/primary

NODE      ROLE          WHY
bettley   owner         session live, renewed 2 s ago
allyrion  could, 1.     session live, renewed 3 s ago
cargyll   could, later  cordoned, only if no better node is left; session live, renewed 1 s ago
dalt      cannot        the node has the label
                        node.kubernetes.io/exclude-from-external-load-balancers (--ignore-exclude-lb
                        announces all the same)
erenford  cannot        no selected interface has carrier there: advertised on eth0, up: eth1
fenn      cannot        its session was fenced (epoch 8), and its agent is silent: its log says why
";
    assert_eq!(text(&story(cluster(), &leases()), now()), expected);
}

#[test]
fn every_line_fits_a_hundred_columns_however_long_the_names() {
    let mut objects = cluster();
    let long = "n".repeat(63);
    objects.push(node(&long, json!({}), json!({"unschedulable": true})));
    let mut leases = leases();
    leases.push(session(&long, 1, true, &["eth0"], ago(1)));
    let text = text(&story(objects, &leases), now());
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
}

#[test]
fn the_object_for_programs_has_the_same_story() {
    let story = serde_json::to_value(story(cluster(), &leases())).expect("JSON");
    assert_eq!(
        story["owner"],
        json!({"node": "bettley", "epoch": 4, "since": "2026-11-22T22:55:10Z", "moves": 2, "silentSeconds": null})
    );
    assert_eq!(
        story["nodes"][1],
        json!({"node": "allyrion", "role": "could", "rank": 1, "weight": 0, "why": "session live, renewed 3 s ago"})
    );
    assert_eq!(story["notAnnouncedBecause"], Value::Null);
}

#[test]
fn an_address_that_no_service_has_is_told_so() {
    let objects = cluster().into_iter().filter(|object| object["kind"] != "Service").collect();
    assert_eq!(
        because(objects, &[]),
        "no Service of type LoadBalancer has it in its status: look at MetalLB's controller"
    );
}

#[test]
fn an_address_outside_every_pool_is_told_so() {
    let objects = cluster().into_iter().filter(|object| object["kind"] != "IPAddressPool").collect();
    assert_eq!(because(objects, &[]), "no IPAddressPool has it: add it to one");
}

#[test]
fn a_pool_that_nothing_advertises_is_told_by_name() {
    let objects = cluster().into_iter().filter(|object| object["kind"] != "L2Advertisement").collect();
    assert_eq!(
        because(objects, &[]),
        "there is no L2Advertisement, so pool metallb/primary is not announced: create one"
    );
}

#[test]
fn an_advertisement_for_other_pools_is_told_with_the_service() {
    let mut objects: Vec<Value> =
        cluster().into_iter().filter(|object| object["kind"] != "L2Advertisement").collect();
    objects.push(configuration("L2Advertisement", json!({"ipAddressPools": ["other"]})));
    assert_eq!(
        because(objects, &[]),
        "no L2Advertisement covers pool metallb/primary for Service default/httpbin: see their ipAddressPools \
         and serviceSelectors"
    );
}

#[test]
fn a_service_of_another_class_is_told_by_name() {
    let mut objects: Vec<Value> =
        cluster().into_iter().filter(|object| object["kind"] != "Service").collect();
    objects.push(service(json!({"type": "LoadBalancer", "loadBalancerClass": "x/y"})));
    assert_eq!(because(objects, &[]), "default/httpbin is of another load balancer class (--lb-class)");
}

#[test]
fn a_service_without_endpoints_is_told_so() {
    let objects = cluster().into_iter().filter(|object| object["kind"] != "EndpointSlice").collect();
    assert_eq!(
        because(objects, &leases()[..5]),
        "no endpoint of the Service is ready or serving: check its selector and the readiness of its Pods"
    );
}

#[test]
fn an_address_that_nobody_has_claimed_yet_names_who_is_next() {
    let because = because(cluster(), &leases()[..2]);
    assert!(because.starts_with("nobody has claimed it yet; "), "{because}");
}

#[test]
fn without_any_agent_nobody_is_able_to() {
    let story = story(cluster(), &[]);
    assert_eq!(
        story.not_announced_because.as_deref(),
        Some("none of the nodes that may announce it is able to: each says why")
    );
    assert_eq!(story.nodes[0].why, "no agent has run there, for it has no session Lease: look for its Pod");
}

#[test]
fn the_claim_of_a_fenced_node_is_no_ownership() {
    let leases = [session("bettley", 5, true, &["eth0"], ago(1)), claim("bettley", 4, ago(300))];
    let story = story(cluster(), &leases);
    assert_eq!(story.owner, None);
    assert_eq!(story.notes, ["the claim of bettley is void: its session was fenced or is gone"]);
}

#[test]
fn a_node_whose_endpoints_come_and_go_says_so_and_is_a_later_choice() {
    let mut objects = cluster();
    objects[8] = service(json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"}));
    objects[9]["endpoints"] = ["allyrion", "bettley", "cargyll"]
        .map(|node| json!({"addresses": ["10.1.0.1"], "nodeName": node}))
        .into();
    let mut leases = leases();
    let Record::Session(allyrion) = &mut leases[0].0 else { panic!("a session") };
    allyrion.unsteady.insert(IP.parse().expect("an address"));
    let story = story(objects, &leases);
    let of = |name: &str| story.nodes.iter().find(|node| node.node == name).expect("the node");
    let (cordoned, unsteady) = (of("cargyll"), of("allyrion"));
    assert_eq!((cordoned.rank, unsteady.rank), (Some(1), None));
    let words = "its endpoints come and go, only if no better node is left; session live, renewed 3 s ago";
    assert_eq!(unsteady.why, words);
}

#[test]
fn the_heir_is_named_and_owns_the_address_once_the_owner_is_fenced() {
    let told = |bettley: bool| {
        let mut leases = leases();
        leases.retain(|(record, _)| record.name() != "session-bettley");
        leases.push(session("bettley", if bettley { 4 } else { 5 }, bettley, &["eth0"], ago(20)));
        for (record, _) in &mut leases {
            if let Record::Claim(claim) = record {
                let heir =
                    Bound { node: "allyrion".into(), session_uid: "uid-allyrion".into(), session_epoch: 1 };
                claim.heir = Some(heir);
            }
        }
        story(cluster(), &leases)
    };
    let before = told(true);
    assert_eq!(before.owner.map(|owner| owner.node).as_deref(), Some("bettley"));
    assert_eq!(before.nodes[1].why, "takes over with the owner's fence; session live, renewed 3 s ago");
    assert_eq!(told(false).owner.map(|owner| (owner.node, owner.epoch)), Some(("allyrion".to_owned(), 1)));
}

#[test]
fn a_handover_that_is_about_to_happen_is_noted() {
    let mut objects = cluster();
    objects[1] = node("bettley", json!({}), json!({"unschedulable": true}));
    let story = story(objects, &leases());
    assert_eq!(story.notes, ["its owner is about to hand it over to allyrion: node is cordoned"]);
}

#[test]
fn an_object_that_is_invalid_is_noted() {
    let mut objects = cluster();
    objects.push(json!({
        "apiVersion": "metallb.io/v1beta1",
        "kind": "IPAddressPool",
        "metadata": {"namespace": "metallb", "name": "bad"},
        "spec": {"addresses": ["nonsense"]},
    }));
    let notes = story(objects, &leases()).notes;
    assert!(notes[0].contains("IPAddressPool metallb/bad: spec.addresses[0]"), "{notes:?}");
}

#[test]
fn no_control_or_bidi_character_of_a_lease_or_an_object_is_printed() {
    const HOSTILE: &str = "\u{9b}2J\u{202e}\n";
    let mut objects = cluster();
    objects.push(node("evil", json!({}), json!({})));
    let mut leases = leases();
    leases.push(session(HOSTILE, 1, true, &[HOSTILE], ago(1)));
    leases.push(session("evil", 1, true, &[HOSTILE], ago(1)));
    leases.push(claim(HOSTILE, 1, ago(300)));
    let story = story(objects, &leases);
    let named = |story: &Story| format!("{story:?}").matches(r"\u{9b}2J\u{202e}").count();
    assert!(
        story.owner.as_ref().is_some_and(|owner| owner.node == HOSTILE) && named(&story) > 1,
        "{story:?}"
    );

    let text = text(&story, now());
    assert!(text.contains(r"10.4.11.1 is announced by \u{9b}2J\u{202e}\n, since"), "{text:?}");
    // Between two words a line may end.
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains(r"eth0, up: \u{9b}2J\u{202e}\n"), "{text:?}");
    let shown = |c: char| c == '\n' || printable(c.encode_utf8(&mut [0; 4])).chars().eq([c]);
    assert!(text.chars().all(shown), "{text:?}");
    // What it wraps is its own: no line of it is the Lease's.
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
}

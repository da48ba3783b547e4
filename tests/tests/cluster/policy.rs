//! What the cluster itself shows of Announcer: events, `ServiceL2Status`, metrics and `announcer explain`, on a real API
//! server with agents as plain processes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    process::Command,
    time::Duration,
};

use announcer_tests::{
    ADMIN_TOKEN, Cluster, Node, Signal,
    product::{self, ADVERTISEMENT_YAML, BARE_ADVERTISEMENT_YAML, FIRST_VIP, NAMESPACE, POOL_YAML},
    wait,
};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::bare::Lab;

/// Longer than a lease, its fencing and a second of the loop.
const A_WHILE: Duration = Duration::from_secs(40);

const BAD_POOL_YAML: &str = "
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: primary, namespace: metallb}
spec: {addresses: [10.4.11.0/33]}
";

const BAD_ADVERTISEMENT_YAML: &str = "
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: primary, namespace: metallb}
spec: {nodeSelectors: [{matchExpressions: [{key: a, operator: Near, values: [b]}]}]}
";

/// One Service, `web`, and an agent on each node, with MetalLB's own definitions.
fn start(nodes: usize, advertisement: &str) -> Result<Lab> {
    start_with(nodes, advertisement, Cluster::install_metallb_crds)
}

fn start_with(
    nodes: usize,
    advertisement: &str,
    install_crds: impl Fn(&Cluster) -> Result<()> + Sync,
) -> Result<Lab> {
    let lab = Lab::installed(nodes, advertisement, install_crds)?;
    lab.serve("web", FIRST_VIP, json!({}))?;
    lab.start_agents()?;
    Ok(lab)
}

impl Lab {
    fn list(&self, path: &str) -> Result<Vec<Value>> {
        Ok(self.cluster.api("GET", path, None)?["items"].as_array().cloned().unwrap_or_default())
    }

    /// Events in a namespace with this reason.
    pub(crate) fn events(&self, namespace: &str, reason: &str) -> Result<Vec<Value>> {
        let all = self.list(&format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events"))?;
        Ok(all.into_iter().filter(|event| event["reason"] == reason).collect())
    }

    fn wait_event(&self, namespace: &str, reason: &str) -> Result<Value> {
        wait::until(&format!("an event {reason}"), A_WHILE, || {
            Ok(self.events(namespace, reason)?.into_iter().next())
        })
    }

    /// What the statuses of the cluster say.
    fn statuses(&self) -> Result<Vec<Value>> {
        let path = format!("/apis/metallb.io/v1beta1/namespaces/{NAMESPACE}/servicel2statuses");
        Ok(self.list(&path)?.into_iter().map(|object| object["status"].clone()).collect())
    }

    fn wait_statuses(&self, expected: &[Value]) -> Result<()> {
        wait::until(&format!("statuses {expected:?}"), A_WHILE, || {
            Ok((self.statuses()? == expected).then_some(()))
        })
        .with_context(|| format!("there are {:?}", self.statuses()))
    }

    fn metrics(&self, node: &Node) -> Result<String> {
        let (status, page) = scrape(node, Some(ADMIN_TOKEN))?;
        ensure!(status == "200", "{status}: {page}");
        Ok(page)
    }

    fn explain(&self, arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
        let node = &self.cluster.nodes()[0];
        let command = [&[self.program.as_str(), "explain", "--kubeconfig", self.kubeconfig(node)], arguments];
        let output = node.machine().output(&command.concat())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
    }
}

/// What `/metrics` of a node's agent says to this token: status and text.
pub(crate) fn scrape(node: &Node, token: Option<&str>) -> Result<(String, String)> {
    let header = format!("Authorization: Bearer {}", token.unwrap_or_default());
    let mut asked = vec!["curl", "-sSk", "--max-time", "2", "-w", "%{http_code}"];
    if token.is_some() {
        asked.extend(["-H", &header]);
    }
    asked.push("https://127.0.0.1:9474/metrics");
    with_status(node.exec(&asked)?)
}

/// What curl printed with its `%{http_code}` behind it.
fn with_status(said: String) -> Result<(String, String)> {
    let (words, status) = said.split_at_checked(said.len().saturating_sub(3)).context("a status")?;
    Ok((status.to_owned(), words.to_owned()))
}

fn status_of(node: &str, interfaces: &[&str]) -> Value {
    let interfaces: Vec<Value> = interfaces.iter().map(|name| json!({"name": name})).collect();
    json!({"node": node, "serviceName": "web", "serviceNamespace": "default", "interfaces": interfaces})
}

#[test]
fn an_invalid_object_is_named_in_a_log_line_an_event_on_it_and_a_metric_and_changes_nothing() -> Result<()> {
    let lab = start(2, BARE_ADVERTISEMENT_YAML)?;
    let owner = lab.owner()?;
    let judge = lab.cluster.judge(&[FIRST_VIP])?;
    judge.wait_answer(FIRST_VIP, A_WHILE)?;
    lab.cluster.apply_yaml(BAD_POOL_YAML)?;

    let event = lab.wait_event(NAMESPACE, "invalidConfiguration")?;
    assert_eq!(event["regarding"]["kind"], "IPAddressPool");
    assert_eq!(event["regarding"]["name"], "primary");
    assert_eq!(event["type"], "Warning");
    let note = event["note"].as_str().context("a note")?;
    assert!(note.contains("10.4.11.0/33") && note.contains("last good configuration"), "{note}");
    for node in lab.cluster.nodes() {
        let lines = lab.log(node)?.matches("invalid object, the last good configuration stays").count();
        assert_eq!(lines, 1, "{} says so once", node.name());
    }
    let series = r#"announcer_invalid_object{kind="IPAddressPool",namespace="metallb",name="primary"} 1"#;
    // The page is rendered once a second at most.
    wait::until("the metric", A_WHILE, || Ok(lab.metrics(owner)?.contains(series).then_some(())))?;
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(lab.events(NAMESPACE, "invalidConfiguration")?.len(), 1, "one node speaks for all");

    lab.cluster.apply_yaml(POOL_YAML)?;
    wait::until("the metric's end", A_WHILE, || Ok((!lab.metrics(owner)?.contains(series)).then_some(())))?;

    // An advertisement is no different.
    lab.cluster.apply_yaml(BAD_ADVERTISEMENT_YAML)?;
    let of_ads = || -> Result<Option<Value>> {
        let events = lab.events(NAMESPACE, "invalidConfiguration")?;
        Ok(events.into_iter().find(|event| event["regarding"]["kind"] == "L2Advertisement"))
    };
    let event = wait::until("an event on the advertisement", A_WHILE, of_ads)?;
    assert_eq!((&event["regarding"]["name"], &event["type"]), (&json!("primary"), &json!("Warning")));
    let note = event["note"].as_str().context("a note")?;
    assert!(note.contains("Near") && note.contains("last good configuration"), "{note}");
    let series = r#"announcer_invalid_object{kind="L2Advertisement",namespace="metallb",name="primary"} 1"#;
    wait::until("the metric", A_WHILE, || Ok(lab.metrics(owner)?.contains(series).then_some(())))?;
    lab.advertise(&json!({"nodeSelectors": null}))?;
    wait::until("the metric's end", A_WHILE, || Ok((!lab.metrics(owner)?.contains(series)).then_some(())))?;
    let verdict = judge.finish()?;
    super::assert_one_owner_at_a_time(&verdict, FIRST_VIP, &[owner.mac()]);
    super::assert_no_answer_lost(&verdict);
    Ok(())
}

#[test]
fn the_status_of_a_service_follows_its_owner_and_goes_with_the_service() -> Result<()> {
    let lab = start(3, ADVERTISEMENT_YAML)?;
    let first = lab.owner()?.name().to_owned();
    lab.wait_statuses(&[status_of(&first, &["eth0"])])?;
    let event = lab.wait_event("default", "nodeAssigned")?;
    assert_eq!(event["regarding"]["name"], "web");
    assert_eq!(event["note"], format!("announcing from node \"{first}\" with protocol \"layer2\""));

    // Handed over, as a drain begins.
    lab.cluster.kubectl(&["cordon", &first])?;
    let second = lab.cluster.wait_owner(FIRST_VIP, Some(&first), A_WHILE)?;
    lab.wait_statuses(&[status_of(&second, &["eth0"])])?;

    // Left behind by a node that is dead.
    lab.kill_agent(lab.cluster.node(&second)?)?;
    let third = lab.cluster.wait_owner(FIRST_VIP, Some(&second), A_WHILE)?;
    lab.wait_statuses(&[status_of(&third, &["eth0"])])?;
    wait::until("three nodeAssigned events, one for each move", A_WHILE, || {
        Ok((lab.events("default", "nodeAssigned")?.len() == 3).then_some(()))
    })?;

    lab.cluster.kubectl(&["delete", "service", "web"])?;
    lab.wait_statuses(&[])
}

#[test]
fn a_service_with_two_addresses_has_a_status_by_each_of_their_owners() -> Result<()> {
    let lab = start(3, ADVERTISEMENT_YAML)?;
    let first = lab.owner()?.name().to_owned();
    let other: IpAddr = "10.4.11.2".parse()?;
    lab.cluster.set_ingress("default", "web", &[FIRST_VIP, other])?;
    let second = lab.cluster.wait_owner(other, None, A_WHILE)?;
    let owners = |other: &str| BTreeSet::from([first.clone(), other.to_owned()]);
    assert_eq!(owners(&second).len(), 2, "the addresses are spread");
    let path = format!("/apis/metallb.io/v1beta1/namespaces/{NAMESPACE}/servicel2statuses");
    let statuses = || -> Result<BTreeMap<String, String>> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let objects = lab.list(&path)?.into_iter();
        Ok(objects
            .map(|object| (text(&object["status"]["node"]), text(&object["metadata"]["uid"])))
            .collect())
    };
    let by = |expected: BTreeSet<String>| {
        wait::until(&format!("statuses by {expected:?}"), A_WHILE, || {
            Ok(Some(statuses()?).filter(|all| all.keys().cloned().collect::<BTreeSet<_>>() == expected))
        })
    };
    let before = by(owners(&second))?;

    // The first one's own lot does not change.
    lab.kill_agent(lab.cluster.node(&second)?)?;
    let third = lab.cluster.wait_owner(other, Some(&second), A_WHILE)?;
    assert_ne!(third, first, "it has one already");
    let after = by(owners(&third))?;
    assert_eq!(before[&first], after[&first], "never deleted");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(statuses()?, after);
    Ok(())
}

#[test]
fn a_change_that_moves_nothing_is_no_log_line_no_event_and_no_write_of_a_status() -> Result<()> {
    let lab = start(2, ADVERTISEMENT_YAML)?;
    let owner = lab.owner()?.name().to_owned();
    lab.wait_statuses(&[status_of(&owner, &["eth0"])])?;
    lab.wait_event("default", "nodeAssigned")?;
    // The last announcement of the five leaves 4.4 s after the first.
    std::thread::sleep(Duration::from_secs(6));
    let logs = || lab.cluster.nodes().iter().map(|node| lab.log(node)).collect::<Result<String>>();
    let versions = || -> Result<Vec<Value>> {
        let statuses = format!("/apis/metallb.io/v1beta1/namespaces/{NAMESPACE}/servicel2statuses");
        let events = "/apis/events.k8s.io/v1/namespaces/default/events";
        let all = [lab.list(&statuses)?, lab.list(events)?].concat();
        Ok(all.into_iter().map(|object| object["metadata"]["resourceVersion"].clone()).collect())
    };
    let before = (logs()?, versions()?);
    for n in 0..5 {
        let note = format!("note={n}");
        lab.cluster.kubectl(&["label", "--overwrite", "service", "web", &note])?;
        lab.cluster.kubectl(&["label", "--overwrite", "node", &owner, &note])?;
        let slice = ["-n", "default", "label", "--overwrite", "endpointslice", "web-1", &note];
        lab.cluster.kubectl(&slice)?;
    }
    std::thread::sleep(Duration::from_secs(3));
    let after = (logs()?, versions()?);
    assert_eq!(after.0.strip_prefix(&before.0).unwrap_or(&after.0), "");
    assert_eq!(after.1, before.1);
    Ok(())
}

#[test]
fn interfaces_that_no_node_has_are_an_event_on_the_service_and_nobody_answers() -> Result<()> {
    let lab = start(2, &ADVERTISEMENT_YAML.replace("eth0", "eth9"))?;
    let event = lab.wait_event("default", "announceFailed")?;
    assert_eq!(event["type"], "Warning");
    let note = event["note"].as_str().context("a note")?;
    assert!(note.starts_with("the interfaces specified by LB IP \"10.4.11.1\" doesn't exist in"), "{note}");
    assert_eq!(lab.events("default", "announceFailed")?.len(), 1, "one node speaks for all");
    assert_eq!(lab.cluster.owner(FIRST_VIP)?, None);
    let (status, story, _) = lab.explain(&["10.4.11.1"])?;
    println!("{story}");
    assert_eq!(status, Some(0));
    assert!(story.contains("is not announced: none of the nodes that may announce it is able to"), "{story}");
    assert!(story.contains("advertised on eth9"), "{story}");
    Ok(())
}

#[test]
fn an_address_that_is_held_but_not_answered_is_a_log_line_an_event_and_a_metric() -> Result<()> {
    let lab = start(1, BARE_ADVERTISEMENT_YAML)?;
    let owner = lab.owner()?;
    let judge = lab.cluster.judge(&[FIRST_VIP])?;
    judge.wait_answer(FIRST_VIP, A_WHILE)?;
    // Somebody takes the entry out of the kernel's map, behind the agent's back.
    let map = format!("{}/vips4", product::PINS);
    let dump: Value = serde_json::from_str(&owner.exec(&["bpftool", "-j", "map", "dump", "pinned", &map])?)?;
    let bytes = |field: &str| -> Result<Vec<&str>> {
        Ok(dump[0][field].as_array().context("bytes")?.iter().filter_map(Value::as_str).collect())
    };
    let (key, value) = (bytes("key")?, bytes("value")?);
    owner.exec(&[&["bpftool", "map", "delete", "pinned", &map, "key"][..], &key].concat())?;

    let event = lab.wait_event("default", "heldButNotAnswered")?;
    assert_eq!((&event["type"], &event["regarding"]["name"]), (&json!("Warning"), &json!("web")));
    let line = "\"msg\":\"held but not answered\",\"ip\":\"10.4.11.1\"";
    let log = lab.log(owner)?;
    let said: Vec<&str> = log.lines().filter(|told| told.contains(line)).collect();
    assert!(said.len() == 1 && said[0].contains("\"service\":\"default/web\""), "{said:?}");
    wait_unanswered(&lab, owner, 1)?;
    let (status, words) = readiness(owner)?;
    assert_eq!((status.as_str(), words.as_str()), ("503", "held but not answered: 10.4.11.1\n"));

    // And puts it there again.
    let update =
        [&["bpftool", "map", "update", "pinned", &map, "key"][..], &key, &["value"], &value].concat();
    owner.exec(&update)?;
    lab.wait_log(owner, "\"msg\":\"answered again\",\"ip\":\"10.4.11.1\"", 1, A_WHILE)?;
    wait_unanswered(&lab, owner, 0)?;
    assert_eq!(readiness(owner)?, ("200".to_owned(), "ok\n".to_owned()));
    Ok(())
}

/// Waits until the agent's own metric says so.
fn wait_unanswered(lab: &Lab, node: &Node, number: u32) -> Result<()> {
    let series = format!("announcer_unanswered_vips {number}.0");
    wait::until(&series, A_WHILE, || {
        let metrics = lab.metrics(node)?;
        Ok(metrics.lines().any(|line| line == series).then_some(()))
    })
}

/// What the agent tells the kubelet: status and words.
fn readiness(node: &Node) -> Result<(String, String)> {
    let url = "http://127.0.0.1:9475/readyz";
    with_status(node.exec(&["curl", "-s", "--max-time", "2", "-w", "%{http_code}", url])?)
}

/// What an agent keeps beside its loop, with `--kernel-log`.
const TASKS: [&str; 10] = [
    "probes",
    "metrics",
    "links",
    "detector",
    "segments",
    "kernel-log",
    "multicast-groups",
    "cluster-watch",
    "events",
    "l2-status",
];

#[test]
fn each_task_beside_the_loop_that_is_killed_is_named_counted_and_started_again_and_metrics_are_for_readers()
-> Result<()> {
    let mut lab = Lab::installed(1, BARE_ADVERTISEMENT_YAML, Cluster::install_metallb_crds)?;
    lab.cluster.apply_yaml(POOL6_YAML)?;
    lab.set_flags(&["--fail-task", &TASKS.join(","), "--kernel-log", "debug"]);
    lab.start_agents()?;
    let node = &lab.cluster.nodes()[0];
    let ready =
        || wait::until("an agent that is ready", A_WHILE, || Ok((readiness(node)?.0 == "200").then_some(())));
    ready()?;
    only_readers_see_metrics(&lab, node)?;

    for (number, task) in TASKS.iter().enumerate() {
        lab.signal(node, Signal::USR2)?;
        let line =
            format!("\"msg\":\"A task beside the loop ended; it is started again\",\"task\":\"{task}\"");
        lab.wait_log(node, &line, 1, A_WHILE)?;
        if *task != "probes" {
            let words = format!("ended and being started again: {task}\n");
            assert_eq!(readiness(node)?, ("503".to_owned(), words));
        }
        lab.wait_log(node, "\"msg\":\"A task beside the loop runs again\"", number + 1, A_WHILE)?;
        ready()?;
    }
    for task in TASKS {
        let series = format!("announcer_task_restarts_total{{task=\"{task}\"}} 1");
        let metrics = lab.metrics(node)?;
        assert!(metrics.lines().any(|line| line == series), "{series} in\n{metrics}");
    }

    // What each of them feeds works again.
    node.exec(&["ip", "link", "add", "eth7", "type", "veth", "peer", "name", "far7"])?;
    node.exec(&["ip", "link", "set", "eth7", "up"])?;
    node.exec(&["ip", "addr", "add", "10.7.0.1/24", "dev", "eth7"])?;
    lab.wait_log(node, "eth7", 1, A_WHILE)?;
    let six = "fd00:4::1:7".parse()?;
    lab.serve("web", FIRST_VIP, json!({}))?;
    lab.serve("six", six, json!({}))?;
    lab.wait_event("default", "nodeAssigned")?;
    wait::until("two statuses", A_WHILE, || Ok((lab.statuses()?.len() == 2).then_some(())))?;
    let group = || {
        Ok(node.exec(&["ip", "-6", "maddr", "show", "dev", "eth0"])?.contains("ff02::1:ff01:7").then_some(()))
    };
    wait::until("the solicited-node group", A_WHILE, group)?;
    lab.cluster.judge(&[FIRST_VIP])?.wait_answer(FIRST_VIP, A_WHILE)?;
    lab.wait_log(node, "\"msg\":\"kernel: answered\",\"ip\":\"10.4.11.1\"", 1, A_WHILE)
}

/// Anonymous: 401; a token without the right: 403; with it: 200, also while 200 clients hold connections open.
fn only_readers_see_metrics(lab: &Lab, node: &Node) -> Result<()> {
    let (status, words) = scrape(node, None)?;
    assert_eq!((status.as_str(), words.as_str()), ("401", "a bearer token is needed\n"));
    let (status, words) = scrape(node, Some("made-up"))?;
    assert_eq!((status.as_str(), words.as_str()), ("401", "the API server does not know this token\n"));
    let plain = ["curl", "-s", "--max-time", "2", "-w", "%{http_code}", "http://127.0.0.1:9474/metrics"];
    let (status, words) = with_status(node.exec(&plain)?)?;
    assert_eq!((status.as_str(), words.as_str()), ("400", "this port speaks HTTPS: ask https://\n"));

    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "prometheus"}});
    lab.cluster.api("POST", "/api/v1/namespaces/default/serviceaccounts", Some(&account))?;
    let token = || -> Result<String> {
        let asked = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
        let path = "/api/v1/namespaces/default/serviceaccounts/prometheus/token";
        let made = lab.cluster.api("POST", path, Some(&asked))?;
        Ok(made["status"]["token"].as_str().context("a token")?.to_owned())
    };
    let (status, words) = scrape(node, Some(&token()?))?;
    assert_eq!(status, "403");
    assert!(
        words.starts_with("system:serviceaccount:default:prometheus may not get /metrics: bind"),
        "{words}"
    );

    lab.cluster.apply_yaml(SCRAPER_YAML)?;
    let crowd = "for i in $(seq 200); do (while :; do exec 3<>/dev/tcp/127.0.0.1/9474 4<>/dev/tcp/127.0.0.1/9475 && \
                 read -t 5 -u 3; done) & done; wait";
    let mut crowd = node.spawn("crowd", &["timeout", "20", "bash", "-c", crowd])?;
    // Another token, for the word on the first one holds for a minute.
    let token = token()?;
    for _ in 0..5 {
        let (status, page) = scrape(node, Some(&token))?;
        assert_eq!(status, "200", "{page}");
        assert!(page.contains("\nannouncer_owned_vips 0.0\n"), "{page}");
        assert_eq!(readiness(node)?.0, "200");
    }
    crowd.kill()
}

const POOL6_YAML: &str = "
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: six, namespace: metallb}
spec: {addresses: ['fd00:4::1:0/120']}
";

const SCRAPER_YAML: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: prometheus-reads-announcer}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: announcer-metrics-reader}
subjects: [{kind: ServiceAccount, name: prometheus, namespace: default}]
";

#[test]
fn explain_tells_the_owner_from_the_api_alone_and_refuses_in_one_line() -> Result<()> {
    let lab = start(3, BARE_ADVERTISEMENT_YAML)?;
    let owner = lab.owner()?.name().to_owned();
    let told = || -> Result<Option<String>> {
        let (status, story, _) = lab.explain(&["10.4.11.1"])?;
        ensure!(status == Some(0), "{story}");
        Ok(story.contains("could, 2.").then_some(story))
    };
    let story = wait::until("a story with two successors", A_WHILE, told)?;
    println!("{story}");
    assert!(story.starts_with(&format!("10.4.11.1 is announced by {owner}, since ")), "{story}");
    assert!(story.lines().all(|line| line.chars().count() <= 100), "{story}");
    let (_, object, _) = lab.explain(&["10.4.11.1", "-o", "json"])?;
    let object: Value = serde_json::from_str(&object)?;
    assert_eq!(object["owner"]["node"], *owner);
    assert_eq!(object["nodes"].as_array().map(Vec::len), Some(3));

    let (_, story, _) = lab.explain(&["10.4.11.77"])?;
    assert!(story.starts_with("10.4.11.77 is not announced: no Service of type LoadBalancer"), "{story}");
    for (arguments, expected, words) in [
        (&["10.4.11.1", "--namespace", "other"][..], 1, "cannot list IPAddressPools: "),
        (&["10.4.11"], 2, "invalid IP address"),
        (&[], 2, "<VIP>"),
    ] {
        let (status, _, complaint) = lab.explain(arguments)?;
        assert_eq!(status, Some(expected), "{arguments:?}: {complaint}");
        assert!(complaint.contains(words) && complaint.lines().count() == 1, "{arguments:?}: {complaint}");
    }
    Ok(())
}

#[test]
fn our_own_definitions_serve_as_well_as_metallbs() -> Result<()> {
    let printed = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--locked", "--package", "announcer", "--example", "crds"])
        .output()?;
    ensure!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    let yaml = String::from_utf8(printed.stdout)?;
    let lab = start_with(1, ADVERTISEMENT_YAML, |cluster| {
        let file = cluster.dir().join("crds.yaml");
        std::fs::write(&file, &yaml)?;
        cluster.install_crds(&file)
    })?;
    let owner = lab.owner()?.name().to_owned();
    lab.wait_statuses(&[status_of(&owner, &["eth0"])])?;
    let stored = lab.cluster.kubectl(&["-n", NAMESPACE, "get", "l2advertisement,servicel2status"])?;
    println!("{stored}");
    // The bare advertisement, and one with everything, are stored as they were written.
    lab.cluster.apply_yaml(&BARE_ADVERTISEMENT_YAML.replace("primary", "bare"))?;
    let path = format!("/apis/metallb.io/v1beta1/namespaces/{NAMESPACE}/l2advertisements/bare");
    assert_eq!(lab.cluster.api("GET", &path, None)?["spec"], Value::Null);
    Ok(())
}

#[test]
fn without_the_status_kind_the_agents_announce_all_the_same_and_say_so_once() -> Result<()> {
    let lab = start_with(1, BARE_ADVERTISEMENT_YAML, |cluster| {
        cluster.install_metallb_crds()?;
        cluster.kubectl(&["delete", "crd", "servicel2statuses.metallb.io"]).map(drop)
    })?;
    lab.owner()?;
    let (node, words) = (&lab.cluster.nodes()[0], "ServiceL2Status is not written");
    lab.wait_log(node, words, 1, A_WHILE)?;
    std::thread::sleep(Duration::from_secs(8));
    assert_eq!(lab.log(node)?.matches(words).count(), 1);
    Ok(())
}

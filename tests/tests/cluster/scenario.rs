//! The user's account of their cluster, step by step: `scenario/fixing-metallb.md`.

use std::time::Duration;

use announcer_tests::{
    Cluster, Mode, Node,
    product::{
        self, ADVERTISEMENT_YAML, BARE_ADVERTISEMENT_YAML, BGP_YAML, DAEMON_SET, FIRST_VIP, NAMESPACE, PINS,
        POOL_YAML,
    },
    wait, web,
};
use anyhow::{Context as _, Result, ensure};

use super::{assert_no_answer_lost, assert_one_owner_at_a_time};

/// D + a turn among observers + rank + probes on two busy cores.
const FAILOVER: Duration = Duration::from_secs(25);

#[test]
fn the_users_cluster_moves_from_bgp_to_layer_2_and_survives_what_happens_to_it() -> Result<()> {
    let cluster = Cluster::builder().nodes(4).mode(Mode::Native).image(product::image()?).start()?;
    cluster.install_metallb_crds()?;
    cluster.install_announcer("overlays/lab")?;
    cluster.apply_yaml(POOL_YAML)?;
    cluster.apply_yaml(BGP_YAML)?;
    cluster.apply_yaml(&web::manifest("httpbin", 3))?;
    cluster.wait_for(&["--for=condition=Available", "deployment/httpbin"], Duration::from_secs(30))?;
    let _allocator = cluster.allocator()?;

    an_address_that_bgp_announces_is_left_alone(&cluster)?;
    it_moves_to_the_l2_advertisement_and_keeps_its_address(&cluster)?;
    the_users_commands_work(&cluster)?;
    bpftool_shows_the_owner_map_in_words(&cluster)?;
    a_rolling_restart_loses_no_answer(&cluster)?;
    an_agent_killed_and_started_again_loses_no_answer(&cluster)?;
    a_drained_node_hands_over(&cluster)?;
    a_dead_node_is_replaced_and_curl_works_again(&cluster)
}

fn owner(cluster: &Cluster) -> Result<&Node> {
    cluster.node(&cluster.wait_owner(FIRST_VIP, None, Duration::from_secs(15))?)
}

fn an_address_that_bgp_announces_is_left_alone(cluster: &Cluster) -> Result<()> {
    wait::until("the address of httpbin", Duration::from_secs(10), || {
        let ip = cluster.kubectl(&[
            "get",
            "svc",
            "httpbin",
            "-o",
            "jsonpath={.status.loadBalancer.ingress[0].ip}",
        ])?;
        Ok((ip == FIRST_VIP.to_string()).then_some(()))
    })?;
    let judge = cluster.judge(&[FIRST_VIP])?;
    let asked_enough = || Ok((judge.so_far().asked.get(&FIRST_VIP).copied().unwrap_or(0) > 50).then_some(()));
    wait::until("fifty questions", Duration::from_secs(10), asked_enough)?;
    let verdict = judge.finish()?;
    assert_eq!(verdict.answered(FIRST_VIP).count(), 0, "{}", verdict.summary());
    Ok(())
}

fn it_moves_to_the_l2_advertisement_and_keeps_its_address(cluster: &Cluster) -> Result<()> {
    let deleted = cluster.kubectl(&["-n", NAMESPACE, "delete", "BGPAdvertisement", "primary"])?;
    assert_eq!(deleted.trim(), "bgpadvertisement.metallb.io \"primary\" deleted from metallb namespace");
    let created = cluster.apply_yaml(BARE_ADVERTISEMENT_YAML)?;
    assert_eq!(created.trim(), "l2advertisement.metallb.io/primary created");
    cluster.wait_curl(cluster.client(), FIRST_VIP, Duration::from_secs(15))?;
    let before = owner(cluster)?.name().to_owned();
    // The form in full says the same for this cluster: nothing moves.
    let judge = cluster.judge(&[FIRST_VIP])?;
    cluster.apply_yaml(ADVERTISEMENT_YAML)?;
    cluster.wait_curl(cluster.outside(), FIRST_VIP, Duration::from_secs(10)).context("beyond the router")?;
    let verdict = judge.finish()?;
    assert_one_owner_at_a_time(&verdict, FIRST_VIP, &[cluster.node(&before)?.mac()]);
    assert_eq!(owner(cluster)?.name(), before);
    Ok(())
}

fn the_users_commands_work(cluster: &Cluster) -> Result<()> {
    let owner = owner(cluster)?;
    let arping = cluster.client().run(&["arping", "-c", "3", "-I", "eth0", "10.4.11.1"])?;
    assert!(arping.contains("Received 3 response(s)"), "{arping}");
    let neighbours = cluster.client().run(&["ip", "neigh", "show", "10.4.11.1"])?;
    let mac = announcer_tests::addresses::format_mac(owner.mac());
    assert!(neighbours.contains(&mac), "{neighbours} names {mac}");
    let route = cluster.router().shell("ip route show | grep 10.4.11.0/24")?;
    assert!(!route.is_empty());

    // kubectl logs -n metallb logs -l component=speaker shows the last ten lines of each pod.
    let recent = cluster.speaker_logs(&[])?;
    for word in ["announcing", "leader", "gratuitous ARP"] {
        assert!(recent.lines().any(|line| line.contains(word)), "no `{word}` in\n{recent}");
    }
    for line in cluster.speaker_logs(&["--tail=50"])?.lines() {
        let json: serde_json::Value =
            serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
        for key in ["level", "ts", "msg"] {
            ensure!(json[key].is_string(), "no `{key}` in {line}");
        }
        ensure!(json["level"].as_str().is_some_and(|level| level == level.to_lowercase()), "{line}");
    }
    let announcing: serde_json::Value = recent
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find(|line| line["msg"] == "announcing" && line["ip"] == "10.4.11.1")
        .context("a line with msg=announcing and ip=10.4.11.1")?;
    assert_eq!(announcing["node"], owner.name());
    Ok(())
}

fn bpftool_shows_the_owner_map_in_words(cluster: &Cluster) -> Result<()> {
    for node in cluster.nodes() {
        let dump = node.exec(&["bpftool", "map", "dump", "pinned", &format!("{PINS}/vips4")])?;
        let role = if node.name() == owner(cluster)?.name() { "Owned" } else { "Elsewhere" };
        assert!(dump.contains(role), "{}: {dump}", node.name());
    }
    Ok(())
}

fn a_rolling_restart_loses_no_answer(cluster: &Cluster) -> Result<()> {
    let mac = owner(cluster)?.mac();
    let judge = cluster.judge(&[FIRST_VIP])?;
    cluster.kubectl(&["-n", NAMESPACE, "rollout", "restart", DAEMON_SET])?;
    cluster.wait_rollout(NAMESPACE, DAEMON_SET, Duration::from_secs(90))?;
    let verdict = judge.finish()?;
    assert_one_owner_at_a_time(&verdict, FIRST_VIP, &[mac]);
    assert_no_answer_lost(&verdict);
    println!("rolling restart: {}", verdict.summary());
    Ok(())
}

fn an_agent_killed_and_started_again_loses_no_answer(cluster: &Cluster) -> Result<()> {
    let owner = owner(cluster)?;
    let restarts = || {
        let field = format!(
            "jsonpath={{.items[?(@.spec.nodeName==\"{}\")].status.containerStatuses[0].restartCount}}",
            owner.name()
        );
        cluster.kubectl(&["-n", NAMESPACE, "get", "pods", "-l", "component=speaker", "-o", &field])
    };
    let before = restarts()?;
    let judge = cluster.judge(&[FIRST_VIP])?;
    owner.exec(&["pkill", "-KILL", "-x", "announcer"])?;
    wait::until(
        "the agent's restart",
        Duration::from_secs(30),
        || Ok((restarts()? != before).then_some(())),
    )?;
    cluster.wait_rollout(NAMESPACE, DAEMON_SET, Duration::from_secs(60))?;
    let verdict = judge.finish()?;
    assert_one_owner_at_a_time(&verdict, FIRST_VIP, &[owner.mac()]);
    assert_no_answer_lost(&verdict);
    println!("kill -9 of the agent: {}", verdict.summary());
    Ok(())
}

fn a_drained_node_hands_over(cluster: &Cluster) -> Result<()> {
    let old = owner(cluster)?;
    let judge = cluster.judge(&[FIRST_VIP])?;
    cluster.kubectl(&["drain", old.name(), "--ignore-daemonsets", "--force", "--delete-emptydir-data"])?;
    let new = cluster.node(&cluster.wait_owner(FIRST_VIP, Some(old.name()), Duration::from_secs(15))?)?;
    cluster.wait_curl(cluster.client(), FIRST_VIP, Duration::from_secs(15))?;
    let verdict = judge.finish()?;
    assert_one_owner_at_a_time(&verdict, FIRST_VIP, &[old.mac(), new.mac()]);
    let silence = verdict.longest_silence(FIRST_VIP);
    assert!(silence < Duration::from_secs(1), "{}", verdict.summary());
    assert!(
        verdict.announcements.iter().any(|a| a.mac == new.mac()),
        "no gratuitous ARP from {}",
        new.name()
    );
    println!("drain: {}", verdict.summary());
    cluster.kubectl(&["uncordon", old.name()])?;
    Ok(())
}

fn a_dead_node_is_replaced_and_curl_works_again(cluster: &Cluster) -> Result<()> {
    let old = owner(cluster)?;
    let judge = cluster.judge(&[FIRST_VIP])?;
    old.crash()?;
    let new = cluster.node(&cluster.wait_owner(FIRST_VIP, Some(old.name()), FAILOVER)?)?;
    // A pod on the dead node keeps its place behind the Service until the node is NotReady: some curls fail.
    cluster.wait_curl(cluster.client(), FIRST_VIP, Duration::from_secs(60))?;
    let verdict = judge.finish()?;
    assert_one_owner_at_a_time(&verdict, FIRST_VIP, &[old.mac(), new.mac()]);
    println!("dead node: {}", verdict.summary());
    let logs = cluster.speaker_logs(&["--tail=50"]);
    // kubectl cannot reach the dead node's kubelet, and says so after the others' lines.
    let output = match logs {
        Ok(logs) => logs,
        Err(_) => cluster.kubectl(&["-n", NAMESPACE, "logs", "--tail=50", &pod_on(cluster, new.name())?])?,
    };
    assert!(output.contains("failover"), "no `failover` in\n{output}");
    Ok(())
}

fn pod_on(cluster: &Cluster, node: &str) -> Result<String> {
    let selector = format!("spec.nodeName={node}");
    let jsonpath = "jsonpath={.items[0].metadata.name}";
    cluster.kubectl(&[
        "-n",
        NAMESPACE,
        "get",
        "pods",
        "-l",
        "component=speaker",
        "--field-selector",
        &selector,
        "-o",
        jsonpath,
    ])
}

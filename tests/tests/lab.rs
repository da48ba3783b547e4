//! The lab itself: what it promises to those who test on it.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use announcer_tests::{Cluster, Mode, state, wait};
use anyhow::{Context as _, Result, bail, ensure};

const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 4, 11, 1));
const VIP6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 4, 0, 0, 0, 0, 0xb, 1));
const SOON: Duration = Duration::from_secs(30);

#[test]
fn two_nodes_serve_a_load_balancer_to_clients_on_and_beyond_the_lan() -> Result<()> {
    let cluster = Cluster::builder().nodes(2).mode(Mode::Native).start()?;
    cluster.apply_yaml(&announcer_tests::web::manifest("web", 2))?;
    cluster.wait_rollout("default", "deployment/web", SOON)?;
    let assigned = cluster.assign_addresses()?;
    ensure!(assigned.len() == 1 && assigned[0].service == "default/web", "{assigned:?}");

    // No agent answers for the VIP here: an address on one node's link does.
    let bettley = cluster.node("bettley")?;
    bettley.exec(&["ip", "address", "add", "10.4.11.1/32", "dev", "eth0"])?;
    bettley.exec(&["ip", "-6", "address", "add", "fd00:4::b:1/128", "dev", "eth0", "nodad"])?;
    for (host, url) in [
        (cluster.client(), "http://10.4.11.1/"),
        (cluster.outside(), "http://10.4.11.1/"),
        (cluster.client(), "http://[fd00:4::b:1]/"),
    ] {
        let text = wait::until(url, SOON, || cluster.curl(host, url).map(Some))
            .with_context(|| format!("from {}", host.name()))?;
        ensure!(text.starts_with("pod=web-"), "{url} says {text}");
    }

    let judge = cluster.judge(&[VIP, VIP6])?;
    std::thread::sleep(Duration::from_millis(300));
    bettley.crash()?;
    let crashed_at = judge.now();
    std::thread::sleep(Duration::from_millis(300));
    let verdict = judge.finish()?;
    for vip in [VIP, VIP6] {
        let owners = verdict.owners(vip);
        ensure!(owners.len() == 1 && owners[0].mac == bettley.mac(), "{}", verdict.summary());
        let last = verdict.answered(vip).last().context("no answer")?.at;
        ensure!(last <= crashed_at, "an answer after the crash at {crashed_at:?}\n{}", verdict.summary());
        ensure!(verdict.longest_silence(vip) >= Duration::from_millis(250), "{}", verdict.summary());
    }

    bettley.rejoin()?;
    cluster.wait_rollout("default", "deployment/web", SOON)?;
    cluster.wait_nodes_ready()
}

#[test]
fn bare_clusters_stand_side_by_side_and_nodes_can_be_cut_off() -> Result<()> {
    let first = Cluster::builder().nodes(2).api_only().start()?;
    let second = Cluster::builder().nodes(3).api_only().start()?;
    let count = |cluster: &Cluster| -> Result<usize> {
        Ok(cluster.kubectl(&["get", "nodes", "--no-headers"])?.lines().count())
    };
    ensure!((count(&first)?, count(&second)?) == (2, 3));

    let node = first.node("bettley")?;
    let machine_id = node.exec(&["cat", "/etc/machine-id"])?;
    ensure!(machine_id != first.node("cargyll")?.exec(&["cat", "/etc/machine-id"])?);
    let boot_id = node.boot_id()?;
    ensure!(node.exec(&["cat", "/run/announcer-lab-node/boot-id"])?.trim() == boot_id);
    let carrier = || node.exec(&["cat", "/sys/class/net/eth0/carrier"]);
    ensure!(carrier()?.trim() == "1");
    node.port_down()?;
    wait::until("the carrier's loss", SOON, || Ok((carrier()?.trim() == "0").then_some(())))?;
    node.port_up()?;
    wait::until("the carrier", SOON, || Ok((carrier()?.trim() == "1").then_some(())))?;

    let readyz = || node.output(&["curl", "-sk", "--max-time", "1", "https://10.4.0.2:6443/readyz"]);
    ensure!(readyz()?.stdout == b"ok");
    node.cut_off_api()?;
    ensure!(readyz()?.stdout.is_empty());
    node.reconnect_api()?;
    ensure!(readyz()?.stdout == b"ok");

    let mut sleeper = node.spawn("sleeper", &["sleep", "600"])?;
    ensure!(sleeper.is_running());
    sleeper.kill()?;
    ensure!(!sleeper.is_running());

    node.crash()?;
    ensure!(node.exec(&["true"]).is_err());
    node.rejoin()?;
    ensure!(node.boot_id()? != boot_id);
    ensure!(node.exec(&["cat", "/etc/machine-id"])? == machine_id, "another machine came back");
    ensure!(second.node("bettley")?.exec(&["true"]).is_ok(), "the other cluster felt it");
    Ok(())
}

/// Run by the next test in a process of its own, which is then killed.
#[test]
#[ignore = "a part of the next test"]
fn stand_until_killed() -> Result<()> {
    let Ok(name) = std::env::var("LAB_TEST_NAME") else { return Ok(()) };
    let cluster = Cluster::builder().name(&name).nodes(1).start()?;
    cluster.apply_yaml(&announcer_tests::web::manifest("web", 1))?;
    cluster.wait_rollout("default", "deployment/web", SOON)?;
    println!("stands");
    std::thread::sleep(Duration::from_secs(120));
    Ok(())
}

#[test]
fn nothing_is_left_of_a_cluster_whose_owner_is_killed() -> Result<()> {
    let name = format!("killed-{}", std::process::id());
    let mut owner = Command::new(std::env::current_exe()?)
        .args(["--ignored", "--exact", "stand_until_killed", "--nocapture"])
        .env("LAB_TEST_NAME", &name)
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = owner.stdout.take().context("no pipe")?;
    let stands = BufReader::new(stdout).lines().map_while(Result::ok).any(|line| line.ends_with("stands"));
    ensure!(stands, "the cluster did not come up: {:?}", owner.wait()?);
    ensure!(!leftovers(&name)?.is_empty(), "the test sees nothing of a standing cluster");

    owner.kill()?;
    owner.wait()?;
    wait::until("the cluster to vanish", SOON, || {
        let left = leftovers(&name)?;
        if left.is_empty() { Ok(Some(())) } else { bail!("there is {}", left.join(", ")) }
    })
}

/// All that shows that the cluster `name` is or was here.
fn leftovers(name: &str) -> Result<Vec<String>> {
    let mut left = Vec::new();
    let folder = state::directory(name);
    if folder.exists() {
        left.push(folder.display().to_string());
    }
    for top in fs::read_dir("/sys/fs/cgroup")?.flatten() {
        let cgroup = top.path().join("announcer-lab").join(name);
        if cgroup.exists() {
            left.push(cgroup.display().to_string());
        }
    }
    let mounts = fs::read_to_string("/proc/mounts")?;
    left.extend(mounts.lines().filter(|line| line.contains(name)).map(|line| format!("the mount {line}")));
    for process in fs::read_dir("/proc")?.flatten() {
        let Ok(pid) = process.file_name().to_string_lossy().parse::<u32>() else { continue };
        // A container's own command line does not name its cluster, but its cgroup does.
        let cgroup = fs::read_to_string(process.path().join("cgroup")).unwrap_or_default();
        let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if cgroup.contains(name)
            || (command.contains(name) && Path::new("/proc").join(pid.to_string()).exists())
        {
            left.push(format!("process {pid} ({command})"));
        }
    }
    Ok(left)
}

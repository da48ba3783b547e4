//! Agents as plain processes on many nodes, against a real API server: what a DaemonSet cannot be made to do.

use std::{net::IpAddr, time::Duration};

use announcer_tests::{
    Answer, Cluster, Mode, Node, Process,
    product::{self, BARE_ADVERTISEMENT_YAML, FIRST_VIP, NAMESPACE, POOL_YAML},
    wait,
};
use anyhow::{Context as _, Result};
use rustix::process::Signal;

use super::{assert_no_answer_lost, assert_one_owner_at_a_time};

/// One LoadBalancer Service with an endpoint, without pods: nobody runs any here.
const SERVICE_YAML: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: LoadBalancer, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 80}]
endpoints: [{addresses: [10.244.0.9], nodeName: bettley, conditions: {ready: true}}]
";

struct Lab {
    /// Ended before their cluster: fields drop in order.
    agents: Vec<(String, Process)>,
    cluster: Cluster,
    kubeconfig: String,
    program: String,
}

impl Lab {
    fn start(nodes: usize) -> Result<Self> {
        let mut lab = Self::without_agents(nodes)?;
        for index in 0..nodes {
            let agent = lab.agent(&lab.cluster.nodes()[index])?;
            lab.agents.push((lab.cluster.nodes()[index].name().to_owned(), agent));
        }
        Ok(lab)
    }

    fn without_agents(nodes: usize) -> Result<Self> {
        let cluster = Cluster::builder().nodes(nodes).mode(Mode::Tcx).api_only().start()?;
        cluster.install_metallb_crds()?;
        cluster.apply_kustomize(&product::deploy_dir().join("base"))?;
        cluster.apply_yaml(POOL_YAML)?;
        cluster.apply_yaml(BARE_ADVERTISEMENT_YAML)?;
        cluster.apply_yaml(SERVICE_YAML)?;
        cluster.assign_addresses()?;
        let kubeconfig = cluster.kubeconfig_as(&format!("system:serviceaccount:{NAMESPACE}:announcer"))?;
        Ok(Self {
            kubeconfig: kubeconfig.display().to_string(),
            program: product::program()?.display().to_string(),
            cluster,
            agents: Vec::new(),
        })
    }

    fn agent(&self, node: &Node) -> Result<Process> {
        node.spawn(
            "agent",
            &[
                &self.program,
                "agent",
                "--node-name",
                node.name(),
                "--namespace",
                NAMESPACE,
                "--kubeconfig",
                &self.kubeconfig,
                "--boot-id-file",
                Node::BOOT_ID_FILE,
            ],
        )
    }

    fn agent_of(&self, node: &str) -> Result<&Process> {
        self.agents
            .iter()
            .find(|(name, _)| name == node)
            .map(|(_, agent)| agent)
            .context("an agent of that name")
    }

    fn owner(&self) -> Result<&Node> {
        let owner = self.cluster.wait_owner(FIRST_VIP, None, Duration::from_secs(20))?;
        self.cluster.node(&owner)
    }
}

#[test]
fn a_stopped_agents_kernel_falls_silent_at_its_deadline_before_a_successor_answers() -> Result<()> {
    let lab = Lab::start(4)?;
    let old = lab.owner()?;
    let judge = lab.cluster.judge(&[FIRST_VIP])?;
    lab.agent_of(old.name())?.signal(Signal::STOP)?;
    let new = lab.cluster.wait_owner(FIRST_VIP, Some(old.name()), Duration::from_secs(30))?;
    let new = lab.cluster.node(&new)?;
    let answers = || Ok(judge.so_far().owners(FIRST_VIP).last().filter(|a| a.mac == new.mac()).map(|_| ()));
    wait::until("an answer by the successor", Duration::from_secs(5), answers)?;
    // It wakes up and finds itself fenced: it must not answer again.
    lab.agent_of(old.name())?.signal(Signal::CONT)?;
    let fenced = || Ok(lab.agent_of(old.name())?.log().contains("fenced").then_some(()));
    wait::until("the old owner's word that it was fenced", Duration::from_secs(20), fenced)?;
    let verdict = judge.finish()?;
    println!("agent stopped: {}", verdict.summary());
    assert_one_owner_at_a_time(&verdict, FIRST_VIP, &[old.mac(), new.mac()]);
    Ok(())
}

#[test]
fn an_agent_killed_and_started_again_adopts_its_kernel_without_losing_an_answer() -> Result<()> {
    let mut lab = Lab::start(2)?;
    let (name, mac) = (lab.owner()?.name().to_owned(), lab.owner()?.mac());
    let judge = lab.cluster.judge(&[FIRST_VIP])?;
    for _ in 0..3 {
        let index = lab.agents.iter().position(|(node, _)| *node == name).context("the owner's agent")?;
        lab.agents[index].1.kill()?;
        let agent = lab.agent(lab.cluster.node(&name)?)?;
        lab.agents[index].1 = agent;
        let live = || Ok(lab.agents[index].1.log().matches("leader").count().gt(&0).then_some(()));
        wait::until("the agent's session", Duration::from_secs(10), live)?;
    }
    let verdict = judge.finish()?;
    assert_one_owner_at_a_time(&verdict, FIRST_VIP, &[mac]);
    assert_no_answer_lost(&verdict);
    Ok(())
}

#[test]
fn without_an_api_server_the_kernel_falls_silent_and_answers_again_under_the_same_owner() -> Result<()> {
    let lab = Lab::start(2)?;
    let owner = lab.owner()?;
    let judge = lab.cluster.judge(&[FIRST_VIP])?;
    owner.cut_off_api()?;
    let other =
        lab.cluster.nodes().iter().find(|node| node.name() != owner.name()).context("another node")?;
    other.cut_off_api()?;
    let silent = || Ok((judge.so_far().longest_silence(FIRST_VIP) > Duration::from_secs(1)).then_some(()));
    wait::until("silence", Duration::from_secs(25), silent)?;
    owner.reconnect_api()?;
    other.reconnect_api()?;
    let before = judge.so_far().answered(FIRST_VIP).count();
    let again = || Ok((judge.so_far().answered(FIRST_VIP).count() > before).then_some(()));
    wait::until("answers", Duration::from_secs(20), again)?;
    let verdict = judge.finish()?;
    assert_one_owner_at_a_time(&verdict, FIRST_VIP, &[owner.mac()]);
    Ok(())
}

#[test]
fn a_standalone_session_is_not_gone_on_with_by_an_agent() -> Result<()> {
    let lab = Lab::without_agents(1)?;
    let node = &lab.cluster.nodes()[0];
    let other: IpAddr = "10.4.11.99".parse()?;
    let standalone = node.spawn(
        "answer",
        &[&lab.program, "answer", "--interface", "eth0", "--vip", "10.4.11.99", "--lease", "600", "--keep"],
    )?;
    let judge = lab.cluster.judge(&[FIRST_VIP, other])?;
    judge.wait_answer(other, Duration::from_secs(10))?;
    standalone.signal(Signal::KILL)?;
    judge.wait_answer(other, Duration::from_secs(1))?;
    let _agent = lab.agent(node)?;
    judge.wait_answer(FIRST_VIP, Duration::from_secs(20))?;
    let verdict = judge.finish()?;
    let first = verdict.answered(FIRST_VIP).next().context("an answer")?.at;
    let late = verdict.answered(other).filter(|answer| answer.at > first).count();
    assert_eq!(late, 0, "the standalone session's address is answered no more: {}", verdict.summary());
    Ok(())
}

#[test]
fn a_changed_mac_and_a_flap_of_the_link_are_announced_by_the_agent_at_once() -> Result<()> {
    let lab = Lab::start(1)?;
    let node = lab.owner()?;
    let judge = lab.cluster.judge(&[FIRST_VIP])?;
    judge.wait_answer(FIRST_VIP, Duration::from_secs(20))?;
    let new = [2, 0, 0, 0, 0x77, 1];
    let announced = |since: Duration| {
        let by_new = |answer: &&Answer| answer.mac == new && answer.at > since;
        let heard = || Ok(judge.so_far().announcements.iter().find(by_new).map(|_| ()));
        wait::until("an announcement of the new MAC", Duration::from_secs(10), heard)?;
        let answered = || Ok(judge.so_far().answered(FIRST_VIP).any(|answer| by_new(&answer)).then_some(()));
        wait::until("an answer with the new MAC", Duration::from_secs(10), answered)
    };
    let changed = judge.now();
    node.exec(&["ip", "link", "set", "eth0", "address", "02:00:00:00:77:01"])?;
    announced(changed)?;
    let old = judge.so_far().owners(FIRST_VIP).len();
    assert_eq!(old, 2, "from the old MAC to the new one, and no way back");
    node.exec(&["sh", "-c", "ip link set eth0 down && ip link set eth0 up"])?;
    announced(judge.now())
}

#[test]
fn a_bad_command_line_is_one_line_and_the_right_exit_status() -> Result<()> {
    let lab = Lab::without_agents(1)?;
    let node = &lab.cluster.nodes()[0];
    let node = node.machine();
    for (arguments, status, words) in [
        (vec!["agent"], 2, "--node-name"),
        (vec!["agent", "--node-name", "x", "--mode", "fast"], 2, "fast"),
        (vec!["agent", "--node-name", "x", "--kubeconfig", "/nowhere"], 1, "/nowhere"),
        (
            vec!["agent", "--node-name", "x", "--kubeconfig", &lab.kubeconfig, "--pin-root", "/tmp"],
            1,
            "bpffs",
        ),
        (
            vec!["agent", "--node-name", "x", "--kubeconfig", &lab.kubeconfig, "--exclude-interfaces", "("],
            2,
            "exclude",
        ),
    ] {
        let output = node.output(&[&[lab.program.as_str()][..], &arguments].concat())?;
        let text =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {text}");
        assert!(text.contains(words), "{arguments:?}: no `{words}` in {text}");
    }
    Ok(())
}

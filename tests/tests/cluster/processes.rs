//! One agent as a plain process, against a real API server: standalone sessions, links, command lines.

use std::{net::IpAddr, time::Duration};

use announcer_tests::{Answer, product::FIRST_VIP, wait};
use anyhow::{Context as _, Result};
use rustix::process::Signal;

use super::bare::Lab;

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
    lab.serve("web", FIRST_VIP, serde_json::json!({}))?;
    lab.start_agent(node)?;
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
    let kubeconfig = lab.cluster.kubeconfig().display().to_string();
    for (arguments, status, words) in [
        (vec!["agent"], 2, "--node-name"),
        (vec!["agent", "--node-name", "x", "--mode", "fast"], 2, "fast"),
        (vec!["agent", "--node-name", "x", "--kubeconfig", "/nowhere"], 1, "/nowhere"),
        (vec!["agent", "--node-name", "x", "--kubeconfig", &kubeconfig, "--pin-root", "/tmp"], 1, "bpffs"),
        (
            vec!["agent", "--node-name", "x", "--kubeconfig", &kubeconfig, "--exclude-interfaces", "("],
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

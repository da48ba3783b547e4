//! What is asked wrongly, or can't be done here, ends in one clear line and leaves the host as it was.

use rustix::process::Signal;

use crate::{
    process::{Announcer, Ended, run, run_as_nobody, run_without_bpf},
    support::{Lab, foreign::Foreign, link, pin_root, sh, try_sh},
};

const VIP4: &str = "10.9.0.100";

/// Ends with this status and exactly one line on standard error that holds `words`.
fn refused(arguments: &str, status: i32, words: &str) {
    let ended = run(&format!("answer {arguments}"));
    assert_eq!(ended.status, Some(status), "{arguments}: {ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{arguments}: {ended:?}");
    assert!(
        ended.stderr.starts_with("announcer: ") && ended.stderr.contains(words),
        "{arguments}: {ended:?}"
    );
}

/// One line on standard error with all of these words, and status 1.
fn failed(ended: &Ended, words: &[&str]) {
    assert_eq!(ended.status, Some(1), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    assert!(words.iter().all(|word| ended.stderr.contains(word)), "{ended:?}");
}

/// What the DaemonSet's container may do, as setpriv writes it.
fn capabilities_of_the_daemonset() -> String {
    let manifest = include_str!("../../../deploy/base/daemonset.yaml");
    let line = manifest.lines().find_map(|line| line.trim().strip_prefix("add: [")).expect("capabilities");
    let names = line.trim_end_matches(']').split(", ").map(|name| format!("+{}", name.to_lowercase()));
    names.collect::<Vec<_>>().join(",")
}

/// Everything of the interface that `answer` may touch.
fn state_of_left() -> String {
    sh(
        "ip -d addr show dev left | grep -v valid_lft; ip maddr show dev left; ls -A /sys/fs/bpf/announcer 2>/dev/null; true",
    )
}

#[test]
fn wrong_usage_ends_in_one_line_and_status_2() {
    let _lab = Lab::new();
    refused("--interface nic9 --vip 10.9.0.9", 2, "no interface nic9 (Ethernet interfaces here: left)");
    refused("--interface lo --vip 10.9.0.9", 2, "lo: it is no Ethernet interface");
    refused(
        "--interface left --vip 10.9.0.900",
        2,
        "'10.9.0.900' for '--vip <ADDR>': not an IPv4 or IPv6 address",
    );
    refused("--interface left --vip 224.0.0.5", 2, "a multicast address");
    refused("--interface left --vip 10.9.0.9 --vip ::ffff:10.9.0.9", 2, "--vip 10.9.0.9 is given twice");
    refused("--interface left --interface left --vip 10.9.0.9", 2, "--interface left is given twice");
    refused("--interface left", 2, "--vip <ADDR>");
    refused("--interface left --vip 10.9.0.9 --lease 0", 2, "between 1 and 3600 seconds");
    refused("--interface left --vip 10.9.0.9 --mode xdp", 2, "[possible values: auto, native, tcx, generic]");
}

#[test]
fn a_bridge_port_is_refused_by_its_reason() {
    let _lab = Lab::new();
    sh("ip link add br0 type bridge && ip link set left master br0");
    refused(&format!("--interface left --vip {VIP4}"), 2, "left: it is a port of a bridge; name the bridge");
}

#[test]
fn a_missing_privilege_ends_in_one_line_and_status_1() {
    let _lab = Lab::new();
    let program = env!("CARGO_BIN_EXE_announcer");
    let (ok, said) = try_sh(&format!(
        "setpriv --bounding-set -bpf,-sys_admin {program} answer --interface left --vip {VIP4}; test $? = 1"
    ));
    assert!(ok && said.contains("announcer: missing CAP_BPF: run as root"), "{said}");
}

#[test]
fn a_seccomp_filter_that_refuses_bpf_is_named_with_the_line_to_add() {
    let _lab = Lab::new();
    for errno in [libc::EPERM, libc::ENOSYS] {
        let ended = run_without_bpf(errno, &format!("answer --interface left --vip {VIP4}"));
        let number = format!("(os error {errno}); a seccomp filter refused bpf(2)");
        failed(&ended, &[number.as_str(), "`seccompProfile: {type: Unconfined}`"]);
    }
    assert!(!pin_root().join("gen-1").exists());
}

#[test]
fn the_capabilities_of_the_daemonset_are_enough_for_the_programs_with_and_without_their_log() {
    let lab = Lab::new();
    let capabilities = capabilities_of_the_daemonset();
    for flags in ["--mode tcx", "--mode generic --kernel-log trace"] {
        let arguments = format!("answer --interface left --vip {VIP4} {flags}");
        let mut answer = Announcer::start_with(&capabilities, &arguments);
        answer.wait_for("answering for");
        assert!(
            lab.client.run(|| try_sh(&format!("arping -c 1 -w 2 -I right {VIP4}")).0),
            "{flags}: it answers"
        );
        assert!(answer.end(Signal::INT).success());
    }
}

#[test]
fn who_may_not_look_is_told_so_and_not_that_there_is_nothing() {
    let _lab = Lab::new();
    let answer = Announcer::answer(&format!("--interface left --vip {VIP4}"));
    // The directory is root's; it is open to look at, as older releases made it; the whole bpffs is root's, by systemd.
    for prepare in ["true", "chmod 0755 /sys/fs/bpf/announcer", "chmod 0700 /sys/fs/bpf"] {
        sh(prepare);
        for command in ["uninstall", "status"] {
            let ended = run_as_nobody(command);
            failed(&ended, &["Permission denied", "this is user 65534, and only root may: run it as root"]);
            assert_eq!(ended.stdout, "", "{prepare}: {ended:?}");
        }
    }
    drop(answer);
}

#[test]
fn a_directory_outside_a_bpffs_ends_in_one_line_and_status_1() {
    let _lab = Lab::new();
    refused(
        &format!("--interface left --vip {VIP4} --pin-root /tmp/announcer"),
        1,
        "mount -t bpf -o mode=0700",
    );
}

#[test]
fn another_program_on_the_hook_ends_in_one_line_and_leaves_everything_as_it_was() {
    let _lab = Lab::new();
    let _foreign = Foreign::passing_xdp(link("left").id.0);
    let before = state_of_left();
    refused(
        &format!("--interface left --vip {VIP4} --vip fd00:9::100 --mode native"),
        1,
        "cannot answer on left: another XDP program is attached; it is left alone",
    );
    assert_eq!(state_of_left(), before);
}

#[test]
fn a_second_one_is_refused_while_the_first_lives() {
    let _lab = Lab::new();
    let first = Announcer::answer(&format!("--interface left --vip {VIP4}"));
    refused("--interface left --vip 10.9.0.101", 1, "another announcer runs on this node");
    drop(first);
}

#[test]
fn when_it_ends_the_interface_is_as_it_was() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let lab = Lab::new();
        let before = state_of_left();
        let answer = Announcer::answer(&format!("--interface left --vip {VIP4} --vip fd00:9::100"));
        assert!(lab.client.run(|| try_sh(&format!("arping -c 1 -w 2 -I right {VIP4}")).0), "it answers");
        assert_ne!(state_of_left(), before);
        assert!(answer.end(signal).success());
        assert_eq!(state_of_left(), before, "{signal:?}");
        assert!(!lab.client.run(|| try_sh(&format!("arping -c 1 -w 1 -I right {VIP4}")).0), "and is silent");
        assert!(!pin_root().exists());
    }
}

#[test]
fn it_says_in_words_what_it_attached_where_and_how() {
    let _lab = Lab::new();
    let mut answer = Announcer::answer(&format!(
        "--interface left --vip {VIP4} --vip fd00:9::100 --mode generic --lease 7"
    ));
    let _ = answer.wait_for("gratuitous ARP sent");
    let said = answer.said();
    for words in [
        "programs attached node=",
        "interfaces=\"left (generic)\"",
        "answering for 10.9.0.100, fd00:9::100 on left; the kernel goes silent 7 s after this process",
    ] {
        assert!(said.iter().any(|line| line.contains(words)), "{words}: {said:#?}");
    }
}

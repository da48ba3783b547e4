//! The agent on a distribution's kernel, which has what this machine's may lack: AppArmor, with the profile that
//! containerd puts on containers.

use std::{env, net::Ipv4Addr, path::Path, time::Duration};

use announcer_tests::guest::{GUEST_MAC, Guest, Initrd, Kernel, profile};
use anyhow::{Context as _, Result, ensure};

const VIP: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 100);
/// Everything is emulated, by a machine that may be busy.
const SOON: Duration = Duration::from_secs(240);

/// `agent WHERE PINS`: `announcer answer` as the DaemonSet's container runs it, but for the flags of a cluster.
const SCRIPT: &str = r#"
apparmor_parser -r /profile && echo "profile loaded"
mkdir -m 0755 /sys/fs/bpf/announcer /pins
mount --bind /sys/fs/bpf/announcer /pins

agent() {
    if [ "$1" = confined ]; then
        confine='echo "exec cri-containerd.apparmor.d" > /proc/self/attr/exec;'
    else
        confine=
    fi
    exec sh -c "$confine"'exec /bin/setpriv --no-new-privs --inh-caps -all --bounding-set -all,CAPABILITIES \
        announcer answer --interface eth0 --vip 10.9.0.100 --pin-root "$0"' "$2"
}

# Runs it until the line "stop" is typed, or it ends by itself.
run() {
    agent "$1" "$2" 2>&1 &
    agent=$!
    if [ "$3" = answers ]; then
        read -r word
        kill -TERM "$agent"
    fi
    wait "$agent"
    echo "agent $1 $2 ended with status $?"
}

run confined /sys/fs/bpf/announcer refused
run confined /pins answers
run free /sys/fs/bpf/announcer answers
echo "left in the pin directory: $(ls /sys/fs/bpf | wc -l)"
"#;

/// What `deploy/base/daemonset.yaml` adds, as setpriv writes it.
fn capabilities() -> Result<String> {
    let manifest = include_str!("../../deploy/base/daemonset.yaml");
    let line =
        manifest.lines().find_map(|line| line.trim().strip_prefix("add: [")).context("no `add: […]`")?;
    let names = line.trim_end_matches(']').split(", ").map(|name| format!("+{}", name.to_lowercase()));
    Ok(names.collect::<Vec<_>>().join(","))
}

#[test]
fn apparmor_is_named_where_it_refuses_and_the_daemonset_runs_beside_it() -> Result<()> {
    let kernel = Kernel::locate("6.12")?;
    let program =
        env::var_os("ANNOUNCER_PROGRAM").context("ANNOUNCER_PROGRAM: run `cargo xtask test kernels`")?;
    let initrd = Initrd::new()?;
    initrd.program(Path::new(&program))?;
    for tool in ["/usr/bin/setpriv", "/sbin/apparmor_parser"] {
        initrd.program(Path::new(tool))?;
    }
    for folder in ["/etc/apparmor.d/abstractions", "/etc/apparmor.d/abi", "/etc/apparmor.d/tunables"] {
        initrd.folder(Path::new(folder))?;
    }
    initrd.file("profile", profile::of_containerd()?, 0o644)?;
    let options = "apparmor=1 security=apparmor lsm=apparmor,bpf";
    let mut guest = Guest::boot(&kernel, options, initrd, &SCRIPT.replace("CAPABILITIES", &capabilities()?))?;
    guest.wait_for("profile loaded", SOON)?;

    // A runtime's default profile denies writes below /sys/fs: one line says who, and what to add.
    let refused = guest.wait_for("announcer: ", SOON)?;
    for words in [
        "/sys/fs/bpf/announcer: Permission denied (os error 13); AppArmor refused it",
        profile::NAME,
        "`appArmorProfile: {type: Unconfined}`",
    ] {
        ensure!(refused.contains(words), "no {words:?} in: {refused}");
    }
    guest.wait_for("agent confined /sys/fs/bpf/announcer ended with status 1", SOON)?;

    // The DaemonSet's own folder is mounted elsewhere, where the profile denies nothing; and it asks for no profile.
    for run in ["confined /pins", "free /sys/fs/bpf/announcer"] {
        guest.wait_for("answering for 10.9.0.100 on eth0", SOON).with_context(|| run.to_owned())?;
        let mac = guest.nic.ask(VIP, SOON).with_context(|| run.to_owned())?;
        ensure!(mac == GUEST_MAC, "{run}: the answer names {mac:x?}");
        guest.type_line("stop")?;
        guest.wait_for(&format!("agent {run} ended with status 0"), SOON)?;
    }
    guest.wait_for("left in the pin directory: 0", SOON)?;
    Ok(())
}

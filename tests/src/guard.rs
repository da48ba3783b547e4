//! The last to leave: a process beside every cluster that clears away what the kernel does not.

use std::{
    fs,
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use crate::{
    state::{self, Alive, State},
    wait,
};

const SCRIPT: &str = include_str!("guard.sh");

/// Waits for its owner's end, then removes the cluster's cgroups and folder. Dropping it is that end.
#[derive(Debug)]
pub(crate) struct Guard(Child);

impl Guard {
    pub(crate) fn start(name: &str) -> Result<Self> {
        let child = command(name).stdin(Stdio::piped()).spawn().context("start the guard")?;
        Ok(Self(child))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let ended = wait::until("the guard's end", Duration::from_secs(30), || Ok(self.0.try_wait()?));
        if let Err(error) = ended {
            eprintln!("lab: {error:#}; `cargo xtask cluster down --all` clears what it left");
        }
    }
}

/// Writes down a machine's first process, for the guard.
pub(crate) fn note_machine(lab_dir: &Path, first: Alive) -> Result<()> {
    let mut file = fs::File::options().create(true).append(true).open(lab_dir.join("machines"))?;
    writeln!(file, "{} {}", first.pid, first.started).context("write the list of machines")
}

/// Ends the cluster `name`, whoever owns it, and clears all of it away. Does nothing if there is none.
pub fn take_down(name: &str) -> Result<()> {
    ensure!(is_name(name), "`{name}` is no cluster name: letters, digits and dashes");
    if !state::directory(name).exists() {
        return Ok(());
    }
    if let Ok(state) = State::read(name) {
        // However the owner ends, its machines end with it, and its guard clears up.
        state.owner.signal(Signal::TERM)?;
        let gone = wait::until("the owner's end", Duration::from_secs(5), || {
            Ok((!state.owner.is_running()).then_some(()))
        });
        if gone.is_err() {
            state.owner.kill()?;
        }
    }
    let gone = || Ok((!state::directory(name).exists()).then_some(()));
    if wait::until("the guard", Duration::from_secs(5), gone).is_err() {
        let status = command(name).stdin(Stdio::null()).status().context("run the guard")?;
        ensure!(
            status.success() && !state::directory(name).exists(),
            "cluster {name}: not all could be removed"
        );
    }
    Ok(())
}

/// Clears away clusters whose owner is gone and whose guard was killed too.
pub fn sweep() -> Result<()> {
    for name in state::names() {
        let owner = fs::read_to_string(state::directory(&name).join("owner")).unwrap_or_default();
        let mut numbers = owner.split_whitespace().map(str::parse);
        let (Some(Ok(pid)), Some(Ok(started))) = (numbers.next(), numbers.next()) else { continue };
        let pid: u64 = pid;
        let owner = Alive { pid: u32::try_from(pid).unwrap_or(u32::MAX), started };
        if !owner.is_running() {
            take_down(&name)?;
        }
    }
    Ok(())
}

/// Whether `name` can name a cluster: it becomes part of paths.
pub fn is_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty() && name.len() <= 40 && name.bytes().all(legal)
}

fn command(name: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", SCRIPT, "guard.sh"]).arg(state::directory(name)).arg(name);
    command.current_dir("/").process_group(0);
    command
}

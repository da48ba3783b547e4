//! A program that runs in a machine: its output in a log, ended when dropped.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::mpsc,
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::{logs, machine::Machine, reader::Reader, state::Alive, sys, wait};

/// `nsenter` changes what a program sees of the cgroups, not which one it is in.
const JOIN_CGROUPS: &str = "for procs in /sys/fs/cgroup/*/cgroup.procs; do
        [ ! -f /sys/fs/cgroup/cgroup.controllers ] || procs=/sys/fs/cgroup/parts/cgroup.procs
        echo 0 >$procs
    done
    exec \"$@\"";

/// A running program of a machine.
#[derive(Debug)]
pub struct Process {
    name: String,
    /// `nsenter`, which waits for the program.
    entered: Child,
    /// The program itself; `None` if it ended before it could be looked at.
    program: Option<Alive>,
    log: PathBuf,
}

impl Process {
    /// Starts `argv` in `machine`, with its output appended to `log`.
    pub fn start(machine: &Machine, name: &str, argv: &[&str], log: &Path) -> Result<Self> {
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("open the log {}", log.display()))?;
        Self::start_into(machine, name, argv, log, [output.try_clone()?.into(), output.into()])
    }

    /// Starts `argv` in `machine`, with its output read by a [`Reader`], which appends it to `log`.
    pub fn start_read(machine: &Machine, name: &str, argv: &[&str], log: &Path) -> Result<(Self, Reader)> {
        let (reader, output) = Reader::start(log)?;
        let output = [output.try_clone()?.into(), output.into()];
        Ok((Self::start_into(machine, name, argv, log, output)?, reader))
    }

    fn start_into(
        machine: &Machine,
        name: &str,
        argv: &[&str],
        log: &Path,
        [stdout, stderr]: [Stdio; 2],
    ) -> Result<Self> {
        let program = argv.first().context("an empty command")?;
        let entered = machine
            .command("sh")
            .args(["-c", JOIN_CGROUPS, "sh"])
            .args(argv)
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .with_context(|| format!("on {}: start `{program}`", machine.name()))?;
        let program = only_child(entered.id())?.and_then(|pid| Alive::now(pid).ok());
        Ok(Self { name: format!("{} on {}", name, machine.name()), entered, program, log: log.to_owned() })
    }

    /// What it is and where, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The program's process id as the host numbers it; `None` once it has ended.
    pub fn pid(&self) -> Option<u32> {
        self.program.filter(|program| program.is_running()).map(|program| program.pid)
    }

    /// Whether it still runs.
    pub fn is_running(&self) -> bool {
        self.pid().is_some()
    }

    /// Sends it a signal (`Signal::STOP` freezes it, `Signal::CONT` lets it go on).
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let sent = self.program.map_or(Ok(()), |program| program.signal(signal));
        if signal != Signal::STOP {
            // nsenter stops with the program that it waits for, and nobody else wakes it up. It may be gone by now.
            let entered = i32::try_from(self.entered.id()).ok().and_then(Pid::from_raw);
            let _ = entered.map(|pid| kill_process(pid, Signal::CONT));
        }
        sent
    }

    /// Its first thread does nothing more, as if it hung; all others go on, until the result is dropped.
    pub fn wedge(&self) -> Result<Wedge> {
        let pid = self.pid().with_context(|| format!("{} has ended", self.name))?;
        let thread = i32::try_from(pid).context("a process id")?;
        let (let_go, waits) = mpsc::channel::<()>();
        let (report, stopped) = mpsc::sync_channel(1);
        // Only the thread that stops another can let it go.
        let holder = std::thread::spawn(move || {
            let is_stopped = sys::stop_thread(thread);
            let holds = is_stopped.is_ok();
            let _ = report.send(is_stopped);
            let _ = waits.recv();
            if holds {
                // It may have been killed meanwhile.
                let _ = sys::let_go(thread);
            }
        });
        stopped.recv().context("the holding thread ended")?.with_context(|| format!("stop {}", self.name))?;
        Ok(Wedge { let_go: Some(let_go), holder: Some(holder) })
    }

    /// Kills it and waits for its end.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.wait(Duration::from_secs(10)).map(drop)
    }

    /// Waits for its end by itself; the exit code, if it was not killed.
    pub fn wait(&mut self, deadline: Duration) -> Result<Option<i32>> {
        let status =
            wait::until(&format!("the end of {}", self.name), deadline, || Ok(self.entered.try_wait()?))?;
        Ok(status.code())
    }

    /// All it has printed.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The end of what it printed, for messages.
    pub fn log_tail(&self) -> String {
        logs::tail(&self.log)
    }
}

/// A program whose first thread hangs. Dropping it lets that thread go on.
#[derive(Debug)]
pub struct Wedge {
    let_go: Option<mpsc::Sender<()>>,
    holder: Option<JoinHandle<()>>,
}

impl Drop for Wedge {
    fn drop(&mut self) {
        drop(self.let_go.take());
        if let Some(holder) = self.holder.take() {
            let _ = holder.join();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("lab: {error:#}");
        }
    }
}

/// The one child that `parent` (`unshare --fork` or `nsenter --pid`) makes; `None` if `parent` has ended.
pub(crate) fn only_child(parent: u32) -> Result<Option<u32>> {
    let children = format!("/proc/{parent}/task/{parent}/children");
    let Ok(parent) = Alive::now(parent) else { return Ok(None) };
    wait::until("a child process", Duration::from_secs(5), || {
        if !parent.is_running() {
            return Ok(Some(None));
        }
        let listed = fs::read_to_string(&children).unwrap_or_default();
        Ok(listed.split_whitespace().next().and_then(|pid| pid.parse().ok()).map(Some))
    })
}

//! What a standing cluster writes down, so that a later process can use it or clear it away.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

/// Where every lab keeps its folder; nothing of it survives the lab.
pub const ROOT: &str = "/run/announcer-lab";

/// The folder of the cluster `name`.
pub fn directory(name: &str) -> PathBuf {
    Path::new(ROOT).join(name)
}

/// A process, told from a later one with the same number by its start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alive {
    /// The process id.
    pub pid: u32,
    /// Clock ticks between boot and the process's start.
    pub started: u64,
}

impl Alive {
    /// The running process `pid`.
    pub fn now(pid: u32) -> Result<Self> {
        let started = start_time(pid).with_context(|| format!("process {pid} does not run"))?;
        Ok(Self { pid, started })
    }

    /// This process.
    pub fn myself() -> Result<Self> {
        Self::now(std::process::id())
    }

    /// Whether it still runs (a zombie does not).
    pub fn is_running(self) -> bool {
        start_time(self.pid) == Some(self.started)
    }

    /// Sends a signal; nothing happens if the process is gone.
    pub fn signal(self, signal: Signal) -> Result<()> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
        if !self.is_running() {
            return Ok(());
        }
        match kill_process(pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("signal {signal:?} to process {}", self.pid)),
        }
    }

    /// Ends it at once.
    pub fn kill(self) -> Result<()> {
        self.signal(Signal::KILL)
    }
}

/// Field 22 of `/proc/PID/stat`, counted from behind the name, which may hold anything.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// A standing cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// The process whose end is the cluster's end.
    pub owner: Alive,
    /// Machines by name, with the first process of each.
    pub machines: BTreeMap<String, Alive>,
    /// The nodes' names, in the order of their addresses.
    pub nodes: Vec<String>,
    /// Whether nodes run kubelets.
    pub kubelets: bool,
    /// The names of the first nodes' NICs; that of all others is `eth0`.
    #[serde(default)]
    pub nics: Vec<String>,
}

impl State {
    /// Reads the state of the cluster `name`.
    pub fn read(name: &str) -> Result<Self> {
        let path = directory(name).join("state.json");
        let text = fs::read(&path).with_context(|| {
            format!(
                "no cluster `{name}` stands here ({} is absent); `cargo xtask cluster up` starts one",
                path.display()
            )
        })?;
        serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))
    }

    /// Replaces the file in one step.
    pub fn write(&self, name: &str) -> Result<()> {
        let (path, draft) = (directory(name).join("state.json"), directory(name).join("state.json.new"));
        fs::write(&draft, serde_json::to_vec_pretty(self)?)?;
        fs::rename(&draft, &path).with_context(|| format!("write {}", path.display()))
    }
}

/// The names of all clusters that have a folder, standing or not.
pub fn names() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(ROOT)
        .map(|entries| entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
        .unwrap_or_default();
    names.sort();
    names
}

//! One host of the lab: a PID, mount, network, cgroup and host-name namespace, held open by one small
//! process.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{logs, process, state::Alive, wait};

const START: &str = include_str!("cgroups.sh");
const FURNISH: &str = include_str!("machine.sh");

/// A host of the lab. When it is dropped (or its owner dies), all that runs in it is killed by the kernel.
#[derive(Debug)]
pub struct Machine {
    name: String,
    first: Alive,
    /// `unshare`, whose only child is the machine's first process; `None` if another process owns it.
    holder: Mutex<Option<Child>>,
}

impl Machine {
    /// Makes the namespaces and furnishes them (see `machine.sh`).
    pub(crate) fn boot(name: &str, cluster: &str, lab_dir: &Path, pause: &Path) -> Result<Self> {
        let log = lab_dir.join("logs/machines.log");
        let mut holder = Command::new("sh")
            .args(["-c", START, "cgroups.sh", cluster, name])
            .arg(pause)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::options().create(true).append(true).open(&log).context("open machines.log")?)
            // Ctrl-C is for the owner; the machine notices the owner's end by itself.
            .process_group(0)
            .spawn()
            .context("start a shell")?;
        let mut said = String::new();
        if let Some(stdout) = holder.stdout.take() {
            BufReader::new(stdout).read_line(&mut said)?;
        }
        ensure!(said.trim() == "ready", "no namespaces for {name}; {}", logs::tail(&log));
        let pid = process::only_child(holder.id())?
            .with_context(|| format!("the first process of {name} ended at once"))?;
        let machine =
            Self { name: name.to_owned(), first: Alive::now(pid)?, holder: Mutex::new(Some(holder)) };
        let lab_dir = lab_dir.to_str().context("the lab's folder is not UTF-8")?;
        machine
            .run(&["sh", "-c", FURNISH, "machine.sh", lab_dir, cluster, name])
            .with_context(|| format!("furnish the machine {name}"))?;
        Ok(machine)
    }

    /// A machine that another process owns.
    pub(crate) fn attach(name: &str, first: Alive) -> Result<Self> {
        ensure!(
            first.is_running(),
            "the machine {name} is gone; `cargo xtask cluster down` clears its cluster"
        );
        Ok(Self::known(name, first))
    }

    /// A machine that another process owns, and that may be gone.
    pub(crate) fn known(name: &str, first: Alive) -> Self {
        Self { name: name.to_owned(), first, holder: Mutex::new(None) }
    }

    /// The machine's host name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The machine's first process, as the host numbers it.
    pub fn pid(&self) -> u32 {
        self.first.pid
    }

    pub(crate) fn first(&self) -> Alive {
        self.first
    }

    /// A command that will run in this machine's namespaces; programs are the host's.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.first.pid))
            .args(["--mount", "--net", "--uts", "--pid", "--cgroup", "--"])
            .arg(program)
            .stdin(Stdio::null())
            .process_group(0);
        command
    }

    /// Runs a program to its end and returns what it printed; anything but success is an error.
    pub fn run(&self, argv: &[&str]) -> Result<String> {
        let output = self.output(argv)?;
        if !output.status.success() {
            bail!(
                "on {}: `{}` ended with {}: {}{}",
                self.name,
                shown(argv),
                output.status,
                String::from_utf8_lossy(&output.stderr).trim_end(),
                String::from_utf8_lossy(&output.stdout).trim_end(),
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a program to its end, whatever that end is.
    pub fn output(&self, argv: &[&str]) -> Result<Output> {
        let (program, arguments) = argv.split_first().context("an empty command")?;
        self.command(program)
            .args(arguments)
            .output()
            .with_context(|| format!("on {}: run `{program}`", self.name))
    }

    /// Runs a shell script, which ends at the first command that fails.
    pub fn shell(&self, script: &str) -> Result<String> {
        self.run(&["sh", "-euc", script])
    }

    /// A path of this machine as the host can open it.
    pub fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        let inside = inside.as_ref();
        Path::new(&format!("/proc/{}/root", self.first.pid)).join(inside.strip_prefix("/").unwrap_or(inside))
    }

    /// The machine's network namespace, for `setns`.
    pub fn netns_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.first.pid))
    }

    /// Kills all that runs in the machine, at once, and waits until it has gone.
    pub fn kill(&self) -> Result<()> {
        self.first.kill()?;
        if let Some(mut holder) = self.holder().take() {
            holder.wait().context("wait for `unshare`")?;
        }
        wait::until(&format!("the end of {}", self.name), Duration::from_secs(10), || {
            Ok((!self.first.is_running()).then_some(()))
        })
    }

    /// Locked for one step each time, so that a panic elsewhere cannot have left it half changed.
    fn holder(&self) -> MutexGuard<'_, Option<Child>> {
        self.holder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let is_ours = self.holder().is_some();
        if is_ours && let Err(error) = self.kill() {
            eprintln!("lab: {error:#}");
        }
    }
}

/// A command as an error message shows it: without the text of scripts.
fn shown(argv: &[&str]) -> String {
    argv.iter().map(|word| if word.len() > 200 { "…" } else { word }).collect::<Vec<_>>().join(" ")
}

//! Other kernels: a machine that QEMU emulates, with a shell, a few programs and one NIC whose frames come and go here.
//!
//! No virtualization is needed (there is none on many build machines): everything is emulated, some twenty times slower
//! than the host, so nothing here may count seconds. A guest has no disk. All it has is in its initrd: busybox, the
//! kernel's modules for the NIC, and what the test gives it. It tells what it does on its console, line by line.

mod initrd;
mod kernel;
mod nic;
pub mod profile;

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

pub use self::{
    initrd::Initrd,
    kernel::{Kernel, PACKAGE_FILE},
    nic::{GUEST_MAC, Nic},
};

/// A running guest. It is ended, and its folder removed, when this is dropped.
pub struct Guest {
    machine: Child,
    keyboard: ChildStdin,
    lines: Receiver<String>,
    seen: Vec<String>,
    /// The far end of the guest's `eth0`.
    pub nic: Nic,
    folder: PathBuf,
}

// === impl Guest ===

impl Guest {
    /// Boots `kernel` with `options` on its command line, and runs `script` in a shell once the modules are loaded and
    /// `/proc`, `/sys`, `/dev`, securityfs and a bpffs are mounted.
    ///
    /// # Errors
    /// QEMU is not installed, or a file can't be read or written.
    pub fn boot(kernel: &Kernel, options: &str, mut initrd: Initrd, script: &str) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("announcer-guest-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let modules = kernel.modules(&["virtio_pci", "virtio_net"], &mut initrd)?;
        initrd.file("script", script, 0o644)?;
        initrd.file("init", init(&modules), 0o755)?;
        let archive = folder.join("initrd");
        initrd.write(&archive)?;
        let nic = Nic::new(&folder)?;
        let mut machine = Command::new("qemu-system-x86_64")
            .args([
                "-accel",
                "tcg",
                "-cpu",
                "max",
                "-smp",
                "2",
                "-m",
                "768",
                "-nodefaults",
                "-no-user-config",
            ])
            .args(["-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot"])
            .args(nic.arguments())
            .args(["-append", &format!("console=ttyS0 quiet panic=-1 {options}")])
            .arg("-kernel")
            .arg(kernel.image())
            .arg("-initrd")
            .arg(&archive)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start qemu-system-x86_64: run `cargo xtask setup`")?;
        let keyboard = machine.stdin.take().context("QEMU's input")?;
        let console = machine.stdout.take().context("QEMU's output")?;
        let (send, lines) = mpsc::channel();
        thread::spawn(move || {
            let mut console = BufReader::new(console);
            let mut line = Vec::new();
            while console.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                println!("guest: {text}");
                if send.send(text).is_err() {
                    break;
                }
            }
        });
        Ok(Self { machine, keyboard, lines, seen: Vec::new(), nic, folder })
    }

    /// The next line that holds `words`.
    ///
    /// # Errors
    /// The guest ends or says nothing for `limit`; what it said last is in the error.
    pub fn wait_for(&mut self, words: &str, limit: Duration) -> Result<String> {
        let until = Instant::now() + limit;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(words) {
                        return Ok(line);
                    }
                }
                Err(error) => {
                    bail!("no line with {words:?} ({error}); the guest said:\n{}", self.seen.join("\n"))
                }
            }
        }
    }

    /// Types a line, for a `read` of the script.
    ///
    /// # Errors
    /// The guest has ended.
    pub fn type_line(&mut self, line: &str) -> Result<()> {
        writeln!(self.keyboard, "{line}").context("type a line")
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.machine.kill();
        let _ = self.machine.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The first process.
fn init(modules: &[String]) -> String {
    let load: String = modules.iter().map(|name| format!("insmod /modules/{name}\n")).collect();
    format!(
        "#!/bin/sh
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t securityfs securityfs /sys/kernel/security
mount -t bpf -o mode=0700 bpf /sys/fs/bpf
{load}
ip link set lo up
ip link set eth0 up
stty -echo
. /script
poweroff -f
"
    )
}

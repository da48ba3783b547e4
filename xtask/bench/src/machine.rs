//! On what it was measured.

use std::{fs, sync::OnceLock};

use serde::Serialize;

/// The machine, as far as it matters.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// `uname -r`.
    pub kernel: String,
    /// The processor's name.
    pub cpu: String,
    /// How many of them.
    pub cpus: usize,
    /// Whether it is a virtual machine.
    pub virtual_machine: bool,
    /// The load average over a minute before the bench began.
    pub load_before: f64,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let info = read("/proc/cpuinfo");
        let field = |name: &str| {
            let line = info.lines().find(|line| line.starts_with(name))?;
            line.split_once(':').map(|(_, value)| value.trim().to_owned())
        };
        Self {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpu: field("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cpus: cpus(),
            virtual_machine: field("flags").is_some_and(|flags| flags.contains(" hypervisor")),
            load_before: read("/proc/loadavg")
                .split(' ')
                .next()
                .and_then(|load| load.parse().ok())
                .unwrap_or(f64::NAN),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kernel, cpu, cpus, virtual_machine, load_before } = self;
        let kind = if *virtual_machine { ", a virtual machine" } else { "" };
        write!(f, "{cpus} × {cpu}{kind}; Linux {kernel}; load average before: {load_before:.2}")
    }
}

/// How many processors this process might run on when it began; a thread that is pinned sees fewer.
pub fn cpus() -> usize {
    static CPUS: OnceLock<usize> = OnceLock::new();
    *CPUS.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

//! What the datapath is told once, at the start.

use std::{fmt, path::PathBuf, str::FromStr};

use super::Tables;

/// Where the programs run: the operator's wish, for every link.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Mode {
    /// Native XDP where the driver has it (never on a veth), else TCX, else generic XDP.
    #[default]
    Auto,
    /// XDP in the driver, or nothing.
    Native,
    /// TCX ingress (Linux 6.6), or nothing.
    Tcx,
    /// Generic XDP, or nothing. It linearises every packet: TCP loses a tenth.
    Generic,
}

/// Which of their decisions the programs tell, through `tracing`. Off costs nothing; on, a line costs more than an answer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
#[repr(u8)]
pub enum KernelLog {
    /// Nothing: the log's code is not even in the loaded programs.
    #[default]
    Off,
    /// As yet nothing.
    Error,
    /// As yet nothing.
    Warn,
    /// As yet nothing.
    Info,
    /// Every request answered, fenced or suppressed; malformed messages; conflicts.
    Debug,
    /// Requests left to the stack, too.
    Trace,
}

/// How to set up the datapath.
#[derive(Clone, Debug)]
pub struct Config {
    /// The directory that everything is pinned in; its parent must be on a bpffs.
    pub pin_root: PathBuf,
    /// Where programs run.
    pub mode: Mode,
    /// Requests for a VIP that is owned elsewhere are dropped, so that this node's own stack can't answer them.
    pub suppress: bool,
    /// What the programs tell.
    pub kernel_log: KernelLog,
    /// How large the tables may be.
    pub tables: Tables,
}

/// `--mode` got another word.
#[derive(Debug, thiserror::Error)]
#[error("the mode is one of auto, native, tcx and generic")]
pub struct UnknownMode;

// === impl Config ===

impl Config {
    /// Where `bpftool` users will look.
    pub const DEFAULT_PIN_ROOT: &str = "/sys/fs/bpf/announcer";
}

impl Default for Config {
    fn default() -> Self {
        Self {
            pin_root: Self::DEFAULT_PIN_ROOT.into(),
            mode: Mode::Auto,
            suppress: true,
            kernel_log: KernelLog::Off,
            tables: Tables::default(),
        }
    }
}

// === impl Mode ===

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Native => "native",
            Self::Tcx => "tcx",
            Self::Generic => "generic",
        })
    }
}

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        match text {
            "auto" => Ok(Self::Auto),
            "native" => Ok(Self::Native),
            "tcx" => Ok(Self::Tcx),
            "generic" => Ok(Self::Generic),
            _ => Err(UnknownMode),
        }
    }
}

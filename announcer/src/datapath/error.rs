//! What can go wrong with the kernel, named by what failed, with the way out.

use std::{io, path::PathBuf};

use thiserror::Error;

use super::{
    links::Attachment,
    refusal::{Asked, Refuser, in_one_line},
    step::Step,
};
use crate::vocabulary::{LinkId, Vip};

/// An error of the datapath as a whole; one link's troubles are in its [`super::LinkReport`].
#[derive(Debug, Error)]
pub enum DatapathError {
    /// The pin directory is not on a bpffs.
    #[error(
        "{}{} is not on a bpffs: run `mount -t bpf -o mode=0700 bpf /sys/fs/bpf` on the host (a pod needs a folder of the host's as a hostPath volume)",
        path.display(),
        parent.as_deref().map(|parent| format!(" does not exist, and {}", parent.display())).unwrap_or_default()
    )]
    NotBpffs {
        /// The directory.
        path: PathBuf,
        /// Its parent, if the directory does not exist yet.
        parent: Option<PathBuf>,
    },
    /// Another agent holds the lock.
    #[error("another announcer runs on this node: it holds the lock on {}", path.display())]
    Busy {
        /// The pin directory.
        path: PathBuf,
    },
    /// A first start was killed before it was done: programs are on links, and no session has begun.
    #[error("a start was interrupted under {}: nothing is answered until the next one; `announcer uninstall` removes what it left", path.display())]
    Unfinished {
        /// The pin directory.
        path: PathBuf,
    },
    /// Capabilities are missing.
    #[error("missing {}: run as root, or add them to the container's securityContext.capabilities", names.join(", "))]
    MissingCapabilities {
        /// `CAP_…` names.
        names: Vec<&'static str>,
    },
    /// The kernel did not take the programs, and its number says that it is too old for them.
    #[error(
        "Linux {release} is too old: announcer needs 5.18 (6.6 for `--mode tcx`), or its eBPF; boot a newer kernel ({why})"
    )]
    KernelTooOld {
        /// `uname -r`.
        release: String,
        /// What failed, in one line.
        why: String,
    },
    /// Somebody else can change or lock what is pinned.
    #[error("{} {why}: look who made it, then `{remedy}`, and mount the bpffs by `mount -t bpf -o mode=0700 bpf /sys/fs/bpf`", path.display())]
    Untrusted {
        /// The pin directory, or the directory that it is in.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// The command that mends it.
        remedy: String,
    },
    /// The pin directory was deleted while it is mounted here, so that no name leads to it any more.
    #[error("{} was deleted on the host, and nothing can be pinned in it any more: restart the container", path.display())]
    Deleted {
        /// The pin directory.
        path: PathBuf,
    },
    /// Something was refused, and it can be seen by whom.
    #[error("{}; {by}", in_one_line(what.as_ref()))]
    Refused {
        /// What.
        #[source]
        what: Box<DatapathError>,
        /// By whom.
        by: Refuser,
    },
    /// A file operation failed.
    #[error("could not {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The kernel refused a call that concerns no single file or link.
    #[error("could not {action}")]
    Kernel {
        /// What was tried.
        action: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The kernel refused the programs or their maps.
    #[error("the kernel refused announcer's eBPF object")]
    Load(#[source] Box<aya::EbpfError>),
    /// The kernel refused a program.
    #[error("the kernel refused announcer's program {name}")]
    LoadProgram {
        /// Its name.
        name: &'static str,
        /// Why; the verifier's log is in it.
        #[source]
        source: Box<aya::programs::ProgramError>,
    },
    /// The ring buffer of the kernel's log could not be mapped.
    #[error("could not open the kernel's log")]
    KernelLog(#[source] Box<aya_log::Error>),
    /// The embedded object lacks something: a broken build.
    #[error("announcer's eBPF object has no {name}")]
    Incomplete {
        /// The map or program.
        name: &'static str,
    },
    /// A map could not be read or written.
    #[error("could not {action} the map {map}")]
    Map {
        /// What was tried.
        action: &'static str,
        /// The map.
        map: &'static str,
        /// Why not.
        #[source]
        source: Box<aya::maps::MapError>,
    },
    /// An entry could not be taken away. The deadline is 0 and a grace period has passed since, so that nothing is
    /// answered; whoever called may do so again.
    #[error(
        "the kernel would not give up its entry of {vip} on link {link}: this node is silent until it does"
    )]
    NotTakenAway {
        /// The VIP.
        vip: Vip,
        /// The link.
        link: LinkId,
        /// Why not.
        #[source]
        source: Box<DatapathError>,
    },
    /// Nothing is established yet: [`super::Datapath::establish`] comes first.
    #[error("no programs are loaded yet")]
    NotEstablished,
    /// The link carries no program of ours.
    #[error("link {0} is not attached")]
    NotAttached(LinkId),
    /// A test stopped the work after this step.
    #[error("stopped after {0:?}")]
    Stopped(Step),
}

/// Why one link could not be served.
#[derive(Debug, Error)]
pub enum AttachError {
    /// Another program holds the hook that the mode needs.
    #[error("another XDP program is attached; it is left alone")]
    HookTaken(#[source] io::Error),
    /// XDP would not see the frames' VLAN tags.
    #[error(
        "XDP can't see VLAN tags while rx-vlan-offload is on: use the TCX mode, or run `ethtool -K {name} rxvlan off`"
    )]
    VlanOffload {
        /// The interface.
        name: String,
    },
    /// XDP on a bond runs on its slaves, whose links are not known here.
    #[error("the {0} mode is not supported on a bond: use the TCX mode")]
    Bond(Attachment),
    /// The kernel is older than TCX.
    #[error("the kernel has no TCX, which came with Linux 6.6: use another mode, or boot a newer kernel")]
    NoTcx(#[source] io::Error),
    /// The kernel or the driver refused.
    #[error("could not attach in {attachment} mode")]
    Refused {
        /// The mode tried last.
        attachment: Attachment,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The link was made, but could not be pinned; it is detached again.
    #[error("could not pin the link at {}", path.display())]
    Pin {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A link inherited from another agent could not be given the new program; it is detached.
    #[error("could not swap the program of the inherited link")]
    Swap(#[source] io::Error),
    /// The maps could not be written for this link.
    #[error("could not enter the link in the kernel's tables")]
    Maps(#[source] Box<DatapathError>),
    /// The addresses that are known need more entries, with this link, than the tables may ever have.
    #[error(
        "the tables have no room for this link: {vips} addresses on {links} links are more than {most} entries; name fewer \
         interfaces in the L2Advertisements"
    )]
    TableFull {
        /// VIPs of the family that is too large.
        vips: usize,
        /// Links that would carry the program.
        links: usize,
        /// Entries that a table may have.
        most: u32,
    },
    /// More links than the tables may ever have entries for.
    #[error(
        "the tables have no room for this link: {most} links and VLANs beyond ifindex {first} are the most"
    )]
    TooManyLinks {
        /// Entries that a table may have.
        most: u32,
        /// The first ifindex that needs one.
        first: u32,
    },
}

// === impl AttachError ===

impl AttachError {
    /// Why, in one line, with the name of who refused if it was refused.
    pub fn cause(&self) -> Option<String> {
        let (asked, source) = match self {
            Self::Refused { source, .. } | Self::Swap(source) => (Asked::Command, source),
            Self::Pin { source, .. } => (Asked::Path, source),
            _ => return std::error::Error::source(self).map(in_one_line),
        };
        let by = Refuser::of(asked, source).map(|by| format!("; {by}")).unwrap_or_default();
        Some(format!("{source}{by}"))
    }

    /// Whether the device was gone by then: nothing is wrong with it.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Refused { source, .. } if source.raw_os_error() == Some(libc::ENODEV))
    }
}

// === impl DatapathError ===

impl DatapathError {
    /// Whether a map said that it is full.
    pub fn is_full(&self) -> bool {
        self.errno() == Some(libc::E2BIG)
    }

    /// What it comes down to, with its cause, in one line.
    pub fn in_a_line(&self) -> String {
        in_one_line(self)
    }

    fn errno(&self) -> Option<i32> {
        let Self::Map { source, .. } = self else { return None };
        match source.as_ref() {
            aya::maps::MapError::SyscallError(error) => error.io_error.raw_os_error(),
            _ => None,
        }
    }

    pub(super) fn map(action: &'static str, map: &'static str) -> impl FnOnce(aya::maps::MapError) -> Self {
        move |source| Self::Map { action, map, source: Box::new(source) }
    }

    pub(super) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    pub(super) fn kernel(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Kernel { action, source }
    }
}

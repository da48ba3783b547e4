//! What is told of links: the mode in use, why it is that one, and what has changed.

use std::{fmt, io, str::FromStr};

use super::AttachError;
use crate::vocabulary::{LinkId, Mac};

/// Where a link's program runs.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Attachment {
    /// XDP in the driver.
    Native,
    /// At the head of the TCX ingress chain.
    Tcx,
    /// XDP in front of the stack.
    Generic,
}

/// Why a better mode is not in use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    /// `XDP_TX` on a veth reaches nobody unless the far end runs XDP, too.
    Veth,
    /// Native XDP on a bond runs on its slaves.
    Bond,
    /// XDP would not see VLAN tags.
    VlanOffload,
    /// Another program holds the XDP hook.
    HookTaken,
    /// The driver has no XDP.
    NoDriverSupport,
    /// The kernel has no TCX: it is older than 6.6.
    NoTcx,
    /// The driver or the kernel refused with this error number (an MTU too large, no queue left, …).
    Refused(i32),
}

/// What [`super::Datapath::establish`] or [`super::Datapath::set_links`] did with one link.
#[derive(Debug)]
pub struct LinkReport {
    /// The link.
    pub link: LinkId,
    /// Its interface name.
    pub name: String,
    /// What was done.
    pub change: LinkChange,
}

/// What was done with a link.
#[derive(Debug)]
pub enum LinkChange {
    /// It carries the program now.
    Attached {
        /// Where.
        attachment: Attachment,
        /// Why not in a better mode.
        why: Option<Reason>,
    },
    /// It carried an older program of ours, and now this agent's; no frame was missed.
    Adopted {
        /// Where.
        attachment: Attachment,
    },
    /// Answers name another hardware address from now on.
    MacChanged {
        /// The new one.
        mac: Mac,
    },
    /// It does not carry the program any more.
    Detached,
    /// It can't carry the program.
    Failed(AttachError),
}

/// A word that names no attachment.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("not one of native, tcx and generic")]
pub struct UnknownAttachment;

// === impl Attachment ===

impl Attachment {
    /// `enum bpf_link_type` of such a link.
    pub(super) fn link_type(self) -> u32 {
        const BPF_LINK_TYPE_XDP: u32 = 6;
        const BPF_LINK_TYPE_TCX: u32 = 11;
        match self {
            Self::Native | Self::Generic => BPF_LINK_TYPE_XDP,
            Self::Tcx => BPF_LINK_TYPE_TCX,
        }
    }
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Native => "native",
            Self::Tcx => "tcx",
            Self::Generic => "generic",
        })
    }
}

impl FromStr for Attachment {
    type Err = UnknownAttachment;

    fn from_str(text: &str) -> Result<Self, UnknownAttachment> {
        match text {
            "native" => Ok(Self::Native),
            "tcx" => Ok(Self::Tcx),
            "generic" => Ok(Self::Generic),
            _ => Err(UnknownAttachment),
        }
    }
}

// === impl Reason ===

impl Reason {
    pub(super) fn of(attachment: Attachment, error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EINVAL) if attachment == Attachment::Tcx => Self::NoTcx,
            Some(libc::EBUSY | libc::EEXIST) => Self::HookTaken,
            Some(libc::EOPNOTSUPP) => Self::NoDriverSupport,
            number => Self::Refused(number.unwrap_or_default()),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Veth => f.write_str("XDP on a veth can't send unless the far end runs XDP"),
            Self::Bond => f.write_str("native XDP on a bond runs on its slaves"),
            Self::VlanOffload => f.write_str("XDP can't see VLAN tags while rx-vlan-offload is on"),
            Self::HookTaken => f.write_str("another XDP program is attached"),
            Self::NoDriverSupport => f.write_str("the driver has no XDP"),
            Self::NoTcx => f.write_str("the kernel has no TCX, which came with Linux 6.6"),
            Self::Refused(number) => {
                write!(f, "the driver refused XDP: {}", io::Error::from_raw_os_error(*number))
            }
        }
    }
}

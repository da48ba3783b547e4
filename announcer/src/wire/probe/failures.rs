//! Why an address could not be asked for, and how many could not.

use std::{fmt, io};

use rustix::io::Errno;

use crate::vocabulary::Link;

/// The wire could not be asked for an address on a link, so silence proves nothing there.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProbeError {
    /// No link to ask on.
    #[error("no link to probe on")]
    NoLink,
    /// What is sent there reaches nobody.
    #[error("{link} has no carrier")]
    NoCarrier {
        /// The link's name.
        link: String,
    },
    /// The listening socket could not be set up, or broke.
    #[error("can't listen on {link}: {error}")]
    Listen {
        /// The link's name.
        link: String,
        /// The kernel's reason.
        error: Reason,
    },
    /// A question could not be sent.
    #[error("can't send a probe on {link}: {error}")]
    Send {
        /// The link's name.
        link: String,
        /// The kernel's reason.
        error: Reason,
    },
    /// Answers may be among the frames that were lost.
    #[error("{link} is flooded: {lost} of {arrived} frames were lost unread")]
    Deaf {
        /// The link's name.
        link: String,
        /// Frames that found a full buffer.
        lost: u32,
        /// All frames of the kind that is listened to.
        arrived: u32,
    },
}

/// The kernel's reason, as `strerror` has it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reason(Errno);

/// What kept addresses from being asked for, and how many each.
#[derive(Clone, Debug, Default)]
pub struct Failures(Vec<(ProbeError, usize)>);

impl ProbeError {
    pub(super) fn unsent(link: &Link, error: &io::Error) -> Self {
        Self::Send { link: link.name.clone(), error: error.into() }
    }

    /// The question was asked, and an answer may have been lost.
    pub fn is_deaf(&self) -> bool {
        matches!(self, Self::Deaf { .. })
    }

    /// Whether both say the same of the same link; how much was lost is no matter.
    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Deaf { link, .. }, Self::Deaf { link: other, .. }) => link == other,
            _ => self == other,
        }
    }
}

impl From<&io::Error> for Reason {
    fn from(error: &io::Error) -> Self {
        Self(Errno::from_io_error(error).unwrap_or(Errno::IO))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Failures {
    pub(super) fn count(&mut self, error: &ProbeError) {
        match self.0.iter_mut().find(|(known, _)| known.is_like(error)) {
            Some((_, count)) => *count += 1,
            None => self.0.push((error.clone(), 1)),
        }
    }

    /// Nothing failed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all that is here was there before, for however many addresses: nothing new is to be said.
    pub fn are_known(&self, before: &Self) -> bool {
        self.0.iter().all(|(error, _)| before.0.iter().any(|(known, _)| known.is_like(error)))
    }
}

/// `eth1 has no carrier (12 addresses); …`
impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (error, addresses)) in self.0.iter().enumerate() {
            let (before, s) = (if n > 0 { "; " } else { "" }, if *addresses == 1 { "" } else { "es" });
            write!(f, "{before}{error} ({addresses} address{s})")?;
        }
        Ok(())
    }
}

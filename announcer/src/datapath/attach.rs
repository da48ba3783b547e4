//! One link: in which mode it can carry the program, how it gets it, and how it loses it again.

use std::{fs, io, os::fd::AsFd, os::fd::OwnedFd, path::Path};

use super::{
    AttachError, DatapathError,
    config::Mode,
    generation::Generation,
    links::{Attachment, Reason},
    pin_root::{LinkPin, unpin},
    sys::{self, XdpFlags},
};
use crate::vocabulary::Link;

/// A link that runs our program, pinned.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) link: Link,
    pub(super) why: Option<Reason>,
    pub(super) pin: LinkPin,
    pub(super) fd: OwnedFd,
}

/// The modes to try on a link, best first, and why a better one is not among them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Ladder {
    pub(super) rungs: &'static [Attachment],
    pub(super) why: Option<Reason>,
}

// === impl Ladder ===

impl Ladder {
    pub(super) fn new(mode: Mode, link: &Link) -> Result<Self, AttachError> {
        Self::choose(mode, link, hides_vlan_tags(&link.name))
    }

    /// How far down an attachment is; the last of all if it is not wanted.
    pub(super) fn rank(&self, attachment: Attachment) -> usize {
        self.rungs.iter().position(|rung| *rung == attachment).unwrap_or(self.rungs.len())
    }

    fn choose(mode: Mode, link: &Link, hides_vlan_tags: bool) -> Result<Self, AttachError> {
        use Attachment::{Generic, Native, Tcx};
        let is = |kind: &str| link.kind.as_deref() == Some(kind);
        let (rungs, why): (&[_], _) = match mode {
            Mode::Native | Mode::Generic if hides_vlan_tags => {
                return Err(AttachError::VlanOffload { name: link.name.clone() });
            }
            Mode::Native if is("bond") => return Err(AttachError::Bond(Native)),
            Mode::Native => (&[Native], None),
            Mode::Tcx => (&[Tcx], None),
            Mode::Generic => (&[Generic], None),
            Mode::Auto if hides_vlan_tags => (&[Tcx], Some(Reason::VlanOffload)),
            Mode::Auto if is("veth") => (&[Tcx, Generic], Some(Reason::Veth)),
            Mode::Auto if is("bond") => (&[Tcx, Generic], Some(Reason::Bond)),
            Mode::Auto => (&[Native, Tcx, Generic], None),
        };
        Ok(Self { rungs, why })
    }
}

// === impl Attached ===

impl Attached {
    /// Attaches in the first mode of the ladder that works, and pins the link.
    pub(super) fn attach(
        generation: &Generation,
        root: &Path,
        link: &Link,
        ladder: &Ladder,
    ) -> Result<Self, AttachError> {
        let mut why = ladder.why;
        let mut failure = None;
        for &attachment in ladder.rungs {
            match create(generation, link, attachment) {
                Ok(fd) => {
                    let pin = LinkPin::new(root, link.id, attachment);
                    let pinned =
                        unpin(&pin.path).is_ok().then_some(()).ok_or(io::ErrorKind::PermissionDenied.into());
                    return match pinned.and_then(|()| sys::pin(fd.as_fd(), &pin.path)) {
                        Ok(()) => Ok(Self { link: link.clone(), why, pin, fd }),
                        // Closing the descriptor detaches.
                        Err(source) => Err(AttachError::Pin { path: pin.path, source }),
                    };
                }
                Err(error) => {
                    why = Some(Reason::of(attachment, &error));
                    // The first failure tells more than those of the makeshifts after it.
                    failure.get_or_insert((attachment, error));
                }
            }
        }
        let (attachment, source) =
            failure.unwrap_or((Attachment::Generic, io::Error::from(io::ErrorKind::Unsupported)));
        Err(match Reason::of(attachment, &source) {
            Reason::HookTaken => AttachError::HookTaken(source),
            Reason::NoTcx => AttachError::NoTcx(source),
            _ => AttachError::Refused { attachment, source },
        })
    }

    /// Gives the link another program, in one step.
    pub(super) fn swap(&self, generation: &Generation) -> io::Result<()> {
        sys::update_link(self.fd.as_fd(), generation.program(self.pin.attachment))
    }

    /// Another mode by way of TCX, so that one program or the other answers all the time: the new one is attached
    /// before the old one is detached, and native and generic XDP exclude each other.
    pub(super) fn change(
        self,
        generation: &Generation,
        root: &Path,
        link: &Link,
        ladder: &Ladder,
    ) -> Result<Self, AttachError> {
        let bridge = Ladder { rungs: &[Attachment::Tcx], why: None };
        let by_tcx = match self.pin.attachment {
            Attachment::Tcx => Some(self),
            Attachment::Native | Attachment::Generic => {
                let bridge = Self::attach(generation, root, link, &bridge).ok();
                self.drop_off();
                bridge
            }
        };
        match by_tcx {
            Some(attached) if ladder.rungs.first() == Some(&Attachment::Tcx) => {
                Ok(Self { why: ladder.why, ..attached })
            }
            by_tcx => {
                let attached = Self::attach(generation, root, link, ladder)?;
                if let Some(bridge) = by_tcx {
                    bridge.drop_off();
                }
                Ok(attached)
            }
        }
    }

    /// Detaches, at once and for good.
    pub(super) fn detach(self) -> Result<(), DatapathError> {
        detach(&self.pin, self.fd)
    }

    /// The same where nothing more can be done if its pin stays.
    pub(super) fn drop_off(self) {
        let link = self.link.name.clone();
        if let Err(error) = self.detach() {
            tracing::warn!(link, error = error.in_a_line(), "The link is detached, and its pin stays");
        }
    }

    /// Whether the device is gone, whatever has its name now.
    pub(super) fn is_severed(&self) -> bool {
        sys::link_info(self.fd.as_fd()).is_ok_and(|info| info.ifindex == 0)
    }
}

/// Unpins and detaches a link; detaches it even if the pin stays.
pub(super) fn detach(pin: &LinkPin, fd: OwnedFd) -> Result<(), DatapathError> {
    let unpinned = unpin(&pin.path);
    // The device may be gone (ENOLINK), and then so is what was attached to it. Closing detaches, too, unless another
    // process has the link open.
    if let Err(error) = sys::detach_link(fd.as_fd()) {
        tracing::debug!(link = %pin.link, %error, "The link was detached already");
    }
    unpinned
}

fn create(generation: &Generation, link: &Link, attachment: Attachment) -> io::Result<OwnedFd> {
    let ifindex = link.id.0;
    let program = generation.program(attachment);
    match attachment {
        Attachment::Native => sys::create_xdp_link(program, ifindex, XdpFlags::Native),
        Attachment::Generic => sys::create_xdp_link(program, ifindex, XdpFlags::Generic),
        Attachment::Tcx => sys::create_tcx_link(program, ifindex),
    }
}

/// Whether XDP on this link would miss the tags of its VLAN devices. Where the driver can't say: no.
fn hides_vlan_tags(name: &str) -> bool {
    // `8021q` lists its devices with their parents: `eth0.5 | 5 | eth0`. No such file: no VLAN devices.
    let devices = fs::read_to_string("/proc/thread-self/net/vlan/config").unwrap_or_default();
    let is_parent =
        devices.lines().any(|line| line.split('|').nth(2).is_some_and(|parent| parent.trim() == name));
    is_parent && sys::rx_vlan_offload(name).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocabulary::{LinkId, Mac};

    fn link(kind: Option<&str>) -> Link {
        Link {
            id: LinkId(2),
            name: "eth0".to_owned(),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            kind: kind.map(str::to_owned),
            carrier: true,
            mtu: 1500,
            master: None,
            vlan: None,
            has_global_address: true,
            ipv6_source: None,
        }
    }

    fn rungs(mode: Mode, kind: Option<&str>, hides_vlan_tags: bool) -> Option<&'static [Attachment]> {
        Ladder::choose(mode, &link(kind), hides_vlan_tags).ok().map(|ladder| ladder.rungs)
    }

    #[test]
    fn auto_tries_native_then_tcx_then_generic_on_a_plain_nic() {
        use Attachment::{Generic, Native, Tcx};
        assert_eq!(rungs(Mode::Auto, None, false), Some(&[Native, Tcx, Generic][..]));
    }

    #[test]
    fn auto_never_takes_native_on_a_veth() {
        assert_eq!(rungs(Mode::Auto, Some("veth"), false), Some(&[Attachment::Tcx, Attachment::Generic][..]));
    }

    #[test]
    fn xdp_is_refused_where_it_would_not_see_vlan_tags() {
        assert_eq!(rungs(Mode::Native, None, true), None);
        assert_eq!(rungs(Mode::Generic, None, true), None);
        assert_eq!(rungs(Mode::Auto, None, true), Some(&[Attachment::Tcx][..]));
    }
}

//! Frames that userspace sends: gratuitous ARP, unsolicited NA, probes; links and their changes (netlink).
//!
//! Pure: [`frames`], [`announcements`], [`select`], and the fold in [`links`]. The rim: [`sender`], [`hearing`], [`probe`],
//! [`detector`], [`links::LinkWatch`], [`segments`], [`groups`].

pub mod announcements;
pub mod detector;
pub mod frames;
pub mod groups;
pub mod hearing;
pub mod links;
mod packet;
pub mod probe;
pub mod segments;
pub mod select;
pub mod sender;

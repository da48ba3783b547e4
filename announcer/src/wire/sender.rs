//! The rim of announcing: one AF_PACKET socket, and the loop that empties a [`Schedule`] into it.

use std::{
    collections::BTreeMap,
    io,
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

use super::{
    announcements::{Announcement, Round, SPACING, Schedule},
    frames,
    packet::packet_address,
};
use crate::vocabulary::{Link, LinkId, Vip};

/// When a frame that a full queue refused is tried again.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(50);

/// Where frames go: the wire, or a test.
pub trait Transmit {
    /// Sends one whole frame on `link`.
    fn send(&self, link: LinkId, frame: &[u8]) -> io::Result<()>;
}

/// The socket that all announcements leave by, whatever the link. Needs CAP_NET_RAW.
#[derive(Debug)]
pub struct Sender {
    socket: Socket,
}

/// What a call of [`send_due`] did.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Sent {
    /// Frames sent, per VIP.
    pub frames: BTreeMap<Vip, u32>,
    /// VIPs whose first announcement on this link left whole: what the log tells.
    pub first: Vec<(Vip, LinkId)>,
    /// Announcements that `may` refused at one of their frames: the VIP is not ours to announce now.
    pub refused: Vec<(Vip, LinkId)>,
    /// Announcements that the link could not take: they come again, by themselves or when the link comes up.
    pub postponed: Vec<(Vip, LinkId)>,
    /// Announcements that no later attempt would send either, and why.
    pub failed: Vec<(Vip, LinkId, io::ErrorKind)>,
}

impl Sender {
    /// Opens the socket, without blocking and for sending only: with protocol 0 the kernel never queues a received
    /// frame. Sent frames don't pass through XDP or the TCX ingress hook.
    pub fn new() -> io::Result<Self> {
        Ok(Self { socket: Socket::new(Domain::PACKET, Type::RAW.nonblocking().cloexec(), None)? })
    }
}

impl Transmit for Sender {
    fn send(&self, link: LinkId, frame: &[u8]) -> io::Result<()> {
        self.socket.send_to(frame, &packet_address(link, 0)).map(drop)
    }
}

/// Sends every announcement that is due at `now`, in the schedule's order and at its rate.
///
/// `may` is asked right before *every* frame whether this node still owns the VIP on that link: deadline, epoch and
/// entry (DESIGN §5.4). A refused announcement is not tried again: the schedule's next round asks anew. Nothing is
/// sent on a link that is absent or without carrier: its VIPs wait until the caller says [`Schedule::link_up`].
pub fn send_due(
    wire: &impl Transmit,
    schedule: &mut Schedule,
    now: Instant,
    links: &BTreeMap<LinkId, Link>,
    mut may: impl FnMut(Vip, LinkId) -> bool,
) -> Sent {
    let mut sent = Sent::default();
    while let Some(announcement) = schedule.pop_due(now) {
        let Announcement { vip, link, round } = announcement;
        match send_one(wire, announcement, links, &mut may, &mut sent) {
            Outcome::Whole if round == Round::Burst(0) => sent.first.push((vip, link)),
            Outcome::Whole => {}
            Outcome::Refused => sent.refused.push((vip, link)),
            Outcome::NoCarrier => {
                schedule.park(announcement);
                sent.postponed.push((vip, link));
            }
            Outcome::Later(pause) => {
                schedule.again(announcement, now + pause);
                sent.postponed.push((vip, link));
            }
            Outcome::Failed(error) => sent.failed.push((vip, link, error)),
        }
    }
    sent
}

/// Whether a moment later the kernel may take the frame.
pub(super) fn is_queue_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM | libc::EINTR))
}

enum Outcome {
    Whole,
    Refused,
    NoCarrier,
    Later(Duration),
    Failed(io::ErrorKind),
}

fn send_one(
    wire: &impl Transmit,
    Announcement { vip, link, .. }: Announcement,
    links: &BTreeMap<LinkId, Link>,
    may: &mut impl FnMut(Vip, LinkId) -> bool,
    sent: &mut Sent,
) -> Outcome {
    let Some(on) = links.get(&link).filter(|link| link.carrier) else { return Outcome::NoCarrier };
    for frame in frames::announcement(vip, on) {
        if !may(vip, link) {
            return Outcome::Refused;
        }
        match wire.send(link, &frame) {
            Ok(()) => *sent.frames.entry(vip).or_default() += 1,
            Err(error) => return Outcome::of(&error),
        }
    }
    Outcome::Whole
}

impl Outcome {
    /// What an error of sendto(2) means for the announcement.
    fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            _ if is_queue_full(error) => Self::Later(QUEUE_FULL_PAUSE),
            Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV) => Self::Later(SPACING),
            _ => Self::Failed(error.kind()),
        }
    }
}

#[cfg(test)]
mod tests;

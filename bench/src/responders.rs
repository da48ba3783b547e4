//! Everybody who could answer for a VIP, each at the end of a veth pair of its own.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr},
    os::fd::OwnedFd,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use announcer::{datapath::Mode, vocabulary::Link};
use anyhow::{Context as _, Result};

use crate::{
    frames,
    lab::{Far, Live, ip, link, set},
    sys,
};

/// How many VIPs each of them answers for.
pub const VIPS: u16 = 64;

/// Who answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Who {
    /// Ours, in this mode.
    Ours(Mode),
    /// The kernel's stack: the VIPs are addresses of the link.
    Kernel,
    /// A thread with a packet socket, as plain as can be: no lock, no metrics, a hash set of VIPs.
    Packet,
}

/// A responder, and the link that leads to it.
pub struct Responder {
    /// Who it is.
    pub who: Who,
    /// Its end of the pair.
    pub here: Link,
    /// The asker's end.
    pub there: Link,
    /// The packet responder's thread.
    pub thread: Option<i32>,
    _live: Option<Live>,
}

impl Who {
    /// All of them, in the order of the tables.
    pub const ALL: [Self; 5] = [
        Self::Ours(Mode::Native),
        Self::Ours(Mode::Generic),
        Self::Ours(Mode::Tcx),
        Self::Kernel,
        Self::Packet,
    ];

    /// Its name in the tables.
    pub fn name(self) -> String {
        match self {
            Self::Ours(mode) => format!("ours, {mode}"),
            Self::Kernel => "kernel's own stack".to_owned(),
            Self::Packet => "AF_PACKET process".to_owned(),
        }
    }

    fn device(self) -> String {
        match self {
            Self::Ours(mode) => format!("bn-{mode}"),
            Self::Kernel => "bn-kernel".to_owned(),
            Self::Packet => "bn-packet".to_owned(),
        }
    }
}

impl Responder {
    /// All of them, in this namespace; the asker's ends in `far`.
    pub fn start_all(far: &Far) -> Result<Vec<Self>> {
        // No address of another link is answered for, and no router or group is looked for.
        set("/proc/sys/net/ipv4/conf/all/arp_ignore", "1")?;
        far.run(quiet)?;
        quiet()?;
        Who::ALL.into_iter().map(|who| Self::start(who, far)).collect()
    }

    fn start(who: Who, far: &Far) -> Result<Self> {
        let device = who.device();
        let far_device = format!("{device}-f");
        far.add_pair(&device, &far_device)?;
        let here = link(&device)?;
        let there = far.run(move || link(&far_device))?;
        let vips = || (1..=VIPS).map(frames::vip4);
        let (mut live, mut thread) = (None, None);
        match who {
            Who::Ours(mode) => live = Some(Live::start(&device, mode, &here, vips().map(IpAddr::from))?),
            Who::Kernel => {
                ip(&format!("addr add 10.77.0.1/16 dev {device}"))?;
                vips().try_for_each(|vip| ip(&format!("addr add {vip}/32 dev {device}")))?;
            }
            Who::Packet => thread = Some(answer(&here, vips().collect())?),
        }
        Ok(Self { who, here, there, thread, _live: live })
    }
}

/// No IPv6 in this namespace: it would speak up unasked.
fn quiet() -> Result<()> {
    if std::path::Path::new("/proc/sys/net/ipv6").exists() {
        set("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1")?;
    }
    Ok(())
}

/// Starts a thread that answers on `link` for as long as the process lives. Its id.
fn answer(link: &Link, vips: HashSet<Ipv4Addr>) -> Result<i32> {
    let socket = Arc::new(sys::arp_socket(link.id.0, Duration::from_secs(3600))?);
    let own = link.mac.0;
    let (ready, begun) = mpsc::channel();
    thread::spawn(move || {
        ready.send(rustix::thread::gettid().as_raw_nonzero().get()).unwrap_or_default();
        let mut frame = [0_u8; 128];
        loop {
            let Ok(42..) = rustix::io::read(&*socket, &mut frame) else { continue };
            if frame[14..22] == [0, 1, 8, 0, 6, 4, 0, 1]
                && vips.contains(&Ipv4Addr::new(frame[38], frame[39], frame[40], frame[41]))
            {
                // A full send queue loses an answer, as in any such program.
                rustix::io::write(&*socket, &reply(&frame, own)).unwrap_or_default();
            }
        }
    });
    begun.recv().context("the packet responder has ended")
}

fn reply(request: &[u8], own: [u8; 6]) -> [u8; 42] {
    let mut reply = [0; 42];
    reply.copy_from_slice(&request[..42]);
    reply[..6].copy_from_slice(&request[22..28]);
    reply[6..12].copy_from_slice(&own);
    reply[21] = 2;
    reply[22..28].copy_from_slice(&own);
    reply[28..32].copy_from_slice(&request[38..42]);
    reply[32..42].copy_from_slice(&request[22..32]);
    reply
}

/// What the far end of a native responder needs to take up what XDP sends: any XDP program. Until dropped.
pub fn let_pass(far: &Far, link: &Link) -> Result<OwnedFd> {
    let ifindex = link.id.0;
    far.run(move || {
        use std::os::fd::AsFd as _;
        let program = crate::programs::Program::empty(sys::Kind::Xdp)?;
        Ok(sys::attach_native(program.as_fd(), ifindex)?)
    })
}

//! The guest's NIC: each frame that it sends is a datagram here, and the other way round. No network of this machine is
//! touched.

use std::{
    net::Ipv4Addr,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{arp, judge::Said};

/// The hardware address of the guest's `eth0`.
pub const GUEST_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
const OUR_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];
const OUR_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
/// As often as a client asks that gets no answer.
const AGAIN: Duration = Duration::from_secs(1);

/// The far end of a guest's `eth0`.
#[derive(Debug)]
pub struct Nic {
    socket: UnixDatagram,
    here: PathBuf,
    guest: PathBuf,
}

// === impl Nic ===

impl Nic {
    pub(super) fn new(folder: &Path) -> Result<Self> {
        let (here, guest) = (folder.join("here"), folder.join("guest"));
        let socket = UnixDatagram::bind(&here).with_context(|| format!("make {}", here.display()))?;
        Ok(Self { socket, here, guest })
    }

    /// What QEMU is told of it.
    pub(super) fn arguments(&self) -> [String; 4] {
        let [a, b, c, d, e, f] = GUEST_MAC;
        [
            "-netdev".to_owned(),
            format!(
                "dgram,id=net,local.type=unix,local.path={},remote.type=unix,remote.path={}",
                self.guest.display(),
                self.here.display()
            ),
            "-device".to_owned(),
            format!("virtio-net-pci,netdev=net,romfile=,mac={a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"),
        ]
    }

    /// Asks who has `address`, again and again; the hardware address that the answer names.
    ///
    /// # Errors
    /// Nobody has answered within `limit`.
    pub fn ask(&self, address: Ipv4Addr, limit: Duration) -> Result<[u8; 6]> {
        let question = arp::request(OUR_MAC, OUR_ADDRESS, address);
        let until = Instant::now() + limit;
        self.socket.set_read_timeout(Some(AGAIN)).context("set a time limit")?;
        while Instant::now() < until {
            self.socket.send_to(&question, &self.guest).context("send a frame to the guest")?;
            let again = Instant::now() + AGAIN;
            let mut frame = [0; 2048];
            while let Ok(length) = self.socket.recv(&mut frame) {
                if let Some(Said::Answer(who, mac)) = arp::parse(&frame[..length], OUR_ADDRESS)
                    && who == address
                {
                    return Ok(mac);
                }
                if Instant::now() > again {
                    break;
                }
            }
        }
        bail!("nobody answers for {address}")
    }
}

//! Listening on links: one packet socket for each link and family, whose filter lets only the addresses of interest pass.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    io::{self, Read as _},
    pin::Pin,
};

use futures::future::select_all;
use socket2::{Domain, Socket, Type};
use tokio::io::unix::AsyncFd;
use tracing::warn;

use crate::{
    vocabulary::{LinkId, Mac, Vip},
    wire::{
        frames::{ETHERTYPE_ARP, ETHERTYPE_IPV6},
        packet::{packet_address, readable},
        probe::{
            ear::{FRAME_BYTES, Heard, understand},
            filter::{VIPS, said_by},
        },
    },
};

/// Every ear of this node.
#[derive(Debug, Default)]
pub(super) struct Ears {
    /// By link, family, and number: a filter has room for so many addresses.
    ears: BTreeMap<Key, Ear>,
    /// Links that cannot be listened to, so that each is said once.
    deaf: BTreeSet<LinkId>,
}

type Key = (LinkId, bool, usize);

#[derive(Debug)]
struct Ear {
    addresses: Vec<Vip>,
    socket: AsyncFd<Socket>,
}

impl Ears {
    /// Listens to these from now on. What has arrived for others is not told any more.
    pub(super) fn follow(&mut self, wanted: &BTreeMap<LinkId, BTreeSet<Vip>>) {
        let mut all: BTreeMap<Key, Vec<Vip>> = BTreeMap::new();
        for (link, addresses) in wanted {
            let (v4, v6): (Vec<Vip>, Vec<Vip>) = addresses.iter().partition(|address| address.ip().is_ipv4());
            for (is_ipv4, addresses) in [(true, v4), (false, v6)] {
                let some = addresses.chunks(VIPS).enumerate();
                all.extend(some.map(|(number, some)| ((*link, is_ipv4, number), some.to_vec())));
            }
        }
        self.ears.retain(|key, _| all.contains_key(key));
        self.deaf.retain(|link| wanted.contains_key(link));
        for (key, addresses) in all {
            let followed = match self.ears.get_mut(&key) {
                Some(ear) if ear.addresses == addresses => continue,
                Some(ear) => ear.listen_to(addresses),
                None => Ear::open(key, addresses).map(|ear| drop(self.ears.insert(key, ear))),
            };
            match followed {
                Ok(()) => drop(self.deaf.remove(&key.0)),
                Err(error) if self.deaf.insert(key.0) => {
                    warn!(link = key.0.0, %error, "cannot listen to other nodes' answers on this interface");
                }
                Err(_) => {}
            }
        }
    }

    /// Waits until something may have arrived.
    pub(super) async fn ready(&self) {
        if self.ears.is_empty() {
            return pending().await;
        }
        let ready = |ear| -> Pin<Box<dyn Future<Output = ()> + Send + '_>> { Box::pin(Ear::ready(ear)) };
        select_all(self.ears.values().map(ready)).await;
    }

    /// All that has arrived, whatever the runtime knows of it: a process that was stopped is to hear first.
    pub(super) fn drain(&self, mut tell: impl FnMut(LinkId, Vip, Mac)) {
        for ((link, ..), ear) in &self.ears {
            let mut frame = [0; FRAME_BYTES];
            loop {
                match ear.socket.get_ref().read(&mut frame) {
                    Ok(length) => {
                        if let Some((ip, Heard::Answer(mac))) = understand(&frame[..length]) {
                            tell(*link, ip, mac);
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // Nothing more; or the link went down, of which netlink tells.
                    Err(_) => break,
                }
            }
        }
    }
}

impl Ear {
    fn open((link, is_ipv4, _): Key, addresses: Vec<Vip>) -> io::Result<Self> {
        let ethertype = if is_ipv4 { ETHERTYPE_ARP } else { ETHERTYPE_IPV6 };
        // Deaf until it is bound: nothing passes before the filter is in place.
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking().cloexec(), None)?;
        socket.attach_filter(&said_by(&addresses))?;
        socket.bind(&packet_address(link, ethertype))?;
        Ok(Self { addresses, socket: readable(socket)? })
    }

    fn listen_to(&mut self, addresses: Vec<Vip>) -> io::Result<()> {
        self.socket.get_ref().attach_filter(&said_by(&addresses))?;
        self.addresses = addresses;
        Ok(())
    }

    async fn ready(&self) {
        // An error is one of the link, and read as such.
        if let Ok(mut ready) = self.socket.readable().await {
            ready.clear_ready();
        }
    }
}

//! Memberships that no address can hold: held by sockets, which end with the process.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use socket2::{Domain, Socket, Type};
use tokio::task::yield_now;

use super::Membership;

/// As many sockets as it takes: the limit (about 2 340 at the default `optmem_max`) is per socket.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    sockets: Vec<(Socket, BTreeSet<Membership>)>,
}

impl Sockets {
    /// How many memberships the sockets hold.
    pub(super) fn len(&self) -> usize {
        self.sockets.iter().map(|(_, held)| held.len()).sum()
    }

    /// Whether a socket holds this one.
    pub(super) fn holds(&self, membership: &Membership) -> bool {
        self.sockets.iter().any(|(_, held)| held.contains(membership))
    }

    /// Holds these and no others; gives back what could not be joined. Lets other tasks run after each.
    pub(super) async fn hold(
        &mut self,
        mut wanted: BTreeSet<Membership>,
    ) -> BTreeMap<Membership, io::ErrorKind> {
        for (socket, held) in &mut self.sockets {
            for membership @ (link, group) in held.extract_if(.., |membership| !wanted.remove(membership)) {
                // A link that is gone took the membership along: an error changes nothing.
                let _gone = (membership, socket.leave_multicast_v6(&group, link.0));
            }
        }
        self.sockets.retain(|(_, held)| !held.is_empty());
        let mut failed = BTreeMap::new();
        for membership in wanted {
            if let Err(error) = self.join(membership) {
                failed.insert(membership, error.kind());
            }
            yield_now().await;
        }
        failed
    }

    fn join(&mut self, membership: Membership) -> io::Result<()> {
        if let Some((socket, held)) = self.sockets.last_mut() {
            match try_join(socket, membership) {
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::ENOBUFS)) => {}
                Err(error) => return Err(error),
                Ok(()) => {
                    held.insert(membership);
                    return Ok(());
                }
            }
        }
        let socket = Socket::new(Domain::IPV6, Type::DGRAM.cloexec(), None)?;
        try_join(&socket, membership)?;
        self.sockets.push((socket, [membership].into()));
        Ok(())
    }
}

fn try_join(socket: &Socket, (link, group): Membership) -> io::Result<()> {
    match socket.join_multicast_v6(&group, link.0) {
        // A re-created link may bear the number of one whose membership the socket still lists.
        Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => Ok(()),
        result => result,
    }
}

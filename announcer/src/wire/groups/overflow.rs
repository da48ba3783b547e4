//! Memberships past the kernel's limit for addresses: held by sockets, which end with the process.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use socket2::{Domain, Socket, Type};

use super::Membership;

/// As many sockets as it takes: the limit (about 2 340 at the default `optmem_max`) is per socket.
#[derive(Debug, Default)]
pub(super) struct Overflow {
    sockets: Vec<(Socket, BTreeSet<Membership>)>,
}

impl Overflow {
    /// How many memberships the sockets hold.
    pub(super) fn len(&self) -> usize {
        self.sockets.iter().map(|(_, held)| held.len()).sum()
    }

    /// Holds these and no others; gives back what could not be joined.
    pub(super) fn hold(&mut self, mut wanted: BTreeSet<Membership>) -> BTreeMap<Membership, io::ErrorKind> {
        for (socket, held) in &mut self.sockets {
            for membership @ (link, group) in held.extract_if(.., |membership| !wanted.remove(membership)) {
                // A link that is gone took the membership along: an error changes nothing.
                let _gone = (membership, socket.leave_multicast_v6(&group, link.0));
            }
        }
        self.sockets.retain(|(_, held)| !held.is_empty());
        let join = |membership| self.join(membership).err().map(|error| (membership, error.kind()));
        wanted.into_iter().filter_map(join).collect()
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

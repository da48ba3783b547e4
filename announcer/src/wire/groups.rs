//! Solicited-node groups that outlive the agent: membership by an address of the link, `ff02::1:ffXX:XXXX/128 autojoin`.
//!
//! The stack joins for us, so MLD reports are sent and a snooping switch forwards questions. A socket's membership would
//! end with the process; an address stays until it is removed. It carries our mark (`IFA_PROTO`, Linux 5.18), so that the
//! next agent, or `uninstall`, knows what to remove.
//!
//! What Linux 6.18 does, found by trying: loss of carrier leaves address and membership alone. Setting the link *down*
//! removes the address but not the membership, which then can neither be added again (EADDRINUSE) nor removed before the
//! link is. If the link goes down within moments of the address's coming, the kernel even drops the group and keeps the
//! EADDRINUSE (`addrconf_leave_solict` runs without the join of a DAD work that is still queued). So the kernel's list of
//! groups has the last word, and what is missing there is held by a socket.

mod keep;
mod kernel;
mod sockets;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, Ipv6Addr},
};

use futures::TryStreamExt;
use rtnetlink::{
    AddressMessageBuilder, Handle, new_connection,
    packet_route::{
        AddressFamily,
        address::{AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, AddressScope},
    },
};
use tokio::task::JoinSet;
use tracing::warn;

use super::frames::solicited_node;
use crate::vocabulary::{LinkId, Vip};
use sockets::Sockets;

/// `IFA_PROTO` of our addresses. 1 to 3 are the kernel's; `ip address` shows ours as `proto 0xa7`.
const OURS: AddressProtocol = AddressProtocol::Other(0xa7);

/// A group on a link.
pub type Membership = (LinkId, Ipv6Addr);

/// Keeps the memberships of this node as wanted. Uses the network namespace of the thread that opens it.
#[derive(Debug)]
pub struct Groups {
    netlink: Handle,
    sockets: Sockets,
    /// Where memberships with our mark are ours to remove; another instance may have its own on other links.
    links: BTreeSet<LinkId>,
    _task: JoinSet<()>,
}

/// What a call of [`Groups::reconcile`] did.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Reconciled {
    /// Memberships added.
    pub joined: usize,
    /// Memberships removed, those of an earlier agent among them.
    pub left: usize,
    /// Memberships that last only as long as this process: no address could hold them, mostly as the kernel's limit is
    /// reached (`net.core.optmem_max`).
    pub by_socket: usize,
    /// What could not be joined, with the kernel's reason: multicast questions for these VIPs may not arrive.
    pub failed: BTreeMap<Membership, io::ErrorKind>,
}

/// Memberships can't be read.
#[derive(Debug, thiserror::Error)]
pub enum GroupsError {
    /// The netlink socket could not be opened.
    #[error("can't open a netlink socket")]
    Open(#[source] io::Error),
    /// The kernel refused to list addresses.
    #[error("can't list addresses")]
    List(#[source] rtnetlink::Error),
}

/// The memberships that these VIPs need. Many VIPs may share one.
pub fn wanted(held: impl IntoIterator<Item = (Vip, LinkId)>) -> BTreeSet<Membership> {
    let group = |(vip, link): (Vip, LinkId)| match vip.ip() {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some((link, solicited_node(address))),
    };
    held.into_iter().filter_map(group).collect()
}

impl Groups {
    /// Opens netlink; joins nothing yet. `links` are those on which an agent before this one may have left memberships:
    /// there, and wherever some are wanted later, those that are not wanted are removed. Needs CAP_NET_ADMIN for
    /// [`Self::reconcile`].
    pub fn open(links: BTreeSet<LinkId>) -> Result<Self, GroupsError> {
        let (netlink, task) = connect()?;
        Ok(Self { netlink, sockets: Sockets::default(), links, _task: task })
    }

    /// Opens netlink anew, for one that is broken; memberships stay.
    pub fn reopen(&mut self) -> Result<(), GroupsError> {
        (self.netlink, self._task) = connect()?;
        Ok(())
    }

    /// Makes the memberships `wanted` and no others, but for those that are not ours. To be called when VIPs come or
    /// go, and when a link has started anew. Reads what is there first, so nothing it did before is taken for granted.
    ///
    /// Not for the loop that renews: with thousands of groups the kernel takes half a millisecond and more for each.
    pub async fn reconcile(&mut self, wanted: &BTreeSet<Membership>) -> Result<Reconciled, GroupsError> {
        let present = self.present().await.map_err(GroupsError::List)?;
        let mut done = Reconciled::default();
        self.links.extend(wanted.iter().map(|(link, _)| *link));
        let unwanted =
            |membership: &Membership| self.links.contains(&membership.0) && !wanted.contains(membership);
        for (membership, _) in present.iter().filter(|(membership, ours)| **ours && unwanted(membership)) {
            // It may have gone with its link meanwhile.
            done.left +=
                usize::from(self.netlink.address().del(address(*membership)).execute().await.is_ok());
        }
        let mut by_socket = BTreeSet::new();
        let (mut full, mut in_doubt) = (false, BTreeSet::new());
        for membership in wanted.iter().filter(|membership| !present.contains_key(membership)) {
            match if full { Err(libc::ENOMEM) } else { self.join(*membership).await } {
                Ok(()) => done.joined += 1,
                Err(libc::EEXIST | libc::EADDRINUSE) => {
                    in_doubt.insert(*membership);
                }
                Err(libc::ENOMEM | libc::ENOBUFS) => {
                    full = true;
                    by_socket.insert(*membership);
                }
                Err(errno) => {
                    done.failed.insert(*membership, io::Error::from_raw_os_error(errno).kind());
                }
            }
        }
        by_socket.extend(in_doubt.into_iter().filter(|membership| self.sockets.holds(membership)));
        by_socket
            .extend(kernel::missing(wanted).into_iter().filter(|missing| !done.failed.contains_key(missing)));
        self.hold(by_socket, &mut done).await;
        Ok(done)
    }

    /// Removes every membership that this or an earlier agent added on its links.
    pub async fn leave_all(&mut self) -> Result<Reconciled, GroupsError> {
        self.reconcile(&BTreeSet::new()).await
    }

    async fn hold(&mut self, memberships: BTreeSet<Membership>, done: &mut Reconciled) {
        let before = self.sockets.len();
        done.failed.extend(self.sockets.hold(memberships).await);
        done.by_socket = self.sockets.len();
        if before == 0 && done.by_socket > 0 {
            warn!(
                groups = done.by_socket,
                "solicited-node groups held by sockets (see net.core.optmem_max): multicast questions for these IPv6 \
                 addresses depend on a running agent"
            );
        }
    }

    /// Every membership by address, and whether it is marked as ours.
    async fn present(&self) -> Result<BTreeMap<Membership, bool>, rtnetlink::Error> {
        let mut request = self.netlink.address().get();
        request.message_mut().header.family = AddressFamily::Inet6;
        request.execute().try_filter_map(async |message| Ok(membership(&message))).try_collect().await
    }

    /// Joins, or says the kernel's errno.
    async fn join(&self, membership: Membership) -> Result<(), i32> {
        let (link, group) = membership;
        let mut request = self.netlink.address().add(link.0, group.into(), 128);
        *request.message_mut() = address(membership);
        request.execute().await.map_err(|error| match error {
            rtnetlink::Error::NetlinkError(error) => error.raw_code().saturating_abs(),
            _ => libc::EIO,
        })
    }
}

fn connect() -> Result<(Handle, JoinSet<()>), GroupsError> {
    let (connection, netlink, _) = new_connection().map_err(GroupsError::Open)?;
    let mut task = JoinSet::new();
    task.spawn(connection);
    Ok((netlink, task))
}

/// The address that stands for a membership. No DAD, for nobody is to be asked about a group; no route of its own.
fn address((link, group): Membership) -> AddressMessage {
    let mut message = AddressMessageBuilder::<Ipv6Addr>::new().index(link.0).build();
    message.header.prefix_len = 128;
    message.header.scope = AddressScope::Link;
    let flags = AddressFlags::Mcautojoin | AddressFlags::Nodad | AddressFlags::Noprefixroute;
    message.attributes = vec![
        AddressAttribute::Local(group.into()),
        AddressAttribute::Address(group.into()),
        AddressAttribute::Flags(flags),
        AddressAttribute::Protocol(OURS),
    ];
    message
}

fn membership(message: &AddressMessage) -> Option<(Membership, bool)> {
    let group = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(IpAddr::V6(ip)) if ip.is_multicast() => Some(*ip),
        _ => None,
    })?;
    let ours = message.attributes.contains(&AddressAttribute::Protocol(OURS));
    Some(((LinkId(message.header.index), group), ours))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vip(text: &str) -> Vip {
        text.parse().expect("an address")
    }

    #[test]
    fn vips_that_end_alike_want_one_membership_per_link() {
        let held = ["fd00::1:2", "fd00:4::1:2", "fd00::9"].map(vip);
        let on = |link| held.into_iter().map(move |vip| (vip, LinkId(link)));
        let group = |text: &str| text.parse::<Ipv6Addr>().expect("an address");
        assert_eq!(
            wanted(on(2).chain(on(3))),
            [
                (LinkId(2), group("ff02::1:ff00:9")),
                (LinkId(2), group("ff02::1:ff01:2")),
                (LinkId(3), group("ff02::1:ff00:9")),
                (LinkId(3), group("ff02::1:ff01:2")),
            ]
            .into()
        );
    }

    #[test]
    fn ipv4_vips_want_none() {
        assert_eq!(wanted([(vip("10.4.11.1"), LinkId(2))]), BTreeSet::new());
    }

    #[test]
    fn only_a_marked_group_is_ours() {
        let one = (LinkId(2), "ff02::1:ff00:9".parse().expect("an address"));
        let mut message = address(one);
        assert_eq!(membership(&message), Some((one, true)));
        message.attributes.pop();
        assert_eq!(membership(&message), Some((one, false)));
    }
}

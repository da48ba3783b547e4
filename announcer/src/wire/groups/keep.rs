//! Memberships are kept beside the loop, for netlink may take its time: whatever removes one, it comes back.

use std::{collections::BTreeSet, time::Duration};

use futures::{FutureExt as _, StreamExt as _, channel::mpsc::UnboundedReceiver, future::pending};
use rtnetlink::{
    MulticastGroup, new_multicast_connection,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::RouteNetlinkMessage,
    sys::SocketAddr,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};
use tracing::{info, warn};

use super::{Groups, Membership, membership};

/// Whoever flushes an interface's addresses removes one after the other.
const FLUSH: Duration = Duration::from_millis(200);
/// How often memberships are compared with what is wanted, though nothing tells of a change.
const LOOK: Duration = Duration::from_secs(60);

/// The kernel's news of IPv6 addresses.
struct News {
    inbox: Option<UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>>,
    _task: JoinSet<()>,
}

impl Groups {
    /// Keeps the memberships as wanted until nobody wants any more, from the first change of `wanted` on. One that somebody
    /// else removes, as networkd and `ip address flush` do, is joined again.
    pub async fn keep(mut self, mut wanted: watch::Receiver<BTreeSet<Membership>>) {
        let mut news = News::open();
        let mut look = interval_at(Instant::now() + LOOK, LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut refused = BTreeSet::new();
        if wanted.changed().await.is_err() {
            return;
        }
        loop {
            let now = wanted.borrow_and_update().clone();
            match self.reconcile(&now).await {
                Ok(done) => {
                    for ((link, group), error) in
                        done.failed.iter().filter(|(which, _)| !refused.contains(*which))
                    {
                        warn!(link = link.0, %group, %error, "cannot join the solicited-node group: IPv6 questions may not arrive");
                    }
                    refused = done.failed.into_keys().collect();
                }
                Err(error) => {
                    warn!(%error, "cannot keep multicast groups");
                    // What was asked may be broken for good; if it cannot be opened now, the next look tells.
                    let _ = self.reopen();
                }
            }
            tokio::select! {
                changed = wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                (link, group) = news.removed(&now) => {
                    info!(link = link.0, %group, "A solicited-node group was removed from the interface: joining again");
                    sleep(FLUSH).await;
                    news.skip();
                }
                _ = look.tick() => {}
            }
        }
    }
}

impl News {
    /// Without them, memberships are looked at from time to time.
    fn open() -> Self {
        let mut task = JoinSet::new();
        let inbox = match new_multicast_connection(&[MulticastGroup::Ipv6Ifaddr]) {
            Ok((connection, _, inbox)) => {
                task.spawn(connection);
                Some(inbox)
            }
            Err(error) => {
                warn!(%error, "Cannot follow IPv6 addresses: a group that is removed is joined again within a minute");
                None
            }
        };
        Self { inbox, _task: task }
    }

    /// Waits until one of these is removed.
    async fn removed(&mut self, wanted: &BTreeSet<Membership>) -> Membership {
        while let Some(inbox) = &mut self.inbox {
            let Some((message, _)) = inbox.next().await else {
                self.inbox = None;
                break;
            };
            if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelAddress(address)) = message.payload
                && let Some((which, _)) = membership(&address)
                && wanted.contains(&which)
            {
                return which;
            }
        }
        pending().await
    }

    /// What has come meanwhile is seen by looking.
    fn skip(&mut self) {
        while let Some(inbox) = &mut self.inbox
            && let Some(Some(_)) = inbox.next().now_or_never()
        {}
    }
}

//! The rim: two netlink sockets, one that listens to the kernel's news and one that asks for everything.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    io,
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt, TryStreamExt, channel::mpsc::UnboundedReceiver};
use rtnetlink::{
    Handle, MulticastGroup, RouteMessageBuilder, new_connection, new_multicast_connection,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage,
        route::{RouteAttribute, RouteMessage},
    },
    sys::{AsyncSocket, SocketAddr},
};
use tokio::{
    sync::{Mutex, watch},
    task::JoinSet,
    time,
};
use tracing::warn;

use super::{LinkTable, LinkView};
use crate::vocabulary::LinkId;

const GROUPS: [MulticastGroup; 3] =
    [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
/// Room for some thousand messages, as when a node's pods all start at once; beyond it the kernel says ENOBUFS.
const RECEIVE_BYTES: u32 = 1 << 20;
const DUMP_TIMEOUT: Duration = Duration::from_secs(5);
const REOPEN_PAUSE: Duration = Duration::from_secs(1);
/// How often default routes are asked for, beside when a link or an address has changed.
const ROUTES: Duration = Duration::from_secs(10);
/// The kernel looks a route up in microseconds.
const ROUTE_TIMEOUT: Duration = Duration::from_secs(1);
/// Addresses that are nobody's (TEST-NET-1 of RFC 5737, RFC 3849): the route to them is the default route.
const ANYWHERE4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const ANYWHERE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// News that arrive during a dump may have made it skip an entry, so it is repeated, but not for ever.
const QUIET_ATTEMPTS: usize = 3;

/// The links of this node, followed while the future of [`LinkWatch::follow`] is polled. Uses the network namespace of
/// the threads that do so.
#[derive(Debug)]
pub struct LinkWatch {
    view: watch::Sender<Arc<LinkView>>,
    followed: Arc<Mutex<Followed>>,
}

/// What one who follows leaves to the next.
#[derive(Debug)]
struct Followed {
    table: LinkTable,
    /// The sockets of the first view, until somebody follows.
    first: Option<Netlink>,
}

/// Why links can't be followed.
#[derive(Debug, thiserror::Error)]
pub enum LinkWatchError {
    /// The netlink socket could not be opened or bound.
    #[error("can't open a netlink socket")]
    Open(#[source] io::Error),
    /// The kernel refused to list links or addresses.
    #[error("can't list links and addresses")]
    Dump(#[source] rtnetlink::Error),
    /// The kernel did not finish its list.
    #[error("listing links and addresses took more than 5 s")]
    Timeout,
    /// The socket was closed under us.
    #[error("the netlink socket closed")]
    Closed,
}

impl LinkWatch {
    /// Opens the sockets, and returns once the first view is complete.
    pub async fn open() -> Result<Self, LinkWatchError> {
        let mut table = LinkTable::default();
        let netlink = Netlink::open(&mut table).await?;
        table.set_uplinks(netlink.uplinks().await);
        let view = watch::Sender::new(Arc::new(table.view()));
        Ok(Self { view, followed: Arc::new(Mutex::new(Followed { table, first: Some(netlink) })) })
    }

    /// The links now, and every change from now on. The sender lives as long as `self`.
    pub fn view(&self) -> watch::Receiver<Arc<LinkView>> {
        self.view.subscribe()
    }

    /// Publishes every change, for ever; a broken socket is opened again. Whoever follows after one that was dropped lists
    /// all links anew first, so that no change between the two is missed.
    pub fn follow(&self) -> impl Future<Output = Infallible> + Send + use<> {
        let (view, followed) = (self.view.clone(), self.followed.clone());
        async move {
            let mut followed = followed.lock().await;
            let Followed { table, first } = &mut *followed;
            let mut netlink = match first.take() {
                Some(first) => first,
                None => reopen(table).await,
            };
            let mut routes = time::interval(ROUTES);
            routes.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
            loop {
                let news = tokio::select! {
                    news = netlink.news.next() => Some(news),
                    _ = routes.tick() => None,
                };
                let is_news = news.is_some();
                if let Some(news) = news
                    && let Err(error) = netlink.take(news, table).await
                {
                    warn!(%error, "Link changes can't be followed; opening netlink again");
                    time::sleep(REOPEN_PAUSE).await;
                    netlink = reopen(table).await;
                }
                let changed = publish(table, &view);
                if (changed || !is_news) && table.set_uplinks(netlink.uplinks().await) {
                    publish(table, &view);
                }
            }
        }
    }
}

/// Says whether anything is new.
fn publish(table: &LinkTable, to: &watch::Sender<Arc<LinkView>>) -> bool {
    let view = table.view();
    to.send_if_modified(|published| {
        let changed = **published != view;
        if changed {
            *published = Arc::new(view);
        }
        changed
    })
}

async fn reopen(table: &mut LinkTable) -> Netlink {
    loop {
        if let Ok(netlink) = Netlink::open(table).await {
            return netlink;
        }
        time::sleep(REOPEN_PAUSE).await;
    }
}

type News = (NetlinkMessage<RouteNetlinkMessage>, SocketAddr);

/// The two sockets; their tasks end with it.
#[derive(Debug)]
struct Netlink {
    news: UnboundedReceiver<News>,
    ask: Handle,
    _tasks: JoinSet<()>,
}

impl Netlink {
    /// Listens first, then lists, so that no change falls between.
    async fn open(table: &mut LinkTable) -> Result<Self, LinkWatchError> {
        let (mut listener, _, news) = new_multicast_connection(&GROUPS).map_err(LinkWatchError::Open)?;
        let wider = listener.socket_mut().socket_mut().set_rx_buf_sz(RECEIVE_BYTES);
        wider.map_err(LinkWatchError::Open)?;
        let (asker, ask, _) = new_connection().map_err(LinkWatchError::Open)?;
        let mut tasks = JoinSet::new();
        tasks.spawn(listener);
        tasks.spawn(asker);
        let mut netlink = Self { news, ask, _tasks: tasks };
        netlink.list(table).await?;
        Ok(netlink)
    }

    /// Takes in the first news and all that have come after it. After an overrun (ENOBUFS) some are lost, and what the socket still
    /// holds is older than a new list would be: both sockets are opened anew.
    async fn take(&mut self, first: Option<News>, table: &mut LinkTable) -> Result<(), LinkWatchError> {
        let mut lost = take_in(table, first.ok_or(LinkWatchError::Closed)?.0);
        while let Some(message) = self.news.next().now_or_never() {
            lost |= take_in(table, message.ok_or(LinkWatchError::Closed)?.0);
        }
        if lost {
            *self = Self::open(table).await?;
        }
        Ok(())
    }

    /// The links that a packet to anywhere would leave by. A node without a default route has none.
    async fn uplinks(&self) -> BTreeSet<LinkId> {
        let v4 = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(ANYWHERE4, 32).build();
        let v6 = RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(ANYWHERE6, 128).build();
        let mut uplinks = BTreeSet::new();
        for route in [v4, v6] {
            let mut found = std::pin::pin!(self.ask.route().get(route).execute());
            // Refused: there is no such route.
            if let Ok(Ok(Some(route))) = time::timeout(ROUTE_TIMEOUT, found.try_next()).await {
                uplinks.extend(out_of(&route));
            }
        }
        uplinks
    }

    /// Asks for all links and addresses, then takes in what has changed while the kernel was listing them.
    async fn list(&mut self, table: &mut LinkTable) -> Result<(), LinkWatchError> {
        for _ in 0..QUIET_ATTEMPTS {
            let dump = time::timeout(DUMP_TIMEOUT, self.dump()).await.map_err(|_| LinkWatchError::Timeout)?;
            table.replace(dump.map_err(LinkWatchError::Dump)?);
            let mut quiet = true;
            while let Some(message) = self.news.next().now_or_never() {
                quiet = false;
                take_in(table, message.ok_or(LinkWatchError::Closed)?.0);
            }
            if quiet {
                break;
            }
        }
        Ok(())
    }

    async fn dump(&self) -> Result<Vec<RouteNetlinkMessage>, rtnetlink::Error> {
        let links = self.ask.link().get().execute().map_ok(RouteNetlinkMessage::NewLink);
        let mut all: Vec<_> = links.try_collect().await?;
        let addresses = self.ask.address().get().execute().map_ok(RouteNetlinkMessage::NewAddress);
        all.append(&mut addresses.try_collect().await?);
        Ok(all)
    }
}

fn out_of(route: &RouteMessage) -> Option<LinkId> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(link) => Some(LinkId(*link)),
        _ => None,
    })
}

/// Folds one message; says whether it tells that others were lost.
fn take_in(table: &mut LinkTable, message: NetlinkMessage<RouteNetlinkMessage>) -> bool {
    match message.payload {
        NetlinkPayload::InnerMessage(message) => table.apply(message),
        NetlinkPayload::Overrun(_) => return true,
        _ => {}
    }
    false
}

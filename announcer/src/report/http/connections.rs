//! The connections of a server: few at a time, none of which can keep another out.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::{AbortHandle, Id, JoinSet},
    time::Instant,
};

use crate::vocabulary::BootNs;

/// Nobody gets more than this, and of each one file is open.
pub(super) const MOST: usize = 64;

/// Those that are open.
#[derive(Debug)]
pub(super) struct Connections {
    running: JoinSet<()>,
    open: Vec<Open>,
    grace: Duration,
}

#[derive(Debug)]
struct Open {
    handle: AbortHandle,
    since: Instant,
    heard: Arc<Heard>,
}

/// When a client was last heard, in boot-time ns; the greatest number once its whole question was.
#[derive(Debug)]
pub(super) struct Heard(AtomicU64);

impl Connections {
    /// None yet. Each that comes stays open for `grace` whatever happens: who has to shake hands before it can ask would else
    /// never come so far while others come and go.
    pub(super) fn new(grace: Duration) -> Self {
        Self { running: JoinSet::new(), open: Vec::new(), grace }
    }

    /// How long it takes until there is room for one more.
    pub(super) fn room_in(&self) -> Duration {
        let full = self.open.len() >= MOST;
        let oldest = self.open.iter().map(|open| open.since.elapsed()).max().filter(|_| full);
        oldest.map_or(Duration::ZERO, |age| self.grace.saturating_sub(age))
    }

    /// Talks with one more client; if there are too many, not any more with the one that has been silent longest.
    pub(super) fn admit<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        converse: impl FnOnce(Arc<Heard>) -> F,
    ) {
        if self.open.len() >= MOST {
            self.close_one();
        }
        let heard = Arc::new(Heard(AtomicU64::new(BootNs::now().0)));
        let handle = self.running.spawn(converse(heard.clone()));
        self.open.push(Open { handle, since: Instant::now(), heard });
    }

    /// Closes the connection whose client has been silent longest, of those whose grace is over; one that has asked only if
    /// all have.
    pub(super) fn close_one(&mut self) {
        let over = |open: &Open| open.since.elapsed() >= self.grace;
        let old = self.open.iter().enumerate().filter(|(_, open)| over(open));
        if let Some((index, _)) = old.min_by_key(|(_, open)| open.heard.at()) {
            self.open.swap_remove(index).handle.abort();
        }
    }

    /// Waits for a connection to end; for ever, if there is none.
    pub(super) async fn ended(&mut self) {
        let id: Id = match self.running.join_next_with_id().await {
            Some(Ok((id, ()))) => id,
            Some(Err(error)) => error.id(),
            None => std::future::pending().await,
        };
        self.open.retain(|open| open.handle.id() != id);
    }
}

impl Heard {
    /// The client has asked: it waits for us, not we for it.
    pub(super) fn whole(&self) {
        self.0.store(u64::MAX, Ordering::Relaxed);
    }

    pub(super) fn something(&self) {
        self.0.fetch_max(BootNs::now().0, Ordering::Relaxed);
    }

    fn at(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A connection that notes when something was read from it.
#[derive(Debug)]
pub(super) struct Listening<S> {
    stream: S,
    heard: Arc<Heard>,
}

impl<S> Listening<S> {
    pub(super) fn new(stream: S, heard: Arc<Heard>) -> Self {
        Self { stream, heard }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Listening<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.heard.something();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Listening<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

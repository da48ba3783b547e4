//! The two small HTTP servers: `/metrics` for Prometheus, `/healthz` and `/readyz` for the kubelet.
//!
//! Whoever reaches a port may hold connections open, and nobody else must wait for that. So each connection is accepted at
//! once, and when there are too many the one that has been silent longest is closed: never one whose question was heard
//! while another has not asked. Where clients shake hands first, each has a moment for it, and others wait so long.

mod connections;
mod gate;
mod tls;

use std::{
    convert::Infallible,
    fmt, io,
    net::{Ipv4Addr, SocketAddr, TcpListener as StdListener},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use kube::Client;
use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task, time,
};
use tracing::debug;

pub use self::tls::{Certificate, Identity, TlsError};
use self::{
    connections::{Connections, Heard, Listening},
    gate::{Gate, Refusal},
};
use super::{
    health::Health,
    metrics::{CONTENT_TYPE, Metrics},
};
use crate::vocabulary::BootNs;

/// Default of `--metrics-address`: IPv4 and IPv6. Unlike MetalLB's ports, so that both can run on one host network.
pub const METRICS_ADDRESS: &str = "[::]:9474";
/// Default of `--health-address`. A kubelet's probe names `host: 127.0.0.1`.
pub const HEALTH_ADDRESS: &str = "127.0.0.1:9475";

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;
/// How long a client may take to ask.
const ASKING_TIME: Duration = Duration::from_secs(1);
/// How long a client is not sent away for others, that has to shake hands before it can ask: three ways there and back.
const HANDSHAKE_GRACE: Duration = Duration::from_millis(300);
/// How long a connection may last in all: a large page takes its time.
const CONNECTION_TIME: Duration = Duration::from_secs(10);
/// The first byte of a client that speaks TLS (RFC 8446 §5.1).
const TLS_HANDSHAKE: u8 = 0x16;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a server serves.
#[derive(Clone, Debug)]
pub enum Pages {
    /// `/metrics`, to everybody by plain HTTP, or behind this.
    Metrics(Arc<Metrics>, Option<Arc<Secure>>),
    /// `/healthz` and `/readyz`.
    Health(Arc<Health>),
    /// That this is not how to ask.
    OnlyHttps,
}

/// What stands before metrics: HTTPS, and the API server's word on who may read them.
pub struct Secure {
    certificate: Arc<Certificate>,
    gate: Gate,
}

/// An address that can't be served.
#[derive(Debug, thiserror::Error)]
#[error("can't serve {what} on {address}")]
pub struct BindError {
    what: &'static str,
    address: SocketAddr,
    #[source]
    source: io::Error,
}

/// A port that is taken as long as any clone of this lives; connections wait until [`serve`] accepts them.
#[derive(Clone, Debug)]
pub struct Port(Arc<StdListener>);

impl Port {
    /// Takes the port for `what`. On a host without IPv6, `[::]` means `0.0.0.0`.
    pub fn bind(address: SocketAddr, what: &'static str) -> Result<Self, BindError> {
        let listener = match listen(address) {
            Err(error)
                if address.ip().is_unspecified() && error.raw_os_error() == Some(libc::EAFNOSUPPORT) =>
            {
                listen((Ipv4Addr::UNSPECIFIED, address.port()).into())
            }
            result => result,
        };
        listener.map(|listener| Self(Arc::new(listener))).map_err(|source| BindError {
            what,
            address,
            source,
        })
    }

    /// Where it listens: the port, if 0 was asked for.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

fn listen(address: SocketAddr) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Serves for ever, one request per connection. Each client has 1 s to ask, and 10 s in all.
///
/// # Errors
/// The port cannot be listened on.
pub async fn serve(port: &Port, pages: Pages) -> io::Result<Infallible> {
    let listener = TcpListener::from_std(port.0.try_clone()?)?;
    let grace = if pages.secure().is_some() { HANDSHAKE_GRACE } else { Duration::ZERO };
    let mut connections = Connections::new(grace);
    loop {
        let room_in = connections.room_in();
        tokio::select! {
            () = time::sleep(room_in), if !room_in.is_zero() => {}
            accepted = listener.accept(), if room_in.is_zero() => match accepted {
                Ok((stream, _)) => {
                    connections.admit(|heard| converse(stream, pages.clone(), heard));
                    // Who has asked already is answered before the next one is accepted.
                    task::yield_now().await;
                }
                Err(error) => {
                    debug!(%error, "Can't accept a connection");
                    connections.close_one();
                    time::sleep(ACCEPT_PAUSE).await;
                }
            },
            () = connections.ended() => {}
        }
    }
}

async fn converse(stream: TcpStream, pages: Pages, heard: Arc<Heard>) {
    // A client that goes away, or speaks something else, is no concern of ours.
    let _ = time::timeout(CONNECTION_TIME, async {
        let Some(secure) = pages.secure() else {
            return speak(Listening::new(stream, heard.clone()), &pages, &heard).await;
        };
        let mut first = [0];
        if !matches!(time::timeout(ASKING_TIME, stream.peek(&mut first)).await, Ok(Ok(1))) {
            return;
        }
        let stream = Listening::new(stream, heard.clone());
        if first != [TLS_HANDSHAKE] {
            return speak(stream, &Pages::OnlyHttps, &heard).await;
        }
        let handshake = secure.certificate.acceptor().accept(stream);
        if let Ok(Ok(stream)) = time::timeout(ASKING_TIME, handshake).await {
            speak(stream, &pages, &heard).await;
        }
    })
    .await;
}

/// Hears one question and answers it.
async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin, pages: &Pages, heard: &Heard) {
    let answer = service_fn(move |request: Request<Incoming>| async move {
        heard.whole();
        Ok::<_, Infallible>(pages.answer(&request).await)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(ASKING_TIME).keep_alive(false);
    let _ = http.serve_connection(TokioIo::new(stream), answer).await;
}

impl Secure {
    /// Asks by `client`, whose connections belong to the runtime that it was made in: that of [`serve`].
    pub fn new(certificate: Arc<Certificate>, client: Client) -> Self {
        Self { certificate, gate: Gate::new(client) }
    }
}

impl fmt::Debug for Secure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secure").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Pages {
    fn secure(&self) -> Option<&Secure> {
        if let Self::Metrics(_, secure) = self { secure.as_deref() } else { None }
    }

    /// What costs nothing is looked at first.
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return page(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        }
        let health = |result: Result<(), String>| match result {
            Ok(()) => page(StatusCode::OK, "ok\n"),
            Err(reason) => page(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        };
        match (self, request.uri().path()) {
            (Self::OnlyHttps, _) => page(StatusCode::BAD_REQUEST, "this port speaks HTTPS: ask https://\n"),
            (Self::Metrics(metrics, secure), "/metrics") => {
                if let Some(secure) = secure
                    && let Err(refusal) =
                        secure.gate.admit(request.headers().get(header::AUTHORIZATION)).await
                {
                    return refused(&refusal);
                }
                let mut page = page(StatusCode::OK, metrics.page(BootNs::now()));
                page.headers_mut()
                    .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(CONTENT_TYPE));
                page
            }
            (Self::Health(state), "/healthz") => health(state.live(BootNs::now())),
            (Self::Health(state), "/readyz") => health(state.ready(BootNs::now())),
            _ => page(StatusCode::NOT_FOUND, "no such page\n"),
        }
    }
}

fn refused(why: &Refusal) -> Response<Full<Bytes>> {
    let status = match why {
        Refusal::NoToken | Refusal::Unknown => StatusCode::UNAUTHORIZED,
        Refusal::Forbidden(_) => StatusCode::FORBIDDEN,
        Refusal::Busy => StatusCode::TOO_MANY_REQUESTS,
        Refusal::Unanswered(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut page = page(status, format!("{why}\n"));
    if status == StatusCode::UNAUTHORIZED {
        page.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
    }
    page
}

fn page(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut page = Response::new(Full::new(body.into()));
    *page.status_mut() = status;
    page.headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
    page
}

#[cfg(test)]
mod tests;

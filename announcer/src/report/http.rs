//! The two small HTTP servers: `/metrics` for Prometheus, `/healthz` and `/readyz` for the kubelet.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time,
};
use tracing::debug;

use super::{
    health::Health,
    metrics::{CONTENT_TYPE, Metrics},
};
use crate::vocabulary::BootNs;

/// Default of `--metrics-address`: IPv4 and IPv6. Unlike MetalLB's ports, so that both can run on one host network.
pub const METRICS_ADDRESS: &str = "[::]:9474";
/// Default of `--health-address`. A kubelet's probe names `host: 127.0.0.1`.
pub const HEALTH_ADDRESS: &str = "127.0.0.1:9475";

/// Both servers may be in reach of anybody on the node's network: nobody gets more than this.
const CONNECTIONS: usize = 64;
const CONNECTION_TIME: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a server serves.
#[derive(Clone, Debug)]
pub enum Pages {
    /// `/metrics`.
    Metrics(Arc<Metrics>),
    /// `/healthz` and `/readyz`.
    Health(Arc<Health>),
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

/// A server that has its port, but answers only once [`Server::run`] is polled.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    pages: Pages,
    /// How long a connection may last.
    patience: Duration,
}

impl Server {
    /// Takes the port. On a host without IPv6, `[::]` means `0.0.0.0`.
    pub async fn bind(address: SocketAddr, pages: Pages) -> Result<Self, BindError> {
        let what = pages.name();
        let listener = match TcpListener::bind(address).await {
            Err(error)
                if address.ip().is_unspecified() && error.raw_os_error() == Some(libc::EAFNOSUPPORT) =>
            {
                TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
            }
            result => result,
        };
        listener
            .map(|listener| Self { listener, pages, patience: CONNECTION_TIME })
            .map_err(|source| BindError { what, address, source })
    }

    /// Where it listens: the port, if 0 was asked for.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves for ever. One request per connection, at most 64 at a time and 10 s each.
    pub async fn run(self) -> Infallible {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { std::future::pending().await };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    drop(tokio::spawn(serve(stream, self.pages.clone(), self.patience, place)))
                }
                Err(error) => {
                    debug!(%error, "Can't accept a connection");
                    time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn serve(stream: TcpStream, pages: Pages, patience: Duration, _place: OwnedSemaphorePermit) {
    let answer = service_fn(|request: Request<_>| {
        let response = pages.answer(request.method(), request.uri().path(), BootNs::now());
        async { Ok::<_, Infallible>(response) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(patience).keep_alive(false);
    // A client that goes away, or speaks no HTTP, is no concern of ours.
    let _ = time::timeout(patience, http.serve_connection(TokioIo::new(stream), answer)).await;
}

impl Pages {
    fn name(&self) -> &'static str {
        match self {
            Self::Metrics(_) => "metrics",
            Self::Health(_) => "health",
        }
    }

    fn answer(&self, method: &Method, path: &str, now: BootNs) -> Response<Full<Bytes>> {
        let health = |result: Result<(), String>| match result {
            Ok(()) => page(StatusCode::OK, "ok\n".to_owned()),
            Err(reason) => page(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        };
        let answer = match (self, path) {
            (Self::Metrics(metrics), "/metrics") => {
                let mut page = page(StatusCode::OK, metrics.render(now));
                page.headers_mut()
                    .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(CONTENT_TYPE));
                page
            }
            (Self::Health(state), "/healthz") => health(state.live(now)),
            (Self::Health(state), "/readyz") => health(state.ready(now)),
            _ => page(StatusCode::NOT_FOUND, "no such page\n".to_owned()),
        };
        match *method {
            Method::GET | Method::HEAD => answer,
            _ => page(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned()),
        }
    }
}

fn page(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut page = Response::new(Full::from(body));
    *page.status_mut() = status;
    page.headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
    page
}

#[cfg(test)]
mod tests;

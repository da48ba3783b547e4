use std::error::Error as _;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::report::health::Readiness;

const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn health() -> (Arc<Health>, Pages) {
    let health = Arc::new(Health::new(Duration::from_secs(60), BootNs::now()));
    (Arc::clone(&health), Pages::Health(health))
}

async fn start(pages: Pages) -> SocketAddr {
    let server = Server::bind(LOCAL, pages).await.expect("a free port");
    let address = server.address().expect("an address");
    tokio::spawn(server.run());
    address
}

/// What a client that speaks bare HTTP gets back, to the end of the connection.
async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a server");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("text");
    answer
}

async fn get(address: SocketAddr, path: &str) -> (String, String) {
    let answer = ask(address, &format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.to_owned(), body.to_owned())
}

#[tokio::test]
async fn metrics_are_served_as_openmetrics() {
    let metrics = Arc::new(Metrics::new("bettley", Vec::new));
    let address = start(Pages::Metrics(metrics)).await;
    let (head, body) = get(address, "/metrics").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{head}"
    );
    assert!(body.contains("announcer_owned_vips 0.0\n") && body.ends_with("# EOF\n"), "{body}");
}

#[tokio::test]
async fn health_pages_give_the_reason() {
    let (state, pages) = health();
    let address = start(pages).await;
    assert_eq!(get(address, "/healthz").await.1, "ok\n");
    let (head, body) = get(address, "/readyz").await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert_eq!(body, "the cluster's objects are not all read yet\n");
    let deadline = BootNs::now() + Duration::from_secs(60);
    state.turned(BootNs::now(), Readiness { synced: true, deadline, ..Readiness::default() });
    assert_eq!(get(address, "/readyz").await.1, "ok\n");
}

#[tokio::test]
async fn each_server_has_its_own_pages_only() {
    let address = start(health().1).await;
    for path in ["/metrics", "/", "/healthz/x"] {
        assert!(get(address, path).await.0.starts_with("HTTP/1.1 404 "), "{path}");
    }
}

#[tokio::test]
async fn only_reading_is_allowed() {
    let address = start(health().1).await;
    let answer = ask(address, "POST /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
}

#[tokio::test]
async fn noise_on_the_port_does_not_stop_the_server() {
    let address = start(health().1).await;
    assert!(!ask(address, "\u{0}\u{1}nonsense\r\n\r\n").await.contains("200 OK"));
    assert_eq!(get(address, "/healthz").await.1, "ok\n");
}

#[tokio::test]
async fn a_client_that_never_asks_is_let_go() {
    let mut server = Server::bind(LOCAL, health().1).await.expect("a free port");
    server.patience = Duration::from_millis(50);
    let address = server.address().expect("an address");
    tokio::spawn(server.run());
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS {
        idle.push(TcpStream::connect(address).await.expect("a server"));
    }
    assert_eq!(get(address, "/healthz").await.1, "ok\n");
}

#[tokio::test]
async fn a_port_in_use_is_told_in_one_line() {
    let first = Server::bind(LOCAL, health().1).await.expect("a free port");
    let address = first.address().expect("an address");
    let error = Server::bind(address, health().1).await.expect_err("in use");
    assert_eq!(error.to_string(), format!("can't serve health on {address}"));
    assert_eq!(
        error.source().map(ToString::to_string),
        Some("Address already in use (os error 98)".to_owned())
    );
}

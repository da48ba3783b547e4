use std::error::Error as _;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};

use super::{connections::MOST, *};
use crate::report::{health::Readiness, metrics::Counted};

const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn health() -> (Arc<Health>, Pages) {
    let health = Arc::new(Health::new(Duration::from_secs(60), BootNs::now()));
    (Arc::clone(&health), Pages::Health(health))
}

async fn start(pages: Pages) -> SocketAddr {
    let port = Port::bind(LOCAL, "a test").expect("a free port");
    let address = port.address().expect("an address");
    tokio::spawn(async move { serve(&port, pages).await });
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
    let metrics = Arc::new(Metrics::new("bettley", Counted::default));
    let address = start(Pages::Metrics(metrics, None)).await;
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
async fn a_client_that_never_asks_is_let_go_after_a_second() {
    let address = start(health().1).await;
    let mut idle = TcpStream::connect(address).await.expect("a server");
    let begun = Instant::now();
    let mut nothing = Vec::new();
    timeout(ASKING_TIME * 5, idle.read_to_end(&mut nothing)).await.expect("an end").expect("no error");
    assert!(begun.elapsed() >= ASKING_TIME / 2, "{:?}", begun.elapsed());
}

/// As many local clients as there like to be: each connects, asks nothing or not to the end, waits to be let go, and is
/// back at once.
async fn crowd(address: SocketAddr, size: usize) -> task::JoinSet<()> {
    let mut crowd = task::JoinSet::new();
    for number in 0..size {
        crowd.spawn(async move {
            loop {
                let Ok(mut stream) = TcpStream::connect(address).await else { continue };
                if number % 2 == 0 {
                    let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nx: ").await;
                }
                let _ = stream.read(&mut [0; 64]).await;
            }
        });
    }
    for _ in 0..size {
        task::yield_now().await;
    }
    crowd
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_is_answered_while_200_clients_hold_connections_open() {
    let address = start(health().1).await;
    let _crowd = crowd(address, 200).await;
    for _ in 0..20 {
        let answer = timeout(Duration::from_secs(2), get(address, "/healthz")).await;
        assert_eq!(answer.expect("an answer before the kubelet's patience ends").1, "ok\n");
        time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn the_one_that_has_been_silent_longest_makes_room_and_none_that_has_asked() {
    let mut connections = Connections::new(Duration::ZERO);
    let mut heard = Vec::new();
    for _ in 0..MOST {
        connections.admit(|ears| {
            heard.push(ears);
            std::future::pending()
        });
    }
    heard[0].whole();
    heard[1].something();
    connections.admit(|_| std::future::pending());
    assert!(Arc::strong_count(&heard[0]) == 2 && Arc::strong_count(&heard[1]) == 2);
    assert_eq!(Arc::strong_count(&heard[2]), 1, "the third spoke last, so long ago as no other");
}

#[tokio::test(start_paused = true)]
async fn within_its_grace_none_is_closed_and_the_next_one_waits() {
    let mut connections = Connections::new(HANDSHAKE_GRACE);
    let mut heard = Vec::new();
    let mut admit = |connections: &mut Connections| {
        connections.admit(|ears| {
            heard.push(ears);
            std::future::pending()
        });
    };
    assert_eq!(connections.room_in(), Duration::ZERO);
    admit(&mut connections);
    time::advance(HANDSHAKE_GRACE / 3).await;
    (1..MOST).for_each(|_| admit(&mut connections));
    assert_eq!(connections.room_in(), HANDSHAKE_GRACE - HANDSHAKE_GRACE / 3);
    time::advance(HANDSHAKE_GRACE - HANDSHAKE_GRACE / 3).await;
    assert_eq!(connections.room_in(), Duration::ZERO);
    admit(&mut connections);
    let open: Vec<bool> = heard.iter().map(|ears| Arc::strong_count(ears) == 2).collect();
    assert_eq!(open.iter().position(|open| !open), Some(0));
    assert_eq!(open.iter().filter(|open| !**open).count(), 1);
}

#[tokio::test]
async fn a_port_in_use_is_told_in_one_line() {
    let first = Port::bind(LOCAL, "health").expect("a free port");
    let address = first.address().expect("an address");
    let error = Port::bind(address, "health").expect_err("in use");
    assert_eq!(error.to_string(), format!("can't serve health on {address}"));
    assert_eq!(
        error.source().map(ToString::to_string),
        Some("Address already in use (os error 98)".to_owned())
    );
}

/// Knows the token `reader`, who may do all.
async fn review(request: Request<kube::client::Body>) -> Result<Response<kube::client::Body>, kube::Error> {
    let of_tokens = request.uri().path().ends_with("/tokenreviews");
    let bytes = http_body_util::BodyExt::collect(request.into_body()).await?.to_bytes();
    let mut object: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
    object["status"] = if of_tokens {
        serde_json::json!({"authenticated": object["spec"]["token"] == "reader", "user": {"username": "reader"}})
    } else {
        serde_json::json!({"allowed": true})
    };
    Ok(Response::new(kube::client::Body::from(object.to_string().into_bytes())))
}

/// Metrics behind an API server that knows the token `reader` and nobody else.
async fn secured() -> SocketAddr {
    let client = Client::new(tower::service_fn(review), "default");
    let certificate = Arc::new(Certificate::new(Identity::Own("bettley".to_owned())).expect("a certificate"));
    let metrics = Arc::new(Metrics::new("bettley", Counted::default));
    start(Pages::Metrics(metrics, Some(Arc::new(Secure::new(certificate, client))))).await
}

/// What a client that takes any certificate gets back.
async fn ask_tls(address: SocketAddr, authorization: &str) -> String {
    let asked = format!("GET /metrics HTTP/1.1\r\nhost: x\r\n{authorization}\r\n");
    let tls = kube::client::ConfigExt::rustls_client_config(&{
        let mut config = kube::Config::new("https://localhost".parse().expect("a URL"));
        config.accept_invalid_certs = true;
        config.root_cert = Some(Vec::new());
        config
    });
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls.expect("a TLS client")));
    let stream = TcpStream::connect(address).await.expect("a server");
    let name = "bettley".try_into().expect("a name");
    let mut stream = connector.connect(name, stream).await.expect("a handshake");
    stream.write_all(asked.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    // The server closes without a word of TLS when it is done.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).expect("text")
}

#[tokio::test]
async fn secure_metrics_are_for_those_alone_whom_the_api_server_lets_read_them() {
    let address = secured().await;
    let allowed = ask_tls(address, "authorization: Bearer reader\r\n").await;
    assert!(
        allowed.starts_with("HTTP/1.1 200 ") && allowed.contains("announcer_owned_vips 0.0\n"),
        "{allowed}"
    );
    let unknown = ask_tls(address, "authorization: Bearer made-up\r\n").await;
    assert!(unknown.starts_with("HTTP/1.1 401 ") && !unknown.contains("announcer_"), "{unknown}");
    let nobody = ask_tls(address, "").await;
    assert!(nobody.starts_with("HTTP/1.1 401 ") && nobody.contains("www-authenticate: Bearer"), "{nobody}");
}

#[tokio::test]
async fn plain_http_on_the_secure_port_is_refused_in_one_line() {
    let (head, body) = get(secured().await, "/metrics").await;
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    assert_eq!(body, "this port speaks HTTPS: ask https://\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secure_metrics_are_answered_while_200_clients_hold_connections_open() {
    let address = secured().await;
    let _crowd = crowd(address, 200).await;
    for _ in 0..10 {
        // Prometheus' own patience.
        let answer =
            timeout(Duration::from_secs(10), ask_tls(address, "authorization: Bearer reader\r\n")).await;
        assert!(answer.expect("an answer in time").starts_with("HTTP/1.1 200 "));
    }
}

use std::{convert::Infallible, fs, net::SocketAddr};

use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer};
use tokio::{net::TcpListener, task::JoinSet, time::sleep};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::kube::{Clients, connect};

/// Longer than two looks at the configuration.
const SOON: Duration = Duration::from_secs(15);

/// An API server that answers whoever has this token, and its certificate in PEM form. It ends with the set.
async fn serve(
    address: SocketAddr,
    token: &'static str,
    status: StatusCode,
) -> (SocketAddr, String, JoinSet<()>) {
    let key = KeyPair::generate().expect("a key");
    let names = [address.ip().to_string()];
    let signed =
        CertificateParams::new(names).and_then(|made| made.self_signed(&key)).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(vec![signed.der().clone()], key))
        .expect("a TLS server");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("an option");
    socket.bind(address).expect("a free port");
    let listener: TcpListener = socket.listen(16).expect("a listener");
    let address = listener.local_addr().expect("an address");
    let mut running = JoinSet::new();
    running.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            connections.spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let answer = service_fn(move |request: Request<Incoming>| async move {
                    let known = request.headers().get("authorization");
                    let known =
                        known.is_some_and(|value| value.as_bytes() == format!("Bearer {token}").as_bytes());
                    let status = if known { status } else { StatusCode::UNAUTHORIZED };
                    let said =
                        format!(r#"{{"kind":"Status","code":{},"message":"{token}"}}"#, status.as_u16());
                    let answer = Response::builder().status(status).body(Full::new(bytes::Bytes::from(said)));
                    Ok::<_, Infallible>(answer.expect("an answer"))
                });
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
            });
        }
    });
    let armoured =
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", base64(signed.der()));
    (address, armoured, running)
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let word = three
            .iter()
            .chain([0; 2].iter())
            .take(3)
            .fold(0_usize, |word, byte| word << 8 | usize::from(*byte));
        for digit in 0..4 {
            let shown = digit <= three.len();
            text.push(if shown { char::from(DIGITS[word >> (18 - 6 * digit) & 63]) } else { '=' });
        }
    }
    text
}

/// A kubeconfig with the CA in a file of its own.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("announcer-line-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a folder");
        Self(dir)
    }

    fn say(&self, address: SocketAddr, ca: &str, token: &str) {
        fs::write(self.0.join("ca.crt"), ca).expect("a file");
        let config = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": format!("https://{address}"), "certificate-authority": "ca.crt"}}],
            "users": [{"name": "u", "user": {"token": token}}],
        });
        fs::write(self.0.join("kubeconfig"), config.to_string()).expect("a file");
    }

    async fn connect(&self) -> Clients {
        connect(Some(&self.0.join("kubeconfig"))).await.expect("clients")
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

async fn ask(client: &Client) -> kube::Result<String> {
    client.request_text(Request::get("/version").body(Vec::new()).expect("a request")).await
}

async fn is_answered_soon(client: &Client) {
    let begun = Instant::now();
    while let Err(error) = ask(client).await {
        assert!(begun.elapsed() < SOON, "{error}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_new_ca_is_read_without_a_restart() {
    let files = Files::new("ca");
    let (address, ca, mut old) = serve(ANY, "one", StatusCode::OK).await;
    files.say(address, &ca, "one");
    let clients = files.connect().await;
    is_answered_soon(&clients.watch).await;
    is_answered_soon(&clients.leases).await;

    old.shutdown().await;
    let (_, ca, _new) = serve(address, "one", StatusCode::OK).await;
    ask(&clients.leases).await.expect_err("whose certificate nobody vouches for");
    files.say(address, &ca, "one");
    is_answered_soon(&clients.watch).await;
    is_answered_soon(&clients.leases).await;
}

#[tokio::test]
async fn a_new_token_is_read_without_a_restart() {
    let files = Files::new("token");
    let (address, ca, _server) = serve(ANY, "two", StatusCode::OK).await;
    files.say(address, &ca, "one");
    let clients = files.connect().await;
    assert!(matches!(ask(&clients.leases).await, Err(kube::Error::Api(said)) if said.code == 401));
    files.say(address, &ca, "two");
    is_answered_soon(&clients.leases).await;
}

#[tokio::test]
async fn the_client_after_one_that_was_given_up_goes_by_what_the_configuration_says_then() {
    let files = Files::new("another");
    let (address, ca, _old) = serve(ANY, "one", StatusCode::OK).await;
    files.say(address, &ca, "one");
    let clients = files.connect().await;
    assert!(ask(&clients.leases).await.expect("an answer").contains("one"));
    let (address, ca, _new) = serve(ANY, "two", StatusCode::OK).await;
    files.say(address, &ca, "two");
    assert!(ask(&clients.leases).await.expect("an answer").contains("one"), "nothing failed");
    let another = clients.another()().expect("a client");
    assert!(ask(&another).await.expect("an answer").contains("two"));

    fs::write(files.0.join("kubeconfig"), "half a fi").expect("a file");
    let another = clients.another()().expect("a client");
    assert!(ask(&another).await.expect("an answer").contains("two"), "what cannot be read changes nothing");
}

#[tokio::test]
async fn what_a_gateway_says_in_the_api_servers_place_is_no_word_of_it() {
    for (status, is_heard) in [(200, true), (404, true), (429, true), (500, false), (503, false)] {
        let files = Files::new(&format!("heard-{status}"));
        let status = StatusCode::from_u16(status).expect("a status");
        let (address, ca, _server) = serve(ANY, "one", status).await;
        files.say(address, &ca, "one");
        let clients = files.connect().await;
        let before = clients.heard.at();
        let _ = ask(&clients.watch).await;
        assert_eq!(clients.heard.at() > before, is_heard, "{status}");
    }
}

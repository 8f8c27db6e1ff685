//! HTTP/2 over TLS on our own listener.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use im_core::engine::Engine;
use im_http::{Certificates, Edge, Listener, ListenerConfig, UplinkConfig};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

async fn serve(config: ListenerConfig) -> (SocketAddr, rustls::RootCertStore) {
    let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificates = Certificates::from_pem(
        signed.cert.pem().as_bytes(),
        signed.signing_key.serialize_pem().as_bytes(),
    );
    let listener = Listener::bind("127.0.0.1:0").await.unwrap().tls(certificates.unwrap());
    let address = listener.local_addr().unwrap();
    let engine = Engine::builder().allow_anonymous().start().await.unwrap();
    let edge = Edge::new(engine, UplinkConfig::default()).at("/im");
    tokio::spawn(listener.config(config).serve(edge));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(signed.cert.der().clone()).unwrap();
    (address, roots)
}

async fn connect(
    address: SocketAddr,
    roots: rustls::RootCertStore,
    protocols: &[&str],
) -> TlsStream<TcpStream> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(address).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect("localhost".try_into().unwrap(), stream).await.unwrap()
}

async fn http2(stream: TlsStream<TcpStream>) -> SendRequest<Full<Bytes>> {
    let (asking, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    asking
}

#[tokio::test]
async fn many_requests_share_one_connection() {
    let (address, roots) = serve(ListenerConfig::default()).await;
    let stream = connect(address, roots.clone(), &["h2", "http/1.1"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let asking = http2(stream).await;
    let asks = (0..20).map(|_| {
        let mut asking = asking.clone();
        async move {
            let request = Request::get("https://localhost/im").version(Version::HTTP_2);
            let request = request.header("origin", "https://localhost");
            let answer =
                asking.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
            assert_eq!(answer.status(), 200);
            answer.into_body().collect().await.unwrap().to_bytes()
        }
    });
    for asked in asks {
        assert!(asked.await.starts_with(b"{\"v\":1"));
    }
    // A client without HTTP/2 uses HTTP/1.1.
    let old = connect(address, roots, &["http/1.1"]).await;
    assert_eq!(old.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
}

/// In HTTP/2 the host name is in `:authority`.
#[tokio::test]
async fn foreign_authority_on_loopback_is_refused() {
    let (address, roots) = serve(ListenerConfig::default()).await;
    let mut asking = http2(connect(address, roots, &["h2"]).await).await;
    let hosts = [("localhost", 200), ("evil.example", 403), ("evil.example:443", 403)];
    for (host, status) in hosts {
        let request = Request::get(format!("https://{host}/im")).version(Version::HTTP_2);
        let request = request.header("origin", format!("https://{host}"));
        let answer = asking.send_request(request.body(Full::default()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), status, "{host}");
        let said = answer.into_body().collect().await.unwrap().to_bytes();
        let said = String::from_utf8_lossy(&said);
        assert_eq!(said.contains("4511"), status == 403, "{said}");
    }
}

#[tokio::test]
async fn idle_http2_connection_is_closed() {
    let config = ListenerConfig::default().header_timeout(Duration::from_millis(200));
    let (address, roots) = serve(config).await;
    let mut silent = connect(address, roots, &["h2"]).await;
    let ended = async {
        let mut read = Vec::new();
        // With or without `close_notify` of TLS.
        let _ = silent.read_to_end(&mut read).await;
    };
    tokio::time::timeout(Duration::from_secs(60), ended).await.unwrap();
}

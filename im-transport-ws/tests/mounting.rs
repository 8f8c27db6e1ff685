//! The same service, mounted in every supported way.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::sync::Arc;

use im_http::{Certificates, Listener};
use im_transport_ws::WsConfig;
use support::{Client, close, connect, greeted, service, within};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

/// Sends a hello, a command and a close.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(mut client: Client<S>) {
    client.hello().await;
    client.is_alive().await;
    client.bytes(&close(1000)).await;
    assert_eq!(client.closed().await.0, 1000);
    assert_eq!(client.end().await, b"");
}

#[tokio::test]
async fn in_an_axum_router() {
    let ws = service(WsConfig::default()).await;
    let app = axum::Router::new().route_service("/ws", ws);
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(axum::serve(socket, app).into_future());
    converse(connect(address).await).await;
}

#[tokio::test]
async fn as_a_warp_filter() {
    use warp::Filter;
    let ws = service(WsConfig::default()).await;
    let routes = warp::path("ws").and(warp::path::end()).and(im_http::warp::mount(ws));
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(warp::serve(routes).incoming(socket).run());
    converse(connect(address).await).await;

    let mut stream = TcpStream::connect(address).await.unwrap();
    let answer = support::ask(&mut stream, "GET /ws HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(answer.status, 426);
}

#[tokio::test]
async fn on_a_listener_of_its_own() {
    let ws = service(WsConfig::default()).await;
    converse(connect(support::listen(&ws).await).await).await;
}

#[tokio::test]
async fn on_a_listener_with_tls() {
    let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificates = Certificates::from_pem(
        signed.cert.pem().as_bytes(),
        signed.signing_key.serialize_pem().as_bytes(),
    )
    .unwrap();
    let listener = Listener::bind("127.0.0.1:0").await.unwrap().tls(certificates);
    let address = listener.local_addr().unwrap();
    tokio::spawn(listener.serve(service(WsConfig::default()).await));

    let mut roots = rustls::RootCertStore::empty();
    roots.add(signed.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    let stream = TlsConnector::from(Arc::new(config))
        .connect("localhost".try_into().unwrap(), stream)
        .await
        .unwrap();
    converse(Client::open(stream, "").await.unwrap()).await;
}

#[tokio::test]
async fn stopped_listener_keeps_upgraded_sockets() {
    let ws = service(WsConfig::default()).await;
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(listener.serve_until(ws.clone(), async { drop(stopped.await) }));
    let mut client = greeted(address).await;
    stop.send(()).unwrap();
    within(serving).await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
    client.is_alive().await;
    let (closed, ()) = tokio::join!(
        async {
            let closed = client.closed().await;
            client.bytes(&close(closed.0)).await;
            closed
        },
        within(ws.shutdown())
    );
    assert_eq!(closed.0, 4001);
}

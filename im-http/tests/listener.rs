//! Our own listener and the warp adapter, over plain sockets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
use im_http::{Certificates, Listener, ListenerConfig, PeerAddr, TimedBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// Fails the test instead of letting it hang.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .expect("this should not take a minute")
}

/// Answers with the method, the target, the peer's port and the body.
async fn echo<B>(request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible>
where
    B: Body<Data = Bytes>,
    B::Error: std::fmt::Debug,
{
    let peer = request.extensions().get::<PeerAddr>().copied();
    let head =
        format!("{} {} {} ", request.method(), request.uri(), peer.map_or(0, |peer| peer.0.port()));
    let body = request.into_body().collect().await.unwrap().to_bytes();
    Ok(Response::new(Full::new([head.as_bytes(), &body].concat().into())))
}

/// Sends a request on a new connection; returns the local port and all bytes received.
async fn ask(address: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    (stream.local_addr().unwrap().port(), answer)
}

const POST: &str = "POST /a/b?c=%20d HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello";

#[tokio::test]
async fn service_gets_request_and_peer_address() {
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(listener.serve(tower::service_fn(echo::<TimedBody>)));
    let (port, answer) = ask(address, POST).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.ends_with(&format!("POST /a/b?c=%20d {port} hello")), "{answer}");
}

#[tokio::test]
async fn warp_mount_passes_the_same_request() {
    let routes = im_http::warp::mount(tower::service_fn(echo::<im_http::warp::RequestBody>));
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(warp::serve(routes).incoming(socket).run());
    let (port, answer) = ask(address, POST).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains(&format!("POST /a/b?c=%20d {port} hello")), "{answer}");
}

#[tokio::test]
async fn silent_and_dawdling_sockets_are_closed() {
    let short = Duration::from_millis(50);
    let config = ListenerConfig::default().header_timeout(short).idle_timeout(short);
    let listener = Listener::bind("127.0.0.1:0").await.unwrap().config(config);
    let address = listener.local_addr().unwrap();
    tokio::spawn(listener.serve(tower::service_fn(echo::<TimedBody>)));
    for head in ["", "GET / HTTP/1.1\r\nHost:", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"] {
        // Read to the end: the third is answered, and closed without a second request.
        let (_, answer) = ask(address, head).await;
        assert_eq!(answer.starts_with("HTTP/1.1 200"), head.ends_with("\r\n\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn heads_over_the_bound_are_refused() {
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(listener.serve(tower::service_fn(echo::<TimedBody>)));
    let head =
        format!("GET / HTTP/1.1\r\nHost: localhost\r\nCookie: {}\r\n\r\n", "x".repeat(20 * 1024));
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may close before it has read everything, so neither call needs to succeed.
    let mut answer = Vec::new();
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = within(stream.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    assert!(ask(address, POST).await.1.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn served_connections_are_bounded() {
    let config = ListenerConfig::default().max_connections(2);
    let listener = Listener::bind("127.0.0.1:0").await.unwrap().config(config);
    let address = listener.local_addr().unwrap();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let highest = most.clone();
    let service = tower::service_fn(move |request: Request<TimedBody>| {
        let (now, most) = (now.clone(), most.clone());
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
            now.fetch_sub(1, Ordering::SeqCst);
            echo(request).await
        }
    });
    tokio::spawn(listener.serve(service));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..10 {
        clients.spawn(ask(address, POST));
    }
    for (_, answer) in clients.join_all().await {
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!(highest.load(Ordering::SeqCst), 2);
}

/// A stopping listener finishes running requests and accepts no new ones.
#[tokio::test]
async fn stopping_listener_finishes_running_requests() {
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (begun, has_begun) = oneshot::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let (go_on, may_go_on) = oneshot::channel::<()>();
    let once = Arc::new(std::sync::Mutex::new(Some((begun, may_go_on))));
    let service = tower::service_fn(move |request: Request<TimedBody>| {
        let once = once.lock().unwrap().take();
        async move {
            if let Some((begun, may_go_on)) = once {
                begun.send(()).unwrap();
                may_go_on.await.unwrap();
            }
            echo(request).await
        }
    });
    let serving = tokio::spawn(listener.serve_until(service, async { drop(stopped.await) }));
    let asking = tokio::spawn(ask(address, POST));
    within(has_begun).await.unwrap();
    stop.send(()).unwrap();
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!serving.is_finished());
    go_on.send(()).unwrap();
    assert!(within(asking).await.unwrap().1.starts_with("HTTP/1.1 200"));
    within(serving).await.unwrap().unwrap();
}

/// A request that does not finish within `stop_within` is cancelled.
#[tokio::test]
async fn overdue_requests_are_cut_off() {
    let config = ListenerConfig::default().stop_within(Duration::ZERO);
    let listener = Listener::bind("127.0.0.1:0").await.unwrap().config(config);
    let address = listener.local_addr().unwrap();
    let (begun, has_begun) = oneshot::channel();
    let begun = Arc::new(std::sync::Mutex::new(Some(begun)));
    let service = tower::service_fn(move |_: Request<TimedBody>| {
        let begun = begun.lock().unwrap().take();
        async move {
            begun.unwrap().send(()).unwrap();
            std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>().await
        }
    });
    let asking = tokio::spawn(ask(address, POST));
    within(listener.serve_until(service, async { has_begun.await.unwrap() })).await.unwrap();
    assert_eq!(within(asking).await.unwrap().1, "");
}

#[test]
fn unusable_certificates_are_refused() {
    let one = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
    let chain = one.cert.pem();
    let reason = |chain: &str, key: &str| {
        Certificates::from_pem(chain.as_bytes(), key.as_bytes()).unwrap_err().to_string()
    };
    assert!(reason("", &one.signing_key.serialize_pem()).contains("no certificate"));
    assert!(reason(&chain, "").contains("private key"));
    assert!(reason(&chain, &other.signing_key.serialize_pem()).contains("does not match"));
    assert!(
        Certificates::from_pem(chain.as_bytes(), one.signing_key.serialize_pem().as_bytes())
            .is_ok()
    );
}

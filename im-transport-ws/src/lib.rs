//! WebSocket transport of the im engine (RFC 6455): mounts in any tower router, as a warp filter, or stands alone.
//!
//! ```no_run
//! use axum::Router;
//! use im_core::engine::Engine;
//! use im_transport_ws::{WebSocket, WsConfig};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Engine::builder().allow_anonymous().start().await?;
//! let ws = WebSocket::new(engine, WsConfig::default());
//! let app = Router::new().route_service("/ws", ws.clone());
//! let socket = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//! axum::serve(socket, app).with_graceful_shutdown(async { im_http::shutdown_signal().await.unwrap_or(()) }).await?;
//! ws.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! As a warp filter: `warp::path("ws").and(im_http::warp::mount(ws))`. Without a router, with or without TLS:
//! `im_http::Listener::bind(address).await?.serve(ws)`.
//!
//! The subprotocol chooses the encoding: `im.v1.json` (text messages, also without a subprotocol) or `im.v1.msgpack`
//! (binary messages). Each frame of the engine is a message of its own; what is due at the same time goes out in one
//! write. A connection is closed with the number of its [`im_core::Code`] as close code.
//!
//! | module | what it holds |
//! |---|---|
//! | `config` | the knobs |
//! | `handshake` | what is checked before the answer 101 |
//! | `service` | the tower service, and who owns its connections |
//! | `connection` | the one task of a connection |
//! | `codec` | WebSocket messages over a socket |
//! | `farewell` | closing in good order |
//! | `link` | the socket between tungstenite and the system, without buffers while idle |
//! | `echo` | a service that sends each message back, for suites of tests; only with the feature `echo` |

mod codec;
mod config;
mod connection;
#[cfg(feature = "echo")]
pub mod echo;
mod farewell;
mod handshake;
mod link;
mod service;

pub use config::WsConfig;
pub use service::WebSocket;

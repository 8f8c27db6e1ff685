//! WebSocket transport of the im engine (RFC 6455): in any tower router, in warp, or alone.
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
//! As a warp filter: `warp::path("ws").and(im_http::warp::mount(ws))`. Without a router, with or
//! without TLS: `im_http::Listener::bind(address).await?.serve(ws)`.
//!
//! The subprotocol selects the encoding: `im.v1.json` (text messages, also without a subprotocol)
//! or `im.v1.msgpack` (binary messages). Each frame of the engine is one WebSocket message; frames
//! that are due together share one write. A connection is closed with the number of its
//! [`im_core::Code`] as close code.
//!
//! | module | what it holds |
//! |---|---|
//! | `config` | configuration |
//! | `handshake` | checks before the response 101 |
//! | `service` | the tower service, the owner of its connections |
//! | `connection` | the one task of a connection |
//! | `codec` | WebSocket messages over a socket |
//! | `closing` | the closing handshake |
//! | `link` | the socket between tungstenite and the system, without buffers while idle |
//! | `echo` | a service that echoes each message, for test suites; only with the feature `echo` |

mod closing;
mod codec;
mod config;
mod connection;
#[cfg(feature = "echo")]
pub mod echo;
mod handshake;
mod link;
mod service;

pub use config::WsConfig;
pub use service::WebSocket;

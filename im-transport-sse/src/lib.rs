//! Server-Sent Events transport of the im engine (the HTML standard, section 9.2).
//!
//! Pushes are sent as an event stream, for networks that block WebSocket. Commands are sent by POST
//! ([`im_http::Uplink`]).
//!
//! ```no_run
//! use axum::Router;
//! use im_core::engine::Engine;
//! use im_http::{Edge, UplinkConfig};
//! use im_transport_sse::{Sse, SseConfig};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Engine::builder().allow_anonymous().start().await?;
//! let sse = Sse::new(engine.clone(), SseConfig::default());
//! let edge = Edge::new(engine, UplinkConfig::default()).mount(sse.clone());
//! let app = Router::new().nest_service("/im", edge);
//! let socket = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//! axum::serve(socket, app).await?;
//! # Ok(())
//! # }
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | `config` | configuration |
//! | `opening` | the session and stream position of a request |
//! | `service` | the tower service, the owner of its streams |
//! | `stream` | the body of a stream |
//! | `block` | lines of the event stream format |
//! | `gzip` | compression of a stream |

mod block;
mod config;
mod gzip;
mod opening;
mod probe;
mod service;
mod stream;

pub use config::{Gzip, SseConfig};
pub use service::Sse;

//! Long and short polling transport of the im engine, for networks that block everything else.
//!
//! Pushes are returned by polls. Commands are sent by POST ([`im_http::Uplink`]).
//!
//! ```no_run
//! use axum::Router;
//! use im_core::engine::Engine;
//! use im_http::{Edge, UplinkConfig};
//! use im_transport_longpoll::{LongPoll, LongPollConfig};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Engine::builder().allow_anonymous().start().await?;
//! let poll = LongPoll::new(engine.clone(), LongPollConfig::default());
//! let edge = Edge::new(engine, UplinkConfig::default()).mount(poll.clone());
//! let app = Router::new().nest_service("/im", edge);
//! let socket = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//! axum::serve(socket, app).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Any node can answer any poll, because the subscriber's cursors are in the stream position that
//! it sends. Between two polls a node keeps the downlink of a session for a while, only so that the
//! next poll needs no reads of the store and misses no ephemeral messages.
//!
//! | module | what it holds |
//! |---|---|
//! | `config` | configuration |
//! | `poll_request` | the session, stream position and hold time of a request |
//! | `service` | the tower service |
//! | `held_poll` | a poll that waits |
//! | `kept_downlinks` | downlinks between two polls |

mod config;
mod held_poll;
mod kept_downlinks;
mod poll_request;
mod service;

pub use config::LongPollConfig;
pub use service::LongPoll;

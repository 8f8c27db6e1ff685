//! Long polling and short polling transport of the im engine: pushes down in answers to requests, for where nothing else
//! gets through. Commands go up by POST ([`im_http::Uplink`]).
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
//! Any node answers any poll: what a subscriber has is in the stream position that it names. A node keeps a session's downlink for a
//! while between two polls, only so that the next one costs no reads of the store and misses no signals.
//!
//! | module | what it holds |
//! |---|---|
//! | `config` | the knobs |
//! | `poll_request` | what a request says: whose poll, from where, for how long |
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

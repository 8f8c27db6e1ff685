//! A client of the im protocol: connects, reconnects, resumes, resends, and delivers each room's
//! events once, in order.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use im_client::{Client, ClientEvent, Message};
//! use im_core::{RoomId, UserId};
//!
//! let (client, mut events) = Client::builder("ws://127.0.0.1:8080/im").user(UserId::new("ann")?).connect().await?;
//! let room = RoomId::new("lobby")?;
//! client.subscribe(room.clone(), None).await?;
//! client.send(Message::text(room, "hello")).await?;
//! while let Some(event) = events.next().await {
//!     if let ClientEvent::Event(event) = event {
//!         println!("{}: {:?}", event.from, event.content.value());
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | `builder`, `config` | assembling a client |
//! | `client` | the handle and the stream of events |
//! | `message`, `event`, `error` | input, output, errors |
//! | `proto` | the client without any I/O: a state machine |
//! | `shell` | the task that drives it |
//! | `link`, `ws`, `http` | transports: WebSocket, or plain HTTP in three ways |
//! | `refusal` | parsing refusals over HTTP |
//! | `fallback` | several links, of which the best that works is used |
//! | `ladder` | the choice among them |

mod builder;
mod client;
mod config;
mod error;
mod event;
mod fallback;
mod http;
mod ladder;
mod link;
mod message;
mod proto;
mod refusal;
mod shell;
mod ws;

pub use builder::Builder;
pub use client::{Client, Events, PendingAck};
pub use config::{Checkpoints, Config, Reconnect};
pub use error::{Error, ErrorKind, Result};
pub use event::ClientEvent;
pub use fallback::Fallback;
pub use http::{ByteStream, Dial, Down, Http};
pub use link::{Connected, Incoming, Link, LinkError};
pub use message::Message;
pub use proto::Saved;
pub use shell::{Tap, TokenSource};
pub use ws::WebSocket;

//! The engine: sessions, rooms, routing, fan-out.
//!
//! The path of one message: a transport passes it to [`Connection::submit`]; `commands` authorises
//! it; an append shard appends it to the store. Once it is committed, the shard applies it to its
//! `room`, which enqueues it in the `outbox` of every subscriber, and enqueues the ack of the
//! sender; each subscriber's transport takes it with [`Connection::next`].
//!
//! Authors of a transport begin at [`Connection`].
//!
//! | module | what it holds |
//! |---|---|
//! | `config`, `builder` | configuration; assembling |
//! | `api`, `subscription` | the embedder's API; a subscription in the process |
//! | `health` | the engine's health, for a probe |
//! | `outside` | messages that the embedder's own transaction commits |
//! | `connection` | the interface of transports |
//! | `request_half`, `stream_half`, `position_tracker` | the same in two halves, for transports without a connection of their own |
//! | `commands` | execution of client commands |
//! | `append_shards`, `fair_queue`, `heavy`, `sender_order` | appending, acks, fan-out; fair turns; one heavy append at a time; sender order |
//! | `hub`, `room` | rooms in memory: recent log, subscribers, state |
//! | `outbox`, `acks`, `catch_up`, `catch_up_reads`, `page_cache` | queues of a connection; the bytes of acks; catch-up from the log |
//! | `registry` | connections and their users |
//! | `upkeep` | retention, deleting rooms, erasing users |
//! | `usage` | memory use in bytes |
//! | `core`, `tasks`, `state_writer`, `remote_state` | what all share; the engine's own tasks; state that is not in the store yet |

mod acks;
mod api;
mod append_shards;
mod builder;
mod catch_up;
mod catch_up_reads;
mod commands;
mod config;
mod connection;
mod core;
mod fair_queue;
mod health;
mod heavy;
mod hub;
mod metrics;
mod outbox;
mod outgoing;
mod outside;
mod page_cache;
mod position_tracker;
mod registry;
mod remote_state;
mod request_half;
mod room;
mod sender_order;
mod state_writer;
mod stream_half;
mod subscription;
mod tasks;
mod upkeep;
mod usage;

pub use api::{Engine, Publish};
pub use builder::{EngineBuilder, NeedsAuthenticator};
pub use config::{EngineConfig, SlowSubscriber};
pub use connection::{Batch, BatchId, Connection, Peer};
pub use health::{Health, Phase, StoreHealth, TaskHealth};
pub use registry::network_of;
pub use request_half::{AckChunk, Acks, HeldAcks};
pub use stream_half::Access;
pub use subscription::Subscription;
pub use usage::Usage;

//! HTTP edge shared by the transports: credentials, origins, statuses, listener.
//!
//! A transport over HTTP is a tower service over the types of the `http` crate. This crate holds
//! what such a service needs besides the engine, and two ways to serve it without a tower router: a
//! listener of our own, and warp.
//!
//! ```no_run
//! use std::convert::Infallible;
//!
//! use bytes::Bytes;
//! use http_body_util::Full;
//! use im_http::Listener;
//!
//! # #[derive(Clone)] struct Hello;
//! # impl<B> tower_service::Service<http::Request<B>> for Hello {
//! #     type Response = http::Response<Full<Bytes>>;
//! #     type Error = Infallible;
//! #     type Future = std::future::Ready<Result<Self::Response, Infallible>>;
//! #     fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> { std::task::Poll::Ready(Ok(())) }
//! #     fn call(&mut self, _: http::Request<B>) -> Self::Future { std::future::ready(Ok(http::Response::default())) }
//! # }
//! # async fn run() -> std::io::Result<()> {
//! let listener = Listener::bind("127.0.0.1:8080").await?;
//! println!("listening on http://{}", listener.local_addr()?);
//! listener.serve(Hello).await
//! # }
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | `origin` | which pages may connect |
//! | `hosts` | host names that a server answers to |
//! | `grammar` | refusal of ambiguous requests |
//! | `credentials` | credentials and peer address of a request |
//! | `forwarded` | client address behind trusted proxies |
//! | `refusal` | codes as HTTP statuses, and the small JSON body of a refusal |
//! | `request` | parts of a request outside its body: session, query, types |
//! | `lists` | list headers |
//! | `endpoint` | common to all endpoints: origins, preflights, methods, caches |
//! | `body` | one type for all bodies |
//! | `timed` | bodies of requests, bounded in time |
//! | `uplink`, `answers` | commands by POST; the body with their acks |
//! | `edge` | all endpoints behind one prefix, and the offer |
//! | `connection_list` | open connections of a service |
//! | `socket_limiter` | bounds on sockets, in total and per address |
//! | `files` | the process's limit of open files |
//! | `listener`, `listener_config` | HTTP on a socket, bounded in time and number |
//! | `speaking` | HTTP on one connection |
//! | `front` | processing of each request and response of our own listener |
//! | `socket`, `turns`, `watch` | an HTTP/1.1 connection: socket, phase, time-outs |
//! | `write_timeout` | a socket that fails when its peer stops reading |
//! | `log_throttle`, `metrics` | rate-limited warnings; names of metrics |
//! | `stop` | the signal to shut down |
//! | `tls` | certificates for the listener (feature `tls`) |
//! | [`warp`] | a tower service as a warp filter (feature `warp`) |

mod answers;
mod body;
mod connection_list;
mod credentials;
mod edge;
mod endpoint;
mod files;
mod forwarded;
mod front;
mod grammar;
mod hosts;
mod listener;
mod listener_config;
mod lists;
mod log_throttle;
mod metrics;
mod origin;
mod refusal;
mod request;
mod socket;
mod socket_limiter;
mod speaking;
mod stop;
mod timed;
#[cfg(feature = "tls")]
mod tls;
mod turns;
mod uplink;
#[cfg(feature = "warp")]
pub mod warp;
mod watch;
mod write_timeout;

pub use body::{Body, BoxError};
pub use connection_list::{ConnectionList, Entry};
pub use credentials::{PeerAddr, credentials, peer_address};
pub use edge::{Edge, Transport};
pub use endpoint::answer;
pub use files::{RESERVED_FILES, raise_file_limit};
pub use grammar::check_grammar;
pub use hosts::Hosts;
pub use listener::Listener;
pub use listener_config::ListenerConfig;
pub use lists::{NotText, elements, list, lists};
pub use log_throttle::LogThrottle;
pub use origin::{Origin, OriginError, OriginPolicy, Origins};
pub use refusal::{Refusal, status_of};
pub use request::{
    IM_SESSION, accepted, accepts_gzip, content_type, media_type, only, query, session,
};
pub use socket::into_tcp;
pub use socket_limiter::SocketPermit;
pub use stop::shutdown_signal;
pub use timed::{BodyTooSlow, TimedBody};
#[cfg(feature = "tls")]
pub use tls::Certificates;
pub use turns::HalfClosed;
pub use uplink::{Uplink, UplinkConfig};

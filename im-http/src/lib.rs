//! The HTTP edge that the transports share: credentials, origin policy, status mapping, our own listener.
//!
//! A transport over HTTP is a tower service over the types of the `http` crate, written once. This crate holds what
//! such a service needs beside the engine, and the two places to mount it where there is no tower router: a listener
//! of our own, and warp.
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
//! | `credentials` | what a request shows to prove who sent it, and where it came from |
//! | `refusal` | codes as HTTP statuses, and the small JSON body of a refusal |
//! | `crowd` | how many connections one address has |
//! | `listener` | HTTP/1.1 on a socket, bounded in time and number |
//! | `stop` | when a server is asked to end |
//! | `tls` | certificates for the listener (feature `tls`) |
//! | [`warp`] | a tower service as a warp filter (feature `warp`) |

mod credentials;
mod crowd;
mod listener;
mod origin;
mod refusal;
mod stop;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "warp")]
pub mod warp;

pub use credentials::{PeerAddr, credentials, peer_address};
pub use listener::{Listener, ListenerConfig};
pub use origin::{Origin, OriginError, OriginPolicy};
pub use refusal::{Refusal, status_of};
pub use stop::told_to_stop;
#[cfg(feature = "tls")]
pub use tls::Certificates;

//! The names of all metrics. Units are in the names.

/// Open sockets of listeners, upgraded ones included.
pub(crate) const SOCKETS: &str = "im_http_sockets";
/// Sockets that a listener closed at once, by `reason`: `address` (the bound per address) or `all`.
pub(crate) const SOCKETS_REFUSED: &str = "im_http_sockets_refused_total";
/// Requests refused before they reached a service, by `reason`: `grammar`, `host` or `origin`.
pub(crate) const REQUESTS_REFUSED: &str = "im_http_requests_refused_total";
/// Bodies of requests that took too long to arrive, on our own listener or at the uplink.
pub(crate) const BODIES_TOO_SLOW: &str = "im_http_bodies_too_slow_total";

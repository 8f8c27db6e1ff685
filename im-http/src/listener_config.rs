//! Configuration of the listener.

use std::net::IpAddr;
use std::time::Duration;

use crate::files::RESERVED_FILES;
use crate::hosts::Hosts;

/// The bounds of a [`Listener`](crate::Listener).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ListenerConfig {
    /// Maximum of connections that speak HTTP at the same time. Further ones wait in the system's
    /// backlog. 16,384 by default: an event stream and a held poll occupy one each permanently; a
    /// WebSocket only until it is upgraded. Worst case in memory: this many times twice
    /// `max_header_bytes` and about 4 KB.
    pub max_connections: usize,
    /// Maximum of open sockets, including upgraded ones for as long as they live. Further ones are
    /// closed at once. By default as many as the system allows this process (`ulimit -n`), less
    /// [`RESERVED_FILES`]; never more than that. Worst case: all of them idle, some 2 KB each here
    /// and what their transports need.
    pub max_sockets: usize,
    /// Maximum of open sockets of one address (of IPv6, one /64), including upgraded ones for as
    /// long as they live. 1,024 by default: many users may share one address, each with a stream
    /// and a connection for commands. Further ones are closed at once, so that one peer cannot
    /// occupy every socket. Where the system allows few files, it is reduced to half of
    /// `max_sockets`, unless it is `usize::MAX`, which means no bound. Addresses of
    /// [`Self::proxies`] have none.
    pub max_connections_per_address: usize,
    /// Time for a whole request head from its first byte on, and for the first byte of a
    /// connection; a TLS handshake has the same time again. 10 s by default: long enough for a poor
    /// mobile network, short enough that silent sockets do not pile up.
    pub header_timeout: Duration,
    /// How long a connection of HTTP/1.1 may be idle between two requests, measured from the last
    /// byte written of a response. 75 s by default, announced in every response as `Keep-Alive:
    /// timeout=75`. That is longer than the 60 s for which proxies and clients pool connections, so
    /// the requesting side closes them, and no request meets a connection that is being closed.
    pub idle_timeout: Duration,
    /// How long the body of a request may take to arrive, in addition to its size at 500 bytes a
    /// second. It holds for every service. 30 s by default: the slowest networks in use carry more,
    /// and a peer that announces a body and sends nothing holds its socket no longer. Only time in
    /// which the service waits for the body counts. After it, the body fails with
    /// [`BodyTooSlow`](crate::BodyTooSlow), the service chooses the response (extractors of axum:
    /// 400), the connection ends, and `im_http_bodies_too_slow_total` is incremented. For commands
    /// by POST [`UplinkConfig::body_timeout`](crate::UplinkConfig::body_timeout) applies instead.
    /// Worst case in memory: what the service keeps of the body.
    pub body_timeout: Duration,
    /// How long a peer may read nothing while bytes wait to be written, until it counts as gone. 30
    /// s by default: a client in a tunnel is back sooner, or resumes.
    ///
    /// On Linux and Android it is also how long a peer may acknowledge no sent bytes
    /// (`TCP_USER_TIMEOUT`). A peer that vanishes silently therefore holds its connection for at
    /// most this time and one heartbeat (20 s by default), which is the next write to a silent
    /// stream. On other systems the system's own time-out applies, perhaps a quarter of an hour.
    pub write_timeout: Duration,
    /// Maximum bytes of a request head. 16 KiB by default, at least 8 KiB, so that cookies and
    /// tokens fit.
    pub max_header_bytes: usize,
    /// How long requests in flight may take to end once the listener stops. 10 s by default.
    pub stop_within: Duration,
    /// Host names that are answered. On a loopback address only local ones by default; see
    /// [`Hosts`].
    pub hosts: Hosts,
    /// Addresses of proxies in front of this listener, whose `X-Forwarded-For` is trusted. None by
    /// default, because any client can send that header.
    pub proxies: Vec<IpAddr>,
}

impl Default for ListenerConfig {
    fn default() -> Self {
        Self {
            max_connections: 16_384,
            max_sockets: usize::MAX,
            max_connections_per_address: 1024,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            max_header_bytes: 16 * 1024,
            stop_within: Duration::from_secs(10),
            hosts: Hosts::default(),
            proxies: Vec::new(),
        }
    }
}

impl ListenerConfig {
    /// Sets [`Self::max_connections`]; at least one.
    #[must_use]
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections.max(1);
        self
    }

    /// Sets [`Self::max_sockets`]; at least one.
    #[must_use]
    pub fn max_sockets(mut self, sockets: usize) -> Self {
        self.max_sockets = sockets.max(1);
        self
    }

    /// Sets [`Self::max_connections_per_address`]; at least one.
    #[must_use]
    pub fn max_connections_per_address(mut self, connections: usize) -> Self {
        self.max_connections_per_address = connections.max(1);
        self
    }

    /// Sets [`Self::header_timeout`].
    #[must_use]
    pub fn header_timeout(mut self, time: Duration) -> Self {
        self.header_timeout = time;
        self
    }

    /// Sets [`Self::idle_timeout`].
    #[must_use]
    pub fn idle_timeout(mut self, time: Duration) -> Self {
        self.idle_timeout = time;
        self
    }

    /// Sets [`Self::body_timeout`].
    #[must_use]
    pub fn body_timeout(mut self, time: Duration) -> Self {
        self.body_timeout = time;
        self
    }

    /// Sets [`Self::write_timeout`].
    #[must_use]
    pub fn write_timeout(mut self, time: Duration) -> Self {
        self.write_timeout = time;
        self
    }

    /// Sets [`Self::max_header_bytes`]; at least 8 KiB.
    #[must_use]
    pub fn max_header_bytes(mut self, bytes: usize) -> Self {
        self.max_header_bytes = bytes.max(8 * 1024);
        self
    }

    /// Sets [`Self::stop_within`].
    #[must_use]
    pub fn stop_within(mut self, time: Duration) -> Self {
        self.stop_within = time;
        self
    }

    /// Sets [`Self::hosts`].
    #[must_use]
    pub fn hosts(mut self, hosts: Hosts) -> Self {
        self.hosts = hosts;
        self
    }

    /// Sets [`Self::proxies`].
    #[must_use]
    pub fn proxies(mut self, proxies: impl IntoIterator<Item = IpAddr>) -> Self {
        self.proxies = proxies.into_iter().collect();
        self
    }

    /// Lowers the bounds to fit the limit of open files. A warning names the bounds that do not
    /// fit.
    pub(crate) fn within_files(mut self, files: u64) -> Self {
        // With a very low limit, half of the files are reserved.
        let sockets = files.saturating_sub(RESERVED_FILES).max(files / 2).max(1);
        let sockets = usize::try_from(sockets).unwrap_or(usize::MAX);
        let explicit = self.max_sockets != usize::MAX;
        let share = match self.max_connections_per_address {
            usize::MAX => usize::MAX,
            configured => configured.min((sockets / 2).max(1)),
        };
        let fits = self.max_connections <= sockets
            && self.max_connections_per_address == share
            && (!explicit || self.max_sockets <= sockets);
        if !fits {
            tracing::warn!(
                files,
                sockets,
                of_one_address = share,
                configured = self.max_connections,
                of_one_address_configured = self.max_connections_per_address,
                "the limit of open files is too low for the configured connections, so the bounds were lowered: \
                 raise `ulimit -n` (systemd: LimitNOFILE)"
            );
        }
        self.max_sockets = self.max_sockets.min(sockets);
        self.max_connections = self.max_connections.min(sockets);
        self.max_connections_per_address = share;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_leave_files_for_the_store() {
        let fitted = |files| {
            let fitted = ListenerConfig::default().within_files(files);
            (fitted.max_sockets, fitted.max_connections, fitted.max_connections_per_address)
        };
        assert_eq!(fitted(1_048_576), (1_048_448, 16_384, 1024));
        assert_eq!(fitted(1024), (896, 896, 448));
        assert_eq!(fitted(100), (50, 50, 25));
        assert_eq!(fitted(0), (1, 1, 1));
    }
}

//! Host names that a server answers to.
//!
//! A foreign name that was made to resolve to this machine (DNS rebinding) is of the same origin as
//! the requests of its page, so an origin check passes and the name itself must be checked.

use std::net::IpAddr;

use http::header::{HOST, HeaderMap};
use http::uri::{Authority, Uri};
use im_core::{Code, Error, Result};

use crate::grammar::authority;
use crate::log_throttle::LogThrottle;
use crate::metrics;

/// Host names (`Host`, or `:authority` of HTTP/2) for which requests are answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hosts {
    /// On a loopback address local names only: `localhost`, names that end in `.localhost`, and
    /// loopback addresses. On other addresses any name. The default: without a proxy, a server on
    /// loopback is reached under no other name.
    #[default]
    ByAddress,
    /// As `ByAddress`, and on a loopback address also these names, without ports. For the names of
    /// a proxy in front of this server.
    LocalAnd(Vec<String>),
    /// On any address these names only, without ports.
    Only(Vec<String>),
    /// Any name. **Dangerous** on a loopback address without authentication: every page that a user
    /// opens can make its own name resolve to this machine, and then read and write here.
    Any,
}

impl Hosts {
    fn allow(&self, host: &str, on_loopback: bool) -> bool {
        match self {
            Self::ByAddress => !on_loopback || is_local(host),
            Self::LocalAnd(names) => !on_loopback || is_local(host) || lists(names, host),
            Self::Only(names) => lists(names, host),
            Self::Any => true,
        }
    }
}

/// The host check of one listener.
#[derive(Debug)]
pub(crate) struct HostCheck {
    hosts: Hosts,
    on_loopback: bool,
    warned: LogThrottle,
}

impl HostCheck {
    pub(crate) fn new(hosts: Hosts, on_loopback: bool) -> Self {
        Self { hosts, on_loopback, warned: LogThrottle::default() }
    }

    /// Refuses a request for another name. A request without a name does not come from a browser
    /// and is allowed.
    pub(crate) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<()> {
        let Some(named) = own_authority(uri, headers) else { return Ok(()) };
        if self.hosts.allow(named.host(), self.on_loopback) {
            return Ok(());
        }
        ::metrics::counter!(metrics::REQUESTS_REFUSED, "reason" => "host").increment(1);
        let words = format!(
            "the host name {:?} is not allowed: to allow it, list it in ListenerConfig::hosts (quickstart: --origin)",
            shortened(named.host())
        );
        if let Some(left_out) = self.warned.due() {
            tracing::warn!(
                host = shortened(named.host()),
                left_out,
                "refused a request: {words}; see docs/proxies.md"
            );
        }
        Err(Error::new(Code::BadOrigin, "check host", words))
    }
}

/// Returns the name that the client used: from the target in HTTP/2, from `Host` in HTTP/1.1 (RFC
/// 9112 section 3.2).
pub(crate) fn own_authority(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    match uri.authority() {
        Some(authority) => Some(authority.clone()),
        None => authority(headers.get(HOST)?),
    }
}

/// Cuts a foreign text to 200 bytes for a message.
pub(crate) fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(200)]
}

/// Returns whether this name is resolved without a name server (RFC 6761 section 6.3).
fn is_local(host: &str) -> bool {
    let host = bare(host);
    let address: Option<IpAddr> = host.parse().ok();
    match address {
        Some(address) => address.to_canonical().is_loopback(),
        None => {
            let last = host.rsplit('.').next().unwrap_or_default();
            last.eq_ignore_ascii_case("localhost")
        }
    }
}

fn lists(names: &[String], host: &str) -> bool {
    names.iter().any(|name| bare(name).eq_ignore_ascii_case(bare(host)))
}

/// Strips the root's dot of a name and the brackets of an address.
fn bare(host: &str) -> &str {
    let host = host.strip_suffix('.').unwrap_or(host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_names_need_no_name_server() {
        for local in [
            "localhost",
            "LocalHost",
            "localhost.",
            "a.localhost",
            "127.0.0.1",
            "127.8.9.10",
            "[::1]",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(is_local(local), "{local}");
        }
        for other in [
            "evil.example",
            "localhost.evil.example",
            "notlocalhost",
            "127.0.0.1.evil.example",
            "0.0.0.0",
            "[::]",
            "192.0.2.1",
            "",
        ] {
            assert!(!is_local(other), "{other}");
        }
    }

    #[test]
    fn other_names_are_answered_where_configured() {
        let names = vec!["chat.example.org".to_owned()];
        let (also, only) = (Hosts::LocalAnd(names.clone()), Hosts::Only(names));
        for (hosts, host, on_loopback, good) in [
            (&Hosts::ByAddress, "evil.example", true, false),
            (&Hosts::ByAddress, "evil.example", false, true),
            (&Hosts::ByAddress, "localhost", true, true),
            (&also, "Chat.Example.org", true, true),
            (&also, "chat.example.org", false, true),
            (&also, "localhost", true, true),
            (&also, "evil.example", true, false),
            (&also, "evil.example", false, true),
            (&also, "x.chat.example.org", true, false),
            (&only, "chat.example.org.", false, true),
            (&only, "localhost", true, false),
            (&only, "evil.example", false, false),
            (&Hosts::Any, "evil.example", true, true),
        ] {
            assert_eq!(hosts.allow(host, on_loopback), good, "{hosts:?}: {host}");
        }
    }
}

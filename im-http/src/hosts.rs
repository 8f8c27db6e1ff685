//! Under which names a server answers. A page on a foreign name that was made to resolve to this machine (DNS rebinding)
//! is of the same origin as what it asks for, so the name itself has to be looked at.

use std::net::IpAddr;

use http::header::{HOST, HeaderMap};
use http::uri::{Authority, Uri};
use im_core::{Code, Error, Result};

use crate::grammar::authority;
use crate::log_throttle::LogThrottle;
use crate::metrics;

/// Under which host names (`Host`, or `:authority` of HTTP/2) requests are answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hosts {
    /// On a loopback address only local names: `localhost`, names that end in `.localhost`, and loopback addresses. On
    /// other addresses any name. The default: what is reached on loopback alone is reached by no other name, unless a
    /// proxy is in front of it.
    #[default]
    ByAddress,
    /// The same, and on a loopback address these names too, without ports: those under which a proxy is reached that is in
    /// front of this server.
    LocalAnd(Vec<String>),
    /// On any address these names and no others, without ports.
    Only(Vec<String>),
    /// Any name. **Dangerous** on a loopback address without authentication: every page that a user opens can make its
    /// own name resolve to this machine, and then read and write here.
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

/// The names that one listener answers to.
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

    /// Lets the request in or refuses it. Without a name it does not come from a browser, and is let in.
    pub(crate) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<()> {
        let Some(named) = own_authority(uri, headers) else { return Ok(()) };
        if self.hosts.allow(named.host(), self.on_loopback) {
            return Ok(());
        }
        ::metrics::counter!(metrics::REQUESTS_REFUSED, "reason" => "host").increment(1);
        let words = format!(
            "this server is not known as {:?}: if it is to be, name it in ListenerConfig::hosts (quickstart: --origin)",
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

/// Under which name the client reached the server: HTTP/2 has it in the target, HTTP/1.1 in `Host` (RFC 9112 section 3.2).
pub(crate) fn own_authority(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    match uri.authority() {
        Some(authority) => Some(authority.clone()),
        None => authority(headers.get(HOST)?),
    }
}

/// As much of a foreign text as belongs into a message.
pub(crate) fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(200)]
}

/// Whether no name server is asked for this name (RFC 6761 section 6.3).
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

/// A name without the root's dot, an address without brackets.
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

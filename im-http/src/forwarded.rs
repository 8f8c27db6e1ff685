//! The client address of a request that a proxy forwarded.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use http::header::HeaderName;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Returns whether a socket's address is that of a proxy.
pub(crate) fn is_proxy(proxies: &[IpAddr], address: IpAddr) -> bool {
    let address = address.to_canonical();
    proxies.iter().any(|proxy| proxy.to_canonical() == address)
}

/// Returns the address of the client.
///
/// It is the peer's address, or, if the peer is a proxy, the last address in `X-Forwarded-For` that
/// is not a proxy. Entries before that one were written by the client or by an untrusted host.
pub(crate) fn client(proxies: &[IpAddr], peer: SocketAddr, headers: &HeaderMap) -> SocketAddr {
    if !is_proxy(proxies, peer.ip()) {
        return peer;
    }
    // Not parsed as a list of RFC 9110: a quote written by the client must not swallow an address
    // that a proxy appended.
    let lines = headers.get_all(X_FORWARDED_FOR).iter().rev();
    let named = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    let mut client = peer;
    for named in named.map(<[u8]>::trim_ascii).filter(|named| !named.is_empty()) {
        let Some(address) = std::str::from_utf8(named).ok().and_then(address) else { break };
        client = address;
        if !is_proxy(proxies, address.ip()) {
            break;
        }
    }
    client
}

/// Parses an address, with or without a port.
fn address(text: &str) -> Option<SocketAddr> {
    let ip = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let alone = ip.parse().ok().map(|ip| SocketAddr::new(ip, 0));
    alone.or_else(|| text.parse().ok())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(peer: &str, lines: &[&str]) -> String {
        let lines = lines.iter().map(|line| HeaderValue::from_bytes(line.as_bytes()).unwrap());
        let headers: HeaderMap = lines.map(|line| (X_FORWARDED_FOR, line)).collect();
        let proxies: Vec<IpAddr> = ["127.0.0.1", "10.0.0.2"].map(|ip| ip.parse().unwrap()).to_vec();
        client(&proxies, peer.parse().unwrap(), &headers).ip().to_string()
    }

    #[test]
    fn only_proxies_may_forward_addresses() {
        assert_eq!(of("192.0.2.9:1", &["192.0.2.1"]), "192.0.2.9");
        assert_eq!(of("127.0.0.1:1", &["192.0.2.1"]), "192.0.2.1");
        assert_eq!(of("[::ffff:127.0.0.1]:1", &["[2001:db8::1]:4000"]), "2001:db8::1");
        assert_eq!(of("127.0.0.1:1", &["8.8.8.8, 192.0.2.1", "10.0.0.2"]), "192.0.2.1");
        assert_eq!(of("127.0.0.1:1", &["192.0.2.1, unknown"]), "127.0.0.1");
        assert_eq!(of("127.0.0.1:1", &["8.8.8.8, \u{fc}, 10.0.0.2"]), "10.0.0.2");
        assert_eq!(of("127.0.0.1:1", &["\"8.8.8.8, 192.0.2.1"]), "192.0.2.1");
        assert_eq!(of("127.0.0.1:1", &["8.8.8.8", "", "192.0.2.1,, 10.0.0.2,"]), "192.0.2.1");
        assert_eq!(of("127.0.0.1:1", &[]), "127.0.0.1");
    }
}

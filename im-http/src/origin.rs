//! Which pages may connect.
//!
//! A browser sends the origin of a page, and scripts cannot change it (RFC 6454 section 7). Without
//! this check any page that a user opens could use the user's cookies here.

use std::fmt;
use std::sync::Arc;

use http::Request;
use http::header::{HeaderMap, ORIGIN};
use http::uri::{Authority, Uri};
use im_core::{Code, Error, Result};

use crate::hosts::{own_authority, shortened};
use crate::log_throttle::LogThrottle;
use crate::metrics;

/// The origin of a page: scheme, host and port (RFC 6454 section 4). It is normalised, so that two
/// origins are equal when a browser considers them the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

/// The error for a text that is not an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OriginError;

impl fmt::Display for OriginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an origin is written scheme://host or scheme://host:port, without a path")
    }
}

impl std::error::Error for OriginError {}

impl Origin {
    /// Parses an origin as browsers write it, such as `https://chat.example.org`.
    ///
    /// # Errors
    ///
    /// If it is anything else, including `null`, which browsers send for pages without an origin of
    /// their own.
    pub fn parse(text: &str) -> Result<Self, OriginError> {
        let (scheme, rest) = text.split_once("://").ok_or(OriginError)?;
        if scheme.is_empty() || rest.contains(['/', '?', '#', '@']) {
            return Err(OriginError);
        }
        let authority: Authority = rest.parse().map_err(|_| OriginError)?;
        Ok(Self::of(scheme, &authority))
    }

    /// Returns the host, without the port.
    pub fn host(&self) -> &str {
        &self.host
    }

    fn of(scheme: &str, authority: &Authority) -> Self {
        let scheme = scheme.to_ascii_lowercase();
        let port = authority.port_u16().or_else(|| default_port(&scheme));
        Self { host: authority.host().to_ascii_lowercase(), scheme, port }
    }

    /// Returns whether a server reached under `authority` serves pages of this origin. The scheme
    /// is not compared: behind a proxy that terminates TLS the server does not know its own.
    fn serves(&self, authority: &Authority) -> bool {
        *self == Self::of(&self.scheme, authority)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        match self.port {
            Some(port) if Some(port) != default_port(&self.scheme) => write!(f, ":{port}"),
            _ => Ok(()),
        }
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

/// The origins that are allowed.
///
/// A request without an `Origin` header does not come from a page in a browser and is always
/// allowed: a client that can omit the header could also forge it, and it carries no cookies of
/// another user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OriginPolicy {
    /// Pages from the host and port that the request names (`Host`). The default, and right where
    /// the pages and the engine share a server. Behind a proxy that rewrites `Host`, list the
    /// origins instead.
    #[default]
    SameOrigin,
    /// Pages from the same origin, and from these origins.
    SameOriginAnd(Vec<Origin>),
    /// Pages from these origins only.
    Only(Vec<Origin>),
    /// Pages from anywhere. **Dangerous** where cookies carry identity: any page that a user visits
    /// can then read and write in the user's name. Meant for services whose clients send a token
    /// that no other page has.
    Any,
}

impl OriginPolicy {
    /// Allows pages from these origins only.
    ///
    /// # Errors
    ///
    /// If one of them is not an origin.
    pub fn only<'a>(origins: impl IntoIterator<Item = &'a str>) -> Result<Self, OriginError> {
        origins.into_iter().map(Origin::parse).collect::<Result<_, _>>().map(Self::Only)
    }

    fn allows(&self, origin: &Origin, own: Option<&Authority>) -> bool {
        let same = || own.is_some_and(|own| origin.serves(own));
        match self {
            Self::Any => true,
            Self::Only(list) => list.contains(origin),
            Self::SameOriginAnd(list) => list.contains(origin) || same(),
            Self::SameOrigin => same(),
        }
    }
}

/// The allowed origins of an [`Edge`](crate::Edge), one list for all mounted transports. Cheap to
/// clone.
///
/// A transport mounted without an edge reads the list from the request's extensions, where a layer
/// of the router may have stored it. Without one it allows pages of the same origin.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    shared: Arc<(OriginPolicy, LogThrottle)>,
}

impl From<OriginPolicy> for Origins {
    fn from(policy: OriginPolicy) -> Self {
        Self::new(policy)
    }
}

impl Origins {
    /// Creates the list of a policy.
    pub fn new(policy: OriginPolicy) -> Self {
        Self { shared: Arc::new((policy, LogThrottle::default())) }
    }

    /// Returns the policy.
    pub fn policy(&self) -> &OriginPolicy {
        &self.shared.0
    }

    /// Checks the origin of a request against the list in its extensions, or else this one.
    ///
    /// # Errors
    ///
    /// [`Code::BadOrigin`] if there is an `Origin` header that the policy does not allow, if there
    /// are several, or if it cannot be parsed. The message names the origin and the setting; a
    /// warning is logged, at most one in 10 s.
    pub fn check<B>(&self, request: &Request<B>) -> Result<()> {
        let list = request.extensions().get().unwrap_or(self);
        list.judge(request.uri(), request.headers())
    }

    fn judge(&self, uri: &Uri, headers: &HeaderMap) -> Result<()> {
        let mut given = headers.get_all(ORIGIN).iter();
        let Some(first) = given.next() else { return Ok(()) };
        if matches!(self.policy(), OriginPolicy::Any) {
            return Ok(());
        }
        let own = own_authority(uri, headers);
        let text = first.to_str().ok().filter(|_| given.next().is_none());
        let origin = text.and_then(|text| Origin::parse(text).ok());
        match origin {
            Some(origin) if self.policy().allows(&origin, own.as_ref()) => Ok(()),
            _ => Err(self.refuse(text, own.as_ref())),
        }
    }

    fn refuse(&self, origin: Option<&str>, own: Option<&Authority>) -> Error {
        ::metrics::counter!(metrics::REQUESTS_REFUSED, "reason" => "origin").increment(1);
        let origin = shortened(origin.unwrap_or("(unreadable)"));
        let host = own.map_or("(no host)", |own| shortened(own.as_str()));
        let words = match self.policy() {
            OriginPolicy::SameOrigin | OriginPolicy::SameOriginAnd(_) => format!(
                "the origin {origin} is not allowed on {host}: if a proxy is in front, let it forward Host, \
                 or allow the origin in Edge::origins (quickstart: --origin)"
            ),
            _ => {
                format!("the origin {origin} is not allowed: to allow it, list it in Edge::origins")
            }
        };
        if let Some(left_out) = self.shared.1.due() {
            tracing::warn!(
                origin,
                host,
                left_out,
                "refused a request: {words}; see docs/proxies.md"
            );
        }
        Error::new(Code::BadOrigin, "check origin", words)
    }
}

#[cfg(test)]
mod tests {
    use http::header::HOST;

    use super::*;

    fn judged(policy: &OriginPolicy, host: &str, origins: &[&str]) -> Result<()> {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        for origin in origins {
            headers.append(ORIGIN, origin.parse().unwrap());
        }
        Origins::new(policy.clone()).judge(&Uri::from_static("/ws"), &headers)
    }

    fn check(policy: &OriginPolicy, host: &str, origins: &[&str]) -> bool {
        judged(policy, host, origins).is_ok()
    }

    #[test]
    fn a_refusal_names_origin_and_setting() {
        let only = OriginPolicy::only(["https://app.example"]).unwrap();
        for policy in [OriginPolicy::SameOrigin, only] {
            let refused = judged(&policy, "127.0.0.1:8080", &["https://chat.example.org"]);
            let words = refused.unwrap_err().message().to_owned();
            assert!(words.contains("https://chat.example.org"), "{words}");
            assert!(words.contains("Edge::origins"), "{words}");
            let names_host = words.contains("127.0.0.1:8080");
            assert_eq!(names_host, policy == OriginPolicy::SameOrigin, "{words}");
        }
    }

    #[test]
    fn listed_origins_join_own_origin() {
        let listed = vec![Origin::parse("https://chat.example.org").unwrap()];
        let policy = OriginPolicy::SameOriginAnd(listed);
        assert!(check(&policy, "127.0.0.1:8080", &["https://chat.example.org"]));
        assert!(check(&policy, "127.0.0.1:8080", &["http://127.0.0.1:8080"]));
        assert!(!check(&policy, "127.0.0.1:8080", &["https://evil.example"]));
    }

    #[test]
    fn same_origin_compares_host_and_port() {
        let policy = OriginPolicy::default();
        for (host, origin, good) in [
            ("chat.example.org", "https://chat.example.org", true),
            ("chat.example.org", "http://chat.example.org", true),
            ("Chat.Example.org:443", "https://chat.example.ORG", true),
            ("localhost:8080", "http://localhost:8080", true),
            ("[::1]:8080", "http://[::1]:8080", true),
            ("localhost:8080", "http://localhost", false),
            ("chat.example.org", "https://chat.example.org:8443", false),
            ("chat.example.org", "https://example.org", false),
            ("chat.example.org", "https://chat.example.org.evil.example", false),
            ("chat.example.org", "https://evil.example/chat.example.org", false),
            ("chat.example.org", "https://chat.example.org@evil.example", false),
            ("chat.example.org", "null", false),
            ("chat.example.org", "", false),
        ] {
            assert_eq!(check(&policy, host, &[origin]), good, "{origin} at {host}");
        }
    }

    /// A request without Origin is not from a page and passes; one with two is refused.
    #[test]
    fn missing_origin_passes_two_are_refused() {
        assert!(check(&OriginPolicy::default(), "a.example", &[]));
        assert!(!check(
            &OriginPolicy::default(),
            "a.example",
            &["https://a.example", "https://b.example"]
        ));
        assert!(check(&OriginPolicy::Any, "a.example", &["https://b.example"]));
    }

    #[test]
    fn a_list_is_matched_exactly() {
        let policy = OriginPolicy::only(["https://app.example", "http://localhost:5173"]).unwrap();
        assert!(check(&policy, "api.example", &["https://app.example"]));
        assert!(check(&policy, "api.example", &["https://app.example:443"]));
        assert!(check(&policy, "api.example", &["http://localhost:5173"]));
        assert!(!check(&policy, "api.example", &["http://app.example"]));
        assert!(!check(&policy, "api.example", &["https://api.example"]));
        assert!(!check(&policy, "api.example", &["https://x.app.example"]));
        assert_eq!(OriginPolicy::only(["https://app.example/"]), Err(OriginError));
    }

    #[test]
    fn origin_serialises_like_browsers() {
        assert_eq!(
            Origin::parse("HTTPS://App.Example:443").unwrap().to_string(),
            "https://app.example"
        );
        assert_eq!(
            Origin::parse("http://localhost:5173").unwrap().to_string(),
            "http://localhost:5173"
        );
    }
}

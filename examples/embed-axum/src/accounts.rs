//! The shop's own users and logins. The engine learns of them only through [`crate::chat`].

use std::collections::HashMap;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use im_core::ports::{Clock, SystemClock};
use im_core::{Timestamp, UserId, id};
use parking_lot::Mutex;

use crate::Shop;

/// Accounts with their passwords.
///
/// Plain passwords in the source keep this example about the engine. A real service stores an
/// Argon2id hash per user and verifies it off the async threads, for unknown names too.
const USERS: [(&str, &str); 3] = [("ada", "ada"), ("bela", "bela"), ("chidi", "chidi")];

const COOKIE_NAME: &str = "shop";
const LASTS: Duration = Duration::from_secs(8 * 60 * 60);
const MOST_LOGINS: usize = 10_000;

/// Current logins, by the value of their session cookie.
#[derive(Default)]
pub struct Accounts {
    logins: Mutex<HashMap<String, Login>>,
}

/// One login.
#[derive(Debug, Clone, PartialEq)]
pub struct Login {
    /// The user who logged in.
    pub user: UserId,
    /// The end of the login.
    pub expires: Timestamp,
}

impl Accounts {
    /// Iterates over all users that have an account.
    pub fn users() -> impl Iterator<Item = UserId> {
        USERS.iter().filter_map(|(name, _)| UserId::new(name).ok())
    }

    /// Logs in and returns the value of a new session cookie. `None` if name or password are wrong,
    /// or if there are too many logins already.
    pub fn log_in(&self, name: &str, password: &str) -> Option<String> {
        let (name, _) = USERS.iter().find(|(user, right)| *user == name && *right == password)?;
        let now = SystemClock.now();
        let login = Login { user: UserId::new(name).ok()?, expires: now.plus(LASTS) };
        let mut logins = self.logins.lock();
        logins.retain(|_, login| login.expires > now);
        if logins.len() >= MOST_LOGINS {
            return None;
        }
        let token = id::MessageId::random().to_string(); // 128 random bits
        logins.insert(token.clone(), login);
        Some(token)
    }

    /// Ends every login of the user whose login these cookies name. Returns the user.
    pub fn log_out(&self, cookies: &str) -> Option<UserId> {
        let mut logins = self.logins.lock();
        let user = logins.remove(token(cookies)?)?.user;
        logins.retain(|_, login| login.user != user);
        Some(user)
    }

    /// Returns the login that a `Cookie` header names, expired or not.
    pub fn find(&self, cookies: &str) -> Option<Login> {
        self.logins.lock().get(token(cookies)?).cloned()
    }
}

fn token(cookies: &str) -> Option<&str> {
    let named = |cookie: &'_ str| {
        cookie.trim().split_once('=').is_some_and(|(name, _)| name == COOKIE_NAME)
    };
    let cookie = cookies.split(';').find(|cookie| named(cookie))?;
    cookie.trim().split_once('=').map(|(_, value)| value)
}

/// Builds the header that sets the session cookie. Scripts cannot read it, and foreign pages cannot
/// post with it (`SameSite`, RFC 6265bis). Add `Secure` behind TLS.
pub fn set_cookie(token: &str) -> [(axum::http::HeaderName, String); 1] {
    let seconds = if token.is_empty() { 0 } else { LASTS.as_secs() };
    [(
        SET_COOKIE,
        format!("{COOKIE_NAME}={token}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax"),
    )]
}

/// Joins the cookies of all `Cookie` headers; empty if there are none. Other software of the same
/// site sets cookies too; values that are not text are ignored.
pub fn cookies(headers: &HeaderMap) -> String {
    let lines = headers.get_all(COOKIE).iter();
    let all = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    let texts: Vec<_> = all.filter_map(|cookie| std::str::from_utf8(cookie).ok()).collect();
    texts.join(";")
}

/// An extractor of the logged-in user; requests without a login get 401.
pub struct LoggedIn(
    /// The logged-in user.
    pub UserId,
);

impl FromRequestParts<Shop> for LoggedIn {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(parts: &mut Parts, shop: &Shop) -> Result<Self, Self::Rejection> {
        let login = shop.accounts.find(&cookies(&parts.headers));
        match login.filter(|login| login.expires > SystemClock.now()) {
            Some(login) => Ok(Self(login.user)),
            None => Err((StatusCode::UNAUTHORIZED, "log in first")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The session cookie is found among other cookies and stops working after logout.
    #[test]
    fn cookie_finds_login_until_logout() {
        let accounts = Accounts::default();
        assert_eq!(accounts.log_in("ada", "wrong"), None);
        assert_eq!(accounts.log_in("nobody", "nobody"), None);
        let token = accounts.log_in("ada", "ada").unwrap();
        let cookies = format!("theme=dark; shop={token}; x=1");
        assert_eq!(accounts.find(&cookies).unwrap().user.as_str(), "ada");
        assert_eq!(accounts.find("shop=made-up"), None);
        assert_eq!(accounts.find(&format!("workshop={token}")), None);
        assert!(accounts.log_out(&cookies).is_some());
        assert_eq!(accounts.find(&cookies), None);
    }

    #[test]
    fn foreign_cookies_are_passed_over() {
        let mut headers = HeaderMap::new();
        for line in [&b"city=K\xf6ln; shop=1"[..], b"theme=dark"] {
            headers.append(COOKIE, line.try_into().unwrap());
        }
        assert_eq!(token(&cookies(&headers)), Some("1"));
    }
}

//! The shop's own users and logins. The engine knows nothing of them but what [`crate::chat`] tells it.

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

/// Who may log in, and with which password.
///
/// Three accounts with their passwords in the source, compared as they are, keep this example about the engine. A real
/// service keeps an Argon2id hash for each user and verifies it off the async threads, for unknown names too.
const USERS: [(&str, &str); 3] = [("ada", "ada"), ("bela", "bela"), ("chidi", "chidi")];

const COOKIE_NAME: &str = "shop";
const LASTS: Duration = Duration::from_secs(8 * 60 * 60);
const MOST_LOGINS: usize = 10_000;

/// Who is logged in: the values of the session cookie.
#[derive(Default)]
pub struct Accounts {
    logins: Mutex<HashMap<String, Login>>,
}

/// One login.
#[derive(Debug, Clone, PartialEq)]
pub struct Login {
    /// Whose.
    pub user: UserId,
    /// Until when.
    pub expires: Timestamp,
}

impl Accounts {
    /// Everyone who has an account.
    pub fn users() -> impl Iterator<Item = UserId> {
        USERS.iter().filter_map(|(name, _)| UserId::new(name).ok())
    }

    /// Logs in and gives the value of a new session cookie. `None` if name or password are wrong, or if there are too
    /// many logins already.
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

    /// Ends every login of the user whose login these cookies name, and says who it was.
    pub fn log_out(&self, cookies: &str) -> Option<UserId> {
        let mut logins = self.logins.lock();
        let user = logins.remove(token(cookies)?)?.user;
        logins.retain(|_, login| login.user != user);
        Some(user)
    }

    /// The login that a `Cookie` header names, expired or not.
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

/// The header that sets the session cookie. No script can read it, and no foreign page can post with it (`SameSite`,
/// RFC 6265bis). Add `Secure` behind TLS.
pub fn set_cookie(token: &str) -> [(axum::http::HeaderName, String); 1] {
    let seconds = if token.is_empty() { 0 } else { LASTS.as_secs() };
    [(
        SET_COOKIE,
        format!("{COOKIE_NAME}={token}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax"),
    )]
}

/// The request's cookies, of all `Cookie` headers; empty if there are none. Other programs of the same site set cookies
/// too, and what is no text is none of the shop's.
pub fn cookies(headers: &HeaderMap) -> String {
    let lines = headers.get_all(COOKIE).iter();
    let all = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    let texts: Vec<_> = all.filter_map(|cookie| std::str::from_utf8(cookie).ok()).collect();
    texts.join(";")
}

/// A handler that takes this is for those who are logged in; others get 401.
pub struct LoggedIn(
    /// Who it is.
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

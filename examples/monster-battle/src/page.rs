//! The page and the JavaScript client as routes. Both are embedded in the binary.

use warp::filters::BoxedFilter;
use warp::http::Response;
use warp::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS,
};
use warp::path::FullPath;
use warp::{Filter, Rejection};

/// The page runs its own scripts only, whatever a message contains.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Path and text of a file; the extension selects its type.
type File = (&'static str, &'static str);

macro_rules! files {
    ($under:literal, $from:literal: $($name:literal)*) => {
        [$((concat!($under, $name), include_str!(concat!($from, $name)))),*]
    };
}

const INDEX: &str = include_str!("../page/index.html");

const PAGE: [File; 9] = files!("/", "../page/":
    "battle.css" "battle.js" "chart.js" "chat.js" "icon.svg" "late-line.js" "meter.js" "monster.js" "panel.js"
);

/// All files of `clients/js/src`. A test checks that none is missing.
const CLIENT: [File; 50] = files!("/im-client/", "../../../clients/js/src/":
    "client.js" "codes.js" "config.js" "connect.js" "core/answers.js" "core/backoff.js" "core/credentials.js"
    "core/decisions.js" "core/flight.js" "core/greeting.js" "core/ladder.js" "core/latest.js" "core/machine.js"
    "core/online.js" "core/pace.js" "core/pushes.js" "core/reply.js" "core/rooms.js" "core/subscribed-room.js"
    "core/types.js" "emitter.js" "env.js" "error.js" "event-iterator.js" "handles.js" "ids.js" "index.js" "links/index.js"
    "links/link.js" "links/poll.js" "links/sse-parser.js" "links/sse.js" "links/uplink.js" "links/ws-node.js" "links/ws.js"
    "room.js" "shell.js" "storage.js" "tabs/catch-up.js" "tabs/channel.js" "tabs/election.js" "tabs/hub.js" "tabs/index.js"
    "tabs/link.js" "tabs/peer.js" "wire/base64.js" "wire/codec.js" "wire/json.js" "wire/msgpack.js" "wire/value.js"
);

/// Routes for all files. `transport` is the one that the page starts with: `all`, `auto`, or a
/// name.
pub fn routes(transport: &str) -> BoxedFilter<(Response<String>,)> {
    let index = INDEX.replace("data-transport=\"all\"", &format!("data-transport=\"{transport}\""));
    warp::get()
        .and(warp::path::full())
        .and_then(move |path: FullPath| {
            let found = match path.as_str() {
                "/" => Some(respond("text/html; charset=utf-8", index.clone())),
                path => find(path),
            };
            async { found.ok_or_else::<Rejection, _>(warp::reject::not_found) }
        })
        .boxed()
}

fn find(path: &str) -> Option<Response<String>> {
    let (name, text) = PAGE.iter().chain(&CLIENT).find(|(name, _)| *name == path)?;
    let kind = match name.rsplit_once('.')?.1 {
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        _ => "image/svg+xml",
    };
    Some(respond(kind, (*text).to_owned()))
}

fn respond(kind: &'static str, text: String) -> Response<String> {
    let mut response = Response::new(text);
    let headers = response.headers_mut();
    let fields = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (CACHE_CONTROL, "no-cache"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    for (name, value) in fields {
        headers.insert(name, warp::http::HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    /// Returns all files under a folder, as relative paths.
    fn under(folder: &Path) -> Vec<String> {
        let (mut found, mut left) = (Vec::new(), vec![folder.to_owned()]);
        while let Some(here) = left.pop() {
            for entry in fs::read_dir(here).unwrap() {
                let path: PathBuf = entry.unwrap().path();
                match path.is_dir() {
                    true => left.push(path),
                    false => found.push(path.strip_prefix(folder).unwrap().display().to_string()),
                }
            }
        }
        found.sort();
        found
    }

    /// Each file of the page and of the client is served.
    #[test]
    fn all_page_files_are_served() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        for file in under(&here.join("../../clients/js/src")) {
            assert!(find(&format!("/im-client/{file}")).is_some(), "{file} is not in CLIENT");
        }
        for file in under(&here.join("page")).iter().filter(|file| *file != "index.html") {
            assert!(find(&format!("/{file}")).is_some(), "{file} is not in PAGE");
        }
    }

    /// Returns the text and its type, or the status of a refusal.
    async fn fetch(path: &str) -> Result<(String, String), u16> {
        let request = warp::http::Request::get(path).body(String::new()).unwrap();
        let response = warp::service(routes("sse")).oneshot(request).await.unwrap();
        if response.status() != 200 {
            return Err(response.status().as_u16());
        }
        let kind = response.headers()[CONTENT_TYPE].to_str().unwrap().to_owned();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Ok((String::from_utf8(body.to_vec()).unwrap(), kind))
    }

    #[tokio::test]
    async fn page_starts_with_requested_transport() {
        let (index, kind) = fetch("/").await.unwrap();
        assert!(index.contains("data-transport=\"sse\"") && kind == "text/html; charset=utf-8");
        let (_, kind) = fetch("/im-client/links/ws.js").await.unwrap();
        assert_eq!(kind, "text/javascript; charset=utf-8");
        assert_eq!(fetch("/im-client/../secret").await, Err(404));
    }
}

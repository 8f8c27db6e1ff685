//! The store suite on a PostgreSQL server.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod support;

use im_test_databases::Kind;

use self::support::Server;

im_testkit::store_suite!(match Server::<sqlx::Postgres>::find(Kind::Postgres) {
    Some(server) => server,
    None => return,
});

//! The store suite on a MariaDB server.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod support;

use im_test_databases::Kind;

use self::support::Server;

im_testkit::store_suite!(match Server::<sqlx::MySql>::find(Kind::MariaDb) {
    Some(server) => server,
    None => return,
});

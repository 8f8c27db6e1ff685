//! Counts the storage reads for a page: if the count grows only with the depth of the trees, so
//! does the work.
//!
//! | store | counted |
//! |---|---|
//! | sled, SQLite | read system calls of a store that was just opened, with its cache at its smallest |
//! | PostgreSQL | accesses to blocks of the tables and indexes, in memory or not (`pg_statio_user_tables`) |
//! | MariaDB, MySQL | accesses to pages of the buffer pool (`Innodb_buffer_pool_read_requests`), of the whole server |
//!
//! SQLite without a cache reads each node of a tree on every visit. sled evicts slowly, so it is
//! reopened for every few pages: the leaves are then read for the first time, as long as the store
//! is much larger than those pages. A node of sled consists of pieces, one for each change since
//! its last consolidation, each of which is a read: its counts vary.
//!
//! Other users of a server only add to a count, so the minimum of some rounds is taken.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use im_stores::{StoreAddress, Tuning};
use sqlx::{Connection, MySqlConnection, PgConnection};

use super::fill::Shape;
use super::work::{PageRequest, Side};

/// Number of counts of the same pages on a server.
const ROUNDS: usize = 3;

/// Number of reopens of a store in this process, each with a part of the pages.
const OPENINGS: u64 = 10;

/// Pages read before the count: for connections, and for statements that are planned at first.
const BEFORE: u64 = 8;

/// The longest time in which a database server adds the counts of closed connections.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);

/// Returns the counted unit.
pub(super) fn unit(address: &StoreAddress) -> &'static str {
    match address {
        StoreAddress::Postgres(_) => "accesses to blocks",
        StoreAddress::MySql(_) => "accesses to the buffer pool",
        _ => "read system calls without a cache",
    }
}

/// Opens the store and counts the reads of `pages` pages at random positions. Returns the reads for
/// one.
///
/// # Errors
///
/// If the store fails, or the count is not available.
pub(super) async fn per_page(address: &StoreAddress, shape: Shape, pages: u64) -> Result<f64> {
    let opened = Opened { address, shape };
    let reads = match address {
        StoreAddress::Postgres(url) => of_postgres(opened, url, pages).await,
        StoreAddress::MySql(url) => of_mysql(opened, url, pages).await,
        _ => of_this_process(opened, pages).await,
    }?;
    Ok(reads as f64 / pages as f64)
}

/// An open store with the caches that the count needs.
#[derive(Clone, Copy)]
struct Opened<'a> {
    address: &'a StoreAddress,
    shape: Shape,
}

impl Opened<'_> {
    async fn open(self, pages: u64) -> Result<(Side, Vec<PageRequest>)> {
        let store = self.address.open_tuned(Tuning::default().cache_bytes(0)).await?;
        let side = Side::new(store, self.shape, None).await?;
        side.read(&side.pages(1, BEFORE)?).await?;
        let requests = side.pages(0, pages)?;
        Ok((side, requests))
    }
}

/// Only the store reads in this process meanwhile, so each page is counted once.
async fn of_this_process(opened: Opened<'_>, pages: u64) -> Result<u64> {
    let mut reads = 0;
    for opening in 0..OPENINGS.min(pages) {
        let (side, requests) = opened.open(pages).await?;
        let few: Vec<PageRequest> =
            requests.into_iter().skip(opening as usize).step_by(OPENINGS as usize).collect();
        let (empty, before) = (read_calls()?, read_calls()?);
        side.read(&few).await?;
        let with_look = read_calls()?.saturating_sub(before);
        side.close().await?;
        // Reading the counter is a read, too.
        reads += with_look.saturating_sub(before - empty);
    }
    Ok(reads)
}

async fn of_mysql(opened: Opened<'_>, url: &str, pages: u64) -> Result<u64> {
    let mut server = MySqlConnection::connect(url).await?;
    let mut least = u64::MAX;
    for _ in 0..ROUNDS {
        let (side, requests) = opened.open(pages).await?;
        let before = pool_requests(&mut server).await?;
        side.read(&requests).await?;
        least = least.min(pool_requests(&mut server).await?.saturating_sub(before));
        side.close().await?;
    }
    Ok(least)
}

/// A connection reports its counts when it ends. So the store is closed for each count, and the
/// reads of opening it are counted separately.
async fn of_postgres(opened: Opened<'_>, url: &str, pages: u64) -> Result<u64> {
    let mut server = PgConnection::connect(url).await?;
    let mut least = u64::MAX;
    for _ in 0..ROUNDS {
        let start = block_accesses(&mut server).await?;
        let (side, requests) = opened.open(pages).await?;
        side.close().await?;
        let opened_only = block_accesses(&mut server).await?;
        let (side, _) = opened.open(pages).await?;
        side.read(&requests).await?;
        side.close().await?;
        let all = block_accesses(&mut server).await?;
        least = least.min((all - opened_only).saturating_sub(opened_only - start));
    }
    Ok(least)
}

/// Read system calls of this process so far: `syscr` in proc_pid_io(5).
fn read_calls() -> Result<u64> {
    let text = fs::read_to_string("/proc/self/io")
        .context("reading /proc/self/io failed: the system counts no reads")?;
    calls_in(&text).context("/proc/self/io has an unknown format")
}

fn calls_in(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("syscr:"))?.trim().parse().ok()
}

/// Accesses to blocks of tables, indexes and long values, after all other connections have ended.
async fn block_accesses(server: &mut PgConnection) -> Result<u64> {
    let end = Instant::now() + PATIENCE;
    // A connection is listed until it has reported its counts.
    let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                  AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
    while sqlx::query_scalar::<_, i64>(others).fetch_one(&mut *server).await? > 0 {
        ensure!(
            Instant::now() < end,
            "another connection uses the database, so reads cannot be counted"
        );
        tokio::time::sleep(LOOK).await;
    }
    let all = "SELECT CAST(coalesce(sum( \
               coalesce(heap_blks_read, 0) + coalesce(heap_blks_hit, 0) + coalesce(idx_blks_read, 0) \
               + coalesce(idx_blks_hit, 0) + coalesce(toast_blks_read, 0) + coalesce(toast_blks_hit, 0) \
               + coalesce(tidx_blks_read, 0) + coalesce(tidx_blks_hit, 0)), 0) AS BIGINT) \
               FROM pg_statio_user_tables WHERE relname LIKE 'im!_%' ESCAPE '!'";
    let count = sqlx::query_scalar::<_, i64>(all).fetch_one(server).await?;
    Ok(u64::try_from(count)?)
}

async fn pool_requests(server: &mut MySqlConnection) -> Result<u64> {
    let status = "SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_read_requests'";
    let (_, count): (String, String) = sqlx::query_as(status).fetch_one(server).await?;
    Ok(count.parse()?)
}

/// Runs the maintenance that a server does by itself some time after many writes: otherwise one
/// store might be measured before it and the other after.
///
/// # Errors
///
/// If the database is unavailable, or the user lacks the right.
pub(super) async fn settle(address: &StoreAddress) -> Result<()> {
    match address {
        StoreAddress::Postgres(url) => {
            let mut server = PgConnection::connect(url).await?;
            sqlx::raw_sql("VACUUM (ANALYZE)").execute(&mut server).await?;
            if let Err(error) = sqlx::raw_sql("CHECKPOINT").execute(&mut server).await {
                tracing::info!(%error, "no checkpoint was made");
            }
        }
        StoreAddress::MySql(url) => {
            let mut server = MySqlConnection::connect(url).await?;
            let tables = "ANALYZE TABLE im_messages, im_members, im_rooms";
            sqlx::raw_sql(tables).execute(&mut server).await?;
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_calls_are_found_and_grow() {
        assert_eq!(calls_in("rchar: 9\nwchar: 0\nsyscr: 12\nsyscw: 1\n"), Some(12));
        assert_eq!(calls_in("rchar: 9\n"), None);
        let before = read_calls().unwrap();
        assert!(read_calls().unwrap() > before);
    }

    /// Each store of this kind reads more for many pages than for few, and not at all for none.
    #[tokio::test]
    async fn pages_of_a_file_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let address = StoreAddress::Sqlite(folder.path().join("im.db"));
        let shape = Shape { rooms: 1, size: 100 };
        let store = address.open().await.unwrap();
        shape.fill(&store, 2_000, "test").await.unwrap();
        store.close().await.unwrap();
        settle(&address).await.unwrap();
        assert!(per_page(&address, shape, 20).await.unwrap() >= 2.0);
    }
}

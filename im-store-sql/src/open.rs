//! Connecting, looking at what is there, migrating.

use std::sync::Arc;
use std::time::Duration;

use im_core::ports::{Durability, StoreError, StoreErrorKind, StoreResult};
use sqlx::pool::PoolOptions;
use sqlx::{AssertSqlSafe, Connection, Pool, SqlSafeStr};
use tokio::time::{Instant, sleep, timeout};

use crate::committer::pause;
use crate::config::SqlConfig;
use crate::dialect::{Dialect, Found};
use crate::error::{Class, Fault};
use crate::file::Lock;
use crate::link::limited;
use crate::migrate::migrate;

pub(crate) struct Opened<D: Dialect> {
    pub(crate) readers: Pool<D>,
    pub(crate) writers: Pool<D>,
    pub(crate) lock: Option<Arc<Lock>>,
    pub(crate) durability: Durability,
}

type Options<D> = <<D as sqlx::Database>::Connection as Connection>::Options;

pub(crate) async fn open<D: Dialect>(config: &SqlConfig) -> StoreResult<Opened<D>> {
    let options = D::options(config).map_err(|fault| match fault {
        Fault::Unfit(_) => fault.into_error::<D>(),
        _ => {
            let message = "the database's address makes no sense: sqlite:PATH, postgres://USER:PASSWORD@HOST/NAME or \
                           mysql://USER:PASSWORD@HOST/NAME is expected";
            StoreError::new(StoreErrorKind::Unavailable, message).because(fault)
        }
    })?;
    let lock = D::take(config)?.map(Arc::new);
    // A process that was killed after a failed sync has left that to us.
    let left_behind = D::is_left_behind(config);
    let mut conn = connect::<D>(&options, config).await?;
    let prepared = prepare::<D>(config, &mut conn, lock.as_deref(), left_behind).await;
    // It has done its work, whether or not it can be closed well. But it must be gone before anybody is told: SQLite removes
    // its log with the last connection.
    let _ = timeout(config.time_limit, conn.close()).await;
    let durability = prepared?;
    let (greeting, options) = (D::greeting(config), D::again(options));
    let pool = |most: u32| {
        let greeting = greeting.clone();
        PoolOptions::<D>::new()
            .max_connections(most)
            .min_connections(0)
            .acquire_timeout(config.patience.max(Duration::from_secs(1)))
            // A connection that turns out to be dead is thrown away, and the call made again.
            .test_before_acquire(false)
            .after_connect(move |conn, _| {
                let greeting = greeting.clone();
                Box::pin(async move {
                    let Some(greeting) = greeting else { return Ok(()) };
                    D::execute_text(conn, AssertSqlSafe(greeting).into_sql_str()).await
                })
            })
            .connect_lazy_with(options.clone())
    };
    let committers = if D::ONE_WRITER { 1 } else { config.committers };
    Ok(Opened { readers: pool(config.connections), writers: pool(committers), lock, durability })
}

/// Looks at what is there, puts it in order, and migrates. Says what durability there is.
async fn prepare<D: Dialect>(
    config: &SqlConfig,
    conn: &mut D::Connection,
    lock: Option<&Lock>,
    left_behind: bool,
) -> StoreResult<Durability> {
    let fail = |fault: Fault| fault.into_error::<D>();
    let Found { durability, weak } =
        limited(config.time_limit, D::inspect(conn)).await.map_err(fail)?;
    for words in weak {
        tracing::warn!(store = D::SHORT, "the database's settings weaken durability: {words}");
    }
    limited(config.time_limit, D::recognise(conn, lock)).await.map_err(fail)?;
    if left_behind {
        limited(config.time_limit, D::recover(conn)).await.map_err(fail)?;
    }
    let late = |_| Err(Fault::Late(LONGEST_MIGRATION).into_error::<D>());
    timeout(LONGEST_MIGRATION, migrate::<D>(conn)).await.unwrap_or_else(late)?;
    limited(config.time_limit, D::remember(conn, lock)).await.map_err(fail)?;
    Ok(durability)
}

/// What opening waits for others who migrate, and for its own migrations, which may rewrite whole tables.
const LONGEST_MIGRATION: Duration = Duration::from_secs(600);

/// Connects, again if the server is not there, as long as the patience lasts.
async fn connect<D: Dialect>(
    options: &Options<D>,
    config: &SqlConfig,
) -> StoreResult<D::Connection> {
    let until = Instant::now() + config.patience;
    for attempt in 5.. {
        let error = match timeout(config.time_limit, D::Connection::connect_with(options)).await {
            Ok(Ok(conn)) => return Ok(conn),
            Ok(Err(error)) => error,
            Err(_) => sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()),
        };
        // One that still recovers from a crash says so, and is there in a moment.
        let refused =
            matches!(&error, sqlx::Error::Database(said) if !said.is_transient_in_connect_phase());
        let fault = Fault::from(error);
        // A server that answers with a refusal (wrong password, no such database) is not going to think better of it.
        if refused || fault.class::<D>() != Class::Away || Instant::now() > until {
            let message = format!(
                "cannot open the {} database: {fault}. Check the address, the credentials, and that it exists",
                D::SHORT
            );
            return Err(StoreError::new(StoreErrorKind::Unavailable, message).because(fault));
        }
        sleep(pause(attempt)).await;
    }
    // The loop ends by returning.
    Err(crate::error::closed())
}

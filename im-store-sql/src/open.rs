//! Connecting, looking at what is there, migrating.

use std::fs::File;
use std::time::Duration;

use im_core::ports::{Durability, StoreError, StoreErrorKind, StoreResult};
use sqlx::pool::PoolOptions;
use sqlx::{Connection, Pool};
use tokio::time::{Instant, sleep};

use crate::committer::pause;
use crate::config::SqlConfig;
use crate::dialect::{Dialect, Found};
use crate::error::{Class, Fault};
use crate::migrate::migrate;

pub(crate) struct Opened<D: Dialect> {
    pub(crate) readers: Pool<D>,
    pub(crate) writers: Pool<D>,
    pub(crate) lock: Option<File>,
    pub(crate) durability: Durability,
}

type Options<D> = <<D as sqlx::Database>::Connection as Connection>::Options;

pub(crate) async fn open<D: Dialect>(config: &SqlConfig) -> StoreResult<Opened<D>> {
    let options = D::options(config).map_err(|error| {
        let message = "the database's address makes no sense: sqlite:PATH, postgres://USER:PASSWORD@HOST/NAME or \
                       mysql://USER:PASSWORD@HOST/NAME is expected";
        StoreError::new(StoreErrorKind::Unavailable, message).because(error)
    })?;
    let lock = D::take(config)?;
    let mut conn = connect::<D>(&options, config.patience).await?;
    let Found { durability, weak } =
        D::inspect(&mut conn).await.map_err(|e| Fault::from(e).into_error::<D>())?;
    for words in weak {
        tracing::warn!(store = D::SHORT, "the server's settings weaken durability: {words}");
    }
    // A process that was killed after a failed sync has left that to us.
    D::recover(&mut conn).await.map_err(|e| Fault::from(e).into_error::<D>())?;
    migrate::<D>(&mut conn).await?;
    // It has done its work, whether or not it can be closed well.
    let _ = conn.close().await;
    let pool = |most: u32| {
        PoolOptions::<D>::new()
            .max_connections(most)
            .min_connections(0)
            .acquire_timeout(config.patience.max(Duration::from_secs(1)))
            // A connection that turns out to be dead is thrown away, and the call made again.
            .test_before_acquire(false)
            .connect_lazy_with(options.clone())
    };
    let committers = if D::ONE_WRITER { 1 } else { config.committers };
    Ok(Opened { readers: pool(config.connections), writers: pool(committers), lock, durability })
}

/// Connects, again if the server is not there, as long as the patience lasts.
async fn connect<D: Dialect>(
    options: &Options<D>,
    patience: Duration,
) -> StoreResult<D::Connection> {
    let until = Instant::now() + patience;
    for attempt in 5.. {
        let error = match D::Connection::connect_with(options).await {
            Ok(conn) => return Ok(conn),
            Err(error) => error,
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

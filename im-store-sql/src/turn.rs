//! Reads: each on a connection of its own, again as long as that makes sense. Pages, which take long, are read a few at a
//! time, so that the look-ups behind every command never wait for them, however many users page through rooms.

use std::sync::atomic::Ordering;
use std::time::Duration;

use im_core::ports::{StoreError, StoreErrorKind, StoreResult};
use sqlx::pool::PoolConnection;
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::committer::pause;
use crate::dialect::Dialect;
use crate::error::{Class, Fault, Outcome, closed, words};
use crate::health::Probe;
use crate::link::{Link, limited};
use crate::store::SqlStore;

/// Runs a read on a connection of its own, again as long as its [`Turn`] allows.
macro_rules! read {
    ($store:ident, |$link:ident| $call:expr) => {
        $crate::turn::read!($crate::turn::Turn::new($store), $link, $call)
    };
    ($store:ident, page, |$link:ident| $call:expr) => {
        $crate::turn::read!($crate::turn::Turn::of_page($store).await?, $link, $call)
    };
    ($turn:expr, $link:ident, $call:expr) => {{
        let mut turn = $turn;
        loop {
            let mut reading = turn.connection().await?;
            let $link = &mut reading.link()?;
            match turn.limited($call).await {
                Ok(found) => break Ok(turn.done(reading, found)),
                Err(fault) => turn.failed(reading, fault).await?,
            }
        }
    }};
}
pub(crate) use read;

/// The attempts of one read: again if the database was away or another one was in the way, as long as the patience lasts.
pub(crate) struct Turn<'a, D: Dialect> {
    store: &'a SqlStore<D>,
    until: Instant,
    attempt: u32,
    /// Connections that failed at once.
    stale: u32,
    probe: Option<Probe>,
    /// One of the pages that are read at one time.
    _page: Option<SemaphorePermit<'a>>,
}

/// A connection that is being read from. If it is not given back, because the read failed, took too long or is not polled to
/// its end, nobody knows what is still under way on it: it is closed, without a word to the server.
pub(crate) struct Reading<'a, D: Dialect> {
    store: &'a SqlStore<D>,
    conn: Option<PoolConnection<D>>,
}

impl<'a, D: Dialect> Reading<'a, D> {
    fn new(store: &'a SqlStore<D>, conn: PoolConnection<D>) -> Self {
        store.health.reading.fetch_add(1, Ordering::Relaxed);
        Self { store, conn: Some(conn) }
    }

    pub(crate) fn link(&mut self) -> StoreResult<Link<'_, D>> {
        // It has one until it is given back.
        self.conn.as_deref_mut().map(Link).ok_or_else(closed)
    }

    fn give_back(mut self) {
        let Some(mut conn) = self.conn.take() else { return };
        // As the pool does it when one is dropped, which pings it, but not for longer than a read may take: a peer that has
        // vanished would keep its place.
        tokio::spawn(timeout(self.store.time_limit, conn.return_to_pool()));
    }
}

impl<D: Dialect> Drop for Reading<'_, D> {
    fn drop(&mut self) {
        self.store.health.reading.fetch_sub(1, Ordering::Relaxed);
        if let Some(conn) = self.conn.take() {
            drop(conn.detach());
        }
    }
}

impl<'a, D: Dialect> Turn<'a, D> {
    pub(crate) fn new(store: &'a SqlStore<D>) -> Self {
        let until = Instant::now() + store.patience;
        Self { store, until, attempt: 0, stale: 0, probe: None, _page: None }
    }

    /// The turn of a page, once few enough others are being read. It has its patience from now.
    pub(crate) async fn of_page(store: &'a SqlStore<D>) -> StoreResult<Self> {
        let turn = Self::new(store);
        // While the database is away, pages that are being read may end only with their patience. One caller looks whether it
        // is back, and needs no line for that.
        if store.health.is_away() {
            return Ok(turn);
        }
        let page = timeout_at(turn.until, store.pages.acquire()).await.map_err(|_| {
            let why = "pages that others read have left no time for this one";
            StoreError::new(StoreErrorKind::Unavailable, why)
        })?;
        Ok(Self { _page: Some(page.map_err(|_| closed())?), ..turn })
    }

    pub(crate) async fn connection(&mut self) -> StoreResult<Reading<'a, D>> {
        loop {
            if self.store.is_closed() {
                return Err(closed());
            }
            self.may_ask()?;
            match self.store.readers.acquire().await {
                Ok(conn) => return Ok(Reading::new(self.store, conn)),
                Err(error) => {
                    // All that there may be are in use: that says nothing of the database.
                    let busy = self.store.health.reading.load(Ordering::Relaxed) >= self.most();
                    self.pause(error.into(), false, !busy).await?;
                }
            }
        }
    }

    /// While the database is away, one caller at a time looks whether it is back.
    fn may_ask(&mut self) -> StoreResult<()> {
        if self.probe.is_some() || !self.store.health.is_away() {
            return Ok(());
        }
        let most = self.store.readers.options().get_acquire_timeout() + Duration::from_secs(1);
        self.probe = self.store.health.probe(most);
        if self.probe.is_some() {
            return Ok(());
        }
        let why = "it did not answer, and another call is looking whether it is back";
        Err(StoreError::new(StoreErrorKind::Unavailable, words(Class::Away, why)))
    }

    pub(crate) async fn limited<T>(&self, call: impl Future<Output = Outcome<T>>) -> Outcome<T> {
        limited(self.store.time_limit, call).await
    }

    pub(crate) fn done<T>(&self, reading: Reading<'_, D>, found: T) -> T {
        self.store.health.set_away(false);
        reading.give_back();
        found
    }

    pub(crate) async fn failed(
        &mut self,
        reading: Reading<'_, D>,
        fault: Fault,
    ) -> StoreResult<()> {
        // The next attempt gets a connection that has seen nothing of it.
        drop(reading);
        // Connections that a server has closed while nobody used them fail at once: each of them, once.
        let stale = self.stale < self.most() && !matches!(fault, Fault::Late(_));
        self.stale += 1;
        self.pause(fault, stale, true).await
    }

    fn most(&self) -> u32 {
        self.store.readers.options().get_max_connections()
    }

    async fn pause(&mut self, fault: Fault, stale: bool, tells: bool) -> StoreResult<()> {
        let health = &self.store.health;
        let class = fault.class::<D>();
        let patient = Instant::now() < self.until && !health.is_away();
        let again = match class {
            Class::Away | Class::Contended | Class::Taken => stale || patient,
            Class::Locked => patient,
            Class::Full | Class::Corrupt | Class::Closed | Class::Failed => false,
        };
        if !again {
            if tells {
                health.set_away(class == Class::Away);
            }
            return Err(fault.into_error::<D>());
        }
        sleep(pause(self.attempt)).await;
        self.attempt += 1;
        Ok(())
    }
}

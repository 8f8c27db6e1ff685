//! Putting the database in order after a commit has failed.

use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::Pool;

use crate::dialect::Dialect;
use crate::error::Outcome;

/// Puts the database in order while nobody of ours reads. Who reads on a connection of their own is told to end.
pub(crate) async fn recover<D: Dialect>(
    conn: &mut D::Connection,
    readers: &Pool<D>,
    urgent: &AtomicBool,
) -> Outcome<()> {
    if !D::ONE_WRITER {
        return D::recover(conn).await;
    }
    let _calm = Urgent::begin(urgent);
    let mut held_off = Vec::new();
    for _ in 0..readers.options().get_max_connections() {
        held_off.push(readers.acquire().await?);
    }
    D::recover(conn).await
}

/// It is over when this is dropped.
struct Urgent<'a>(&'a AtomicBool);

impl<'a> Urgent<'a> {
    fn begin(urgent: &'a AtomicBool) -> Self {
        urgent.store(true, Ordering::Relaxed);
        Self(urgent)
    }
}

impl Drop for Urgent<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

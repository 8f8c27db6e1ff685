//! Six faults under a store, put between it and a real backend, that the backend suite must catch.
//!
//! | fault | what it does |
//! |---|---|
//! | [`Fault::NotAtomic`] | drops the last change of a commit now and then |
//! | [`Fault::GuardForgotten`] | lets every guard hold |
//! | [`Fault::SnapshotTorn`] | answers the reads of a batch one by one |
//! | [`Fault::ChangeLost`] | leaves a record of the change feed out |
//! | [`Fault::DuplicateAccepted`] | stores a duplicate as a send without an id |
//! | [`Fault::DurabilityFeigned`] | acknowledges the last commit, and has lost it after a reopen |

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use im_core::backend::{
    Answer, Backend, BackendError, BackendInfo, BackendResult, Change, Commit, Datum, Expect,
    Found, Guard, LogAct, LogChange, Read, Row, Schema,
};
use parking_lot::Mutex;

use crate::backend_suite::BackendFactory;

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the table of the module says what each one does")]
pub enum Fault {
    NotAtomic,
    GuardForgotten,
    SnapshotTorn,
    ChangeLost,
    DuplicateAccepted,
    DurabilityFeigned,
}

impl Fault {
    /// All six.
    pub const ALL: [Self; 6] = [
        Self::NotAtomic,
        Self::GuardForgotten,
        Self::SnapshotTorn,
        Self::ChangeLost,
        Self::DuplicateAccepted,
        Self::DurabilityFeigned,
    ];
}

/// A backend with a fault, or with none. It behaves as the inner one in everything else.
pub struct MutantBackend {
    inner: Arc<dyn Backend>,
    fault: Option<Fault>,
    schema: Mutex<Option<Schema>>,
    commits: AtomicU64,
    /// What takes the last commit back.
    back: Mutex<Option<Commit>>,
}

impl MutantBackend {
    /// Puts a fault in front of a backend.
    pub fn new(inner: Arc<dyn Backend>, fault: Option<Fault>) -> Self {
        let (schema, commits, back) = (Mutex::default(), AtomicU64::new(0), Mutex::default());
        Self { inner, fault, schema, commits, back }
    }

    async fn one(&self, commit: Commit) -> BackendResult<Answer> {
        let mut answers = self.inner.commit(vec![commit]).await;
        answers.pop().unwrap_or_else(|| Err(BackendError::closed()))
    }

    /// Makes a commit with the fault.
    async fn wrong(&self, mut commit: Commit, fault: Fault) -> BackendResult<Answer> {
        let count = self.commits.fetch_add(1, Ordering::SeqCst);
        match fault {
            Fault::NotAtomic if count % 3 == 2 && !commit.changes.is_empty() => {
                commit.changes.pop();
            }
            Fault::GuardForgotten => {
                for guard in &mut commit.guards {
                    guard.expect = self.revision(guard).await?;
                }
            }
            Fault::DuplicateAccepted => return self.without_ids(commit).await,
            Fault::DurabilityFeigned => {
                let back = self.backwards(&commit).await?;
                let answer = self.one(commit).await;
                if matches!(answer, Ok(Answer::Applied(_))) {
                    *self.back.lock() = Some(back);
                }
                return answer;
            }
            _ => {}
        }
        self.one(commit).await
    }

    /// What a guard would have to expect so that it holds.
    async fn revision(&self, guard: &Guard) -> BackendResult<Expect> {
        let schema = self.schema.lock().clone();
        let table = schema.and_then(|schema| schema.table(guard.table).cloned().ok());
        let Some(column) = table.and_then(|table| table.revision()) else {
            return Ok(guard.expect);
        };
        let revision = self.record(guard.table, &guard.key).await?;
        let revision = revision.and_then(|row| row.get(column).and_then(Datum::as_int));
        Ok(revision.map_or(Expect::Absent, Expect::Revision))
    }

    async fn record(
        &self,
        table: im_core::backend::TableId,
        key: &[Datum],
    ) -> BackendResult<Option<Row>> {
        let found = self.inner.read(vec![Read::Get { table, key: key.to_vec() }]).await?;
        Ok(found.into_iter().find_map(|found| match found {
            Found::Record(record) => record,
            _ => None,
        }))
    }

    async fn without_ids(&self, mut commit: Commit) -> BackendResult<Answer> {
        loop {
            match self.one(commit.clone()).await? {
                Answer::Duplicate { entry, .. } => {
                    let id = self.schema.lock().as_ref().map(|schema| schema.log.unique[1]);
                    let rows = commit.log.as_mut().map(|log| &mut log.act);
                    let (Some(id), Some(LogAct::Append(rows))) = (id, rows) else {
                        return Err(BackendError::misuse("a duplicate without an append"));
                    };
                    rows[entry][id] = Datum::Null;
                }
                answer => return Ok(answer),
            }
        }
    }

    /// The commit that takes this one back: records as they are now, and without its entries.
    async fn backwards(&self, commit: &Commit) -> BackendResult<Commit> {
        let schema = self.schema.lock().clone();
        let mut changes = Vec::new();
        for change in &commit.changes {
            let (table, key) = match change {
                Change::Put { table, row } | Change::PutIfNewer { table, row, .. } => {
                    let key = schema.as_ref().and_then(|schema| schema.table(*table).ok());
                    (*table, row[..key.map_or(0, |table| table.key).min(row.len())].to_vec())
                }
                Change::Remove { table, key } => (*table, key.clone()),
                Change::RemoveRange { .. } => continue,
            };
            changes.push(match self.record(table, &key).await? {
                Some(row) => Change::Put { table, row },
                None => Change::Remove { table, key },
            });
        }
        let appended = match &commit.log {
            Some(LogChange { log, act: LogAct::Append(rows) }) => Some((*log, rows)),
            _ => None,
        };
        let log = appended.and_then(|(log, rows)| {
            let seq = |row: &Row| row.get(1).and_then(Datum::as_int);
            let (from, to) = (rows.first().and_then(seq)?, rows.last().and_then(seq)?);
            Some(LogChange { log, act: LogAct::Clear { from, to } })
        });
        Ok(Commit { log, changes, ..Commit::default() })
    }
}

#[async_trait]
impl Backend for MutantBackend {
    fn info(&self) -> BackendInfo {
        self.inner.info()
    }

    async fn open(&self, schema: &Schema) -> BackendResult<u64> {
        *self.schema.lock() = Some(schema.clone());
        self.inner.open(schema).await
    }

    async fn read(&self, reads: Vec<Read>) -> BackendResult<Vec<Found>> {
        if self.fault == Some(Fault::SnapshotTorn) {
            let mut found = Vec::new();
            for read in reads {
                tokio::task::yield_now().await;
                found.extend(self.inner.read(vec![read]).await?);
            }
            return Ok(found);
        }
        let mut found = self.inner.read(reads).await?;
        if self.fault == Some(Fault::ChangeLost) {
            for found in &mut found {
                if let Found::Changes(records) = found {
                    records.retain(|record| record.place.tick % 5 != 3);
                }
            }
        }
        Ok(found)
    }

    async fn commit(&self, commits: Vec<Commit>) -> Vec<BackendResult<Answer>> {
        let Some(fault) = self.fault else { return self.inner.commit(commits).await };
        let mut answers: Vec<BackendResult<Answer>> = Vec::with_capacity(commits.len());
        for mut commit in commits {
            let behind = commit.behind.take().and_then(|at| answers.get(at));
            let answer = match behind {
                Some(Ok(Answer::Applied(_))) | None => self.wrong(commit, fault).await,
                Some(_) => Ok(Answer::Skipped),
            };
            answers.push(answer);
        }
        answers
    }

    async fn close(&self) -> BackendResult<()> {
        let back = self.back.lock().take();
        if let Some(back) = back {
            self.one(back).await?;
        }
        self.inner.close().await
    }
}

/// Makes the backends of another factory, with a fault.
#[derive(Debug)]
pub struct Mutants<F> {
    /// The other factory.
    pub inner: F,
    /// The fault; `None`: the backends are right.
    pub fault: Option<Fault>,
}

impl<F> Mutants<F> {
    fn wrapped(&self, backend: Arc<dyn Backend>) -> Arc<dyn Backend> {
        Arc::new(MutantBackend::new(backend, self.fault))
    }
}

#[async_trait]
impl<F: BackendFactory> BackendFactory for Mutants<F> {
    async fn create(&self) -> Arc<dyn Backend> {
        self.wrapped(self.inner.create().await)
    }

    async fn reopen(&self, closed: Arc<dyn Backend>) -> Option<Arc<dyn Backend>> {
        Some(self.wrapped(self.inner.reopen(closed).await?))
    }

    async fn another(&self) -> Option<Arc<dyn Backend>> {
        Some(self.wrapped(self.inner.another().await?))
    }
}

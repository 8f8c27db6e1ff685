//! A connection, and the rows that it gives.

use std::ops::ControlFlow;
use std::time::Duration;

use tokio::time::timeout;

use crate::dialect::Dialect;
use crate::error::{Fault, Outcome};
use crate::statement::Statement;

/// Does something with a connection for so long. What is not through by then may have left it in the middle of something:
/// it is not to be used any more.
pub(crate) async fn limited<T>(
    limit: Duration,
    work: impl Future<Output = Outcome<T>>,
) -> Outcome<T> {
    timeout(limit, work).await.unwrap_or(Err(Fault::Late(limit)))
}

/// A connection in the hands of somebody who reads or writes, within a transaction or not.
pub(crate) struct Link<'a, D: Dialect>(pub(crate) &'a mut D::Connection);

impl<D: Dialect> Link<'_, D> {
    /// Runs a statement; says how many rows it touched.
    pub(crate) async fn run(&mut self, statement: Statement<D>) -> Outcome<u64> {
        let (sql, args) = statement.finish()?;
        Ok(D::execute(self.0, sql, args).await?)
    }

    /// Reads all rows.
    pub(crate) async fn all<T: Send>(
        &mut self,
        statement: Statement<D>,
        read: impl Fn(&mut Columns<'_, D>) -> Outcome<T> + Send + Sync,
    ) -> Outcome<Vec<T>> {
        let mut found = Vec::new();
        self.each(statement, |columns| {
            found.push(read(columns)?);
            Ok(ControlFlow::Continue(()))
        })
        .await?;
        Ok(found)
    }

    /// Reads the first row, if there is one.
    pub(crate) async fn first<T: Send>(
        &mut self,
        statement: Statement<D>,
        read: impl Fn(&mut Columns<'_, D>) -> Outcome<T> + Send + Sync,
    ) -> Outcome<Option<T>> {
        let mut found = None;
        self.each(statement, |columns| {
            if found.is_none() {
                found = Some(read(columns)?);
            }
            Ok(ControlFlow::Continue(()))
        })
        .await?;
        Ok(found)
    }

    /// Hands each row over until it is enough.
    pub(crate) async fn each(
        &mut self,
        statement: Statement<D>,
        mut take: impl FnMut(&mut Columns<'_, D>) -> Outcome<ControlFlow<()>> + Send,
    ) -> Outcome<()> {
        let (sql, args) = statement.finish()?;
        D::query(self.0, sql, args, &mut |row| take(&mut Columns { row: &row, at: 0 })).await
    }
}

/// A row, read column by column from the left.
pub(crate) struct Columns<'a, D: Dialect> {
    row: &'a D::Row,
    at: usize,
}

impl<D: Dialect> Columns<'_, D> {
    fn next(&mut self) -> usize {
        self.at += 1;
        self.at - 1
    }

    pub(crate) fn opt_int(&mut self) -> Outcome<Option<u64>> {
        let at = self.next();
        Ok(D::int(self.row, at)?.map(i64::cast_unsigned))
    }

    pub(crate) fn int(&mut self) -> Outcome<u64> {
        self.opt_int()?.ok_or(Fault::Damaged("number"))
    }

    pub(crate) fn opt_text(&mut self) -> Outcome<Option<String>> {
        let at = self.next();
        Ok(D::text(self.row, at)?)
    }

    pub(crate) fn text(&mut self) -> Outcome<String> {
        self.opt_text()?.ok_or(Fault::Damaged("text"))
    }

    pub(crate) fn opt_bytes(&mut self) -> Outcome<Option<Vec<u8>>> {
        let at = self.next();
        Ok(D::bytes(self.row, at)?)
    }

    pub(crate) fn bytes(&mut self) -> Outcome<Vec<u8>> {
        self.opt_bytes()?.ok_or(Fault::Damaged("bytes"))
    }
}

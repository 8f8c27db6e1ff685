//! What commits make of logs.

use crate::backend::{Answer, BackendError, BackendResult, Datum, LogAct, LogChange};

use super::super::keys;
use super::super::layout::{Layout, int};
use super::super::row;
use super::{Draft, Stop};

impl Draft<'_> {
    pub(super) fn change_log(&mut self, change: &LogChange) -> Result<(), Stop> {
        let (log, table) = (change.log, &self.layout.schema.log.table);
        match &change.act {
            LogAct::Append(entries) => {
                for (at, entry) in entries.iter().enumerate() {
                    self.check_entry(log, entry)?;
                    if let Some((key, value)) = self.layout.send_of(entry) {
                        if let Some(earlier) = self.get(&key)? {
                            let send = self.layout.send(&key, earlier)?;
                            return Err(Stop::Answer(Answer::Duplicate { entry: at, send }));
                        }
                        self.put_over(key, None, Some(value));
                    }
                    let value = row::pack(&entry[table.key..]);
                    self.put_over(keys::entry(log, seq(entry)), None, Some(value));
                }
            }
            LogAct::Replace(entries) => {
                for entry in entries {
                    self.check_entry(log, entry)?;
                    let key = keys::entry(log, seq(entry));
                    let new = self.layout.send_of(entry);
                    if let Some(value) = self.get(&key)? {
                        let old = self.layout.send_of(&self.layout.entry(&key, value)?);
                        if let Some((old, _)) = old
                            && new.as_ref().is_none_or(|(new, _)| *new != old)
                        {
                            self.put(old, None)?;
                        }
                    }
                    if let Some((send, value)) = new {
                        self.put(send, Some(value))?;
                    }
                    self.put(key, Some(row::pack(&entry[table.key..])))?;
                }
            }
            LogAct::Trim { from, to } | LogAct::Clear { from, to } => {
                if from > to {
                    return Ok(());
                }
                let range = keys::entry(log, *from)..keys::behind(&keys::entry(log, *to));
                for (key, value) in self.scan(range)? {
                    if matches!(change.act, LogAct::Clear { .. }) {
                        let send = self.layout.send_of(&self.layout.entry(&key, value.clone())?);
                        if let Some((send, _)) = send {
                            self.put(send, None)?;
                        }
                    }
                    self.put_over(key, Some(value), None);
                }
            }
            LogAct::Forget(sends) => {
                for (sender, id) in sends {
                    self.put(keys::send(log, sender, id), None)?;
                }
            }
        }
        Ok(())
    }

    fn check_entry(&self, log: i64, entry: &[Datum]) -> BackendResult<()> {
        let table = &self.layout.schema.log.table;
        Layout::check(table, entry, table.columns.len())?;
        if entry[0] == Datum::Int(log) {
            Ok(())
        } else {
            Err(BackendError::misuse("an entry names another log than its commit"))
        }
    }
}

/// The seq of an entry, whose columns were checked.
fn seq(entry: &[Datum]) -> i64 {
    int(&entry[1]).unwrap_or_default()
}

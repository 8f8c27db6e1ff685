//! Logs and sends of the model.

use im_core::backend::{Answer, Datum, LogAct, LogChange, Row, Sends};

use super::super::fixture::{int, send_of};
use super::{Model, Refused};

impl Model {
    pub(super) fn change_log(&mut self, change: &LogChange) -> Result<(), Refused> {
        let log = change.log;
        match &change.act {
            LogAct::Append(rows) => {
                for (entry, row) in rows.iter().enumerate() {
                    if let Some(send) = self.sends.get(&send_key(row)) {
                        return Err(Refused::Answered(Answer::Duplicate {
                            entry,
                            send: send.clone(),
                        }));
                    }
                    self.insert(row);
                }
            }
            LogAct::Replace(rows) => {
                for row in rows {
                    if let Some(old) = self.entries.get(&(log, seq(row))) {
                        self.sends.remove(&send_key(old));
                    }
                    self.insert(row);
                }
            }
            LogAct::Trim { from, to } => {
                self.entries.retain(|(l, s), _| *l != log || !(*from..=*to).contains(s));
            }
            LogAct::Clear { from, to } => {
                for row in self.entries.values() {
                    if row[0] == int(log) && (*from..=*to).contains(&seq(row)) {
                        self.sends.remove(&send_key(row));
                    }
                }
                self.entries.retain(|(l, s), _| *l != log || !(*from..=*to).contains(s));
            }
            LogAct::Forget(sends) => {
                for (sender, id) in sends {
                    self.sends.remove(&(log, sender.clone(), id.clone()));
                }
            }
        }
        Ok(())
    }

    fn insert(&mut self, row: &Row) {
        if !row[3].is_null() {
            self.sends.insert(send_key(row), send_of(row));
        }
        self.entries.insert((row[0].as_int().expect("a log"), seq(row)), row.clone());
    }

    pub(super) fn page_of_sends(&self, sends: &Sends) -> Vec<Row> {
        let is_in = |((log, sender, id), _): &(&(i64, Datum, Datum), &Row)| {
            *log == sends.log
                && sends.sender.as_ref().is_none_or(|only| only == sender)
                && sends.after.as_ref().is_none_or(|after| (sender, id) > (&after.0, &after.1))
        };
        self.sends.iter().filter(is_in).map(|(_, send)| send.clone()).take(sends.limit).collect()
    }
}

fn seq(row: &Row) -> i64 {
    row[1].as_int().expect("a seq")
}

pub(super) fn send_key(row: &Row) -> (i64, Datum, Datum) {
    (row[0].as_int().expect("a log"), row[2].clone(), row[3].clone())
}

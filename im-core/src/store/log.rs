//! Logs: entries as events, pages, idempotency records, trimming.

use std::sync::Arc;

use crate::backend::{
    BackendError, BackendResult, Commit, Datum, LogAct, LogChange, LogRead, Read, Way,
};
use crate::id::{Cursor, Epoch, MessageId, RoomId, Seq, UserId};
use crate::ports::{LogPage, LogRange, StoreResult};
use crate::state::{ContentHash, IdempotencyRecord, Keep, Trimmed};
use crate::wire::{Event, PageFrom};

use super::column::Columnar;
use super::feed::{self, what};
use super::rooms::room;
use super::tables::{EntryRow, RoomRow};
use super::{BackendStore, Plan, bounded, bump, put_change};

impl BackendStore {
    pub(super) async fn page(&self, id: &RoomId, range: LogRange) -> StoreResult<Option<LogPage>> {
        let found = self
            .look(|view| {
                let Some(room) = room(view, id)? else { return Ok(None) };
                let entries = match reads(&room, range) {
                    Some(read) => view.log::<EntryRow>(read)?,
                    None => Vec::new(),
                };
                Ok(Some((room, entries)))
            })
            .await?;
        let Some((room, entries)) = found else { return Ok(None) };
        let epoch = self.epoch(room.room);
        let events =
            entries.into_iter().map(|entry| entry.into_event(&room.id, epoch).map(Arc::new));
        Ok(Some(LogPage {
            head: Cursor { epoch, seq: room.head_seq },
            first: room.first_seq,
            events: events.collect::<BackendResult<_>>()?,
        }))
    }

    pub(super) async fn idempotency_record(
        &self,
        id: &RoomId,
        sender: &UserId,
        message: &MessageId,
    ) -> StoreResult<Option<IdempotencyRecord>> {
        self.look(|view| {
            let Some(room) = room(view, id)? else { return Ok(None) };
            let (sender, id) = (sender.to_datum(), message.to_datum());
            let send = view.send(Read::Send { log: room.room.cast_signed(), sender, id })?;
            Ok(send.and_then(|send| send_record(send)).map(|(_, _, record)| record))
        })
        .await
    }

    pub(super) async fn trim_log(
        &self,
        id: &RoomId,
        keep: &Keep,
        limit: usize,
    ) -> StoreResult<Option<Trimmed>> {
        let limit = bounded(limit);
        self.act(|view| {
            let Some(held) = room(view, id)? else { return Ok(Plan::nothing(None)) };
            let mut record = held.record(self.generation);
            let oldest = if keep.after.is_some() || keep.drops_some(&record) {
                view.log::<EntryRow>(LogRead {
                    log: held.room.cast_signed(),
                    from: int(held.first_seq),
                    to: int(held.head_seq),
                    way: Way::Forwards,
                    // One more says whether there is more to remove.
                    limit: limit + 1,
                    max_bytes: usize::MAX,
                    headers: true,
                })?
            } else {
                Vec::new()
            };
            let sizes =
                oldest.iter().map(|entry| Ok::<_, BackendError>((entry.sent_at, entry.bytes)));
            let trimmed = record.trim(keep, limit, sizes)?;
            if trimmed.removed == 0 {
                return Ok(Plan::nothing(Some(trimmed)));
            }
            let row = RoomRow::of(&record, Some(&held));
            let act = LogAct::Trim { from: int(held.first_seq), to: int(record.first.prev()) };
            let commit = Commit {
                guards: vec![bump(&row, Some(held.rev))],
                log: Some(LogChange { log: row.room.cast_signed(), act }),
                changes: vec![put_change(&row)],
                touched: vec![feed::changed(&row, what::TRIMMED)],
                ..Commit::default()
            };
            Ok(Plan::write(commit, Some(trimmed)))
        })
        .await
    }
}

/// The part of its log that a page of a room is; `None`: there is nothing.
fn reads(room: &RoomRow, range: LogRange) -> Option<LogRead> {
    let (from, to, way) = match range.from {
        // There is nothing after the last seq that there is, which is its own next one.
        PageFrom::After(Seq::MAX) => return None,
        PageFrom::After(seq) => (seq.next().max(room.first_seq), room.head_seq, Way::Forwards),
        PageFrom::Before(seq) => (room.first_seq, seq.prev().min(room.head_seq), Way::Backwards),
    };
    Some(LogRead {
        log: room.room.cast_signed(),
        from: int(from),
        to: int(to),
        way,
        limit: range.limit.max(1),
        max_bytes: range.max_bytes,
        headers: false,
    })
}

pub(super) fn int(seq: Seq) -> i64 {
    seq.get().cast_signed()
}

/// The entry that an event is.
pub(super) fn entry(event: &Event, hash: Option<ContentHash>) -> EntryRow {
    EntryRow {
        room: event.epoch.incarnation,
        seq: event.seq,
        sender: event.from.clone(),
        sent_at: event.at,
        kind: event.kind.clone(),
        message_id: event.id.clone(),
        content: Some(event.content.clone()),
        bytes: event.content.packed().len() as u64,
        content_hash: hash,
    }
}

impl EntryRow {
    /// The event that an entry of a room's log is.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](crate::backend::BackendErrorKind::Corrupt): it has no content.
    pub(super) fn into_event(self, room: &RoomId, epoch: Epoch) -> BackendResult<Event> {
        let content =
            self.content.ok_or_else(|| BackendError::corrupt("the content of an event"))?;
        Ok(Event {
            room: room.clone(),
            epoch,
            seq: self.seq,
            from: self.sender,
            at: self.sent_at,
            kind: self.kind,
            id: self.message_id,
            content,
        })
    }
}

/// What is remembered of a send: a row of sender, message id, seq, time and hash.
pub(super) fn send_record(row: &[Datum]) -> Option<(UserId, MessageId, IdempotencyRecord)> {
    let [sender, id, seq, at, hash] = row else { return None };
    let (seq, at) = (Columnar::from_datum(seq)?, Columnar::from_datum(at)?);
    let record = IdempotencyRecord { seq, at, hash: Columnar::from_datum(hash)? };
    Some((Columnar::from_datum(sender)?, Columnar::from_datum(id)?, record))
}

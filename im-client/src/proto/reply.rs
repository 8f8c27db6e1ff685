//! Parsing an answer as the reply to the command's kind.

use im_core::wire::{
    AppendAck, CommandBody, HistoryPage, MemberPage, Reply, RoomStatus, RoomsPage, SessionEntry,
    TicketGrant, Value, Welcome, WireError,
};
use im_core::{Code, Timestamp};

/// Parses `fields` as the answer to `body`.
pub(super) fn read(body: &CommandBody, fields: Value) -> Result<Reply, WireError> {
    Ok(match body {
        CommandBody::Hello(_) => Reply::Welcome(Box::new(Welcome::from_value(fields)?)),
        CommandBody::Ping => Reply::Pong(Timestamp::from_millis(number(&fields, "now")?)),
        CommandBody::Refresh { .. } => Reply::refreshed_from_value(fields)?,
        CommandBody::Logout | CommandBody::Signal { .. } | CommandBody::Kick { .. } => Reply::Done,
        CommandBody::Create { .. }
        | CommandBody::Join { .. }
        | CommandBody::Leave { .. }
        | CommandBody::Member { .. }
        | CommandBody::Send { .. } => Reply::Appended(AppendAck::from_value(fields)?),
        CommandBody::Members { .. } => Reply::Members(MemberPage::from_value(fields)?),
        CommandBody::Rooms { .. } => Reply::RoomList(RoomsPage::from_value(fields)?),
        CommandBody::Subscribe { .. } | CommandBody::Resume { .. } => {
            let (statuses, rev, generation) = RoomStatus::list_from_value(fields)?;
            Reply::Rooms { statuses, rev, generation }
        }
        CommandBody::Unsubscribe { .. } | CommandBody::Checkpoint { .. } => {
            Reply::Checkpoint { rev: number(&fields, "rev")? }
        }
        CommandBody::PutState { .. } | CommandBody::RemoveState { .. } => {
            let stamp =
                fields.get("stamp").and_then(Value::as_text).and_then(|text| text.parse().ok());
            Reply::Applied(stamp.ok_or_else(|| wrong("stamp"))?)
        }
        CommandBody::History { .. } => Reply::History(HistoryPage::from_value(fields)?),
        CommandBody::Sessions => Reply::Sessions(SessionEntry::list_from_value(fields)?),
        CommandBody::Ticket => Reply::Ticket(TicketGrant::from_value(fields)?),
    })
}

fn number(fields: &Value, name: &str) -> Result<u64, WireError> {
    fields
        .get(name)
        .and_then(Value::as_int)
        .and_then(|n| u64::try_from(n).ok())
        .ok_or_else(|| wrong(name))
}

fn wrong(name: &str) -> WireError {
    WireError::new(Code::BadField, format!("the server's answer has no valid field {name:?}"))
}

//! The tables of the store. Every backend has them under these names.

use bytes::Bytes;

use crate::backend::{BackendResult, Column, Datum, Index, LogTable, Row, Schema, Table, TableId};
use crate::id::{DeviceId, EventKind, MessageId, NodeId, RoomId, Seq, SessionId, StateKey, UserId};
use crate::state::{ContentHash, SecretHash};
use crate::time::Timestamp;
use crate::wire::{Content, Role, RoomKind};

use super::column::{Changed, Columnar, Rev, read};

/// A record of a table, as a type.
pub(super) trait Record: Sized {
    /// Its table.
    const TABLE: TableId;
    fn to_row(&self) -> Row;

    /// # Errors
    ///
    /// [`Corrupt`](crate::backend::BackendErrorKind::Corrupt): a column makes no sense.
    fn from_row(row: &[Datum]) -> BackendResult<Self>;

    fn declare() -> Table;

    /// The columns of the key.
    fn key(&self) -> Row;
}

/// Declares a table and the type of its records: columns of the key first, then the others, each with its documentation.
macro_rules! table {
    (
        $(#[doc = $doc:literal])*
        $record:ident = $name:literal, id $id:literal, version $version:literal $(, revives $revives:literal)?;
        key { $($key:ident: $key_type:ty = $key_doc:literal),* $(,)? }
        columns { $($column:ident: $type:ty = $column_doc:literal),* $(,)? }
        $(content { $($content:ident),* })?
        indexes { $($index:ident $unique:literal ($($by:ident),*)),* $(,)? }
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub(super) struct $record {
            $(#[doc = $key_doc] pub(super) $key: $key_type,)*
            $(#[doc = $column_doc] pub(super) $column: $type,)*
        }

        impl Record for $record {
            const TABLE: TableId = TableId($id);

            fn to_row(&self) -> Row {
                vec![$(self.$key.to_datum(),)* $(self.$column.to_datum()),*]
            }

            fn from_row(row: &[Datum]) -> BackendResult<Self> {
                let mut columns = row.iter();
                Ok(Self {
                    $($key: read(columns.next(), $name, stringify!($key))?,)*
                    $($column: read(columns.next(), $name, stringify!($column))?,)*
                })
            }

            fn declare() -> Table {
                let content: &[&str] = &[$($(stringify!($content)),*)?];
                let column = |name, ty, nullable, doc| {
                    Column { name, ty, nullable, content: content.contains(&name), doc }
                };
                let columns = vec![
                    $(column(stringify!($key), <$key_type>::TYPE, <$key_type>::NULLABLE, $key_doc.trim_ascii()),)*
                    $(column(stringify!($column), <$type>::TYPE, <$type>::NULLABLE, $column_doc.trim_ascii()),)*
                ];
                let indexes = vec![$(Index {
                    name: stringify!($index),
                    columns: positions(&columns, &[$(stringify!($by)),*]),
                    unique: $unique,
                }),*];
                Table {
                    name: $name,
                    version: $version,
                    doc: concat!($($doc),*).trim_ascii(),
                    key: [$(stringify!($key)),*].len(),
                    indexes,
                    columns,
                    revives: false $(|| $revives)?,
                }
            }

            fn key(&self) -> Row {
                vec![$(self.$key.to_datum()),*]
            }
        }
    };
}

/// Where the columns with these names are.
fn positions(columns: &[Column], names: &[&str]) -> Vec<usize> {
    let position = |name: &&str| columns.iter().position(|column| column.name == *name);
    names.iter().filter_map(position).collect()
}

table! {
    /// Entries of the rooms' logs, as people see them.
    EntryRow = "im_messages", id 65535, version 1;
    key { room: u64 = "The room's number.", seq: Seq = "Its place in the room's log, from 1." }
    columns {
        sender: UserId = "Who sent it.",
        sent_at: Timestamp = "When it was accepted, in milliseconds since 1970.",
        kind: EventKind = "What sort of event it is.",
        message_id: Option<MessageId> = "The id that the sender chose; unique for the sender in the room.",
        content: Option<Content> = "What it says.",
        bytes: u64 = "Bytes of the content when packed.",
        content_hash: Option<ContentHash> = "SHA-256 of kind and content as submitted.",
    }
    content { content }
    indexes {}
}

table! {
    /// Rooms.
    RoomRow = "im_rooms", id 0, version 1;
    key { room: u64 = "Its number, which no other room ever had." }
    columns {
        id: RoomId = "Its id.",
        kind: RoomKind = "What sort of room it is: direct, group, channel or own.",
        open: bool = "Whether anyone may join and, in a channel, read.",
        head_seq: Seq = "The seq of its last event; 0 if there was none yet.",
        first_seq: Seq = "The seq of its first retained event; head_seq + 1 if none is retained.",
        bytes: u64 = "Bytes of packed content of the events retained.",
        members: u32 = "How many members it has.",
        owners: u32 = "How many of them are owners.",
        created_at: Timestamp = "When it was made, in milliseconds since 1970.",
        erased: u64 = "How many of its events were changed by erasures of users.",
        members_rev: u64 = "How many commits have changed memberships.",
        rev: Rev = "How many commits have changed the room.",
        changed: Changed = "The place in the change feed of the last of them.",
    }
    indexes { by_id true (id) }
}

table! {
    /// How users relate to rooms: one record for each who was ever in a room, wrote to it or was named in it.
    MemberRow = "im_members", id 1, version 1;
    key { room: u64 = "The room's number.", user_id: UserId = "The user." }
    columns {
        room_id: RoomId = "The room's id.",
        state: MemberState = "member, banned or none.",
        role: Option<Role> = "The role of a member: reader, member, moderator or owner.",
    }
    indexes { by_user false (user_id, room_id) }
}

table! {
    /// Sessions that can be resumed.
    SessionRow = "im_sessions", id 2, version 1;
    key { id: SessionId = "Its public id." }
    columns {
        user_id: UserId = "Whose it is.",
        device_id: DeviceId = "On which device.",
        secret_hash: SecretHash = "SHA-256 of the secret that resumes it.",
        created_at: Timestamp = "When it was opened, in milliseconds since 1970.",
        expires_at: Timestamp = "Until when it can be resumed, in milliseconds since 1970.",
        fencing_token: u64 = "How many connections have taken it; the last one holds it.",
        checkpoint_rev: u64 = "The revision of its checkpoint.",
        rev: Rev = "How many commits have changed the session, its checkpoint or its ticket.",
    }
    indexes { by_user false (user_id, created_at), by_expiry false (expires_at) }
}

table! {
    /// The rooms that sessions are subscribed to, each with the cursor that the client has confirmed.
    SubscriptionRow = "im_subscriptions", id 3, version 1;
    key { session_id: SessionId = "The session.", room_id: RoomId = "The room's id." }
    columns {
        generation: u64 = "The cursor's epoch: the store's generation.",
        room: u64 = "The cursor's epoch: the room's number.",
        seq: Seq = "The cursor's seq: the last event that the client has.",
        since: u64 = "The checkpoint's revision when the subscription began.",
    }
    indexes {}
}

table! {
    /// Tickets: each opens one stream of a session for a client that cannot send credentials.
    TicketRow = "im_tickets", id 4, version 1;
    key { session_id: SessionId = "The session." }
    columns {
        secret_hash: SecretHash = "SHA-256 of its secret.",
        open_until: Timestamp = "Until when it must have been opened, in milliseconds since 1970.",
        opened: bool = "Whether it was.",
        device_id: Option<DeviceId> = "The device that the credentials named.",
        claims: Bytes = "What else they said, as MessagePack.",
        expires_at: Option<Timestamp> = "When they expire, in milliseconds since 1970.",
    }
    indexes {}
}

table! {
    /// Keyed state of rooms: the latest value under each key.
    StateRow = "im_state", id 5, version 1;
    key { room: u64 = "The room's number.", name: StateKey = "The key." }
    columns {
        sender: UserId = "Who put it.",
        stamp_ms: u64 = "Its version: milliseconds of the hybrid clock.",
        stamp_counter: u32 = "Its version: the counter behind them.",
        stamp_node: NodeId = "Its version: the node.",
        value: Option<Content> = "The value; none in a tombstone.",
    }
    content { value }
    indexes {}
}

table! {
    /// What guards the keyed state of a room.
    StateHeadRow = "im_state_heads", id 6, version 1;
    key { room: u64 = "The room's number." }
    columns {
        revision: u64 = "How many updates have changed the state.",
        purged_ms: Option<u64> = "The greatest version of a tombstone that was purged: milliseconds.",
        purged_counter: Option<u32> = "The counter behind them.",
        purged_node: Option<NodeId> = "The node.",
        rev: Rev = "How many commits have changed the state.",
    }
    indexes {}
}

table! {
    /// Nodes that write keyed state behind.
    StateWriterRow = "im_state_writers", id 7, version 1;
    key { node: NodeId = "The node." }
    columns {}
    indexes {}
}

table! {
    /// Numbers of the store's own.
    MetaRow = "im_meta", id 8, version 1;
    key { name: Name = "What it is." }
    columns { value: u64 = "The number.", rev: Rev = "How many commits have changed it." }
    indexes {}
}

table! {
    /// Rooms under import: not there yet for anybody.
    ImportRow = "im_imports", id 9, version 1;
    key { room: u64 = "The number that the room is going to have." }
    columns {
        id: RoomId = "The room's id.",
        kind: RoomKind = "What sort of room it is.",
        open: bool = "Whether anyone may join.",
        head_seq: Seq = "The seq of the last event imported.",
        first_seq: Seq = "The seq of its first event.",
        bytes: u64 = "Bytes of packed content of the events imported.",
        members: u32 = "How many members were imported.",
        owners: u32 = "How many of them are owners.",
        created_at: Timestamp = "When the room was made, in milliseconds since 1970.",
        erased: u64 = "How many of its events were changed by erasures of users.",
        rev: Rev = "How many commits have changed the import.",
    }
    indexes { by_id true (id) }
}

table! {
    /// Work that is done in steps: what deleted rooms left behind, erasures of users.
    JobRow = "im_jobs", id 10, version 1, revives true;
    key { kind: Name = "purge: removing what a room left behind. erase: erasing a user.", target: Name = "The room's number, or the user." }
    columns {
        room: u64 = "The number of the room that the work is at.",
        seq: Seq = "The seq that it goes on from.",
        rev: Rev = "How many steps were done.",
    }
    indexes {}
}

/// A short text that is no id of the wire's.
pub(super) type Name = std::sync::Arc<str>;

/// How a user relates to a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MemberState {
    Member,
    Banned,
    /// Was there, wrote to it or was named in it, and may be found there.
    None,
}

impl Columnar for MemberState {
    const TYPE: crate::backend::Type = crate::backend::Type::Text(16);

    fn to_datum(&self) -> Datum {
        Datum::from(match self {
            Self::Member => "member",
            Self::Banned => "banned",
            Self::None => "none",
        })
    }

    fn from_datum(datum: &Datum) -> Option<Self> {
        match &**datum.as_text()? {
            "member" => Some(Self::Member),
            "banned" => Some(Self::Banned),
            "none" => Some(Self::None),
            _ => None,
        }
    }
}

/// The index of `im_rooms` and `im_imports` by id.
pub(super) const BY_ID: usize = 0;
/// The index of `im_members` and `im_sessions` by user.
pub(super) const BY_USER: usize = 0;
/// The index of `im_sessions` by expiry.
pub(super) const BY_EXPIRY: usize = 1;

/// Everything that the store declares. Tables of applications come behind these.
pub(super) fn schema() -> Schema {
    let table = EntryRow::declare();
    let column = |name| table.column(name).unwrap_or_default();
    let log = LogTable {
        unique: ["sender", "message_id"].map(column),
        outlives: ["sent_at", "content_hash"].map(column).to_vec(),
        size: column("bytes"),
        table,
    };
    let tables = vec![
        RoomRow::declare(),
        MemberRow::declare(),
        SessionRow::declare(),
        SubscriptionRow::declare(),
        TicketRow::declare(),
        StateRow::declare(),
        StateHeadRow::declare(),
        StateWriterRow::declare(),
        MetaRow::declare(),
        ImportRow::declare(),
        JobRow::declare(),
    ];
    Schema { log, tables }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schema_keeps_the_rules() {
        let schema = schema();
        schema.check().unwrap();
        let declared = [
            (RoomRow::TABLE, RoomRow::declare()),
            (MemberRow::TABLE, MemberRow::declare()),
            (SessionRow::TABLE, SessionRow::declare()),
            (SubscriptionRow::TABLE, SubscriptionRow::declare()),
            (TicketRow::TABLE, TicketRow::declare()),
            (StateRow::TABLE, StateRow::declare()),
            (StateHeadRow::TABLE, StateHeadRow::declare()),
            (StateWriterRow::TABLE, StateWriterRow::declare()),
            (MetaRow::TABLE, MetaRow::declare()),
            (ImportRow::TABLE, ImportRow::declare()),
            (JobRow::TABLE, JobRow::declare()),
        ];
        assert_eq!(declared.len(), schema.tables.len());
        for (id, table) in declared {
            assert_eq!(*schema.table(id).unwrap(), table);
        }
        assert_eq!(schema.tables[0].indexes[BY_ID].name, "by_id");
        assert_eq!(schema.tables[2].indexes[BY_EXPIRY].columns, [5]);
    }
}

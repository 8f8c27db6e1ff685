//! Operations that can fail, and how.

use std::io;

#[cfg(doc)]
use im_core::ports::{RoomDirectory, RoomLog, SessionRegistry, StateStore, Store, Upkeep};
use im_core::ports::{StoreError, StoreErrorKind};

macro_rules! operations {
    ($($(#[$meta:meta])* $name:ident),* $(,)?) => {
        /// A call of a store. Each can fail, be held and be counted separately.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Operation {
            $($(#[$meta])* $name,)*
        }

        impl Operation {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
        }
    };
}

operations! {
    /// [`RoomLog::append`]. A fault applies to the whole batch: every append in it gets the error.
    Append,
    /// [`RoomLog::read`].
    Read,
    /// [`RoomLog::heads`].
    Heads,
    /// [`RoomLog::idempotency_record`].
    Sent,
    /// [`RoomLog::trim`].
    Trim,
    /// [`RoomDirectory::rooms`].
    Rooms,
    /// [`RoomDirectory::memberships`].
    Memberships,
    /// [`Upkeep::delete_room`].
    DeleteRoom,
    /// [`Upkeep::purge`].
    Purge,
    /// [`Upkeep::erase_user`].
    EraseUser,
    /// [`Upkeep::begin_import`].
    BeginImport,
    /// [`Upkeep::import`].
    Import,
    /// [`Upkeep::finish_import`].
    FinishImport,
    /// [`RoomDirectory::room`].
    Room,
    /// [`RoomDirectory::membership`].
    Membership,
    /// [`RoomDirectory::members`].
    Members,
    /// [`RoomDirectory::rooms_of`].
    RoomsOf,
    /// [`SessionRegistry::open_session`].
    OpenSession,
    /// [`SessionRegistry::session`].
    Session,
    /// [`SessionRegistry::sessions_of`].
    SessionsOf,
    /// [`SessionRegistry::attach_session`].
    AttachSession,
    /// [`SessionRegistry::touch_session`].
    TouchSession,
    /// [`SessionRegistry::end_session`].
    EndSession,
    /// [`SessionRegistry::session_heads`].
    SessionHeads,
    /// [`SessionRegistry::checkpoint`].
    Checkpoint,
    /// [`SessionRegistry::change_checkpoint`].
    ChangeCheckpoint,
    /// [`SessionRegistry::put_ticket`].
    PutTicket,
    /// [`SessionRegistry::open_ticket`].
    OpenTicket,
    /// [`SessionRegistry::ticket`].
    Ticket,
    /// [`SessionRegistry::sweep_sessions`].
    SweepSessions,
    /// [`StateStore::merge_state`].
    MergeState,
    /// [`StateStore::state`].
    State,
    /// [`StateStore::begin_state`].
    BeginState,
    /// [`StateStore::state_generation`].
    StateGeneration,
    /// [`StateStore::end_state`].
    EndState,
    /// [`Store::close`].
    Close,
}

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The device has no space (`ENOSPC`): [`StoreErrorKind::Full`]. Nothing is written.
    Full,
    /// The device fails (`EIO`): [`StoreErrorKind::Unavailable`]. Nothing is written.
    Unavailable,
    /// [`StoreErrorKind::Unknown`], and nothing is written.
    UnknownBefore,
    /// [`StoreErrorKind::Unknown`], although the call is done.
    UnknownAfter,
    /// The call panics, and nothing is written.
    Panic,
}

impl Fault {
    #[allow(clippy::panic, reason = "that is what was asked for")]
    pub(super) fn error(self, operation: Operation) -> StoreError {
        let os = |number| io::Error::from_raw_os_error(number);
        let (kind, cause) = match self {
            Self::Full => (StoreErrorKind::Full, os(libc::ENOSPC)),
            Self::Unavailable => (StoreErrorKind::Unavailable, os(libc::EIO)),
            Self::UnknownBefore | Self::UnknownAfter => {
                (StoreErrorKind::Unknown, io::ErrorKind::TimedOut.into())
            }
            Self::Panic => panic!("{operation:?} panics as planned"),
        };
        StoreError::new(kind, format!("{operation:?} fails as planned")).because(cause)
    }
}

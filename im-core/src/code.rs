//! Numbered codes of errors and disconnects. The range tells a client what to do, also for unknown
//! codes.

use std::fmt;

/// The reaction that a code asks of a client. The hundreds of the number determine it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Advice {
    /// 40xx: nothing is wrong. Reconnect if the application still needs the connection.
    Done,
    /// 41xx: send the same command again, under the same message id.
    Retry,
    /// 42xx: the same, after a pause that doubles each time and has random jitter.
    BackOff,
    /// 43xx: get new credentials, then reconnect.
    Refresh,
    /// 44xx: the client's view of the session or room is out of date: fetch it again.
    Resync,
    /// 45xx: the request is at fault; the same request fails again.
    Fix,
    /// 46xx: this connection or session was ended deliberately. Do not reconnect automatically.
    Stop,
}

macro_rules! codes {
    ($($(#[$meta:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// The reason of a refusal or disconnect. The number is also the WebSocket close code (RFC
        /// 6455 section 7.4.2: 4000 to 4999 are for applications).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[repr(u16)]
        pub enum Code {
            $($(#[$meta])* $name = $number,)*
        }

        impl Code {
            /// All codes, in ascending order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The meaning in words, for a reader that has only the number.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Returns the code with this number, if this version knows it.
            pub const fn from_number(number: u16) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }
        }
    };
}

codes! {
    /// One side closed the connection on purpose.
    Closed = 4000, "closed as wished";
    /// The server shuts down in an orderly way; reconnect after the stated delay.
    Draining = 4001, "the server is going away; come back after the stated delay";

    /// The outcome is unknown: the command may or may not have been executed. The same message id
    /// makes the retry safe.
    Unknown = 4100, "the outcome is unknown; retry under the same message id";
    /// A newer poll or connection replaced this one.
    Superseded = 4101, "replaced by a newer connection or request of the same session";

    /// Commands or frames arrive faster than allowed.
    RateLimited = 4200, "too many commands; slow down";
    /// The engine has no capacity for more work now.
    Overloaded = 4201, "the server is busy; try again later";
    /// The store is unavailable: full, failing or unreachable. Nothing was stored.
    StoreUnavailable = 4202, "the store is unavailable; nothing was stored";
    /// The subscriber received too little for too long and was disconnected.
    SlowSubscriber = 4203, "you read too slowly; resume from your cursors";
    /// The user or the address has too many connections.
    TooManyConnections = 4204, "too many connections";
    /// No traffic arrived within the allowed time.
    IdleTimeout = 4205, "no traffic from you for too long";
    /// An earlier send of the session to the room was refused retryably and must be retried first.
    /// Nothing was stored.
    SenderOrder = 4206, "an earlier send to this room has to be retried first; resend in order";

    /// Credentials are missing and required.
    Unauthenticated = 4300, "credentials are needed";
    /// The credentials are wrong.
    BadCredentials = 4301, "the credentials were refused";
    /// The credentials were valid and have expired.
    Expired = 4302, "the credentials have expired; refresh them";

    /// The session is unknown, has expired or belongs to another user.
    UnknownSession = 4400, "the session is not known; open a new one";
    /// The cursors are differences from a checkpoint other than the stored one. Send all of them.
    StaleCheckpoint = 4401, "the checkpoint has another revision; send all cursors";
    /// The epoch in the command is not the room's.
    WrongEpoch = 4402, "the room has another epoch; start again from its head";
    /// The position in the command lies beyond the room's last event.
    AheadOfHead = 4403, "the position lies beyond the room's last event";
    /// The requested history was trimmed.
    Trimmed = 4404, "that part of the history was trimmed";

    /// The frame cannot be parsed.
    Malformed = 4500, "the frame cannot be parsed";
    /// The message's type does not match the agreed encoding.
    WrongEncoding = 4501, "this is not the encoding agreed on";
    /// The kind of frame is unknown.
    UnknownKind = 4502, "unknown kind of frame";
    /// A field is missing.
    MissingField = 4503, "a field is missing";
    /// A field has a value that it must not have.
    BadField = 4504, "a field has a value that it must not have";
    /// The protocol version is not supported.
    WrongVersion = 4505, "this protocol version is not supported";
    /// The frame, or something in it, is too large.
    TooLarge = 4506, "too large";
    /// The values nest too deeply.
    TooDeep = 4507, "nested too deeply";
    /// Too many values, frames, rooms, members …
    TooMany = 4508, "too many";
    /// A first frame of another kind, or a second `hello`.
    OutOfOrder = 4509, "out of order: hello must be the first command, once";
    /// The hello did not arrive in time.
    HandshakeTimeout = 4510, "no hello within the time allowed";
    /// The page's origin is not allowed.
    BadOrigin = 4511, "this origin is not allowed";

    /// No such room, user or session exists, or the client may not learn that it does.
    NotFound = 4520, "not found";
    /// The action is not allowed.
    Forbidden = 4521, "not allowed";
    /// The user is banned from the room.
    Banned = 4522, "you are banned from this room";
    /// The room exists already.
    Exists = 4523, "it exists already";
    /// The message id was used for other content.
    Conflict = 4524, "this message id was used for other content";
    /// The message id is older than the dedup horizon.
    TooOld = 4525, "this message id is too old";
    /// The state stamp lies too far in the future.
    StampAhead = 4526, "the stamp lies too far in the future";
    /// The stored state is newer.
    Stale = 4527, "the state held is newer";
    /// A hook of the embedder refused.
    Refused = 4528, "refused";

    /// The session was ended by an operator, or from another device.
    Kicked = 4600, "the session was ended";
    /// The user has logged out.
    LoggedOut = 4601, "logged out";
    /// The user was removed from the room.
    Removed = 4602, "you are not in this room any more";
}

impl Code {
    /// The number, as on the wire.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The reaction that it asks of a client.
    pub const fn advice(self) -> Advice {
        advice(self.number())
    }
}

/// The reaction that a number asks of a client, known or not.
pub const fn advice(number: u16) -> Advice {
    match number / 100 {
        40 => Advice::Done,
        42 => Advice::BackOff,
        43 => Advice::Refresh,
        44 => Advice::Resync,
        45 => Advice::Fix,
        46 => Advice::Stop,
        _ => Advice::Retry,
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.meaning(), self.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_ascending_and_parse() {
        assert!(Code::ALL.windows(2).all(|pair| pair[0].number() < pair[1].number()));
        assert!(Code::ALL.iter().all(|code| Code::from_number(code.number()) == Some(*code)));
        assert_eq!(Code::from_number(4999), None);
        assert_eq!(advice(4299), Advice::BackOff);
    }
}

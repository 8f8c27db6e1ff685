//! What a case is: where the connection is cut, between which transports, and what is on its way.

use std::fmt;

/// How a client is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// WebSocket: commands and pushes on one connection.
    Ws,
    /// Commands by POST, pushes by an event stream.
    Sse,
    /// Commands by POST, pushes by polls that are held.
    Long,
    /// Commands by POST, pushes by polls that are answered at once.
    Short,
}

impl Transport {
    /// Whether pushes come on a connection of their own, from a stream position.
    pub const fn is_request_stream(self) -> bool {
        !matches!(self, Self::Ws)
    }

    /// Whether pushes come as answers.
    pub const fn is_polls(self) -> bool {
        matches!(self, Self::Long | Self::Short)
    }
}

/// What is on its way when the connection is cut, and what of it must arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Messages: all of them, once, in order, and one's own kept once however often they are sent.
    Durable,
    /// Signals among messages: each once at most, and the messages as above.
    Ephemeral,
    /// Values of keys: never an older one after a newer one, and in the end the newest.
    State,
}

/// Where the connection is cut. The later ones imply that the earlier ones went well.
///
/// *The act* is what the client does: a message, a signal or a value of its own. *The news* is what another user writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Half of the bytes of `hello` are written.
    HelloHalfWritten,
    /// `hello` is written, its answer is not read.
    HelloWritten,
    /// The session is there, and nothing listens yet.
    Welcomed,
    /// A downlink is open (a stream, a poll that is held, a poll that was answered) and there is no room to follow yet.
    Listening,
    /// Half of the bytes of `subscribe` are written, while the downlink is open.
    SubscribeHalfWritten,
    /// `subscribe` is written, its answer is not read.
    SubscribeWritten,
    /// `subscribe` is answered, and nothing after it is read.
    Subscribed,
    /// The downlink said how the room answers, and what is there of its past is read.
    Begun,
    /// Half of the bytes of the act are written.
    ActHalfWritten,
    /// The act is written, and the cut races with the server that reads it.
    ActWritten,
    /// The act is done, another user has seen it, and the answer is lost.
    ActDone,
    /// The act is answered, and its push is not read.
    ActAnswered,
    /// The act's own push is read.
    OwnRead,
    /// Several acts are written in one message, nothing is answered.
    ManyActsWritten,
    /// News arrived at the client's socket and is lost there: frames of a stream, or the answer to a poll.
    NewsUnread,
    /// Half of the news is looked at, the rest is lost.
    NewsHalfRead,
    /// All of the news is read, and nothing confirms it.
    NewsRead,
    /// The next poll confirms the news, and is under way (long) or answered (short).
    NewsConfirmed,
    /// The connection stays open on the server's side, with nothing on it.
    LeftOpen,
    /// The same, and news is handed out to it that nobody reads.
    LeftOpenWithNews,
    /// Half of the bytes of `checkpoint` are written.
    CheckpointHalfWritten,
    /// `checkpoint` is written, its answer is not read: the client does not know which one the server holds.
    CheckpointWritten,
    /// `checkpoint` is answered: the client comes back by its revision, and names nothing.
    Checkpointed,
    /// The client came back once already, from the transport to which it will return; half of `hello` and `resume` is
    /// written.
    ResumeHalfWritten,
    /// `hello` and `resume` are written, no answer is read.
    ResumeWritten,
    /// They are answered, the downlink was asked for, and nothing of it is read.
    Resumed,
    /// The downlink said how the room answers, and nothing else is read.
    ResumeBegun,
    /// Half of what was missed is read.
    ReplayHalfRead,
    /// An act without an answer is written once more, and has none again.
    ActRetried,
    /// All the while others write, before the cut, during it and after it.
    Storm,
    /// As [`Step::NewsUnread`], and the new downlink takes up the stream position of the old one, with no `resume`.
    UnreadByPosition,
    /// As [`Step::NewsHalfRead`], by stream position.
    HalfReadByPosition,
    /// As [`Step::NewsRead`], by stream position.
    ReadByPosition,
}

impl Step {
    /// Whether the cut happens while the client comes back for the first time.
    pub(super) fn is_second_epoch(self) -> bool {
        (Self::ResumeHalfWritten..=Self::ActRetried).contains(&self)
    }

    /// Whether the client goes on from its stream position alone.
    pub(super) fn is_by_position(self) -> bool {
        self >= Self::UnreadByPosition
    }
}

/// One case.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// What is on its way.
    pub class: Class,
    /// Where the connection is cut.
    pub step: Step,
    /// The transport that is cut.
    pub before: Transport,
    /// The transport on which it goes on.
    pub after: Transport,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}.{:?}.{:?}-{:?}", self.step, self.class, self.before, self.after)
    }
}

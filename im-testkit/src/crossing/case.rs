//! A case: the step of the cut, the transports before and after it, and the class of the data.

use std::fmt;

/// A transport of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// WebSocket: commands and pushes on one connection.
    Ws,
    /// Commands by POST, pushes by an event stream.
    Sse,
    /// Commands by POST, pushes by long polls.
    Long,
    /// Commands by POST, pushes by short polls.
    Short,
}

impl Transport {
    /// Returns whether pushes arrive on a request of their own, from a stream position.
    pub const fn is_request_stream(self) -> bool {
        !matches!(self, Self::Ws)
    }

    /// Returns whether pushes arrive as answers to polls.
    pub const fn is_polls(self) -> bool {
        matches!(self, Self::Long | Self::Short)
    }
}

/// The data in flight at the cut, and what of it must arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Messages: each is delivered, once and in order, and each send is stored once, however often
    /// it is retried.
    Durable,
    /// Signals among messages: each is delivered at most once, and the messages as above.
    Ephemeral,
    /// Values of keys: never an older one after a newer one, and finally the newest.
    State,
}

/// The step at which the connection is cut. Later steps imply that the earlier ones succeeded.
///
/// *The act* is a write of the client: a message, a signal or a value. *The news* is what another
/// user writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Half of the bytes of `hello` are written.
    HelloHalfWritten,
    /// `hello` is written, its reply is not read.
    HelloWritten,
    /// The session exists, and no stream half is open.
    Welcomed,
    /// A stream half is open (a stream, a held poll or an answered poll) and there is no
    /// subscription yet.
    Listening,
    /// Half of the bytes of `subscribe` are written, while the stream half is open.
    SubscribeHalfWritten,
    /// `subscribe` is written, its reply is not read.
    SubscribeWritten,
    /// `subscribe` is answered, and nothing after it is read.
    Subscribed,
    /// The status arrived on the stream half, and the past of the room is read.
    Begun,
    /// Half of the bytes of the act are written.
    ActHalfWritten,
    /// The act is written, and the cut races with the server that reads it.
    ActWritten,
    /// The act is done, another user has seen it, and the ack is lost.
    ActDone,
    /// The act is acked, and its push is not read.
    ActAnswered,
    /// The act's own push is read.
    OwnRead,
    /// Several acts are written in one message, and none is answered.
    ManyActsWritten,
    /// News arrived at the client's socket and is lost there: frames of a stream, or the answer to
    /// a poll.
    NewsUnread,
    /// Half of the news is read, the rest is lost.
    NewsHalfRead,
    /// All of the news is read and not confirmed.
    NewsRead,
    /// The next poll confirms the news, and is held (long) or answered (short).
    NewsConfirmed,
    /// The connection stays open on the server's side, with nothing sent on it.
    LeftOpen,
    /// The same, and news is delivered to it that is never read.
    LeftOpenWithNews,
    /// Half of the bytes of `checkpoint` are written.
    CheckpointHalfWritten,
    /// `checkpoint` is written, its reply is not read: the client does not know which one the
    /// server has.
    CheckpointWritten,
    /// `checkpoint` is answered: the client resumes by its revision, without cursors.
    Checkpointed,
    /// The client resumed once already, on the transport to which it will return; half of `hello`
    /// and `resume` is written.
    ResumeHalfWritten,
    /// `hello` and `resume` are written, no reply is read.
    ResumeWritten,
    /// They are answered, the stream half was requested, and nothing of it is read.
    Resumed,
    /// The status arrived on the stream half, and nothing else is read.
    ResumeBegun,
    /// Half of the missed events are read.
    ReplayHalfRead,
    /// An act without an ack is retried, and the ack is lost again.
    ActRetried,
    /// Other users write before, during and after the cut.
    Storm,
    /// As [`Step::NewsUnread`], and the new stream half resumes from the old stream position,
    /// without `resume`.
    UnreadByPosition,
    /// As [`Step::NewsHalfRead`], by stream position.
    HalfReadByPosition,
    /// As [`Step::NewsRead`], by stream position.
    ReadByPosition,
}

impl Step {
    /// Returns whether the cut happens during the first resume.
    pub(super) fn is_second_epoch(self) -> bool {
        (Self::ResumeHalfWritten..=Self::ActRetried).contains(&self)
    }

    /// Returns whether the client resumes from its stream position alone.
    pub(super) fn is_by_position(self) -> bool {
        self >= Self::UnreadByPosition
    }
}

/// One case.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// The class of the data in flight.
    pub class: Class,
    /// The step at which the connection is cut.
    pub step: Step,
    /// The transport before the cut.
    pub before: Transport,
    /// The transport after the cut.
    pub after: Transport,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}.{:?}.{:?}-{:?}", self.step, self.class, self.before, self.after)
    }
}

//! One message of commands at a time, for transports whose requests end with their answers.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::code::Code;
use crate::error::{Error, Result};
use crate::wire::{Bye, ResumeToken};

use super::Engine;
use super::commands;
use super::connection::{Conn, Part, Peer, Session};

impl Engine {
    /// Carries out one message of commands, a frame or a batch, and returns their answers, encoded, one each, in any
    /// order; fewer if the session ended meanwhile. It takes no connection's place; what the commands change about what the session follows, its downlink
    /// follows, on whatever node it is.
    ///
    /// `session` says whose commands they are, beside the credentials in `peer`. Without it the first must be `hello`.
    /// If the future is dropped, some commands may have been carried out.
    ///
    /// # Errors
    ///
    /// What is wrong with the request as a whole: the message cannot be read (45xx), the credentials are refused (43xx),
    /// the session is not this user's or has ended ([`Code::UnknownSession`]), there are too many connections, or the
    /// engine is going away.
    pub async fn call(
        &self,
        peer: Peer,
        session: Option<&ResumeToken>,
        message: Bytes,
    ) -> Result<Vec<Bytes>> {
        let connection = self.open(peer, Part::Up)?;
        let (core, conn) = connection.parts();
        if let Some(token) = session {
            let (record, identity) = commands::prove(core, conn.credentials(), token).await?;
            core.registry.greet(conn);
            let session = Session::new(&record, identity);
            session.fresh.store(false, Ordering::Relaxed);
            conn.establish(session);
        }
        let max = core.config.max_calls_per_user;
        let _counted = match conn.session() {
            Some(session) => {
                Some(core.registry.begin_call(&session.user, max).ok_or_else(crowded)?)
            }
            None => None,
        };
        let (mut answers, mut end) = (Vec::new(), None);
        let working = async {
            commands::message(core, conn, message).await;
            conn.outbox.appends_settled().await;
        };
        let mut working = pin!(working);
        loop {
            tokio::select! {
                biased;
                () = &mut working => break,
                // Taken while it works, since only so many may wait.
                () = conn.outbox.ready() => end = end.or(collect(conn, &mut answers)),
            }
        }
        match end.or(collect(conn, &mut answers)) {
            Some(bye) if answers.is_empty() || conn.session().is_none() => Err(refusal(bye)),
            _ => Ok(answers),
        }
    }
}

/// Takes the answers that are there, and the reason of the end if there is one.
fn collect(conn: &Arc<Conn>, answers: &mut Vec<Bytes>) -> Option<Bye> {
    loop {
        let take = conn.outbox.take(usize::MAX);
        if take.items.is_empty() {
            return take.bye;
        }
        answers.extend(take.items.into_iter().map(|item| conn.encoded(item)));
        if take.bye.is_some() {
            return take.bye;
        }
    }
}

fn crowded() -> Error {
    Error::of(Code::TooManyConnections, "call")
}

fn refusal(bye: Bye) -> Error {
    let code = Code::from_number(bye.code).unwrap_or(Code::Unknown);
    let error = Error::new(code, "call", bye.message);
    match bye.retry_after {
        Some(wait) => error.retry_after(wait),
        None => error,
    }
}

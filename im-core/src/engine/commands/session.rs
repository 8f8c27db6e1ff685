//! Who is it, and which session goes on?

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::code::Code;
use crate::error::{Error, Result};
use crate::id::{CommandId, DeviceId, SessionId, UserId};
use crate::ports::{BusMessage, Credentials, Identity};
use crate::state::{Checkpoint, SecretHash, SessionRecord};
use crate::wire::{
    Hello, Reply, ResumeToken, Secret, ServerLimits, SessionEntry, VERSION, Welcome, encode,
};

use super::super::connection::{Conn, Session};
use super::super::core::Core;
use super::Outcome;

/// The handshake. Identity comes first; nothing of a session is looked at before it is known.
pub(super) async fn hello(
    core: &Arc<Core>,
    conn: &Arc<Conn>,
    id: CommandId,
    hello: Hello,
) -> Result<Outcome> {
    match greet(core, conn, hello).await {
        Ok(welcome) => {
            tracing::debug!(connection = conn.number, transport = conn.transport, user = %welcome.user,
                session = %welcome.session, resumed = welcome.resumed, "established");
            Ok(Outcome::Reply(Reply::Welcome(Box::new(welcome))))
        }
        // A session that is gone is no reason to go: the client may say hello again without it.
        Err(error) if error.code() == Code::UnknownSession => Err(error),
        Err(error) => {
            super::refuse(core, conn, Some(id), &error);
            conn.close(error.code(), error.message());
            Ok(Outcome::Answered)
        }
    }
}

async fn greet(core: &Arc<Core>, conn: &Arc<Conn>, hello: Hello) -> Result<Welcome> {
    if hello.version != VERSION {
        let words =
            format!("version {} is not spoken here; this server speaks {VERSION}", hello.version);
        return Err(Error::new(Code::WrongVersion, "hello", words));
    }
    let mut credentials = conn.credentials();
    credentials.token = hello.token.or(credentials.token);
    credentials.claimed_user = hello.user.or(credentials.claimed_user);
    credentials.claimed_device = hello.device.or(credentials.claimed_device);
    let identity = authenticate(core, &credentials).await?;
    let slow_down = |wait| Error::of(Code::RateLimited, "hello").retry_after(wait);
    core.limiter.take(&identity.user, 1, core.now()).map_err(slow_down)?;
    let max = core.config.max_connections_per_user;
    if hello.session.is_none() && core.registry.of_user(&identity.user).len() >= max {
        // Before anything is written for it.
        return Err(Error::of(Code::TooManyConnections, "hello"));
    }
    let (record, secret, checkpoint) = match hello.session {
        Some(token) => resume(core, &identity, token).await?,
        None => open(core, &identity, credentials.claimed_device).await?,
    };
    let resumed = checkpoint.is_some();
    let replaced = core
        .registry
        .identify(conn, &record.user, &record.id, max)
        .map_err(|_| Error::of(Code::TooManyConnections, "hello"))?;
    if let Some(older) = replaced {
        older.close(Code::Superseded, Code::Superseded.meaning());
    }
    if core.bus.is_some() && resumed {
        // The session's older connection may be on another node.
        core.tell(BusMessage::Close {
            user: record.user.clone(),
            session: Some(record.id.clone()),
            code: Code::Superseded,
        });
    }
    let rev = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.rev);
    let welcome = Welcome {
        session: record.id.clone(),
        secret,
        user: record.user.clone(),
        device: record.device.clone(),
        resumed,
        rev,
        expires: identity.expires,
        idle: core.config.idle_timeout,
        limits: server_limits(core),
    };
    conn.establish(Session::new(record, identity, checkpoint));
    // Somebody may have ended the session before this connection could be found.
    match core.store.session(&welcome.session).await? {
        Some(record) if !record.revoked => Ok(welcome),
        _ => Err(Error::of(Code::Kicked, "hello")),
    }
}

async fn authenticate(core: &Core, credentials: &Credentials) -> Result<Identity> {
    let limit = core.config.handshake_timeout;
    let answer = tokio::time::timeout(limit, core.authenticator.authenticate(credentials)).await;
    let identity = answer.map_err(|_| Error::of(Code::Overloaded, "authenticate"))??;
    match identity.expires {
        Some(at) if at <= core.now() => Err(Error::of(Code::Expired, "authenticate")),
        _ => Ok(identity),
    }
}

type Opened = (SessionRecord, Secret, Option<Checkpoint>);

async fn open(core: &Core, identity: &Identity, claimed: Option<DeviceId>) -> Result<Opened> {
    let id = SessionId::random();
    // 192 random bits, of two fresh ids.
    let secret = Secret::new(format!("{}{}", SessionId::random(), SessionId::random()));
    let device = match identity.device.clone().or(claimed) {
        Some(device) => device,
        None => {
            DeviceId::new(id.as_str()).map_err(|e| Error::of(Code::BadField, "hello").because(e))?
        }
    };
    let now = core.now();
    let record = SessionRecord {
        id,
        user: identity.user.clone(),
        device,
        secret: SecretHash::of(&secret),
        created: now,
        expires: now.plus(core.config.session_ttl),
        revoked: false,
    };
    core.store.put_session(record.clone()).await?;
    Ok((record, secret, None))
}

async fn resume(core: &Core, identity: &Identity, token: ResumeToken) -> Result<Opened> {
    // One answer for all reasons: a stranger learns nothing about which sessions exist.
    let unknown = || Error::of(Code::UnknownSession, "hello");
    let record = core.store.session(&token.session).await?.ok_or_else(unknown)?;
    let good = !record.revoked
        && record.expires > core.now()
        && record.user == identity.user
        && record.secret.matches(&token.secret);
    if !good {
        return Err(unknown());
    }
    let checkpoint = core.store.checkpoint(&token.session).await?;
    Ok((record, token.secret, Some(checkpoint)))
}

fn server_limits(core: &Core) -> ServerLimits {
    let (limits, config) = (&core.config.limits, &core.config);
    ServerLimits {
        message_bytes: limits.max_message_bytes as u64,
        content_bytes: limits.max_content_bytes as u64,
        batch: limits.max_batch as u64,
        in_flight: u64::from(config.max_in_flight),
        page: u64::from(config.max_page),
        rooms: config.max_rooms_per_session as u64,
    }
}

/// New credentials for the same user; the connection goes on.
pub(super) async fn refresh(core: &Core, session: &Session, token: Secret) -> Result<Reply> {
    let credentials = Credentials { token: Some(token), ..Credentials::default() };
    let identity = authenticate(core, &credentials).await?;
    if identity.user != session.user {
        return Err(Error::new(
            Code::BadCredentials,
            "refresh",
            "these credentials are another user's",
        ));
    }
    session.renew(identity);
    Ok(Reply::Done)
}

pub(super) async fn logout(
    core: &Arc<Core>,
    conn: &Conn,
    session: &Session,
    id: CommandId,
) -> Result<Outcome> {
    core.store.revoke_session(&session.id).await?;
    session.end();
    conn.outbox.reply(encode(&Reply::Done.to_value(id), conn.encoding));
    conn.close(Code::LoggedOut, Code::LoggedOut.meaning());
    Ok(Outcome::Answered)
}

/// The sessions of `user` that can be resumed.
pub(crate) async fn list(core: &Core, user: &UserId) -> Result<Vec<SessionEntry>> {
    let now = core.now();
    let here: Vec<SessionId> = core
        .registry
        .of_user(user)
        .iter()
        .filter_map(|conn| Some(conn.session()?.id.clone()))
        .collect();
    let records = core.store.sessions_of(user, core.config.max_sessions_listed).await?;
    let alive = records.into_iter().filter(|record| !record.revoked && record.expires > now);
    let entry = |record: SessionRecord| SessionEntry {
        connected: here.contains(&record.id),
        session: record.id,
        device: record.device,
        since: record.created,
    };
    Ok(alive.map(entry).collect())
}

pub(super) async fn kick(core: &Arc<Core>, session: &Session, other: &SessionId) -> Result<Reply> {
    let record = core.store.session(other).await?.filter(|record| record.user == session.user);
    if record.is_none() {
        return Err(Error::of(Code::NotFound, "kick"));
    }
    end_sessions(core, &session.user, Some(other), Code::Kicked).await?;
    Ok(Reply::Done)
}

/// Ends one session of `user`, or all of them, here and on the other nodes.
pub(crate) async fn end_sessions(
    core: &Arc<Core>,
    user: &UserId,
    session: Option<&SessionId>,
    code: Code,
) -> Result<()> {
    match session {
        Some(session) => core.store.revoke_session(session).await?,
        None => loop {
            let records = core.store.sessions_of(user, core.config.max_sessions_listed).await?;
            let alive: Vec<_> = records.iter().filter(|record| !record.revoked).collect();
            for record in &alive {
                core.store.revoke_session(&record.id).await?;
            }
            if alive.is_empty() || records.len() < core.config.max_sessions_listed {
                break;
            }
        },
    }
    core.close_sessions(user, session, code);
    core.tell(BusMessage::Close { user: user.clone(), session: session.cloned(), code });
    Ok(())
}

impl Core {
    /// Closes the connections of one session of `user`, or of all of them, on this node.
    pub(crate) fn close_sessions(&self, user: &UserId, session: Option<&SessionId>, code: Code) {
        for conn in self.registry.of_user(user) {
            if session.is_none_or(|wanted| conn.session().is_some_and(|held| held.id == *wanted)) {
                if code != Code::Superseded
                    && let Some(session) = conn.session()
                {
                    session.end();
                }
                conn.close(code, code.meaning());
            }
        }
    }
}

impl Session {
    /// The next revision of the checkpoint.
    pub(super) fn next_rev(&self) -> u64 {
        self.rev.fetch_add(1, Ordering::Relaxed) + 1
    }
}

//! Handshake, and the life of sessions.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::code::Code;
use crate::error::{Error, Result};
use crate::id::{CommandId, DeviceId, SessionId, UserId};
use crate::ports::{BusMessage, Credentials, Identity, Resource};
use crate::state::{SecretHash, SessionHead, SessionRecord, Ticket};
use crate::wire::{
    Content, Hello, Reply, ResumeToken, Secret, ServerLimits, SessionEntry, TicketGrant, VERSION,
    Welcome, encode,
};

use super::super::connection::{Conn, Session};
use super::super::core::Core;
use super::super::registry::ConnectionRefused;
use super::Outcome;
use super::charge::Charge;

/// Sessions in one store call.
const SESSIONS_AT_ONCE: usize = 256;

/// The handshake. Identity is established first; nothing of a session is read before.
pub(super) async fn hello(
    core: &Arc<Core>,
    conn: &Arc<Conn>,
    id: CommandId,
    hello: Hello,
) -> Result<Outcome> {
    conn.greeting.store(true, Ordering::Relaxed);
    let greeted = greet(core, conn, hello).await;
    conn.greeting.store(false, Ordering::Relaxed);
    match greeted {
        Ok(welcome) => {
            tracing::debug!(connection = conn.number, transport = conn.transport, user = %welcome.user,
                session = %welcome.session, resumed = welcome.resumed, "established");
            Ok(Outcome::Reply(Reply::Welcome(Box::new(welcome))))
        }
        // A lost session does not end the connection: the client may send hello again without it.
        Err(error) if error.code() == Code::UnknownSession && conn.is_duplex() => {
            conn.refuse_hello(Code::UnknownSession);
            Err(error)
        }
        Err(error) => {
            super::refuse(core, conn, Some(id), &error);
            conn.close_for(&error);
            Ok(Outcome::Answered)
        }
    }
}

async fn greet(core: &Arc<Core>, conn: &Arc<Conn>, hello: Hello) -> Result<Welcome> {
    super::address_quota(core, conn, Resource::Commands, 1)?;
    if hello.version != VERSION {
        let words =
            format!("version {} is not supported; this server speaks {VERSION}", hello.version);
        return Err(Error::new(Code::WrongVersion, "hello", words));
    }
    let mut credentials = conn.credentials();
    credentials.token = hello.token.or(credentials.token);
    credentials.claimed_user = hello.user.or(credentials.claimed_user);
    credentials.claimed_device = hello.device.or(credentials.claimed_device);
    let identity = authenticate(core, &credentials).await?;
    super::pay(core, &identity.user, 1, "hello")?;
    if conn.is_request_half() {
        conn.begin_call(core, &identity.user)?;
    }
    let resumed = hello.session.is_some();
    let is_duplex = conn.is_duplex();
    if is_duplex || !resumed {
        // Before anything is written for the connection.
        check_connection_limit(
            core,
            &identity.user,
            hello.session.as_ref().map(|token| &token.session),
        )?;
    }
    let (mut record, secret) = match hello.session {
        Some(token) => (proven(core, &identity, &token).await?, token.secret),
        None => {
            let mut charge = Charge::default();
            charge.address(core, conn, Resource::Sessions, 1)?;
            let opened = open(core, &identity, credentials.claimed_device).await?;
            charge.commit();
            opened
        }
    };
    if resumed && is_duplex {
        attach(core, &mut record).await?;
    }
    let expires = identity.expires;
    conn.establish(Session::new(&record, identity));
    let rev = if is_duplex {
        take_over(core, conn, &record).await?
    } else {
        core.registry.greet(conn);
        head(core, &record).await?.rev
    };
    Ok(Welcome {
        session: record.id,
        secret,
        user: record.user,
        device: record.device,
        resumed,
        rev,
        expires,
        idle: core.config.idle_timeout,
        limits: server_limits(core),
    })
}

/// Refuses a user who has the maximum number of connections, not counting one of the same session.
pub(crate) fn check_connection_limit(
    core: &Core,
    user: &UserId,
    session: Option<&SessionId>,
) -> Result<()> {
    match core.registry.has_room_for(user, session, core.config.max_connections_per_user) {
        true => Ok(()),
        false => Err(Error::of(Code::TooManyConnections, "hello")),
    }
}

/// Replaces an older connection of the session, on any node, by an established one. Returns the
/// checkpoint's revision.
pub(crate) async fn take_over(
    core: &Arc<Core>,
    conn: &Arc<Conn>,
    record: &SessionRecord,
) -> Result<u64> {
    let refused = |reason| match reason {
        ConnectionRefused::TooMany => Error::of(Code::TooManyConnections, "hello"),
        ConnectionRefused::Superseded => Error::of(Code::Superseded, "hello"),
    };
    let max = core.config.max_connections_per_user;
    if let Some(older) = core.registry.identify(conn, max).map_err(refused)? {
        older.close(Code::Superseded, Code::Superseded.meaning());
    }
    if record.fencing_token > 1 {
        // The session's older connection may be on another node.
        core.publish(BusMessage::Close {
            user: record.user.clone(),
            session: Some(record.id.clone()),
            before: Some(record.fencing_token),
            code: Code::Superseded,
        });
    }
    // The session may have been ended or taken over before this connection was registered.
    match head(core, record).await? {
        head if head.fencing_token > record.fencing_token => {
            Err(Error::of(Code::Superseded, "hello"))
        }
        head => Ok(head.rev),
    }
}

/// The store's current head of the session, if it still exists.
async fn head(core: &Core, record: &SessionRecord) -> Result<SessionHead> {
    let heads = core.store.session_heads(std::slice::from_ref(&record.id)).await?;
    heads.into_iter().next().flatten().ok_or_else(|| Error::of(Code::Kicked, "hello"))
}

/// Returns the session that the token proves, and the bearer's identity: for requests that name
/// their session beside their credentials.
pub(crate) async fn prove(
    core: &Core,
    credentials: Credentials,
    token: &ResumeToken,
) -> Result<(SessionRecord, Identity)> {
    let record = held(core, token).await?;
    let device = Some(record.device.clone());
    let identity = authenticate_owner(core, credentials, &record.user, device).await?;
    Ok((record, identity))
}

/// Authenticates the bearer of a session's secret, who must be its user.
pub(crate) async fn authenticate_owner(
    core: &Core,
    mut credentials: Credentials,
    user: &UserId,
    device: Option<DeviceId>,
) -> Result<Identity> {
    // A bearer of the secret may claim the session's user, where claims are accepted at all.
    credentials.claimed_user = Some(user.clone());
    credentials.claimed_device = device;
    let identity = authenticate(core, &credentials).await?;
    if identity.user == *user { Ok(identity) } else { Err(unknown()) }
}

/// One error for all reasons: a stranger learns nothing about which sessions exist.
pub(crate) fn unknown() -> Error {
    Error::of(Code::UnknownSession, "hello")
}

async fn authenticate(core: &Core, credentials: &Credentials) -> Result<Identity> {
    let limit = core.config.handshake_timeout;
    let answer = tokio::time::timeout(limit, core.authenticator.authenticate(credentials)).await;
    let identity = answer.map_err(|_| Error::of(Code::Overloaded, "authenticate"))??;
    if identity.user.is_erased() {
        return Err(Error::of(Code::BadCredentials, "authenticate"));
    }
    match identity.expires {
        Some(at) if at <= core.now() => Err(Error::of(Code::Expired, "authenticate")),
        _ => Ok(identity),
    }
}

type Opened = (SessionRecord, Secret);

async fn open(core: &Arc<Core>, identity: &Identity, claimed: Option<DeviceId>) -> Result<Opened> {
    make_room(core, &identity.user).await?;
    let id = SessionId::random();
    // 192 random bits, of two random ids.
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
        fencing_token: 1,
    };
    core.store.open_session(record.clone()).await?;
    Ok((record, secret))
}

/// Ends the least recently used session of a user who has the maximum number of sessions; sessions
/// connected here come last.
async fn make_room(core: &Arc<Core>, user: &UserId) -> Result<()> {
    let max = core.config.max_sessions_per_user.max(1);
    let mut held = core.store.sessions_of(user, max).await?;
    if held.len() < max {
        return Ok(());
    }
    let here = connected(core, user);
    held.sort_by_key(|record| (here.contains(&record.id), record.expires));
    let stale = held.into_iter().next().map(|record| record.id);
    tracing::debug!(%user, "the least recently used session ends for a new one");
    end_sessions(core, user, stale.as_ref(), Code::Kicked).await
}

/// The sessions of `user` that are connected to this node.
fn connected(core: &Core, user: &UserId) -> Vec<SessionId> {
    let conns = core.registry.of_user(user);
    conns.iter().filter_map(|conn| Some(conn.session()?.id.clone())).collect()
}

/// Returns the session that the token proves, if it is this user's.
async fn proven(core: &Core, identity: &Identity, token: &ResumeToken) -> Result<SessionRecord> {
    let record = held(core, token).await?;
    if record.user == identity.user { Ok(record) } else { Err(unknown()) }
}

async fn held(core: &Core, token: &ResumeToken) -> Result<SessionRecord> {
    let record = core.store.session(&token.session).await?.ok_or_else(unknown)?;
    if record.expires > core.now() && record.secret.matches(&token.secret) {
        Ok(record)
    } else {
        Err(unknown())
    }
}

/// Attaches another connection to the session.
pub(crate) async fn attach(core: &Core, record: &mut SessionRecord) -> Result<()> {
    record.expires = core.now().plus(core.config.session_ttl);
    let attached = core.store.attach_session(&record.id, record.expires).await?;
    record.fencing_token = attached.ok_or_else(unknown)?;
    Ok(())
}

pub(crate) fn server_limits(core: &Core) -> ServerLimits {
    let (limits, config) = (&core.config.limits, &core.config);
    ServerLimits {
        message_bytes: limits.max_message_bytes as u64,
        content_bytes: limits.max_content_bytes as u64,
        batch: limits.max_batch as u64,
        in_flight: u64::from(config.max_in_flight),
        page: u64::from(config.max_page),
        rooms: config.max_rooms_per_session as u64,
        depth: limits.max_depth as u64,
        values: limits.max_values as u64,
    }
}

/// Replaces the credentials of the same user; the connection stays open. Credentials that arrive
/// without a connection apply to the session's downlink on this node.
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
    for conn in core.registry.of_user(&session.user) {
        if let Some(held) = conn.session().filter(|held| held.id == session.id) {
            held.set_identity(identity.clone());
        }
    }
    let expires = identity.expires;
    session.set_identity(identity);
    Ok(Reply::Refreshed { expires })
}

pub(super) async fn logout(
    core: &Arc<Core>,
    conn: &Conn,
    session: &Session,
    id: CommandId,
) -> Result<Outcome> {
    end_sessions(core, &session.user, Some(&session.id), Code::LoggedOut).await?;
    conn.outbox.ack(encode(&Reply::Done.to_value(id), conn.encoding));
    conn.close(Code::LoggedOut, Code::LoggedOut.meaning());
    Ok(Outcome::Answered)
}

/// How long a ticket can be used.
const TICKET_TTL: Duration = Duration::from_secs(60);

/// Creates a ticket for one stream of this session.
pub(super) async fn ticket(core: &Core, session: &Session) -> Result<Reply> {
    let identity = session.identity();
    let claims = Content::new(&identity.claims, &core.config.limits)
        .map_err(|e| Error::of(Code::TooLarge, "ticket").because(e))?;
    let secret = Secret::new(format!("{}{}", SessionId::random(), SessionId::random()));
    let ticket = Ticket {
        secret: SecretHash::of(&secret),
        open_until: core.now().plus(TICKET_TTL),
        opened: false,
        device: identity.device.clone(),
        claims: claims.packed().clone(),
        expires: identity.expires,
    };
    core.store.put_ticket(&session.id, ticket).await?;
    // Usable in a query as it is: no character of it has to be encoded, and the secret contains no
    // full stop.
    let ticket = Secret::new(format!("{}.{}", session.id, secret.expose()));
    Ok(Reply::Ticket(TicketGrant { ticket, within: TICKET_TTL }))
}

/// Returns the session that a ticket opens, or, if it was opened before, resumes. The caller must
/// [`spend`] it.
pub(crate) async fn redeem(
    core: &Core,
    ticket: &Secret,
    again: bool,
) -> Result<(SessionRecord, Identity)> {
    let (session, secret) = ticket_parts(ticket)?;
    let held = core.store.ticket(&session).await?.ok_or_else(wrong_ticket)?;
    if held.secret != secret || held.opened != again {
        return Err(wrong_ticket());
    }
    let now = core.now();
    let late = !held.opened && held.open_until < now;
    if late || held.expires.is_some_and(|at| at <= now) {
        return Err(Error::of(Code::Expired, "ticket"));
    }
    let record = core.store.session(&session).await?.filter(|record| record.expires > now);
    let record = record.ok_or_else(unknown)?;
    let claims = Content::from_packed(held.claims).map_err(|_| wrong_ticket())?.value();
    let user = record.user.clone();
    Ok((record, Identity { user, device: held.device, claims, expires: held.expires }))
}

/// Records that a ticket opened its stream: it does so once.
pub(crate) async fn spend(core: &Core, ticket: &Secret) -> Result<()> {
    let (session, secret) = ticket_parts(ticket)?;
    let spent = core.store.open_ticket(&session, &secret).await?;
    if spent { Ok(()) } else { Err(wrong_ticket()) }
}

fn ticket_parts(ticket: &Secret) -> Result<(SessionId, SecretHash)> {
    let (session, secret) = ticket.expose().rsplit_once('.').ok_or_else(wrong_ticket)?;
    let session = SessionId::new(session).map_err(|_| wrong_ticket())?;
    // Only hashes are compared from here on: the time of the comparison reveals nothing about the
    // secret.
    Ok((session, SecretHash::of(&Secret::new(secret))))
}

fn wrong_ticket() -> Error {
    Error::of(Code::BadCredentials, "ticket")
}

/// The sessions of `user` that can be resumed.
pub(crate) async fn list(core: &Core, user: &UserId) -> Result<Vec<SessionEntry>> {
    let now = core.now();
    let here = connected(core, user);
    let records = core.store.sessions_of(user, core.config.max_sessions_per_user).await?;
    let alive = records.into_iter().filter(|record| record.expires > now);
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
        Some(session) => core.store.end_session(session).await?,
        None => loop {
            let records = core.store.sessions_of(user, SESSIONS_AT_ONCE).await?;
            if records.is_empty() {
                break;
            }
            for record in records {
                core.store.end_session(&record.id).await?;
            }
        },
    }
    core.close_sessions(user, session, None, code);
    core.publish(BusMessage::Close {
        user: user.clone(),
        session: session.cloned(),
        before: None,
        code,
    });
    Ok(())
}

impl Core {
    /// Closes the connections of one session of `user`, or of all of them, on this node; with
    /// `before`, only those with a lower fencing token.
    pub(crate) fn close_sessions(
        &self,
        user: &UserId,
        session: Option<&SessionId>,
        before: Option<u64>,
        code: Code,
    ) {
        for conn in self.registry.of_user(user) {
            let Some(held) = conn.session() else { continue };
            if session.is_none_or(|wanted| held.id == *wanted)
                && before.is_none_or(|before| held.fencing_token < before)
            {
                conn.close(code, code.meaning());
            }
        }
    }

    /// Compares the sessions connected here with the store: even if a hint was lost, ended and
    /// superseded sessions are disconnected.
    pub(crate) async fn check_sessions(self: &Arc<Self>) {
        let conns = self.registry.all();
        let live: Vec<_> = conns.iter().filter(|conn| conn.session().is_some()).collect();
        for conns in live.chunks(SESSIONS_AT_ONCE) {
            let ids: Vec<SessionId> =
                conns.iter().filter_map(|conn| Some(conn.session()?.id.clone())).collect();
            let heads = match self.store.session_heads(&ids).await {
                Ok(heads) => heads,
                Err(error) => {
                    return tracing::warn!(%error, "sessions could not be compared with the store");
                }
            };
            for (conn, head) in conns.iter().zip(heads) {
                let code = match head {
                    None => Code::Kicked,
                    // A request half does not hold the session.
                    _ if conn.is_request_half() => continue,
                    Some(head) if head.fencing_token > conn.fencing_token() => Code::Superseded,
                    Some(head) => {
                        self.resubscribe_if_changed(conn, head.rev);
                        continue;
                    }
                };
                conn.close(code, code.meaning());
            }
        }
    }
}

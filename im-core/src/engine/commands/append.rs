//! Commands that add to a room's log.

use std::sync::Arc;

use crate::code::Code;
use crate::error::{Error, Result};
use crate::id::{CommandId, EventKind, MessageId, RoomId, UserId};
use crate::ports::{Action, Verdict};
use crate::state::{Act, Append, Guard, Intent, NewEvent, RoomSeed, SendKey, content_hash};
use crate::wire::{Content, MemberAct, Reply, Role, RoomKind, SendReceipt, Target, Value};

use super::super::connection::{Conn, Session};
use super::super::core::Core;
use super::super::lanes::{Job, Waiter};
use super::Outcome;

/// A command that appends, and where it stands.
pub(super) struct At<'a> {
    pub(super) core: &'a Arc<Core>,
    pub(super) conn: &'a Arc<Conn>,
    pub(super) session: &'a Session,
    pub(super) id: CommandId,
}

impl At<'_> {
    pub(super) async fn send(
        &self,
        to: Target,
        id: MessageId,
        kind: EventKind,
        content: Value,
    ) -> Result<Outcome> {
        let core = self.core;
        if kind.is_reserved() {
            return Err(Error::new(
                Code::Forbidden,
                "send",
                "kinds that begin with im. are the server's own",
            ));
        }
        check_age(core, &id)?;
        let (submitted, key) = submitted(core, &kind, &content, Some(id.clone()))?;
        let (room, seed) = self.place(&to);
        let asked = core.hooks.wants_before();
        if asked && let Some(reply) = self.repeated(&room, key.as_ref()).await? {
            return Ok(Outcome::Reply(reply));
        }
        let action = Action::Send { to: to.clone(), id, kind: kind.clone(), content };
        let verdict = if asked {
            core.ask(&self.session.identity(), &action).await?
        } else {
            Verdict::Default
        };
        let (guard, content) = match verdict {
            Verdict::Allow => (Guard::Trusted, submitted),
            Verdict::Replace(value) => {
                let content = Content::new(&value, &core.config.limits).map_err(|e| {
                    Error::new(
                        Code::Refused,
                        "hook",
                        "the server's hook gave a content that is not allowed",
                    )
                    .because(e)
                })?;
                (Guard::As(self.session.user.clone()), content)
            }
            _ => (Guard::As(self.session.user.clone()), submitted),
        };
        let event = NewEvent { from: self.session.user.clone(), kind, content, key };
        let seed = seed.filter(|_| guard == Guard::Trusted || !matches!(to, Target::User(_)));
        self.enqueue(room, guard, Act::Post { event, seed }).await
    }

    pub(super) async fn create(
        &self,
        room: RoomId,
        kind: RoomKind,
        open: bool,
        others: Vec<UserId>,
    ) -> Result<Outcome> {
        if room.is_reserved() || !matches!(kind, RoomKind::Group | RoomKind::Channel) {
            let words = "only groups and channels are created, with ids that do not begin with dm: or user:";
            return Err(Error::new(Code::Forbidden, "create", words));
        }
        if others.len() > self.core.config.max_first_members {
            return Err(Error::of(Code::TooMany, "create"));
        }
        let action = Action::Create { room: room.clone(), kind };
        self.core.ask(&self.session.identity(), &action).await?;
        let me = self.session.user.clone();
        let role = if kind == RoomKind::Channel { Role::Reader } else { Role::Member };
        let mut members = vec![(me.clone(), Role::Owner)];
        for user in others {
            if members.iter().all(|(member, _)| *member != user) {
                members.push((user, role));
            }
        }
        let act = Act::Create { by: me.clone(), seed: RoomSeed { kind, open, members } };
        self.enqueue(room, Guard::As(me), act).await
    }

    pub(super) async fn join(&self, room: RoomId) -> Result<Outcome> {
        self.change(room, Intent::Join).await
    }

    pub(super) async fn leave(&self, room: RoomId) -> Result<Outcome> {
        self.change(room, Intent::Leave).await
    }

    pub(super) async fn member(
        &self,
        room: RoomId,
        user: UserId,
        act: MemberAct,
    ) -> Result<Outcome> {
        let intent = match act {
            MemberAct::Add(role) => Intent::Add(user, role),
            MemberAct::Remove => Intent::Remove(user),
            MemberAct::Ban => Intent::Ban(user),
            MemberAct::Unban => Intent::Unban(user),
        };
        self.change(room, intent).await
    }

    async fn change(&self, room: RoomId, intent: Intent) -> Result<Outcome> {
        let action = Action::Change { room: room.clone(), intent: intent.clone() };
        let verdict = self.core.ask(&self.session.identity(), &action).await?;
        let me = self.session.user.clone();
        let guard = if verdict == Verdict::Allow { Guard::Trusted } else { Guard::As(me.clone()) };
        self.enqueue(room, guard, Act::Change { by: me, intent }).await
    }

    /// Which room a target is, and how to make it.
    fn place(&self, to: &Target) -> (RoomId, Option<RoomSeed>) {
        match to {
            Target::Room(room) => (room.clone(), None),
            Target::Peer(peer) => {
                let me = &self.session.user;
                (RoomId::direct(me, peer), Some(direct_seed(me, peer)))
            }
            Target::User(user) => (RoomId::inbox(user), Some(inbox_seed(user))),
        }
    }

    /// The answer to a retry, looked up before the hook is asked.
    async fn repeated(&self, room: &RoomId, key: Option<&SendKey>) -> Result<Option<Reply>> {
        let Some(key) = key else { return Ok(None) };
        let Some(record) = self.core.store.sent(room, &self.session.user, &key.id).await? else {
            return Ok(None);
        };
        if record.hash != key.hash {
            return Err(Error::of(Code::Conflict, "send"));
        }
        let epoch = self.core.look_up(room).await?.1.cursor.epoch;
        let receipt = SendReceipt {
            room: room.clone(),
            epoch,
            seq: record.seq,
            at: record.at,
            repeated: true,
        };
        Ok(Some(Reply::Sent(receipt)))
    }

    async fn enqueue(&self, room: RoomId, guard: Guard, act: Act) -> Result<Outcome> {
        let core = self.core;
        let append =
            Append { room, guard, act, at: core.now(), max_members: core.config.max_members };
        let job = Job { append, waiter: Waiter::Command(self.conn.clone(), self.id) };
        self.conn.outbox.append_begun();
        if core.lanes.send(job).await.is_err() {
            let refusal = core.refusal(Some(self.id), &Error::of(Code::Draining, "append"));
            self.conn
                .outbox
                .append_done(crate::wire::encode(&refusal.to_value(), self.conn.encoding));
        }
        Ok(Outcome::Later)
    }
}

/// Refuses ids from before the horizon of dedup, where there is one.
fn check_age(core: &Core, id: &MessageId) -> Result<()> {
    let Some(horizon) = core.config.dedup_horizon else { return Ok(()) };
    let made = id.v7_time().ok_or_else(|| {
        Error::new(
            Code::BadField,
            "send",
            "this server needs message ids that are UUIDv7 (RFC 9562)",
        )
    })?;
    if core.now().since(made) > horizon { Err(Error::of(Code::TooOld, "send")) } else { Ok(()) }
}

/// The content as submitted, checked, and the key of dedup over it.
pub(crate) fn submitted(
    core: &Core,
    kind: &EventKind,
    content: &Value,
    id: Option<MessageId>,
) -> Result<(Content, Option<SendKey>)> {
    let packed = Content::new(content, &core.config.limits)
        .map_err(|e| Error::new(e.code(), "send", e.to_string()))?;
    let key = id.map(|id| SendKey { id, hash: content_hash(kind, content) });
    Ok((packed, key))
}

/// The direct room of two users; of one, if both are the same.
pub(crate) fn direct_seed(a: &UserId, b: &UserId) -> RoomSeed {
    let mut members = vec![(a.clone(), Role::Member)];
    if a != b {
        members.push((b.clone(), Role::Member));
    }
    RoomSeed { kind: RoomKind::Direct, open: false, members }
}

/// A user's own room.
pub(crate) fn inbox_seed(user: &UserId) -> RoomSeed {
    RoomSeed { kind: RoomKind::Inbox, open: false, members: vec![(user.clone(), Role::Reader)] }
}

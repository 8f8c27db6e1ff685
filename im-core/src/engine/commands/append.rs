//! Commands that append to a room's log.

use std::sync::Arc;

use crate::code::Code;
use crate::error::{Error, Result};
use crate::id::{CommandId, EventKind, MessageId, RoomId, UserId};
use crate::ports::{Action, ActionKind, Resource, Verdict};
use crate::state::{
    Act, Append, Authority, IdempotencyKey, Intent, Membership, NewEvent, RoomSeed, content_hash,
};
use crate::wire::{AppendAck, Content, MemberAct, Role, RoomKind, Target, Value};

use super::super::append_shards::{Job, Work, answer};
use super::super::connection::{Conn, Session};
use super::super::core::Core;
use super::Outcome;
use super::charge::Charges;
use super::live::not_to_users;

/// A command that appends, and its context.
pub(super) struct At<'a> {
    pub(super) core: &'a Arc<Core>,
    pub(super) conn: &'a Arc<Conn>,
    pub(super) session: &'a Session,
    pub(super) id: CommandId,
}

/// The fields of a send.
pub(super) struct Sending {
    pub(super) to: Target,
    pub(super) id: MessageId,
    pub(super) kind: EventKind,
    pub(super) content: Value,
}

/// A send before it reaches its shard.
enum Prepared {
    Append(Authority, Act, Charges),
    Duplicate(AppendAck),
}

impl At<'_> {
    /// Executes a send, or refuses it if it is not `allowed`. Its room's shard sends the ack, in
    /// the order of this session's sends.
    pub(super) async fn send(&self, sending: Sending, allowed: Result<()>) -> Result<Outcome> {
        let (room, seed) = self.resolve(&sending.to);
        let id = sending.id.clone();
        let prepared = match allowed {
            Ok(()) => self.prepare(&room, seed, sending).await,
            Err(error) => Err(error),
        };
        let answer = match prepared {
            Ok(Prepared::Append(authority, act, charges)) => {
                return self
                    .enqueue(Work::Append(self.append(room, authority, act)), charges)
                    .await;
            }
            Ok(Prepared::Duplicate(ack)) => Ok(ack),
            Err(error) => Err(error),
        };
        self.enqueue(Work::Answered(room, id, answer), Charges::default()).await
    }

    async fn prepare(
        &self,
        room: &RoomId,
        seed: Option<RoomSeed>,
        sending: Sending,
    ) -> Result<Prepared> {
        let (core, Sending { to, id, kind, content }) = (self.core, sending);
        if kind.is_reserved() {
            return Err(Error::new(
                Code::Forbidden,
                "send",
                "kinds that begin with im. are the server's own",
            ));
        }
        check_age(core, &id)?;
        let (submitted, key) = submitted(core, &kind, &content, Some(id.clone()))?;
        let bytes = super::stored(submitted.packed().len());
        let mut charges = Charges::default();
        charges.event.user(core, &self.session.user, Resource::Bytes, bytes)?;
        let asked = core.hooks.wants(ActionKind::Send);
        if asked && let Some(ack) = self.find_duplicate(room, key.as_ref()).await? {
            return Ok(Prepared::Duplicate(ack));
        }
        let action = Action::Send { to: to.clone(), id, kind: kind.clone(), content };
        let verdict = if asked {
            core.ask(&self.session.identity(), &action).await?
        } else {
            Verdict::Default
        };
        let (authority, content) = match verdict {
            Verdict::Allow => (Authority::Service, submitted),
            Verdict::Replace(value) => {
                let content = Content::new(&value, &core.config.limits).map_err(|e| {
                    Error::new(
                        Code::Refused,
                        "hook",
                        "the server's hook gave a content that is not allowed",
                    )
                    .because(e)
                })?;
                (Authority::User(self.session.user.clone()), content)
            }
            _ => (Authority::User(self.session.user.clone()), submitted),
        };
        if authority != Authority::Service && matches!(to, Target::User(_)) {
            return Err(not_to_users("send"));
        }
        let event =
            NewEvent { from: self.session.user.clone(), kind, content, idempotency_key: key };
        if let Some(seed) = &seed {
            self.may_make(room, seed, &to, &mut charges).await?;
        }
        Ok(Prepared::Append(authority, Act::Post { event, seed }, charges))
    }

    /// Charges for the room of a send and calls the hook, if the room has to be created.
    async fn may_make(
        &self,
        room: &RoomId,
        seed: &RoomSeed,
        to: &Target,
        charges: &mut Charges,
    ) -> Result<()> {
        let core = self.core;
        let asks = core.hooks.wants(ActionKind::Create);
        let counts = core.quotas.limits(Resource::Rooms);
        let is_loaded = || core.hub.get(room).is_some_and(|room| room.head().is_some());
        if !(asks || counts) || is_loaded() || core.store.room(room).await?.is_some() {
            return Ok(());
        }
        self.quotas_of_a_room(seed.members.len() - 1, charges)?;
        if !asks {
            return Ok(());
        }
        let with = match to {
            Target::Peer(user) | Target::User(user) => Some(user.clone()),
            Target::Room(_) => None,
        };
        let action = Action::Create { room: room.clone(), kind: seed.kind, with };
        core.ask(&self.session.identity(), &action).await.map(drop)
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
        let mut charges = Charges::default();
        self.quotas_of_a_room(others.len(), &mut charges)?;
        let action = Action::Create { room: room.clone(), kind, with: None };
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
        self.enqueue(Work::Append(self.append(room, Authority::User(me), act)), charges).await
    }

    /// Charges a room with `others` other members to its creator and their address. The user's own
    /// quota is first: a user who has used it up costs nothing of the address's.
    fn quotas_of_a_room(&self, others: usize, charges: &mut Charges) -> Result<()> {
        let (core, user, charge) = (self.core, &self.session.user, &mut charges.room);
        let rows = others as u64 * super::ROWS_PER_MEMBER as u64;
        charge.user(core, user, Resource::Rooms, 1)?;
        charge.user(core, user, Resource::Bytes, super::stored(0) * (1 + rows))?;
        charge.address(core, self.conn, Resource::Rooms, 1)
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
        self.pay_for_owners(&room, &intent).await?;
        let action = Action::Change { room: room.clone(), intent: intent.clone() };
        let verdict = self.core.ask(&self.session.identity(), &action).await?;
        let me = self.session.user.clone();
        let authority = if verdict == Verdict::Allow {
            Authority::Service
        } else {
            Authority::User(me.clone())
        };
        let work = Work::Append(self.append(room, authority, Act::Change { by: me, intent }));
        self.enqueue(work, Charges::default()).await
    }

    /// When an owner leaves or steps down, the members are searched for another owner: that costs
    /// as much as a page of them.
    async fn pay_for_owners(&self, room: &RoomId, intent: &Intent) -> Result<()> {
        let (core, me) = (self.core, &self.session.user);
        let resigns = match intent {
            Intent::Leave => true,
            Intent::Add(user, _) => user == me,
            _ => false,
        };
        if !resigns {
            return Ok(());
        }
        let (record, membership) = core.rights(room, me).await?;
        match (record, membership) {
            (Some(record), Some(Membership::Member(Role::Owner))) => {
                super::pay_more(core, me, 1, super::page_cost(record.members), "change members")
            }
            _ => Ok(()),
        }
    }

    /// Resolves a target to its room, and the seed to create it.
    fn resolve(&self, to: &Target) -> (RoomId, Option<RoomSeed>) {
        match to {
            Target::Room(room) => (room.clone(), None),
            Target::Peer(peer) => {
                let me = &self.session.user;
                (RoomId::direct(me, peer), Some(direct_seed(me, peer)))
            }
            Target::User(user) => (RoomId::inbox(user), Some(inbox_seed(user))),
        }
    }

    /// Returns the ack of a retry, looked up before the hook is called.
    async fn find_duplicate(
        &self,
        room: &RoomId,
        key: Option<&IdempotencyKey>,
    ) -> Result<Option<AppendAck>> {
        let Some(key) = key else { return Ok(None) };
        let Some(record) =
            self.core.store.idempotency_record(room, &self.session.user, &key.id).await?
        else {
            return Ok(None);
        };
        if record.hash != key.hash {
            return Err(Error::of(Code::Conflict, "send"));
        }
        let epoch = self.core.look_up(room).await?.1.cursor.epoch;
        let room = room.clone();
        Ok(Some(AppendAck { room, epoch, seq: record.seq, at: record.at, duplicate: true }))
    }

    fn append(&self, room: RoomId, authority: Authority, act: Act) -> Append {
        let core = self.core;
        Append { room, authority, act, at: core.now(), max_members: core.config.max_members }
    }

    async fn enqueue(&self, work: Work, charges: Charges) -> Result<Outcome> {
        let job = Job::for_command(self.core, self.conn, (self.id, charges), work);
        self.conn.outbox.append_started();
        if let Err((waiter, result)) = self.core.append_shards.send(job).await {
            answer(self.core, waiter, result);
        }
        Ok(Outcome::Later)
    }
}

/// Refuses ids from before the dedup horizon, if there is one.
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

/// Checks the submitted content and computes its idempotency key.
pub(crate) fn submitted(
    core: &Core,
    kind: &EventKind,
    content: &Value,
    id: Option<MessageId>,
) -> Result<(Content, Option<IdempotencyKey>)> {
    let packed = Content::new(content, &core.config.limits)
        .map_err(|e| Error::new(e.code(), "send", e.to_string()))?;
    let key = id.map(|id| IdempotencyKey { id, hash: content_hash(kind, content) });
    Ok((packed, key))
}

/// The seed of the direct room of two users; of one, if both are the same.
pub(crate) fn direct_seed(a: &UserId, b: &UserId) -> RoomSeed {
    let mut members = vec![(a.clone(), Role::Member)];
    if a != b {
        members.push((b.clone(), Role::Member));
    }
    RoomSeed { kind: RoomKind::Direct, open: false, members }
}

/// The seed of a user's inbox.
pub(crate) fn inbox_seed(user: &UserId) -> RoomSeed {
    RoomSeed { kind: RoomKind::Inbox, open: false, members: vec![(user.clone(), Role::Reader)] }
}

//! The effect of an append on a room.
//!
//! Every store calls [`plan`] inside its commit and writes the result. So permissions, duplicates
//! and the next seq are decided in one place and at one moment.

use crate::code::Code;
use crate::id::{Epoch, EventKind, MessageId, RoomId, Seq, UserId};
use crate::time::Timestamp;
use crate::wire::{Content, Event, Limits, MemberChange, Role, RoomKind};

use super::dedup::{IdempotencyKey, IdempotencyRecord};
use super::room::{Membership, RoomRecord};

/// A request to append to a room's log.
#[derive(Debug, Clone)]
pub struct Append {
    /// The room.
    pub room: RoomId,
    /// The authority of the append.
    pub authority: Authority,
    /// The act.
    pub act: Act,
    /// The time at which the engine accepted it.
    pub at: Timestamp,
    /// The maximum number of members of the room.
    pub max_members: u32,
}

/// On whose authority an append is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authority {
    /// The service's, also where a hook allowed the act: only the room's own invariants are
    /// checked.
    Service,
    /// A user's: their membership and the room's kind decide, inside the commit.
    User(UserId),
}

/// The change that an append makes.
#[derive(Debug, Clone)]
pub enum Act {
    /// Append an event of the embedder or of a user.
    Post {
        /// The event.
        event: NewEvent,
        /// How to create the room if it does not exist, without an event of its own. For direct
        /// rooms and inboxes.
        seed: Option<RoomSeed>,
    },
    /// Create the room; its first event lists its members.
    Create {
        /// The creator.
        by: UserId,
        /// The properties of the room.
        seed: RoomSeed,
    },
    /// Change a membership.
    Change {
        /// The user that makes the change.
        by: UserId,
        /// The change.
        intent: Intent,
    },
}

/// An event without a position.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// The sender.
    pub from: UserId,
    /// The kind of the event.
    pub kind: EventKind,
    /// The content, after hooks.
    pub content: Content,
    /// The idempotency key. Without one, every append is a new one.
    pub idempotency_key: Option<IdempotencyKey>,
}

/// The properties of a new room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomSeed {
    /// Its kind.
    pub kind: RoomKind,
    /// Whether anyone may join.
    pub open: bool,
    /// Its first members, each user once.
    pub members: Vec<(UserId, Role)>,
}

/// A requested change of membership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intent {
    /// The actor becomes a member.
    Join,
    /// The actor leaves.
    Leave,
    /// Another user becomes a member, or gets another role.
    Add(UserId, Role),
    /// Another user is removed.
    Remove(UserId),
    /// Another user is removed and banned.
    Ban(UserId),
    /// The ban of another user is lifted.
    Unban(UserId),
}

/// The store's view of the room at the moment of the commit, including earlier appends of the same
/// batch.
pub trait View {
    /// The store's own error.
    type Error;
    /// Returns the room, if it exists.
    ///
    /// # Errors
    ///
    /// The store's read failed.
    fn room(&self, room: &RoomId) -> Result<Option<RoomRecord>, Self::Error>;
    /// Returns the membership of `user`.
    ///
    /// # Errors
    ///
    /// The store's read failed.
    fn membership(
        &self,
        room: &RoomRecord,
        user: &UserId,
    ) -> Result<Option<Membership>, Self::Error>;
    /// Returns whether the room has an owner other than `user`.
    ///
    /// # Errors
    ///
    /// The store's read failed.
    fn another_owner(&self, room: &RoomRecord, user: &UserId) -> Result<bool, Self::Error>;
    /// Returns the record of the send with this id, in the room's current incarnation.
    ///
    /// # Errors
    ///
    /// The store's read failed.
    fn idempotency_record(
        &self,
        room: &RoomRecord,
        sender: &UserId,
        id: &MessageId,
    ) -> Result<Option<IdempotencyRecord>, Self::Error>;
}

/// The decision about an append that is not refused.
#[derive(Debug, Clone)]
pub enum Plan {
    /// Write all of this in one commit.
    Commit(Box<Commit>),
    /// Write nothing: an earlier send did it, as recorded here.
    Duplicate {
        /// The room's epoch.
        epoch: Epoch,
        /// The record of the first send; for a membership that is already as requested, the head.
        record: IdempotencyRecord,
    },
}

/// Everything that one append writes.
#[derive(Debug, Clone)]
pub struct Commit {
    /// The event, with its position.
    pub event: Event,
    /// The room after it.
    pub room: RoomRecord,
    /// The memberships that change; `None` removes one.
    pub memberships: Vec<(UserId, Option<Membership>)>,
    /// The idempotency record, under (room, sender, id).
    pub send: Option<(MessageId, IdempotencyRecord)>,
}

/// The reason why an append was refused. Nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no such room.
    #[error("there is no such room")]
    NoSuchRoom,
    /// The room exists already.
    #[error("the room exists already")]
    Exists,
    /// A room with this id exists, and the actor may not learn more about it.
    #[error("this room id cannot be used; choose another")]
    IdTaken,
    /// The only owner would leave the other members without one.
    #[error(
        "you are the only owner of this room: make another member an owner first (member, act add, role owner)"
    )]
    LastOwner,
    /// The actor is not a member, and non-members do not learn that the room exists.
    #[error("there is no such room")]
    Stranger,
    /// The actor's role does not suffice.
    #[error("your role in this room does not allow that")]
    Role,
    /// The actor, or the user to be added, is banned.
    #[error("banned from this room")]
    Banned,
    /// The message id was used for other content.
    #[error("this message id was used for other content; choose a new one")]
    Conflict,
    /// The members of such a room cannot change.
    #[error("the members of a room of this kind cannot change")]
    FixedMembers,
    /// The room has reached its maximum number of members.
    #[error("the room has reached its maximum number of members")]
    Full,
    /// The room's log has reached the last seq but one: every event has a next seq.
    #[error("the room's log is full")]
    Exhausted,
    /// The id is reserved for erased users: no user can have it.
    #[error("this user id is reserved for erased users; use another")]
    Reserved,
    /// The import does not continue where its last part ended.
    #[error(
        "an import must continue where its last part ended, with each user, event and message id once"
    )]
    NotNext,
}

impl Refusal {
    /// The code of the refusal.
    pub const fn code(self) -> Code {
        match self {
            Self::NoSuchRoom | Self::Stranger => Code::NotFound,
            Self::Exists => Code::Exists,
            Self::Role | Self::FixedMembers | Self::Reserved | Self::IdTaken | Self::LastOwner => {
                Code::Forbidden
            }
            Self::Banned => Code::Banned,
            Self::Conflict => Code::Conflict,
            Self::Full | Self::Exhausted => Code::TooMany,
            Self::NotNext => Code::BadField,
        }
    }
}

/// The reason why there is no plan.
#[derive(Debug)]
pub enum PlanError<E> {
    /// The rules refuse the append.
    Refused(Refusal),
    /// The store could not read what the rules need.
    Store(E),
}

impl<E> From<Refusal> for PlanError<E> {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Decides what `append` does, based on `view`. `new_epoch` returns the epoch of a room that is
/// created.
///
/// The order of the decisions is part of the contract: a duplicate is recognised before membership
/// is checked.
///
/// # Errors
///
/// A [`Refusal`], or the view's own error.
pub fn plan<V: View>(
    append: &Append,
    view: &V,
    new_epoch: impl FnOnce() -> Epoch,
) -> Result<Plan, PlanError<V::Error>> {
    let room = view.room(&append.room).map_err(PlanError::Store)?;
    match &append.act {
        Act::Post { event, seed } => plan_post(append, event, seed.as_ref(), room, view, new_epoch),
        Act::Create { by, seed } => match room {
            Some(room) => plan_create_again(append, seed, &room, view),
            None => plan_create(append, by, seed, new_epoch),
        },
        Act::Change { by, intent } => {
            let room = room.ok_or(Refusal::NoSuchRoom)?;
            plan_change(append, by, intent, room, view)
        }
    }
}

fn plan_post<V: View>(
    append: &Append,
    new: &NewEvent,
    seed: Option<&RoomSeed>,
    room: Option<RoomRecord>,
    view: &V,
    new_epoch: impl FnOnce() -> Epoch,
) -> Result<Plan, PlanError<V::Error>> {
    let (room, memberships) = match (room, seed) {
        (Some(room), _) => {
            if let Some(key) = &new.idempotency_key
                && let Some(record) =
                    view.idempotency_record(&room, &new.from, &key.id).map_err(PlanError::Store)?
            {
                return duplicate(&room, key, record).map_err(PlanError::Refused);
            }
            if let Authority::User(user) = &append.authority {
                let membership = view.membership(&room, user).map_err(PlanError::Store)?;
                may_post(&room, membership)?;
            }
            (room, Vec::new())
        }
        (None, Some(seed)) => {
            if let Authority::User(user) = &append.authority
                && !seed
                    .members
                    .iter()
                    .any(|(member, role)| member == user && *role >= Role::Member)
            {
                return Err(Refusal::NoSuchRoom.into());
            }
            found(append, seed, new_epoch)?
        }
        (None, None) => return Err(Refusal::NoSuchRoom.into()),
    };
    let commit = commit(append, room, memberships, new.clone())?;
    Ok(Plan::Commit(Box::new(commit)))
}

fn duplicate(
    room: &RoomRecord,
    key: &IdempotencyKey,
    record: IdempotencyRecord,
) -> Result<Plan, Refusal> {
    if record.hash == key.hash {
        Ok(Plan::Duplicate { epoch: room.epoch, record })
    } else {
        Err(Refusal::Conflict)
    }
}

fn may_post(room: &RoomRecord, membership: Option<Membership>) -> Result<(), Refusal> {
    match membership {
        Some(Membership::Banned) => Err(Refusal::Banned),
        None if !room.open => Err(Refusal::Stranger),
        membership if room.may_write(membership) => Ok(()),
        _ => Err(Refusal::Role),
    }
}

fn plan_create<E>(
    append: &Append,
    by: &UserId,
    seed: &RoomSeed,
    new_epoch: impl FnOnce() -> Epoch,
) -> Result<Plan, PlanError<E>> {
    let (room, memberships) = found(append, seed, new_epoch)?;
    let changes: Vec<_> =
        seed.members.iter().map(|(user, role)| MemberChange::Joined(user.clone(), *role)).collect();
    let commit = commit(append, room, memberships, members_event(by, &changes)?)?;
    Ok(Plan::Commit(Box::new(commit)))
}

/// Decides about the creation of a room that exists.
///
/// If its owner requests what the room already is, the request counts as a retry, since the first
/// ack may have been lost. Members learn that the room exists; non-members of a closed room learn
/// only that its id cannot be used.
fn plan_create_again<V: View>(
    append: &Append,
    seed: &RoomSeed,
    room: &RoomRecord,
    view: &V,
) -> Result<Plan, PlanError<V::Error>> {
    let Authority::User(user) = &append.authority else { return Err(Refusal::Exists.into()) };
    let membership = |user| view.membership(room, user).map_err(PlanError::Store);
    match membership(user)? {
        None if !room.open => return Err(Refusal::IdTaken.into()),
        Some(Membership::Member(Role::Owner))
            if room.kind == seed.kind && room.open == seed.open => {}
        _ => return Err(Refusal::Exists.into()),
    }
    for (member, _) in &seed.members {
        if !is_member(membership(member)?) {
            return Err(Refusal::Exists.into());
        }
    }
    Ok(as_wished(append, room))
}

/// The result where nothing has to be written: the head.
fn as_wished(append: &Append, room: &RoomRecord) -> Plan {
    let record = IdempotencyRecord { seq: room.head, at: append.at, hash: Default::default() };
    Plan::Duplicate { epoch: room.epoch, record }
}

type Memberships = Vec<(UserId, Option<Membership>)>;

/// A room without events, and the memberships of its first members.
fn found(
    append: &Append,
    seed: &RoomSeed,
    new_epoch: impl FnOnce() -> Epoch,
) -> Result<(RoomRecord, Memberships), Refusal> {
    let members = u32::try_from(seed.members.len()).unwrap_or(u32::MAX);
    if members > append.max_members {
        return Err(Refusal::Full);
    }
    if seed.members.iter().any(|(user, _)| user.is_erased()) {
        return Err(Refusal::Reserved);
    }
    let room = RoomRecord {
        id: append.room.clone(),
        kind: seed.kind,
        open: seed.open,
        epoch: new_epoch(),
        head: Seq::ZERO,
        first: Seq::FIRST,
        created: append.at,
        members,
        bytes: 0,
        erased: 0,
    };
    let membership =
        |(user, role): &(UserId, Role)| (user.clone(), Some(Membership::Member(*role)));
    Ok((room, seed.members.iter().map(membership).collect()))
}

fn plan_change<V: View>(
    append: &Append,
    by: &UserId,
    intent: &Intent,
    mut room: RoomRecord,
    view: &V,
) -> Result<Plan, PlanError<V::Error>> {
    if let Authority::User(actor) = &append.authority
        && !room.open
        && view.membership(&room, actor).map_err(PlanError::Store)?.is_none()
    {
        // This check comes first, so that non-members learn neither whether a closed room exists
        // nor where its log ends.
        return Err(Refusal::Stranger.into());
    }
    if matches!(room.kind, RoomKind::Direct | RoomKind::Inbox) {
        return Err(Refusal::FixedMembers.into());
    }
    let target = intent.target().unwrap_or(by);
    let held = view.membership(&room, target).map_err(PlanError::Store)?;
    if let Authority::User(actor) = &append.authority {
        let actor = view.membership(&room, actor).map_err(PlanError::Store)?;
        may_change(&room, intent, actor, held)?;
    }
    let Some((change, membership)) = effect(&room, by, intent, held)? else {
        return Ok(as_wished(append, &room));
    };
    // Only a user who gives up their own ownership is checked; a removal by the service is the
    // service's decision.
    let resigns = target == by && is_owner(held) && !is_owner(membership);
    if resigns && room.members > 1 && !view.another_owner(&room, by).map_err(PlanError::Store)? {
        return Err(Refusal::LastOwner.into());
    }
    let (was, is) = (is_member(held), is_member(membership));
    if is && !was {
        if room.members >= append.max_members {
            return Err(Refusal::Full.into());
        }
        room.members += 1;
    } else if was && !is {
        room.members = room.members.saturating_sub(1);
    }
    let memberships = vec![(target.clone(), membership)];
    let commit = commit(append, room, memberships, members_event(by, &[change])?)?;
    Ok(Plan::Commit(Box::new(commit)))
}

const fn is_member(membership: Option<Membership>) -> bool {
    matches!(membership, Some(Membership::Member(_)))
}

const fn is_owner(membership: Option<Membership>) -> bool {
    matches!(membership, Some(Membership::Member(Role::Owner)))
}

/// Checks whether a user with membership `actor` may do this to a user with membership `held`.
fn may_change(
    room: &RoomRecord,
    intent: &Intent,
    actor: Option<Membership>,
    held: Option<Membership>,
) -> Result<(), Refusal> {
    let role = match actor {
        Some(Membership::Member(role)) => Some(role),
        Some(Membership::Banned) => return Err(Refusal::Banned),
        _ => None,
    };
    let target_role = if let Some(Membership::Member(role)) = held { Some(role) } else { None };
    match (intent, role) {
        (Intent::Leave, _) | (Intent::Join, Some(_)) => Ok(()),
        (Intent::Join, None) if room.open => Ok(()),
        (_, None) if !room.open => Err(Refusal::Stranger),
        // The actor's role must be above the assigned role and above the target's role; owners may
        // assign any.
        (Intent::Add(_, given), Some(role)) => {
            let above = role > *given && target_role.is_none_or(|target| role > target);
            if role >= Role::Moderator && (above || role == Role::Owner) {
                Ok(())
            } else {
                Err(Refusal::Role)
            }
        }
        (Intent::Remove(_) | Intent::Ban(_) | Intent::Unban(_), Some(role)) => {
            let above = target_role.is_none_or(|target| role > target);
            if role >= Role::Moderator && above { Ok(()) } else { Err(Refusal::Role) }
        }
        _ => Err(Refusal::Role),
    }
}

type Effect = Option<(MemberChange, Option<Membership>)>;

/// The effect; `None` if everything is already as requested.
fn effect(
    room: &RoomRecord,
    by: &UserId,
    intent: &Intent,
    held: Option<Membership>,
) -> Result<Effect, Refusal> {
    let into = |user: &UserId, role: Role| {
        let membership = Some(Membership::Member(role));
        Some((MemberChange::Joined(user.clone(), role), membership))
    };
    if matches!(intent, Intent::Join | Intent::Add(..) | Intent::Ban(_))
        && intent.target().unwrap_or(by).is_erased()
    {
        return Err(Refusal::Reserved);
    }
    Ok(match (intent, held) {
        (Intent::Join, Some(Membership::Member(_))) => None,
        (Intent::Join | Intent::Add(..), Some(Membership::Banned)) => return Err(Refusal::Banned),
        (Intent::Join, None) => into(by, room.joining_role()),
        (Intent::Add(_, role), Some(Membership::Member(held))) if *role == held => None,
        (Intent::Add(user, role), _) => into(user, *role),
        (Intent::Leave, Some(Membership::Member(_))) => {
            Some((MemberChange::Left(by.clone()), None))
        }
        (Intent::Leave, _) => None,
        (Intent::Remove(user), Some(Membership::Member(_))) => {
            Some((MemberChange::Removed(user.clone()), None))
        }
        (Intent::Remove(_), _) => None,
        (Intent::Ban(_), Some(Membership::Banned)) => None,
        (Intent::Ban(user), _) => {
            Some((MemberChange::Banned(user.clone()), Some(Membership::Banned)))
        }
        (Intent::Unban(user), Some(Membership::Banned)) => {
            Some((MemberChange::Unbanned(user.clone()), None))
        }
        (Intent::Unban(_), _) => None,
    })
}

impl Intent {
    /// The user concerned, if it is not the actor.
    pub fn target(&self) -> Option<&UserId> {
        match self {
            Self::Join | Self::Leave => None,
            Self::Add(user, _) | Self::Remove(user) | Self::Ban(user) | Self::Unban(user) => {
                Some(user)
            }
        }
    }
}

fn members_event(by: &UserId, changes: &[MemberChange]) -> Result<NewEvent, Refusal> {
    // One entry has at most about 100 bytes, and the number of members is bounded.
    let limits =
        Limits { max_content_bytes: usize::MAX, max_values: usize::MAX, ..Limits::default() };
    let content =
        Content::new(&MemberChange::list_to_value(changes), &limits).map_err(|_| Refusal::Full)?;
    Ok(NewEvent { from: by.clone(), kind: EventKind::members(), content, idempotency_key: None })
}

fn commit(
    append: &Append,
    mut room: RoomRecord,
    memberships: Vec<(UserId, Option<Membership>)>,
    new: NewEvent,
) -> Result<Commit, Refusal> {
    let seq = room.head.next();
    if seq >= Seq::MAX {
        return Err(Refusal::Exhausted);
    }
    room.head = seq;
    room.bytes = room.bytes.saturating_add(new.content.packed().len() as u64);
    let (id, send) = match new.idempotency_key {
        Some(IdempotencyKey { id, hash }) => {
            (Some(id.clone()), Some((id, IdempotencyRecord { seq, at: append.at, hash })))
        }
        None => (None, None),
    };
    let event = Event {
        room: room.id.clone(),
        epoch: room.epoch,
        seq,
        from: new.from,
        at: append.at,
        kind: new.kind,
        id,
        content: new.content,
    };
    Ok(Commit { event, room, memberships, send })
}

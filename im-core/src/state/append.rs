//! What an append does to a room. Every store calls [`plan`] inside its commit and writes what it says, so that who
//! may, what is a duplicate, and which seq comes next are decided in one place and at one moment.

use crate::code::Code;
use crate::id::{Epoch, EventKind, MessageId, RoomId, Seq, UserId};
use crate::time::Timestamp;
use crate::wire::{Content, Event, Limits, MemberChange, Role, RoomKind};

use super::dedup::{IdempotencyKey, IdempotencyRecord};
use super::room::{Membership, RoomRecord};

/// Something to be added to a room's log.
#[derive(Debug, Clone)]
pub struct Append {
    /// The room.
    pub room: RoomId,
    /// On whose authority.
    pub authority: Authority,
    /// What.
    pub act: Act,
    /// When the engine accepted it.
    pub at: Timestamp,
    /// How many members the room may have.
    pub max_members: u32,
}

/// On whose authority an append is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authority {
    /// The service's, also where a hook has allowed the act: only what would break the room is checked.
    Service,
    /// This user's: their membership and the room's kind decide, in the commit.
    User(UserId),
}

/// What is done.
#[derive(Debug, Clone)]
pub enum Act {
    /// An event of the embedder's or the users' own.
    Post {
        /// The event.
        event: NewEvent,
        /// How to make the room if there is none, without an event of its own. For direct rooms and inboxes.
        seed: Option<RoomSeed>,
    },
    /// Make the room; its first event tells who is in it.
    Create {
        /// Who makes it.
        by: UserId,
        /// What it is to be.
        seed: RoomSeed,
    },
    /// Change who is in it.
    Change {
        /// Who does it.
        by: UserId,
        /// What becomes of whom.
        intent: Intent,
    },
}

/// An event that has no place yet.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// Who sends it.
    pub from: UserId,
    /// What sort of event.
    pub kind: EventKind,
    /// What it says, after hooks.
    pub content: Content,
    /// What makes a retry a retry. Without it every append is a new one.
    pub idempotency_key: Option<IdempotencyKey>,
}

/// What a new room is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomSeed {
    /// Its kind.
    pub kind: RoomKind,
    /// Whether anyone may join.
    pub open: bool,
    /// Its first members. Each user once.
    pub members: Vec<(UserId, Role)>,
}

/// A wish about membership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intent {
    /// The actor comes in.
    Join,
    /// The actor goes out.
    Leave,
    /// Another comes in, or gets another role.
    Add(UserId, Role),
    /// Another goes out.
    Remove(UserId),
    /// Another goes out and stays out.
    Ban(UserId),
    /// Another may come back.
    Unban(UserId),
}

/// What a store knows about the room at the moment of the commit, earlier appends of the same batch included.
pub trait View {
    /// The store's own error.
    type Error;
    /// The room, if it exists.
    ///
    /// # Errors
    ///
    /// The store could not say.
    fn room(&self, room: &RoomId) -> Result<Option<RoomRecord>, Self::Error>;
    /// How `user` stands to the room.
    ///
    /// # Errors
    ///
    /// The store could not say.
    fn membership(
        &self,
        room: &RoomRecord,
        user: &UserId,
    ) -> Result<Option<Membership>, Self::Error>;
    /// Whether a member beside `user` is an owner of the room.
    ///
    /// # Errors
    ///
    /// The store could not say.
    fn another_owner(&self, room: &RoomRecord, user: &UserId) -> Result<bool, Self::Error>;
    /// The send that was made under this id, in the room's present incarnation.
    ///
    /// # Errors
    ///
    /// The store could not say.
    fn idempotency_record(
        &self,
        room: &RoomRecord,
        sender: &UserId,
        id: &MessageId,
    ) -> Result<Option<IdempotencyRecord>, Self::Error>;
}

/// What to write.
#[derive(Debug, Clone)]
pub enum Plan {
    /// Write all of this in one commit.
    Commit(Box<Commit>),
    /// Write nothing: it was done before, there.
    Duplicate {
        /// The room's epoch.
        epoch: Epoch,
        /// The first send's record; for a membership that is as wished already, the head.
        record: IdempotencyRecord,
    },
}

/// All that one append writes.
#[derive(Debug, Clone)]
pub struct Commit {
    /// The event, with its place.
    pub event: Event,
    /// The room after it.
    pub room: RoomRecord,
    /// The memberships that change; `None` removes one.
    pub memberships: Vec<(UserId, Option<Membership>)>,
    /// The dedup record, under (room, sender, id).
    pub send: Option<(MessageId, IdempotencyRecord)>,
}

/// Why an append was refused. Nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no such room.
    #[error("there is no such room")]
    NoSuchRoom,
    /// The room exists already.
    #[error("the room exists already")]
    Exists,
    /// A room of this id exists, and the actor may not know more of it.
    #[error("this room id cannot be used; choose another")]
    IdTaken,
    /// The only owner would leave others behind.
    #[error(
        "you are the only owner of this room: make another member an owner first (member, act add, role owner)"
    )]
    LastOwner,
    /// The actor is not in the room, and strangers are not told that it exists.
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
    #[error("the members of such a room do not change")]
    FixedMembers,
    /// The room has as many members as it may have.
    #[error("the room has as many members as it may have")]
    Full,
    /// The room's log has reached the last seq but one: what comes behind an event can always be told.
    #[error("the room's log is full")]
    Exhausted,
    /// The id stands for users who were erased: nobody can have it.
    #[error("this user id stands for users who were erased; nobody can have it")]
    Reserved,
    /// What is imported does not go on from what was imported before.
    #[error(
        "what is imported must go on from what was imported before, each user, event and message id once"
    )]
    NotNext,
}

impl Refusal {
    /// The code to answer with.
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

/// Why there is no plan.
#[derive(Debug)]
pub enum PlanError<E> {
    /// The rules refuse it.
    Refused(Refusal),
    /// The store could not say what the rules need to know.
    Store(E),
}

impl<E> From<Refusal> for PlanError<E> {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Decides what `append` does, given what `view` knows. `fresh` gives the epoch for a room that is made.
///
/// The order of the decisions is part of the contract: a duplicate is recognised before membership is looked at.
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

/// Decides about a room that is to be made and exists. Its owner, who asks for what it is already, is answered as if asking
/// again, since the first answer may have been lost. Members learn that it exists, and strangers to a closed room no more than
/// that its id cannot be used.
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

/// The answer where nothing is to be written: the head.
fn as_wished(append: &Append, room: &RoomRecord) -> Plan {
    let record = IdempotencyRecord { seq: room.head, at: append.at, hash: Default::default() };
    Plan::Duplicate { epoch: room.epoch, record }
}

type Memberships = Vec<(UserId, Option<Membership>)>;

/// A room with no event yet, and the memberships of its first members.
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
        // Before anything else, so that strangers do not learn whether a closed room exists, nor where its log ends.
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
    // Who gives up a role of their own; what the service takes from somebody is its own decision.
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

/// Whether somebody who stands like `actor` may do this to somebody who stands like `held`.
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
        // A role may be given by those who stand above it and above whoever gets it; owners may give any.
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

/// What changes; `None` if everything is as wished already.
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
    /// Whom it is about, if it is not the actor.
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
    // One entry has at most some 100 bytes, and the number of members is bounded.
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

//! The game in the engine. Hits are durable events of one room. The game subscribes to that room,
//! applies them, and publishes hit points and ranking as keyed state (latest wins).

use std::time::Duration;

use futures::FutureExt;
use im_core::engine::{Engine, Publish};
use im_core::id::Cursor;
use im_core::state::RoomSeed;
use im_core::wire::{Event, Map, PageFrom, Push, Role, RoomKind, Target, Value};
use im_core::{Code, Error, EventKind, MessageId, Result, RoomId, Seq, StateKey, UserId};
use tokio::time::Instant;

use crate::game::{Battle, FAMILIES, Hit, family};
use crate::late::Late;

/// The room of the battle.
pub const BATTLE: &str = "battle";
/// The user that the game sends as. Players cannot authenticate as it.
pub const GAME: &str = "the-game";
/// The kind of event that is a hit.
pub const HIT: &str = "hit";
const SLAIN: &str = "slain";
const APPEARS: &str = "appears";

/// How long to wait before a retry at a busy store.
const BUSY: Duration = Duration::from_millis(200);

/// The rooms, kinds and keys of the battle in an engine.
#[derive(Debug, Clone)]
pub struct Arena {
    engine: Engine,
    room: RoomId,
    game: UserId,
    hit: EventKind,
    slain: EventKind,
    appears: EventKind,
    hp: StateKey,
    ranking: StateKey,
    late: StateKey,
}

impl Arena {
    /// Creates the rooms of the battle and of the families, unless they exist.
    ///
    /// # Errors
    ///
    /// Errors of the store.
    pub async fn open(engine: Engine) -> Result<Self> {
        let bad = |e| Error::of(Code::BadField, "name").because(e);
        let arena = Self {
            engine,
            room: RoomId::new(BATTLE).map_err(bad)?,
            game: UserId::new(GAME).map_err(bad)?,
            hit: EventKind::new(HIT).map_err(bad)?,
            slain: EventKind::new(SLAIN).map_err(bad)?,
            appears: EventKind::new(APPEARS).map_err(bad)?,
            hp: StateKey::new("hp").map_err(bad)?,
            ranking: StateKey::new("ranking").map_err(bad)?,
            late: StateKey::new("late").map_err(bad)?,
        };
        arena.make(&arena.room).await?;
        for family in FAMILIES {
            arena.make(&RoomId::new(format!("family:{family}")).map_err(bad)?).await?;
        }
        Ok(arena)
    }

    async fn make(&self, room: &RoomId) -> Result<()> {
        let members = vec![(self.game.clone(), Role::Owner)];
        let seed = RoomSeed { kind: RoomKind::Group, open: true, members };
        match self.engine.create_room(room.clone(), seed, &self.game).await {
            Err(e) if e.code() != Code::Exists => Err(e),
            _ => Ok(()),
        }
    }

    /// The room of the battle.
    pub fn room(&self) -> &RoomId {
        &self.room
    }

    /// The kind of event that is a hit.
    pub fn hit_kind(&self) -> &EventKind {
        &self.hit
    }

    /// Runs the battle from the start of its log until the engine drains. `respawn` is the time
    /// between the fall of a monster and the next one.
    ///
    /// # Errors
    ///
    /// If the subscription fails, or the store cannot keep an event.
    pub async fn run(self, respawn: Duration) -> Result<()> {
        match self.play(respawn).await {
            Err(error) if error.code() == Code::Draining => Ok(()),
            ended => ended,
        }
    }

    async fn play(&self, respawn: Duration) -> Result<()> {
        let page = self.engine.history(&self.room, PageFrom::After(Seq::ZERO), 1).await?;
        let start = Cursor { epoch: page.epoch, seq: Seq::ZERO };
        let mut room = self.engine.subscribe(&self.room, Some(start)).await?;
        let (mut battle, mut late) = (Battle::default(), Late::default());
        // Announcements of fallen monsters are sent again with the same ids, so they are
        // duplicates.
        while battle.applied < page.head.get() {
            let Some(push) = room.next().await else { return Ok(()) };
            self.take(&mut battle, &mut late, &push);
        }
        tracing::info!(events = battle.applied, monster = battle.monster(), "the battle is on");
        let (mut told, mut called) = (0, None);
        let mut published = None;
        loop {
            // Published state is pushed back here as well and changes nothing.
            if published != Some(battle.applied) {
                while busy(self.publish(&battle, &mut late).await).await? {}
                published = Some(battle.applied);
            }
            if battle.is_down() && told != battle.number {
                while busy(self.announce_the_fall(&battle).await).await? {}
                (told, called) = (battle.number, Some(Instant::now() + respawn));
            }
            let push = tokio::select! {
                push = room.next() => push,
                () = at(called) => {
                    called = None;
                    while busy(self.call_the_next(&battle).await).await? {}
                    continue;
                }
            };
            let Some(push) = push else { return Ok(()) };
            self.take(&mut battle, &mut late, &push);
            // Pushes that are ready are applied together, for one update.
            while let Some(Some(push)) = room.next().now_or_never() {
                self.take(&mut battle, &mut late, &push);
            }
        }
    }

    fn take(&self, battle: &mut Battle, late: &mut Late, push: &Push) {
        let Push::Event(event) = push else { return };
        let seq = event.seq.get();
        if event.kind == self.appears && event.from == self.game {
            battle.appear(seq);
        } else if let Some(family) = self.family_of(event) {
            battle.hit(Hit { seq, by: event.from.as_str(), family });
            late.asked(event.content.value().get("late") == Some(&Value::Bool(true)));
        } else {
            battle.pass(seq);
        }
    }

    fn family_of(&self, event: &Event) -> Option<usize> {
        let content = (event.kind == self.hit).then(|| event.content.value())?;
        family(content.get("family")?.as_text()?)
    }

    async fn publish(&self, battle: &Battle, late: &mut Late) -> Result<()> {
        for (key, value) in [(&self.hp, hp_of(battle)), (&self.ranking, ranking_of(battle))] {
            let stamp =
                self.engine.put_state(&self.room, key, Some(&value), &self.game, None).await?;
            late.remember(key.clone(), value, stamp);
        }
        let sent = late.resend(&self.engine, &self.room, &self.game).await?;
        if sent > 0 {
            let told = late.value();
            self.engine.put_state(&self.room, &self.late, Some(&told), &self.game, None).await?;
        }
        Ok(())
    }

    /// Publishes an event in the log, and a message in each family's room.
    async fn announce_the_fall(&self, battle: &Battle) -> Result<()> {
        let leader = FAMILIES[battle.leader()];
        let by = battle.last.as_ref().map_or(GAME, |blow| blow.by.as_str());
        let content = Map::from_iter([
            ("monster", Value::from(battle.monster())),
            ("number", battle.number.into()),
            ("by", by.into()),
            ("family", leader.into()),
        ]);
        self.say(battle, Target::Room(self.room.clone()), &self.slain, content).await?;
        // Ids have underscores instead of spaces.
        let by = by.replace('_', " ");
        for (family, damage) in FAMILIES.iter().zip(battle.families) {
            let text = format!(
                "{} is slain! The last blow was {by}'s, the trophy goes to the {leader}. You did {damage} damage.",
                battle.monster()
            );
            let Ok(room) = RoomId::new(format!("family:{family}")) else { continue };
            let content = Map::from_iter([("text", text)]);
            self.say(battle, Target::Room(room), &EventKind::message(), content).await?;
        }
        Ok(())
    }

    /// Publishes the appearance of the next monster, which takes effect when the event is applied.
    async fn call_the_next(&self, battle: &Battle) -> Result<()> {
        let content = Map::from_iter([("number", battle.number.saturating_add(1))]);
        self.say(battle, Target::Room(self.room.clone()), &self.appears, content).await
    }

    /// Publishes an event once per monster.
    async fn say(&self, battle: &Battle, to: Target, kind: &EventKind, content: Map) -> Result<()> {
        let id = MessageId::new(format!("monster-{:010}-{kind}", battle.number))
            .map_err(|e| Error::of(Code::BadField, "name").because(e))?;
        let (from, kind) = (self.game.clone(), kind.clone());
        let said = Publish { to, from, kind, content: content.into(), id: Some(id) };
        self.engine.publish(said).await.map(drop)
    }
}

/// Returns whether to retry. Pauses if the store is busy.
async fn busy(done: Result<()>) -> Result<bool> {
    match done {
        Err(error) if error.is_retryable() && error.code() != Code::Draining => {
            tracing::warn!(%error, "the store is busy; retrying in 200 ms");
            tokio::time::sleep(BUSY).await;
            Ok(true)
        }
        done => done.map(|()| false),
    }
}

/// Waits until that time, or for ever if there is none.
async fn at(then: Option<Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then).await,
        None => std::future::pending().await,
    }
}

fn hp_of(battle: &Battle) -> Value {
    let last = battle.last.as_ref().map_or(Value::Null, |blow| {
        Map::from_iter([
            ("by", Value::from(blow.by.as_str())),
            ("family", FAMILIES[blow.family].into()),
            ("damage", blow.damage.into()),
            ("critical", blow.critical.into()),
        ])
        .into()
    });
    Map::from_iter([
        ("monster", Value::from(battle.monster())),
        ("number", battle.number.into()),
        ("hp", battle.hp.into()),
        ("max", battle.max_hp().into()),
        ("applied", (battle.applied as i64).into()),
        ("last", last),
    ])
    .into()
}

fn ranking_of(battle: &Battle) -> Value {
    let families: Vec<Value> = (0..FAMILIES.len())
        .map(|family| {
            Map::from_iter([
                ("family", Value::from(FAMILIES[family])),
                ("damage", battle.families[family].into()),
                ("trophies", battle.trophies[family].into()),
            ])
            .into()
        })
        .collect();
    let players: Vec<Value> = battle
        .ranking()
        .into_iter()
        .map(|rank| {
            Map::from_iter([
                ("name", Value::from(rank.name)),
                ("family", FAMILIES[rank.family].into()),
                ("damage", rank.damage.into()),
            ])
            .into()
        })
        .collect();
    Map::from_iter([
        ("families", Value::from(families)),
        ("players", players.into()),
        ("applied", (battle.applied as i64).into()),
    ])
    .into()
}

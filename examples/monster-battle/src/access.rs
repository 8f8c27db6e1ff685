//! Access rules. Any name is accepted except those of the game and its bots, and only the game
//! writes hit points, ranking and the fall of a monster.

use async_trait::async_trait;
use im_core::ports::{
    Action, AllowAnonymous, Authenticator, Credentials, Hooks, Identity, Verdict,
};
use im_core::wire::{Target, Value};
use im_core::{Code, Error, Result};

use crate::arena::{BATTLE, GAME, HIT};
use crate::bots;
use crate::game;

/// Accepts any name that is not the game's or a bot's.
#[derive(Debug, Clone, Copy)]
pub struct Players;

#[async_trait]
impl Authenticator for Players {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Identity> {
        let identity = AllowAnonymous.authenticate(credentials).await?;
        let name = identity.user.as_str();
        if name == GAME || bots::is_bot(name) {
            let words = "this name is reserved; choose another";
            return Err(Error::new(Code::BadCredentials, "authenticate", words));
        }
        Ok(identity)
    }
}

/// Refuses actions that players may not take.
#[derive(Debug, Clone, Copy)]
pub struct Rules;

#[async_trait]
impl Hooks for Rules {
    async fn before(&self, _: &Identity, action: &Action) -> Verdict {
        let refused = match action {
            Action::PutState { .. } => "only the game writes hit points and ranking",
            Action::Create { .. } => "the rooms of this game exist already",
            Action::Send { to: Target::Room(room), kind, content, .. }
                if room.as_str() == BATTLE =>
            {
                match kind.as_str() == HIT && is_hit(content) {
                    true => return Verdict::Default,
                    false => "only hits are allowed in the battle: {\"family\": …}",
                }
            }
            _ => return Verdict::Default,
        };
        Verdict::Refuse(refused.into())
    }
}

fn is_hit(content: &Value) -> bool {
    content.get("family").and_then(Value::as_text).and_then(game::family).is_some()
}

#[cfg(test)]
mod tests {
    use im_core::wire::Map;
    use im_core::{EventKind, MessageId, RoomId, StateKey, UserId};

    use super::*;

    async fn verdict(action: &Action) -> Verdict {
        let ada = Identity::of(UserId::new("ada").unwrap());
        Rules.before(&ada, action).await
    }

    fn send(room: &str, kind: &str, family: &str) -> Action {
        Action::Send {
            to: Target::Room(RoomId::new(room).unwrap()),
            id: MessageId::now_v7(),
            kind: EventKind::new(kind).unwrap(),
            content: Map::from_iter([("family", family)]).into(),
        }
    }

    #[tokio::test]
    async fn players_may_only_strike_and_chat() {
        assert_eq!(verdict(&send(BATTLE, HIT, "otters")).await, Verdict::Default);
        assert_eq!(verdict(&send("family:otters", "message", "")).await, Verdict::Default);
        let (room, key) = (RoomId::new(BATTLE).unwrap(), StateKey::new("hp").unwrap());
        let forbidden = [
            send(BATTLE, HIT, "dragons"),
            send(BATTLE, "slain", "otters"),
            send(BATTLE, "appears", "otters"),
            Action::PutState { room, key, stamped: true },
        ];
        for action in &forbidden {
            assert!(matches!(verdict(action).await, Verdict::Refuse(_)), "{action:?}");
        }
    }

    /// A player cannot authenticate as the game or as a bot.
    #[tokio::test]
    async fn reserved_names_are_refused() {
        let come_in = async |name: &str| {
            let claimed_user = Some(UserId::new(name).unwrap());
            let credentials = Credentials { claimed_user, ..Credentials::default() };
            Players.authenticate(&credentials).await.map_err(|error| error.code())
        };
        assert_eq!(come_in(GAME).await, Err(Code::BadCredentials));
        assert_eq!(come_in("Bramble").await, Err(Code::BadCredentials));
        assert_eq!(come_in("ada").await.unwrap().user.as_str(), "ada");
    }
}

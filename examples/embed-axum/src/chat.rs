//! The embedding: the shop's whole use of the engine.

use std::sync::Arc;

use async_trait::async_trait;
use im_core::engine::{Engine, Publish};
use im_core::ports::{Authenticator, Clock, Credentials, Identity, SystemClock};
use im_core::state::RoomSeed;
use im_core::wire::{AppendAck, Event, Map, Push, Role, RoomKind, Target};
use im_core::{Code, Error, EventKind, MessageId, Result, RoomId, UserId};

use crate::accounts::Accounts;
use crate::orders::{Order, Orders};

/// The message that the clerk answers.
const QUESTION: &str = "how many orders?";

/// The engine, and the ids that the shop uses in it.
#[derive(Clone)]
pub struct Chat {
    /// The engine. Clones are handles to one engine.
    pub engine: Engine,
    /// The team's room.
    pub team: RoomId,
    /// The user that the shop sends as. Nobody can log in as it.
    pub clerk: UserId,
}

impl Chat {
    /// Starts the engine, and creates the team's room with all users as members.
    ///
    /// # Errors
    ///
    /// If the engine cannot start.
    pub async fn open(accounts: Arc<Accounts>) -> Result<Self> {
        // Without `.store(…)` data is kept in memory. `SqliteStore` of im-store-sql keeps it in a
        // file.
        let engine =
            Engine::builder().authenticator(Arc::new(ShopCookie(accounts))).start().await?;
        let name = |e| Error::of(Code::BadField, "name").because(e);
        let chat = Self {
            engine,
            team: RoomId::new("team").map_err(name)?,
            clerk: UserId::new("clerk").map_err(name)?,
        };
        chat.make_team_room().await?;
        Ok(chat)
    }

    async fn make_team_room(&self) -> Result<()> {
        let mut members: Vec<_> = Accounts::users().map(|user| (user, Role::Member)).collect();
        members.push((self.clerk.clone(), Role::Owner));
        let seed = RoomSeed { kind: RoomKind::Group, open: false, members };
        match self.engine.create_room(self.team.clone(), seed, &self.clerk).await {
            Err(e) if e.code() != Code::Exists => Err(e),
            _ => Ok(()),
        }
    }

    /// Publishes an order in the team's room.
    ///
    /// Idempotent after an error or a crash, because the message id belongs to the order.
    ///
    /// # Errors
    ///
    /// If the store cannot append now.
    pub async fn announce(&self, order: &Order) -> Result<AppendAck> {
        let text = format!("Order {}: {} (for {})", order.number, order.item, order.by);
        self.say(text, Some(order.message.clone())).await
    }

    async fn say(&self, text: String, id: Option<MessageId>) -> Result<AppendAck> {
        let content = Map::from_iter([("text", text), ("name", "Clerk".to_owned())]).into();
        let (to, from) = (Target::Room(self.team.clone()), self.clerk.clone());
        self.engine.publish(Publish { to, from, kind: EventKind::message(), content, id }).await
    }
}

/// Credentials of the engine: the shop's session cookie, which the browser sends with the WebSocket
/// handshake.
struct ShopCookie(Arc<Accounts>);

#[async_trait]
impl Authenticator for ShopCookie {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Identity> {
        let refuse = |code| Error::of(code, "authenticate");
        let cookies = credentials.cookie.as_ref().ok_or_else(|| refuse(Code::Unauthenticated))?;
        let login = self.0.find(cookies.expose()).ok_or_else(|| refuse(Code::BadCredentials))?;
        if login.expires <= SystemClock.now() {
            return Err(refuse(Code::Expired));
        }
        // The engine ends the connection when the login expires.
        Ok(Identity { expires: Some(login.expires), ..Identity::of(login.user) })
    }
}

/// The clerk: subscribes to the team's room and answers one question. Ends when the engine drains.
///
/// # Errors
///
/// If the subscription fails.
pub async fn clerk(chat: Chat, orders: Arc<Orders>) -> Result<()> {
    // From the head: questions asked while the shop was down stay unanswered. Where every event
    // matters, store the cursor of the last processed event and subscribe from it.
    let mut room = chat.engine.subscribe(&chat.team, None).await?;
    while let Some(push) = room.next().await {
        let Push::Event(event) = push else { continue };
        if asks(&event) && event.from != chat.clerk {
            let answer = format!("{} so far.", orders.count());
            if let Err(error) = chat.say(answer, None).await {
                tracing::warn!(%error, "the clerk could not answer");
            }
        }
    }
    Ok(())
}

fn asks(event: &Event) -> bool {
    event.kind == EventKind::message()
        && event.content.value().get("text").and_then(|text| text.as_text()) == Some(QUESTION)
}

//! A small shop with users, login and routes of its own that mounts the engine beside them. README.md walks through it.
//!
//! | module | what it holds | who wrote it |
//! |---|---|---|
//! | [`accounts`] | users, login, the session cookie | the shop, before there was a chat |
//! | [`orders`] | the orders | the shop, before there was a chat |
//! | [`chat`] | the engine, the cookie as credentials, a message for each order, the clerk that answers | the embedding |
//! | [`routes`] | pages and routes of both | the shop; four lines are new |

pub mod accounts;
pub mod chat;
pub mod orders;
pub mod routes;

use std::sync::Arc;

use im_core::Result;

use accounts::Accounts;
use chat::Chat;
use orders::Orders;

/// What the handlers share.
#[derive(Clone)]
pub struct Shop {
    /// Who is logged in.
    pub accounts: Arc<Accounts>,
    /// What was ordered.
    pub orders: Arc<Orders>,
    /// The engine and what belongs to it.
    pub chat: Chat,
}

impl Shop {
    /// Starts the engine and makes the team's room. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// If the engine cannot start.
    pub async fn open() -> Result<Self> {
        let accounts = Arc::new(Accounts::default());
        let orders = Arc::new(Orders::default());
        let chat = Chat::open(Arc::clone(&accounts)).await?;
        Ok(Self { accounts, orders, chat })
    }
}

//! A small shop with users, login and routes of its own that mounts the engine. See README.md.
//!
//! | module | what it holds | origin |
//! |---|---|---|
//! | [`accounts`] | users, login, the session cookie | the shop, before the chat |
//! | [`orders`] | the orders | the shop, before the chat |
//! | [`chat`] | the engine, the cookie as credentials, order messages, the clerk | the embedding |
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

/// State shared by the handlers.
#[derive(Clone)]
pub struct Shop {
    /// Current logins.
    pub accounts: Arc<Accounts>,
    /// The orders.
    pub orders: Arc<Orders>,
    /// The engine and its ids.
    pub chat: Chat,
}

impl Shop {
    /// Starts the engine and creates the team's room. Needs a tokio runtime.
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

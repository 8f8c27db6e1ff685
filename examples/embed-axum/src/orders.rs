//! The shop's own business: orders.

use im_core::{MessageId, UserId};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

const MOST_ORDERS: usize = 10_000;
const LONGEST_ITEM: usize = 200;

/// What somebody wants.
#[derive(Debug, Clone, Deserialize)]
pub struct NewOrder {
    /// In words.
    pub item: String,
}

/// What somebody has ordered.
#[derive(Debug, Clone, Serialize)]
pub struct Order {
    /// 1, 2, 3 …
    pub number: usize,
    /// In words.
    pub item: String,
    /// Who ordered.
    pub by: UserId,
    /// Under which id the team is told. It belongs to the order, so that telling it again tells it once.
    #[serde(skip)]
    pub message: MessageId,
}

/// All orders, oldest first.
#[derive(Default)]
pub struct Orders(Mutex<Vec<Order>>);

impl Orders {
    /// Takes an order.
    ///
    /// # Errors
    ///
    /// Words for the customer.
    pub fn place(&self, new: NewOrder, by: UserId) -> Result<Order, &'static str> {
        let item = new.item.trim().to_owned();
        if item.is_empty() || item.len() > LONGEST_ITEM {
            return Err("say what you want in 1 to 200 bytes");
        }
        let mut orders = self.0.lock();
        if orders.len() >= MOST_ORDERS {
            return Err("the shop is sold out");
        }
        let order = Order { number: orders.len() + 1, item, by, message: MessageId::now_v7() };
        orders.push(order.clone());
        Ok(order)
    }

    /// All of them.
    pub fn all(&self) -> Vec<Order> {
        self.0.lock().clone()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.lock().len()
    }
}

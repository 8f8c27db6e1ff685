//! The shop's own domain: orders.

use im_core::{MessageId, UserId};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

const MOST_ORDERS: usize = 10_000;
const LONGEST_ITEM: usize = 200;

/// A requested order.
#[derive(Debug, Clone, Deserialize)]
pub struct NewOrder {
    /// The item, as free text.
    pub item: String,
}

/// A placed order.
#[derive(Debug, Clone, Serialize)]
pub struct Order {
    /// The number of the order: 1, 2, 3 …
    pub number: usize,
    /// The item, as free text.
    pub item: String,
    /// The customer.
    pub by: UserId,
    /// Id of the message to the team. It belongs to the order, so a repeated send is a duplicate.
    #[serde(skip)]
    pub message: MessageId,
}

/// All orders, oldest first.
#[derive(Default)]
pub struct Orders(Mutex<Vec<Order>>);

impl Orders {
    /// Places an order.
    ///
    /// # Errors
    ///
    /// The text of the refusal, for the customer.
    pub fn place(&self, new: NewOrder, by: UserId) -> Result<Order, &'static str> {
        let item = new.item.trim().to_owned();
        if item.is_empty() || item.len() > LONGEST_ITEM {
            return Err("describe the item in 1 to 200 bytes");
        }
        let mut orders = self.0.lock();
        if orders.len() >= MOST_ORDERS {
            return Err("the shop is sold out");
        }
        let order = Order { number: orders.len() + 1, item, by, message: MessageId::now_v7() };
        orders.push(order.clone());
        Ok(order)
    }

    /// Returns all orders.
    pub fn all(&self) -> Vec<Order> {
        self.0.lock().clone()
    }

    /// Returns the number of orders.
    pub fn count(&self) -> usize {
        self.0.lock().len()
    }
}

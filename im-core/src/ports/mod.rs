//! The traits that adapters implement and embedders plug in. All are object-safe and held as
//! `Arc<dyn …>`.
//!
//! | module | port | implementations |
//! |---|---|---|
//! | `store` | [`Store`] and its parts | memory, sled, SQL; your own: `docs/store.md` in the repository builds one |
//! | `auth` | [`Authenticator`] | the embedder |
//! | `hooks` | [`Hooks`] | the embedder |
//! | `bus` | [`Bus`] | memory; brokers later |
//! | `clock` | [`Clock`] | the system; tests |
//! | `retention` | [`RetentionPolicy`] | the embedder; one for all rooms here |
//! | `limiter` | [`RateLimiter`] | token buckets here; the embedder |
//! | `quotas` | [`Quotas`] | allowances for each address and user here; the embedder |

mod allowance;
mod auth;
mod bus;
mod clock;
mod hooks;
mod limiter;
mod quotas;
mod retention;
mod store;

pub use allowance::Allowance;
pub use auth::{AllowAnonymous, Authenticator, Credentials, Identity, StaticTokens};
pub use bus::{Bus, BusMessage, BusReceiver, Envelope};
pub use clock::{Clock, ManualClock, SystemClock};
pub use hooks::{Action, ActionKind, Hooks, NoHooks, Verdict};
pub use limiter::{RateLimiter, TokenBuckets, Unlimited};
pub use quotas::{Allowances, NoQuotas, Payer, Quotas, Resource};
pub use retention::{Retention, RetentionPolicy};
pub use store::{
    Appended, Durability, Head, LogPage, LogRange, RoomDirectory, RoomLog, SessionRegistry,
    StateSnapshot, StateStore, Store, StoreError, StoreErrorKind, StoreResult, Upkeep,
};

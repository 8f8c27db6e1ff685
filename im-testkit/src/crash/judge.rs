//! The judge: a process that opens a store after a fault and checks it.
//!
//! A process of its own, so that a store that hangs or ends the process is detected like any other
//! fault.

use std::future::Future;
use std::sync::Arc;

use im_core::ports::{Durability, Store, StoreResult};
use serde::{Deserialize, Serialize};

use super::Violation;
use super::message::Message;
use super::model::Model;
use super::worker::acknowledged;

/// The result of a judge.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Verdict {
    /// Number of events in the store.
    pub events: u64,
    /// The violations.
    pub violations: Vec<Violation>,
    /// Acked sends that are missing in a store that promises to survive only a kill of the process
    /// and that reports the loss by a new generation.
    pub abandoned: Vec<String>,
    /// Whether a new generation began since the last ack.
    pub new_generation: bool,
}

/// The prefix of the verdict's line.
pub(crate) const VERDICT: &str = "verdict ";

/// Number of sends retried, of those without an answer and of the others.
const RETRIES: usize = 20;

pub(crate) async fn judge<F>(twice: bool, open: impl Fn() -> F)
where
    F: Future<Output = StoreResult<Arc<dyn Store>>>,
{
    let told = std::io::read_to_string(std::io::stdin()).unwrap_or_default();
    let mut model = Model::default();
    told.lines().for_each(|line| model.on_line(line));
    let mut verdict = Verdict::default();
    for _ in 0..=u8::from(twice) {
        match open().await {
            Ok(store) => look(&*store, &mut model, &mut verdict).await,
            Err(error) => {
                let why = format!("opening the store failed: {error} ({:?})", error.kind());
                verdict.violations.push(Violation::Wrong(why));
            }
        }
        if !verdict.violations.is_empty() || !verdict.abandoned.is_empty() {
            break;
        }
    }
    let text = serde_json::to_string(&verdict).unwrap_or_else(|e| panic!("{e}"));
    println!("{VERDICT}{text}");
}

async fn look(store: &dyn Store, model: &mut Model, verdict: &mut Verdict) {
    let closed = model.closed;
    model.check(store, true).await;
    verdict.new_generation = match (model.found_generation(), model.generation) {
        (Some(found), Some(told)) => found != told,
        // The store is empty: all acked data is gone.
        (None, told) => told.is_some(),
        (Some(_), None) => false,
    };
    if closed && verdict.new_generation {
        let what = "the store was closed and began a new generation".to_owned();
        verdict.violations.push(Violation::Epoch(what));
    }
    let new = verdict.new_generation;
    if new && store.durability() == Durability::PowerLoss {
        let what = "a store that survives power loss began a new generation".to_owned();
        verdict.violations.push(Violation::Epoch(what));
    }
    let may_give_up = new && !closed && store.durability() < Durability::PowerLoss;
    sort(model, may_give_up, verdict);
    // Retries would store abandoned messages again: that is the sender's decision.
    if verdict.abandoned.is_empty() && verdict.violations.is_empty() {
        retry(store, model).await;
        model.check(store, true).await;
        sort(model, false, verdict);
    }
    verdict.events = model.events();
    if let Err(error) = store.close().await {
        let why = format!("closing the store failed: {error}");
        verdict.violations.push(Violation::Wrong(why));
    }
}

/// Separates abandoned sends from lost ones.
fn sort(model: &mut Model, may_give_up: bool, verdict: &mut Verdict) {
    for violation in model.take_violations() {
        match violation {
            Violation::Lost(what) if may_give_up => verdict.abandoned.push(what),
            other => verdict.violations.push(other),
        }
    }
}

/// Retries some sends: stored messages stay once and in place, and the store accepts new writes.
async fn retry(store: &dyn Store, model: &mut Model) {
    for message in model.to_retry(RETRIES) {
        let answer = store.append(vec![message.append()]).await.pop();
        match answer {
            Some(Ok(appended)) => model.on_line(&acknowledged(&message, &appended).to_string()),
            other => model.wrong(unanswered(&message, other)),
        }
    }
}

fn unanswered<T: std::fmt::Debug>(message: &Message, answer: T) -> String {
    format!("{message}: retried, and answered {answer:?}")
}

//! The process that opens a store after something happened to it, and compares.
//!
//! It is a process of its own, so that a store that hangs, or ends the process, is found out like any other fault.

use std::future::Future;
use std::sync::Arc;

use im_core::ports::{Durability, Store, StoreResult};
use serde::{Deserialize, Serialize};

use super::Violation;
use super::message::Message;
use super::model::Model;
use super::worker::acknowledged;

/// What a judge found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Verdict {
    /// Events in the store.
    pub events: u64,
    /// What must not be.
    pub violations: Vec<Violation>,
    /// Acknowledged sends that are gone, by a store that promises to survive no more than a kill of the process and that
    /// says so: it has begun a new generation.
    pub abandoned: Vec<String>,
    /// Whether a new generation has begun since something was acknowledged.
    pub new_generation: bool,
}

/// What the verdict's line begins with.
pub(crate) const VERDICT: &str = "verdict ";

/// Sends made again, of those without an answer and of the others.
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
                let why = format!("the store cannot be opened: {error} ({:?})", error.kind());
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
        // Everything is gone: whatever was there, it is not.
        (None, told) => told.is_some(),
        (Some(_), None) => false,
    };
    if closed && verdict.new_generation {
        let what = "the store was closed, and has begun a new generation".to_owned();
        verdict.violations.push(Violation::Epoch(what));
    }
    let new = verdict.new_generation;
    if new && store.durability() == Durability::PowerLoss {
        let what = "a store that survives power loss has begun a new generation".to_owned();
        verdict.violations.push(Violation::Epoch(what));
    }
    let may_give_up = new && !closed && store.durability() < Durability::PowerLoss;
    sort(model, may_give_up, verdict);
    // What was given up would be sent anew: that is for the sender to decide.
    if verdict.abandoned.is_empty() && verdict.violations.is_empty() {
        retry(store, model).await;
        model.check(store, true).await;
        sort(model, false, verdict);
    }
    verdict.events = model.events();
    if let Err(error) = store.close().await {
        let why = format!("the store cannot be closed: {error}");
        verdict.violations.push(Violation::Wrong(why));
    }
}

/// Tells what a store gave up from what it lost.
fn sort(model: &mut Model, may_give_up: bool, verdict: &mut Verdict) {
    for violation in model.take_violations() {
        match violation {
            Violation::Lost(what) if may_give_up => verdict.abandoned.push(what),
            other => verdict.violations.push(other),
        }
    }
}

/// Sends some again: what is there stays once and in its place, and the store takes new writes.
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
    format!("{message}: sent again, and answered {answer:?}")
}

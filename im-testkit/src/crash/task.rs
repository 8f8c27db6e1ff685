//! The task of a worker process.

use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;

use im_core::ports::{Store, StoreError, StoreResult};

use super::upkeep::keeper;
use super::worker::{Away, Ends, WriterPlan, writer};
use super::{judge, script};

/// The task of a worker process, on its command line, beside the store and the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Task {
    /// Many senders write concurrently.
    Write(WriterPlan),
    /// Reads the lines of earlier workers from standard input, opens the store and checks it.
    Judge {
        /// Whether the store is then opened a second time.
        twice: bool,
    },
    /// One sender runs the same steps each time, and continues after errors.
    Script {
        /// The seed of the message ids.
        seed: u64,
    },
    /// Writes, trims, deletes, erases and imports until it is killed. See
    /// [`upkeep`](super::upkeep).
    Keep {
        /// The seed of its choices.
        seed: u64,
    },
}

impl Task {
    /// Returns the words for the command line.
    pub fn words(&self) -> Vec<String> {
        match self {
            Self::Write(plan) => {
                let (how, count) = match plan.ends {
                    Ends::Never => ("never", 0),
                    Ends::Abruptly(count) => ("abruptly", count),
                    Ends::Closed(count) => ("closed", count),
                };
                let WriterPlan { senders, rooms, large, .. } = *plan;
                let numbers = [senders, rooms, large].map(u64::from);
                let numbers = [plan.seed, count].into_iter().chain(numbers);
                let numbers = numbers.map(|number| number.to_string());
                let away = match plan.away {
                    Away::Never => "never",
                    Away::AtTimes => "at-times",
                };
                ["write", how, away].into_iter().map(str::to_owned).chain(numbers).collect()
            }
            Self::Judge { twice } => {
                vec!["judge".to_owned(), if *twice { "twice" } else { "once" }.to_owned()]
            }
            Self::Script { seed } => vec!["script".to_owned(), seed.to_string()],
            Self::Keep { seed } => vec!["keep".to_owned(), seed.to_string()],
        }
    }

    /// Parses [`Task::words`].
    pub fn parse<S: AsRef<str>>(words: &[S]) -> Option<Self> {
        let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
        match words.as_slice() {
            ["write", how, away, seed, count, senders, rooms, large] => {
                let count = count.parse().ok()?;
                let ends = match *how {
                    "never" => Ends::Never,
                    "abruptly" => Ends::Abruptly(count),
                    "closed" => Ends::Closed(count),
                    _ => return None,
                };
                let mut plan = WriterPlan::new(seed.parse().ok()?);
                (plan.senders, plan.rooms) = (senders.parse().ok()?, rooms.parse().ok()?);
                (plan.large, plan.ends) = (large.parse().ok()?, ends);
                plan.away = match *away {
                    "never" => Away::Never,
                    "at-times" => Away::AtTimes,
                    _ => return None,
                };
                Some(Self::Write(plan))
            }
            ["judge", times] => Some(Self::Judge { twice: *times == "twice" }),
            ["script", seed] => Some(Self::Script { seed: seed.parse().ok()? }),
            ["keep", seed] => Some(Self::Keep { seed: seed.parse().ok()? }),
            _ => None,
        }
    }
}

/// Runs a task with a store that `open` opens: the whole `main` of a worker.
///
/// # Panics
///
/// If a store fails without an injected fault.
pub async fn work<F>(task: Task, open: impl Fn() -> F) -> ExitCode
where
    F: Future<Output = StoreResult<Arc<dyn Store>>>,
{
    match task {
        Task::Write(plan) => match open().await {
            Ok(store) => writer(store, plan).await,
            Err(error) => return not_open(&error),
        },
        Task::Keep { seed } => match open().await {
            Ok(store) => match keeper(store, seed).await {},
            Err(error) => return not_open(&error),
        },
        Task::Judge { twice } => judge::judge(twice, open).await,
        Task::Script { seed } => return script::script(seed, open).await,
    }
    ExitCode::SUCCESS
}

fn not_open(error: &StoreError) -> ExitCode {
    eprintln!("opening the store failed: {error}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_survives_its_words() {
        let mut plan = WriterPlan::new(u64::MAX);
        (plan.ends, plan.away) = (Ends::Closed(7), Away::AtTimes);
        let (judge, script) = (Task::Judge { twice: true }, Task::Script { seed: 3 });
        for task in [Task::Write(plan), judge, script, Task::Keep { seed: 4 }] {
            assert_eq!(Task::parse(&task.words()), Some(task));
        }
        assert_eq!(Task::parse(&["write", "soon", "never", "1", "2", "3", "4", "5"]), None);
        assert_eq!(Task::parse(&["write", "never", "soon", "1", "2", "3", "4", "5"]), None);
        assert_eq!(Task::parse::<&str>(&[]), None);
    }
}

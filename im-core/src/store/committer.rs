//! Group commit: what has queued while the last group was committed goes along with the next one, so the cost of a sync is
//! shared by as many as there are.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::task::{JoinHandle, yield_now};

use crate::backend::{Answer, Backend, BackendError, BackendResult, Commit, LogAct};

/// Commits of one call, and where their answers go.
struct Job {
    commits: Vec<Commit>,
    size: Size,
    answers: oneshot::Sender<Vec<BackendResult<Answer>>>,
}

/// How large a group is.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    rows: usize,
    bytes: usize,
}

/// The most rows of one group, but for those of its last job.
const GROUP_ROWS: usize = 4_096;
/// The most bytes of one group, but for those of its last job.
const GROUP_BYTES: usize = 8 << 20;
/// How many times in a row everybody else may have had a turn without a new job, until a group is complete. The way from
/// an answer to the next append goes through that many tasks.
const STILL: u32 = 4;

/// The queue of a backend, and the tasks that commit from it.
pub(super) struct Committer {
    backend: Arc<dyn Backend>,
    /// `None`: calls go to the backend at once.
    queue: Option<Arc<Queue>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct Queue {
    jobs: Mutex<Jobs>,
    arrived: Notify,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<Job>,
    closed: bool,
}

impl Committer {
    /// Starts as many tasks as the backend makes progress with.
    pub(super) fn start(backend: Arc<dyn Backend>) -> Self {
        let writers = backend.info().writers;
        if writers == usize::MAX {
            return Self { backend, queue: None, tasks: Mutex::default() };
        }
        let queue = Arc::new(Queue::default());
        let task = |_| tokio::spawn(commit_all(Arc::clone(&backend), Arc::clone(&queue)));
        let tasks = (0..writers.max(1)).map(task).collect();
        Self { backend, queue: Some(queue), tasks: Mutex::new(tasks) }
    }

    /// Makes commits. They are made, or not, also if the caller's future is dropped.
    pub(super) async fn commit(&self, commits: Vec<Commit>) -> Vec<BackendResult<Answer>> {
        let Some(queue) = &self.queue else { return self.backend.commit(commits).await };
        let count = commits.len();
        let (answers, answered) = oneshot::channel();
        let size = size(&commits);
        if queue.push(Job { commits, size, answers })
            && let Ok(answers) = answered.await
        {
            return answers;
        }
        (0..count).map(|_| Err(BackendError::closed())).collect()
    }

    /// Ends the tasks once the queue is empty. More commits are refused.
    pub(super) async fn close(&self) {
        if let Some(queue) = &self.queue {
            queue.jobs.lock().closed = true;
            queue.arrived.notify_waiters();
        }
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            // One that panicked has dropped its jobs, which answers them.
            let _ = task.await;
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        if let Some(queue) = &self.queue {
            queue.jobs.lock().closed = true;
            queue.arrived.notify_waiters();
        }
    }
}

impl Queue {
    /// Whether the job will be done.
    fn push(&self, job: Job) -> bool {
        let mut jobs = self.jobs.lock();
        if jobs.closed {
            return false;
        }
        jobs.waiting.push_back(job);
        drop(jobs);
        self.arrived.notify_one();
        true
    }

    fn len(&self) -> usize {
        self.jobs.lock().waiting.len()
    }

    /// Waits for a job. `false`: there will be none.
    async fn wait(&self) -> bool {
        loop {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            // From here on a job that arrives is noticed.
            arrived.as_mut().enable();
            {
                let jobs = self.jobs.lock();
                if !jobs.waiting.is_empty() {
                    return true;
                }
                if jobs.closed {
                    return false;
                }
            }
            arrived.await;
        }
    }

    /// Yields so that senders about to enqueue join this group.
    async fn settle(&self) {
        let (mut still, mut queued) = (0, self.len());
        while still < STILL && queued < GROUP_ROWS {
            yield_now().await;
            let now = self.len();
            still = if now > queued { 0 } else { still + 1 };
            queued = now;
        }
    }

    fn gather(&self) -> Vec<Job> {
        let mut jobs = self.jobs.lock();
        let (mut group, mut total) = (Vec::new(), Size::default());
        while total.rows < GROUP_ROWS && total.bytes < GROUP_BYTES {
            let Some(job) = jobs.waiting.pop_front() else { break };
            total.rows += job.size.rows;
            total.bytes += job.size.bytes;
            group.push(job);
        }
        if !jobs.waiting.is_empty() {
            self.arrived.notify_one();
        }
        group
    }
}

async fn commit_all(backend: Arc<dyn Backend>, queue: Arc<Queue>) {
    while queue.wait().await {
        queue.settle().await;
        let group = queue.gather();
        if group.is_empty() {
            continue;
        }
        let (mut commits, mut answers) = (Vec::new(), Vec::new());
        for job in group {
            let before = commits.len();
            answers.push((job.commits.len(), job.answers));
            commits.extend(job.commits.into_iter().map(|mut commit| {
                commit.behind = commit.behind.map(|at| at + before);
                commit
            }));
        }
        let mut made = backend.commit(commits).await.into_iter();
        for (count, answers) in answers {
            // Nobody waits any more if the caller's future was dropped.
            let _ = answers.send(made.by_ref().take(count).collect());
        }
    }
}

fn size(commits: &[Commit]) -> Size {
    let mut size = Size::default();
    for commit in commits {
        size.rows += commit.changes.len() + 1;
        if let Some(log) = &commit.log
            && let LogAct::Append(entries) | LogAct::Replace(entries) = &log.act
        {
            size.rows += entries.len();
            size.bytes += entries.iter().flatten().map(crate::backend::Datum::size).sum::<usize>();
        }
    }
    size
}

//! What waits for the writer.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::OwnedSemaphorePermit;

use crate::writer::Work;

/// Some work, with what it counts for. Its place in the queue is given back when it was answered.
pub(crate) struct Job {
    pub(crate) work: Box<dyn Work>,
    pub(crate) count: usize,
    pub(crate) bytes: usize,
    pub(crate) _place: OwnedSemaphorePermit,
}

/// How much one commit takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) count: usize,
    pub(crate) bytes: usize,
    pub(crate) delay: Duration,
}

/// First in, first out. What bounds it are the places that callers wait for before they push.
#[derive(Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    count: usize,
    bytes: usize,
    closed: bool,
}

impl Queue {
    /// Adds a job; gives it back once the queue was closed.
    pub(crate) fn push(&self, job: Job) -> Result<(), Job> {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Err(job);
        }
        waiting.count += job.count;
        waiting.bytes += job.bytes;
        waiting.jobs.push_back(job);
        self.changed.notify_one();
        Ok(())
    }

    /// Lets nothing more in.
    pub(crate) fn close(&self) {
        self.waiting.lock().closed = true;
        self.changed.notify_one();
    }

    /// Waits for jobs and takes as many as one commit may have, at least one; `None` when it is closed and empty.
    pub(crate) fn take(&self, bounds: Bounds) -> Option<Vec<Job>> {
        let mut waiting = self.waiting.lock();
        while waiting.jobs.is_empty() {
            if waiting.closed {
                return None;
            }
            self.changed.wait(&mut waiting);
        }
        if !bounds.delay.is_zero() {
            let until = Instant::now() + bounds.delay;
            while !waiting.closed && waiting.count < bounds.count && waiting.bytes < bounds.bytes {
                if self.changed.wait_until(&mut waiting, until).timed_out() {
                    break;
                }
            }
        }
        Some(waiting.split_off(bounds))
    }
}

impl Waiting {
    fn split_off(&mut self, bounds: Bounds) -> Vec<Job> {
        let (mut count, mut bytes) = (0, 0);
        let mut taken = Vec::new();
        while let Some(job) = self.jobs.front() {
            let fits = count + job.count <= bounds.count && bytes + job.bytes <= bounds.bytes;
            if !fits && !taken.is_empty() {
                break;
            }
            let Some(job) = self.jobs.pop_front() else { break };
            count += job.count;
            bytes += job.bytes;
            taken.push(job);
        }
        self.count -= count;
        self.bytes -= bytes;
        taken
    }
}

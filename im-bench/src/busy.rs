//! Competing CPU load: threads that compute and never wait.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result};

use crate::replay::log::mix;

/// Iterations between two reads of the flag: some tens of microseconds of work.
const TURN: u64 = 10_000;

/// Threads that keep cores busy until this is dropped. They end with the process, in any case.
#[derive(Debug)]
pub(crate) struct Busy {
    stop: Arc<AtomicBool>,
    turns: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Busy {
    /// Starts one thread for each core.
    ///
    /// # Errors
    ///
    /// If the system starts no more threads.
    pub(crate) fn start(cores: u16) -> Result<Self> {
        let mut busy = Self { stop: Arc::default(), turns: Arc::default(), threads: Vec::new() };
        for nth in 0..cores {
            let (stop, turns) = (busy.stop.clone(), busy.turns.clone());
            let work = move || burn(u64::from(nth), &stop, &turns);
            let thread = std::thread::Builder::new().name(format!("busy-{nth}")).spawn(work);
            busy.threads.push(thread.context("start a thread that keeps a core busy")?);
        }
        Ok(busy)
    }

    /// Returns the number of turns of all threads so far.
    #[cfg(test)]
    fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // The thread's work cannot panic.
            let _ended = thread.join();
        }
    }
}

fn burn(seed: u64, stop: &AtomicBool, turns: &AtomicU64) {
    let mut number = seed;
    while !stop.load(Ordering::Relaxed) {
        number = black_box((0..TURN).fold(number, |number, _| mix(number)));
        turns.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_threads_work_until_dropped() {
        let busy = Busy::start(2).unwrap();
        let turns = busy.turns.clone();
        let begin = busy.turns();
        while busy.turns() < begin + 100 {
            std::thread::yield_now();
        }
        drop(busy);
        let end = turns.load(Ordering::Relaxed);
        // Both threads are joined, so the counter has no other owner.
        assert_eq!((Arc::strong_count(&turns), turns.load(Ordering::Relaxed)), (1, end));
    }

    #[test]
    fn busy_zero_starts_nothing() {
        let busy = Busy::start(0).unwrap();
        assert_eq!((busy.threads.len(), busy.turns()), (0, 0));
    }
}

//! CPU time of processes in nanoseconds, per thread.
//!
//! `/proc/PID/stat` counts in steps of 10 ms, which is more than a hundred pages take. The
//! scheduler's own count of each thread is exact. The time of a thread that ended between two reads
//! is not counted: the working threads do not end.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// The CPU time so far of each thread of some processes.
#[derive(Debug, Default)]
pub(super) struct Usage(BTreeMap<u32, u64>);

impl Usage {
    /// Reads it for this process, and for a server with its child processes.
    pub(super) fn now(server: Option<u32>) -> Self {
        let mut pids = vec![std::process::id()];
        if let Some(server) = server {
            pids.push(server);
            pids.extend(children(server));
        }
        Self(pids.into_iter().flat_map(threads).collect())
    }

    /// Returns the CPU time since `earlier`.
    pub(super) fn since(&self, earlier: &Self) -> Duration {
        let used = self.0.iter().map(|(thread, now)| {
            now.saturating_sub(earlier.0.get(thread).copied().unwrap_or_default())
        });
        Duration::from_nanos(used.sum())
    }
}

/// Returns the threads of a process with the nanoseconds that each has run; none if it has ended.
fn threads(pid: u32) -> Vec<(u32, u64)> {
    numbers(&format!("/proc/{pid}/task"))
        .filter_map(|thread| {
            let text = fs::read_to_string(format!("/proc/{pid}/task/{thread}/schedstat")).ok()?;
            Some((thread, text.split_ascii_whitespace().next()?.parse().ok()?))
        })
        .collect()
}

fn children(parent: u32) -> Vec<u32> {
    numbers("/proc")
        .filter(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            parent_of(&stat) == Some(parent)
        })
        .collect()
}

/// `ppid`: field 4 of proc_pid_stat(5). The second field may hold spaces and parentheses.
fn parent_of(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Returns the entries of a folder that are numbers.
fn numbers(folder: &str) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parent is parsed from a stat line whose process name contains parentheses.
    #[test]
    fn odd_process_name_yields_parent() {
        assert_eq!(parent_of("7 (a) b (c) S 3 7 7 0"), Some(3));
        assert_eq!(parent_of("7 (a"), None);
    }

    /// A process that ended counts nothing, and one that started counts whole.
    #[test]
    fn ended_process_is_excluded_from_usage() {
        let before = Usage([(1, 100), (2, 500)].into());
        let after = Usage([(1, 130), (3, 7)].into());
        assert_eq!(after.since(&before), Duration::from_nanos(37));
    }

    #[test]
    fn work_is_seen() {
        let before = Usage::now(None);
        let mut n = 1_u64;
        while Usage::now(None).since(&before) == Duration::ZERO {
            n = std::hint::black_box(n.wrapping_mul(3));
        }
    }
}

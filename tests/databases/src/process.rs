//! Signals, and children of processes.

use std::fs;
use std::io;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How often to check the state of another process.
pub(crate) const LOOK: Duration = Duration::from_millis(10);

/// Time in which the system carries out a signal that cannot be blocked.
const PROMPT: Duration = Duration::from_secs(10);

/// A signal, by its name for `kill`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Interrupt,
    Terminate,
    Stop,
    Kill,
}

impl Signal {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "INT",
            Self::Terminate => "TERM",
            Self::Stop => "STOP",
            Self::Kill => "KILL",
        }
    }
}

/// Sends a signal to processes whose ids the caller knows cannot have been reused yet.
pub(crate) fn send(signal: Signal, pids: &[u32]) -> io::Result<()> {
    if pids.is_empty() {
        return Ok(());
    }
    // The shell's own `kill`: not every machine has the program of that name.
    let status = Command::new("sh")
        .args(["-c", r#"kill -s "$0" "$@""#, signal.name()])
        .args(pids.iter().map(u32::to_string))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other("a process could not be signalled"))
    }
}

/// Kills a child process and all its children at one moment. A child that outlived it could still
/// answer a client.
///
/// The process is stopped first, so that it neither notices a child's death nor starts another, and
/// no child's id is reused, since it is not waited for.
pub(crate) fn kill_with_children(pid: u32) -> io::Result<()> {
    send(Signal::Stop, &[pid])?;
    until(|| Process::read(pid).is_none_or(|process| matches!(process.state, 'T' | 'Z')))?;
    let children: Vec<Process> = all()?.into_iter().filter(|other| other.parent == pid).collect();
    let mut pids: Vec<u32> = children.iter().map(|child| child.pid).collect();
    pids.push(pid);
    send(Signal::Kill, &pids)?;
    until(|| children.iter().all(Process::is_over))
}

fn until(mut come: impl FnMut() -> bool) -> io::Result<()> {
    let deadline = Instant::now() + PROMPT;
    while !come() {
        if Instant::now() > deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "a process does not end"));
        }
        thread::sleep(LOOK);
    }
    Ok(())
}

/// The state of a process in the system.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    pid: u32,
    parent: u32,
    state: char,
    /// When the process started, in ticks since boot: unique together with the id.
    began: u64,
}

impl Process {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Parses proc(5), `/proc/pid/stat`. The name, second, may itself contain spaces and
    /// parentheses.
    fn parse(pid: u32, stat: &str) -> Option<Self> {
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        Some(Self {
            pid,
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            began: fields.get(19)?.parse().ok()?,
        })
    }

    fn is_over(&self) -> bool {
        Self::read(self.pid).is_none_or(|now| now.began != self.began || now.state == 'Z')
    }
}

fn all() -> io::Result<Vec<Process>> {
    let names =
        fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter_map(|name| Process::read(name.parse().ok()?)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let stat = "7 (a) b (c) S 3 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 1000 10";
        let process = Process::parse(7, stat).unwrap();
        assert_eq!(process, Process { pid: 7, parent: 3, state: 'S', began: 4242 });
        assert_eq!(Process::parse(7, "7 (a"), None);
    }

    #[test]
    fn children_die_with_their_parent() {
        let mut parent = Command::new("sh")
            .args(["-c", "sleep 1000 & sleep 1000 & echo; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0];
        io::Read::read_exact(parent.stdout.as_mut().unwrap(), &mut line).unwrap();
        let pid = parent.id();
        let children: Vec<_> = all().unwrap().into_iter().filter(|p| p.parent == pid).collect();
        assert_eq!(children.len(), 2);
        kill_with_children(pid).unwrap();
        assert!(!parent.wait().unwrap().success());
        assert!(children.iter().all(Process::is_over));
    }
}

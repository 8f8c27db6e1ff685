//! A process that ends the server and removes the folder when ours is gone, however it went.

use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::process::Signal;

/// What the guard does. It is told ids of processes, a line each, an empty one for none; the end of its input is the end
/// of us. `$1` is the folder, `$2` the signal that ends a server in good order.
///
/// The folder's name stands in the command of all that we start there. An id that was given to another process in the
/// meantime is known by that.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
while read -r line; do pid=$line; done
ours() { [ -n "$pid" ] && grep -qsF -- "$1" "/proc/$pid/cmdline"; }
if ours "$1"; then
    kill -s "$2" "$pid"
    n=0
    while ours "$1" && [ $n -lt 100 ]; do n=$((n + 1)); sleep 0.1; done
    ours "$1" && kill -s KILL "$pid"
fi
n=0
while rm -rf -- "$1"; [ -e "$1" ] && [ $n -lt 100 ]; do n=$((n + 1)); sleep 0.1; done
"#;

/// The process. Dropping it has it do its work, and waits for that.
#[derive(Debug)]
pub(crate) struct Janitor {
    child: Child,
    /// Closed by the system when this process ends, even if it is killed.
    tell: Option<ChildStdin>,
}

impl Janitor {
    pub(crate) fn over(folder: &Path, end: Signal) -> io::Result<Self> {
        let mut child = Command::new("sh")
            .args(["-c", SCRIPT, "guard"])
            .arg(folder)
            .arg(end.name())
            .current_dir("/")
            .stdin(Stdio::piped())
            // Whoever waits for the end of our output must not wait for the guard.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A Ctrl-C in the terminal is for us.
            .process_group(0)
            .spawn()?;
        let tell = child.stdin.take();
        Ok(Self { child, tell })
    }

    /// From now on it is this process that has to end.
    pub(crate) fn watch(&mut self, pid: u32) -> io::Result<()> {
        self.say(&pid.to_string())
    }

    /// It has ended; its id may belong to another soon.
    pub(crate) fn clear_pid(&mut self) -> io::Result<()> {
        self.say("")
    }

    fn say(&mut self, line: &str) -> io::Result<()> {
        // In one write, so that the guard never reads half an id.
        let line = format!("{line}\n");
        self.tell.as_mut().map_or(Ok(()), |tell| tell.write_all(line.as_bytes()))
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.tell.take());
        let _ = self.child.wait();
    }
}

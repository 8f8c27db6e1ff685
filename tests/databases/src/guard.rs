//! A process that stops the server and removes the folder when this process ends, however it ends.

use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::process::Signal;

/// The guard's script. It reads the id of the current process, one a line, an empty line for none;
/// the end of its input means that this process has ended. `$1` is the folder, `$2` the signal that
/// stops a server cleanly.
///
/// Every started command contains the folder's name, so an id that was reused for another process
/// is recognised.
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

/// The guard process. Dropping it closes its input and waits until it has cleaned up.
#[derive(Debug)]
pub(crate) struct Janitor {
    child: Child,
    /// The system closes this when this process ends, even if it is killed.
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
            // A reader that waits for the end of this process's output must not wait for the guard.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C in the terminal is for this process only.
            .process_group(0)
            .spawn()?;
        let tell = child.stdin.take();
        Ok(Self { child, tell })
    }

    /// Sets the process that the guard has to stop.
    pub(crate) fn watch(&mut self, pid: u32) -> io::Result<()> {
        self.say(&pid.to_string())
    }

    /// Clears the process: it has ended, and its id may be reused.
    pub(crate) fn clear_pid(&mut self) -> io::Result<()> {
        self.say("")
    }

    fn say(&mut self, line: &str) -> io::Result<()> {
        // One write, so that the guard never reads half an id.
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

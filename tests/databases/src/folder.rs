//! The folder of a server, and the account that runs it.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::error::{Context as _, Error};
use crate::guard::Janitor;
use crate::process::Signal;

/// Lines of the log that are shown after a failure.
const SHOWN_LINES: usize = 50;

/// The folder of a server, and the account that runs it. Dropping it removes the folder.
#[derive(Debug)]
pub(crate) struct ServerFolder {
    pub(crate) folder: PathBuf,
    /// An account without rights, if this process runs as root: a database server refuses to run as
    /// root.
    account: Option<Account>,
    janitor: Janitor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Account {
    user: u32,
    group: u32,
}

impl ServerFolder {
    /// Creates a new, empty folder that only its owner can read.
    pub(crate) fn new(name: &str, end: Signal) -> Result<Self, Error> {
        let account = account()?;
        let mark = random::<8>().context(|| "no random numbers".to_owned())?;
        let folder = env::temp_dir().join(format!("im-{name}-{}", hex(&mark)));
        let cannot = || format!("could not make {}", folder.display());
        let janitor =
            Janitor::over(&folder, end).context(|| "could not start the guard".to_owned())?;
        fs::DirBuilder::new().mode(0o700).create(&folder).context(cannot)?;
        if let Some(account) = account {
            chown(&folder, Some(account.user), Some(account.group)).context(cannot)?;
        }
        Ok(Self { folder, account, janitor })
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Returns the end of the log.
    pub(crate) fn log_tail(&self) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
    }

    /// Writes a file that only the server's account can read.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf, Error> {
        let path = self.folder.join(name);
        let cannot = || format!("could not write {}", path.display());
        let open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        io::Write::write_all(&mut open.context(cannot)?, text.as_bytes()).context(cannot)?;
        if let Some(account) = self.account {
            chown(&path, Some(account.user), Some(account.group)).context(cannot)?;
        }
        Ok(path)
    }

    /// A command that runs in the folder, as that account, and writes to the log.
    pub(crate) fn program(&self, program: &Path) -> Result<Command, Error> {
        let cannot = || format!("could not open {}", self.log().display());
        let log = OpenOptions::new().append(true).create(true).mode(0o600).open(self.log());
        let log = log.context(cannot)?;
        let mut command = Command::new(program);
        command
            .current_dir(&self.folder)
            .env("TMPDIR", &self.folder)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(log.try_clone().context(cannot)?)
            .stderr(log)
            // Ctrl-C in the terminal reaches this process only; it or the guard stops the server
            // cleanly.
            .process_group(0);
        if let Some(account) = self.account {
            command.uid(account.user).gid(account.group);
        }
        Ok(command)
    }

    /// Starts the command, watched by the guard. Its arguments must contain the folder.
    pub(crate) fn start(&mut self, command: &mut Command) -> Result<Child, Error> {
        let name = shown(command.get_program());
        let child = command.spawn().context(|| format!("could not start {name}"))?;
        self.janitor.watch(child.id()).context(|| "the guard is gone".to_owned())?;
        Ok(child)
    }

    /// Records that the started process has been waited for.
    pub(crate) fn ended(&mut self) {
        // An error means that the guard has ended.
        let _ = self.janitor.clear_pid();
    }

    /// Runs the command to its end.
    pub(crate) fn run(&mut self, command: &mut Command) -> Result<(), Error> {
        let name = shown(command.get_program());
        let status =
            self.start(command)?.wait().context(|| format!("could not wait for {name}"))?;
        self.ended();
        if status.success() {
            Ok(())
        } else {
            Err(self.failed(format!("{name} ended with {status}")))
        }
    }

    /// An error with the failed operation `what` and the end of the log.
    pub(crate) fn failed(&self, what: String) -> Error {
        Error::Failed(format!("{what}; the end of its log:\n{}", self.log_tail()))
    }
}

fn shown(program: &OsStr) -> String {
    Path::new(program).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The account that runs the servers: `nobody` if this process is root, otherwise its own.
fn account() -> Result<Option<Account>, Error> {
    let ourselves = fs::metadata("/proc/self").map_err(|_| {
        Error::Absent("servers can be started on Linux only: name running ones".into())
    })?;
    if ourselves.uid() != 0 {
        return Ok(None);
    }
    let users =
        fs::read_to_string("/etc/passwd").context(|| "could not read /etc/passwd".into())?;
    let nobody = users.lines().find_map(|line| line.strip_prefix("nobody:"));
    let account = nobody.and_then(|rest| {
        let mut fields = rest.split(':').skip(1);
        Some(Account { user: fields.next()?.parse().ok()?, group: fields.next()?.parse().ok()? })
    });
    account.map(Some).ok_or_else(|| {
        Error::Absent(
            "database servers refuse to run as root, and there is no user `nobody`".into(),
        )
    })
}

/// Bytes from the system's generator.
pub(crate) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Two hexadecimal digits for each byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Finds the program of this name on the path, or in `folders`, which are not on every user's path.
pub(crate) fn find(name: &str, folders: &[&str]) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(folders.iter().map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

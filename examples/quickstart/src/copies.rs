//! Copies of the data: the subcommands besides the server.

use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Subcommand;
use im_core::RoomId;
use im_core::ports::Store;
use im_core::transfer::{Export, Import};
use im_stores::StoreAddress;

/// Commands instead of serving. The server must not be running on the same folder or file.
#[derive(Subcommand)]
pub(crate) enum Copies {
    /// Write rooms as JSON Lines, readable and for any other store. Sessions are not included.
    Export {
        /// The file to write; `-` for standard output.
        #[arg(default_value = "-")]
        file: PathBuf,
        /// One room; all rooms by default.
        #[arg(long)]
        room: Option<RoomId>,
    },
    /// Read rooms that `export` has written. A room that exists already is left unchanged and ends
    /// the command.
    Import {
        /// The file to read; `-` for standard input.
        #[arg(default_value = "-")]
        file: PathBuf,
    },
    /// Copy everything, sessions included, of sled or SQLite, and verify the copy. A program that
    /// embeds the store does the same while it runs: `SledStore::backup`, `SqliteStore::backup`.
    Backup {
        /// The folder (sled) or file (SQLite) to create. It must be empty or not exist.
        to: PathBuf,
    },
    /// Copy a backup to the address of --store, which must be empty. Clients then reset their
    /// rooms.
    Restore {
        /// The result of `backup`. It is left unchanged.
        from: PathBuf,
    },
}

impl Copies {
    pub(crate) async fn run(self, at: &StoreAddress) -> anyhow::Result<()> {
        match self {
            // An import may create the store.
            Self::Import { file } => {
                let store = at.open().await?;
                closed(import(store.clone(), &file).await, &*store).await
            }
            Self::Export { file, room } => {
                let store = existing(at)?.open().await?;
                closed(export(store.clone(), &file, room).await, &*store).await
            }
            Self::Backup { to } => {
                let rooms = existing(at)?.backup(&to).await?;
                eprintln!("{rooms} rooms copied to {} and verified", to.display());
                Ok(())
            }
            Self::Restore { from } => Ok(at.restore(&from).await?),
        }
    }
}

async fn closed(done: anyhow::Result<()>, store: &dyn Store) -> anyhow::Result<()> {
    store.close().await?;
    done
}

/// Requires an existing store, so that a mistyped address does not create an empty one.
fn existing(at: &StoreAddress) -> anyhow::Result<&StoreAddress> {
    if !at.may_exist() {
        bail!("there is no store at {at}; choose another address with --store");
    }
    Ok(at)
}

async fn export(store: Arc<dyn Store>, file: &Path, room: Option<RoomId>) -> anyhow::Result<()> {
    let mut to: Box<dyn Write> = if file == Path::new("-") {
        Box::new(std::io::stdout())
    } else {
        let made = std::fs::File::create_new(file);
        Box::new(BufWriter::new(made.with_context(|| format!("cannot create {}", file.display()))?))
    };
    let mut export = match room {
        Some(room) => Export::room(store, &room).await?,
        None => Export::all(store),
    };
    while let Some(lines) = export.next().await? {
        to.write_all(lines.as_bytes())?;
    }
    to.flush()?;
    eprintln!("{} rooms exported", export.exported());
    Ok(())
}

async fn import(store: Arc<dyn Store>, file: &Path) -> anyhow::Result<()> {
    let from: Box<dyn BufRead> = if file == Path::new("-") {
        Box::new(BufReader::new(std::io::stdin()))
    } else {
        let opened = std::fs::File::open(file);
        Box::new(BufReader::new(opened.with_context(|| format!("cannot open {}", file.display()))?))
    };
    let mut import = Import::new(store);
    for line in from.lines() {
        import.line(&line?).await?;
    }
    let done = import.finish()?;
    eprintln!("{} rooms with {} events imported", done.rooms, done.events);
    Ok(())
}

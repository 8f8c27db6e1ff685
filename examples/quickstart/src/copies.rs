//! Copies of what is kept: the commands beside the server itself.

use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Subcommand;
use im_core::RoomId;
use im_core::ports::Store;
use im_core::transfer::{Export, Import};
use im_stores::StoreAddress;

/// What to do in place of serving. The server must not be running on the same folder or file.
#[derive(Subcommand)]
pub(crate) enum Copies {
    /// Write rooms as JSON Lines, readable and for any other store. Sessions are not part of it.
    Export {
        /// The file to write; `-` for standard output.
        #[arg(default_value = "-")]
        file: PathBuf,
        /// One room; all of them if none is named.
        #[arg(long)]
        room: Option<RoomId>,
    },
    /// Put rooms in that `export` has written. A room that is there already is left as it is, and ends the command.
    Import {
        /// The file to read; `-` for standard input.
        #[arg(default_value = "-")]
        file: PathBuf,
    },
    /// Copy everything, sessions included, of sled or SQLite, and check that the copy is whole. A program that embeds the
    /// store does the same while it runs: `SledStore::backup`, `SqliteStore::backup`.
    Backup {
        /// The folder (sled) or file (SQLite) to make. It must be empty, or not there.
        to: PathBuf,
    },
    /// Copy a backup to where --store says, where nothing may be yet. Clients then start their rooms anew.
    Restore {
        /// What `backup` has made. It stays as it is.
        from: PathBuf,
    },
}

impl Copies {
    pub(crate) async fn run(self, at: &StoreAddress) -> anyhow::Result<()> {
        match self {
            // What is put in may be the first.
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
                eprintln!("{rooms} rooms in {}, each checked", to.display());
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

/// What is there: a command makes no empty store by a slip of the pen.
fn existing(at: &StoreAddress) -> anyhow::Result<&StoreAddress> {
    if !at.may_exist() {
        bail!("there is no store at {at}; name another place with --store");
    }
    Ok(at)
}

async fn export(store: Arc<dyn Store>, file: &Path, room: Option<RoomId>) -> anyhow::Result<()> {
    let mut to: Box<dyn Write> = if file == Path::new("-") {
        Box::new(std::io::stdout())
    } else {
        let made = std::fs::File::create_new(file);
        Box::new(BufWriter::new(made.with_context(|| format!("cannot make {}", file.display()))?))
    };
    let mut export = match room {
        Some(room) => Export::room(store, &room).await?,
        None => Export::all(store),
    };
    while let Some(lines) = export.next().await? {
        to.write_all(lines.as_bytes())?;
    }
    to.flush()?;
    eprintln!("{} rooms written", export.exported());
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
    eprintln!("{} rooms with {} events put in", done.rooms, done.events);
    Ok(())
}

//! Copies of what is kept: the commands beside the server itself.

use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Subcommand;
use im_core::RoomId;
use im_core::ports::Store;
use im_core::transfer::{Export, Import};
use im_store_sled::{SledConfig, SledStore};

/// What to do in place of serving. The server must not be running on the same folder.
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
    /// Copy everything, sessions included, into a new folder, and check that the copy is whole. A program that embeds the
    /// store does the same while it runs: `SledStore::backup`.
    Backup {
        /// The folder. It must be empty, or not there.
        folder: PathBuf,
    },
    /// Copy a backup into the folder that --data names, which must be empty or not there. Clients then start their rooms
    /// anew.
    Restore {
        /// The folder that `backup` has made. It stays as it is.
        folder: PathBuf,
    },
}

impl Copies {
    pub(crate) async fn run(self, data: &Path) -> anyhow::Result<()> {
        let store = match &self {
            Self::Restore { folder } => {
                SledStore::restore(folder, data).await?;
                return Ok(());
            }
            // What is put in may be the first.
            Self::Import { .. } => Arc::new(SledStore::open(SledConfig::new(data)).await?),
            Self::Export { .. } | Self::Backup { .. } => open(data).await?,
        };
        let done = match self {
            Self::Export { file, room } => export(store.clone(), &file, room).await,
            Self::Import { file } => import(store.clone(), &file).await,
            Self::Backup { folder } => copy(&store, &folder).await,
            Self::Restore { .. } => Ok(()),
        };
        store.close().await?;
        done
    }
}

/// Opens what is there: a command makes no empty store by a slip of the pen.
async fn open(folder: &Path) -> anyhow::Result<Arc<SledStore>> {
    if !folder.join("status").exists() {
        bail!("there is no store in {}; choose another folder with --data", folder.display());
    }
    Ok(Arc::new(SledStore::open(SledConfig::new(folder)).await?))
}

async fn copy(store: &SledStore, to: &Path) -> anyhow::Result<()> {
    let made = store.backup(to).await?;
    eprintln!("{} rooms in {}, each checked", made.rooms, made.path.display());
    Ok(())
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

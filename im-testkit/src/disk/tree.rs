//! The folder on its disk, built from a log.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::arrived::{Arrived, Choice, Names};
use super::file::{Change, FileNode};
use super::log::{Act, Record};

/// The number of a file or folder, which stays when its name changes.
type Id = usize;
type Name = (Id, OsString);

#[derive(Debug, Clone)]
enum Node {
    Folder,
    File(FileNode),
}

/// Names that were added and removed in one step.
#[derive(Debug, Clone)]
struct Renaming {
    index: usize,
    changes: Vec<(Name, Option<Id>)>,
    kept: bool,
}

/// A folder on a disk: its durable state, and the changes that may be on it. See [the
/// module](super) for the rules.
#[derive(Debug, Clone)]
pub struct Disk {
    nodes: Vec<Node>,
    handles: HashMap<u64, Id>,
    /// Names as the process sees them.
    now: BTreeMap<Name, Id>,
    /// The durable names.
    kept: BTreeMap<Name, Id>,
    /// The changes of names after that.
    later: Vec<Renaming>,
    /// Number of records applied.
    end: usize,
    /// The begin of the last sync of any file.
    synced: usize,
    /// Records that could not be followed.
    wrong: Vec<String>,
}

const ROOT: Id = 0;

/// The content after a cut: folders first, each with its path below the root; `None` is a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    entries: Vec<(PathBuf, Option<Vec<u8>>)>,
}

impl Disk {
    /// Loads a disk whose durable state is the content of this folder.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub fn load(root: &Path) -> io::Result<Self> {
        let mut disk = Self {
            nodes: vec![Node::Folder],
            handles: HashMap::new(),
            now: BTreeMap::new(),
            kept: BTreeMap::new(),
            later: Vec::new(),
            end: 0,
            synced: 0,
            wrong: Vec::new(),
        };
        disk.load_folder(root, ROOT)?;
        disk.kept = disk.now.clone();
        Ok(disk)
    }

    fn load_folder(&mut self, path: &Path, id: Id) -> io::Result<()> {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let node = match entry.file_type()?.is_dir() {
                true => Node::Folder,
                false => Node::File(FileNode::new(fs::read(entry.path())?)),
            };
            let below = self.add(node);
            self.now.insert((id, entry.file_name()), below);
            if entry.file_type()?.is_dir() {
                self.load_folder(&entry.path(), below)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, node: Node) -> Id {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Returns the number of records applied.
    pub fn len(&self) -> usize {
        self.end
    }

    /// Returns whether no record was applied.
    pub fn is_empty(&self) -> bool {
        self.end == 0
    }

    /// Returns the records that could not be followed, since their names did not exist. Such a log
    /// proves nothing.
    pub fn not_followed(&self) -> &[String] {
        &self.wrong
    }

    /// Returns the first path whose content on the real disk differs from the record: the process
    /// wrote in a way that the shim does not see. Files mapped for writing are skipped.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub fn differs(&self, root: &Path) -> io::Result<Option<PathBuf>> {
        let unseen = self.unseen(root)?;
        Ok(unseen.into_iter().find(|(_, mapped)| !mapped).map(|(path, _)| path))
    }

    /// Returns all such paths, and whether they were mapped for writing.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub(super) fn unseen(&self, root: &Path) -> io::Result<Vec<(PathBuf, bool)>> {
        let real = Self::load(root)?;
        let (ours, theirs) = (self.paths(), real.paths());
        let mut found = Vec::new();
        for path in ours.keys().chain(theirs.keys().filter(|path| !ours.contains_key(*path))) {
            let ours = ours.get(path).and_then(|id| self.nodes.get(*id));
            let theirs = theirs.get(path).and_then(|id| real.nodes.get(*id));
            let (same, mapped) = match (ours, theirs) {
                (Some(Node::File(ours)), Some(Node::File(theirs))) => {
                    (ours.now() == theirs.now(), ours.mapped)
                }
                (Some(Node::Folder), Some(Node::Folder)) => (true, false),
                _ => (false, false),
            };
            found.extend((!same).then(|| (path.clone(), mapped)));
        }
        Ok(found)
    }

    /// Returns all files and folders that the process sees, by path.
    fn paths(&self) -> BTreeMap<PathBuf, Id> {
        let mut paths = BTreeMap::new();
        let mut folders = vec![(ROOT, PathBuf::new())];
        while let Some((folder, path)) = folders.pop() {
            for (name, id) in below(&self.now, folder) {
                paths.insert(path.join(name), *id);
                if matches!(self.nodes.get(*id), Some(Node::Folder)) {
                    folders.push((*id, path.join(name)));
                }
            }
        }
        paths
    }

    /// Applies the next record.
    pub fn apply(&mut self, record: &Record) {
        let index = self.end;
        if self.follow(index, &record.act).is_none() {
            self.wrong.push(format!(
                "record {index}: {:?} {}",
                record.act.kind(),
                short(&record.act)
            ));
        }
        self.end += 1;
    }

    fn follow(&mut self, index: usize, act: &Act) -> Option<()> {
        match act {
            Act::Open { handle, path, made, emptied } => {
                if *made {
                    let node = self.add(Node::File(FileNode::default()));
                    self.rename(index, vec![(self.name(path)?, Some(node))]);
                }
                let id = self.find(path)?;
                self.handles.insert(*handle, id);
                if *emptied {
                    self.file(*handle)?.change(index, Change::Size(0));
                }
            }
            Act::Write { handle, offset, data } => {
                let offset = usize::try_from(*offset).ok()?;
                self.file(*handle)?.change(index, Change::Write { offset, data: data.clone() });
            }
            Act::Size { handle, len } => {
                self.file(*handle)?.change(index, Change::Size(usize::try_from(*len).ok()?));
            }
            Act::Grow { handle, len } => {
                self.file(*handle)?.change(index, Change::Grow(usize::try_from(*len).ok()?));
            }
            Act::Zero { handle, offset, len } => {
                let (offset, len) = (usize::try_from(*offset).ok()?, usize::try_from(*len).ok()?);
                self.file(*handle)?.change(index, Change::Zero { offset, len });
            }
            Act::Map { handle } => self.file(*handle)?.mapped = true,
            Act::Sync { handle, begun, failed } => self.sync(*handle, *begun, *failed)?,
            Act::Mkdir { path } => {
                let node = self.add(Node::Folder);
                self.rename(index, vec![(self.name(path)?, Some(node))]);
            }
            Act::Remove { path } => {
                self.find(path)?;
                self.rename(index, vec![(self.name(path)?, None)]);
            }
            Act::Link { from, to } => {
                let id = self.find(from)?;
                self.rename(index, vec![(self.name(to)?, Some(id))]);
            }
            Act::Rename { from, to, exchanged } => {
                let moved = self.find(from)?;
                let back = if *exchanged { Some(self.find(to)?) } else { None };
                let changes = vec![(self.name(from)?, back), (self.name(to)?, Some(moved))];
                self.rename(index, changes);
            }
            Act::Mark(_) | Act::Fault { .. } | Act::Call(_) => {}
        }
        Some(())
    }

    fn rename(&mut self, index: usize, changes: Vec<(Name, Option<Id>)>) {
        put_names(&mut self.now, &changes);
        self.later.push(Renaming { index, changes, kept: false });
    }

    fn sync(&mut self, handle: u64, begun: usize, failed: bool) -> Option<()> {
        let id = *self.handles.get(&handle)?;
        if let Node::File(file) = self.nodes.get_mut(id)? {
            file.sync(begun, failed);
        }
        if failed {
            return Some(());
        }
        self.synced = self.synced.max(begun);
        for renaming in &mut self.later {
            let here = renaming.changes.iter().any(|((folder, _), _)| *folder == id);
            renaming.kept |= here && renaming.index < begun;
        }
        let certain = self.later.iter().take_while(|renaming| renaming.kept).count();
        for renaming in self.later.drain(..certain) {
            put_names(&mut self.kept, &renaming.changes);
        }
        Some(())
    }

    fn file(&mut self, handle: u64) -> Option<&mut FileNode> {
        match self.nodes.get_mut(*self.handles.get(&handle)?)? {
            Node::File(file) => Some(file),
            Node::Folder => None,
        }
    }

    fn find(&self, path: &Path) -> Option<Id> {
        path.components().try_fold(ROOT, |folder, part| match part {
            Component::Normal(name) => self.now.get(&(folder, name.to_owned())).copied(),
            _ => None,
        })
    }

    fn name(&self, path: &Path) -> Option<Name> {
        Some((self.find(path.parent()?)?, path.file_name()?.to_owned()))
    }

    /// Returns a content that may be found if the power is cut now. The same seed returns the same
    /// image.
    pub fn cut(&self, arrived: Arrived, seed: u64) -> Image {
        let mut choice = Choice::new(arrived, seed, self.synced, self.end);
        let mut names = self.kept.clone();
        let which = choice.names(self.synced, self.end);
        for renaming in &self.later {
            let arrived = match which {
                Names::UpTo(end) => renaming.index < end,
                Names::Any => choice.name(),
            };
            if renaming.kept || arrived {
                put_names(&mut names, &renaming.changes);
            }
        }
        let mut entries = Vec::new();
        self.collect(&names, ROOT, Path::new(""), &mut choice, &mut entries);
        Image { entries }
    }

    fn collect(
        &self,
        names: &BTreeMap<Name, Id>,
        folder: Id,
        path: &Path,
        choice: &mut Choice,
        entries: &mut Vec<(PathBuf, Option<Vec<u8>>)>,
    ) {
        for (name, id) in below(names, folder) {
            let path = path.join(name);
            match self.nodes.get(*id) {
                Some(Node::File(file)) => entries.push((path, Some(file.found(choice)))),
                Some(Node::Folder) => {
                    entries.push((path.clone(), None));
                    // Names that arrived out of order may put a moved folder below one of its own.
                    if path.components().count() < 32 {
                        self.collect(names, *id, &path, choice, entries);
                    }
                }
                None => {}
            }
        }
    }
}

/// Returns the entries of a folder.
fn below(names: &BTreeMap<Name, Id>, folder: Id) -> impl Iterator<Item = (&OsString, &Id)> {
    let range = names.range((folder, OsString::new())..(folder + 1, OsString::new()));
    range.map(|((_, name), id)| (name, id))
}

fn put_names(names: &mut BTreeMap<Name, Id>, changes: &[(Name, Option<Id>)]) {
    for (name, id) in changes {
        match id {
            Some(id) => names.insert(name.clone(), *id),
            None => names.remove(name),
        };
    }
}

fn short(act: &Act) -> String {
    let mut text = format!("{act:?}");
    text.truncate(200);
    text
}

impl Image {
    /// Writes the image into a folder, which must not exist.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn write(&self, root: &Path) -> io::Result<()> {
        fs::create_dir_all(root)?;
        for (path, content) in &self.entries {
            match content {
                Some(content) => fs::write(root.join(path), content)?,
                None => fs::create_dir(root.join(path))?,
            }
        }
        Ok(())
    }

    /// Returns the content of a file.
    pub fn file(&self, path: &Path) -> Option<&[u8]> {
        self.entries.iter().find(|(name, _)| name == path)?.1.as_deref()
    }

    /// Returns all paths.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.entries.iter().map(|(path, _)| path.as_path())
    }
}

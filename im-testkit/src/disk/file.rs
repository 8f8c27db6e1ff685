//! One file: its durable content, and the changes that may be on the disk.

use super::arrived::Choice;

/// A change to a file.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Write {
        offset: usize,
        data: Vec<u8>,
    },
    /// Zeros within the size.
    Zero {
        offset: usize,
        len: usize,
    },
    Size(usize),
    Grow(usize),
}

/// Whether a change is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Kept,
    /// The sync that should cover it failed: the system takes it for written, so no later sync
    /// writes it. It may be on the disk or not.
    WillBeLost,
}

#[derive(Debug, Clone, Default)]
pub(super) struct FileNode {
    /// The durable content.
    kept: Vec<u8>,
    /// The changes after it, from the first one that is not durable on.
    later: Vec<(usize, Change, State)>,
    /// Whether it was mapped for writing, so that its content is unknown.
    pub(super) mapped: bool,
}

impl FileNode {
    pub(super) fn new(kept: Vec<u8>) -> Self {
        Self { kept, ..Self::default() }
    }

    pub(super) fn change(&mut self, index: usize, change: Change) {
        self.later.push((index, change, State::Open));
    }

    /// Applies a sync that covers the changes before `begun`.
    pub(super) fn sync(&mut self, begun: usize, failed: bool) {
        let state = if failed { State::WillBeLost } else { State::Kept };
        for (index, _, now) in &mut self.later {
            if *index < begun && *now == State::Open {
                *now = state;
            }
        }
        let certain = self.later.iter().take_while(|(_, _, state)| *state == State::Kept).count();
        for (_, change, _) in self.later.drain(..certain) {
            change.apply(&mut self.kept);
        }
    }

    /// Returns the content as the process sees it.
    pub(super) fn now(&self) -> Vec<u8> {
        let mut now = self.kept.clone();
        self.later.iter().for_each(|(_, change, _)| change.apply(&mut now));
        now
    }

    /// Returns a content that may be found after a cut.
    pub(super) fn found(&self, choice: &mut Choice) -> Vec<u8> {
        let mut found = self.kept.clone();
        let grown = choice.grows();
        for (index, change, state) in &self.later {
            if *state == State::Kept {
                change.apply(&mut found);
            } else {
                change.apply_some(*index, &mut found, choice, grown);
            }
        }
        if self.mapped {
            found.fill_with(|| choice.noise());
        }
        found
    }
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Write { offset, data } => put(to, *offset, data),
            Self::Zero { offset, len } => {
                let end = to.len().min(offset.saturating_add(*len));
                if let Some(part) = to.get_mut(*offset..end) {
                    part.fill(0);
                }
            }
            Self::Size(len) => to.resize(*len, 0),
            Self::Grow(len) => to.resize(to.len().max(*len), 0),
        }
    }

    /// Applies the parts of a change that `choice` lets arrive.
    fn apply_some(&self, index: usize, to: &mut Vec<u8>, choice: &mut Choice, grown: bool) {
        let Self::Write { offset, data } = self else {
            if choice.sized(index) {
                self.apply(to);
            }
            return;
        };
        let end = offset + data.len();
        for (from, until) in choice.parts(index, *offset, end) {
            put(to, from, &data[from - offset..until - offset]);
        }
        // The size may arrive before the data within it.
        if grown && to.len() < end {
            to.resize(end, 0);
        }
    }
}

fn put(to: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if to.len() < end && !data.is_empty() {
        to.resize(end, 0);
    }
    if let Some(part) = to.get_mut(offset..end) {
        part.copy_from_slice(data);
    }
}

//! The database: a map, and its open snapshots.

use std::collections::BTreeMap;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use parking_lot::Mutex;

use remote_store::frames::{damaged, number, receive, send, to_value, value};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// The map now, and as it was at each version that a snapshot is open of, with how many there are.
#[derive(Default)]
struct State {
    version: u64,
    now: Arc<Map>,
    open: BTreeMap<u64, (Arc<Map>, usize)>,
}

/// Serves a new, empty database in memory until the listener fails.
///
/// # Errors
///
/// The listener's.
pub(crate) fn serve(listener: &TcpListener) -> io::Result<()> {
    let state = Arc::new(Mutex::new(State::default()));
    loop {
        let (stream, _) = listener.accept()?;
        let state = Arc::clone(&state);
        std::thread::spawn(move || connection(stream, &state));
    }
}

/// Answers the requests of one connection. Its snapshots end with it.
fn connection(mut stream: TcpStream, state: &Mutex<State>) {
    let _ = stream.set_nodelay(true);
    let mut held = Vec::new();
    while let Ok(request) = receive(&mut stream) {
        let sent = answer(&request, state, &mut held).and_then(|reply| send(&mut stream, &reply));
        if sent.is_err() {
            break;
        }
    }
    held.into_iter().for_each(|version| state.lock().release(version));
}

fn answer(
    request: &[Vec<u8>],
    state: &Mutex<State>,
    held: &mut Vec<u64>,
) -> io::Result<Vec<Vec<u8>>> {
    let (kind, fields) = request.split_first().ok_or_else(damaged)?;
    match (kind.as_slice(), fields) {
        (b"s", []) => {
            let version = state.lock().hold();
            held.push(version);
            Ok(vec![version.to_be_bytes().to_vec()])
        }
        (b"r", [version]) => {
            let version = number(version)?;
            let at = held.iter().position(|held| *held == version).ok_or_else(damaged)?;
            held.swap_remove(at);
            state.lock().release(version);
            Ok(Vec::new())
        }
        (b"g", [version, key]) => {
            let map = state.lock().at(version)?;
            Ok(vec![value(map.get(key).map(Vec::as_slice))])
        }
        (way @ (b"f" | b"b"), [version, first, behind, limit]) => {
            let (map, limit) = (state.lock().at(version)?, number(limit)? as usize);
            if first >= behind {
                return Ok(Vec::new());
            }
            let rows = map.range(first.clone()..behind.clone());
            let row = |(key, value): (&Vec<u8>, &Vec<u8>)| [key.clone(), value.clone()];
            Ok(match way {
                b"f" => rows.take(limit).flat_map(row).collect(),
                _ => rows.rev().take(limit).flat_map(row).collect(),
            })
        }
        (b"w", [checks, rows @ ..]) => {
            let (checks, changes) =
                rows.split_at_checked(number(checks)? as usize * 2).ok_or_else(damaged)?;
            let is_applied = state.lock().write(checks, changes);
            Ok(vec![if is_applied { b"a".to_vec() } else { b"c".to_vec() }])
        }
        _ => Err(damaged()),
    }
}

impl State {
    fn hold(&mut self) -> u64 {
        let held = self.open.entry(self.version).or_insert_with(|| (Arc::clone(&self.now), 0));
        held.1 += 1;
        self.version
    }

    fn release(&mut self, version: u64) {
        let Some(held) = self.open.get_mut(&version) else { return };
        held.1 -= 1;
        if held.1 == 0 {
            self.open.remove(&version);
        }
    }

    fn at(&self, version: &[u8]) -> io::Result<Arc<Map>> {
        if version.is_empty() {
            return Ok(Arc::clone(&self.now));
        }
        let held = self.open.get(&number(version)?).ok_or_else(damaged)?;
        Ok(Arc::clone(&held.0))
    }

    /// Makes changes if all checks hold.
    fn write(&mut self, checks: &[Vec<u8>], changes: &[Vec<u8>]) -> bool {
        let holds = |row: &[Vec<u8>]| self.now.get(&row[0]) == to_value(&row[1]).as_ref();
        if !checks.chunks_exact(2).all(holds) {
            return false;
        }
        // Copies the map if a snapshot has it.
        let map = Arc::make_mut(&mut self.now);
        for row in changes.chunks_exact(2) {
            match to_value(&row[1]) {
                Some(value) => map.insert(row[0].clone(), value),
                None => map.remove(&row[0]),
            };
        }
        self.version += 1;
        true
    }
}

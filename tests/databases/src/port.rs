//! A port that no other process will take.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};

use crate::folder::random;

/// Returns a free port on 127.0.0.1, below those that the system assigns to outgoing connections.
///
/// A killed server needs its port again. Any outgoing connection could take a port of the system's
/// range; even a client that connects to the killed server could, and would be connected to itself.
pub(crate) fn free() -> io::Result<u16> {
    let below = lowest_outgoing().filter(|lowest| *lowest > 2 * LOWEST).unwrap_or(32_768);
    for _ in 0..TRIES {
        let port = LOWEST + u16::from_le_bytes(random()?) % (below - LOWEST);
        if is_free(port) {
            return Ok(port);
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "no free port was found"))
}

/// Whether a server could listen there now.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

const LOWEST: u16 = 10_000;
const TRIES: usize = 100;

fn lowest_outgoing() -> Option<u16> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    range.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bound_port_is_not_free() {
        let port = free().unwrap();
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert!(!is_free(port));
        drop(held);
    }

    #[test]
    fn outgoing_connections_do_not_get_it() {
        if let Some(lowest) = lowest_outgoing().filter(|lowest| *lowest > 2 * LOWEST) {
            assert!((0..50).all(|_| free().unwrap() < lowest));
        }
    }
}

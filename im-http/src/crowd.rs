//! How many connections one address has, so that one peer cannot take every slot of a listener.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use im_core::engine::network_of;
use parking_lot::Mutex;

/// Connections by network.
///
/// Invariant: every count is at least 1 and is the number of [`Place`]s that live for it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Crowd(Arc<Mutex<HashMap<IpAddr, usize>>>);

impl Crowd {
    /// A place for one more connection of this address, unless its network has `max`.
    pub(crate) fn enter(&self, address: IpAddr, max: usize) -> Option<Place> {
        let network = network_of(address);
        let mut counts = self.0.lock();
        let count = counts.entry(network).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Place { crowd: self.clone(), network })
    }
}

/// A connection's place; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    crowd: Crowd,
    network: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.crowd.0.lock();
        if let Some(count) = counts.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_its_bound_and_others_do_not_feel_it() {
        let (crowd, max) = (Crowd::default(), 2);
        let enter = |address: &str| crowd.enter(address.parse().unwrap(), max);
        let (first, second) = (enter("2001:db8::1"), enter("2001:db8::2"));
        assert!(first.is_some() && second.is_some());
        assert!(enter("2001:db8::3").is_none());
        assert!(enter("192.0.2.1").is_some());
        drop(first);
        assert!(enter("2001:db8::3").is_some());
        drop(second);
        assert!(crowd.0.lock().is_empty());
    }
}

//! Bounds on sockets, in total and per address, so that one peer cannot occupy a listener.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use im_core::engine::network_of;
use parking_lot::Mutex;

use crate::metrics;

/// Counts of sockets, in total and per network.
///
/// Invariant: every count is at least 1 and equals the number of its live [`SocketPermit`]s.
#[derive(Debug, Clone, Default)]
pub(crate) struct SocketLimiter(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    networks: HashMap<IpAddr, usize>,
}

/// The bound that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    All,
    Address,
}

impl SocketLimiter {
    /// Returns a permit for one more socket, unless there are `max`, or its network has `share`.
    /// Sockets without an address count only towards `max`.
    pub(crate) fn enter(
        &self,
        address: Option<IpAddr>,
        max: usize,
        share: usize,
    ) -> Result<SocketPermit, Full> {
        let network = address.map(network_of);
        let mut counts = self.0.lock();
        let of_network = network.and_then(|network| counts.networks.get(&network)).copied();
        let of_network = of_network.unwrap_or_default();
        if counts.all >= max {
            ::metrics::counter!(metrics::SOCKETS_REFUSED, "reason" => "all").increment(1);
            return Err(Full::All);
        }
        if network.is_some() && of_network >= share {
            ::metrics::counter!(metrics::SOCKETS_REFUSED, "reason" => "address").increment(1);
            return Err(Full::Address);
        }
        counts.all += 1;
        if let Some(network) = network {
            counts.networks.insert(network, of_network + 1);
        }
        ::metrics::gauge!(metrics::SOCKETS).increment(1.0);
        Ok(SocketPermit { limiter: self.clone(), network })
    }
}

/// A socket's permit at its listener, released when it is dropped. It moves with a socket that an
/// upgrade unwraps.
#[derive(Debug)]
pub struct SocketPermit {
    limiter: SocketLimiter,
    network: Option<IpAddr>,
}

impl Drop for SocketPermit {
    fn drop(&mut self) {
        ::metrics::gauge!(metrics::SOCKETS).decrement(1.0);
        let mut counts = self.limiter.0.lock();
        counts.all -= 1;
        let Some(network) = self.network else { return };
        if let Some(count) = counts.networks.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                counts.networks.remove(&network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_bound_spares_other_networks() {
        let limiter = SocketLimiter::default();
        let enter = |address: &str| limiter.enter(Some(address.parse().unwrap()), 4, 2);
        let (first, second) = (enter("2001:db8::1").unwrap(), enter("2001:db8::2").unwrap());
        assert_eq!(enter("2001:db8::3").unwrap_err(), Full::Address);
        let others = (enter("192.0.2.1").unwrap(), limiter.enter(None, 4, 2).unwrap());
        assert_eq!(enter("192.0.2.1").unwrap_err(), Full::All);
        assert_eq!(limiter.enter(None, 4, 2).unwrap_err(), Full::All);
        drop(first);
        drop(enter("2001:db8::3").unwrap());
        drop((second, others));
        let counts = limiter.0.lock();
        assert!(counts.all == 0 && counts.networks.is_empty());
    }
}

//! How often one peer may ask: so many at once, and then one a second.
//!
//! The memory is as large as it ever gets from the beginning, whoever comes: peers
//! share places by a hash that nobody outside can compute. Two who meet share a
//! limit, which is the price.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// How many requests a peer may make at once.
pub(super) const BURST: u64 = 60;
/// How long it takes until one more is allowed.
const REFILL: Duration = Duration::from_secs(1);
/// How many places there are.
const PLACES: usize = 1 << 14;

/// The peers of late.
pub(super) struct Peers {
    /// Of each place, when it will have had its requests allowed again, in
    /// milliseconds since the start (the generic cell rate algorithm).
    places: Box<[AtomicU64]>,
    start: Instant,
    hasher: RandomState,
}

impl Peers {
    /// Nobody yet.
    pub(super) fn new(start: Instant) -> Self {
        let places = (0..PLACES).map(|_| AtomicU64::new(0)).collect();
        Self { places, start, hasher: RandomState::new() }
    }

    /// Counts a request in; if it is one too many, in how many seconds to come
    /// again.
    pub(super) fn admit(&self, peer: IpAddr, now: Instant) -> Result<(), u64> {
        let refill = millis(REFILL);
        let now = millis(now.saturating_duration_since(self.start));
        let place = usize::try_from(self.hasher.hash_one(network(peer))).unwrap_or(usize::MAX);
        let place = &self.places[place % PLACES];
        let admitted = place.try_update(Ordering::Relaxed, Ordering::Relaxed, |full| {
            let full = full.max(now);
            (full - now <= (BURST - 1) * refill).then_some(full + refill)
        });
        admitted.map(drop).map_err(|full| (full - now).saturating_sub((BURST - 1) * refill).div_ceil(1000))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What one peer has: an address, or in IPv6 the 64 bits before what everybody
/// chooses freely.
fn network(peer: IpAddr) -> u128 {
    match peer.to_canonical() {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits() >> 64 << 64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_peer_has_its_burst_and_then_one_a_second() {
        let start = Instant::now();
        let peers = Peers::new(start);
        let peer = ip("192.0.2.1");
        for _ in 0..BURST {
            assert_eq!(peers.admit(peer, start), Ok(()));
        }
        assert_eq!(peers.admit(peer, start), Err(1));
        assert_eq!(peers.admit(peer, start + Duration::from_millis(999)), Err(1));
        assert_eq!(peers.admit(peer, start + REFILL), Ok(()));
        assert_eq!(peers.admit(peer, start + REFILL), Err(1));
        let later = start + Duration::from_hours(1000);
        assert_eq!((0..100).filter(|_| peers.admit(peer, later).is_ok()).count(), 60);
    }

    #[test]
    fn an_address_is_a_peer_and_in_ipv6_a_network_is() {
        let one = |a: &str, b: &str| network(ip(a)) == network(ip(b));
        assert!(one("192.0.2.1", "::ffff:192.0.2.1"));
        assert!(one("2001:db8::1", "2001:db8:0:0:ffff::2"));
        assert!(!one("2001:db8::1", "2001:db8:0:1::1"));
        assert!(!one("192.0.2.1", "192.0.2.2"));
    }

    #[test]
    fn many_peers_do_not_stand_in_each_others_way() {
        let start = Instant::now();
        let peers = Peers::new(start);
        let refused = (0..2000_u32)
            .flat_map(|n| std::iter::repeat_n(IpAddr::from(n.to_be_bytes()), 12))
            .filter(|peer| peers.admit(*peer, start).is_err());
        // Six would have to meet at one place of sixteen thousand.
        assert_eq!(refused.count(), 0);
    }
}

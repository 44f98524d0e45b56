//! How often one peer may ask: so many at once, and then one a second.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How many requests a peer may make at once.
const BURST: u32 = 60;
/// How long it takes until one more is allowed.
const REFILL: Duration = Duration::from_secs(1);
/// How many peers are remembered. Whoever comes from more places than this could ask
/// so often without being forgotten, too.
const PEERS_MAX: usize = 16 * 1024;

/// The peers of late.
#[derive(Default)]
pub(super) struct Peers(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    /// Of each peer, when it will have all its requests again (the generic cell rate
    /// algorithm). Who has them is as good as forgotten.
    whole: HashMap<u128, Instant>,
    swept: Option<Instant>,
}

impl Peers {
    /// Counts a request in; if it is one too many, how long to wait.
    pub(super) fn admit(&self, peer: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let peer = network(peer);
        if !seen.whole.contains_key(&peer) {
            seen.make_room(now);
        }
        let whole = seen.whole.entry(peer).or_insert(now);
        let due = whole.saturating_duration_since(now);
        match due.checked_sub(REFILL * (BURST - 1)) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => {
                *whole = now + due + REFILL;
                Ok(())
            }
        }
    }
}

impl Seen {
    /// Keeps the number of peers within its limit.
    fn make_room(&mut self, now: Instant) {
        if self.whole.len() < PEERS_MAX {
            return;
        }
        // Not with every request: it goes through all of them.
        if self.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= REFILL) {
            self.whole.retain(|_, whole| *whole > now);
            self.swept = Some(now);
        }
        if self.whole.len() >= PEERS_MAX
            && let Some(any) = self.whole.keys().next().copied()
        {
            self.whole.remove(&any);
        }
    }
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
        let peers = Peers::default();
        let peer = ip("192.0.2.1");
        for _ in 0..BURST {
            assert_eq!(peers.admit(peer, start), Ok(()));
        }
        assert_eq!(peers.admit(peer, start), Err(REFILL));
        assert_eq!(peers.admit(ip("192.0.2.2"), start), Ok(()), "another is another");
        let nearly = Duration::from_millis(999);
        assert_eq!(peers.admit(peer, start + nearly), Err(Duration::from_millis(1)));
        assert_eq!(peers.admit(peer, start + REFILL), Ok(()));
        assert_eq!(peers.admit(peer, start + REFILL), Err(REFILL));
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
    fn no_more_peers_are_remembered_than_the_limit() {
        let start = Instant::now();
        let peers = Peers::default();
        let count = |peers: &Peers| peers.0.lock().unwrap().whole.len();
        for n in 0..3 * u32::try_from(PEERS_MAX).unwrap() {
            assert_eq!(peers.admit(IpAddr::from(n.to_be_bytes()), start), Ok(()));
        }
        assert_eq!(count(&peers), PEERS_MAX);
        // Whoever has been idle is not remembered at all.
        assert_eq!(peers.admit(ip("192.0.2.1"), start + REFILL), Ok(()));
        assert_eq!(count(&peers), 1);
    }
}

//! How many connections there may be: in all, and of one peer.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;

use crate::peer::network;

/// Who may connect.
#[derive(Clone)]
pub struct Admission(Arc<Inner>);

struct Inner {
    max: usize,
    per_peer_max: usize,
    trusted: Arc<[IpNet]>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    all: usize,
    /// By network, those that have a connection.
    by_peer: HashMap<IpAddr, usize>,
}

/// Which limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// That of all connections.
    All,
    /// That of one peer's.
    Peer,
}

impl Admission {
    /// At most `max` connections, and `per_peer_max` of one peer unless it is
    /// trusted: everybody comes through a proxy.
    #[must_use]
    pub fn new(max: usize, per_peer_max: usize, trusted: Arc<[IpNet]>) -> Self {
        Self(Arc::new(Inner { max, per_peer_max, trusted, open: Mutex::default() }))
    }

    /// Gives a connection its place, which dropping it frees.
    ///
    /// # Errors
    /// [`Full`].
    pub fn admit(&self, address: IpAddr) -> Result<Place, Full> {
        let canonical = address.to_canonical();
        let peer =
            (!self.0.trusted.iter().any(|network| network.contains(&canonical))).then(|| network(address));
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.all >= self.0.max {
            return Err(Full::All);
        }
        if let Some(peer) = peer {
            let of_peer = open.by_peer.entry(peer).or_default();
            if *of_peer >= self.0.per_peer_max {
                return Err(Full::Peer);
            }
            *of_peer += 1;
        }
        open.all += 1;
        Ok(Place { admission: self.clone(), peer })
    }
}

/// The place of one connection.
pub struct Place {
    admission: Admission,
    peer: Option<IpAddr>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.admission.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.all -= 1;
        if let Some(peer) = self.peer
            && let Some(of_peer) = open.by_peer.get_mut(&peer)
        {
            *of_peer -= 1;
            if *of_peer == 0 {
                open.by_peer.remove(&peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn there_are_so_many_in_all_and_so_many_of_one_peer() {
        let admission = Admission::new(5, 2, Arc::default());
        let admit = |text: &str| admission.admit(ip(text));
        let first = admit("192.0.2.1").unwrap();
        let _second = admit("::ffff:192.0.2.1").unwrap();
        assert_eq!(admit("192.0.2.1").err(), Some(Full::Peer));
        drop(first);
        let _again = admit("192.0.2.1").unwrap();
        // Four thousand addresses of one /64 are one peer.
        let of_one: Vec<_> = (0..4096).filter_map(|n| admit(&format!("2001:db8::{n:x}")).ok()).collect();
        assert_eq!(of_one.len(), 2);
        let _fifth = admit("2001:db8:0:1::1").unwrap();
        assert_eq!(admit("192.0.2.9").err(), Some(Full::All));
        drop(of_one);
        assert!(admit("192.0.2.9").is_ok());
    }

    #[test]
    fn a_trusted_proxy_has_only_the_limit_of_all() {
        let trusted: Arc<[IpNet]> = ["10.0.0.0/8".parse().unwrap()].into();
        let admission = Admission::new(10, 2, trusted);
        let places: Vec<_> = (0..20).filter_map(|_| admission.admit(ip("::ffff:10.1.2.3")).ok()).collect();
        assert_eq!(places.len(), 10);
        drop(places);
        assert!(admission.0.open.lock().unwrap().by_peer.is_empty());
        assert_eq!(admission.0.open.lock().unwrap().all, 0);
    }
}

//! Who is at the other end of a connection.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// Who is at the other end of a connection: an extension of every request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where the connection comes from.
    pub address: SocketAddr,
    /// The DNS and URI subject alternative names of the client certificate that was
    /// verified for the connection; empty when there was none.
    pub names: Arc<[String]>,
}

/// What one peer has: an address, or in IPv6 the /64 before what everybody chooses
/// freely.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_peer_and_in_ipv6_a_network_is() {
        let one = |a: &str, b: &str| network(a.parse().unwrap()) == network(b.parse().unwrap());
        assert!(one("192.0.2.1", "::ffff:192.0.2.1"));
        assert!(one("2001:db8::1", "2001:db8:0:0:ffff::2"));
        assert!(!one("2001:db8::1", "2001:db8:0:1::1"));
        assert!(!one("192.0.2.1", "192.0.2.2"));
    }
}

//! Who is at the other end of a gRPC connection, as far as the connection itself
//! tells.

use std::net::SocketAddr;
use std::sync::Arc;

/// The other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where it is: the other end of the TCP connection, which may be a proxy.
    pub address: SocketAddr,
    /// The DNS and URI subject alternative names of the client certificate that was
    /// verified for the connection; empty when there was none.
    pub names: Arc<[String]>,
}

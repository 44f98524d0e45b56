//! The socket of the demo: what hyper itself refuses has the headers of every page.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};

use crate::listener::refusing::{Refusing, Words};

/// A listening socket, and what is said of a request that cannot be read.
pub(super) struct Socket {
    pub listener: TcpListener,
    pub words: Words,
}

impl Listener for Socket {
    type Io = Refusing<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        (Refusing::new(stream, Arc::clone(&self.words)), address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

//! HTTP/2 frame by frame (RFC 9113): what no client would send.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// One frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// The headers of a call, compressed in the plainest way (RFC 7541).
pub fn headers() -> Vec<u8> {
    fn literal(block: &mut Vec<u8>, name: &[u8], value: &str) {
        block.extend_from_slice(name);
        block.push(u8::try_from(value.len()).unwrap());
        block.extend_from_slice(value.as_bytes());
    }
    let mut block = vec![0x83, 0x86];
    literal(&mut block, &[0x04], "/threads.identity.v1.AccountService/ListAccounts");
    literal(&mut block, &[0x01], "localhost");
    literal(&mut block, &[0x0f, 0x10], "application/grpc");
    literal(&mut block, b"\0\x02te", "trailers");
    block
}

/// A connection over which anything may be sent.
pub struct Connection {
    stream: TcpStream,
    reader: Option<JoinHandle<()>>,
    told_to_go: Arc<AtomicBool>,
    closed: Arc<AtomicBool>,
}

impl Connection {
    /// Connects, says what every client says, and reads whatever comes.
    pub fn open(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).unwrap();
        let (told_to_go, closed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let mut reading = stream.try_clone().unwrap();
        let (told, ended) = (Arc::clone(&told_to_go), Arc::clone(&closed));
        let reader = std::thread::spawn(move || {
            let mut head = [0; 9];
            let mut rest = Vec::new();
            while reading.read_exact(&mut head).is_ok() {
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                rest.resize(length, 0);
                if reading.read_exact(&mut rest).is_err() {
                    break;
                }
                if head[3] == GOAWAY {
                    told.store(true, Ordering::Release);
                }
            }
            ended.store(true, Ordering::Release);
        });
        Self { stream, reader: Some(reader), told_to_go, closed }
    }

    /// Sends bytes; false once nobody takes them.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Whether the server has said that it will hear no more.
    pub fn told_to_go(&self) -> bool {
        self.told_to_go.load(Ordering::Acquire)
    }

    /// Whether the server has hung up.
    pub fn closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

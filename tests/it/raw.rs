//! gRPC byte by byte: calls that no generated client would make, and answers
//! before a client has put its own meaning into them.

use std::net::SocketAddr;

use http::{HeaderMap, Request};
use prost::Message as _;
use threads_identity::proto::DESCRIPTORS;
use tokio::net::TcpStream;
use tonic::Status;

/// What came back: headers and trailers together, and the body.
pub struct Answer {
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    /// The outcome as a client would see it.
    pub fn result(&self) -> Result<(), Status> {
        let status = Status::from_header_map(&self.headers).expect("a grpc-status");
        if status.code() == tonic::Code::Ok { Ok(()) } else { Err(status) }
    }

    /// A header as text; empty when it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// The bytes of a message as they travel.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(message);
    frame
}

/// Makes one call on a connection of its own.
pub async fn call(grpc: SocketAddr, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
    let tcp = TcpStream::connect(grpc).await.unwrap();
    let (mut client, connection) = h2::client::handshake(tcp).await.unwrap();
    let call = async {
        let mut request = Request::post(format!("http://{grpc}{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (answer, mut stream) = client.send_request(request.body(()).unwrap(), false).unwrap();
        // An answer may come, and end the stream, before all is sent.
        let _ = stream.send_data(body.into(), true);
        let (parts, mut data) = answer.await.unwrap().into_parts();
        let mut answer = Answer { headers: parts.headers, body: Vec::new() };
        while let Some(Ok(chunk)) = data.data().await {
            data.flow_control().release_capacity(chunk.len()).unwrap();
            answer.body.extend_from_slice(&chunk);
            if path.ends_with("/WatchAccounts") {
                // It has no end: what has come is the answer.
                answer.headers.insert("grpc-status", http::HeaderValue::from_static("0"));
                return answer;
            }
        }
        if let Ok(Some(trailers)) = data.trailers().await {
            answer.headers.extend(trailers);
        }
        answer
    };
    tokio::select! {
        answer = call => answer,
        ended = connection => panic!("the connection ended first: {ended:?}"),
    }
}

/// The paths of all methods of the public package.
pub fn methods() -> Vec<String> {
    let set = prost_types::FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let mut paths = Vec::new();
    for file in set.file.iter().filter(|file| file.package() == "threads.identity.v1") {
        for service in &file.service {
            let service_name = format!("{}.{}", file.package(), service.name());
            paths.extend(service.method.iter().map(|method| format!("/{service_name}/{}", method.name())));
        }
    }
    assert!(paths.len() >= 10);
    paths
}

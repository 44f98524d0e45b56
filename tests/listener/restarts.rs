//! Ends in order: nothing that was asked is lost.

use std::time::{Duration, Instant};

use threads_identity::proto::v1::WatchAccountsRequest;
use threads_identity::proto::v1::account_service_client::AccountServiceClient;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tonic::Code;
use tonic::transport::Endpoint;
use tonic_types::StatusExt as _;

use crate::world::{PATIENCE, World};

/// How often one of the two replicas begins anew.
const RESTARTS: usize = 8;
/// How many watches are open when it is asked to stop.
const WATCHES: usize = 100;

/// A free port, for a service that comes back where it was.
async fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

#[tokio::test]
async fn callers_of_two_replicas_notice_nothing_of_restarts() {
    let world = World::new().await;
    let addresses = [free_address().await, free_address().await];
    let mut processes = Vec::new();
    for address in &addresses {
        processes.push(world.serve_at(address, "", None).await);
    }
    let channels = addresses.each_ref().map(|address| {
        Endpoint::from_shared(format!("http://{address}")).unwrap().timeout(PATIENCE).connect_lazy()
    });
    let done = std::sync::atomic::AtomicBool::new(false);
    // As operations.md tells callers to: what is UNAVAILABLE, and the end of a connection
    // whatever the client calls it, goes to the other replica at once; nothing else does.
    let calling = async {
        let (mut calls, mut repeated) = (0_usize, 0_usize);
        while !done.load(std::sync::atomic::Ordering::Acquire) {
            let mut tried = 0;
            while let Err(status) = world.ask(&channels[(calls + tried) % 2]).await {
                let is_of_connection = status.details().is_empty()
                    && matches!(status.code(), Code::Cancelled | Code::Unknown | Code::Internal);
                assert!(status.code() == Code::Unavailable || is_of_connection, "call {calls}: {status:?}");
                tried += 1;
                assert!(tried < 4, "call {calls} has failed: {status:?}");
            }
            calls += 1;
            repeated += tried;
        }
        (calls, repeated)
    };
    let restarting = async {
        for n in 0..RESTARTS {
            let process = &mut processes[n % 2];
            process.terminate();
            let status = process.ended().await;
            assert_eq!(status.code(), Some(0), "{}", process.log());
            *process = world.serve_at(&addresses[n % 2], "", None).await;
            // Its clients come back.
            sleep(Duration::from_millis(200)).await;
        }
        done.store(true, std::sync::atomic::Ordering::Release);
    };
    let ((calls, repeated), ()) = tokio::join!(calling, restarting);
    assert!(calls > RESTARTS * 10, "{calls} calls, {repeated} repeated");
}

#[tokio::test]
async fn every_watch_ends_with_where_to_go_on() {
    let world = World::new().await;
    let mut process = world.serve("").await;
    let channels = [process.connect().await, process.connect().await];
    let mut watches = Vec::new();
    for n in 0..WATCHES {
        let mut client = AccountServiceClient::new(channels[n % 2].clone());
        let request = world.request(WatchAccountsRequest::default());
        let mut watch = client.watch_accounts(request).await.unwrap().into_inner();
        watch.message().await.unwrap().unwrap();
        watches.push(watch);
    }
    process.terminate();
    let start = Instant::now();
    for mut watch in watches {
        let end = loop {
            match timeout(PATIENCE, watch.message()).await.expect("it ends") {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ended as if all were well"),
                Err(status) => break status,
            }
        };
        assert_eq!(end.code(), Code::Unavailable, "{end:?}");
        let info = end.get_details_error_info().unwrap_or_else(|| panic!("no reason: {end:?}"));
        assert_eq!(info.reason, "SHUTTING_DOWN");
        assert!(!info.metadata["cursor"].is_empty());
    }
    assert_eq!(process.ended().await.code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(15), "it took {:?} of a drain of 20 s", start.elapsed());
}

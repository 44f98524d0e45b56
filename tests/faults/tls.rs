//! Postgres on another machine is not spoken to in plaintext by mistake.

use threads_identity::postgres::Options as ClusterOptions;

use crate::world::{Ground, World, free_port};

/// T46: a server without TLS is refused by whoever asks for it, and it is said.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_is_refused_where_the_url_asks_for_it() {
    let port = free_port();
    let ground = Ground::with(|data| ClusterOptions { port: Some(port), ..ClusterOptions::new(data) }).await;
    let url = ground.postgres.cluster.as_ref().unwrap().tcp_url("postgres").unwrap();
    let url = url.replace("sslmode=disable", "sslmode=verify-full");
    let world = World::on_url(ground, &url).await;
    world.until("it says so", async || world.probe("/readyz").await.1.contains("it offers no TLS")).await;
    assert_eq!(world.probe("/livez").await.0, 200);
    assert!(!world.log().contains("postgres://"));
    world.end().await;
}

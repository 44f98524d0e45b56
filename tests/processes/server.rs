//! A real Postgres of a test's own.

use std::process::Command;

use threads_identity::postgres::{Cluster, Installation, Options, Places};

/// The database server, on data that outlasts it.
pub struct Postgres {
    pub installation: Installation,
    options: Options,
    url: String,
    pub cluster: Option<Cluster>,
}

impl Postgres {
    /// Starts it for the first time.
    pub async fn start(options: Options) -> Self {
        let environment = |name: &str| std::env::var(name).ok();
        let installation = Places::from_env(&environment).locate().await.unwrap();
        let mut postgres = Self { installation, options, url: String::new(), cluster: None };
        postgres.run().await;
        postgres
    }

    /// Where it is, past every proxy, also while it is down.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Begins, on the data that is there. Durable: what it has confirmed it must
    /// still have after a crash.
    pub async fn run(&mut self) {
        let options = self.options.clone();
        let cluster = Cluster::start(&self.installation, options).await.unwrap();
        self.url = cluster.url("postgres");
        self.cluster = Some(cluster);
    }

    /// Stops it in order.
    pub async fn stop(&mut self) {
        self.cluster.take().unwrap().stop().await;
    }

    /// Lets it crash: nothing is finished, the log is replayed at the next start.
    pub async fn crash(&mut self) {
        let cluster = self.cluster.take().unwrap();
        let sent = Command::new("kill").args(["-QUIT", &cluster.process_id().to_string()]).status();
        assert!(sent.unwrap().success());
        cluster.stop().await;
    }
}

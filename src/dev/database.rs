//! The database of `dev`: on the server that somebody named, or on one of our
//! own that ends with us.

use std::path::Path;
use std::str::FromStr as _;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};

use super::{Failure, given_server, variable};
use crate::cli::{Variables, print_note};
use crate::postgres::{Cluster, Options, Places, SERVER_VARIABLE};

/// The database's name.
const NAME: &str = "threads_identity_dev";
/// Enough for the service, a few tools, and tests of a newcomer's own.
const CONNECTIONS_MAX: u32 = 100;

/// A database, and the server that was started for it.
pub(super) struct Database {
    url: String,
    cluster: Option<Cluster>,
}

impl Database {
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) async fn stop(self) {
        if let Some(cluster) = self.cluster {
            cluster.stop().await;
        }
    }
}

/// Starts or finds the database, and makes it if it is not there.
pub(super) async fn start(data_dir: &Path, variables: &Variables) -> Result<Database, Failure> {
    if let Some(server) = given_server(variables) {
        let options = PgConnectOptions::from_str(server)
            .map_err(|_| format!("{SERVER_VARIABLE}: is not a Postgres URL"))?;
        let url = options.clone().database(NAME).to_url_lossy().to_string();
        create(&options)
            .await
            .map_err(|error| format!("the server that {SERVER_VARIABLE} names: {error}"))?;
        return Ok(Database { url, cluster: None });
    }
    let environment = |name: &str| variable(variables, name).map(str::to_owned);
    print_note("Starting Postgres …");
    let installation = Places::from_env(&environment).locate().await?;
    let options = Options { max_connections: CONNECTIONS_MAX, ..Options::new(data_dir.join("postgres")) };
    let cluster = Cluster::start(&installation, options).await?;
    create(&PgConnectOptions::from_str(&cluster.url("postgres"))?).await?;
    Ok(Database { url: cluster.url(NAME), cluster: Some(cluster) })
}

async fn create(server: &PgConnectOptions) -> Result<(), Failure> {
    let mut connection = PgConnection::connect_with(server).await?;
    let there: Option<i32> = sqlx::query_scalar("select 1 from pg_database where datname = $1")
        .bind(NAME)
        .fetch_optional(&mut connection)
        .await?;
    if there.is_none() {
        sqlx::raw_sql("create database threads_identity_dev").execute(&mut connection).await?;
    }
    connection.close().await?;
    Ok(())
}

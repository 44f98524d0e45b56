//! The database: whether it can be used as it is.

use super::Report;
use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::sealing::Keyring;
use crate::secret::DatabaseUrl;
use crate::service::CLOCK_SKEW_MAX;
use crate::store::diagnosis::{self, Diagnosis, Link, Schema, Server};
use crate::store::{self, keys, self_test};

const SUBJECT: &str = "database.url";
/// The oldest version that is supported.
const VERSION_MIN: i32 = 15;
/// What the batches and the events own beside the pool.
const CONNECTIONS_OWNED: u32 = 10;

/// Looks at the database that is configured.
pub(super) async fn examine(report: &mut Report, config: &Config, keyring: Option<&Keyring>) {
    let Some(url) = &config.database.url else { return };
    let mut connection = match keys::open(url).await {
        Ok(connection) => connection,
        Err(error) => {
            report.problem(
                SUBJECT,
                error.to_string(),
                "See that Postgres runs, that this machine reaches it, and that user, password and database are right.",
            );
            return;
        }
    };
    examine_pooling(report, url).await;
    examine_direct(report, config).await;
    match diagnosis::diagnose(&mut connection, SystemClock.now()).await {
        Ok(diagnosis) => {
            examine_server(report, config, &diagnosis.server);
            examine_schema(report, &diagnosis);
            examine_belonging(report, &diagnosis, keyring);
        }
        Err(error) => report.problem(SUBJECT, error.to_string(), "See what the server's own log says."),
    }
}

/// Tries what `serve` tries before it serves: whether what may pool connections in
/// between mixes up their statements.
async fn examine_pooling(report: &mut Report, url: &DatabaseUrl) {
    let Ok(pool) = store::pool_of_one(url) else { return };
    match self_test::run_through(&pool).await {
        Ok(()) => report.ok(SUBJECT, "connections answer for their own statements"),
        Err(unfit) => {
            let text = unfit.to_string();
            let found = text.strip_prefix("database.url: ").unwrap_or(&text);
            report.problem(SUBJECT, found, "`serve` would not start; see docs/configuration.md, PgBouncer.");
        }
    }
}

/// The way past whatever pools connections, which commands take.
async fn examine_direct(report: &mut Report, config: &Config) {
    const SUBJECT: &str = "database.direct_url";
    let Some(url) = &config.database.direct_url else { return };
    match keys::open(url).await {
        Ok(_) => report.ok(SUBJECT, "leads to a database"),
        Err(error) => report.problem(
            SUBJECT,
            error.to_string(),
            "Migrations and `keys` go this way: it must lead to Postgres itself.",
        ),
    }
}

fn examine_server(report: &mut Report, config: &Config, server: &Server) {
    let major = server.version / 10_000;
    if major < VERSION_MIN {
        report.problem(SUBJECT, format!("Postgres {major} is too old"), "Postgres 15 or newer is needed.");
    } else {
        report.ok(SUBJECT, format!("Postgres {major}.{}", server.version % 10_000));
    }
    if !server.is_writable {
        report.problem(
            SUBJECT,
            "it is a standby, or read-only: nothing can be written",
            "Point database.url at the primary, through an address that follows a failover.",
        );
    }
    if server.encoding != "UTF8" {
        let fix = "Make a database with the encoding UTF8 and move over.";
        report.problem(SUBJECT, format!("its encoding is {}", server.encoding), fix);
    }
    match server.link {
        Link::Plain => report.problem(
            SUBJECT,
            "the connection crosses a network and is not encrypted",
            "Add sslmode=verify-full to the URL, and sslrootcert=FILE if the server's certificate is your own's.",
        ),
        Link::Encrypted => report.ok(SUBJECT, "the connection is encrypted"),
        Link::Local => report.ok(SUBJECT, "the connection stays on this machine"),
    }
    if server.is_superuser {
        report.warning(
            SUBJECT,
            "the service connects as a superuser",
            "Give it a role of its own that owns its tables and nothing else.",
        );
    }
    let wanted = config.database.pool_size + CONNECTIONS_OWNED;
    let left = u32::try_from(server.connections_max).unwrap_or(0);
    if wanted > left {
        report.problem(
            "database.pool_size",
            format!("each replica holds up to {wanted} connections, and the server allows {left} in all"),
            "Lower it, raise the server's max_connections, or put PgBouncer in between.",
        );
    } else {
        let found = format!("each replica holds up to {wanted} of the server's {left} connections");
        report.ok("database.pool_size", found);
    }
    if server.clock_skew.abs() > CLOCK_SKEW_MAX {
        report.problem(
            "the clock",
            format!("{:+.1} s from that of Postgres: no replica here would be ready", server.clock_skew),
            "Let both machines keep their clocks by NTP.",
        );
    } else {
        report.ok("the clock", format!("{:+.1} s from that of Postgres", server.clock_skew));
    }
}

fn examine_schema(report: &mut Report, diagnosis: &Diagnosis) {
    const SUBJECT: &str = "the schema";
    match &diagnosis.schema {
        Schema::Absent => {
            report.problem(SUBJECT, "the database is empty", "Run `threads-identity migrate`.");
            return;
        }
        Schema::Older(missing) => {
            let fix = "Run `threads-identity migrate`, then start this version.";
            report.problem(SUBJECT, format!("{missing} migrations are missing"), fix);
        }
        Schema::Newer(unknown) => report.ok(
            SUBJECT,
            format!("a newer version has added {unknown} migrations, which this one goes along with"),
        ),
        Schema::Current => report.ok(SUBJECT, "is up to date"),
    }
    if diagnosis.rights_missing.is_empty() {
        report.ok(SUBJECT, "the role has every right that it needs");
    } else {
        let missing = diagnosis.rights_missing.join(", ");
        report.problem(
            SUBJECT,
            format!("the role lacks {missing}"),
            "Grant select, insert, update and delete on the tables (and usage on the sequences) to it.",
        );
    }
}

fn examine_belonging(report: &mut Report, diagnosis: &Diagnosis, keyring: Option<&Keyring>) {
    const SUBJECT: &str = "keys";
    let (Some(keyring), Some(deployment)) = (keyring, &diagnosis.deployment) else { return };
    if deployment.id_key_fingerprint == keyring.id_key().fingerprint() {
        report.ok(SUBJECT, "the keyring's id_key is the one that the database was filled under");
    } else {
        report.problem(
            SUBJECT,
            "the keyring's id_key is not the one that the database was filled under: `serve` would refuse",
            "Use the keyring that belongs to this database.",
        );
    }
    for key in &deployment.sealing_keys {
        let retired = key.retire_time.is_some();
        if !retired && !keyring.has(&key.key_id) {
            report.problem(
                SUBJECT,
                format!("values are sealed under {}, which this keyring lacks", key.key_id),
                "Give this replica the keyring that the others have.",
            );
        }
        if retired && keyring.active_id() == key.key_id {
            report.problem(
                SUBJECT,
                format!("{} is retired, and this keyring seals under it", key.key_id),
                "Give this replica the keyring that the others have.",
            );
        }
    }
    if deployment.replay_required {
        report.problem(
            "the schema",
            "the database was put back from a backup: nothing is served until the ledger has been applied",
            "Run `threads-identity erase --replay FILE` with the ledger that was kept beside the backup.",
        );
    }
}

//! The machine that was measured on, in words.

use std::fs;

use sqlx::{Connection as _, PgConnection};

/// Processors, memory, kernel and Postgres.
pub async fn describe(database_url: &str) -> String {
    let line = |file: &str, key: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let model = line("/proc/cpuinfo", "model name");
    let memory = line("/proc/meminfo", "MemTotal");
    let memory: f64 = memory.trim_end_matches(" kB").parse().unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = kernel.trim().split('-').next().unwrap_or_default();
    let mut connection = PgConnection::connect(database_url).await.unwrap();
    let mut setting = async |name: &str| -> String {
        sqlx::query_scalar("select current_setting($1)").bind(name).fetch_one(&mut connection).await.unwrap()
    };
    let version = setting("server_version").await;
    let version = version.split(' ').next().unwrap_or_default().to_owned();
    let buffers = setting("shared_buffers").await;
    format!(
        "{cores} cores ({model}), {:.0} GiB of memory, Linux {kernel}, Postgres {version} with shared_buffers = {buffers}",
        memory / 1024.0 / 1024.0
    )
}

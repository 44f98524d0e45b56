//! The disk is full.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use threads_identity::postgres::Options as ClusterOptions;
use threads_identity::simulator::{Decision, Endpoint};
use tokio::time::sleep;

use crate::world::{Ground, World, reason};

const SETTINGS: &str = "[refresh]\nminimum_age = \"1s\"\npoll_interval = \"250ms\"\n";

/// A disk of so many bytes, in memory; gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, and said loudly, where nothing may be mounted.
    fn mount(path: PathBuf) -> Option<Self> {
        fs::create_dir(&path).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=160m,mode=711", "tmpfs"]).arg(&path);
        if mount.status().is_ok_and(|status| status.success()) {
            return Some(Self(path));
        }
        eprintln!("SKIPPED: this user may mount nothing");
        None
    }

    /// Leaves no room.
    fn fill(&self) {
        let mut ballast = File::create(self.0.join("ballast")).unwrap();
        let mut size = 1 << 20;
        while size > 0 {
            if ballast.write_all(&vec![1; size]).is_err() {
                size /= 2;
            }
        }
    }

    fn clear(&self) {
        fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Puts the log of Postgres elsewhere: without room for that it stops, and the
/// service is as without a database.
fn move_log(data: &Path, to: &Path) {
    let moved = Command::new("cp").arg("-a").arg(data.join("pg_wal")).arg(to).status();
    assert!(moved.unwrap().success());
    fs::remove_dir_all(data.join("pg_wal")).unwrap();
    std::os::unix::fs::symlink(to, data.join("pg_wal")).unwrap();
}

/// F8.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_links_before_their_codes_are_spent() {
    let outer = crate::home::Home::new();
    let Some(disk) = SmallDisk::mount(outer.path.join("small")) else { return };
    let data = disk.0.join("server");
    let mut ground = Ground::with(|_| ClusterOptions::new(&data)).await;
    let url = ground.postgres.url();
    ground.postgres.stop().await;
    move_log(&data, &outer.path.join("wal"));
    ground.postgres.run().await;
    let world = World::on(ground, &url, SETTINGS).await;
    world.people(40);
    world.controls.knobs(|knobs| knobs.refresh_minimum_age = 1);
    world.until_ready().await;
    let mut linked = Vec::new();
    for person in 0..10 {
        linked.push(world.link(&format!("user-{person}"), person).await.unwrap());
    }
    let mut waiting = Vec::new();
    for person in 10..40 {
        let user_id = format!("user-{person}");
        waiting.push((world.answered(&user_id, person, Decision::Allow).await.unwrap(), user_id));
    }
    let soon = "update accounts set next_refresh_time = now() + interval '3 seconds'";
    sqlx::raw_sql(soon).execute(&mut world.sql().await).await.unwrap();

    disk.fill();
    // Longer than the last trial is believed, and until tokens are due.
    sleep(Duration::from_secs(4)).await;
    let (spent, refreshed) =
        (world.controls.count(Endpoint::CodeExchange), world.controls.count(Endpoint::Refresh));
    assert_eq!((spent, refreshed), (10, 0));
    for (callback_url, user_id) in &waiting {
        let refused = world.complete(callback_url, user_id).await.unwrap_err();
        assert_eq!(reason(&refused), "STORAGE_UNAVAILABLE");
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.controls.count(Endpoint::CodeExchange), spent, "no code was spent");
    assert_eq!(world.controls.count(Endpoint::Refresh), 0, "no token was refreshed");
    for account in &linked {
        assert!(world.account(&account.account_id).await.is_ok());
        assert_eq!(world.list(&account.user_id).await.unwrap().len(), 1);
    }
    assert_eq!(world.probe("/readyz").await.0, 200, "what is stored can be read");

    disk.clear();
    for (callback_url, user_id) in &waiting {
        linked.push(world.complete_firmly(callback_url, user_id).await.unwrap());
    }
    world.until("tokens are refreshed", async || world.controls.count(Endpoint::Refresh) >= 10).await;
    let unproven = "select count(*) from accounts where previous_token is not null";
    world.until("they are stored", async || world.counted(unproven).await == 0).await;
    world.require_links(&linked).await;
    world.end().await;
    drop(disk);
}

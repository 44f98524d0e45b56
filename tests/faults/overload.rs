//! More calls than the database can answer. What cannot be answered in time is to be
//! refused at once, and what is answered is to be no less than before.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use threads_identity::proto::v1::ListAccountsRequest;
use threads_identity::proto::v1::account_service_client::AccountServiceClient;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_types::StatusExt as _;

use crate::proxy::Proxy;
use crate::world::{Ground, World, reason};

/// Few enough that a small machine can make ten times as many calls as these answer.
const SETTINGS: &str = "[database]\npool_size = 2\n[limits]\ncalls_max = 16\n";
/// Each way, for each question to the database and each answer.
const DISTANCE: Duration = Duration::from_millis(2);
const CHANNELS: usize = 8;
const TICK: Duration = Duration::from_millis(10);
/// How much more memory the process may have than it has at rest.
const MEMORY_MORE_MAX: u64 = 128 * 1024 * 1024;

/// What came of calls that were made whether or not the ones before were answered.
struct Came {
    good: Vec<Duration>,
    shed: Vec<Duration>,
    took: Duration,
    memory: u64,
}

impl Came {
    fn per_second(&self, count: usize) -> f64 {
        f64::from(u32::try_from(count).unwrap()) / self.took.as_secs_f64()
    }
}

/// F48 and F49: `just overload` runs it longer, with a release build, and prints figures.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_is_refused_at_once_and_the_rest_is_answered() {
    // Beside all other tests, which take what they can get.
    overload(Duration::from_secs(3), 0.25).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the same for longer: run it by name, with --release"]
async fn what_is_too_much_for_half_a_minute() {
    overload(Duration::from_secs(30), 0.5).await;
}

/// At least this share of what could be answered is answered, however much is asked.
async fn overload(time: Duration, share_min: f64) {
    let ground = Ground::new().await;
    let proxy = Proxy::start(&ground.postgres.url()).await;
    let world = World::on(ground, &proxy.url(), SETTINGS).await;
    world.until_ready().await;
    proxy.delay(DISTANCE);
    let channels: Vec<Channel> = (0..CHANNELS).map(|_| world.connect()).collect();
    let mut before = closed(&channels, time / 3).await;
    let process = process(&world);
    let rest = memory(&process, "VmRSS:");
    eprintln!("at rest: memory {rest} KiB");
    limit_memory(&process);
    for times in [1.0, 2.0, 10.0] {
        let came = open(&process, &channels, before * times, time).await;
        // Measured before and after, so that what else the machine does counts on both sides.
        let after = closed(&channels, time / 3).await;
        let capacity = f64::midpoint(before, after);
        before = after;
        let (good, shed) = (came.per_second(came.good.len()), came.per_second(came.shed.len()));
        let (answer, refusal) = (median(came.good), median(came.shed));
        eprintln!(
            "{times:>4} x {capacity:.0}/s: {good:.0}/s answered ({:.2} of capacity), median {answer:?}; \
             {shed:.0}/s refused, median {refusal:?}; memory {} KiB",
            good / capacity,
            came.memory,
        );
        if times > 1.0 {
            assert!(good > capacity * share_min, "{good} of {capacity}");
            assert!(refusal < answer, "a refusal waits for nothing: {refusal:?}, {answer:?}");
            assert!(came.memory < rest + 64 * 1024, "{} KiB after {rest}", came.memory);
        }
    }
    proxy.delay(Duration::ZERO);
    world.until("all is answered again", async || world.list("user-0").await.is_ok()).await;
    world.end().await;
}

/// How many calls a second are answered to callers that wait for each answer, as many
/// as there is room for.
async fn closed(channels: &[Channel], time: Duration) -> f64 {
    let start = Instant::now();
    let callers = (0..16).map(async |number| {
        let (mut client, mut count) = (AccountServiceClient::new(channels[number % CHANNELS].clone()), 0_u32);
        while start.elapsed() < time {
            client.list_accounts(request()).await.unwrap();
            count += 1;
        }
        count
    });
    f64::from(join_all(callers).await.into_iter().sum::<u32>()) / start.elapsed().as_secs_f64()
}

/// Calls at a rate, whatever is answered.
async fn open(process: &Path, channels: &[Channel], rate: f64, time: Duration) -> Came {
    let (mut calls, mut begun, start) = (JoinSet::new(), 0_u32, Instant::now());
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut good, mut shed) = (Vec::new(), Vec::new());
    let mut take = |answer: (Duration, Result<(), Status>)| match answer {
        (took, Ok(())) => good.push(took),
        (took, Err(status)) => {
            assert_eq!(reason(&status), "OVERLOADED", "{status:?}");
            assert!(status.get_details_retry_info().is_some(), "{status:?}");
            shed.push(took);
        }
    };
    let mut most = 0;
    while start.elapsed() < time {
        ticks.tick().await;
        while f64::from(begun) < rate * start.elapsed().as_secs_f64() {
            let mut client = AccountServiceClient::new(channels[begun as usize % CHANNELS].clone());
            calls.spawn(async move {
                let start = Instant::now();
                let answer = client.list_accounts(request()).await.map(drop);
                (start.elapsed(), answer)
            });
            begun += 1;
        }
        while let Some(answer) = calls.try_join_next() {
            take(answer.unwrap());
        }
        most = most.max(memory(process, "VmRSS:"));
    }
    while let Some(answer) = calls.join_next().await {
        take(answer.unwrap());
    }
    Came { good, shed, took: start.elapsed(), memory: most }
}

fn request() -> Request<ListAccountsRequest> {
    let mut request =
        Request::new(ListAccountsRequest { user_id: Some("user-0".to_owned()), ..Default::default() });
    request.set_timeout(Duration::from_secs(10));
    request
}

/// The process' folder in /proc: the one that was started with this configuration.
fn process(world: &World) -> PathBuf {
    let config = world.home.path.join("config.toml");
    let config = config.to_str().unwrap();
    let mut processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let is_ours = |path: &PathBuf| {
        let arguments = fs::read_to_string(path.join("cmdline")).unwrap_or_default();
        arguments.contains("serve") && arguments.contains(config)
    };
    processes.find(is_ours).unwrap()
}

/// Leaves it little more memory than it has: one that takes more is refused it by the
/// system, and ends.
fn limit_memory(process: &Path) {
    let id: i32 = process.file_name().unwrap().to_str().unwrap().parse().unwrap();
    let most = Some(memory(process, "VmData:") * 1024 + MEMORY_MORE_MAX);
    prlimit(Pid::from_raw(id), Resource::Data, Rlimit { current: most, maximum: most }).unwrap();
}

/// A process' memory of some kind, in KiB.
fn memory(process: &Path, kind: &str) -> u64 {
    let status = fs::read_to_string(process.join("status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(kind)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

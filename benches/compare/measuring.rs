//! What is measured, in which order, and against which aim.

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::{Connection as _, PgConnection, PgPool};
use tonic::transport::Channel;

use crate::calls::{BATCH, Calls, Linking, bound};
use crate::ground::{ACCOUNTS, AT_ONCE, Ground, PEOPLE, Side, Turns};
use crate::load::{latencies, quantile};
use crate::process::{Peak, resident};
use crate::report::{Aim, Finding, Usage, insert, median, table, usage_table};
use crate::{machine, plot, watching};

/// Links at once: as many as travel together, and no more than the simulator bears.
const LINKS_AT_ONCE: usize = 64;
/// How long people are linked before the planner is told how many there are.
const FIRST_LINKS: Duration = Duration::from_secs(5);
/// How long the larger database is read before it counts.
const FILLING: Duration = Duration::from_secs(90);
/// When a service that has started has done all that starting brings.
const SETTLED: Duration = Duration::from_secs(2);

/// What is measured, and how long.
#[derive(clap::Args)]
pub struct Plan {
    /// Accounts of the larger database
    #[arg(long, default_value_t = 10_000_000)]
    accounts: u64,
    /// Turns of each side; the middle one counts
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds of each turn
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Postgres' memory for pages, such as 6GB; its default is 128MB
    #[arg(long, value_name = "SIZE")]
    shared_buffers: Option<String>,
    /// Only these; then nothing is written
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Subject>,
    /// Print the results without writing them into docs/
    #[arg(long)]
    print: bool,
    /// Another build of the service to measure; then nothing is written
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Subject {
    Starting,
    Profiles,
    Batches,
    Alone,
    Urls,
    Links,
    Tokens,
    Watching,
    Size,
}

impl Plan {
    fn has(&self, subject: Subject) -> bool {
        self.only.is_empty() || self.only.contains(&subject)
    }
}

/// A run, and what it has found so far.
struct Run<'a> {
    plan: &'a Plan,
    ground: Ground,
    findings: Vec<Finding>,
    usages: Vec<Usage>,
}

/// Measures, prints, and writes.
pub async fn run(plan: &Plan) {
    let large = plan.has(Subject::Size).then_some(plan.accounts);
    let ground = Ground::new(large, plan.binary.as_deref(), plan.shared_buffers.as_deref()).await;
    let machine = machine::describe(&ground.url()).await;
    println!("{machine}");
    let mut run = Run { plan, ground, findings: Vec::new(), usages: Vec::new() };
    run.all().await;
    let (table, usage) = (table(&run.findings), usage_table(&run.usages));
    println!("\n{table}\n{usage}");
    if plan.print || !plan.only.is_empty() || plan.binary.is_some() {
        return;
    }
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let text = format!(
        "{machine}; load generator, service and Postgres share them. {} turns of {} s each.\n\n{table}\n{usage}",
        plan.rounds, plan.seconds
    );
    insert(&docs.join("performance.md"), "bench", &text);
    fs::write(docs.join("performance.svg"), plot::svg(&run.findings, &machine)).unwrap();
}

impl Run<'_> {
    async fn all(&mut self) {
        let has = |subject| self.plan.has(subject);
        let [starting, profiles, batches, alone, urls, links, tokens, watching, size] = [
            Subject::Starting,
            Subject::Profiles,
            Subject::Batches,
            Subject::Alone,
            Subject::Urls,
            Subject::Links,
            Subject::Tokens,
            Subject::Watching,
            Subject::Size,
        ]
        .map(has);
        if starting {
            self.starting().await;
        }
        if profiles {
            self.profiles().await;
        }
        if batches {
            let name = format!("BatchGetProfiles of {BATCH}");
            self.reads(&name, bound(&self.ground.calls, Calls::batch_get_profiles)).await;
        }
        if alone {
            self.alone().await;
        }
        if urls {
            let call = bound(&self.ground.calls, Calls::create_authorization_url);
            let sides = [(&self.ground.ours, call.clone()), (&self.ground.memory, call)];
            let turns = self.turns(&sides, AT_ONCE).await;
            self.compare("CreateAuthorizationUrl", Aim::AtLeast(0.8), &turns[0], &turns[1]);
        }
        if links {
            self.links().await;
        }
        if tokens {
            self.tokens().await;
        }
        if watching {
            self.watching().await;
        }
        if size {
            self.size().await;
        }
    }

    async fn turns<F, Fut>(&self, sides: &[(&Side, F)], at_once: usize) -> Vec<Turns>
    where
        F: Fn(Channel, u64) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send,
    {
        self.ground.turns(sides, at_once, self.plan.rounds, self.turn()).await
    }

    fn turn(&self) -> Duration {
        Duration::from_secs_f64(self.plan.seconds)
    }

    /// Calls a second of one side over those of another, turn by turn.
    fn compare(&mut self, what: &str, aim: Aim, ours: &Turns, theirs: &Turns) {
        let pairs = ours.turns.iter().zip(&theirs.turns);
        let rate = |turns: &Turns| format!("{:.0}/s", median(&turns.each(|turn| turn.rate)));
        self.found(Finding {
            name: format!("{what}, of {}", theirs.side),
            aim,
            figures: pairs.map(|(ours, theirs)| ours.rate / theirs.rate).collect(),
            unit: "",
            ours: rate(ours),
            theirs: rate(theirs),
        });
        for turns in [ours, theirs] {
            let usage = Usage::new(what, turns);
            if !self.usages.contains(&usage) {
                self.usages.push(usage);
            }
        }
    }

    fn figure(&mut self, name: &str, aim: Aim, figures: Vec<f64>, unit: &'static str) {
        let (ours, theirs) = (String::new(), String::new());
        self.found(Finding { name: name.to_owned(), aim, figures, unit, ours, theirs });
    }

    fn found(&mut self, finding: Finding) {
        println!("{}: {} (aim {})", finding.name, finding.figure(), finding.aim());
        self.findings.push(finding);
    }

    /// How soon a service is ready, and what it takes when nobody asks for anything.
    async fn starting(&mut self) {
        let (mut ready, mut idle) = (Vec::new(), Vec::new());
        for _ in 0..self.plan.rounds {
            let served = self.ground.start();
            ready.push(served.ready_after.as_secs_f64() * 1e3);
            tokio::time::sleep(SETTLED).await;
            idle.push(resident(served.process.id()));
        }
        self.figure("ready after its start", Aim::AtMost(300.0), ready, "ms");
        self.figure("memory, idle", Aim::AtMost(30.0), idle, "MiB");
    }

    async fn profiles(&mut self) {
        let peak = Peak::watch(self.ground.ours.id);
        self.reads("GetProfile", bound(&self.ground.calls, Calls::get_profile)).await;
        let name = format!("memory, under {AT_ONCE} × GetProfile");
        self.figure(&name, Aim::AtMost(80.0), vec![peak.end()], "MiB");
    }

    async fn reads<F, Fut>(&mut self, what: &str, call: F)
    where
        F: Fn(Channel, u64) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send,
    {
        let Ground { ours, memory, bare, .. } = &self.ground;
        let sides = [(ours, call.clone()), (memory, call.clone()), (bare, call)];
        let turns = self.turns(&sides, AT_ONCE).await;
        self.compare(what, Aim::AtLeast(0.65), &turns[0], &turns[1]);
        self.compare(what, Aim::AtLeast(3.0), &turns[0], &turns[2]);
    }

    /// One call at a time.
    async fn alone(&mut self) {
        let call = bound(&self.ground.calls, Calls::get_profile);
        let mut of_sides = [Vec::new(), Vec::new()];
        for _ in 0..self.plan.rounds {
            for (side, taken) in [&self.ground.ours, &self.ground.bare].into_iter().zip(&mut of_sides) {
                let sorted = latencies(&side.channels[0], self.turn(), call.clone()).await;
                taken.push([0.5, 0.99].map(|share| quantile(&sorted, share).as_secs_f64() * 1e6));
            }
        }
        let [ours, theirs] = of_sides;
        for (i, (share, aim)) in
            [("median", Aim::AtMost(1.1)), ("99th percentile", Aim::None)].iter().enumerate()
        {
            let taken = |side: &[[f64; 2]]| -> Vec<f64> { side.iter().map(|both| both[i]).collect() };
            let (ours, theirs) = (taken(&ours), taken(&theirs));
            self.found(Finding {
                name: format!("a lone GetProfile, {share}, of (b)"),
                aim: *aim,
                figures: ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect(),
                unit: "",
                ours: format!("{:.0} µs", median(&ours)),
                theirs: format!("{:.0} µs", median(&theirs)),
            });
        }
    }

    async fn links(&mut self) {
        let Ground { calls, provider, ours, bare, .. } = &self.ground;
        let link = |first| bound(&Linking::new(calls.clone(), provider, first, PEOPLE / 2), Linking::link);
        let sides = [(ours, link(0)), (bare, link(PEOPLE / 2))];
        // The tables of links are empty before. Autovacuum tells the planner within a
        // minute that they are not; until then it plans for tables of no rows.
        self.ground.turns(&sides, LINKS_AT_ONCE, 1, FIRST_LINKS).await;
        let mut database = PgConnection::connect(&self.ground.url()).await.unwrap();
        sqlx::query("analyze").execute(&mut database).await.unwrap();
        let turns = self.turns(&sides, LINKS_AT_ONCE).await;
        self.compare("links", Aim::AtLeast(1.2), &turns[0], &turns[1]);
    }

    async fn tokens(&mut self) {
        let Ground { calls, ours, bare, .. } = &self.ground;
        let call = bound(calls, Calls::fetch_access_token);
        let turns = self.turns(&[(ours, call.clone()), (bare, call)], AT_ONCE).await;
        let call = bound(calls, Calls::fetch_access_token_with_trail);
        let audited = self.turns(&[(ours, call.clone()), (bare, call)], AT_ONCE).await;
        self.compare("FetchAccessToken", Aim::None, &turns[0], &turns[1]);
        self.compare("FetchAccessToken, both with a trail", Aim::None, &audited[0], &audited[1]);
    }

    /// From a commit to each of those who watch.
    async fn watching(&mut self) {
        let database = PgPool::connect(&self.ground.url()).await.unwrap();
        let authorization = self.ground.settings.authorization();
        for watchers in [1, 1000] {
            let (mut middle, mut late) = (Vec::new(), Vec::new());
            for _ in 0..self.plan.rounds {
                let channels = &self.ground.ours.channels;
                let sorted = watching::latencies(channels, &authorization, &database, watchers).await;
                middle.push(quantile(&sorted, 0.5).as_secs_f64() * 1e3);
                late.push(quantile(&sorted, 0.99).as_secs_f64() * 1e3);
            }
            let name = if watchers == 1 { "a watcher".to_owned() } else { format!("{watchers} watchers") };
            self.figure(&format!("from a commit to {name}, median"), Aim::None, middle, "ms");
            self.figure(&format!("from a commit to {name}, 99th percentile"), Aim::None, late, "ms");
        }
    }

    async fn size(&mut self) {
        let large = self.ground.large.as_ref().unwrap();
        let of = |accounts| bound(&self.ground.calls.among(accounts), Calls::get_profile);
        let sides = [(large, of(self.plan.accounts)), (&self.ground.ours, of(ACCOUNTS))];
        // Then what is read lies in memory, that of Postgres or of the system.
        self.ground.turns(&sides[..1], AT_ONCE, 1, FILLING).await;
        let turns = self.turns(&sides, AT_ONCE).await;
        let what = format!("GetProfile among {} accounts", self.plan.accounts);
        self.compare(&what, Aim::AtLeast(0.9), &turns[0], &turns[1]);
    }
}

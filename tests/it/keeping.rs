//! What has had its time goes, and nothing before; whatever else goes on.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use threads_identity::clock::Clock as _;
use threads_identity::housekeeping::{Removed, measure, round};
use threads_identity::ids::AuthorizationId;
use threads_identity::proto::v1::account::State;
use threads_identity::proto::v1::{Account, AuthorizationOutcome, FetchAccessTokenRequest};
use threads_identity::simulator::{Endpoint, Persona};
use tonic::Code;

use crate::harness::{START, Wishes, World, failed, parameter};
use crate::shorthand::token;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

impl World {
    /// A second before, nothing goes; on the second, this does. `wait` runs from
    /// the last time that something went.
    async fn goes_after(&self, wait: Duration, expected: Removed) {
        self.advance(wait.saturating_sub(SECOND));
        assert_eq!(round(&self.service).await.unwrap(), Removed::default(), "too early for {expected:?}");
        self.advance(SECOND);
        assert_eq!(round(&self.service).await.unwrap(), expected);
        assert_eq!(round(&self.service).await.unwrap(), Removed::default(), "it goes once");
    }

    /// Links, fetches the token once, and unlinks.
    async fn linked_and_unlinked(&self, user_id: &str, persona: &str) -> Account {
        let account = self.link(user_id, persona).await.unwrap().account.unwrap();
        let purpose = "purpose-that-goes".to_owned();
        let request = FetchAccessTokenRequest { purpose, ..token(&account.account_id, user_id) };
        self.token(request).await.unwrap();
        self.unlink(&account).await;
        account
    }

    /// Puts rows into every table that housekeeping looks at, as of now.
    async fn pile_up(&self, rows: usize, accounts: usize) {
        let now = self.clock.now();
        let id = AuthorizationId::first_of(now);
        self.meddle(format!(
            "insert into codes select sha256(n::text::bytea), gen_random_uuid(), '{now}'
             from generate_series(1, {rows}) n;
             insert into events (app_id, account_id, user_id, kind, event_time)
             select 'default', gen_random_uuid(), 'pile', 'LINKED', '{now}' from generate_series(1, {rows});
             insert into audit (app_id, user_id, caller, action, audit_time)
             select 'default', 'pile', 'web', 'SESSION_MISMATCH', '{now}' from generate_series(1, {rows});
             insert into authorizations (authorization_id, app_id, sign_in, user_id, scopes, transfer, answer_hash,
                                         state, step, failure_reason, claim_id, claim_expire_time, create_time,
                                         attempt_time, end_time)
             select overlay('{id}' placing lpad(to_hex(n), 12, '0') from 25)::uuid, 'default', false, 'pile', '',
                    false, '', 'DENIED', 'EXCHANGING', 'AUTHORIZATION_DENIED', gen_random_uuid(), '{now}', '{now}',
                    '{now}', '{now}'
             from generate_series(1, {rows}) n;
             insert into accounts (account_id, app_id, threads_user_id, user_id, state, state_reason, scopes,
                                   create_time, update_time, authorize_time)
             select gen_random_uuid(), 'default', n::text, 'pile', 'UNLINKED', 'UNLINKED_BY_CALLER', '', '{now}',
                    '{now}', '{now}'
             from generate_series(1, {accounts}) n;"
        ))
        .await;
    }
}

#[tokio::test]
async fn each_kind_of_row_goes_when_its_time_is_over_and_not_a_second_before() {
    let world = World::start().await;
    world.linked_and_unlinked("user-1", "full").await;
    let none = Removed::default();
    world.goes_after(DAY, Removed { codes: 1, ..none }).await;
    // Linked and unlinked.
    world.goes_after(6 * DAY, Removed { events: 2, ..none }).await;
    world.goes_after(23 * DAY, Removed { authorizations: 1, accounts: 1, ..none }).await;
    // That it was erased.
    world.goes_after(7 * DAY, Removed { events: 1, ..none }).await;
    // Who fetched the token, and whom the ledger names as unlinked then; and that it
    // was erased thirty days later.
    world.goes_after(363 * DAY, Removed { audit: 1, erasures: 1, ..none }).await;
    world.goes_after(30 * DAY, Removed { audit: 1, ..none }).await;
    let removed = "threads_identity_rows_removed_total{table=\"audit\"}";
    assert!((world.metric(removed).await - 2.0).abs() < 0.5);
    let seconds = world.clock.now().unix_timestamp();
    assert_eq!(world.service.metrics.housekeeping_last_success.get(), seconds);
}

#[tokio::test]
async fn periods_are_settings() {
    let config = "[retention]\nauthorizations = \"2h\"\nunlinked = \"3h\"\nevents = \"5h\"\naudit = \"4h\"\n\
                  codes = \"2h\"";
    let world = World::with(Wishes { config, ..Wishes::default() }).await;
    world.linked_and_unlinked("user-1", "full").await;
    let none = Removed::default();
    world.goes_after(2 * HOUR, Removed { authorizations: 1, codes: 1, ..none }).await;
    world.goes_after(HOUR, Removed { accounts: 1, ..none }).await;
    world.goes_after(HOUR, Removed { audit: 1, ..none }).await;
    world.goes_after(HOUR, Removed { events: 2, ..none }).await;
}

#[tokio::test]
async fn what_is_in_progress_or_still_used_stays() {
    let world = World::start().await;
    let account = world.link("user-1", "full").await.unwrap().account.unwrap();
    let created = world.create("user-2").await;
    let callback_url = world.consent(&created, "home");
    // It ends a quarter of an hour after it began, and is as old as its end.
    world.advance(14 * 60 * SECOND);
    world.complete(&callback_url, "user-2").await.unwrap();
    let id = AuthorizationId::mint(START);
    world
        .meddle(format!(
            "insert into authorizations (authorization_id, app_id, sign_in, user_id, scopes, transfer, answer_hash,
                                         state, step, claim_id, claim_expire_time, create_time, attempt_time)
             select '{id}', 'default', false, 'user-3', '', false, '', 'IN_PROGRESS', 'EXCHANGING',
                    gen_random_uuid(), '3000-01-01', '{START}', '{START}'"
        ))
        .await;
    world.advance((30 * DAY).saturating_sub(14 * 60 * SECOND));
    assert_eq!(round(&world.service).await.unwrap().authorizations, 1);
    world.authorization(&created.authorization_id).await.unwrap();
    world.advance(14 * 60 * SECOND);
    assert_eq!(round(&world.service).await.unwrap().authorizations, 1);
    world.advance(1000 * DAY);
    let removed = round(&world.service).await.unwrap();
    assert_eq!((removed.authorizations, removed.accounts), (0, 0));
    let left = world.look_up("select authorization_id || state from authorizations").await;
    assert_eq!(left, format!("{id}IN_PROGRESS"));
    assert_eq!(world.account(&account.account_id).await.unwrap().user_id, "user-1");
}

#[tokio::test]
async fn events_go_in_their_order_and_it_is_noted_how_far() {
    let world = World::start().await;
    let floor = "select events_floor from deployment";
    let insert = |time: &str| {
        format!(
            "insert into events (app_id, account_id, user_id, kind, event_time)
             values ('default', gen_random_uuid(), 'user-1', 'LINKED', '{START}'::timestamptz + interval '{time}')"
        )
    };
    for time in ["0 s", "1 s", "1 hour", "2 s"] {
        world.meddle(insert(time)).await;
    }
    assert_eq!(world.look_up(floor).await, "0");
    world.advance(7 * DAY + 2 * SECOND);
    assert_eq!(
        round(&world.service).await.unwrap().events,
        2,
        "one that is old behind one that is not stays"
    );
    assert_eq!(world.look_up(floor).await, "2");
    world.advance(HOUR);
    assert_eq!(round(&world.service).await.unwrap().events, 2);
    assert_eq!(world.look_up(floor).await, "4");
    assert_eq!(round(&world.service).await.unwrap().events, 0);
    assert_eq!(world.look_up(floor).await, "4", "it never goes back");
}

#[tokio::test]
async fn a_code_seen_a_day_ago_less_an_hour_is_still_refused() {
    let world = World::start().await;
    let created = world.create("user-1").await;
    let callback_url = world.consent(&created, "full");
    world.complete(&callback_url, "user-1").await.unwrap();
    world.advance(23 * HOUR);
    assert_eq!(round(&world.service).await.unwrap(), Removed::default());
    let again = world.create("user-1").await;
    let replayed = format!(
        "/callback?code={}&state={}",
        parameter(&callback_url, "code"),
        parameter(&again.authorization_url, "state")
    );
    failed(world.complete(&replayed, "user-1").await, Code::FailedPrecondition, "CODE_REJECTED");
    assert_eq!(world.controls.count(Endpoint::CodeExchange), 1, "it never reached Threads");
}

#[tokio::test]
async fn an_erased_account_leaves_nothing_of_itself_and_can_be_linked_anew() {
    let config = "[retention]\nevents = \"60d\"";
    let world = World::with(Wishes { config, ..Wishes::default() }).await;
    let persona = world.controls.persona("full").unwrap();
    let first = world.linked_and_unlinked("user-that-goes", "full").await;
    world.advance(31 * DAY);
    assert_eq!(round(&world.service).await.unwrap().accounts, 1);
    failed(world.account(&first.account_id).await, Code::NotFound, "ACCOUNT_NOT_FOUND");

    // Its last event alone says whose it was, to those who watch for that user.
    let dump = world.dump().await;
    for gone in ["purpose-that-goes", &persona.id, &persona.username] {
        assert!(!dump.contains(gone), "{gone} in {dump}");
    }
    let naming: Vec<&str> = dump
        .lines()
        .filter(|line| line.contains("user-that-goes") || line.contains(&first.account_id))
        .filter(|line| !line.starts_with("erasures: "))
        .collect();
    assert_eq!(naming.len(), 3, "three events name the account: {naming:#?}");
    assert!(naming.iter().all(|line| line.starts_with("events: ")));
    let users = "select string_agg(kind || ' ' || user_id, ', ' order by event_id) from events";
    assert_eq!(world.look_up(users).await, "LINKED , UNLINKED , ERASED user-that-goes");
    let trail =
        "select string_agg(app_id || ' ' || caller || ' ' || action, ', ' order by audit_id) from audit";
    let expected = "default web FETCH_ACCESS_TOKEN, default housekeeping ERASED_AFTER_RETENTION";
    assert_eq!(world.look_up(trail).await, expected);
    let named =
        "select count(*) from audit where num_nonnulls(account_id, authorization_id, user_id, purpose) > 0";
    assert_eq!(world.look_up(named).await, "0");
    assert_eq!(world.look_up("select count(distinct erasure_id) from audit").await, "1");

    // The same person comes back: a first link, with the id that it always has.
    let again = world.link("user-2", "full").await.unwrap();
    assert_eq!(again.outcome(), AuthorizationOutcome::Linked);
    let again = again.account.unwrap();
    assert_eq!(again.account_id, first.account_id);
    world.unlink(&again).await;
    world.advance(29 * DAY);
    assert_eq!(round(&world.service).await.unwrap().accounts, 0);
    world.advance(DAY);
    assert_eq!(round(&world.service).await.unwrap().accounts, 1);
    // Whoever watches for the first user may still have to hear of the first erasure.
    let erased = "select string_agg(user_id, ', ' order by event_id) from events where kind = 'ERASED'";
    assert_eq!(world.look_up(erased).await, "user-that-goes, user-2");
    world.advance(60 * DAY);
    round(&world.service).await.unwrap();
    let dump = world.dump().await;
    assert!(!dump.contains("user-that-goes") && !dump.contains("user-2"), "{dump}");
    // Of the account only the ledger knows, by an id that nobody can read without the key.
    let naming = dump.lines().filter(|line| line.contains(&first.account_id));
    assert!(naming.clone().all(|line| line.starts_with("erasures: ")) && naming.count() == 1, "{dump}");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_batch_goes_in_one_round_and_two_replicas_do_each_other_no_harm() {
    let world = World::start().await;
    let other = world.replica().await;
    world.pile_up(2_300, 600).await;
    // One account with a trail of more than a batch.
    world
        .meddle(
            "insert into audit (app_id, account_id, user_id, caller, action, audit_time)
             select 'default', (select account_id from accounts limit 1), 'pile', 'web', 'FETCH_ACCESS_TOKEN',
                    '2027-03-01' from generate_series(1, 2300)",
        )
        .await;
    world.advance(31 * DAY);
    let (one, two) = join(round(&world.service), round(&other.service)).await;
    // Whoever came second at a batch may have left the rest to the first, and the first to the next round.
    let rest = round(&world.service).await.unwrap();
    let all = [one.unwrap(), two.unwrap(), rest];
    let sum = |of: fn(&Removed) -> u64| all.iter().map(of).sum::<u64>();
    assert_eq!(
        (
            sum(|r| r.authorizations),
            sum(|r| r.codes),
            sum(|r| r.events),
            sum(|r| r.audit),
            sum(|r| r.accounts)
        ),
        (2_300, 2_300, 2_300, 0, 600)
    );
    assert_eq!(world.counted("select count(*) from events where kind = 'ERASED'").await, 600);
    assert_eq!(world.counted("select count(distinct erasure_id) from audit").await, 600);
    assert_eq!(world.counted("select count(*) from audit where account_id is not null").await, 0);
    assert_eq!(world.counted("select count(*) from audit where user_id is not null").await, 2_300);
    world.advance(370 * DAY);
    let (one, two) = join(round(&world.service), round(&other.service)).await;
    let rest = round(&world.service).await.unwrap();
    // Not those of the account: they are of a year later.
    assert_eq!(one.unwrap().audit + two.unwrap().audit + rest.audit, 2_300);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn links_and_fetches_go_on_while_house_is_kept() {
    const MANY: u64 = 48;
    let world = Arc::new(World::start().await);
    let other = world.replica().await;
    world.controls.add_personas((0..2 * MANY).map(Persona::numbered));
    let unlinked = (0..MANY).map(|n| {
        let world = Arc::clone(&world);
        async move { world.linked_and_unlinked(&format!("user-{n}"), &format!("n{n}")).await }
    });
    join_all(unlinked).await;
    world.pile_up(3_000, 1_500).await;
    world.advance(31 * DAY);
    let busy = join_all((MANY..2 * MANY).map(|n| {
        let world = Arc::clone(&world);
        async move { world.link(&format!("user-{n}"), &format!("n{n}")).await.unwrap().account.unwrap() }
    }));
    let busy = busy.await;

    // Those that are about to be erased are linked again, by their user or another; the busy ones are
    // fetched and linked once more.
    let links = (0..2 * MANY).map(|n| {
        let world = Arc::clone(&world);
        async move {
            let user = if n % 2 == 0 || n >= MANY { n } else { n + 1_000 };
            let completed = world.link(&format!("user-{user}"), &format!("n{n}")).await.unwrap();
            assert_eq!(completed.account.unwrap().state(), State::Active);
        }
    });
    let fetches = (0..20).flat_map(|_| &busy).map(|account| {
        let world = Arc::clone(&world);
        async move { world.token(token(&account.account_id, &account.user_id)).await.unwrap() }
    });
    let keeping = async |world: &World| {
        let mut accounts = 0;
        for _ in 0..4 {
            accounts += round(&world.service).await.unwrap().accounts;
        }
        accounts
    };
    let kept = join(keeping(&world), keeping(&other));
    let ((_, fetched), (one, two)) = join(join(join_all(links), join_all(fetches)), kept).await;
    assert_eq!(fetched.len(), 20 * busy.len());
    assert_eq!(world.counted("select count(*) from accounts where state = 'ACTIVE'").await, 2 * MANY as i64);
    assert_eq!(world.counted("select count(*) from accounts where state = 'UNLINKED'").await, 0);
    let erased = world.counted("select count(*) from audit where action = 'ERASED_AFTER_RETENTION'").await;
    assert_eq!(erased, (one + two) as i64);
    assert!(erased >= 1_500);
    for batch in ["links", "token_fetches", "claims"] {
        let name = format!("threads_identity_batches_total{{batch=\"{batch}\"}}");
        assert!(world.metric(&name).await > 0.5);
    }
    assert_eq!(
        world.look_up("select deadlocks from pg_stat_database where datname = current_database()").await,
        "0"
    );
}

#[tokio::test]
async fn a_table_that_cannot_be_had_does_not_keep_the_others() {
    use sqlx::Connection as _;
    let world = World::start().await;
    world.linked_and_unlinked("user-1", "full").await;
    world.advance(31 * DAY);
    let mut sql = world.sql().await;
    let mut transaction = sql.begin().await.unwrap();
    sqlx::query("select from codes for update").execute(&mut *transaction).await.unwrap();
    let error = round(&world.service).await.unwrap_err();
    assert_eq!(error.reason().as_str_name(), "STORAGE_UNAVAILABLE");
    assert_eq!(world.counted("select count(*) from accounts").await, 0);
    assert_eq!(world.service.metrics.housekeeping_last_success.get(), 0);
    transaction.rollback().await.unwrap();
    assert_eq!(round(&world.service).await.unwrap(), Removed { codes: 1, ..Removed::default() });
}

#[tokio::test]
async fn a_service_keeps_house_and_measures_by_itself() {
    let config = "[retention]\ninterval = \"1s\"";
    let world = World::with(Wishes { config, ..Wishes::default() }).await;
    world.link("user-1", "full").await.unwrap();
    world.advance(DAY);
    world.until("select count(*) = 0 from codes").await;
    let gauge = "threads_identity_tokens_expiring{days=\"30\"}";
    while !text_of_metrics(&world).await.contains(gauge) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn text_of_metrics(world: &World) -> String {
    reqwest::get(format!("http://{}/metrics", world.ops)).await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn tokens_are_counted_by_the_life_they_have_left() {
    let world = World::start().await;
    let ids = world.fill("default", "user-1", 6).await;
    for (id, change) in ids.iter().zip([
        "token_expire_time = $now + interval '12 hours'",
        "token_expire_time = $now + interval '3 days'",
        "token_expire_time = $now + interval '3 days 1 s'",
        "token_expire_time = $now + interval '29 days'",
        "token_expire_time = $now + interval '31 days'",
        "token_expire_time = $now, state = 'REAUTHORIZATION_REQUIRED', state_reason = 'TOKEN_EXPIRED'",
    ]) {
        let change = change.replace("$now", &format!("'{START}'::timestamptz"));
        world.meddle(format!("update accounts set {change} where account_id = '{id}'")).await;
    }
    let counts = async || {
        measure(&world.service).await.unwrap();
        let mut counts = Vec::new();
        for days in ["1", "3", "7", "14", "30"] {
            counts.push(
                world.metric(&format!("threads_identity_tokens_expiring{{days=\"{days}\"}}")).await as i64,
            );
        }
        counts
    };
    assert_eq!(counts().await, [1, 2, 3, 3, 4]);
    // A crowd is counted only so far.
    world.fill("default", "user-2", 10_100).await;
    world.advance(46 * DAY);
    assert_eq!(counts().await, [5, 5, 5, 10_000, 10_000]);
}

#[tokio::test]
async fn the_refresh_that_has_waited_longest_is_known() {
    let world = World::start().await;
    let overdue = async || {
        measure(&world.service).await.unwrap();
        world.metric("threads_identity_refresh_oldest_overdue_seconds").await as i64
    };
    let ids = world.fill("default", "user-1", 3).await;
    let due = |interval: &str| {
        format!("update accounts set next_refresh_time = '{START}'::timestamptz + interval '{interval}'")
    };
    world.meddle(due("1 day")).await;
    assert_eq!(overdue().await, 0, "nothing is due");
    world.meddle(format!("{} where account_id = '{}'", due("-100 s"), ids[0])).await;
    assert_eq!(overdue().await, 100);
    // It is tried again and again, and so never long overdue.
    let failing =
        format!("update accounts set refresh_failing_time = '{START}'::timestamptz - interval '2 days'");
    world.meddle(format!("{failing} where account_id = '{}'", ids[1])).await;
    assert_eq!(overdue().await, 2 * 86_400);
    let lost = "update accounts set state = 'REAUTHORIZATION_REQUIRED', state_reason = 'ACCESS_REVOKED'";
    world.meddle(lost).await;
    assert_eq!(overdue().await, 0);
}

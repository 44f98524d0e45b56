//! `import` from a file: what is wrong with rows, what is here already, and Threads
//! when it is not well.

use std::fs;
use std::time::Duration;

use sqlx::Connection as _;
use threads_identity::ids::ThreadsUserId;
use threads_identity::proto::v1::access_token_service_client::AccessTokenServiceClient;
use threads_identity::proto::v1::{AuthorizationOutcome, FetchAccessTokenRequest};
use threads_identity::sealing::Keyring;
use threads_identity::simulator::{Decision, Endpoint, Fault, Persona};

use crate::import::{Target, reasons, tally};
use crate::run::{Running, end};
use crate::serve::Service;

impl Target {
    pub fn file(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.setting.directory.path(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    async fn run(&mut self, statement: &'static str) {
        sqlx::raw_sql(statement).execute(&mut self.sql).await.unwrap();
    }
}

const HEADER: &str = "user_id,threads_user_id,access_token,expires_at,issued_at,authorized_at,scopes\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_field_may_be_wrong_and_the_row_is_told_by_its_number() {
    let mut target = Target::new("import-fields").await;
    let token = target.token("full", 10 * 86400).await;
    let full = target.person("full");
    let long = "u".repeat(129);
    // As a spreadsheet writes it: a mark of the byte order, quotes, CRLF, a blank line.
    let mut text =
        b"\xef\xbb\xbfScopes,user_id,\"threads_user_id\",access_token,expires_at,issued_at,authorized_at\r\n"
            .to_vec();
    let good = format!(
        "\"threads_basic,threads_manage_replies\",\"one, \"\"the\"\" first\",{full},{token},,,\r\n\r\n"
    );
    text.extend(good.as_bytes());
    for (i, row) in [
        ",,{i},TH,,,".to_owned(),
        format!(",{long},{{i}},TH,,,"),
        ",u,,TH,,,".to_owned(),
        ",u,1.78414E+16,TH,,,".to_owned(),
        ",u,{i},TH\u{e4},,,".to_owned(),
        ",u,{i},TH,soon,,".to_owned(),
        ",u,{i},TH,,tomorrow,".to_owned(),
        ",u,{i},TH,,2999-01-01T00:00:00Z,".to_owned(),
        ",u,{i},TH,,,-1".to_owned(),
        "Threads!,u,{i},TH,,,".to_owned(),
        ",u,{i},TH".to_owned(),
        ",u,{i},TH,,,,".to_owned(),
    ]
    .into_iter()
    .enumerate()
    {
        text.extend(row.replace("{i}", &format!("99{i}")).as_bytes());
        text.extend(b"\r\n");
    }
    text.extend(b",\xff,998,TH,,,\r\n");
    let (file, report) = (target.file("in.csv", &text), target.file("report.csv", ""));
    // Whatever is logged of it, no token is.
    let mut import = target.setting.beside_it(&["import", "csv", &file, "--report", &report, "--json"]);
    let done = end({
        import.env("RUST_LOG", "trace");
        import
    });
    assert_eq!((tally(&done), done.code), ((1, 0, 0, 13), Some(1)), "{}", done.err);
    assert!(done.err.contains("TRACE") && !done.err.contains("SIMSECRET"));
    let lines: Vec<String> = fs::read_to_string(&report).unwrap().lines().map(str::to_owned).collect();
    let told: Vec<(&str, &str)> = lines[1..]
        .iter()
        .map(|line| {
            let (number, rest) = line.split_once(',').unwrap();
            (number, rest.split("REFUSED,").nth(1).unwrap().split(',').next().unwrap())
        })
        .collect();
    assert_eq!(
        told,
        [
            ("3", "USER_ID_INVALID"),
            ("4", "USER_ID_INVALID"),
            ("5", "THREADS_USER_ID_INVALID"),
            ("6", "THREADS_USER_ID_INVALID"),
            ("7", "ACCESS_TOKEN_INVALID"),
            ("8", "EXPIRES_AT_INVALID"),
            ("9", "ISSUED_AT_INVALID"),
            ("10", "ISSUED_AT_INVALID"),
            ("11", "AUTHORIZED_AT_INVALID"),
            ("12", "SCOPES_INVALID"),
            ("13", "ROW_INVALID"),
            ("14", "ROW_INVALID"),
            ("15", "ROW_INVALID"),
        ]
    );
    let stored = target.stored(&full).await.unwrap();
    assert_eq!((stored.user_id.as_str(), stored.state.as_str()), ("one, \"the\" first", "ACTIVE"));
    assert_eq!(target.count("select count(*) from accounts").await, 1);
    assert_eq!(
        target
            .count("select count(*) from accounts where scopes = 'threads_basic threads_manage_replies'")
            .await,
        1
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_whose_columns_are_not_known_is_not_begun() {
    let mut target = Target::new("import-header").await;
    for (text, told) in [
        ("", "user_id is missing, threads_user_id is missing"),
        ("user_id,threads_user_id,acces_token\nu,1,TH\n", "column 3 is not known; known are user_id, "),
        ("user_id,access_token\nu,TH\n", "threads_user_id is missing"),
        (
            "u-1,17841405793187218,THcanary\nu-2,1,TH\n",
            "user_id is missing, threads_user_id is missing, column 1",
        ),
        ("user_id,threads_user_id,user_id\n", "user_id stands twice"),
    ] {
        let file = target.file("in.csv", text);
        let said = target.import(None, &["csv", &file]).bad();
        assert!(
            said.contains("in.csv: its first line must name the columns: ") && said.contains(told),
            "{said}"
        );
        // A token may stand where the names are missing.
        assert!(!said.to_lowercase().contains("canary"), "{said}");
    }
    let said = target.import(None, &["csv", "/nowhere/at-all"]).bad();
    assert!(said.contains("/nowhere/at-all: cannot be read"), "{said}");
    let file = target.file("in.csv", HEADER);
    assert_eq!(tally(&target.import(None, &["csv", &file])), (0, 0, 0, 0));
    let said = target.import(None, &["csv", &file, "--app", "second"]).bad();
    assert!(said.contains("--app: \"second\" is not configured; there are default"), "{said}");
    let said = target.import(None, &["csv", &file, "--report", "/nowhere/at-all"]).bad();
    assert!(said.contains("--report: /nowhere/at-all"), "{said}");
    // A database that was put back may hold people who were erased since.
    target.run("update deployment set replay_required = true").await;
    let said = target.import(None, &["csv", &file]).bad();
    assert!(said.contains("erase --replay"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_is_there_is_written_over_and_nothing_is_read_that_passes() {
    let mut target = Target::new("import-files").await;
    let text = HEADER.to_owned() + "user-1,x,,,,,\n";
    let (file, keyring) = (target.file("in.csv", &text), target.file("keys.toml", "the only copy"));
    let link = target.setting.directory.path("link.csv");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    for there in [&file, &keyring, link.to_str().unwrap(), "/dev/null"] {
        let said = target.import(None, &["csv", &file, "--report", there]).bad();
        assert!(said.contains(&format!("--report: {there}: is there already")), "{said}");
        let said = target.import(None, &["csv", &file, "--dry-run", "--report", there]).bad();
        assert!(said.contains("is there already"), "{said}");
    }
    assert_eq!(
        (fs::read_to_string(&file).unwrap(), fs::read_to_string(&keyring).unwrap().as_str()),
        (text, "the only copy")
    );
    // A report is, by that of the next run.
    let report = target.setting.directory.path("report.csv").display().to_string();
    for _ in 0..2 {
        target.import(None, &["csv", &file, "--report", &report]).bad();
        assert_eq!(fs::read_to_string(&report).unwrap().lines().count(), 2);
    }
    // A pipe gives everything once, and a file is read twice.
    let pipe = target.setting.directory.path("pipe.csv").display().to_string();
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for passing in [pipe.as_str(), "/dev/null"] {
        let said = target.import(None, &["csv", passing]).bad();
        assert!(said.contains(&format!("{passing}: is not a regular file")), "{said}");
    }
    assert_eq!(target.count("select count(*) from accounts").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_api_could_not_name_does_not_come_in() {
    let mut target = Target::new("import-names").await;
    let header = "user_id,threads_user_id,state\n";
    let rows = "\"user-1\n\",30000000000000001,\n\"u\u{1b}[31m\",30000000000000002,\nuser-3,30000000000000003,BOGUS\n\
                user-4,30000000000000004, UNLINKED \nuser-5,30000000000000005,unlinked\n\
                user-6,30000000000000006, ACTIVE\n";
    let file = target.file("in.csv", header.to_owned() + rows);
    let report = target.setting.directory.path("report.csv").display().to_string();
    let done = target.import(None, &["csv", &file, "--report", &report]);
    let told = fs::read_to_string(&report).unwrap();
    for (person, reason) in [
        ("30000000000000001", "USER_ID_INVALID"),
        ("30000000000000002", "USER_ID_INVALID"),
        ("30000000000000003", "ACCOUNT_STATE_INVALID"),
        ("30000000000000005", "ACCOUNT_STATE_INVALID"),
    ] {
        assert_eq!(reasons(&report)[person].1, reason, "{told}");
    }
    assert!(!told.contains('\u{1b}'), "{told}");
    assert_eq!(done.code, Some(1));
    let stored = "select count(*) from accounts where user_id = 'user-6'";
    assert_eq!((target.count("select count(*) from accounts").await, target.count(stored).await), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_here_decides_before_threads_is_asked() {
    let mut target = Target::new("import-standing").await;
    let people = ["full", "bare", "home", "work", "private", "emoji", "accepted"]
        .map(|persona| target.person(persona));
    let mut tokens = Vec::new();
    for persona in ["full", "bare", "home", "work", "private", "emoji", "accepted"] {
        tokens.push(target.token(persona, 10 * 86400).await);
    }
    let rows = |since: &str| {
        let rows = people.iter().zip(&tokens).enumerate();
        let rows = rows.map(|(i, (person, token))| format!("user-{i},{person},{token},,{since},{since},\n"));
        HEADER.to_owned() + &rows.collect::<String>()
    };
    let old = target.file("old.csv", rows("2020-01-01T00:00:00Z"));
    assert_eq!(tally(&target.import(None, &["csv", &old])), (7, 0, 0, 0));
    target.run("
        update accounts set user_id = 'somebody' where user_id = 'user-0';
        update accounts set state = 'UNLINKED', state_reason = 'UNLINKED_BY_CALLER', token = null,
               token_expire_time = null, token_refresh_time = null, next_refresh_time = null, username = null,
               name = null, picture_url = null, biography = null, is_verified = null, profile_fetch_time = null,
               update_time = '2024-01-01' where user_id in ('user-1', 'user-2');
        update accounts set state = 'REAUTHORIZATION_REQUIRED', state_reason = 'TOKEN_EXPIRED', token = null,
               next_refresh_time = null where user_id = 'user-3';
        update accounts set token_refresh_time = now() where user_id in ('user-4', 'user-6');
        insert into erasures select account_id, app_id, '2024-01-01', 'CALLER' from accounts where user_id = 'user-5';
        delete from accounts where user_id = 'user-5';
        truncate events, audit").await;
    // user-2 and user-6 have consented since, and user-6's token is newer.
    let text = rows("2020-01-01T00:00:00Z");
    let text = text.lines().map(|line| {
        let is_newer = line.starts_with("user-2,") || line.starts_with("user-6,");
        let line = if is_newer {
            line.replace("2020-01-01T00:00:00Z", "2025-01-01T00:00:00Z")
        } else {
            line.to_owned()
        };
        line + "\n"
    });
    let text: String = text.collect();
    target.run("update accounts set token_refresh_time = '2024-06-01' where user_id = 'user-6'").await;
    let (file, report) = (target.file("new.csv", text), target.file("report.csv", ""));
    target.controls().clear_ledger();
    let done = target.import(None, &["csv", &file, "--report", &report]);
    assert_eq!((tally(&done), done.code), ((3, 0, 1, 3), Some(1)), "{}", done.err);
    let why = reasons(&report);
    assert_eq!(why[&people[0]].1, "ACCOUNT_LINKED_TO_ANOTHER_USER");
    assert_eq!(why[&people[1]].1, "ACCOUNT_UNLINKED");
    assert_eq!(why[&people[5]].1, "ACCOUNT_ERASED");
    assert_eq!(target.controls().count(Endpoint::Me), 3);
    let kinds =
        [None, Some(""), Some("RELINKED"), Some("REAUTHORIZED"), Some(""), None, Some("REAUTHORIZED")];
    for (i, kinds) in kinds.into_iter().enumerate().filter_map(|(i, kinds)| Some((i, kinds?))) {
        let stored = target.stored(&people[i]).await.unwrap();
        assert_eq!(stored.kinds, kinds, "{i}");
        assert_eq!(stored.state, if i == 1 { "UNLINKED" } else { "ACTIVE" }, "{i}");
    }
    assert_eq!(target.stored(&people[0]).await.unwrap().user_id, "somebody");
    assert_eq!(target.stored(&people[5]).await, None);
    // Whom nobody knows to have consented since was erased for good.
    let unknown =
        target.file("unknown.csv", HEADER.to_owned() + &format!("user-5,{},{},,,,\n", people[5], tokens[5]));
    assert_eq!(tally(&target.import(None, &["csv", &unknown])), (0, 0, 0, 1));
    // A token that is dead takes nothing away from an account that works.
    let dead = format!("user-4,{},THdead,,2026-01-01T00:00:00Z,,\n", people[4]);
    target.run("update accounts set token_refresh_time = '2024-06-01' where user_id = 'user-4'").await;
    let dead = target.file("dead.csv", HEADER.to_owned() + &dead);
    assert_eq!(tally(&target.import(None, &["csv", &dead])), (0, 0, 1, 0));
    assert_eq!(target.stored(&people[4]).await.unwrap().state, "ACTIVE");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_users_with_one_threads_account_the_first_has_it() {
    let mut target = Target::new("import-twice").await;
    let (person, token) = (target.person("full"), target.token("full", 86400).await);
    let rows =
        format!("first,{person},{token},,,,\nsecond,{person},{token},,,,\nfirst,{person},{token},,,,\n");
    let file = target.file("in.csv", HEADER.to_owned() + &rows);
    let done = target.import(None, &["csv", &file]);
    assert_eq!((tally(&done), done.code), ((1, 0, 1, 1), Some(1)), "{}", done.err);
    assert_eq!(target.stored(&person).await.unwrap().user_id, "first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_deployment_says_of_an_account_is_heeded() {
    let mut target = Target::new("import-states").await;
    let rows = format!(
        "account_id,user_id,threads_user_id,state,state_reason,access_token,username\n\
         x,one,{},UNLINKED,UNLINKED_BY_CALLER,,\nx,two,{},REAUTHORIZATION_REQUIRED,ACCESS_REVOKED,,old\n\
         x,three,{},ACTIVE,,{},old\nx,four,1,REAUTHORIZATION_REQUIRED,BORED,,\n",
        target.person("full"),
        target.person("bare"),
        target.person("home"),
        target.token("home", 5 * 86400).await,
    );
    let (file, report) = (target.file("in.csv", rows), target.file("report.csv", ""));
    let done = target.import(None, &["csv", &file, "--report", &report]);
    assert_eq!((tally(&done), done.code), ((1, 1, 1, 1), Some(1)), "{}", done.err);
    assert_eq!(target.stored(&target.person("full")).await, None);
    let stored = target.stored(&target.person("bare")).await.unwrap();
    assert_eq!((stored.reason.as_deref(), stored.username), (Some("ACCESS_REVOKED"), None));
    assert_ne!(target.stored(&target.person("home")).await.unwrap().username.as_deref(), Some("old"));
    assert_eq!(reasons(&report)["1"].1, "STATE_REASON_INVALID");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_in_is_served_and_a_consent_fills_in_what_was_missing() {
    let mut target = Target::new("import-served").await;
    let (home, full) = (target.person("home"), target.person("full"));
    let token = target.token("home", 5 * 86400).await;
    let rows = format!("user_id,threads_user_id,access_token\none,{home},{token}\ntwo,{full},THdead\n");
    let file = target.file("in.csv", rows);
    let service = Service::start(target.setting.serve(), &target.setting.key).await;
    // Beside the service.
    assert_eq!(tally(&target.import(None, &["csv", &file])), (1, 1, 0, 0));

    let id = |person: &str| {
        let keyring = Keyring::parse(&target.setting.keyring).unwrap();
        keyring.id_key().account_id("default", &ThreadsUserId::parse(person).unwrap()).to_string()
    };
    let wish = |user: &str, person: &str| FetchAccessTokenRequest {
        account_id: id(person),
        user_id: user.to_owned(),
        ..FetchAccessTokenRequest::default()
    };
    let mut tokens = AccessTokenServiceClient::new(service.channel.clone());
    let fetched = tokens.fetch_access_token(service.request(wish("one", &home))).await.unwrap().into_inner();
    assert_eq!((fetched.access_token, fetched.threads_user_id), (token, home.clone()));
    let refused = tokens.fetch_access_token(service.request(wish("two", &full))).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused:?}");

    let created = service.create("two").await;
    let consent = target.controls().consent(&created.authorization_url, "full", Decision::Allow).unwrap();
    let done = service.complete(&consent, "two").await;
    assert_eq!(done.outcome(), AuthorizationOutcome::Reauthorized);
    let fetched = tokens.fetch_access_token(service.request(wish("two", &full))).await.unwrap().into_inner();
    assert_eq!(fetched.threads_user_id, full);
    assert_eq!(target.stored(&full).await.unwrap().kinds, "LINKED REAUTHORIZATION_REQUIRED REAUTHORIZED");
    // What the old system still has takes nothing away.
    assert_eq!(tally(&target.import(None, &["csv", &file])), (0, 0, 2, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_is_to_be_quiet_for_long_ends_the_run() {
    let mut target = Target::new("import-quiet").await;
    let (full, bare) = (target.person("full"), target.person("bare"));
    let rows = format!(
        "one,{full},{},,,,\ntwo,{bare},{},,,,\n",
        target.token("full", 5 * 86400).await,
        target.token("bare", 5 * 86400).await
    );
    let file = target.file("in.csv", HEADER.to_owned() + &rows);
    target.controls().knobs(|knobs| knobs.headers = vec![("Retry-After".to_owned(), "1140".to_owned())]);
    target.controls().throttle_app("990602627938098", 3600);
    let done = target.import(None, &["csv", &file]);
    assert_eq!((tally(&done), done.code), ((0, 0, 0, 0), Some(1)));
    assert!(done.err.contains("Threads asks the app to be quiet for 19 minutes"), "{}", done.err);
    assert_eq!(target.count("select count(*) from accounts").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_ends_the_run_and_makes_nobody_consent_again() {
    let mut target = Target::new("import-outage").await;
    let (full, bare) = (target.person("full"), target.person("bare"));
    let rows = format!(
        "one,{full},{},,,,\ntwo,{bare},{},,,,\n",
        target.token("full", 5 * 86400).await,
        target.token("bare", 5 * 86400).await
    );
    let file = target.file("in.csv", HEADER.to_owned() + &rows);
    let page = Fault::Status { status: 502, content_type: "text/html".to_owned(), body: "<h1>".to_owned() };
    target.controls().fault_times(Endpoint::Me, 1000, page.clone());
    let done = target.import(None, &["csv", &file]);
    assert_eq!((tally(&done), done.code), ((0, 0, 0, 0), Some(1)));
    assert!(
        done.err.contains("Threads gives no answer") && done.err.contains("run it again"),
        "{}",
        done.err
    );
    assert_eq!(target.count("select count(*) from accounts").await, 0);

    // It comes back for one of the two: the other is not taken for dead at once, and
    // when nothing ever comes of it, it comes in to be consented to.
    target.controls().clear_faults();
    let only = target.file("only.csv", HEADER.to_owned() + rows.lines().next().unwrap());
    assert_eq!(tally(&target.import(None, &["csv", &only])), (1, 0, 0, 0));
    target.controls().fault_times(Endpoint::Me, 2, page);
    let done = target.import(None, &["csv", &file]);
    assert_eq!((tally(&done), done.code), ((1, 0, 1, 0), Some(0)), "a fault that passes: {}", done.err);
    assert!(target.controls().violations().is_empty(), "{:?}", target.controls().violations());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_threads_says_nothing_of_comes_in_to_be_consented_to_and_is_mended_by_another_run() {
    let mut target = Target::new("import-unproven").await;
    let (full, work) = (target.person("full"), target.person("work"));
    let rows = format!(
        "one,{full},{},,,,\ntwo,{work},{},,,,\n",
        target.token("full", 5 * 86400).await,
        target.token("work", 5 * 86400).await
    );
    target.controls().throttle("work", 3600);
    let (file, report) = (target.file("in.csv", HEADER.to_owned() + &rows), target.file("report.csv", ""));
    let done = target.import(None, &["csv", &file, "--report", &report]);
    assert_eq!((tally(&done), done.code), ((1, 1, 0, 0), Some(0)), "{}", done.err);
    assert_eq!(reasons(&report)[&work].1, "TOKEN_UNPROVEN");
    assert!(target.controls().violations().is_empty(), "{:?}", target.controls().violations());
    assert_eq!(target.stored(&work).await.unwrap().state, "REAUTHORIZATION_REQUIRED");
    target.controls().advance(7200);
    let done = target.import(None, &["csv", &file]);
    assert_eq!(tally(&done), (1, 0, 1, 0), "{}", done.err);
    let stored = target.stored(&work).await.unwrap();
    assert_eq!(
        (stored.state.as_str(), stored.kinds.as_str()),
        ("ACTIVE", "LINKED REAUTHORIZATION_REQUIRED REAUTHORIZED")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_keeps_its_pace_and_one_that_is_interrupted_goes_on_where_it_was() {
    let mut target = Target::new("import-resumed").await;
    let people: Vec<String> = (0..60).map(|i| format!("178414000001{i:05}")).collect();
    target.controls().add_personas(people.iter().enumerate().map(|(i, id)| Persona {
        key: format!("p{i}"),
        id: id.clone(),
        username: format!("p{i}.sim"),
        ..Persona::default()
    }));
    let mut text = HEADER.to_owned();
    for (i, person) in people.iter().enumerate() {
        text.push_str(&format!(
            "user-{i},{person},{},,,,\n",
            target.token(&format!("p{i}"), 5 * 86400).await
        ));
    }
    let file = target.file("in.csv", text);
    // Killed without a word, and asked to stop.
    for signal in ["-KILL", "-INT"] {
        let before = target.count("select count(*) from accounts").await;
        let mut import = target.setting.beside_it(&["import", "csv", &file, "--rate", "10"]);
        let mut running = Running::start(&mut import);
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while target.count("select count(*) from accounts").await == before {
            assert!(std::time::Instant::now() < deadline, "{:?}", running.errors());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        running.signal(signal);
        let ended = running.wait();
        assert!(!ended.success());
        let now = target.count("select count(*) from accounts").await;
        assert!(now < 60, "{signal}: it was too fast: {now}");
    }
    let here = u64::try_from(target.count("select count(*) from accounts").await).unwrap();
    target.controls().clear_ledger();
    let begin = std::time::Instant::now();
    let done = end(target.setting.beside_it(&["import", "csv", &file, "--rate", "20", "--json"]));
    assert_eq!((tally(&done), done.code), ((60 - here, 0, here, 0), Some(0)), "{}", done.err);
    assert!(begin.elapsed() >= Duration::from_millis((59 - here) * 50), "{:?}", begin.elapsed());
    assert_eq!(u64::try_from(target.controls().count(Endpoint::Me)).unwrap(), 60 - here);
    assert_eq!(target.count("select count(*) from events where kind = 'LINKED'").await, 60);
    assert_eq!(target.count("select count(*) from audit where action = 'IMPORTED'").await, 60);
    let mut watcher = sqlx::PgConnection::connect(&target.setting.database_url).await.unwrap();
    let named: i64 = sqlx::query_scalar("select count(*) from accounts where username like 'p%.sim'")
        .fetch_one(&mut watcher)
        .await
        .unwrap();
    assert_eq!(named, 60);
}

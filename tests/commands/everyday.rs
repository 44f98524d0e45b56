//! Everyday use: `link`, `accounts`, `profile`, as somebody at a terminal and as a
//! script.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;
use sqlx::Connection as _;
use threads_identity::grpc::new_caller_key;
use threads_identity::simulator::{Decision, Endpoint, Fault};

use crate::run::{Ended, Running, command, database, end, run};
use crate::serve::{Service, Setting};

/// A service, and commands that know where it is and who they are.
struct Place {
    setting: Setting,
    service: Service,
    address: String,
}

impl Place {
    async fn new(name: &str, database_url: &str) -> Self {
        let setting = Setting::new(name, database_url).await;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let service = Service::start(serve(&setting, &address), &setting.key).await;
        Self { setting, service, address }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(arguments);
        command
            .env("THREADS_IDENTITY_SERVER", format!("http://{}", self.address))
            .env("THREADS_IDENTITY_CALLER_KEY", &self.setting.key);
        command
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        end(self.command(arguments))
    }

    /// `link`, until it has printed its URL.
    fn begin(&self, arguments: &[&str]) -> (Running, String) {
        let mut command = self.command(&[&["link"], arguments].concat());
        let linking = Running::start(command.stdin(Stdio::piped()));
        let url = linking.complained("it shows a URL", |line| line.contains("/oauth/authorize?"));
        (linking, url.trim().to_owned())
    }

    fn consent(&self, url: &str, persona: &str, decision: Decision) -> String {
        self.setting.simulator.controls().consent(url, persona, decision).unwrap()
    }

    /// The whole of it: the person says yes, and the address is pasted.
    fn link(&self, arguments: &[&str], persona: &str) -> Ended {
        let (mut linking, url) = self.begin(arguments);
        linking.say(&self.consent(&url, persona, Decision::Allow));
        linking.end()
    }
}

/// `serve`, with a page to return to.
fn serve(setting: &Setting, address: &str) -> Command {
    let mut serve = setting.serve();
    serve.env("THREADS_IDENTITY__SERVER__GRPC_LISTEN", address);
    serve.env("THREADS_IDENTITY__SERVER__PUBLIC_URL", "https://id.example.com");
    let file = setting.directory.path("config.toml");
    let text = fs::read_to_string(&file).unwrap();
    let with_page = "return_to = [\"https://app.example.com/linked\"]\ngraph_url";
    fs::write(&file, text.replacen("graph_url", with_page, 1)).unwrap();
    serve
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// It failed, for this reason, and said what to do.
#[track_caller]
fn refused(ended: Ended, reason: &str, advice: &str) {
    let error = ended.bad();
    assert!(error.contains(reason) && error.contains(advice), "{reason}, {advice}: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_linked_by_pasting_where_the_browser_has_ended() {
    let database = database().await;
    let place = Place::new("everyday", database.url()).await;
    let (mut linking, url) = place.begin(&["user-1"]);
    let callback_url = place.consent(&url, "full", Decision::Allow);
    linking.say(&format!("  \"{callback_url}\"  "));
    let ended = linking.end();
    let code = callback_url.split("code=").nth(1).unwrap().split(['&', '#']).next().unwrap().to_owned();
    assert!(!ended.err.contains(&code) && !ended.out.contains(&code));
    let out = ended.good();
    assert!(out.contains("@maya.sim") && out.contains(" is linked to user-1.\n"), "{out}");
    let id = out.lines().last().unwrap().split_whitespace().next().unwrap().to_owned();

    let table = place.run(&["accounts", "user-1"]).good();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 2, "{table}");
    assert!(lines[0].starts_with("ACCOUNT ") && lines[1].starts_with(&id), "{table}");
    assert_eq!(lines[0].find("STATE"), lines[1].find("ACTIVE"), "{table}");
    let line = json(&place.run(&["accounts", "user-1", "--json"]).good());
    assert_eq!(
        (&line["account_id"], &line["state"], &line["user_id"]),
        (&id.clone().into(), &"ACTIVE".into(), &"user-1".into())
    );

    let shown = place.run(&["profile", "user-1"]).good();
    assert!(shown.starts_with("@maya.sim (") && shown.contains("\n  account        "), "{shown}");
    place.setting.simulator.controls().rename("full", "maya.renamed");
    let stored = json(&place.run(&["profile", "user-1", "--json"]).good());
    assert_eq!(stored["profile"]["username"], "maya.sim");
    for narrowed in [&["--account", &id][..], &[]] {
        let fresh = [&["profile", "user-1", "--json", "--fresh"], narrowed].concat();
        assert_eq!(json(&place.run(&fresh).good())["profile"]["username"], "maya.renamed");
    }
    let token = place.setting.simulator.controls().newest_token("full").unwrap();
    for everything in [&["accounts", "user-1", "--json"][..], &["profile", "user-1", "--json"]] {
        assert!(!place.run(everything).good().contains(&token));
    }

    let again = place.link(&["user-1", "--account", &id], "full").good();
    assert!(again.contains("has consented again, for user-1."), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_reads_the_url_and_writes_the_address_or_the_ticket() {
    let database = database().await;
    let place = Place::new("everyday-script", database.url()).await;
    let mut command = place.command(&["link", "user-1", "--json", "--scope", "threads_content_publish"]);
    let mut linking = Running::start(command.stdin(Stdio::piped()));
    let first = linking.json();
    let url = first["authorization_url"].as_str().unwrap();
    assert!(first["expire_time"].as_str().unwrap().ends_with('Z'));
    // Threads sends the browser to the hosted callback, and that sends it on.
    let callback_url = place.consent(url, "home", Decision::Allow);
    let query = callback_url.split_once('?').unwrap().1.trim_end_matches("#_");
    let hosted = format!("http://{}/api/auth/callback/threads?{query}", place.service.http);
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let sent_on = client.get(hosted).send().await.unwrap().headers()["location"].to_str().unwrap().to_owned();
    assert!(sent_on.starts_with("https://app.example.com/linked?ticket="), "{sent_on}");
    linking.say(&sent_on);
    let out = linking.end().good();
    let last = json(out.lines().nth(1).unwrap());
    assert_eq!(last["outcome"], "LINKED");
    assert_eq!(last["authorization_id"], first["authorization_id"]);
    assert_eq!(last["account"]["scopes"].as_array().unwrap().len(), 2);
    assert!(last["profile"]["username"].is_string());
    assert_eq!(out.lines().count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_says_why_and_what_to_do() {
    let database = database().await;
    let place = Place::new("everyday-refused", database.url()).await;
    let (mut linking, url) = place.begin(&["user-1"]);
    linking.say(&place.consent(&url, "full", Decision::Deny));
    refused(linking.end(), "AUTHORIZATION_DENIED", "if the person wants to after all");

    // Of another run: whoever gets a URL cannot have it completed by somebody else.
    let (first, url) = place.begin(&["user-1"]);
    let (mut second, _) = place.begin(&["user-1"]);
    second.say(&place.consent(&url, "full", Decision::Allow));
    refused(second.end(), "SESSION_MISMATCH", "must come from the URL that this very command has printed");
    drop(first);

    let (mut linking, url) = place.begin(&["user-1"]);
    let cut = place.consent(&url, "full", Decision::Allow).replace("state=", "state=x");
    linking.say(&cut);
    refused(linking.end(), "STATE_INVALID", "Paste the address whole");
    for (pasted, words) in [
        ("", "Nothing was pasted"),
        ("yes", "no `code`, `error` or `ticket`"),
        (&url, "That is the URL to open"),
    ] {
        let (mut linking, _) = place.begin(&["user-1"]);
        linking.say(pasted);
        refused(linking.end(), words, "aste the");
    }
    refused(
        place.run(&["link", "user-1"]),
        "nothing was pasted, so nothing was linked",
        "Run the command again",
    );

    place.link(&["user-1"], "full").good();
    let (mut linking, url) = place.begin(&["user-2"]);
    linking.say(&place.consent(&url, "full", Decision::Allow));
    refused(linking.end(), "ACCOUNT_LINKED_TO_ANOTHER_USER", "--transfer");
    let account = json(&place.run(&["accounts", "user-1", "--json"]).good());
    let id = account["account_id"].as_str().unwrap();
    refused(place.link(&["user-1", "--account", id], "home"), "ACCOUNT_MISMATCH", "Log out of Threads");
    refused(place.run(&["link", "user-2", "--transfer"]), "CALLER_NOT_ALLOWED, role: transfer", "`roles`");
    refused(place.run(&["link", "u", "--redirect-uri", "x"]), "redirect_uri: must be one of", "--help");
    refused(place.run(&["accounts", ""]), "user_id: is present but empty", "--help");
    let nobody = "00000000-0000-8000-8000-000000000000";
    refused(place.run(&["profile", "user-1", "--account", nobody]), "ACCOUNT_NOT_FOUND", "accounts USER");
    assert!(place.run(&["accounts", "user-9"]).good().is_empty());
    assert!(place.run(&["accounts", "user-9"]).err.contains("threads-identity link"));
    assert!(place.run(&["profile", "user-9", "--json"]).good().is_empty());

    // The person has removed the app: a fresh profile cannot be had.
    place.setting.simulator.controls().revoke_app("full");
    refused(place.run(&["profile", "user-1", "--fresh"]), "REAUTHORIZATION_REQUIRED", "--account ACCOUNT_ID");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_waits_for_what_passes() {
    let database = database().await;
    let place = Place::new("everyday-passing", database.url()).await;
    let controls = place.setting.simulator.controls();
    // As often as the service itself tries.
    controls.fault_times(Endpoint::LongLivedExchange, 3, Fault::Html502);
    let (mut linking, url) = place.begin(&["user-1"]);
    linking.say(&place.consent(&url, "full", Decision::Allow));
    let ended = linking.end();
    assert!(
        ended.err.contains("PROVIDER_UNAVAILABLE") && ended.err.contains("Trying again."),
        "{}",
        ended.err
    );
    assert!(ended.good().contains("is linked to user-1."));
    assert_eq!(controls.count(Endpoint::CodeExchange), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_outlives_the_service_that_it_began_with() {
    let database = database().await;
    let mut place = Place::new("everyday-restart", database.url()).await;
    let (mut linking, url) = place.begin(&["user-1"]);
    let callback_url = place.consent(&url, "full", Decision::Allow);
    place.service.running.signal("-TERM");
    place.service.running.wait();
    linking.say(&callback_url);
    linking.complained("it says that nobody is there", |line| {
        line.contains("cannot be reached") && line.ends_with("Trying again.")
    });
    place.service = Service::start(serve(&place.setting, &place.address), &place.setting.key).await;
    assert!(linking.end().good().contains("is linked to user-1."));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_service_is_and_who_calls_can_be_wrong_in_many_ways() {
    let database = database().await;
    let place = Place::new("everyday-caller", database.url()).await;
    let server = format!("http://{}", place.address);
    let with = |variables: &[(&str, &str)], arguments: &[&str]| {
        let mut command = command([&["accounts", "user-1"], arguments].concat());
        command.envs(variables.iter().copied());
        end(command)
    };
    let (stranger, _) = new_caller_key();
    let file = place.setting.directory.path("caller.key");
    fs::write(&file, format!("{}\n", place.setting.key)).unwrap();
    let file = file.to_str().unwrap();
    let empty = place.setting.directory.path("empty.key");
    fs::write(&empty, "\n").unwrap();
    let (key, key_file) = ("THREADS_IDENTITY_CALLER_KEY", "THREADS_IDENTITY_CALLER_KEY_FILE");
    let at = ("THREADS_IDENTITY_SERVER", server.as_str());

    with(&[at, (key_file, file)], &[]).good();
    with(&[(key_file, file)], &["--server", &server]).good();
    with(&[at, (key, &stranger)], &["--key-file", file]).good();
    refused(with(&[at], &[]), "CALLER_UNKNOWN", "callers add");
    let unknown = with(&[at, (key, &stranger)], &[]);
    assert!(!unknown.err.contains(&stranger), "{}", unknown.err);
    refused(unknown, "CALLER_UNKNOWN", "--key-file");
    refused(with(&[at, (key, &stranger), (key_file, file)], &[]), key, "keep one");
    refused(with(&[at, (key, "")], &[]), key, "does not hold a key");
    refused(with(&[at], &["--key-file", empty.to_str().unwrap()]), "--key-file", "does not hold a key");
    refused(with(&[at, (key_file, "/nowhere/at-all")], &[]), key_file, "/nowhere/at-all");
    refused(with(&[("THREADS_IDENTITY_SERVER", "x")], &[]), "THREADS_IDENTITY_SERVER: must be", "http://");
    refused(
        with(&[("THREADS_IDENTITY_CA_FILE", "/nowhere/at-all")], &["--server", "https://127.0.0.1:1"]),
        "THREADS_IDENTITY_CA_FILE",
        "/nowhere/at-all",
    );
    refused(
        with(&[], &["--server", "http://127.0.0.1:1"]),
        "cannot be reached: Connection refused",
        "--server",
    );
    // The key stays here, whoever listens there.
    refused(
        with(&[(key_file, file)], &["--server", "http://192.0.2.1:50051"]),
        "--server: the caller's key would go to another machine without TLS",
        "--insecure-allow-plaintext",
    );
    // TLS is spoken to where there is none.
    let tls = format!("https://{}", place.address);
    refused(with(&[(key_file, file)], &["--server", &tls]), "cannot be reached", "--server");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_strangers_write_is_obeyed_by_a_terminal() {
    let database = database().await;
    let place = Place::new("everyday-hostile", database.url()).await;
    let controls = place.setting.simulator.controls();
    controls.edit("full", |persona| {
        persona.name = Some("\u{1b}[2J\u{9b}31m\u{202e}ayaM".to_owned());
        persona.biography = Some("one\n  state  GONE\r\u{7}two\u{2066}".to_owned());
    });
    let user = "user\u{202e}1\u{200f}";
    let watching = Running::start(&mut place.command(&["watch"]));
    let followed = Running::start(&mut place.command(&["watch", "--json"]));
    followed.json();
    let linked = place.link(&[user], "full");
    assert!(linked.err.contains("user\\u{202e}1"), "{}", linked.err);
    let json_line = place.run(&["profile", user, "--json"]).good();
    assert_eq!(json(&json_line)["profile"]["name"], "\u{1b}[2J\u{9b}31m\u{202e}ayaM");
    assert_eq!(json(&json_line)["user_id"], user);
    let shown = place.run(&["profile", user]).good();
    assert!(shown.contains("(\\u{1b}[2J\\u{9b}31m\\u{202e}ayaM)"), "{shown}");
    // What looks like another line of ours stands where no line of ours begins.
    assert_eq!(shown.lines().filter(|line| line.starts_with("  state ")).count(), 1, "{shown}");
    let everything = [
        linked.out,
        linked.err,
        json_line,
        shown,
        place.run(&["accounts", user]).good(),
        place.run(&["accounts", "nobody\u{202e}"]).err,
        watching.printed("user\\u{202e}1"),
        followed.printed("LINKED"),
    ];
    for text in everything {
        let obeyed = |c: char| {
            (c.is_control() && c != '\n')
                || ('\u{202a}'..='\u{202e}').contains(&c)
                || ('\u{2066}'..='\u{2069}').contains(&c)
        };
        assert!(!text.chars().any(obeyed) && !text.contains('\u{200f}'), "{text:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_many_accounts_is_shown_all_of_them() {
    let database = database().await;
    let place = Place::new("everyday-many", database.url()).await;
    let mut sql = sqlx::PgConnection::connect(database.url()).await.unwrap();
    let rows = "insert into accounts (account_id, app_id, threads_user_id, user_id, state, scopes, token,
                                      token_expire_time, token_refresh_time, username, profile_fetch_time,
                                      create_time, update_time, authorize_time, next_refresh_time)
                select gen_random_uuid(), 'default', (n + 30000)::text, 'many', 'ACTIVE', 'threads_basic', '\\x00',
                       t + interval '60 days', t, 'person' || n, t, t, t, t, t + interval '30 days'
                from generate_series(1, 450) n, (select now() as t) t";
    sqlx::query(rows).execute(&mut sql).await.unwrap();
    assert_eq!(place.run(&["accounts", "many"]).good().lines().count(), 451);
    let profiles = place.run(&["profile", "many", "--json"]).good();
    let names: std::collections::BTreeSet<String> =
        profiles.lines().map(|line| json(line)["profile"]["username"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names.len(), 450);
    // Whoever reads on no more is no failure.
    let piped = "\"$0\" accounts many --json | head -1";
    let mut shell = Command::new("bash");
    shell.args(["-o", "pipefail", "-c", piped, env!("CARGO_BIN_EXE_threads-identity")]);
    crate::run::clean(&mut shell);
    shell.env("THREADS_IDENTITY_SERVER", format!("http://{}", place.address));
    shell.env("THREADS_IDENTITY_CALLER_KEY", &place.setting.key);
    assert_eq!(end(shell).good().lines().count(), 1);

    let unlinked =
        "update accounts set state = 'UNLINKED', state_reason = 'UNLINKED_BY_CALLER', token = null,
                           token_expire_time = null, token_refresh_time = null, next_refresh_time = null,
                           username = null, profile_fetch_time = null";
    sqlx::query(unlinked).execute(&mut sql).await.unwrap();
    assert!(place.run(&["accounts", "many"]).good().is_empty());
    let all = place.run(&["accounts", "many", "--all"]).good();
    assert!(all.lines().nth(1).unwrap().contains("UNLINKED, UNLINKED_BY_CALLER"), "{all}");
}

/// At a terminal a mistake is asked about again, and nothing else is asked.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn at_a_terminal_a_mistake_is_asked_about_again() {
    let database = database().await;
    let place = Place::new("everyday-terminal", database.url()).await;
    // A terminal of its own, from util-linux.
    let mut script = Command::new("script");
    let typed = format!("{} link user-1", env!("CARGO_BIN_EXE_threads-identity"));
    script.args(["--quiet", "--return", "--command", &typed, "/dev/null"]);
    crate::run::clean(&mut script);
    script
        .env("THREADS_IDENTITY_SERVER", format!("http://{}", place.address))
        .env("THREADS_IDENTITY_CALLER_KEY", &place.setting.key)
        .stdin(Stdio::piped());
    let mut terminal = Running::start(&mut script);
    let out = terminal.printed("/oauth/authorize?");
    let url = out.lines().find(|line| line.contains("/oauth/authorize?")).unwrap().trim().to_owned();
    let callback_url = place.consent(&url, "full", Decision::Allow);
    terminal.say(&format!("{url}\n{callback_url}"));
    let out = terminal.end().good();
    assert!(out.contains("That is the URL to open."), "{out}");
    assert_eq!(out.matches("Paste that address: ").count(), 2, "{out}");
    assert!(out.contains("is linked to user-1."), "{out}");
    assert!(run(&["link"]).bad().contains("<USER>"));
}

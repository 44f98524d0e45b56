//! `docs/simulator.md` tells the truth: every command of the page is carried out as it stands there, and
//! everything that there is stands there.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json as object};
use threads_identity::simulator::{Options, Simulator};

use super::receiver::Receiver;
use super::{CLIENT_ID, World, parameter};

const PAGE: &str = include_str!("../../../docs/simulator.md");
const REDIRECT: &str = "http://127.0.0.1:8080/callback";

/// One command of the page, and the answer that stands below it.
struct Example {
    words: Vec<String>,
    answer: Option<Value>,
}

/// A command line as a shell splits it: quotes, and lines that go on.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = None::<String>;
    let mut quote = None;
    for character in command.replace("\\\n", " ").chars() {
        match (quote, character) {
            (Some(open), _) if open == character => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, _) if character.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    assert!(quote.is_none(), "{command}");
    words.extend(word);
    words
}

/// The commands of the page that call something, in order.
fn examples() -> Vec<Example> {
    let blocks = PAGE.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap());
    let mut examples: Vec<Example> = Vec::new();
    for block in blocks {
        let mut command = String::new();
        for line in block.lines() {
            if let Some(answer) = line.strip_prefix("# ") {
                let answer = serde_json::from_str(answer).unwrap_or_else(|_| panic!("no JSON: {answer}"));
                examples.last_mut().unwrap().answer = Some(answer);
                continue;
            }
            command += line;
            command.push('\n');
            let quotes = command.matches('\'').count();
            if line.ends_with('\\') || quotes % 2 == 1 {
                continue;
            }
            let words = words(&std::mem::take(&mut command));
            if words[0] == "curl" {
                examples.push(Example { words, answer: None });
            } else {
                assert_eq!(words[..2], ["threads-identity", "simulate"]);
            }
        }
        assert!(command.is_empty(), "{command}");
    }
    examples
}

/// What curl would send.
fn request(world: &World, words: &[String]) -> RequestBuilder {
    let (mut method, mut url, mut json, mut form, mut query) = (None, None, None, Vec::new(), false);
    let mut headers = Vec::new();
    let mut rest = words[1..].iter();
    while let Some(word) = rest.next() {
        let mut next = || rest.next().unwrap().clone();
        match word.as_str() {
            "-X" => method = Some(Method::from_bytes(next().as_bytes()).unwrap()),
            "--json" => json = Some(next()),
            "-d" => form.push(next()),
            "-H" => headers.push(next()),
            "-G" => query = true,
            "--fail-with-body" => {}
            address => assert!(url.replace(address.to_owned()).is_none(), "{words:?}"),
        }
    }
    let url = url.unwrap();
    let pairs: Vec<(String, String)> = form
        .iter()
        .map(|pair| pair.split_once('=').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap())
        .collect();
    let posts = json.is_some() || (!pairs.is_empty() && !query);
    let method = method.unwrap_or(if posts { Method::POST } else { Method::GET });
    let mut request = world.http.request(method, url);
    for header in headers {
        let (name, value) = header.split_once(": ").unwrap();
        request = request.header(name, value);
    }
    match json {
        Some(json) => request.header("content-type", "application/json").body(json),
        None if pairs.is_empty() => request,
        None if query => request.query(&pairs),
        None => request.form(&pairs),
    }
}

/// Whether an answer is the one on the page, where `…` stands for whatever comes.
fn fits(shown: &Value, given: &Value) -> bool {
    match (shown, given) {
        (Value::String(shown), _) if shown == "…" => !given.is_null(),
        (Value::String(shown), Value::String(given)) => match shown.strip_suffix('…') {
            Some(start) => given.starts_with(start),
            None => shown == given,
        },
        (Value::Object(shown), Value::Object(given)) => {
            shown.iter().all(|(name, shown)| given.get(name).is_some_and(|given| fits(shown, given)))
        }
        _ => shown == given,
    }
}

#[tokio::test]
async fn every_command_of_the_manual_does_what_it_says() {
    let receiver = Receiver::start().await;
    let options = Options {
        redirect_uris: vec![REDIRECT.to_owned()],
        deauthorize_url: Some(receiver.at("/threads/deauthorize")),
        data_deletion_url: Some(receiver.at("/threads/data-deletion")),
        ..Options::default()
    };
    let world = World::on(Simulator::start(options).await.unwrap());
    let base = world.simulator.base_url();
    let (mut code, mut token) = (String::new(), String::new());
    let examples = examples();
    assert!(examples.len() > 40);
    for Example { words, answer } in examples {
        let here = |word: &String| {
            word.replace("http://127.0.0.1:8091", &base)
                .replace("http://127.0.0.1:8080/hook", &receiver.at("/hook"))
                .replace("$CODE", &code)
                .replace("$TOKEN", &token)
        };
        let words: Vec<String> = words.iter().map(here).collect();
        let response = request(&world, &words).send().await.unwrap();
        let status = response.status();
        let given: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        assert_eq!(status, 200, "{words:?}: {given}");
        let shown = answer.unwrap_or_else(|| object!({}));
        assert!(fits(&shown, &given), "{words:?}: {given}");
        for delivery in given["deliveries"].as_array().into_iter().flatten() {
            assert_eq!(delivery["status"], 200, "{delivery}");
        }
        // The reader is told to keep these two.
        if let Some(url) = given["callback_url"].as_str().filter(|_| code.is_empty()) {
            code = parameter(url, "code").unwrap();
        }
        if let Some(text) = given["access_token"].as_str().filter(|_| token.is_empty()) {
            text.clone_into(&mut token);
        }
    }
    // One consent on the page is withdrawn, three times the data is to be deleted.
    let paths: Vec<_> = receiver.came().iter().map(|came| came.uri.path().to_owned()).collect();
    let deletion = "/threads/data-deletion";
    let deauthorize = "/threads/deauthorize";
    assert_eq!(paths, [deauthorize, deauthorize, deletion, deletion, deletion, "/hook", "/hook"]);
    assert_eq!(world.controls.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn everything_there_is_stands_in_the_manual() {
    let world = World::start().await;
    let get = async |path: &str| -> Value { super::json(world.get(path, &[]).await).await };
    let mut missing = Vec::new();
    let mut told = |text: String| {
        if !PAGE.contains(&text) {
            missing.push(text);
        }
    };
    for control in get("/_simulator/").await.as_object().unwrap().keys() {
        let path = control.split_once(' ').unwrap().1;
        let (start, end) = path.split_once('{').unwrap_or((path, ""));
        // Of a path with a name in it, what stands before the name and behind it.
        told(start.to_owned());
        if let Some((_, end)) = end.split_once('}').filter(|(_, end)| !end.contains('{')) {
            told(end.to_owned());
        }
    }
    for knob in get("/_simulator/knobs").await.as_object().unwrap().keys() {
        told(format!("`{knob}`"));
    }
    for fault in get("/_simulator/faults").await.as_object().unwrap().keys() {
        told(format!("`{fault}`"));
    }
    for persona in world.controls.personas() {
        told(format!("`{}`", persona.key));
    }
    // Whoever names something unknown is told every name there is.
    let app = format!("/_simulator/apps/{CLIENT_ID}");
    let consent = object!({"authorization_url": "", "persona": "", "decision": "allow", "variant": "?"});
    for (path, wish) in [
        ("/_simulator/consent".to_owned(), consent),
        ("/_simulator/faults".to_owned(), object!({"endpoint": "?", "fault": "huge"})),
        (format!("{app}/signed-request"), object!({"signature": "?"})),
        (format!("{app}/signed-request"), object!({"user_id_form": "?"})),
        (format!("{app}/signed-request"), object!({"?": 1})),
        (format!("{app}/webhook-event"), object!({"signature": "?"})),
        (format!("{app}/webhook-event"), object!({"?": 1})),
        (format!("{app}/webhook-handshake"), object!({"?": 1})),
    ] {
        let request = world.http.post(world.url(&path)).header("content-type", "application/json");
        let answer = request.body(wish.to_string()).send().await.unwrap();
        assert_eq!(answer.status(), 422, "{path}");
        let text = answer.text().await.unwrap();
        let names: Vec<&str> = text.split('`').skip(3).step_by(2).collect();
        assert!(names.len() > 1, "{text}");
        // An endpoint that is not there for others to call.
        names.iter().filter(|name| **name != "other").for_each(|name| told(format!("`{name}`")));
    }
    missing.retain(|text| text != "/_simulator/style.css");
    assert_eq!(missing, Vec::<String>::new());
}

//! A `dev` that runs, and what its simulator has seen.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::chromium::{Browser, Driver};

/// A running `dev` with a folder of its own; both are gone afterwards.
pub struct Dev {
    child: Child,
    places: Value,
    data_dir: PathBuf,
}

impl Dev {
    pub fn start() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("threads-identity-tour-{}-{number}", std::process::id());
        let data_dir = std::env::temp_dir().join(name);
        let mut child = Command::new(env!("CARGO_BIN_EXE_threads-identity"))
            .args(["dev", "--json", "--data-dir"])
            .arg(&data_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let log = std::thread::spawn(move || {
            BufReader::new(err).lines().map_while(Result::ok).collect::<Vec<_>>().join("\n")
        });
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).unwrap();
        let places = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{}", log.join().unwrap()));
        Self { child, places, data_dir }
    }

    /// A `dev`, and a browser that has opened its first page.
    pub async fn visited(driver: &Driver) -> (Self, Browser) {
        let dev = Self::start();
        let browser = driver.browser().await.unwrap();
        browser.open(&dev.demo("/")).await;
        (dev, browser)
    }

    pub fn place(&self, name: &str) -> &str {
        self.places[name].as_str().unwrap_or_else(|| panic!("no {name}: {}", self.places))
    }

    /// An address of the demo.
    pub fn demo(&self, path: &str) -> String {
        format!("{}{path}", self.place("demo"))
    }

    /// Asks the simulator.
    pub async fn ask(&self, path: &str) -> Value {
        let url = format!("{}/_simulator/{path}", self.place("simulator"));
        serde_json::from_str(&reqwest::get(url).await.unwrap().text().await.unwrap()).unwrap()
    }

    /// Tells the simulator.
    pub async fn tell(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}/_simulator/{path}", self.place("simulator"));
        let request = reqwest::Client::builder().build().unwrap().post(url);
        let request = request.header("content-type", "application/json").body(body.to_string());
        serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap()
    }

    /// Where the click of one of the simulator's people leads.
    pub async fn consent(&self, authorization_url: &str, persona: &str) -> String {
        let click =
            json!({ "authorization_url": authorization_url, "persona": persona, "decision": "allow" });
        let answer = self.tell("consent", &click).await;
        answer["callback_url"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// How many requests of a kind the simulator has received.
    pub async fn received(&self, endpoint: &str) -> usize {
        let ledger = self.ask(&format!("ledger?endpoint={endpoint}")).await;
        ledger["entries"].as_array().unwrap().len()
    }

    /// The service has kept Threads' rules.
    pub async fn assert_no_violations(&self) {
        assert_eq!(self.ask("violations").await["violations"], json!([]));
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // Its Postgres ends with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.data_dir);
    }
}

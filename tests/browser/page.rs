//! What a person does with a page, and what every page must be.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::chromium::{Browser, screenshots};

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Each page is looked at on these screens, by light and in the dark.
const SCREENS: [Screen; 2] = [("phone", 390, 844, true), ("desktop", 1280, 800, false)];
/// Its name, width and height, and whether it is a phone's.
type Screen = (&'static str, u64, u64, bool);
const LIGHTS: [&str; 2] = ["light", "dark"];

/// Readable enough, by WCAG 2: for ordinary text and for large.
const CONTRAST_MIN: f64 = 4.5;

/// What a page must be, as seen from inside. Runs in the page, by the driver, which
/// no policy stops.
const EXAMINATION: &str = include_str!("page.js");

/// The button that begins a link.
pub const LINK: &str = "Link a Threads account";

impl Browser {
    pub async fn open(&self, url: &str) {
        self.session.post("/url", json!({ "url": url })).await.unwrap();
    }

    /// Presses the button with this text.
    pub async fn press(&self, text: &str) {
        self.leave(&format!("//button[normalize-space()=\"{text}\"]")).await;
    }

    /// Follows the link with this text.
    pub async fn follow(&self, text: &str) {
        self.leave(&format!("//a[normalize-space()=\"{text}\"]")).await;
    }

    /// Clicks, and waits for the page to which that leads: the driver itself may
    /// answer before the page is left.
    async fn leave(&self, xpath: &str) {
        self.value("(window.left = true)").await;
        if let Err(error) = self.session.click(xpath).await {
            panic!("{xpath}: {error} at {}:\n{}", self.url().await, self.text().await);
        }
        let arrived = "window.left === undefined && document.readyState !== 'loading'";
        let arrived = if self.waits { arrived } else { "window.left === undefined" };
        let deadline = Instant::now() + PATIENCE;
        // In between there may be no page to ask.
        while self.try_value(arrived).await != Ok(Value::Bool(true)) {
            assert!(Instant::now() < deadline, "{xpath} leads nowhere");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Goes back in the history.
    pub async fn back(&self) {
        self.session.post("/back", json!({})).await.unwrap();
    }

    /// Goes forward in the history.
    pub async fn forward(&self) {
        self.session.post("/forward", json!({})).await.unwrap();
    }

    /// On the start page: links an account, as somebody who allows it.
    pub async fn link(&self, persona: &str) {
        self.press(LINK).await;
        self.consent(persona, "Allow").await;
    }

    /// On the consent page: chooses somebody, and allows or denies.
    pub async fn consent(&self, persona: &str, button: &str) {
        let choice = format!("input[name=persona][value={persona}]");
        // The answer stands at the foot of the window, over what is not scrolled up.
        self.value(&format!("document.querySelector('{choice}').scrollIntoView({{ block: 'center' }})"))
            .await;
        let choice = format!("//input[@name='persona' and @value='{persona}']");
        self.session.click(&choice).await.unwrap();
        self.press(button).await;
    }

    pub async fn url(&self) -> String {
        self.session.get("/url").await.unwrap().as_str().unwrap().to_owned()
    }

    /// All that can be read on the page.
    pub async fn text(&self) -> String {
        self.value("document.body.innerText").await.as_str().unwrap().to_owned()
    }

    pub async fn heading(&self) -> String {
        self.value("document.querySelector('h1')?.innerText ?? ''").await.as_str().unwrap().to_owned()
    }

    /// The page has this heading.
    pub async fn assert_heading(&self, expected: &str) {
        let heading = self.heading().await;
        assert_eq!(heading, expected, "at {}:\n{}", self.url().await, self.text().await);
    }

    /// The page says this somewhere.
    pub async fn assert_says(&self, expected: &str) {
        let text = self.text().await;
        assert!(text.contains(expected), "no {expected:?} at {}:\n{text}", self.url().await);
    }

    /// Waits until the page says this.
    pub async fn until_it_says(&self, expected: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.value("document.body?.innerText ?? ''").await;
            if text.as_str().unwrap().contains(expected) {
                return;
            }
            assert!(Instant::now() < deadline, "it never says {expected:?}: {text}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Opens an address in a tab of its own, and stays there.
    pub async fn open_tab(&self, url: &str) {
        let tab = self.session.post("/window/new", json!({ "type": "tab" })).await.unwrap();
        self.session.post("/window", json!({ "handle": tab["handle"] })).await.unwrap();
        self.open(url).await;
    }

    /// Goes to a tab, counted from the first.
    pub async fn to_tab(&self, number: usize) {
        let tabs = self.session.get("/window/handles").await.unwrap();
        self.session.post("/window", json!({ "handle": tabs[number] })).await.unwrap();
    }

    /// Looks at the page as it stands on every screen and in every light, examines
    /// it, and keeps what it looks like.
    pub async fn look(&self, name: &str) {
        for screen in SCREENS {
            self.show(screen.1, screen.2, screen.3).await;
            for light in LIGHTS {
                let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": light }] });
                self.tool("Emulation.setEmulatedMedia", media).await;
                let name = format!("{name}-{}-{light}", screen.0);
                self.examine(&name).await;
                self.keep(&name, screen).await;
            }
        }
        self.tool("Emulation.clearDeviceMetricsOverride", json!({})).await;
        self.tool("Emulation.setEmulatedMedia", json!({ "features": [] })).await;
    }

    /// Keeps what all of the page looks like, on a screen that is high enough for it.
    async fn keep(&self, name: &str, (_, width, height, mobile): Screen) {
        use base64::Engine as _;
        let page = self.value("document.documentElement.scrollHeight").await.as_u64().unwrap();
        self.show(width, page.max(height), mobile).await;
        let shot = self.tool("Page.captureScreenshot", json!({ "format": "png" })).await;
        self.show(width, height, mobile).await;
        let png = base64::engine::general_purpose::STANDARD.decode(shot["data"].as_str().unwrap()).unwrap();
        std::fs::write(screenshots().join(format!("{name}.png")), png).unwrap();
    }

    async fn show(&self, width: u64, height: u64, mobile: bool) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile });
        self.tool("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// No script, one heading, a language, labels, room enough, and contrast.
    pub async fn examine(&self, name: &str) {
        let found = self.value(&format!("({EXAMINATION})()")).await;
        assert_eq!(found["flaws"], json!([]), "{name}");
        for text in found["texts"].as_array().unwrap() {
            let contrast = text["contrast"].as_f64().unwrap();
            assert!(contrast >= CONTRAST_MIN, "{name}: contrast {contrast:.2} of {}", text["text"]);
        }
        assert_ne!(found["texts"], Value::Array(Vec::new()), "{name}: nothing to read");
    }

    /// Nothing was blocked or complained of so far. That a page has the status of an
    /// error is no complaint.
    pub async fn assert_quiet(&self) {
        let log = self.session.post("/se/log", json!({ "type": "browser" })).await.unwrap();
        let message = |entry: &Value| entry["message"].as_str().unwrap().to_owned();
        let complaints = log.as_array().unwrap().iter().map(message);
        let bad: Vec<String> =
            complaints.filter(|message| !message.contains("responded with a status of")).collect();
        assert!(bad.is_empty(), "{bad:#?}");
    }
}

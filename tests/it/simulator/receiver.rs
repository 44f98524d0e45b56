//! An app's server, as far as the platform calls it: it notes what comes and answers what it is told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use url::form_urlencoded;

/// One request that came.
#[derive(Clone)]
pub struct Came {
    pub method: String,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Came {
    /// The value of the form's only field.
    pub fn signed_request(&self) -> String {
        assert_eq!(self.headers["content-type"], "application/x-www-form-urlencoded");
        let mut pairs = form_urlencoded::parse(&self.body);
        let (name, value) = pairs.next().unwrap();
        assert_eq!((&*name, pairs.next()), ("signed_request", None));
        value.into_owned()
    }

    /// The value of a parameter of the address.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let query = self.uri.query().unwrap_or_default();
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }
}

/// How it answers by path.
async fn answer(State(came): State<Arc<Mutex<Vec<Came>>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let one = Came { method: parts.method.to_string(), uri: parts.uri, headers: parts.headers, body };
    came.lock().unwrap().push(one.clone());
    match one.uri.path() {
        "/away" => (StatusCode::FOUND, [("location", "/elsewhere")]).into_response(),
        "/broken" => (StatusCode::INTERNAL_SERVER_ERROR, "no").into_response(),
        "/huge" => vec![b'a'; 1 << 20].into_response(),
        "/slow" => {
            tokio::time::sleep(Duration::from_mins(1)).await;
            "late".into_response()
        }
        "/hook" if one.method == "GET" && one.parameter("hub.verify_token").as_deref() == Some("sesame") => {
            one.parameter("hub.challenge").unwrap_or_default().into_response()
        }
        "/hook" if one.method == "GET" => StatusCode::FORBIDDEN.into_response(),
        _ => ([("content-type", "application/json")], "{\"done\":true}").into_response(),
    }
}

/// The app's server; it ends with the test.
pub struct Receiver {
    pub url: String,
    came: Arc<Mutex<Vec<Came>>>,
}

impl Receiver {
    pub async fn start() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let came = Arc::default();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&came));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Receiver { url, came }
    }

    /// An address here.
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// What has come so far.
    pub fn came(&self) -> Vec<Came> {
        self.came.lock().unwrap().clone()
    }

    /// Waits until so many requests have come.
    pub async fn receives(&self, count: usize) -> Vec<Came> {
        while self.came().len() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.came()
    }
}

//! A browser: one session, its cookies, and pages without scripts.

use std::collections::BTreeMap;

use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};
use reqwest::{Client, Response, StatusCode};
use url::Url;

/// One browser session.
pub struct Browser {
    http: Client,
    /// By host and port, as a real one would not: ports share cookies there.
    cookies: BTreeMap<String, BTreeMap<String, String>>,
}

/// A page: where it is, and what it says.
pub struct Page {
    pub url: Url,
    pub status: StatusCode,
    pub text: String,
}

impl Browser {
    pub fn new() -> Self {
        let http = Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { http, cookies: BTreeMap::new() }
    }

    /// Opens an address, without following where it leads.
    pub async fn open_only(&mut self, url: &Url) -> Response {
        let request = self.http.get(url.clone());
        self.send(url, request).await
    }

    /// Opens an address, and follows where it leads.
    pub async fn open(&mut self, url: &Url) -> Page {
        let response = self.open_only(url).await;
        self.follow(url.clone(), response).await
    }

    /// Sends the form of a page, without following where it leads; the URL that
    /// the form went to comes with the answer.
    pub async fn submit_only(&mut self, page: &Page, form: &[(&str, &str)]) -> (Url, Response) {
        let url = page.url.join(&page.action()).unwrap();
        let request = self.http.post(url.clone()).form(form);
        let response = self.send(&url, request).await;
        (url, response)
    }

    /// Sends the form of a page, and follows where it leads.
    pub async fn submit(&mut self, page: &Page, form: &[(&str, &str)]) -> Page {
        let (url, response) = self.submit_only(page, form).await;
        self.follow(url, response).await
    }

    async fn follow(&mut self, mut url: Url, mut response: Response) -> Page {
        for _ in 0..10 {
            let Some(next) = location(&url, &response) else {
                let status = response.status();
                return Page { url, status, text: response.text().await.unwrap() };
            };
            url = next;
            response = self.open_only(&url).await;
        }
        panic!("it leads round in circles: {url}");
    }

    async fn send(&mut self, url: &Url, mut request: reqwest::RequestBuilder) -> Response {
        let jar = self.cookies.entry(url.authority().to_owned()).or_default();
        if !jar.is_empty() {
            let pairs: Vec<String> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header(COOKIE, pairs.join("; "));
        }
        let response = request.send().await.unwrap();
        for cookie in response.headers().get_all(SET_COOKIE) {
            let (pair, attributes) = cookie.to_str().unwrap().split_once(';').unwrap();
            assert!(attributes.contains("HttpOnly") && attributes.contains("SameSite=Lax"), "{attributes}");
            let (name, value) = pair.split_once('=').unwrap();
            jar.insert(name.to_owned(), value.to_owned());
        }
        response
    }
}

/// Where an answer leads.
pub fn location(url: &Url, response: &Response) -> Option<Url> {
    let to = response.headers().get(LOCATION)?.to_str().unwrap();
    assert!(response.status().is_redirection(), "{}", response.status());
    Some(url.join(to).unwrap())
}

impl Page {
    /// Where its last form goes.
    fn action(&self) -> String {
        let form = self.text.rfind("<form ").unwrap_or_else(|| panic!("no form: {}", self.text));
        let action = self.text[form..].split_once("action=\"").unwrap().1.split('"').next().unwrap();
        action.replace("&amp;", "&").replace("&#38;", "&")
    }
}

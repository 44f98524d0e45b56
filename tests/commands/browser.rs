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

    /// Presses a button of a page, without following where it leads; the URL that
    /// its form went to comes with the answer.
    pub async fn press_only(
        &mut self,
        page: &Page,
        button: &str,
        fields: &[(&str, &str)],
    ) -> (Url, Response) {
        let (action, hidden) = page.form(button);
        let url = page.url.join(&action).unwrap();
        let hidden = hidden.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let form: Vec<(&str, &str)> = hidden.chain(fields.iter().copied()).collect();
        let request = self.http.post(url.clone()).form(&form);
        let response = self.send(&url, request).await;
        (url, response)
    }

    /// Presses a button of a page, and follows where it leads.
    pub async fn press(&mut self, page: &Page, button: &str, fields: &[(&str, &str)]) -> Page {
        let (url, response) = self.press_only(page, button, fields).await;
        self.follow(url, response).await
    }

    /// Posts any form anywhere.
    pub async fn post(&mut self, url: &Url, form: &[(&str, &str)], headers: &[(&str, &str)]) -> Response {
        let mut request = self.http.post(url.clone()).form(form);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(url, request).await
    }

    /// The cookie that a server has set.
    pub fn cookie(&self, url: &Url) -> (String, String) {
        let (name, value) = self.cookies[url.authority()].first_key_value().unwrap();
        (name.clone(), value.clone())
    }

    /// Sets a cookie, as somebody does who makes one up.
    pub fn set_cookie(&mut self, url: &Url, name: &str, value: &str) {
        let jar = self.cookies.entry(url.authority().to_owned()).or_default();
        jar.insert(name.to_owned(), value.to_owned());
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
    /// The value of its first field of this name.
    pub fn field(&self, name: &str) -> String {
        let (_, rest) = self.text.split_once(&format!("name=\"{name}\" value=\"")).unwrap();
        rest.split('"').next().unwrap().to_owned()
    }

    /// The user for whom it was made.
    pub fn user(&self) -> String {
        let (_, rest) = self.text.split_once("You are the user <code>").unwrap();
        rest.split('<').next().unwrap().to_owned()
    }

    /// Where the form with this button goes, and what it hides.
    fn form(&self, button: &str) -> (String, Vec<(String, String)>) {
        let unescaped = |text: &str| text.replace("&amp;", "&").replace("&#38;", "&");
        let value = |tag: &str, name: &str| {
            let (_, rest) = tag.split_once(&format!("{name}=\""))?;
            Some(unescaped(rest.split('"').next().unwrap()))
        };
        let forms = self.text.split("<form ").skip(1).map(|form| form.split("</form>").next().unwrap());
        let mut forms = forms.filter(|form| form.contains(&format!(">{button}</button>")));
        let form = forms.next().unwrap_or_else(|| panic!("no button {button:?}: {}", self.text));
        let inputs = form.split("<input ").skip(1).map(|tag| tag.split('>').next().unwrap());
        let hidden = inputs.filter(|tag| tag.contains("type=\"hidden\""));
        let hidden = hidden.map(|tag| (value(tag, "name").unwrap(), value(tag, "value").unwrap()));
        (value(form, "action").unwrap(), hidden.collect())
    }
}

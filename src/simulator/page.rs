//! The consent page: whom to be, and yes or no.

use askama::Template;
use url::Url;

use super::answer::{Answer, Refusal};
use super::oauth::Window;
use super::state::State;

/// How many people the page offers; scripts can be anybody.
const OFFERED: usize = 40;

/// The page's stylesheet, served beside it so that the policy needs no exception for inline styles.
pub(super) const STYLE: &str = include_str!("../../templates/simulator/style.css");

#[derive(Template)]
#[template(path = "simulator/consent.html")]
struct ConsentPage<'a> {
    query: &'a str,
    app: &'a str,
    destination: &'a str,
    scopes: Vec<Scope<'a>>,
    people: Vec<Choice<'a>>,
}

struct Scope<'a> {
    name: &'a str,
    meaning: Option<&'static str>,
}

struct Choice<'a> {
    key: &'a str,
    name: &'a str,
    username: &'a str,
    note: &'a str,
    chosen: bool,
}

impl State {
    /// The page for an authorization request, or the error page in its place.
    pub(super) fn consent_page(&self, query: &str) -> Answer {
        let window = match self.window(query) {
            Ok(window) => window,
            Err(refusal) => return guarded(refusal, "'none'"),
        };
        let people = self.people.iter().take(OFFERED).enumerate().map(|(index, person)| Choice {
            key: &person.persona.key,
            name: person.persona.name.as_deref().unwrap_or(&person.persona.username),
            username: &person.persona.username,
            note: &person.persona.note,
            chosen: index == 0,
        });
        let page = ConsentPage {
            query,
            app: &window.app,
            destination: &window.redirect_uri,
            scopes: window.scopes.iter().map(|name| Scope { name, meaning: meaning(name) }).collect(),
            people: people.collect(),
        };
        match page.render() {
            Ok(html) => guarded(Answer::html(200, html), &form_action(&window)),
            Err(_) => guarded(Refusal::window(1, "The page cannot be shown."), "'none'"),
        }
    }
}

/// What a permission lets an app do, in the words of a person. One that is not known here is shown as it
/// is.
fn meaning(scope: &str) -> Option<&'static str> {
    Some(match scope {
        "threads_basic" => "See your profile and your posts",
        "threads_content_publish" => "Post for you",
        "threads_read_replies" => "Read replies to your posts",
        "threads_manage_replies" => "Reply for you, and hide replies",
        "threads_manage_insights" => "See how your posts do",
        "threads_manage_mentions" => "See where you are mentioned",
        "threads_keyword_search" => "Search posts",
        "threads_delete" => "Delete your posts",
        "threads_location_tagging" => "Tag places in your posts",
        "threads_profile_discovery" => "Look up other profiles",
        "threads_share_to_instagram" => "Share your posts to Instagram",
        _ => return None,
    })
}

/// Where the form may lead. Chromium holds every redirect after the click against this list: the
/// callback's origin, and wherever the app's callback sends the person next, which for an app under
/// development is another port of the same machine.
fn form_action(window: &Window) -> String {
    let origin = Url::parse(&window.redirect_uri).map(|url| url.origin());
    let origin = match origin {
        Ok(origin) if origin.is_tuple() => origin.ascii_serialization(),
        _ => String::new(),
    };
    format!("'self' {origin} https: http://127.0.0.1:* http://localhost:*")
}

/// Adds what a page with a consent button must not lack.
pub(super) fn guarded(mut answer: Answer, form_action: &str) -> Answer {
    let policy = format!(
        "default-src 'none'; style-src 'self'; form-action {form_action}; frame-ancestors 'none'; base-uri 'none'"
    );
    let headers = [
        ("content-security-policy", policy.as_str()),
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
    ];
    answer.headers.extend(headers.map(|(name, value)| (name.to_owned(), value.to_owned())));
    answer
}

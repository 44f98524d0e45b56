//! The consent page as people meet it: readable, usable by keyboard, and proof against its own people.

use std::collections::BTreeMap;

use super::World;
use super::window::page_of;

/// The relative luminance of `#rrggbb` (WCAG 2.2).
fn luminance(colour: &str) -> f64 {
    let channel = |at: usize| {
        let value = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
        if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
}

fn contrast(one: &str, other: &str) -> f64 {
    let (one, other) = (luminance(one), luminance(other));
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

/// The colours that a block of the stylesheet names.
fn colours(block: &str) -> BTreeMap<&str, &str> {
    let declarations = block.split([';', '{', '}']).filter_map(|part| part.trim().split_once(": "));
    declarations.filter(|(name, value)| name.starts_with("--") && value.starts_with('#')).collect()
}

#[tokio::test]
async fn every_text_can_be_read_by_day_and_by_night() {
    let world = World::start().await;
    let css = world.get("/_simulator/style.css", &[]).await;
    assert_eq!(css.headers()["x-content-type-options"], "nosniff");
    let css = css.text().await.unwrap();
    let blocks: Vec<_> = css.split("@media (prefers-color-scheme: dark)").collect();
    let [light, dark] = blocks.try_into().expect("two schemes");
    let dark = dark.split("\n* {").next().unwrap();
    for block in [light, dark] {
        let colours = colours(block);
        assert_eq!(colours.len(), 10, "{colours:?}");
        for (one, other, least) in [
            ("--ink", "--card", 4.5),
            ("--ink", "--chosen", 4.5),
            ("--soft", "--card", 4.5),
            ("--soft", "--chosen", 4.5),
            ("--notice-ink", "--notice", 4.5),
            // What is no text: edges of controls, and where the keyboard is.
            ("--edge", "--card", 3.0),
            ("--edge", "--chosen", 3.0),
            ("--focus", "--card", 3.0),
        ] {
            let contrast = contrast(colours[one], colours[other]);
            assert!(contrast >= least, "{one} on {other}: {contrast:.2}");
        }
    }
    assert!(!css.contains("opacity") && !css.contains("outline: none") && !css.contains("outline: 0"));
    assert!(css.contains("label:has(:focus-visible)") && css.contains("button:focus-visible"));
    assert!(!css.contains("url(") && !css.contains("@import"), "nothing is fetched");
}

#[tokio::test]
async fn the_page_says_what_it_is_without_styles_or_scripts() {
    let world = World::start().await;
    let url = world.authorization_url(&[("scope", Some("threads_basic threads_delete threads_new"))]);
    let html = page_of(&world, &url).await;
    assert!(html.starts_with("<!doctype html>\n<html lang=\"en\">"));
    for part in [
        "width=device-width",
        "<title>Allow access? Threads simulator</title>",
        "This is not threads.com",
        "<h1>",
        "<legend>Who are you?</legend>",
        "See your profile and your posts <code>threads_basic</code>",
        "Delete your posts <code>threads_delete</code>",
        "<li><code>threads_new</code></li>",
    ] {
        assert!(html.contains(part), "{part}: {html}");
    }
    let people = world.controls.personas();
    assert_eq!(html.matches("type=\"radio\"").count(), people.len());
    assert_eq!(html.matches("<label>").count(), people.len(), "every choice has its label");
    assert!(people.iter().all(|person| !person.note.is_empty()));
    for forbidden in ["<script", "style=\"", " onclick", "http://", "<style"] {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
}

#[tokio::test]
async fn nobody_breaks_out_of_the_page() {
    let world = World::start().await;
    let html = page_of(&world, &world.authorization_url(&[])).await;
    let persona = world.controls.persona("hostile").unwrap();
    let name = persona.name.unwrap();
    assert!(!html.contains(&name) && !html.contains(&persona.username));
    // All that the page's own template does not write itself.
    let tags: Vec<&str> = html.split('<').skip(1).map(|tag| tag.split(['>', ' ']).next().unwrap()).collect();
    for forbidden in ["script", "img", "svg", "b", "iframe", "textarea", "/textarea"] {
        assert!(!tags.contains(&forbidden), "{forbidden}");
    }
    assert_eq!(tags.iter().filter(|tag| **tag == "/title").count(), 1);
    assert!(tags.iter().all(|tag| !tag.contains("onmouseover")));
    let profile = world.profile("hostile").await;
    assert_eq!(profile["username"], persona.username.as_str());
    for (field, context) in [
        ("name", "</title>"),
        ("username", "\"onmouseover="),
        ("threads_biography", "';alert("),
        ("threads_biography", "</style>"),
        ("threads_profile_picture_url", "javascript:"),
    ] {
        assert!(profile[field].as_str().unwrap().contains(context), "{field}");
    }
    world.good();
}

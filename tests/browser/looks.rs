//! Names and biographies that were written to break pages.

use serde_json::json;

use crate::chromium::driver;
use crate::dev::Dev;

/// For text, attributes in either quotes and in none, addresses and styles.
const PAYLOADS: [&str; 6] = [
    "<script>document.title='owned'</script>",
    "\"><img src=x onerror=\"document.title='owned'\">",
    "' onmouseover='document.title=1' x='",
    "</style><script>document.title='owned'</script>",
    "</title></textarea><svg onload=document.title='owned'>",
    "javascript:document.title='owned'",
];

#[tokio::test]
async fn what_people_call_themselves_is_only_text() {
    let Some(driver) = driver().await else { return };
    let dev = Dev::start();
    let browser = driver.browser().await.unwrap();
    for (i, payload) in PAYLOADS.iter().enumerate() {
        let key = format!("written{i}");
        let person = json!({
            "key": key, "id": format!("178414057931{}1", 10_000 + i), "note": payload,
            "username": payload, "name": payload, "biography": payload, "picture": { "url": payload },
        });
        dev.tell("personas", &person).await;
        browser.open(&dev.demo("/")).await;
        browser.press("Link a Threads account").await;
        browser.assert_says(payload).await;
        browser.consent(&key, "Allow").await;
        browser.assert_heading(payload).await;
        browser.examine(payload).await;
        assert!(browser.value("document.title").await.as_str().unwrap().contains(payload));
        assert_eq!(
            browser.value("document.querySelectorAll('img, svg, script, [onmouseover]').length").await,
            0
        );
    }
    browser.look("written").await;
    browser.open(&dev.demo("/")).await;
    browser.look("start-written").await;
}

#[tokio::test]
async fn every_script_and_every_length_fits_on_a_page() {
    let Some(driver) = driver().await else { return };
    let dev = Dev::start();
    let browser = driver.browser().await.unwrap();
    for persona in ["emoji", "bare", "bigid"] {
        browser.open(&dev.demo("/")).await;
        browser.press("Link a Threads account").await;
        browser.consent(persona, "Allow").await;
        browser.assert_says("Your Threads account is linked.").await;
        browser.look(&format!("profile-{persona}")).await;
    }
    let long = "m".repeat(300);
    let person = json!({ "key": "long", "id": "17841405793188881", "username": long, "name": long,
                         "biography": "W".repeat(500) });
    dev.tell("personas", &person).await;
    browser.open(&dev.demo("/")).await;
    browser.press("Link a Threads account").await;
    browser.consent("long", "Allow").await;
    browser.assert_says("Your Threads account is linked.").await;
    browser.look("profile-long").await;
    browser.open(&dev.demo("/")).await;
    browser.look("start-long").await;
}

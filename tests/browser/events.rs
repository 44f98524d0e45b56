//! The page that grows while it is open.

use crate::chromium::driver;
use crate::dev::Dev;

#[tokio::test]
async fn events_are_shown_as_they_arrive_without_a_script() {
    let Some(driver) = driver().await else { return };
    let dev = Dev::start();
    // It does not wait for pages, because this one never ends.
    let browser = driver.impatient_browser().await;
    browser.open(&dev.demo("/")).await;
    browser.until_it_says("Watch events").await;
    browser.press("Link a Threads account").await;
    browser.until_it_says("asks for access").await;
    let back = dev.consent(&browser.url().await, "full").await;
    browser.open_tab(&dev.demo("/events")).await;
    browser.until_it_says("Events as they arrive").await;
    assert!(!browser.text().await.contains("LINKED"));
    assert_eq!(browser.value("document.readyState").await, "loading");

    browser.to_tab(0).await;
    browser.open(&back).await;
    browser.until_it_says("Your Threads account is linked.").await;
    browser.press("Rename").await;
    browser.until_it_says("Renamed at Threads").await;
    browser.press("Read it anew").await;
    browser.until_it_says("has just been read").await;

    browser.to_tab(1).await;
    browser.until_it_says("PROFILE_CHANGED").await;
    let text = browser.text().await;
    assert!(text.find("LINKED").unwrap() < text.find("PROFILE_CHANGED").unwrap(), "{text}");
    browser.look("events").await;
}

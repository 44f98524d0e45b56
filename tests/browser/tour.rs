//! The tour's other buttons.

use crate::chromium::driver;
use crate::dev::Dev;

#[tokio::test]
async fn threads_may_consent_and_then_give_no_permission() {
    let Some(driver) = driver().await else { return };
    let (_dev, browser) = Dev::visited(&driver).await;
    browser.press("Be no tester yet").await;
    browser.assert_heading("Threads gives no permission").await;
    browser.look("no-permission").await;
    browser.follow("Back to the tour").await;
    browser.press("Say no").await;
    browser.assert_heading("You said no").await;
    browser.assert_quiet().await;
}

#[tokio::test]
async fn sixty_days_pass_and_only_a_service_that_sleeps_loses_the_token() {
    let Some(driver) = driver().await else { return };
    let (dev, browser) = Dev::visited(&driver).await;
    browser.link("full").await;
    browser.open(&dev.demo("/")).await;
    browser.press("60 days pass").await;
    browser.assert_says("Time has passed.").await;
    browser.assert_says("TOKEN_REFRESHED").await;
    browser.assert_says("60 days ahead of this machine").await;
    browser.follow("Maya Lindqvist").await;
    browser.press("Use the token").await;
    browser.assert_says("Threads took the token").await;
    browser.look("refreshed").await;

    browser.open(&dev.demo("/")).await;
    browser.press("Sleep for 60 days").await;
    browser.assert_says("REAUTHORIZATION_REQUIRED").await;
    browser.look("start-expired").await;
    browser.follow("Maya Lindqvist").await;
    browser.assert_says("TOKEN_EXPIRED").await;
    browser.look("expired").await;
    browser.press("Allow it again").await;
    browser.consent("full", "Allow").await;
    browser.assert_says("ACTIVE").await;
    browser.press("Use the token").await;
    browser.assert_says("Threads took the token").await;
    dev.assert_no_violations().await;
}

#[tokio::test]
async fn an_app_that_was_removed_silently_is_found_out_by_using_the_token() {
    let Some(driver) = driver().await else { return };
    let (dev, browser) = Dev::visited(&driver).await;
    browser.link("full").await;
    let account = browser.url().await;
    browser.press("Remove the app silently").await;
    browser.assert_says("Nobody told us").await;
    // The first time the profile has just been read: Threads took the token then.
    for _ in 0..2 {
        browser.open(&account).await;
        browser.press("Use the token").await;
        browser.assert_says("Threads refused the token").await;
        browser.open(&dev.demo("/")).await;
        browser.press("20 minutes pass").await;
    }
    browser.assert_says("REAUTHORIZATION_REQUIRED").await;
    browser.open(&account).await;
    browser.assert_says("ACCESS_REVOKED").await;
}

#[tokio::test]
async fn whoever_is_forgotten_is_gone() {
    let Some(driver) = driver().await else { return };
    let (dev, browser) = Dev::visited(&driver).await;
    browser.link("full").await;
    let account = browser.url().await;
    browser.open(&dev.demo("/")).await;
    browser.press("Forget Ada").await;
    browser.assert_says("You are forgotten").await;
    browser.assert_says("ERASED").await;
    let text = browser.text().await;
    assert!(!text.contains("LINKED") && !text.contains("maya"), "{text}");
    browser.open(&account).await;
    browser.assert_heading("No such account").await;
}

#[tokio::test]
async fn an_app_that_was_removed_aloud_is_unlinked_at_once() {
    let Some(driver) = driver().await else { return };
    let (dev, browser) = Dev::visited(&driver).await;
    browser.link("full").await;
    browser.press("Remove the app").await;
    browser.assert_says("Threads told us at once").await;
    browser.assert_says("UNLINKED because DEAUTHORIZED").await;
    browser.look("deauthorized").await;
    browser.open(&dev.demo("/")).await;
    browser.assert_says("no Threads account linked yet").await;
    browser.assert_quiet().await;
    dev.assert_no_violations().await;
}

#[tokio::test]
async fn whoever_asks_threads_for_deletion_is_erased_and_can_see_it() {
    let Some(driver) = driver().await else { return };
    let (dev, browser) = Dev::visited(&driver).await;
    browser.link("full").await;
    let account = browser.url().await;
    browser.press("Ask for deletion").await;
    browser.assert_heading("You asked for your data to be deleted").await;
    browser.look("deletion").await;
    browser.follow("See how the deletion stands").await;
    let status = browser.url().await;
    assert!(status.starts_with(&format!("{}/threads/data-deletion/", dev.place("http"))), "{status}");
    browser.look("deletion-status").await;
    assert!(!browser.text().await.contains("maya"), "{}", browser.text().await);

    browser.open(&account).await;
    browser.assert_heading("No such account").await;
    browser.open(&dev.demo("/")).await;
    browser.assert_says("ERASED").await;
    // The same page for whoever guesses, whatever they guess.
    browser.open(&format!("{}/threads/data-deletion/GUESSEDGUESSED", dev.place("http"))).await;
    browser.look("deletion-unknown").await;
    dev.assert_no_violations().await;
}

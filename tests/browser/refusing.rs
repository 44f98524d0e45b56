//! What is refused, and what a person reads then.

use crate::chromium::driver;
use crate::dev::Dev;
use crate::page::LINK;

#[tokio::test]
async fn a_link_that_somebody_else_began_is_refused_and_no_token_is_asked_for() {
    let Some(driver) = driver().await else { return };
    let dev = Dev::start();
    let (attacker, victim) = (driver.browser().await.unwrap(), driver.browser().await.unwrap());
    victim.open(&dev.demo("/")).await;
    attacker.open(&dev.demo("/")).await;
    attacker.press(LINK).await;
    let trap = attacker.url().await;

    victim.open(&trap).await;
    victim.consent("full", "Allow").await;
    victim.assert_heading("Somebody else began this").await;
    victim.look("somebody-else").await;
    // Nor does the attacker get what the victim allowed.
    attacker.consent("full", "Allow").await;
    attacker.assert_heading("That attempt is over").await;

    // The same at one machine: the other user sits down before the answer comes.
    attacker.open(&dev.demo("/")).await;
    attacker.press(LINK).await;
    attacker.open_tab(&dev.demo("/")).await;
    attacker.press("Become Ben").await;
    attacker.assert_says("You are Ben").await;
    attacker.to_tab(0).await;
    attacker.consent("full", "Allow").await;
    attacker.assert_heading("Somebody else began this").await;
    attacker.open(&dev.demo("/")).await;
    attacker.press("Let Ada finish it").await;
    attacker.assert_heading("Somebody else began this").await;
    attacker.assert_says("You are Ada").await;

    assert_eq!(dev.received("code_exchange").await, 0, "Threads was never asked for a token");
    dev.assert_no_violations().await;
}

#[tokio::test]
async fn a_link_that_took_too_long_is_told_so() {
    let Some(driver) = driver().await else { return };
    let (dev, browser) = Dev::visited(&driver).await;
    browser.press(LINK).await;
    browser.open_tab(&dev.demo("/")).await;
    browser.press("20 minutes pass").await;
    browser.assert_says("Time has passed.").await;
    browser.to_tab(0).await;
    browser.consent("full", "Allow").await;
    browser.assert_heading("That took too long").await;
    let shown = browser.url().await;
    assert!(!shown.contains("code=") && !shown.contains("state="), "{shown}");
    browser.look("callback-expired").await;
    browser.open(&dev.demo("/")).await;
    browser.press("Take too long").await;
    browser.assert_heading("That took too long").await;
    assert_eq!(dev.received("code_exchange").await, 0);
    dev.assert_no_violations().await;
}

#[tokio::test]
async fn a_callback_that_is_replayed_tells_the_outcome_and_spends_nothing() {
    let Some(driver) = driver().await else { return };
    let (dev, browser) = Dev::visited(&driver).await;
    browser.press(LINK).await;
    let callback = dev.consent(&browser.url().await, "full").await;
    for _ in 0..3 {
        browser.open(&callback).await;
        browser.assert_heading("Maya Lindqvist").await;
    }
    assert_eq!(dev.received("code_exchange").await, 1);
    assert_eq!(dev.received("long_lived_exchange").await, 1);

    // In another's browser it is worth nothing.
    let other = driver.browser().await.unwrap();
    other.open(&callback).await;
    other.assert_heading("Somebody else began this").await;
    assert_eq!(dev.received("code_exchange").await, 1);
    dev.assert_no_violations().await;
}

#[tokio::test]
async fn what_makes_no_sense_ends_on_a_page_that_says_so() {
    let Some(driver) = driver().await else { return };
    let dev = Dev::start();
    let browser = driver.browser().await.unwrap();
    let callback = format!("{}/api/auth/callback/threads", dev.place("http"));
    for (url, heading, name) in [
        (format!("{callback}?code=AQ1"), "We do not know this link", "callback-unknown"),
        (format!("{callback}?code=AQ1&code=AQ2&state=x"), "This link is incomplete", "callback-incomplete"),
        (format!("{callback}?error=access_denied"), "Nothing was linked", "callback-denied"),
        (format!("{}/nowhere", dev.place("http")), "Nothing here", "http-nothing-here"),
        (dev.demo("/nowhere"), "Nothing here", "nothing-here"),
        (dev.demo("/link"), "Not in this way", "not-in-this-way"),
        (dev.demo("/linked"), "That request makes no sense", "no-sense"),
        (dev.demo("/linked?ticket=nonsense"), "We do not know this link", "ticket-unknown"),
        (dev.demo("/ended/SOMETHING_NEW"), "That did not work", "did-not-work"),
        (dev.demo("/ended/PROVIDER_UNAVAILABLE"), "Not just now", "not-just-now"),
        (dev.demo("/ended/ACCOUNT_LINKED_TO_ANOTHER_USER"), "That account is taken", "taken"),
        (dev.demo("/ended/REAUTHORIZATION_REQUIRED"), "Threads asks for your consent again", "again"),
        (dev.demo("/ended/ACCOUNT_MISMATCH"), "That was another account", "another-account"),
    ] {
        browser.open(&url).await;
        browser.assert_heading(heading).await;
        if name.starts_with("callback") {
            let shown = browser.url().await;
            assert!(
                !shown.contains('?') && !shown.contains("AQ1"),
                "the code stays in the address bar: {shown}"
            );
        }
        browser.look(name).await;
    }
}

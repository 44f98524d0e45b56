//! What a person does who links an account, and what a person does who does not
//! keep to the path.

use crate::chromium::driver;
use crate::dev::Dev;
use crate::page::LINK;

const CONSENT: &str = "An app asks for access";

#[tokio::test]
async fn a_person_links_an_account_and_sees_the_profile() {
    let Some(driver) = driver().await else { return };
    let (dev, browser) = Dev::visited(&driver).await;
    browser.look("start").await;
    browser.press(LINK).await;
    browser.assert_heading(CONSENT).await;
    browser.look("consent").await;
    browser.consent("full", "Allow").await;
    browser.assert_heading("Maya Lindqvist").await;
    browser.assert_says("Your Threads account is linked.").await;
    browser.assert_says("@maya.sim").await;
    browser.look("linked").await;
    // Nothing of what came back is left where a person copies an address from.
    let url = browser.url().await;
    for word in ["code", "state", "ticket", "_"] {
        assert!(!url.contains(word), "{url}");
    }
    assert_eq!(browser.value("document.referrer").await, "");

    browser.press("Read it anew").await;
    browser.assert_says("has just been read").await;
    browser.press("Use the token").await;
    browser.assert_says("Threads took the token").await;
    browser.press("Rename").await;
    browser.press("Read it anew").await;
    browser.assert_says("@full.renamed.1").await;
    browser.assert_says("PROFILE_CHANGED").await;
    browser.open(&dev.demo("/")).await;
    browser.look("start-linked").await;
    browser.follow("Maya Lindqvist").await;
    browser.press("Unlink").await;
    browser.assert_says("UNLINKED_BY_CALLER").await;
    browser.look("unlinked").await;
    browser.assert_quiet().await;
    dev.assert_no_violations().await;
}

#[tokio::test]
async fn a_person_says_no() {
    let Some(driver) = driver().await else { return };
    let (dev, browser) = Dev::visited(&driver).await;
    browser.press(LINK).await;
    browser.consent("full", "Deny").await;
    browser.assert_heading("You said no").await;
    browser.look("denied").await;
    browser.follow("Back to the tour").await;
    browser.assert_says("no Threads account linked yet").await;
    assert_eq!(dev.received("code_exchange").await, 0);
    browser.assert_quiet().await;
}

#[tokio::test]
async fn a_person_signs_in_with_threads() {
    let Some(driver) = driver().await else { return };
    let (dev, browser) = Dev::visited(&driver).await;
    browser.press("Sign in with Threads").await;
    browser.consent("full", "Allow").await;
    browser.assert_heading("Maya Lindqvist").await;
    browser.assert_says("you are a new user").await;
    browser.assert_says("You are somebody who signed in with Threads").await;
    browser.look("signed-in").await;
    let account = browser.url().await;

    // On another machine it is the same user, who sees the same account.
    let other = driver.browser().await.unwrap();
    other.open(&account).await;
    other.assert_heading("No such account").await;
    other.look("no-such-account").await;
    other.open(&dev.demo("/")).await;
    other.press("Sign in with Threads").await;
    other.consent("full", "Allow").await;
    other.assert_says("the user to whom this Threads account is linked").await;
    assert_eq!(other.url().await.split('?').next(), account.split('?').next());
    dev.assert_no_violations().await;
}

#[tokio::test]
async fn two_tabs_and_the_back_button_do_no_harm() {
    let Some(driver) = driver().await else { return };
    let (dev, browser) = Dev::visited(&driver).await;
    browser.press(LINK).await;
    browser.open_tab(&dev.demo("/")).await;
    browser.press(LINK).await;
    browser.consent("home", "Allow").await;
    browser.assert_heading("Sam").await;
    browser.to_tab(0).await;
    browser.consent("work", "Allow").await;
    browser.assert_heading("Sam (work)").await;
    assert_eq!(dev.received("code_exchange").await, 2);

    // The page before is Threads' again, and what was allowed there is used up.
    browser.back().await;
    browser.assert_heading(CONSENT).await;
    browser.consent("work", "Allow").await;
    browser.assert_heading("That attempt is over").await;
    browser.look("over").await;
    assert_eq!(dev.received("code_exchange").await, 2, "the second code was never spent");
    browser.back().await;
    browser.forward().await;
    browser.assert_heading("That attempt is over").await;
    browser.open(&dev.demo("/")).await;
    browser.assert_says("Sam (work)").await;
    dev.assert_no_violations().await;
}

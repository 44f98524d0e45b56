//! The apps, as far as their configuration tells.

use url::Url;

use super::Report;
use crate::config::{AppConfig, Config, meant_app};

/// Where the hosted callback is, behind the public URL.
const CALLBACK: &str = "/api/auth/callback/threads";

/// Looks at every app.
pub(super) fn examine(report: &mut Report, config: &Config) {
    for (i, app) in config.apps.iter().enumerate() {
        examine_id(report, &format!("apps.{i}.client_id"), app);
        examine_redirects(report, config, i, app);
        examine_return(report, config, i, app);
    }
}

fn examine_id(report: &mut Report, subject: &str, app: &AppConfig) {
    // No id that Meta has given in the last decade is shorter than fifteen digits.
    if app.client_id.len() < 15 {
        report.warning(
            subject,
            format!("{} is short for a Threads app id", app.client_id),
            "Compare it with Meta's App Dashboard: Use cases, Access the Threads API, Settings, Threads App ID. \
             The App ID at the top of the dashboard is another one, which Threads refuses.",
        );
    } else {
        report.ok(subject, format!("{} has the form of a Threads app id", app.client_id));
    }
}

fn examine_redirects(report: &mut Report, config: &Config, i: usize, app: &AppConfig) {
    for (n, uri) in app.redirect_uris.iter().enumerate() {
        let subject = format!("apps.{i}.redirect_uris.{n}");
        let Ok(url) = Url::parse(uri) else { continue };
        let twin = uri.strip_suffix('/').map_or_else(|| format!("{uri}/"), str::to_owned);
        if url.scheme() == "http" {
            report.warning(
                &subject,
                format!("{uri} is http: Threads takes https alone, and the simulator takes this"),
                "Register an https address with Meta; for a machine of your own, one that a tunnel gives.",
            );
        } else if app.redirect_uris.contains(&twin) && twin.ends_with('/') {
            report.warning(
                &subject,
                format!("{uri} stands here with and without a slash at the end, and only one is registered"),
                "Meta's dashboard adds a slash to an address without a path and compares byte for byte: keep \
                 the one that it shows.",
            );
        } else if uri.ends_with('/') && url.path() != "/" && is_hosted(config, app, &url) {
            report.warning(
                &subject,
                format!("{uri} ends in a slash"),
                "Threads compares byte for byte: make sure that Meta's dashboard shows the slash, too.",
            );
        } else if url.path() == "/" && !uri.ends_with('/') {
            report.warning(
                &subject,
                format!("{uri} has no path: Meta's dashboard adds a slash to it, and then they differ"),
                format!("Write {uri}/ if the dashboard shows it so."),
            );
        } else if n == 0 && is_own_host(config, &url) && !is_hosted(config, app, &url) {
            report.warning(
                &subject,
                format!("{uri} is at server.public_url, but not where the hosted callback answers"),
                format!("Register {}{CALLBACK}, or let a page of yours answer there.", shown_url(config)),
            );
        } else {
            report.ok(&subject, format!("{uri} as registered with Meta, byte for byte"));
        }
    }
}

/// Where browsers go on to, if they come back to the hosted callback.
fn examine_return(report: &mut Report, config: &Config, i: usize, app: &AppConfig) {
    let subject = format!("apps.{i}.return_to");
    let urls = app.redirect_uris.iter().filter_map(|uri| Url::parse(uri).ok());
    let hosted = urls.into_iter().any(|url| is_hosted(config, app, &url));
    match (app.return_to.is_empty(), hosted) {
        (true, true) => report.problem(
            &subject,
            "is not set: whoever comes back from Threads to the hosted callback ends there, and nothing is linked",
            "Set it to the address of your page that takes the ticket, such as [\"https://app.example.com/linked\"].",
        ),
        (true, false) => {
            report.ok(&subject, "is not set, and not needed: no redirect URI is the hosted callback");
        }
        (false, false) => report.warning(
            &subject,
            "is set, but no redirect URI is the hosted callback",
            format!(
                "Register {}{CALLBACK} and put it into redirect_uris; if your own pages take the callback, \
                 leave return_to out.",
                shown_url(config)
            ),
        ),
        (false, true) => {
            let plain = app.return_to.iter().filter(|url| url.scheme() == "http").count();
            report.ok(&subject, format!("{} addresses, {plain} of them http", app.return_to.len()));
        }
    }
}

/// Whether an address is that of the hosted callback, for this app.
fn is_hosted(config: &Config, app: &AppConfig, url: &Url) -> bool {
    let base = config.server.public_url.as_ref().map_or("", |url| url.path().trim_end_matches('/'));
    let Some(path) = url.path().strip_prefix(base) else { return false };
    let path = path.trim_end_matches('/');
    let named = path.strip_prefix(CALLBACK).and_then(|rest| rest.strip_prefix('/'));
    let meant = meant_app(None, config.apps.iter().map(|app| app.id.as_str()));
    ((path == CALLBACK && app.id == meant) || named == Some(app.id.as_str()))
        && (config.server.public_url.is_none() || is_own_host(config, url))
}

fn is_own_host(config: &Config, url: &Url) -> bool {
    config.server.public_url.as_ref().is_some_and(|own| own.origin() == url.origin())
}

/// The public URL, for a sentence.
fn shown_url(config: &Config) -> String {
    let url = config.server.public_url.as_ref().map(|url| url.as_str().trim_end_matches('/').to_owned());
    url.unwrap_or_else(|| "server.public_url with ".to_owned())
}

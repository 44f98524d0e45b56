//! The configuration's file, as far as it says who may call.

use crate::config::Config;
use crate::grpc::Callers;
use crate::metrics::ReloadLabels;
use crate::service::Service;

use super::Text;

/// Puts to use the callers and issuers that the file names; false, and everything as
/// before, if anything at all is wrong with it.
pub(super) fn take(running: &Config, service: &Service, callers: &Callers, text: &Text) -> bool {
    let file = running.origin.file().map(|file| file.display().to_string()).unwrap_or_default();
    let read = match text {
        Ok(text) => running.origin.read_again(text).map_err(|error| error.problems),
        Err(error) => Err(vec![format!("cannot be read: {error}")]),
    };
    match read.and_then(|config| callers.replace(&config).map(|differs| (config, differs))) {
        Ok((config, differs)) => {
            if differs {
                let names: Vec<&str> = config.callers.iter().map(|caller| caller.name.as_str()).collect();
                let issuers: Vec<&str> = config.issuers.iter().map(|issuer| issuer.issuer.as_str()).collect();
                tracing::info!(%file, callers = ?names, ?issuers, "took callers and issuers anew");
                service.metrics.caller_reloads.get_or_create(&ReloadLabels { result: "taken" }).inc();
            }
            let waiting = running.origin.needs_restart(&config.origin);
            if !waiting.is_empty() {
                tracing::warn!(%file, sections = ?waiting, "these sections have changed, which needs a restart");
            }
            true
        }
        Err(problems) => {
            let problems = problems.join("; ");
            tracing::error!(%file, "the configuration cannot be used, the callers stay as they are: {problems}");
            false
        }
    }
}

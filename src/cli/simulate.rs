//! `simulate`.

use super::serve::asked_to_stop;
use super::{CommandResult, SimulateArgs, print};
use crate::simulator::{Options, Simulator};

/// Runs the simulator until it is asked to stop.
pub(super) async fn run(args: SimulateArgs) -> CommandResult {
    if let Some(wrong) = args.redirect_uris.iter().find(|uri| url::Url::parse(uri).is_err()) {
        return Err(format!("--redirect-uri: {wrong:?} must be an absolute URL").into());
    }
    let options = Options {
        listen: args.listen,
        client_id: args.client_id,
        client_secret: args.client_secret,
        redirect_uris: args.redirect_uris,
        deauthorize_url: args.deauthorize_url,
        data_deletion_url: args.data_deletion_url,
        strict: !args.lenient,
        ..Options::default()
    };
    let simulator = Simulator::start(options).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidInput => error.to_string(),
        _ => format!("{}: {error}", args.listen),
    })?;
    let base = simulator.base_url();
    print(format_args!("The Threads simulator: {base}"));
    print(format_args!("  authorize_url = \"{base}/oauth/authorize\""));
    print(format_args!("  graph_url = \"{base}\""));
    print(format_args!("  what can be controlled: {base}/_simulator/"));
    asked_to_stop().await;
    simulator.stop().await;
    Ok(())
}

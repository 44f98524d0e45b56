//! What `dev` prints: where everything is, and calls to paste.

use super::{PASTED_PATH, Places};

/// The guide for a person. Each of its ways takes another of the simulator's people,
/// or asks for another: whom one user has linked, no other user can.
pub(super) fn text(places: &Places) -> String {
    let Places { grpc, http, ops, simulator, demo, caller_key, database_url, data_dir } = places;
    let data_dir = data_dir.display();
    let python = python(places);
    format!(
        r#"
  threads-identity is running.

    Click here, and take the tour:   {demo}

    gRPC service       {grpc}
    hosted callback    {http}/api/auth/callback/threads
    Threads simulator  {simulator}  (controls: {simulator}/_simulator/)
    health, metrics    http://{ops}/readyz  http://{ops}/metrics
    Postgres           {database_url}
    data               {data_dir}

  The same from a terminal, with this program (`link` prints a URL, and takes the
  address at which your browser ends; be somebody there who is not linked yet):

    export THREADS_IDENTITY_SERVER=http://{grpc} THREADS_IDENTITY_CALLER_KEY={caller_key}
    cargo run -- link user-3 --redirect-uri {http}{PASTED_PATH}
    cargo run -- profile user-3
    cargo run -- watch    # every change as it happens; link again in another terminal, and see

  With grpcurl and curl:

    KEY={caller_key}
    call() {{ grpcurl -plaintext -H "authorization: Bearer $KEY" -d "$2" {grpc} "threads.identity.v1.$1"; }}

    call AuthorizationService/CreateAuthorizationUrl '{{"link": {{"user_id": "user-1"}}}}'
    # In place of a browser, let one of the simulator's people click:
    curl -s {simulator}/_simulator/consent -H 'content-type: application/json' \
      -d '{{"authorization_url": "PASTE authorizationUrl", "persona": "home", "decision": "allow"}}'
    call AuthorizationService/CompleteAuthorization '{{"callback_url": "PASTE callback_url", "user_id": "user-1"}}'
    call ProfileService/ListProfiles '{{"user_id": "user-1"}}'

  And in Python (pip install grpcio grpcio-reflection protobuf):

{python}
  Ctrl-C stops everything. The data is kept for the next start, and so is the time
  that you let pass; the simulator forgets its tokens, so link again to use them."#
    )
}

/// The whole round in Python, without generated code.
fn python(places: &Places) -> String {
    let script = include_str!("guide.py")
        .replace("GRPC_ADDRESS", &places.grpc.to_string())
        .replace("SIMULATOR_URL", &places.simulator)
        .replace("CALLER_KEY", &places.caller_key);
    script
        .lines()
        .map(|line| if line.is_empty() { "\n".to_owned() } else { format!("    {line}\n") })
        .collect()
}

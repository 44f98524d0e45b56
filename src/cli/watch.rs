//! `watch`: the changes of accounts, in a terminal or for a script.

use std::io;
use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value, json};
use tokio::time::sleep;
use tonic::{Code, Status};

use super::advice::{explain, failure, reason};
use super::client::{Client, ClientArgs};
use super::serve::asked_to_stop;
use super::{CommandResult, Variables, print_note, shown, terminal};
use crate::error::Reason;
use crate::proto::v1::{WatchAccountsRequest, WatchAccountsResponse};

/// How long to wait before the next try: at first, and at most.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Arguments of `watch`.
#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    /// Only the changes of this user's accounts. Otherwise those of the whole app, for
    /// which the caller needs the role `sync`.
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Go on from here; otherwise from now on.
    #[arg(long)]
    cursor: Option<String>,
    /// Print one JSON object a line, each with its cursor.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// Watches until it is asked to stop.
pub(super) async fn run(args: WatchArgs, variables: &Variables) -> CommandResult {
    let stopped = asked_to_stop();
    let client = Client::new(&args.client, variables)?;
    let mut watcher = Watcher { client, user: args.user, cursor: args.cursor, json: args.json, heard: false };
    let ended = tokio::select! {
        () = stopped => Ok(()),
        ended = watcher.follow() => ended,
    };
    if let Some(cursor) = &watcher.cursor {
        print_note(format_args!("Go on from here with --cursor {}", terminal::plain(cursor)));
    }
    ended
}

struct Watcher {
    client: Client,
    user: Option<String>,
    /// Of the last message that was printed.
    cursor: Option<String>,
    json: bool,
    /// Whether the server has ever answered.
    heard: bool,
}

/// How one stream ended.
enum End {
    /// Nobody reads what is printed.
    Unread,
    /// Nothing can be printed.
    Unprintable(io::Error),
    /// With this.
    Status(Status),
}

impl Watcher {
    /// Watches, and again wherever that may help.
    async fn follow(&mut self) -> CommandResult {
        let mut pause = PAUSE_MIN;
        loop {
            let before = self.cursor.clone();
            let status = match self.watch().await {
                Ok(()) => Status::unavailable("the stream has ended"),
                Err(End::Unread) => return Ok(()),
                Err(End::Unprintable(error)) => return Err(error.into()),
                Err(End::Status(status)) => status,
            };
            if !self.passes(&status) {
                return Err(failure(&status));
            }
            if self.cursor != before {
                pause = PAUSE_MIN;
            }
            print_note(format_args!("{} Trying again.", explain(&status)));
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// One stream, to its end.
    async fn watch(&mut self) -> Result<(), End> {
        let message = WatchAccountsRequest { user_id: self.user.clone(), cursor: self.cursor.clone() };
        let request = self.client.endless(message);
        let opened = self.client.accounts().watch_accounts(request).await.map_err(End::Status)?;
        let mut stream = opened.into_inner();
        while let Some(message) = stream.message().await.map_err(End::Status)? {
            self.heard = true;
            let line = if self.json {
                Some(json_line(&message))
            } else {
                message.change.as_ref().map(shown::change)
            };
            match line.map(terminal::put) {
                None | Some(Ok(true)) => {}
                Some(Ok(false)) => return Err(End::Unread),
                Some(Err(error)) => return Err(End::Unprintable(error)),
            }
            self.cursor = Some(message.cursor);
        }
        Ok(())
    }

    /// Whether watching again from the last cursor may help.
    fn passes(&self, status: &Status) -> bool {
        match reason(status) {
            Some(Reason::WatchLagged) => true,
            Some(_) => status.code() == Code::Unavailable,
            // The connection's own end.
            None => {
                let is_broken = matches!(status.code(), Code::Unknown | Code::Internal | Code::Cancelled);
                status.code() == Code::Unavailable || self.heard && is_broken
            }
        }
    }
}

fn json_line(message: &WatchAccountsResponse) -> String {
    let mut line = Map::from_iter([("cursor".to_owned(), json!(message.cursor))]);
    if let Some(change) = &message.change {
        line.insert("change".to_owned(), shown::json_change(change));
    }
    terminal::json(&Value::Object(line))
}

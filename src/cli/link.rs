//! `link`: links a Threads account to a user, with a browser that somebody carries
//! the address over from.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use tonic::Status;
use zeroize::Zeroizing;

use super::advice::{explain, failure, is_unreached, wait};
use super::client::{Client, ClientArgs};
use super::{CommandResult, Variables, print_note, shown, terminal};
use crate::proto::v1::complete_authorization_request::Answer;
use crate::proto::v1::create_authorization_url_request::{Flow, Link};
use crate::proto::v1::{
    AuthorizationOutcome, CompleteAuthorizationRequest, CompleteAuthorizationResponse,
    CreateAuthorizationUrlRequest, CreateAuthorizationUrlResponse, OnConflict,
};
use crate::secret;
use pasted::Pasted;

mod pasted;

/// How often a terminal is asked again for something that can be used.
const TRIES: usize = 5;
/// How long a completion is repeated that may work in a moment.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long to wait before it is, when nobody says.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest line that is read: the longest answer is 8 KiB.
const LINE_MAX: u64 = 16 * 1024;
/// A terminal hands over no longer line than this, and says nothing of the rest.
const TERMINAL_LINE_MAX: usize = 4095;

/// Arguments of `link`.
#[derive(Debug, Args)]
pub(super) struct LinkArgs {
    /// The user to link to, as the backend names it.
    user: String,
    /// Ask for renewed consent for this account of the user, and accept no other. Name
    /// with --scope again what the account has and the app does not ask for by itself.
    #[arg(long, value_name = "ACCOUNT_ID", conflicts_with = "transfer")]
    account: Option<String>,
    /// Take the account over if it is another user's. The caller needs the role
    /// `transfer`.
    #[arg(long)]
    transfer: bool,
    /// A permission to ask for; may be repeated, or hold several with commas between
    /// them. Otherwise the app's.
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',')]
    scopes: Vec<String>,
    /// Where Threads sends the browser: one of the app's redirect URIs. Otherwise the
    /// app's first.
    #[arg(long, value_name = "URI")]
    redirect_uri: Option<String>,
    /// Where the hosted callback sends the browser on to: one of the app's. Otherwise
    /// the app's first.
    #[arg(long, value_name = "URL")]
    return_to: Option<String>,
    /// Print JSON: first an object with the URL to open, then one with what was linked.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// Makes a URL, waits for what the browser brings, and completes the link.
pub(super) async fn run(args: LinkArgs, variables: &Variables) -> CommandResult {
    let client = Client::new(&args.client, variables)?;
    // Whoever has the URL cannot have it completed by anybody but this process.
    let binding = secret::random::<32>().to_vec();
    let created = create(&client, &args, &binding).await.map_err(|status| failure(&status))?;
    if args.json {
        let line = json!({
            "authorization_id": created.authorization_id,
            "authorization_url": created.authorization_url,
            "expire_time": created.expire_time.and_then(shown::rfc3339),
        });
        terminal::put(terminal::json(&line))?;
        io::stdout().flush()?;
    } else {
        tell(&created, &args.user);
    }
    let answer = match read_answer()? {
        Pasted::Address(url) => Answer::CallbackUrl(url),
        Pasted::Ticket(ticket) => Answer::Ticket(ticket),
    };
    let request = CompleteAuthorizationRequest {
        answer: Some(answer),
        user_id: Some(args.user.clone()),
        session_binding: Some(binding),
    };
    let completed = complete(&client, &request).await.map_err(|status| failure(&status))?;
    show(&completed, args.json)
}

async fn create(
    client: &Client,
    args: &LinkArgs,
    binding: &[u8],
) -> Result<CreateAuthorizationUrlResponse, Status> {
    let on_conflict = if args.transfer { OnConflict::Transfer } else { OnConflict::Reject };
    let link = Link {
        user_id: args.user.clone(),
        session_binding: Some(binding.to_vec()),
        account_id: args.account.clone(),
        on_conflict: on_conflict.into(),
    };
    let request = CreateAuthorizationUrlRequest {
        flow: Some(Flow::Link(link)),
        redirect_uri: args.redirect_uri.clone(),
        scopes: args.scopes.clone(),
        return_to: args.return_to.clone(),
    };
    let created = client.authorizations().create_authorization_url(client.request(request)).await?;
    Ok(created.into_inner())
}

fn tell(created: &CreateAuthorizationUrlResponse, user: &str) {
    print_note(format_args!(
        "Open this in a browser in which the Threads account for {} is logged in:\n\n  {}\n\nIt is good until \
         {}, for one consent. The browser ends at an address with a `code`, an `error` or a `ticket` in it; \
         whether a page is there does not matter.",
        terminal::plain(user),
        terminal::plain(&created.authorization_url),
        shown::minute(created.expire_time),
    ));
}

/// What was pasted, or stands in the standard input. It is never an argument: those are
/// seen by everybody, and kept by shells.
fn read_answer() -> Result<Pasted, Box<dyn std::error::Error + Send + Sync>> {
    let is_terminal = io::stdin().is_terminal();
    for _ in 0..TRIES {
        if is_terminal {
            let mut err = io::stderr();
            write!(err, "\nPaste that address: ")?;
            err.flush()?;
        }
        let mut line = Zeroizing::new(String::new());
        let read = io::stdin().lock().take(LINE_MAX).read_line(&mut line);
        let bytes = read.map_err(|error| format!("what was pasted cannot be read: {error}"))?;
        if bytes == 0 {
            return Err("nothing was pasted, so nothing was linked. Run the command again, and paste the \
                        address at which the browser ends, or write it as a line to its standard input"
                .into());
        }
        let wrong = if is_terminal && bytes >= TERMINAL_LINE_MAX {
            "It is longer than a terminal takes in one line. Run the command from a script, which writes the address \
             to its standard input."
        } else {
            match pasted::read(&line) {
                Ok(pasted) => return Ok(pasted),
                Err(wrong) => wrong,
            }
        };
        if !is_terminal {
            return Err(wrong.into());
        }
        print_note(wrong);
    }
    Err("nothing that was pasted can be used, so nothing was linked. Run the command again".into())
}

/// Completes, and again wherever that may help: the same completion goes on from where
/// it stopped.
async fn complete(
    client: &Client,
    request: &CompleteAuthorizationRequest,
) -> Result<CompleteAuthorizationResponse, Status> {
    let until = Instant::now() + PATIENCE;
    loop {
        let call = client.request(request.clone());
        let status = match client.authorizations().complete_authorization(call).await {
            Ok(completed) => return Ok(completed.into_inner()),
            Err(status) => status,
        };
        let again = wait(&status).or_else(|| is_unreached(&status).then_some(PAUSE));
        match again {
            Some(pause) if Instant::now() + pause < until => {
                print_note(format_args!("{} Trying again.", explain(&status)));
                tokio::time::sleep(pause).await;
            }
            _ => return Err(status),
        }
    }
}

fn show(completed: &CompleteAuthorizationResponse, as_json: bool) -> CommandResult {
    let account = completed.account.clone().unwrap_or_default();
    let outcome = completed.outcome();
    if as_json {
        let mut line = json!({
            "authorization_id": completed.authorization_id,
            "outcome": outcome.as_str_name().trim_start_matches("AUTHORIZATION_OUTCOME_"),
            "account": shown::json_account(&account),
        });
        if let Some(profile) = &completed.profile {
            line["profile"] = shown::json_profile(profile);
        }
        terminal::put(terminal::json(&line))?;
        return Ok(());
    }
    let person = completed.profile.as_ref().map_or_else(|| "The account".to_owned(), shown::person);
    let user = terminal::plain(&account.user_id);
    let done = match outcome {
        AuthorizationOutcome::Relinked => format!("{person} is linked to {user} again."),
        AuthorizationOutcome::Reauthorized => format!("{person} has consented again, for {user}."),
        AuthorizationOutcome::Transferred => format!("{person} is linked to {user} now, and to nobody else."),
        _ => format!("{person} is linked to {user}."),
    };
    terminal::put(format_args!("{done}\n\n{}", shown::accounts(&[account])))?;
    Ok(())
}

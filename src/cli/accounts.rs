//! `accounts`: what a user has linked.

use clap::Args;

use super::advice::failure;
use super::client::{Client, ClientArgs};
use super::{CommandResult, Variables, print_note, shown, terminal};
use crate::proto::v1::account::State;
use crate::proto::v1::{Account, ListAccountsRequest};

/// More than any user has.
const ACCOUNTS_MAX: usize = 100_000;

/// Arguments of `accounts`.
#[derive(Debug, Args)]
pub(super) struct AccountsArgs {
    /// The user, as the backend names it.
    user: String,
    /// Also accounts that have been unlinked and are not erased yet.
    #[arg(long)]
    all: bool,
    /// Print one JSON object a line, with the field names of the API.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// Lists the accounts of a user.
pub(super) async fn run(args: AccountsArgs, variables: &Variables) -> CommandResult {
    let client = Client::new(&args.client, variables)?;
    let accounts = list(&client, &args.user, args.all).await.map_err(|status| failure(&status))?;
    if args.json {
        for account in &accounts {
            if !terminal::put(terminal::json(&shown::json_account(account)))? {
                break;
            }
        }
    } else if accounts.is_empty() {
        print_note(format_args!(
            "{} has no account here. `threads-identity link` links one; --all shows what was unlinked.",
            terminal::plain(&args.user)
        ));
    } else {
        terminal::put(shown::accounts(&accounts))?;
    }
    Ok(())
}

/// Every page of a user's accounts.
async fn list(client: &Client, user: &str, all: bool) -> Result<Vec<Account>, tonic::Status> {
    let states = [State::Active, State::ReauthorizationRequired, State::Unlinked].map(i32::from);
    let mut request = ListAccountsRequest {
        user_id: Some(user.to_owned()),
        states: if all { states.to_vec() } else { Vec::new() },
        page_size: 200,
        ..ListAccountsRequest::default()
    };
    let mut accounts = Vec::new();
    loop {
        let page = client.accounts().list_accounts(client.request(request.clone())).await?.into_inner();
        accounts.extend(page.accounts);
        if page.next_page_token.is_empty() {
            return Ok(accounts);
        }
        if page.next_page_token == request.page_token || accounts.len() > ACCOUNTS_MAX {
            return Err(tonic::Status::internal("the list has no end: this is not how the service answers"));
        }
        request.page_token = page.next_page_token;
    }
}

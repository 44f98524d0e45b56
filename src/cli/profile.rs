//! `profile`: who a user is at Threads.

use clap::Args;
use tonic::Status;

use super::advice::failure;
use super::client::{Client, ClientArgs};
use super::{CommandResult, Variables, print_note, shown, terminal};
use crate::proto::v1::get_profile_request::Account as AccountField;
use crate::proto::v1::{AccountProfile, GetProfileRequest, ListProfilesRequest};

/// Arguments of `profile`.
#[derive(Debug, Args)]
pub(super) struct ProfileArgs {
    /// The user, as the backend names it.
    user: String,
    /// Only the profile of this account.
    #[arg(long, value_name = "ACCOUNT_ID")]
    account: Option<String>,
    /// Read it from Threads again first.
    #[arg(long)]
    fresh: bool,
    /// Print one JSON object a line, with the field names of the API.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// Shows the profiles of a user's accounts.
pub(super) async fn run(args: ProfileArgs, variables: &Variables) -> CommandResult {
    let client = Client::new(&args.client, variables)?;
    let mut profiles = match &args.account {
        Some(account_id) => {
            vec![get(&client, &args.user, account_id, args.fresh).await.map_err(|status| failure(&status))?]
        }
        None => list(&client, &args.user).await.map_err(|status| failure(&status))?,
    };
    if args.fresh && args.account.is_none() {
        for profile in &mut profiles {
            let read = get(&client, &args.user, &profile.account_id, true).await;
            *profile = read.map_err(|status| failure(&status))?;
        }
    }
    if profiles.is_empty() && !args.json {
        print_note(format_args!(
            "{} has no profile here. `threads-identity link` links a Threads account.",
            terminal::plain(&args.user)
        ));
    }
    for (i, profile) in profiles.iter().enumerate() {
        let is_read = if args.json {
            terminal::put(terminal::json(&shown::json_account_profile(profile)))?
        } else {
            let space = if i == 0 { "" } else { "\n" };
            terminal::put(format_args!("{space}{}", shown::profile(profile)))?
        };
        if !is_read {
            break;
        }
    }
    Ok(())
}

/// The profile of one account, from Threads itself if it must be fresh.
async fn get(client: &Client, user: &str, account_id: &str, fresh: bool) -> Result<AccountProfile, Status> {
    let request = GetProfileRequest {
        account: Some(AccountField::AccountId(account_id.to_owned())),
        user_id: Some(user.to_owned()),
        max_age: fresh.then(prost_types::Duration::default),
    };
    let read = client.profiles().get_profile(client.request(request)).await?.into_inner();
    read.profile.ok_or_else(|| Status::unknown("the answer holds no profile"))
}

/// Every page of a user's profiles.
async fn list(client: &Client, user: &str) -> Result<Vec<AccountProfile>, Status> {
    let mut request =
        ListProfilesRequest { user_id: user.to_owned(), page_size: 200, ..ListProfilesRequest::default() };
    let mut profiles = Vec::new();
    loop {
        let page = client.profiles().list_profiles(client.request(request.clone())).await?.into_inner();
        profiles.extend(page.profiles);
        if page.next_page_token.is_empty() {
            return Ok(profiles);
        }
        request.page_token = page.next_page_token;
    }
}

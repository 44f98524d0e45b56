//! From one version to the next, with both running.

use std::path::PathBuf;
use std::process::Command;

use threads_identity::proto::v1::profile_service_client::ProfileServiceClient;
use threads_identity::proto::v1::{GetProfileRequest, get_profile_request};
use threads_identity::simulator::Decision;

use crate::run::{clean, command, command_of, empty_database, end};
use crate::serve::{Service, Setting};

impl Setting {
    /// `serve`, by another binary.
    fn serve_by(&self, binary: &PathBuf) -> Command {
        let ours = self.serve();
        let mut theirs = Command::new(binary);
        theirs.args(ours.get_args());
        clean(&mut theirs);
        theirs.envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
        theirs
    }
}

impl Service {
    async fn link(&self, setting: &Setting, user_id: &str, person: &str) -> String {
        self.finish(self, setting, user_id, person).await
    }

    /// A URL made by one version, and finished by the other.
    async fn finish(&self, beginner: &Self, setting: &Setting, user_id: &str, person: &str) -> String {
        let created = beginner.create(user_id).await;
        let controls = setting.simulator.controls();
        let callback = controls.consent(&created.authorization_url, person, Decision::Allow).unwrap();
        self.complete(&callback, user_id).await.account.unwrap().account_id
    }

    async fn reads(&self, account_id: &str) {
        let id = get_profile_request::Account::AccountId(account_id.to_owned());
        let request = GetProfileRequest { account: Some(id), ..GetProfileRequest::default() };
        let mut client = ProfileServiceClient::new(self.channel.clone());
        let profile = client.get_profile(self.request(request)).await.unwrap().into_inner();
        assert_eq!(profile.profile.unwrap().account_id, account_id);
    }
}

/// F37: `THREADS_IDENTITY_PREVIOUS_BINARY=… just upgrade`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the binary of the version before, named by THREADS_IDENTITY_PREVIOUS_BINARY"]
async fn two_versions_serve_one_database() {
    let previous = PathBuf::from(std::env::var_os("THREADS_IDENTITY_PREVIOUS_BINARY").unwrap());
    let database = empty_database().await;
    let setting = Setting::new("upgrade", database.url()).await;

    let mut migrate = command_of(&previous, ["migrate"]);
    migrate.env("DATABASE_URL", database.url());
    end(migrate).good();
    let old = Service::start(setting.serve_by(&previous), &setting.key).await;
    let first = old.link(&setting, "user-1", "full").await;

    // The schema goes first, under the old version's feet.
    let mut migrate = command(["migrate"]);
    migrate.env("DATABASE_URL", database.url());
    end(migrate).good();
    old.reads(&first).await;
    let new = Service::start(setting.serve(), &setting.key).await;
    new.reads(&first).await;
    let second = new.finish(&old, &setting, "user-2", "bare").await;
    let third = old.finish(&new, &setting, "user-3", "work").await;
    for account_id in [&first, &second, &third] {
        old.reads(account_id).await;
        new.reads(account_id).await;
    }

    // And back.
    drop(new);
    drop(old);
    let old = Service::start(setting.serve_by(&previous), &setting.key).await;
    old.reads(&third).await;
    old.link(&setting, "user-1", "full").await;
    assert!(setting.simulator.controls().violations().is_empty());
}

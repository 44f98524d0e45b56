//! Calls that wait at the same moment, through the whole service.

use futures_util::future::join_all;
use threads_identity::proto::v1::account_service_client::AccountServiceClient;
use threads_identity::proto::v1::profile_service_client::ProfileServiceClient;
use threads_identity::simulator::Persona;
use tonic::Code;

use crate::harness::{World, completion, failed, with_key};
use crate::shorthand::{account, profile, token, until};

impl World {
    /// Statements and rows of a kind of batch so far.
    async fn shared(&self, batch: &str) -> (f64, f64) {
        let metric = async |name: &str| {
            self.metric(&format!("threads_identity_{name}_total{{batch=\"{batch}\"}}")).await
        };
        (metric("batches").await, metric("batch_rows").await)
    }

    /// Ends every database connection of the service.
    async fn break_connections(&self) {
        self.meddle(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where datname = current_database() and application_name = 'threads-identity'",
        )
        .await;
    }
}

#[tokio::test]
async fn many_readers_share_statements_and_each_gets_its_own_row() {
    let world = World::start().await;
    let ids = world.fill("default", "many", 256).await;
    let mut channels = Vec::new();
    for _ in 0..8 {
        channels.push(with_key(world.connect().await, world.key("web")));
    }
    let reads = ids.iter().enumerate().map(|(n, id)| {
        let mut client = ProfileServiceClient::new(channels[n % 8].clone());
        async move {
            let read =
                client.get_profile(profile(id, Some("many"))).await.unwrap().into_inner().profile.unwrap();
            assert_eq!(read.account_id, *id);
        }
    });
    join_all(reads).await;
    let (batches, rows) = world.shared("read_accounts").await;
    assert!((255.5..256.5).contains(&rows) && batches <= 128.0, "{batches} statements for {rows} reads");
}

#[tokio::test]
async fn readers_of_one_row_all_get_it() {
    let world = World::start().await;
    let ids = world.fill("default", "many", 2).await;
    let reads = (0..100).map(|n| {
        let mut client = world.accounts("web");
        let id = ids[n % 2].clone();
        async move {
            let read = client.get_account(account(&id, None)).await.unwrap().into_inner().account.unwrap();
            assert_eq!(read.account_id, id);
        }
    });
    join_all(reads).await;
}

#[tokio::test]
async fn links_at_once_share_commits_and_each_ends_right() {
    let world = World::start().await;
    let mut links = Vec::new();
    for n in 0..64 {
        world.controls.add_persona(Persona::numbered(n));
        let user_id = format!("user-{n}");
        let created = world.create(&user_id).await;
        links.push((n, user_id, world.consent(&created, &format!("n{n}"))));
    }
    let completions = links.iter().map(|(n, user_id, callback_url)| {
        let mut client = world.authorizations("web");
        let request = completion(callback_url, user_id);
        let expected = Persona::numbered(*n);
        async move {
            let completed = client.complete_authorization(request).await.unwrap().into_inner();
            let account = completed.account.unwrap();
            assert_eq!((account.user_id.as_str(), account.threads_user_id), (user_id.as_str(), expected.id));
            assert_eq!(completed.profile.unwrap().username, Some(expected.username));
            account.account_id
        }
    });
    let ids = join_all(completions).await;
    for batch in ["claims", "links"] {
        let (batches, rows) = world.shared(batch).await;
        assert!((63.5..64.5).contains(&rows) && batches <= 32.0, "{batch}: {batches} for {rows}");
    }
    for (n, id) in ids.iter().enumerate() {
        let fetched = world.token(token(id, &format!("user-{n}"))).await.unwrap();
        assert_eq!(Some(fetched.access_token), world.controls.newest_token(&format!("n{n}")));
    }
    assert_eq!(world.look_up("select count(*) from events where kind = 'LINKED'").await, "64");
    assert_eq!(world.look_up("select count(*) from authorizations where state = 'SUCCEEDED'").await, "64");
}

#[tokio::test]
async fn a_corrupt_row_fails_alone() {
    let world = World::start().await;
    let ids = world.fill("default", "many", 60).await;
    for (id, corruption) in ids.iter().zip([
        "state = 'REAUTHORIZATION_REQUIRED', state_reason = 'NONSENSE'",
        "threads_user_id = 'nobody'",
        "state_reason = 'UNLINKED_BY_CALLER', state = 'UNLINKED', token = null, token_refresh_time = null,
         username = null, token_expire_time = null, profile_fetch_time = null, next_refresh_time = null,
         threads_user_id = ''",
    ]) {
        world.meddle(format!("update accounts set {corruption} where account_id = '{id}'")).await;
    }
    let channel = with_key(world.connect().await, world.key("web"));
    for _ in 0..3 {
        let reads = ids.iter().map(|id| {
            let mut client = AccountServiceClient::new(channel.clone());
            async move { client.get_account(account(id, None)).await }
        });
        for (n, read) in join_all(reads).await.into_iter().enumerate() {
            if n < 3 {
                failed(read, Code::Internal, "INTERNAL");
            } else {
                assert_eq!(read.unwrap().into_inner().account.unwrap().account_id, ids[n]);
            }
        }
    }
}

/// A corrupt row must not have the fetches beside it recorded twice.
#[tokio::test]
async fn a_corrupt_row_beside_a_token_leaves_its_record_as_it_is() {
    let world = World::start().await;
    let mut accounts = Vec::new();
    for n in 0..20 {
        world.controls.add_persona(Persona::numbered(n));
        let user_id = format!("user-{n}");
        accounts.push((world.linked(&user_id, &format!("n{n}")).await.account_id, user_id));
    }
    for (n, corruption) in
        ["threads_user_id = 'nobody'", "state = 'REAUTHORIZATION_REQUIRED', state_reason = 'NONSENSE'"]
            .into_iter()
            .enumerate()
    {
        let id = &accounts[n].0;
        world.meddle(format!("update accounts set {corruption} where account_id = '{id}'")).await;
    }
    let fetches = accounts.iter().map(|(id, user_id)| {
        let mut client = world.tokens("web");
        async move { client.fetch_access_token(token(id, user_id)).await }
    });
    for (n, fetched) in join_all(fetches).await.into_iter().enumerate() {
        if n < 2 {
            failed(fetched, Code::Internal, "INTERNAL");
        } else {
            assert_eq!(
                Some(fetched.unwrap().into_inner().access_token),
                world.controls.newest_token(&format!("n{n}"))
            );
        }
    }
    let twice = "select count(*) from (select from audit group by account_id having count(*) > 1) t";
    assert_eq!(world.look_up(twice).await, "0");
}

#[tokio::test]
async fn connections_that_die_between_calls_are_replaced() {
    let world = World::start().await;
    let id = world.linked("user-1", "full").await.account_id;
    for n in 0..3 {
        world.break_connections().await;
        assert!(world.account(&id).await.is_ok());
        assert!(world.token(token(&id, "user-1")).await.is_ok());
        let request = threads_identity::proto::v1::ListAccountsRequest::default();
        assert!(world.accounts("web").list_accounts(request).await.is_ok());
        world.break_connections().await;
        let persona = ["home", "work", "elsewhere"][n];
        let linked = world.linked("user-2", persona).await;
        world.break_connections().await;
        let unlink = crate::shorthand::unlink(&linked.account_id, "user-2");
        assert!(world.accounts("web").unlink_account(unlink).await.is_ok());
    }
    assert!(world.metric("threads_identity_connections_replaced_total").await > 2.5);
}

#[tokio::test]
async fn connections_that_die_under_calls_are_replaced() {
    let world = World::start().await;
    let id = world.linked("user-1", "full").await.account_id;
    // Connections that have served before: a new one that dies is not tried again.
    for _ in 0..2 {
        world.account(&id).await.unwrap();
        world.token(token(&id, "user-1")).await.unwrap();
    }
    let mut sql = world.sql().await;
    sqlx::raw_sql("begin; lock table accounts in access exclusive mode").execute(&mut sql).await.unwrap();
    let breaking = async {
        let waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'
                       and datname = current_database()";
        until("both wait", async || world.look_up(waiting).await == "2").await;
        world.break_connections().await;
        sqlx::raw_sql("rollback").execute(&mut sql).await.unwrap();
    };
    let (read, fetched, ()) = tokio::join!(world.account(&id), world.token(token(&id, "user-1")), breaking);
    assert_eq!(read.unwrap().account_id, id);
    assert_eq!(Some(fetched.unwrap().access_token), world.controls.newest_token("full"));
    assert_eq!(world.look_up("select count(*) from audit").await, "3", "each recorded once");
}

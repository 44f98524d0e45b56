//! Whoever attacks the flow, the pages and Meta's callbacks of the real process, over
//! its sockets alone. What the process must do about each attack in every detail is
//! tried in `tests/it`, against the same service in the test's own process.

use futures_util::future::join_all;
use reqwest::StatusCode;
use threads_identity::proto::v1::account_service_client::AccountServiceClient;
use threads_identity::proto::v1::authorization_service_client::AuthorizationServiceClient;
use threads_identity::proto::v1::complete_authorization_request::Answer;
use threads_identity::proto::v1::{CompleteAuthorizationRequest, EraseUserRequest, ListAccountsRequest};
use tonic::Code;

use crate::serve::CLIENT_SECRET;
use crate::siege::{PATH, RETURN_TO, SECOND_SECRET, Siege, by_url, parameter, refused, sign, user};

/// T1, T2, T3, T7, T12, T14, T15, T16.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_over_what_somebody_else_began_or_ended() {
    let siege = Siege::new("attacks-flow").await;

    // A used state is played back, by the browser and to the service.
    let (created, query) = siege.consent("user-1", "full").await;
    let ticket = siege.ticket(&query).await;
    let linked = siege.complete(Answer::Ticket(ticket), "user-1").await.unwrap();
    let rows = "select (select count(*) from accounts) + (select count(*) from authorizations)
                + (select count(*) from codes) + (select count(*) from events)";
    let before = siege.counted(rows).await;
    let replays = join_all((0..100).map(|_| siege.ticket(&query))).await;
    for ticket in replays.iter().take(10) {
        let again = siege.complete(Answer::Ticket(ticket.clone()), "user-1").await.unwrap();
        assert_eq!(again.authorization_id, linked.authorization_id);
        refused(
            siege.complete(Answer::Ticket(ticket.clone()), "user-2").await,
            Code::PermissionDenied,
            "SESSION_MISMATCH",
        );
    }
    assert_eq!((siege.exchanges(), siege.counted(rows).await), (1, before));

    // A flow that the attacker began, with the victim at the browser.
    let (_, trap) = siege.consent("attacker", "bare").await;
    refused(siege.complete(by_url(&trap), "victim").await, Code::PermissionDenied, "SESSION_MISMATCH");
    refused(
        siege.complete(by_url(&trap), "attacker").await,
        Code::FailedPrecondition,
        "AUTHORIZATION_CLOSED",
    );
    assert_eq!(siege.exchanges(), 1, "the code was not spent");

    // The victim's code, used, in a flow of the attacker's own.
    let (_, own) = siege.consent("attacker", "bare").await;
    let stolen = own.replace(&parameter(&own, "code"), &parameter(&query, "code"));
    refused(siege.complete(by_url(&stolen), "attacker").await, Code::FailedPrecondition, "CODE_REJECTED");
    assert_eq!(siege.exchanges(), 1);
    assert_eq!(siege.counted("select count(*) from audit where action = 'CODE_REUSE'").await, 1);

    // One kind of sealed thing as another.
    let (_, fresh) = siege.consent("user-3", "bare").await;
    let ticket = siege.ticket(&fresh).await;
    for (state, ticket) in
        [(ticket.clone(), created.state.clone()), (parameter(&fresh, "code"), "x".to_owned())]
    {
        let as_state = format!("code=AQ1&state={state}");
        refused(siege.complete(by_url(&as_state), "user-3").await, Code::InvalidArgument, "STATE_INVALID");
        refused(
            siege.complete(Answer::Ticket(ticket), "user-3").await,
            Code::InvalidArgument,
            "STATE_INVALID",
        );
    }
    let mut lists = AccountServiceClient::new(siege.service.channel.clone());
    for token in [created.state.as_str(), ticket.as_str()] {
        let message = ListAccountsRequest {
            user_id: Some("user-1".to_owned()),
            page_token: token.to_owned(),
            ..Default::default()
        };
        let listed = lists.list_accounts(siege.service.request(message)).await;
        refused(listed, Code::InvalidArgument, "FIELD_INVALID");
    }

    // An account that is linked already, by two at once.
    let account = linked.account.unwrap();
    for told in join_all((0..10).map(|_| siege.link("thief", "full"))).await {
        let status = refused(told, Code::AlreadyExists, "ACCOUNT_LINKED_TO_ANOTHER_USER");
        assert!(!format!("{status:?}").contains("user-1"), "{status:?}");
    }
    assert_eq!(siege.account(&account.account_id).await.unwrap().user_id, "user-1");

    // Threads names two people in one link.
    siege.controls.knobs(|knobs| knobs.exchange_user_id = Some("17841405793187211".to_owned()));
    refused(siege.link("user-4", "bare").await, Code::Internal, "PROVIDER_IDENTITY_CONFLICT");
    siege.controls.knobs(|knobs| knobs.exchange_user_id = None);
    assert_eq!(siege.counted("select count(*) from accounts where user_id = 'user-4'").await, 0);

    // Whoever is erased leaves nothing to the next user of that name.
    let message = EraseUserRequest { user_id: "user-1".to_owned() };
    lists.erase_user(siege.service.request(message)).await.unwrap();
    refused(siege.account(&account.account_id).await, Code::NotFound, "ACCOUNT_NOT_FOUND");
    refused(siege.complete(by_url(&query), "user-1").await, Code::NotFound, "ACCOUNT_NOT_FOUND");
    let again = siege.link("user-1", "emoji").await.unwrap();
    assert_ne!(again.account_id, account.account_id);
    assert!(siege.setting.simulator.controls().violations().is_empty());
}

/// T5, T8, T9, T10, T11, T13, T51, T53.
#[tokio::test(flavor = "multi_thread")]
async fn a_callback_leads_nowhere_but_home() {
    let siege = Siege::new("attacks-callback").await;
    let (created, query) = siege.consent("user-1", "full").await;
    let state = &created.state;
    let script = "%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E";
    for wrong in [
        String::new(),
        format!("state={state}"),
        format!("code=&state={state}"),
        format!("code=a&code=b&state={state}"),
        format!("code=a&error=access_denied&state={state}"),
        format!("error=&state={state}"),
        format!("code=a%00b&state={state}"),
        format!("code=a%0d%0aX:y&state={state}"),
        format!("code={}&state={state}", "c".repeat(2049)),
        format!("code=a&state={state}&state=x"),
        format!("code=a&state=&state={state}"),
        format!("code=a&state[]={state}"),
        format!("code=a&state={state}x"),
        format!("code=a&state={}", "s".repeat(8192)),
        "code=a&state=".to_owned(),
        "code=a".to_owned(),
        "error=access_denied&state=forged".to_owned(),
        format!("error={script}&error_description={script}&state=x"),
        format!("code={script}&state={script}"),
        format!("{script}={script}"),
    ] {
        let (mut status, location, mut body) = siege.browse(&format!("{PATH}?{wrong}"), &[]).await;
        if status == StatusCode::SEE_OTHER {
            let path = location.strip_prefix("https://id.example.com").expect("our own address");
            assert!(path.starts_with("/threads/link-trouble/") && !path.contains('?'), "{path}");
            (status, _, body) = siege.browse(path.trim_end_matches('#'), &[]).await;
        }
        assert_eq!(status, StatusCode::BAD_REQUEST, "{wrong}");
        assert!(!body.contains("alert(1)") && !body.contains(&state[..20]), "{body}");
        assert!(!location.contains("alert") && !location.contains(&state[..20]), "{location}");
    }
    // Another app's path, and another app's caller.
    for path in [format!("{PATH}/second"), format!("{PATH}/none")] {
        let (status, location, _) = siege.browse(&format!("{path}?{query}"), &[]).await;
        assert!(
            status == StatusCode::NOT_FOUND || location.contains("/state_invalid/"),
            "{path}: {location}"
        );
    }
    let other = CompleteAuthorizationRequest {
        answer: Some(by_url(&query)),
        user_id: Some("user-1".to_owned()),
        session_binding: None,
    };
    let mut other = tonic::Request::new(other);
    other.metadata_mut().insert("authorization", "Bearer tidkey_second".parse().unwrap());
    let mut client = AuthorizationServiceClient::new(siege.service.channel.clone());
    refused(client.complete_authorization(other).await, Code::InvalidArgument, "STATE_INVALID");
    // Forged hosts move no byte but the ticket.
    for header in [
        ("host", "evil.example"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-prefix", "/evil"),
        ("x-original-url", "/evil"),
        ("forwarded", "host=evil.example"),
        ("origin", "https://evil.example"),
    ] {
        let (status, location, _) = siege.browse(&format!("{PATH}?{query}"), &[header]).await;
        assert_eq!(status, StatusCode::SEE_OTHER);
        assert!(
            location.starts_with(&format!("{RETURN_TO}?ticket=")) && location.ends_with('#'),
            "{location}"
        );
        let (_, location, _) = siege.browse(&format!("{PATH}?code=a"), &[header]).await;
        assert!(location.starts_with("https://id.example.com/threads/link-trouble/"), "{location}");
    }
    for evil in [
        "//evil.example/linked",
        "https:evil.example",
        "https://app.example.com.evil.example/linked",
        "https://app.example.com@evil.example/linked",
        "https://app.example.com/linked/",
        "https://app.example.com/linked?x",
        "https://app.example.com/LINKED",
        "https://app.example.com/linked%0d%0aSet-Cookie:x=1",
        "javascript:alert(1)",
        "https://аpp.example.com/linked",
        "",
    ] {
        let created = siege.create_with(user("user-1"), Some(evil)).await;
        refused(created, Code::InvalidArgument, "FIELD_INVALID");
    }
    assert_eq!(siege.exchanges(), 0);
    assert_eq!(siege.counted("select count(*) from authorizations").await, 0);
    // And after all of it the person can finish.
    let ticket = siege.ticket(&query).await;
    siege.complete(Answer::Ticket(ticket), "user-1").await.unwrap();
}

/// T17, T18, T19, T20, T21.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_speaks_in_metas_name() {
    let siege = Siege::new("attacks-notices").await;
    let account = siege.link("user-1", "full").await.unwrap();
    let person = account.threads_user_id.clone();
    let now = siege.controls.now();
    let notice = |algorithm: &str, at: i64| {
        format!(r#"{{"algorithm":"{algorithm}","issued_at":{at},"user_id":"{person}"}}"#)
    };
    let good = sign(CLIENT_SECRET, &notice("HMAC-SHA256", now));
    let paths = ["/threads/deauthorize", "/threads/data-deletion"];
    for path in paths {
        for forged in [
            String::new(),
            ".".to_owned(),
            "a.b".to_owned(),
            format!("{good}."),
            format!("{good}.x"),
            format!(".{}", good.split_once('.').unwrap().1),
            format!("{}.", good.split_once('.').unwrap().0),
            good[1..].to_owned(),
            sign("another-secret", &notice("HMAC-SHA256", now)),
            sign(SECOND_SECRET, &notice("HMAC-SHA256", now)),
            sign("", &notice("HMAC-SHA256", now)),
            sign(CLIENT_SECRET, &notice("none", now)),
            sign(CLIENT_SECRET, &notice("HMAC-SHA1", now)),
            sign(CLIENT_SECRET, &notice("HMAC-SHA256", now + 3600)),
            sign(CLIENT_SECRET, "{}"),
            sign(CLIENT_SECRET, "nonsense"),
            "x".repeat(9000),
        ] {
            let (status, _) = siege.tell(path, &forged).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{forged}");
        }
        // Every byte of it, wrong.
        let changed = (0..good.len()).map(|position| {
            let mut bytes = good.clone().into_bytes();
            bytes[position] = if bytes[position] == b'A' { b'B' } else { b'A' };
            String::from_utf8(bytes).unwrap()
        });
        let answers = changed.map(async |forged| (siege.tell(path, &forged).await.0, forged));
        for (status, forged) in join_all(answers).await {
            assert_eq!(status, StatusCode::BAD_REQUEST, "{forged}");
        }
        // Signed by this app, and told to the other.
        assert_eq!(siege.tell(&format!("{path}/second"), &good).await.0, StatusCode::BAD_REQUEST);
    }
    assert_eq!(siege.account(&account.account_id).await.unwrap().state, account.state);
    assert_eq!(siege.counted("select count(*) from deletion_requests").await, 0);

    // A right one, and then played back after the person has come again.
    assert_eq!(siege.tell(paths[0], &good).await.0, StatusCode::OK);
    assert_ne!(siege.account(&account.account_id).await.unwrap().state, account.state);
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    siege.link("user-1", "full").await.unwrap();
    assert_eq!(siege.tell(paths[0], &good).await.0, StatusCode::OK, "acknowledged, as Meta wants");
    assert_eq!(siege.account(&account.account_id).await.unwrap().state, account.state);

    // A deletion beats a completion whose code was got before.
    let (_, under_way) = siege.consent("user-1", "full").await;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let later = sign(CLIENT_SECRET, &notice("HMAC-SHA256", siege.controls.now()));
    let (status, body) = siege.tell(paths[1], &later).await;
    assert_eq!(status, StatusCode::OK);
    assert!(siege.complete(by_url(&under_way), "user-1").await.is_err());
    refused(siege.account(&account.account_id).await, Code::NotFound, "ACCOUNT_NOT_FOUND");
    assert_eq!(siege.counted("select count(*) from accounts where token is not null").await, 0);

    // Its code is found by whoever has it, and by nobody else.
    let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
    let code = answer["confirmation_code"].as_str().unwrap();
    let (status, _, page) = siege.browse(&format!("/threads/data-deletion/{code}"), &[]).await;
    assert!(status == StatusCode::OK && page.contains("has been deleted"), "{page}");
    let mut seen = std::collections::BTreeSet::new();
    for number in 0..40_u32 {
        let mut guess = code.as_bytes().to_vec();
        let place = number as usize % guess.len();
        guess[place] = if guess[place] == b'0' { b'1' } else { b'0' };
        let guess = String::from_utf8(guess).unwrap();
        let (status, _, body) = siege.browse(&format!("/threads/data-deletion/{guess}"), &[]).await;
        seen.insert((status.as_u16(), body));
    }
    assert_eq!(seen.len(), 1, "every wrong code looks the same: {seen:?}");
    assert_eq!(seen.first().unwrap().0, 404);
}

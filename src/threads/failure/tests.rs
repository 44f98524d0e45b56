use super::*;

fn class(endpoint: Endpoint, status: u16, body: &str) -> Class {
    of_answer(endpoint, status, &HeaderMap::new(), body.as_bytes()).class
}

fn graph(code: i64, subcode: Option<i64>, message: &str) -> String {
    let subcode = subcode.map(|subcode| format!(r#","error_subcode":{subcode}"#)).unwrap_or_default();
    format!(
        r#"{{"error":{{"message":"{message}","type":"OAuthException","code":{code}{subcode},"fbtrace_id":"Abc"}}}}"#
    )
}

#[test]
fn every_row_of_the_table() {
    use Class::*;
    use StateReason::*;
    for (code, subcode, at_me, at_exchange) in [
        (1, None, Retry, Retry),
        (1, Some(99), Retry, Retry),
        (2, None, Retry, Retry),
        (3, None, Permission, Permission),
        (4, None, RateLimited(Limited::App), RateLimited(Limited::App)),
        (17, Some(2_446_079), RateLimited(Limited::Account), RateLimited(Limited::Account)),
        (32, None, RateLimited(Limited::Account), RateLimited(Limited::Account)),
        (341, None, RateLimited(Limited::App), RateLimited(Limited::App)),
        (368, None, RateLimited(Limited::Account), RateLimited(Limited::Account)),
        (613, Some(1996), RateLimited(Limited::Account), RateLimited(Limited::Account)),
        (80_000, None, RateLimited(Limited::Account), RateLimited(Limited::Account)),
        (80_014, None, RateLimited(Limited::Account), RateLimited(Limited::Account)),
        (10, None, Permission, Permission),
        (200, None, Permission, Permission),
        (299, None, Permission, Permission),
        (100, Some(10), Permission, Permission),
        (100, Some(33), Gone, Gone),
        (100, Some(36_007), CodeRejected, CodeRejected),
        (100, Some(36_008), Configuration, Configuration),
        (100, Some(36_009), CodeRejected, CodeRejected),
        (100, None, Configuration, CodeRejected),
        (101, None, Configuration, Configuration),
        (191, None, Configuration, Configuration),
        (102, None, Dead(SessionInvalidated), Dead(SessionInvalidated)),
        (190, None, Dead(SessionInvalidated), Dead(SessionInvalidated)),
        (190, Some(458), Dead(AccessRevoked), Dead(AccessRevoked)),
        (190, Some(459), Dead(UserActionRequired), Dead(UserActionRequired)),
        (190, Some(460), Dead(SessionInvalidated), Dead(SessionInvalidated)),
        (190, Some(463), Dead(TokenExpired), Dead(TokenExpired)),
        (190, Some(464), Dead(UserActionRequired), Dead(UserActionRequired)),
        (190, Some(467), Dead(SessionInvalidated), Dead(SessionInvalidated)),
        (190, Some(492), Dead(SessionInvalidated), Dead(SessionInvalidated)),
        (190, Some(493), Dead(SessionInvalidated), Dead(SessionInvalidated)),
        (24, Some(4_279_009), Gone, Gone),
        (2500, None, Dead(SessionInvalidated), Dead(SessionInvalidated)),
        (7777, None, Configuration, Configuration),
    ] {
        let body = graph(code, subcode, "x");
        assert_eq!(class(Endpoint::Me, 400, &body), at_me, "{code}/{subcode:?} at /me");
        assert_eq!(
            class(Endpoint::CodeExchange, 400, &body),
            at_exchange,
            "{code}/{subcode:?} at the exchange"
        );
    }
}

#[test]
fn transient_trouble_is_passing_whatever_its_code_but_a_limit_is_a_limit() {
    let transient = r#"{"error":{"code":190,"is_transient":true}}"#;
    assert_eq!(class(Endpoint::Me, 400, transient), Class::Retry);
    let limited = r#"{"error":{"code":4,"is_transient":true}}"#;
    assert_eq!(class(Endpoint::Me, 400, limited), Class::RateLimited(Limited::App));
    assert_eq!(class(Endpoint::Me, 503, &graph(7777, None, "")), Class::Retry);
}

#[test]
fn answers_without_a_code_go_by_their_status() {
    for (status, body, expected) in [
        (429, "", Class::RateLimited(Limited::App)),
        (401, "{}", Class::Dead(StateReason::SessionInvalidated)),
        (403, "{}", Class::Permission),
        (500, "oops", Class::Retry),
        (502, "<html>", Class::Retry),
        (400, "<html>", Class::Retry),
        (400, "", Class::Retry),
        (404, "{}", Class::Configuration),
        (400, r#"{"error":{"message":"x"}}"#, Class::Configuration),
        (302, "{}", Class::Surprise),
    ] {
        assert_eq!(class(Endpoint::Me, status, body), expected, "{status} {body}");
    }
}

#[test]
fn the_flat_envelope_blames_the_code_unless_it_speaks_of_the_set_up() {
    let flat =
        |text: &str| format!(r#"{{"error_type":"OAuthException","code":400,"error_message":"{text}"}}"#);
    for (text, expected) in [
        ("Matching code was not found or was already used", Class::CodeRejected),
        ("This authorization code has been used", Class::CodeRejected),
        ("Invalid redirect_uri", Class::Configuration),
        ("Error validating client secret.", Class::Configuration),
        ("Error validating application.", Class::Configuration),
    ] {
        assert_eq!(class(Endpoint::CodeExchange, 400, &flat(text)), expected, "{text}");
    }
    let secret = graph(1, None, "Error validating client secret.");
    assert_eq!(class(Endpoint::CodeExchange, 400, &secret), Class::Configuration);
    let redirect = graph(
        100,
        None,
        "Error validating verification code. Please make sure your redirect_uri is identical",
    );
    assert_eq!(class(Endpoint::CodeExchange, 400, &redirect), Class::Configuration);
    let limit = flat("(#4) Application request limit reached");
    assert_eq!(class(Endpoint::CodeExchange, 400, &limit), Class::RateLimited(Limited::App));
    assert_eq!(class(Endpoint::CodeExchange, 500, &flat("x")), Class::Retry);
    let rfc = r#"{"error":"invalid_grant","error_description":"expired"}"#;
    assert_eq!(class(Endpoint::CodeExchange, 400, rfc), Class::CodeRejected);
}

#[test]
fn a_wait_is_taken_from_whichever_header_gives_it() {
    let wait = |pairs: &[(&'static str, &str)]| {
        let headers = pairs
            .iter()
            .map(|(name, value)| (reqwest::header::HeaderName::from_static(name), value.parse().unwrap()));
        let headers = headers.collect();
        of_answer(Endpoint::Me, 400, &headers, graph(4, None, "").as_bytes())
            .retry_after
            .map(|wait| wait.as_secs())
    };
    let usage =
        r#"{"1":[{"type":"x","estimated_time_to_regain_access":19},{"estimated_time_to_regain_access":2}]}"#;
    assert_eq!(wait(&[]), None);
    assert_eq!(wait(&[("retry-after", "7")]), Some(7));
    assert_eq!(wait(&[("x-business-use-case-usage", usage)]), Some(19 * 60));
    assert_eq!(wait(&[("retry-after", "7"), ("x-business-use-case-usage", usage)]), Some(19 * 60));
    assert_eq!(wait(&[("retry-after", "99999999999")]), Some(86_400));
    for bad in ["", "soon", "-1", "0"] {
        assert_eq!(wait(&[("retry-after", bad)]), None, "{bad}");
    }
    for bad in ["{", "[]", r#"{"1":3}"#, r#"{"1":[{"estimated_time_to_regain_access":"x"}]}"#] {
        assert_eq!(wait(&[("x-business-use-case-usage", bad)]), None, "{bad}");
    }
}

#[test]
fn what_is_printed_holds_codes_and_no_text() {
    let body = graph(190, Some(463), "token THAAcanary");
    let failure = of_answer(Endpoint::Me, 400, &HeaderMap::new(), body.as_bytes());
    let text = format!("{failure} {failure:?} {:?}", Error::from(failure.clone()));
    assert!(!text.contains("canary"), "{text}");
    assert!(text.contains("code=190 subcode=463 fbtrace_id=Abc"), "{text}");
}

//! `[server]`, `[server.tls]` and `[limits]`.

use super::*;

#[test]
fn what_is_said_of_connections_and_limits_is_read() {
    let text = format!(
        "[server]\ntrusted_proxies = [\"10.0.0.0/8\", \"2001:db8::1\"]\nconnections_max = 10\n\
         [server.tls]\ncertificate_file = \"a.pem\"\nkey_file = \"a.key\"\nclient_ca_file = \"ca.pem\"\n\
         client_certificates = \"optional\"\n\
         [limits]\ncaller_rate = 50\ndeadline = \"3s\"\n{GOOD}rate = 5\nburst = 7\n"
    );
    let config = parse(&text, &[]).unwrap();
    assert_eq!(config.server.trusted_proxies.len(), 2);
    assert_eq!(config.server.connections_max, 10);
    assert_eq!(config.server.tls.unwrap().client_certificates, ClientCertificates::Optional);
    let rate = |rate: Option<Rate>| rate.map(|rate| (rate.per_second.get(), rate.burst.get()));
    assert_eq!(rate(config.limits.caller), Some((50, 100)));
    assert_eq!(rate(config.callers[0].rate), Some((5, 7)));
    assert_eq!(config.limits.deadlines.usual, Duration::from_secs(3));
    assert_eq!(config.limits.deadlines.max, Duration::from_secs(15));
    // By the environment alone.
    let config = parse(
        GOOD,
        &[
            ("THREADS_IDENTITY__SERVER__TLS__CERTIFICATE_FILE", "a.pem"),
            ("THREADS_IDENTITY__SERVER__TLS__KEY_FILE", "a.key"),
            ("THREADS_IDENTITY__SERVER__TRUSTED_PROXIES", "10.0.0.0/8,192.168.0.0/16"),
            ("THREADS_IDENTITY__SERVER__INSECURE_ALLOW_PLAINTEXT", "true"),
            ("THREADS_IDENTITY__LIMITS__CALLS_MAX", "5"),
        ],
    )
    .unwrap();
    let server = config.server;
    assert_eq!(server.tls.unwrap().client_certificates, ClientCertificates::Required);
    assert_eq!(server.trusted_proxies.len(), 2);
    assert!(server.insecure_allow_plaintext && !server.insecure_allow_anyone);
    assert_eq!(config.limits.calls_max, 5);
    assert!(config.limits.caller.is_none() && config.callers[0].rate.is_none());
}

#[test]
fn what_is_wrong_with_connections_and_limits_is_told_by_its_key() {
    for (table, key) in [
        ("[server]\ntrusted_proxies = [\"10.0.0.0/8\", \"ten\"]", "server.trusted_proxies.1:"),
        ("[server]\ntrusted_proxies = [\"10.0.0.0/33\"]", "server.trusted_proxies.0:"),
        ("[server]\ntrusted_proxies = [\"\"]", "server.trusted_proxies.0:"),
        ("[server]\nhttp_tls = true", "server.http_tls:"),
        ("[server]\ndrain_timeout = \"29s\"", "server.drain_timeout:"),
        ("[server]\nconnections_max = 0", "server.connections_max:"),
        ("[server]\ninsecure_allow_plaintext = 1", "server.insecure_allow_plaintext:"),
        ("[server.tls]\nkey_file = \"a\"", "server.tls.certificate_file:"),
        ("[server.tls]\ncertificate_file = \"a\"", "server.tls.key_file:"),
        ("[server.tls]\ncertificate_file = \"\"\nkey_file = \"a\"", "server.tls.certificate_file:"),
        ("[server.tls]\nkey_file = \"a\"\nclient_ca_file = \"a\"", "server.tls.certificate_file:"),
        ("[server.tls]\nclient_certificates = \"required\"", "server.tls.client_certificates:"),
        (
            "[server.tls]\ncertificate_file = \"a\"\nkey_file = \"a\"\nclient_ca_file = \"a\"\n\
             client_certificates = \"maybe\"",
            "server.tls.client_certificates:",
        ),
        ("[server.tls]\noops = 1", "server.tls.oops:"),
        ("[limits]\ncalls_max = 0", "limits.calls_max:"),
        ("[limits]\ncaller_rate = 0", "limits.caller_rate:"),
        ("[limits]\ncaller_burst = 5", "limits.caller_burst:"),
        ("[limits]\ndeadline = \"16s\"", "limits.deadline:"),
        ("[limits]\nprovider_deadline_max = \"soon\"", "limits.provider_deadline_max:"),
        ("[limits]\noops = 1", "limits.oops:"),
    ] {
        let problems = problems(&format!("{table}\n{GOOD}"), &[]);
        assert!(problems.contains(&format!("\n  {key}")), "{table}: {problems}");
        assert!(problems.contains("has 1 problem:"), "{table}: {problems}");
    }
    let problems = problems(&format!("{GOOD}burst = 7\n"), &[]);
    assert!(problems.contains("callers.0.burst:"), "{problems}");
}

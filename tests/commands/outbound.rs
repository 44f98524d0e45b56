//! `serve` and the ways out of it: which certificates it believes, and that nothing
//! that it is told, by whomever, leads it elsewhere.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use threads_identity::proto::DESCRIPTORS;
use threads_identity::proto::v1::authorization_service_client::AuthorizationServiceClient;
use threads_identity::proto::v1::complete_authorization_request::{Answer, Parameters, parameters};
use threads_identity::proto::v1::profile_service_client::ProfileServiceClient;
use threads_identity::proto::v1::{CompleteAuthorizationRequest, GetProfileRequest, get_profile_request};
use threads_identity::simulator::{Decision, Endpoint, Fault};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tonic::{Code, Status};

use crate::raw::{framed, methods};
use crate::run::database;
use crate::serve::{Service, Setting};
use crate::siege::{Siege, refused, user};

/// Somebody who signs certificates.
fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// How a certificate is not as it should be.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Wrong {
    Nothing,
    Expired,
    NotYet,
    OtherHost,
    SelfSigned,
    OtherAuthority,
}

fn tls(wrong: Wrong, authority: &CertifiedIssuer<'static, KeyPair>) -> TlsAcceptor {
    let host = if wrong == Wrong::OtherHost { "graph.threads.example" } else { "localhost" };
    let mut params = CertificateParams::new([host.to_owned()]).unwrap();
    match wrong {
        Wrong::Expired => params.not_after = date_time_ymd(2020, 1, 1),
        Wrong::NotYet => params.not_before = date_time_ymd(2090, 1, 1),
        _ => {}
    }
    let key = KeyPair::generate().unwrap();
    let other = self::authority();
    let certificate = match wrong {
        Wrong::SelfSigned => params.self_signed(&key),
        Wrong::OtherAuthority => params.signed_by(&key, &other),
        _ => params.signed_by(&key, authority),
    };
    let chain = vec![CertificateDer::from(certificate.unwrap().der().to_vec())];
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// A Threads behind TLS: what gets through a handshake goes on to the simulator.
async fn serve_tls(
    listener: Arc<TcpListener>,
    acceptor: TlsAcceptor,
    simulator: String,
    shaken: Arc<AtomicUsize>,
) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, simulator, shaken) = (acceptor.clone(), simulator.clone(), Arc::clone(&shaken));
        tokio::spawn(async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut to = TcpStream::connect(simulator).await.unwrap();
            shaken.fetch_add(1, Ordering::Relaxed);
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut to).await;
        });
    }
}

async fn trap() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let hits = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&hits);
    tokio::spawn(async move {
        loop {
            let _stream = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    (address, hits)
}

async fn complete(service: &Service, callback_url: &str) -> Result<(), Status> {
    let message = CompleteAuthorizationRequest {
        answer: Some(Answer::CallbackUrl(callback_url.to_owned())),
        user_id: Some("user-1".to_owned()),
        session_binding: None,
    };
    let mut client = AuthorizationServiceClient::new(service.channel.clone());
    client.complete_authorization(service.request(message)).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_certificate_of_its_host_is_believed_and_no_proxy_is_asked() {
    let database = database().await;
    let setting = Setting::new("outbound", database.url()).await;
    let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
    let port = listener.local_addr().unwrap().port();
    let (proxy, hits) = trap().await;
    let authority = authority();

    let mut serve = setting.serve();
    let file = setting.directory.path("config.toml");
    let simulator = setting.simulator.base_url();
    let text = fs::read_to_string(&file).unwrap();
    let graph = format!("graph_url = \"https://localhost:{port}\"");
    fs::write(&file, text.replace(&format!("graph_url = \"{simulator}\""), &graph)).unwrap();
    let roots = setting.directory.path("roots.pem");
    fs::write(&roots, authority.pem()).unwrap();
    serve.env("SSL_CERT_FILE", &roots);
    for variable in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        serve.env(variable, format!("http://{proxy}"));
    }
    let service = Service::start(serve, &setting.key).await;
    let controls = setting.simulator.controls();
    let created = service.create("user-1").await;
    let callback_url = controls.consent(&created.authorization_url, "full", Decision::Allow).unwrap();

    let shaken = Arc::new(AtomicUsize::new(0));
    let through = simulator.trim_start_matches("http://").to_owned();
    let behind = |wrong| {
        let acceptor = tls(wrong, &authority);
        tokio::spawn(serve_tls(Arc::clone(&listener), acceptor, through.clone(), Arc::clone(&shaken)))
    };
    for wrong in [Wrong::Expired, Wrong::NotYet, Wrong::OtherHost, Wrong::SelfSigned, Wrong::OtherAuthority] {
        let serving = behind(wrong);
        let refused = complete(&service, &callback_url).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{wrong:?}: {refused:?}");
        serving.abort();
        let _ = serving.await;
        assert_eq!(controls.count(Endpoint::CodeExchange), 0, "{wrong:?}: the code was sent");
    }
    // Nothing was spent on them: the same completion succeeds where all is well.
    let _serving = behind(Wrong::Nothing);
    complete(&service, &callback_url).await.unwrap();
    assert_eq!(controls.count(Endpoint::CodeExchange), 1);
    assert_eq!(hits.load(Ordering::Relaxed), 0, "a proxy was asked");
}

/// T33: an answer without an end is cut where it is too long, and what had come of it
/// is not kept.
#[tokio::test(flavor = "multi_thread")]
async fn answers_without_an_end_take_no_memory() {
    const MORE_MAX: u64 = 16 * 1024;
    let database = database().await;
    let setting = Setting::new("outbound-endless", database.url()).await;
    let service = Service::start(setting.serve(), &setting.key).await;
    let controls = setting.simulator.controls();
    let created = service.create("user-1").await;
    let callback_url = controls.consent(&created.authorization_url, "full", Decision::Allow).unwrap();
    let linked = service.complete(&callback_url, "user-1").await.account.unwrap();
    let read = async || {
        let message = GetProfileRequest {
            account: Some(get_profile_request::Account::AccountId(linked.account_id.clone())),
            user_id: Some("user-1".to_owned()),
            max_age: Some(prost_types::Duration::default()),
        };
        ProfileServiceClient::new(service.channel.clone()).get_profile(service.request(message)).await
    };
    read().await.unwrap();
    controls.fault_times(Endpoint::Me, 1000, Fault::Huge);
    let mut before = 0;
    // The first few take what buffers and the allocator keep for the next.
    for n in 0..30 {
        if n == 10 {
            before = service.running.memory();
        }
        let refused = read().await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    }
    let more = service.running.memory().saturating_sub(before);
    assert!(more < MORE_MAX, "{more} KiB more for {} answers", controls.count(Endpoint::Me));
    controls.clear_faults();
    read().await.unwrap();
}

/// T31, T32 and T35.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_followed_no_picture_is_fetched_and_a_code_brings_nothing_along() {
    let (trap, hits) = trap().await;
    let siege = Siege::new("outbound-traps").await;
    let picture = format!("http://{trap}/picture.jpg");
    siege.controls.set_picture("full", Some(&picture));
    let linked = siege.link("user-1", "full").await.unwrap();
    let read = async || {
        let message = GetProfileRequest {
            account: Some(get_profile_request::Account::AccountId(linked.account_id.clone())),
            user_id: Some("user-1".to_owned()),
            max_age: Some(prost_types::Duration::default()),
        };
        let mut client = ProfileServiceClient::new(siege.service.channel.clone());
        client.get_profile(siege.service.request(message)).await
    };
    let profile = read().await.unwrap().into_inner().profile.unwrap().profile.unwrap();
    assert_eq!(profile.threads_profile_picture_url, Some(picture), "it is handed on as it is");
    for to in [format!("http://{trap}/"), format!("//{trap}/")] {
        siege.controls.fault_times(Endpoint::Me, 3, Fault::Redirect(to));
        refused(read().await, Code::Unavailable, "PROVIDER_UNAVAILABLE");
    }
    let code = "AQ&redirect_uri=https://evil.example/&client_id=2;grant_type=x%0d%0aX-Header:1+2";
    let created = siege.create(user("user-2")).await.unwrap();
    let result = Some(parameters::Result::Code(code.to_owned()));
    let answer = Answer::Parameters(Parameters { state: created.state, result });
    refused(siege.complete(answer, "user-2").await, Code::FailedPrecondition, "CODE_REJECTED");
    let ledger = siege.controls.ledger();
    let sent = ledger.iter().rfind(|entry| entry.endpoint == Endpoint::CodeExchange).unwrap();
    let mut names = sent.parameters.clone();
    names.sort();
    assert_eq!(names, ["client_id", "client_secret", "code", "grant_type", "redirect_uri"]);
    assert_eq!(hits.load(Ordering::Relaxed), 0);
}

/// T34: what would have to be unpacked is not believed, however small it is.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_unpacked() {
    const ENCODINGS: [&str; 5] = ["gzip", "br", "deflate", "zstd", "identity, gzip"];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let router = axum::Router::new().fallback(async move || {
        let encoding = ENCODINGS[counted.fetch_add(1, Ordering::Relaxed) % ENCODINGS.len()];
        let headers = [("content-type", "application/json"), ("content-encoding", encoding)];
        (headers, r#"{"access_token":"THx","user_id":1}"#)
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    let database = database().await;
    let setting = Setting::new("outbound-packed", database.url()).await;
    let serve = setting.serve();
    let file = setting.directory.path("config.toml");
    let text = fs::read_to_string(&file).unwrap();
    let token_url = format!("token_url = \"http://{address}/oauth/access_token\"\ngraph_url =");
    fs::write(&file, text.replace("graph_url =", &token_url)).unwrap();
    let service = Service::start(serve, &setting.key).await;
    for encoding in ENCODINGS {
        let created = service.create("user-1").await;
        let controls = setting.simulator.controls();
        let callback_url = controls.consent(&created.authorization_url, "full", Decision::Allow).unwrap();
        refused(complete(&service, &callback_url).await, Code::Aborted, "AUTHORIZATION_INTERRUPTED");
        assert!(asked.load(Ordering::Relaxed) > 0, "{encoding}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), ENCODINGS.len(), "each code was sent once");
}

/// A message for each text of a request and of the messages inside, with this in it.
fn with_text(form: &MessageDescriptor, text: &str) -> Vec<DynamicMessage> {
    let mut messages = Vec::new();
    let mut add = |field: &FieldDescriptor, value: Value| {
        let mut message = DynamicMessage::new(form.clone());
        let value = if field.is_list() { Value::List(vec![value]) } else { value };
        message.set_field(field, value);
        messages.push(message);
    };
    for field in form.fields() {
        match field.kind() {
            Kind::String => add(&field, Value::String(text.to_owned())),
            Kind::Message(inner) if !inner.full_name().starts_with("google.protobuf.") => {
                for inner in with_text(&inner, text) {
                    add(&field, Value::Message(inner));
                }
            }
            _ => {}
        }
    }
    messages
}

/// T30: an address in any field of any request, and in headers, leads nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn no_field_leads_the_service_anywhere() {
    let siege = Siege::new("intrusions-addresses").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let trap = format!("http://{}/", listener.local_addr().unwrap());
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    let key = siege.key();
    let mut headers = vec![("authorization", key.as_str())];
    headers.extend(
        ["referer", "origin", "x-forwarded-host", "x-original-url"].map(|name| (name, trap.as_str())),
    );
    let mut tried = 0;
    for path in methods() {
        let (service, name) = path.trim_start_matches('/').split_once('/').unwrap();
        let service = pool.get_service_by_name(service).unwrap();
        let method = service.methods().find(|method| method.name() == name).unwrap();
        for text in [trap.as_str(), "http://169.254.169.254/latest/meta-data/", "file:///etc/passwd"] {
            for message in with_text(&method.input(), text) {
                // Taken or refused: it only must not be followed.
                let _ = siege.called(&path, &headers, framed(&message.encode_to_vec())).await;
                tried += 1;
            }
        }
    }
    assert!(tried > 90, "{tried}");
    let came = tokio::time::timeout(std::time::Duration::from_millis(200), listener.accept()).await;
    assert!(came.is_err(), "somebody came to the listener");
    assert_eq!(siege.controls.ledger().len(), 0, "Threads was asked for nothing");
}

//! How a command reaches the service: where it is, whose certificates are believed,
//! and as which caller.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use url::Url;
use zeroize::Zeroizing;

use super::Variables;
use crate::config::is_loopback;
use crate::proto::v1::account_service_client::AccountServiceClient;
use crate::proto::v1::authorization_service_client::AuthorizationServiceClient;
use crate::proto::v1::profile_service_client::ProfileServiceClient;

const DEFAULT_SERVER: &str = "http://127.0.0.1:50051";
const SERVER: &str = "THREADS_IDENTITY_SERVER";
const KEY: &str = "THREADS_IDENTITY_CALLER_KEY";
const KEY_FILE: &str = "THREADS_IDENTITY_CALLER_KEY_FILE";
const CA_FILE: &str = "THREADS_IDENTITY_CA_FILE";
/// How a server that has fallen silent is found out.
const CONNECT_MAX: Duration = Duration::from_secs(5);
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_MAX: Duration = Duration::from_secs(10);
/// How long a call may take: a little longer than the service's own limit, so that
/// its reason arrives.
const CALL_MAX: Duration = Duration::from_secs(35);

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Where the service is, and who calls it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct ClientArgs {
    /// Where the service is, such as `https://id.example.com:50051`. Otherwise the
    /// variable `THREADS_IDENTITY_SERVER`, or this machine without TLS.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// The file that holds the caller's key. Otherwise the variable
    /// `THREADS_IDENTITY_CALLER_KEY`, which holds the key itself, or
    /// `THREADS_IDENTITY_CALLER_KEY_FILE`. Never on the command line, where everybody
    /// sees it.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Send the key over http to another machine, too: whoever listens on the way can
    /// read it. Only where something else encrypts all the way.
    #[arg(long)]
    insecure_allow_plaintext: bool,
    /// With https: whose certificates are believed, in PEM. Otherwise the variable
    /// `THREADS_IDENTITY_CA_FILE`, or those that this machine believes.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// With https: the client's own certificate, in PEM.
    #[arg(long, value_name = "FILE", requires = "client_key_file")]
    certificate_file: Option<PathBuf>,
    /// The key of the client's own certificate, in PEM.
    #[arg(long, value_name = "FILE", requires = "certificate_file")]
    client_key_file: Option<PathBuf>,
}

/// The service as a caller sees it.
#[derive(Clone)]
pub(super) struct Client {
    channel: Channel,
    key: Option<MetadataValue<Ascii>>,
}

impl Client {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// Which option or variable cannot be used, and what it must be.
    pub(super) fn new(args: &ClientArgs, variables: &Variables) -> Result<Self, Failure> {
        let key = read_key(args, variables)?;
        refuse_open(args, variables, key.is_some())?;
        let endpoint = endpoint(args, variables)?
            .connect_timeout(CONNECT_MAX)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_MAX);
        Ok(Self { channel: endpoint.connect_lazy(), key })
    }

    pub(super) fn accounts(&self) -> AccountServiceClient<Channel> {
        AccountServiceClient::new(self.channel.clone())
    }

    pub(super) fn authorizations(&self) -> AuthorizationServiceClient<Channel> {
        AuthorizationServiceClient::new(self.channel.clone())
    }

    pub(super) fn profiles(&self) -> ProfileServiceClient<Channel> {
        ProfileServiceClient::new(self.channel.clone())
    }

    /// A call of this caller, with a deadline.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = self.endless(message);
        request.set_timeout(CALL_MAX);
        request
    }

    /// A call of this caller that goes on and on.
    pub(super) fn endless<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(key) = &self.key {
            request.metadata_mut().insert("authorization", key.clone());
        }
        request
    }
}

fn variable<'a>(variables: &'a Variables, name: &str) -> Option<&'a str> {
    variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// Where the service is, and where that was said.
fn server<'a>(args: &'a ClientArgs, variables: &'a Variables) -> (&'static str, &'a str) {
    match (&args.server, variable(variables, SERVER)) {
        (Some(server), _) => ("--server", server.as_str()),
        (None, Some(server)) => (SERVER, server),
        (None, None) => ("--server", DEFAULT_SERVER),
    }
}

/// Refuses to send a key where others could read it.
fn refuse_open(args: &ClientArgs, variables: &Variables, has_key: bool) -> Result<(), Failure> {
    let (place, server) = server(args, variables);
    let Ok(url) = Url::parse(server) else { return Ok(()) };
    if !has_key || args.insecure_allow_plaintext || url.scheme() != "http" || is_loopback(&url) {
        return Ok(());
    }
    Err(format!(
        "{place}: the caller's key would go to another machine without TLS: use https://, or say \
         --insecure-allow-plaintext where something else encrypts all the way"
    )
    .into())
}

/// Where the service is, and with whose certificates it is spoken to.
fn endpoint(args: &ClientArgs, variables: &Variables) -> Result<Endpoint, Failure> {
    let (place, server) = server(args, variables);
    let unfit = || {
        format!("{place}: must be an address such as http://127.0.0.1:50051 or https://id.example.com:50051")
    };
    let endpoint = Endpoint::from_shared(server.to_owned()).map_err(|_| unfit())?;
    let files = [&args.ca_file, &args.certificate_file, &args.client_key_file];
    match endpoint.uri().scheme_str() {
        Some("http") if files.iter().all(|file| file.is_none()) => return Ok(endpoint),
        Some("http") => return Err(format!("{place}: needs https:// for certificates to be of use").into()),
        Some("https") => {}
        _ => return Err(unfit().into()),
    }
    let (ca_place, ca_file) = match (&args.ca_file, variable(variables, CA_FILE)) {
        (None, Some(file)) => (CA_FILE, Some(PathBuf::from(file))),
        (file, _) => ("--ca-file", file.clone()),
    };
    let mut tls = match read_file(ca_place, ca_file.as_ref())? {
        // Without one nobody would be believed, and the service would seem to be away.
        Some(pem) if !matches!(CertificateDer::pem_slice_iter(&pem).next(), Some(Ok(_))) => {
            return Err(format!("{ca_place}: holds no certificate in PEM").into());
        }
        Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem.as_slice())),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    let certificate = read_file("--certificate-file", args.certificate_file.as_ref())?;
    let key = read_file("--client-key-file", args.client_key_file.as_ref())?;
    if let (Some(certificate), Some(key)) = (certificate, key) {
        tls = tls.identity(Identity::from_pem(certificate.as_slice(), key.as_slice()));
    }
    let unusable = "a certificate or a key cannot be used: --ca-file, --certificate-file and --client-key-file \
                    must be PEM, and the key that of the certificate";
    endpoint.tls_config(tls).map_err(|_| unusable.into())
}

fn read_file(place: &str, file: Option<&PathBuf>) -> Result<Option<Zeroizing<Vec<u8>>>, Failure> {
    let Some(file) = file else { return Ok(None) };
    match std::fs::read(file) {
        Ok(bytes) => Ok(Some(Zeroizing::new(bytes))),
        Err(error) => Err(format!("{place}: {}: {error}", file.display()).into()),
    }
}

/// The caller's key, as it is sent. Without one the caller may have a certificate, or
/// the service may know of no callers.
fn read_key(args: &ClientArgs, variables: &Variables) -> Result<Option<MetadataValue<Ascii>>, Failure> {
    let file = match (&args.key_file, variable(variables, KEY), variable(variables, KEY_FILE)) {
        (Some(file), ..) => Some(("--key-file", file.clone())),
        (None, Some(_), Some(_)) => return Err(format!("{KEY}: {KEY_FILE} is set as well: keep one").into()),
        (None, None, Some(file)) => Some((KEY_FILE, PathBuf::from(file))),
        (None, ..) => None,
    };
    let (place, text) = if let Some((place, file)) = file {
        let shown = file.display();
        let text = std::fs::read_to_string(&file).map_err(|error| format!("{place}: {shown}: {error}"))?;
        (format!("{place}: {shown}"), Zeroizing::new(text))
    } else {
        let Some(text) = variable(variables, KEY) else { return Ok(None) };
        (KEY.to_owned(), Zeroizing::new(text.to_owned()))
    };
    let unfit = || format!("{place}: does not hold a key as `threads-identity callers add` prints it");
    let key = text.trim();
    if key.is_empty() {
        return Err(unfit().into());
    }
    let value = Zeroizing::new(format!("Bearer {key}"));
    let mut value = MetadataValue::try_from(value.as_str()).map_err(|_| unfit())?;
    value.set_sensitive(true);
    Ok(Some(value))
}

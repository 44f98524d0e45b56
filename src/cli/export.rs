//! `export`.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::Value;
use time::format_description::well_known::Rfc3339;

use super::private_file::{Fresh, require_free};
use super::progress::Progress;
use super::terminal::Printed;
use super::{CommandResult, ConfigArgs, Variables, beside, print_note};
use crate::exports::{self, Form, Taken};
use crate::ids::USER_ID_MAX;
use crate::readiness;
use crate::sealing::recipients::{Recipient, Sealer, read_recipients};
use crate::service::{App, Service};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Arguments of `export`.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// Everything that is stored of this user, as JSON, without tokens: the answer to
    /// somebody who asks what is known of them.
    #[arg(long, value_name = "ID", conflicts_with_all = ["tokens_sealed_to", "format"])]
    user: Option<String>,
    /// The app. May be left out if there is one, or one called `default`.
    #[arg(long, value_name = "APP")]
    app: Option<String>,
    /// How accounts are written.
    #[arg(long, value_enum, default_value_t = Format::Csv)]
    format: Format,
    /// Take the tokens out too, and seal the whole output for the age recipients in
    /// this file (`age-keygen -y`); `age --decrypt` opens it. Each token that leaves
    /// has its row in the trail.
    #[arg(long, value_name = "KEYFILE", requires = "out")]
    tokens_sealed_to: Option<PathBuf>,
    /// Where to write. Only you may read the file; it is there once it is whole.
    /// Otherwise it is printed.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A line for each account, and one for the names of the columns.
    Csv,
    /// A JSON object on each line.
    JsonLines,
}

/// Takes accounts, or a user, out.
pub(super) async fn run(args: ExportArgs, variables: &Variables) -> CommandResult {
    let recipients = args.tokens_sealed_to.as_deref().map(recipients).transpose()?;
    if let Some(user_id) = &args.user
        && !(1..=USER_ID_MAX).contains(&user_id.len())
    {
        return Err(format!("--user: must be 1 to {USER_ID_MAX} bytes").into());
    }
    let (service, app) = beside::build(args.config.config.as_deref(), args.app.as_deref(), variables)?;
    readiness::refuse_unfit(&service).await?;
    let mut out = Out::begin(args.out.as_deref())?;
    let taken = match &args.user {
        Some(user_id) => {
            user(&service, &app, user_id, &mut out).await?;
            Taken::default()
        }
        None => accounts(&service, &app, args.format, recipients.as_deref(), &mut out).await?,
    };
    out.end()?;
    service.store.pool.close().await;
    if let Some(file) = args.out.as_ref().filter(|_| args.user.is_none()) {
        let Taken { accounts, tokens, .. } = taken;
        let sealed = if recipients.is_some() {
            format!(", {tokens} of them with their tokens")
        } else {
            String::new()
        };
        print_note(format_args!("Wrote {accounts} accounts{sealed}, to {}.", file.display()));
    }
    match taken.unopened {
        0 => Ok(()),
        n => Err(format!(
            "{n} tokens do not open and were left out: the keyring lacks their key, or they were damaged; \
             `keys list` tells which keys hold values"
        )
        .into()),
    }
}

fn recipients(file: &Path) -> Result<Vec<Recipient>, Failure> {
    let shown = file.display();
    let text = fs::read_to_string(file).map_err(|error| format!("--tokens-sealed-to: {shown}: {error}"))?;
    read_recipients(&text).map_err(|error| format!("--tokens-sealed-to: {shown}: {error}").into())
}

async fn user(service: &Service, app: &App, user_id: &str, out: &mut Out) -> CommandResult {
    let mut found = exports::user(service, app, user_id)
        .await?
        .ok_or_else(|| format!("nothing is stored of user {user_id:?} in app {:?}", app.id()))?;
    let now = service.clock.now().format(&Rfc3339).unwrap_or_default();
    for (name, value) in [("app_id", app.id()), ("user_id", user_id), ("export_time", &now)] {
        found.insert(name.to_owned(), Value::String(value.to_owned()));
    }
    writeln!(out, "{:#}", Value::Object(found))?;
    Ok(())
}

async fn accounts(
    service: &Service,
    app: &App,
    format: Format,
    recipients: Option<&[Recipient]>,
    out: &mut Out,
) -> Result<Taken, Failure> {
    let form = if format == Format::Csv { Form::Csv } else { Form::JsonLines };
    let mut progress = Progress::new(exports::count(service, app).await?, "accounts");
    let each = |count| progress.advance(count);
    let taken = match recipients {
        None => exports::accounts(service, app, form, false, out, each).await?,
        Some(recipients) => {
            let mut sealer = Sealer::new(out, recipients)?;
            let taken = exports::accounts(service, app, form, true, &mut sealer, each).await?;
            sealer.finish()?;
            taken
        }
    };
    progress.finish();
    Ok(taken)
}

/// Where it is written.
enum Out {
    File(BufWriter<Fresh>, String),
    Printed(BufWriter<Printed>),
}

impl Out {
    fn begin(file: Option<&Path>) -> Result<Self, Failure> {
        let Some(file) = file else { return Ok(Self::Printed(BufWriter::new(Printed::default()))) };
        let shown = file.display().to_string();
        let fresh = require_free(file)
            .and_then(|()| Fresh::create(file))
            .map_err(|error| format!("--out: {shown}: {error}"))?;
        Ok(Self::File(BufWriter::new(fresh), shown))
    }

    fn end(self) -> CommandResult {
        match self {
            Self::Printed(mut out) => Ok(out.flush()?),
            Self::File(out, shown) => {
                let kept = out.into_inner().map_err(io::IntoInnerError::into_error).and_then(Fresh::keep);
                kept.map_err(|error| format!("--out: {shown}: {error}").into())
            }
        }
    }
}

impl Write for Out {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(out, _) => out.write(data),
            Self::Printed(out) => out.write(data),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(out, _) => out.flush(),
            Self::Printed(out) => out.flush(),
        }
    }
}

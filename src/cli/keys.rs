//! `keys generate` and `keys list`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

use super::{CommandResult, print};
use crate::clock::{Clock as _, SystemClock};
use crate::sealing::Keyring;

/// Makes a keyring, or adds a key to the one that is there.
pub(super) fn generate(file: &Path, inline: bool) -> CommandResult {
    let now = SystemClock.now().replace_nanosecond(0)?.format(&Rfc3339)?;
    if inline {
        print(Keyring::generate(&now).to_inline().as_str());
        return Ok(());
    }
    let shown = file.display();
    if file.exists() {
        let mut keyring = read(file)?;
        let id = keyring.add_key(&now);
        write(file, &keyring).map_err(|error| format!("{shown}: {error}"))?;
        print(format_args!(
            "Added key {id} to {shown}. Give the file to every replica; the active key is the same as before."
        ));
    } else {
        write(file, &Keyring::generate(&now)).map_err(|error| format!("{shown}: {error}"))?;
        print(format_args!(
            "Made {shown}. Keep a copy apart from the database's backups: without it no stored token opens."
        ));
    }
    Ok(())
}

/// Lists the keys.
pub(super) fn list(file: &Path, json: bool) -> CommandResult {
    let keys = read(file)?.describe();
    if json {
        print(serde_json::to_string(&keys)?);
        return Ok(());
    }
    print("ID        ACTIVE  MADE");
    for key in keys {
        print(format_args!(
            "{:<8}  {:<6}  {}",
            key.id,
            if key.active { "yes" } else { "no" },
            key.create_time
        ));
    }
    Ok(())
}

fn read(file: &Path) -> Result<Keyring, Box<dyn std::error::Error + Send + Sync>> {
    let shown = file.display();
    let text = fs::read_to_string(file).map(Zeroizing::new).map_err(|error| format!("{shown}: {error}"))?;
    Ok(Keyring::parse(&text).map_err(|error| format!("{shown}: {error}"))?)
}

/// Writes a keyring.
pub(crate) fn write(file: &Path, keyring: &Keyring) -> io::Result<()> {
    write_private(file, keyring.to_toml().as_bytes())
}

/// Writes a file that its owner alone may read, beside the old one, and puts it
/// in its place, so that no interruption loses what was there.
pub(crate) fn write_private(file: &Path, content: &[u8]) -> io::Result<()> {
    let fresh = file.with_extension("new");
    // What an interruption left may be open to others, or a link to elsewhere.
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let mut out = options.open(&fresh)?;
    out.write_all(content)?;
    out.sync_all()?;
    fs::rename(&fresh, file)
}

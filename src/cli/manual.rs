//! `completions` and `man`: what shells and `man` know of this program, made of the
//! command line itself.

use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;

use super::{CommandResult, print_note, terminal};

/// The name of the binary.
const NAME: &str = "threads-identity";

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Write a page for each command into this folder. Otherwise the first page is
    /// printed.
    folder: Option<PathBuf>,
}

/// Prints the completions of a shell.
pub(super) fn completions(args: &CompletionsArgs, command: &Command) -> CommandResult {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut shown(command), NAME, &mut script);
    terminal::put(String::from_utf8(script)?.trim_end())?;
    Ok(())
}

/// Prints the manual page, or writes all of them.
pub(super) fn man(args: &ManArgs, command: &Command) -> CommandResult {
    let command = shown(command);
    if let Some(folder) = &args.folder {
        return write_pages(folder, command).map_err(|error| format!("{}: {error}", folder.display()).into());
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    terminal::put(String::from_utf8(page)?.trim_end())?;
    Ok(())
}

fn write_pages(folder: &Path, command: Command) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(command, folder)?;
    print_note(format_args!("The pages are in {}: man -l {0}/{NAME}.1", folder.display()));
    Ok(())
}

/// The command line without what is hidden, which some shells would offer all the same.
fn shown(command: &Command) -> Command {
    let kept = command.get_subcommands().filter(|sub| !sub.is_hide_set()).cloned();
    Command::new(NAME)
        .version(env!("CARGO_PKG_VERSION"))
        .about(command.get_about().cloned().unwrap_or_default())
        .after_help(command.get_after_help().cloned().unwrap_or_default())
        .subcommand_required(true)
        .subcommands(kept)
}

//! `doctor`.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{ConfigArgs, Variables, print};
use crate::doctor::{self, Level, Report};

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Ask Threads nothing: not whether it knows the apps, and not the time.
    #[arg(long)]
    offline: bool,
    /// Count warnings as problems.
    #[arg(long)]
    strict: bool,
    /// Print a JSON object for each thing looked at, and one that counts.
    #[arg(long)]
    json: bool,
}

/// What `doctor` exits with when something does not work.
const PROBLEMS: u8 = 1;

/// Looks at everything and says what it found.
pub(super) async fn run(
    args: DoctorArgs,
    variables: &Variables,
) -> Result<ExitCode, Box<dyn std::error::Error + Send + Sync>> {
    let report = doctor::examine(args.config.config.as_deref(), variables, !args.offline).await;
    if args.json {
        for finding in report.findings() {
            print(serde_json::to_string(finding)?);
        }
    } else {
        print_table(&report);
    }
    let (problems, warnings) = (report.count(Level::Problem), report.count(Level::Warning));
    if args.json {
        print(json!({ "problems": problems, "warnings": warnings }));
    }
    let failed = problems > 0 || (args.strict && warnings > 0);
    Ok(if failed { ExitCode::from(PROBLEMS) } else { ExitCode::SUCCESS })
}

fn print_table(report: &Report) {
    for finding in report.findings() {
        let mark = match finding.level {
            Level::Ok => "ok      ",
            Level::Warning => "WARNING ",
            Level::Problem => "PROBLEM ",
        };
        print(format_args!("{mark} {}: {}", finding.subject, finding.found));
        if let Some(fix) = &finding.fix {
            print(format_args!("          -> {fix}"));
        }
    }
    let (problems, warnings) = (report.count(Level::Problem), report.count(Level::Warning));
    print(format_args!(
        "\n{} things looked at: {problems} problems, {warnings} warnings.",
        report.findings().len()
    ));
}

//! The results, as a table for people.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::ground::Turns;

/// What a figure should be.
#[derive(Clone, Copy)]
pub enum Aim {
    AtLeast(f64),
    AtMost(f64),
    /// Nobody has said.
    None,
}

/// One comparison, or one figure.
pub struct Finding {
    pub name: String,
    pub aim: Aim,
    /// Of each round.
    pub figures: Vec<f64>,
    /// What the figures are in; empty for a ratio.
    pub unit: &'static str,
    /// The service's own figures, and what it was compared with.
    pub ours: String,
    pub theirs: String,
}

impl Finding {
    pub fn middle(&self) -> f64 {
        median(&self.figures)
    }

    /// How much better than its aim it is: 1 just meets it.
    pub fn standing(&self) -> Option<f64> {
        match self.aim {
            Aim::AtLeast(aim) => Some(self.middle() / aim),
            Aim::AtMost(aim) => Some(aim / self.middle()),
            Aim::None => None,
        }
    }

    pub fn aim(&self) -> String {
        match self.aim {
            Aim::AtLeast(aim) => with_unit(&format!("≥ {aim}"), self.unit),
            Aim::AtMost(aim) => with_unit(&format!("≤ {aim}"), self.unit),
            Aim::None => "–".to_owned(),
        }
    }

    pub fn figure(&self) -> String {
        let (least, most) =
            self.figures.iter().fold((f64::MAX, f64::MIN), |(least, most), &f| (least.min(f), most.max(f)));
        let digits = if self.unit.is_empty() { 2 } else { 1 };
        with_unit(&format!("{:.digits$} [{least:.digits$} – {most:.digits$}]", self.middle()), self.unit)
    }

    fn verdict(&self) -> &'static str {
        match self.standing() {
            None => "",
            Some(standing) if standing >= 1.0 => "met",
            Some(_) => "**missed**",
        }
    }
}

fn with_unit(figure: &str, unit: &str) -> String {
    if unit.is_empty() { figure.to_owned() } else { format!("{figure} {unit}") }
}

/// What one call took of the processors, in microseconds, where.
#[derive(PartialEq)]
pub struct Usage {
    what: String,
    side: &'static str,
    generator: f64,
    server: f64,
    postgres: f64,
    simulator: f64,
}

impl Usage {
    pub fn new(what: &str, turns: &Turns) -> Self {
        Self {
            what: what.to_owned(),
            side: turns.side,
            generator: median(&turns.each(|turn| turn.generator)),
            server: median(&turns.each(|turn| turn.server)),
            postgres: median(&turns.each(|turn| turn.postgres)),
            simulator: median(&turns.each(|turn| turn.simulator)),
        }
    }
}

/// Where the time of the processors goes, in Markdown.
pub fn usage_table(usages: &[Usage]) -> String {
    let mut text =
        "| processor time of a call | side | the side itself | Postgres | the load generator | the simulator | in all |\n\
                    | --- | --- | --- | --- | --- | --- | --- |\n"
            .to_owned();
    for Usage { what, side, generator, server, postgres, simulator } in usages {
        let all = server + postgres + generator + simulator;
        writeln!(
            text,
            "| {what} | {side} | {server:.0} µs | {postgres:.0} µs | {generator:.0} µs | {simulator:.0} µs | {all:.0} µs |"
        )
        .unwrap();
    }
    text
}

pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

/// The table, in Markdown.
pub fn table(findings: &[Finding]) -> String {
    let mut text = "| what | aim | median [least – most] | | the service | beside it |\n\
                    | --- | --- | --- | --- | --- | --- |\n"
        .to_owned();
    for finding in findings {
        let (name, aim, figure, verdict) =
            (&finding.name, finding.aim(), finding.figure(), finding.verdict());
        writeln!(text, "| {name} | {aim} | {figure} | {verdict} | {} | {} |", finding.ours, finding.theirs)
            .unwrap();
    }
    text
}

/// Puts a text between the marks of a page, in the place of what was there.
pub fn insert(page: &Path, name: &str, text: &str) {
    let old = fs::read_to_string(page).unwrap();
    let (begin, end) = (format!("<!-- {name}:begin -->\n"), format!("<!-- {name}:end -->"));
    let (before, rest) = old.split_once(&begin).unwrap();
    let (_, after) = rest.split_once(&end).unwrap();
    fs::write(page, format!("{before}{begin}{text}{end}{after}")).unwrap();
}

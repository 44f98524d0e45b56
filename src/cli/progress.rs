//! How far a long command has come.

use std::io::{IsTerminal as _, stderr};

use indicatif::{ProgressBar, ProgressStyle};

use super::print_note;

/// After how many things a line is printed where there is no terminal.
const LINE_EVERY: u64 = 10_000;

/// How far it has come: a bar on a terminal, lines elsewhere.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    things: &'static str,
    total: u64,
    done: u64,
}

impl Progress {
    /// Begins with nothing of so many things, which are called so.
    pub(super) fn new(total: u64, things: &'static str) -> Self {
        let bar = (stderr().is_terminal() && total > 0).then(|| {
            let style =
                format!("{{bar:40}} {{human_pos}} of {{human_len}} {things}, {{per_sec}}, {{eta}} left");
            let style = ProgressStyle::with_template(&style).unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(total).with_style(style)
        });
        Self { bar, things, total, done: 0 }
    }

    /// So many more are done.
    pub(super) fn advance(&mut self, by: u64) {
        let before = self.done / LINE_EVERY;
        self.done += by;
        match &self.bar {
            Some(bar) => bar.set_position(self.done),
            None if self.done / LINE_EVERY > before => {
                print_note(format_args!("{} of {} {}", self.done, self.total, self.things));
            }
            None => {}
        }
    }

    /// Tells a person something meanwhile.
    pub(super) fn tell(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| print_note(line)),
            None => print_note(line),
        }
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

//! One table of the configuration, read key by key. Every problem is noted
//! under its full key, and reading goes on.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::{Table, Value};
use url::Url;

use super::is_loopback;

/// The problems found so far.
#[derive(Default)]
pub(super) struct Problems(RefCell<Vec<String>>);

impl Problems {
    pub(super) fn note(&self, key: &str, what: &str) {
        self.0.borrow_mut().push(format!("{key}: {what}"));
    }

    pub(super) fn take(&self) -> Vec<String> {
        self.0.take()
    }
}

/// A table that is being read; what is left at the end is unknown.
pub(super) struct Section<'a> {
    table: Table,
    path: String,
    folder: &'a Path,
    problems: &'a Problems,
}

impl<'a> Section<'a> {
    pub(super) fn root(table: Table, folder: &'a Path, problems: &'a Problems) -> Self {
        Self { table, path: String::new(), folder, problems }
    }

    fn key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    pub(super) fn problem(&self, key: &str, what: &str) {
        self.problems.note(&self.key(key), what);
    }

    /// Whether something is wrong already with a key or below it.
    pub(super) fn has_problems_in(&self, key: &str) -> bool {
        let key = self.key(key);
        self.problems.0.borrow().iter().any(|problem| problem.starts_with(&key))
    }

    /// Whether a key is set, whatever to.
    pub(super) fn holds(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// A table below this one; empty when it is absent.
    pub(super) fn section(&mut self, key: &str) -> Section<'a> {
        let table = match self.table.remove(key) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(_) => {
                self.problem(key, "must be a table, [like.this]");
                Table::new()
            }
        };
        Section { table, path: self.key(key), folder: self.folder, problems: self.problems }
    }

    /// A list of tables below this one.
    pub(super) fn sections(&mut self, key: &str) -> Vec<Section<'a>> {
        let list = match self.table.remove(key) {
            None => Vec::new(),
            Some(Value::Array(list)) => list,
            Some(_) => {
                self.problem(key, "must be a list of tables, [[like.this]], which only the file can hold");
                Vec::new()
            }
        };
        let sections = list.into_iter().enumerate().map(|(i, value)| {
            let path = self.key(&format!("{key}.{i}"));
            let table = if let Value::Table(table) = value {
                table
            } else {
                self.problems.note(&path, "must be a table");
                Table::new()
            };
            Section { table, path, folder: self.folder, problems: self.problems }
        });
        sections.collect()
    }

    /// Text that is not empty.
    pub(super) fn string(&mut self, key: &str) -> Option<String> {
        match self.table.remove(key)? {
            Value::String(text) if text.trim().is_empty() => {
                self.problem(key, "is empty: set it or leave it out");
                None
            }
            Value::String(text) => Some(text),
            _ => {
                self.problem(key, "must be text in quotes");
                None
            }
        }
    }

    /// Text, where empty has a meaning.
    pub(super) fn string_or_empty(&mut self, key: &str) -> Option<String> {
        if let Some(Value::String(text)) = self.table.get(key)
            && text.is_empty()
        {
            self.table.remove(key);
            return Some(String::new());
        }
        self.string(key)
    }

    pub(super) fn required(&mut self, key: &str) -> Option<String> {
        if !self.table.contains_key(key) {
            self.problem(key, "is required");
        }
        self.string(key)
    }

    /// A secret, as `key` or in the file that `key_file` names. A newline at
    /// the end of such a file is not part of it.
    pub(super) fn secret(&mut self, key: &str) -> Option<String> {
        let file_key = format!("{key}_file");
        let direct = self.string(key);
        let Some(path) = self.path(&file_key) else { return direct };
        if direct.is_some() {
            self.problem(&file_key, &format!("is set beside `{key}`: one of the two holds the secret"));
            return None;
        }
        match std::fs::read_to_string(&path) {
            Ok(text) if text.trim_end().is_empty() => {
                self.problem(&file_key, "names an empty file");
                None
            }
            Ok(text) => Some(text.trim_end_matches(['\n', '\r']).to_owned()),
            Err(error) => {
                self.problem(&file_key, &format!("cannot be read: {error}"));
                None
            }
        }
    }

    /// A path; a relative one starts where the configuration file stands.
    pub(super) fn path(&mut self, key: &str) -> Option<PathBuf> {
        self.string(key).map(|text| self.folder.join(text))
    }

    /// A list of texts; in the environment, separated by commas or spaces.
    pub(super) fn strings(&mut self, key: &str) -> Option<Vec<String>> {
        let list = match self.table.remove(key)? {
            Value::String(text) => {
                text.split([',', ' ']).filter(|part| !part.is_empty()).map(str::to_owned).collect()
            }
            Value::Array(list) => {
                let mut texts = Vec::with_capacity(list.len());
                for (i, value) in list.into_iter().enumerate() {
                    match value {
                        Value::String(text) if !text.is_empty() => texts.push(text),
                        _ => self.problem(&format!("{key}.{i}"), "must be text in quotes, not empty"),
                    }
                }
                texts
            }
            _ => {
                self.problem(key, "must be a list of texts");
                return None;
            }
        };
        Some(list)
    }

    /// A table of texts.
    pub(super) fn string_table(&mut self, key: &str) -> Vec<(String, String)> {
        let section = self.section(key);
        let mut pairs = Vec::new();
        for (name, value) in section.table {
            match value {
                Value::String(text) => pairs.push((name, text)),
                _ => self.problem(&format!("{key}.{name}"), "must be text in quotes"),
            }
        }
        pairs
    }

    pub(super) fn boolean(&mut self, key: &str, default: bool) -> bool {
        match self.table.remove(key) {
            None => default,
            Some(Value::Boolean(value)) => value,
            Some(Value::String(text)) if text == "true" => true,
            Some(Value::String(text)) if text == "false" => false,
            Some(_) => {
                self.problem(key, "must be true or false");
                default
            }
        }
    }

    pub(super) fn integer(&mut self, key: &str, default: i64, range: RangeInclusive<i64>) -> i64 {
        let value = match self.table.remove(key) {
            None => return default,
            Some(Value::Integer(value)) => Some(value),
            Some(Value::String(text)) => text.parse().ok(),
            Some(_) => None,
        };
        value.filter(|value| range.contains(value)).unwrap_or_else(|| {
            self.problem(key, &format!("must be a number from {} to {}", range.start(), range.end()));
            default
        })
    }

    /// A number of things.
    pub(super) fn count(&mut self, key: &str, default: i64, range: RangeInclusive<i64>) -> usize {
        usize::try_from(self.integer(key, default, range)).unwrap_or(usize::MAX)
    }

    /// Whether a key is set, rightly or wrongly.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// A number from 0 to 1.
    pub(super) fn fraction(&mut self, key: &str, default: f64) -> f64 {
        let value = match self.table.remove(key) {
            None => return default,
            Some(Value::Float(value)) => Some(value),
            Some(Value::Integer(value)) => i32::try_from(value).ok().map(f64::from),
            Some(Value::String(text)) => text.parse().ok(),
            Some(_) => None,
        };
        value.filter(|value| (0.0..=1.0).contains(value)).unwrap_or_else(|| {
            self.problem(key, "must be a number from 0 to 1, such as 0.01");
            default
        })
    }

    /// A duration such as `"250ms"`, `"20s"`, `"15m"`, `"24h"` or `"30d"`.
    pub(super) fn duration(&mut self, key: &str, default: Duration) -> Duration {
        let Some(text) = self.string(key) else { return default };
        let parsed = parse_duration(&text).filter(|duration| !duration.is_zero());
        parsed.unwrap_or_else(|| {
            self.problem(key, "must be a duration such as \"250ms\", \"20s\", \"15m\", \"24h\" or \"30d\"");
            default
        })
    }

    pub(super) fn address(&mut self, key: &str, default: ([u8; 4], u16)) -> SocketAddr {
        let Some(text) = self.string(key) else { return default.into() };
        text.parse().unwrap_or_else(|_| {
            self.problem(key, "must be \"ip:port\", such as \"127.0.0.1:50051\" or \"[::]:50051\"");
            default.into()
        })
    }

    /// An address that secrets or people are sent to: https but on loopback, and
    /// without a user or a password, which browsers and people misread.
    pub(super) fn web_url(&self, key: &str, text: &str) -> Option<Url> {
        match Url::parse(text) {
            Ok(url) if url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url)) => {
                if url.username().is_empty() && url.password().is_none() {
                    return Some(url);
                }
                self.problem(key, "must have no user or password");
            }
            _ => self.problem(key, "must be an absolute https URL (http on loopback alone)"),
        }
        None
    }

    /// Notes every key that nobody asked for.
    pub(super) fn finish(self) {
        for key in self.table.keys() {
            self.problem(key, "is not a known key");
        }
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        "d" => number.checked_mul(86_400).map(Duration::from_secs),
        _ => None,
    }
}

//! The fields of a span, as JSON.
//!
//! Those of `tracing-subscriber` read and rewrite everything that is known of a span
//! when one more field becomes known, which happens in every call. These are written
//! once, where they belong.

use std::fmt::{self, Debug, Write};

use tracing::field::{Field, Visit};
use tracing::span::Record;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormattedFields;
use tracing_subscriber::fmt::format::{FormatFields, Writer};

/// Writes fields as one object. A field that is recorded twice stands there twice;
/// whoever reads it takes the later.
pub(super) struct JsonFields;

impl<'writer> FormatFields<'writer> for JsonFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        writer.write_char('{')?;
        let mut members = Members { writer: &mut writer, any: false, written: Ok(()) };
        fields.record(&mut members);
        members.written?;
        writer.write_char('}')
    }

    fn add_fields(&self, current: &'writer mut FormattedFields<Self>, fields: &Record<'_>) -> fmt::Result {
        let text = &mut current.fields;
        if text.pop().is_none() {
            text.push('{');
        }
        let any = text.len() > 1;
        let mut members = Members { writer: text, any, written: Ok(()) };
        fields.record(&mut members);
        members.written?;
        text.write_char('}')
    }
}

/// The members of an object that is open.
struct Members<'a> {
    writer: &'a mut dyn Write,
    /// Whether the next one needs a comma.
    any: bool,
    written: fmt::Result,
}

impl Members<'_> {
    fn add(&mut self, field: &Field, value: &serde_json::Value) {
        let comma = if std::mem::replace(&mut self.any, true) { "," } else { "" };
        let name = field.name();
        // A name that is a word of Rust is written with this in front of it.
        let name = name.strip_prefix("r#").unwrap_or(name);
        let written = write!(self.writer, "{comma}\"{name}\":{value}");
        self.written = self.written.and(written);
    }
}

impl Visit for Members<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, &value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, &value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, &value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, &value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, &value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, &format!("{value:?}").into());
    }
}

//! `docs/api.md`, written from the descriptors and their comments.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use prost_reflect::{
    Cardinality, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor,
    ServiceDescriptor,
};
use prost_types::method_options::IdempotencyLevel;

use crate::api::{Api, OPTIONAL, OUTPUT_ONLY, PACKAGE, REQUIRED, Terms, real_oneof};
use crate::reasons::Documented;

/// The document as it must stand in the repository.
pub fn document(api: &Api, reasons: &[Documented]) -> String {
    let mut document = Document {
        api,
        reasons: reasons.iter().map(Documented::name).collect(),
        states: states(api),
        kept: api.messages(),
        text: String::new(),
        headings: BTreeSet::new(),
    };
    document.front_page();
    for service in api.services() {
        document.service(&service);
    }
    document.resources();
    document.reasons(reasons);
    document.check_links();
    document.text
}

struct Document<'a> {
    api: &'a Api,
    reasons: BTreeSet<&'a str>,
    /// What values of other enums are called, some of which are called as reasons are.
    states: BTreeSet<String>,
    /// The messages that have yet to be written.
    kept: Vec<MessageDescriptor>,
    text: String,
    headings: BTreeSet<String>,
}

impl Document<'_> {
    fn line(&mut self, text: &str) {
        self.text += text;
        self.text.push('\n');
    }

    fn paragraph(&mut self, text: &str) {
        self.line(text);
        self.line("");
    }

    fn heading(&mut self, level: usize, title: &str) {
        assert!(self.headings.insert(anchor(title)), "two headings lead to #{}", anchor(title));
        self.paragraph(&format!("{} {title}", "#".repeat(level)));
    }

    fn front_page(&mut self) {
        self.line(
            "<!-- Made of the comments in proto/ by tests/contract.rs: change those, then `just api`. -->",
        );
        self.line("");
        self.heading(1, "The API");
        self.paragraph(&format!("Package `{PACKAGE}`."));
        for paragraph in self.api.front_page() {
            // "Credentials. Every call …": what it is about stands in front.
            let text = match paragraph.split_once(". ") {
                Some((about, rest)) if !about.contains(' ') => format!("**{about}.** {}", self.linked(rest)),
                _ => self.linked(&paragraph),
            };
            self.paragraph(&text);
        }
        self.line("| service | RPCs |");
        self.line("| --- | --- |");
        for service in self.api.services() {
            let names: Vec<String> = service.methods().map(|method| link(method.name())).collect();
            self.line(&format!("| {} | {} |", link(service.name()), names.join(", ")));
        }
        self.line("");
        self.paragraph("What they return: [Resources](#resources). How they fail: [Reasons](#reasons).");
    }

    fn service(&mut self, service: &ServiceDescriptor) {
        self.heading(2, service.name());
        for paragraph in self.api.paragraphs(&service.parent_file(), service.path()) {
            let text = self.linked(&paragraph);
            self.paragraph(&text);
        }
        for method in service.methods() {
            self.method(&method);
        }
    }

    fn method(&mut self, method: &MethodDescriptor) {
        self.heading(3, method.name());
        let mut paragraphs = self.api.paragraphs(&method.parent_service().parent_file(), method.path());
        let terms = Terms::read(&paragraphs.pop().unwrap()).unwrap();
        for paragraph in paragraphs {
            let text = self.linked(&paragraph);
            self.paragraph(&text);
        }
        let stream = if method.is_server_streaming() { "a stream of " } else { "" };
        let effects = match idempotency(method) {
            IdempotencyLevel::NoSideEffects => "`NO_SIDE_EFFECTS`: may be repeated freely",
            IdempotencyLevel::Idempotent => "`IDEMPOTENT`: done once, however often it is called",
            IdempotencyLevel::IdempotencyUnknown => "not declared; see above",
        };
        let path = format!("`/{}/{}`", method.parent_service().full_name(), method.name());
        let (role, reasons) = (self.linked(&terms.role), self.with_links(&terms.reasons, |_| true));
        self.line("| | |");
        self.line("| --- | --- |");
        let request = link(method.input().name());
        let response = format!("{stream}{}", link(method.output().name()));
        for (what, value) in [
            ("path", path.as_str()),
            ("request", &request),
            ("response", &response),
            ("idempotency", effects),
            ("role", &role),
            ("deadline", &terms.deadline),
            ("reasons", &reasons),
        ] {
            self.line(&format!("| {what} | {value} |"));
        }
        self.line("");
        self.whole_message(&method.input(), 4);
        self.whole_message(&method.output(), 4);
    }

    /// A message with those inside it.
    fn whole_message(&mut self, message: &MessageDescriptor, level: usize) {
        self.kept.retain(|kept| kept != message);
        self.heading(level, short(message.full_name()));
        for paragraph in self.api.paragraphs(&message.parent_file(), message.path()) {
            // "The request of GetAccount." is what the heading above says already.
            if paragraph.split_whitespace().count() > 4 {
                let text = self.linked(&paragraph);
                self.paragraph(&text);
            }
        }
        self.fields(message);
        for inner in message.child_messages() {
            self.whole_message(&inner, 4);
        }
        for inner in message.child_enums() {
            self.enumeration(&inner, 4);
        }
    }

    fn fields(&mut self, message: &MessageDescriptor) {
        if message.fields().len() == 0 {
            self.paragraph("It has no fields.");
            return;
        }
        self.line("| field | type | | |");
        self.line("| --- | --- | --- | --- |");
        let mut oneofs = BTreeSet::new();
        for field in message.fields() {
            if let Some(oneof) = real_oneof(&field)
                && oneofs.insert(oneof.name().to_owned())
            {
                let comment = self.api.oneof_comment(&oneof);
                let (behaviour, text) = taken_off(&comment);
                let text = self.cell(text);
                self.line(&format!("| *oneof* `{}` | | {behaviour} | {text} |", oneof.name()));
            }
            let comment = self.api.field_comment(&field);
            let (behaviour, text) = match self.api.behaviours(&field).as_slice() {
                [OPTIONAL] if real_oneof(&field).is_some() => ("or", comment.as_str()),
                [OPTIONAL] if comment.starts_with("Required ") => ("depends", comment.as_str()),
                [OPTIONAL | REQUIRED | OUTPUT_ONLY] => taken_off(&comment),
                _ => ("", comment.as_str()),
            };
            let (text, kind) = (self.cell(text), kind(&field));
            self.line(&format!(
                "| `{}` = {} | {kind} | {behaviour} | {text} |",
                field.name(),
                field.number()
            ));
        }
        self.line("");
    }

    fn enumeration(&mut self, descriptor: &EnumDescriptor, level: usize) {
        self.heading(level, short(descriptor.full_name()));
        for paragraph in self.api.paragraphs(&descriptor.parent_file(), descriptor.path()) {
            let text = self.linked(&paragraph);
            self.paragraph(&text);
        }
        self.line("| value | |");
        self.line("| --- | --- |");
        for value in descriptor.values() {
            let comment = self.api.comment(&descriptor.parent_file(), value.path());
            let text = self.cell(&comment);
            self.line(&format!("| `{}` = {} | {text} |", value.name(), value.number()));
        }
        self.line("");
    }

    /// What is neither a request nor a response.
    fn resources(&mut self) {
        self.heading(2, "Resources");
        while let Some(message) = self.kept.iter().find(|kept| kept.parent_message().is_none()).cloned() {
            self.whole_message(&message, 3);
        }
        for descriptor in self.api.enums() {
            if descriptor.parent_message().is_none() && descriptor.name() != "ErrorReason" {
                self.enumeration(&descriptor, 3);
            }
        }
    }

    fn reasons(&mut self, reasons: &[Documented]) {
        self.heading(2, "Reasons");
        let descriptor = self.api.enums().into_iter().find(|one| one.name() == "ErrorReason").unwrap();
        for paragraph in self.api.paragraphs(&descriptor.parent_file(), descriptor.path()) {
            self.paragraph(&paragraph);
        }
        for documented in reasons {
            self.heading(3, documented.name());
            let text = self.linked(&documented.prose);
            self.paragraph(&format!(
                "`{}` = {}, sent as `{}`. {text}",
                documented.name(),
                documented.reason as i32,
                documented.code
            ));
            self.line("```json");
            self.line(&documented.text.replace("` beside `", "\n"));
            self.line("```");
            self.line("");
        }
        // One line end at the end.
        self.text.truncate(self.text.trim_end().len());
        self.text.push('\n');
    }

    fn cell(&self, text: &str) -> String {
        self.linked(text).replace('|', "\\|")
    }

    /// The text with every reason and every RPC that it names as a link, unless it may
    /// mean a state of the same name.
    fn linked(&self, text: &str) -> String {
        self.with_links(text, |word| !self.states.contains(word))
    }

    /// What stands between backticks is left alone.
    fn with_links(&self, text: &str, is_reason: impl Fn(&str) -> bool) -> String {
        let mut linked = String::new();
        for (i, part) in text.split('`').enumerate() {
            if i % 2 == 1 {
                let _ = write!(linked, "`{part}`");
                continue;
            }
            let mut word = String::new();
            for c in part.chars().chain([' ']) {
                if c.is_ascii_alphanumeric() || c == '_' {
                    word.push(c);
                    continue;
                }
                let known = self.reasons.contains(word.as_str()) && is_reason(&word)
                    || self.api.methods().iter().any(|method| method.name() == word)
                    || self.api.services().iter().any(|service| service.name() == word);
                if known {
                    linked += &link(&word);
                } else {
                    linked += &word;
                }
                word.clear();
                linked.push(c);
            }
            linked.pop();
        }
        linked
    }

    fn check_links(&self) {
        for target in self.text.split("](#").skip(1).filter_map(|rest| rest.split(')').next()) {
            assert!(self.headings.contains(target), "nothing is called #{target}");
        }
        assert!(self.kept.is_empty(), "not written: {:?}", self.kept);
    }
}

/// The names of the values of all enums but that of the reasons, without their prefix.
fn states(api: &Api) -> BTreeSet<String> {
    let enums = api.enums().into_iter().filter(|one| one.name() != "ErrorReason");
    let values = enums.flat_map(|one| {
        let zero = one.default_value();
        let prefix = zero.name().trim_end_matches("UNSPECIFIED").to_owned();
        one.values().map(|value| value.name().trim_start_matches(&prefix).to_owned()).collect::<Vec<_>>()
    });
    values.collect()
}

fn idempotency(method: &MethodDescriptor) -> IdempotencyLevel {
    let options = method.method_descriptor_proto().options.clone().unwrap_or_default();
    options.idempotency_level()
}

/// Where a heading is found.
fn anchor(title: &str) -> String {
    let kept = title.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ' '));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

fn link(title: &str) -> String {
    format!("[{title}](#{})", anchor(title))
}

fn short(full_name: &str) -> &str {
    full_name.strip_prefix(PACKAGE).and_then(|name| name.strip_prefix('.')).unwrap_or(full_name)
}

/// "Required. The user." in two.
fn taken_off(comment: &str) -> (&'static str, &str) {
    for (word, behaviour) in
        [("Required. ", "required"), ("Optional. ", "optional"), ("Output only. ", "output only")]
    {
        if let Some(rest) = comment.strip_prefix(word) {
            return (behaviour, rest);
        }
    }
    ("", comment)
}

fn kind(field: &FieldDescriptor) -> String {
    let name = match field.kind() {
        Kind::Message(message) if message.package_name() == PACKAGE => link(short(message.full_name())),
        Kind::Message(message) => format!("`{}`", message.full_name()),
        Kind::Enum(descriptor) if descriptor.name() == "ErrorReason" => "[ErrorReason](#reasons)".to_owned(),
        Kind::Enum(descriptor) => link(short(descriptor.full_name())),
        scalar => format!("`{}`", format!("{scalar:?}").to_lowercase()),
    };
    if field.cardinality() == Cardinality::Repeated {
        format!("repeated {name}")
    } else if field.field_descriptor_proto().proto3_optional() {
        format!("{name}, may be absent")
    } else {
        name
    }
}

//! What `error_reason.proto` says of each reason, taken apart: shared by the test
//! that reads it and the test that provokes it.

use std::collections::BTreeSet;

use prost_reflect::DescriptorPool;
use serde_json::Value;
use threads_identity::proto::DESCRIPTORS;
use threads_identity::proto::v1::ErrorReason;

/// One reason as it is documented.
pub struct Documented {
    pub reason: ErrorReason,
    /// The name of the gRPC code, such as `NOT_FOUND`.
    pub code: String,
    /// What happened, what was done, what to do, and the keys of the metadata.
    pub prose: String,
    /// The example as it stands there, without the backticks around it.
    pub text: String,
    /// `ErrorInfo` without its domain.
    pub example: Value,
    /// The other detail that the example comes with.
    pub beside: Option<Value>,
}

impl Documented {
    /// Every reason but the zero, in the order of the file; or what is wrong with one.
    pub fn all() -> Vec<Result<Self, String>> {
        let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
        let descriptor = pool.get_enum_by_name("threads.identity.v1.ErrorReason").unwrap();
        let file = descriptor.parent_file();
        let info = file.file_descriptor_proto().source_code_info.clone().unwrap();
        let values = descriptor.values().filter(|value| value.number() != 0);
        let documented = values.map(|value| {
            let location = info.location.iter().find(|location| location.path == value.path());
            let comment = location.and_then(|location| location.leading_comments.clone()).unwrap_or_default();
            let comment = comment.split_whitespace().collect::<Vec<_>>().join(" ");
            let reason = ErrorReason::from_str_name(value.name()).unwrap();
            Self::read(reason, &comment).map_err(|what| format!("{}: {what}: {comment}", value.name()))
        });
        documented.collect()
    }

    fn read(reason: ErrorReason, comment: &str) -> Result<Self, String> {
        let (code, rest) = comment.split_once(". ").ok_or("no code")?;
        let (prose, text) = rest.split_once(" Example: ").ok_or("no example")?;
        let mut examples = text.split(" beside ").map(|text| {
            let json = text.strip_prefix('`').and_then(|text| text.strip_suffix('`')).ok_or("no `JSON`")?;
            serde_json::from_str::<Value>(json).map_err(|error| format!("{error}: {json}"))
        });
        let example = examples.next().ok_or("no example")??;
        let beside = examples.next().transpose()?;
        if examples.next().is_some() {
            return Err("more than two details".to_owned());
        }
        let text = text.trim_matches('`').to_owned();
        Ok(Self { reason, text, code: code.to_owned(), prose: prose.to_owned(), example, beside })
    }

    pub fn name(&self) -> &'static str {
        self.reason.as_str_name()
    }

    /// The keys that metadata may hold by what stands there.
    pub fn announced_keys(&self) -> BTreeSet<String> {
        let Some((_, keys)) = self.prose.split_once("Metadata: ") else { return BTreeSet::new() };
        let quoted = keys.split('`').skip(1).step_by(2);
        quoted.map(str::to_owned).collect()
    }

    /// The keys that the example's metadata holds.
    pub fn example_keys(&self) -> BTreeSet<String> {
        self.example["metadata"].as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect()
    }
}

/// The name of a gRPC code as it is written everywhere, such as `NOT_FOUND`.
pub fn code_name(code: tonic::Code) -> String {
    // `Debug` of a code is its name in camel case.
    let mut name = String::new();
    for c in format!("{code:?}").chars() {
        if c.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}

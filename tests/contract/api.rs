//! The public package as its descriptors tell of it, with every comment.

use std::collections::BTreeMap;

use prost_reflect::{
    DescriptorPool, EnumDescriptor, FieldDescriptor, FileDescriptor, MessageDescriptor, MethodDescriptor,
    OneofDescriptor, ServiceDescriptor,
};
use threads_identity::proto::DESCRIPTORS;

pub const PACKAGE: &str = "threads.identity.v1";
/// The numbers of `google.api.field_behavior`.
pub const OPTIONAL: i32 = 1;
pub const REQUIRED: i32 = 2;
pub const OUTPUT_ONLY: i32 = 3;

/// The public package, with its comments.
pub struct Api {
    pub pool: DescriptorPool,
    comments: BTreeMap<(String, Vec<i32>), String>,
}

impl Api {
    pub fn read() -> Self {
        let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
        let mut comments = BTreeMap::new();
        for file in pool.files() {
            let info = file.file_descriptor_proto().source_code_info.clone().unwrap_or_default();
            for location in info.location {
                let text = location.leading_comments.unwrap_or_default();
                comments.insert((file.name().to_owned(), location.path), text);
            }
        }
        Self { pool, comments }
    }

    pub fn files(&self) -> impl Iterator<Item = FileDescriptor> + '_ {
        self.pool.files().filter(|file| file.package_name() == PACKAGE)
    }

    pub fn methods(&self) -> Vec<MethodDescriptor> {
        self.files()
            .flat_map(|file| file.services().collect::<Vec<_>>())
            .flat_map(|s| s.methods().collect::<Vec<_>>())
            .collect()
    }

    pub fn messages(&self) -> Vec<MessageDescriptor> {
        self.pool.all_messages().filter(|message| message.package_name() == PACKAGE).collect()
    }

    pub fn enums(&self) -> Vec<EnumDescriptor> {
        self.pool.all_enums().filter(|descriptor| descriptor.package_name() == PACKAGE).collect()
    }

    /// The services in the order in which they are to be read.
    pub fn services(&self) -> Vec<ServiceDescriptor> {
        const ORDER: [&str; 4] =
            ["AuthorizationService", "AccountService", "ProfileService", "AccessTokenService"];
        let mut services: Vec<_> =
            self.files().flat_map(|file| file.services().collect::<Vec<_>>()).collect();
        services.sort_by_key(|service| ORDER.iter().position(|name| *name == service.name()));
        services
    }

    /// The paragraphs of the comment above something, each on one line.
    pub fn paragraphs(&self, file: &FileDescriptor, path: &[i32]) -> Vec<String> {
        let text = self.comments.get(&(file.name().to_owned(), path.to_vec())).map_or("", String::as_str);
        let lines = text.lines().map(str::trim).collect::<Vec<_>>().join("\n");
        let paragraphs =
            lines.split("\n\n").map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
        paragraphs.filter(|text| !text.is_empty()).collect()
    }

    /// The comment above something, on one line.
    pub fn comment(&self, file: &FileDescriptor, path: &[i32]) -> String {
        self.paragraphs(file, path).join(" ")
    }

    pub fn oneof_comment(&self, oneof: &OneofDescriptor) -> String {
        self.comment(&oneof.parent_message().parent_file(), oneof.path())
    }

    /// What is said of the package as a whole.
    pub fn front_page(&self) -> Vec<String> {
        const PACKAGE_NUMBER: i32 = 2;
        self.files().flat_map(|file| self.paragraphs(&file, &[PACKAGE_NUMBER])).collect()
    }

    pub fn field_comment(&self, field: &FieldDescriptor) -> String {
        self.comment(&field.parent_message().parent_file(), field.path())
    }

    pub fn behaviours(&self, field: &FieldDescriptor) -> Vec<i32> {
        let extension = self.pool.get_extension_by_name("google.api.field_behavior").unwrap();
        let options = field.options();
        let value = options.get_extension(&extension);
        value.as_list().unwrap().iter().map(|value| value.as_enum_number().unwrap()).collect()
    }

    /// Whether a message is, or lies in, the request or response of an RPC.
    pub fn role(&self, message: &MessageDescriptor) -> Role {
        let mut outermost = message.clone();
        while let Some(parent) = outermost.parent_message() {
            outermost = parent;
        }
        if self.methods().iter().any(|method| method.input() == outermost) {
            Role::Request
        } else if self.methods().iter().any(|method| method.output() == outermost) {
            Role::Response
        } else {
            Role::Resource
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Request,
    Response,
    Resource,
}

/// Whether a oneof stands in the file, and is not what `optional` makes.
pub fn is_real(oneof: &OneofDescriptor) -> bool {
    oneof.fields().any(|field| !field.field_descriptor_proto().proto3_optional())
}

/// The oneof that a field is one choice of.
pub fn real_oneof(field: &FieldDescriptor) -> Option<OneofDescriptor> {
    field.containing_oneof().filter(is_real)
}

/// The last paragraph of an RPC's comment: what it needs, how long it may take, and
/// how it may fail.
pub struct Terms {
    pub role: String,
    pub deadline: String,
    /// The reasons as they stand there, with what is said of them.
    pub reasons: String,
}

impl Terms {
    /// Reads "Role: … Deadline: … Reasons: …".
    pub fn read(paragraph: &str) -> Option<Self> {
        let rest = paragraph.strip_prefix("Role: ")?;
        let (role, rest) = rest.split_once(". Deadline: ")?;
        let (deadline, reasons) = rest.split_once(". Reasons: ")?;
        let reasons = reasons.strip_suffix('.')?;
        Some(Self { role: role.to_owned(), deadline: deadline.to_owned(), reasons: reasons.to_owned() })
    }
}

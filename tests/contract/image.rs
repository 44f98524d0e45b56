//! What was promised before: the committed image of the descriptors, against those
//! that are built now. `buf breaking` says the same and more, where it can be had.

use std::collections::BTreeMap;

use prost_reflect::{DescriptorPool, FieldDescriptor, Kind};

use crate::api::PACKAGE;

/// What has gone from `before`, or has become something else, and should not have.
pub fn broken(before: &DescriptorPool, now: &DescriptorPool) -> Vec<String> {
    let mut broken = Vec::new();
    for old in before.all_messages().filter(|message| message.package_name() == PACKAGE) {
        let Some(new) = now.get_message_by_name(old.full_name()) else {
            broken.push(format!("{} is gone", old.full_name()));
            continue;
        };
        for field in old.fields() {
            let name = field.full_name();
            match new.get_field(field.number()) {
                Some(kept) if same(&field, &kept) => {}
                Some(other) => broken.push(format!("{name} has become {}", other.full_name())),
                None => {
                    let number = new.reserved_ranges().any(|range| range.contains(&field.number()));
                    let named = new.reserved_names().any(|reserved| reserved == field.name());
                    if !(number && named) {
                        broken.push(format!(
                            "{name} is gone, and its number {} and its name are not reserved",
                            field.number()
                        ));
                    }
                }
            }
        }
    }
    for old in before.all_enums().filter(|descriptor| descriptor.package_name() == PACKAGE) {
        let Some(new) = now.get_enum_by_name(old.full_name()) else {
            broken.push(format!("{} is gone", old.full_name()));
            continue;
        };
        let names: BTreeMap<i32, String> =
            new.values().map(|value| (value.number(), value.name().to_owned())).collect();
        for value in old.values() {
            let reserved = new.reserved_ranges().any(|range| range.contains(&value.number()))
                && new.reserved_names().any(|name| name == value.name());
            if names.get(&value.number()).map(String::as_str) != Some(value.name()) && !reserved {
                broken.push(format!("{} = {} is gone and not reserved", value.full_name(), value.number()));
            }
        }
    }
    for service in before.services().filter(|service| service.package_name() == PACKAGE) {
        for method in service.methods() {
            let kept = now.get_service_by_name(service.full_name()).and_then(|now| {
                now.methods().find(|other| {
                    other.name() == method.name()
                        && other.is_server_streaming() == method.is_server_streaming()
                })
            });
            if kept.is_none() {
                broken.push(format!("{} is gone or streams otherwise", method.full_name()));
            }
        }
    }
    broken
}

fn same(old: &FieldDescriptor, new: &FieldDescriptor) -> bool {
    let kind = |field: &FieldDescriptor| match field.kind() {
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(descriptor) => descriptor.full_name().to_owned(),
        other => format!("{other:?}"),
    };
    let oneof = |field: &FieldDescriptor| field.containing_oneof().map(|oneof| oneof.name().to_owned());
    old.name() == new.name()
        && kind(old) == kind(new)
        && old.cardinality() == new.cardinality()
        && oneof(old) == oneof(new)
}

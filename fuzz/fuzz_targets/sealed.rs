//! Sealed values, under libFuzzer.

#![no_main]

use std::cell::OnceCell;

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/fuzz/properties/sealed.rs"]
mod sealed;

thread_local! {
    static PROPERTY: OnceCell<Box<dyn Fn(&[u8]) -> bool>> = const { OnceCell::new() };
}

fuzz_target!(|input: &[u8]| {
    PROPERTY.with(|property| property.get_or_init(|| Box::new(sealed::property()))(input));
});

//! What strangers send, changed at random: nothing panics, and what is taken is
//! what an independent reading takes.
//!
//! Here each property meets inputs made from examples by a generator with a fixed
//! seed. `just fuzz TARGET SECONDS` runs the same properties under libFuzzer, which
//! looks for inputs that reach new code.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::option_option,
    clippy::print_stdout,
    reason = "a test that cannot go on fails, a long one says how it went, and JSON tells null from absent"
)]

mod properties;

use std::time::{Duration, Instant};

use properties::{callback, configuration, page_token, provider_json, rpc, sealed, signed_request};

/// How many inputs a property meets.
const INPUTS: usize = 100_000;
/// The same where each input costs more: it is sealed, parsed or answered.
const INPUTS_SLOW: usize = 20_000;

/// A generator of numbers that is the same in every run: splitmix64.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of so many.
    fn below(&mut self, many: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(many.max(1)).unwrap()).unwrap()
    }

    fn one_of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }
}

/// An example, changed in a few places by what matters to the format.
fn changed(numbers: &mut Numbers, examples: &[&str], pieces: &[&str]) -> Vec<u8> {
    let mut bytes = numbers.one_of(examples).as_bytes().to_vec();
    for _ in 0..numbers.below(6) {
        let at = numbers.below(bytes.len() + 1);
        match numbers.below(6) {
            0 => bytes.insert(at, numbers.next().to_le_bytes()[0]),
            1 if at < bytes.len() => bytes[at] = numbers.next().to_le_bytes()[0],
            2 if at < bytes.len() => {
                let end = at + numbers.below(bytes.len() - at) + 1;
                bytes.drain(at..end);
            }
            3 => bytes.truncate(at),
            4 => {
                let repeated = bytes[at..].to_vec();
                bytes.extend(repeated);
            }
            _ => {
                let piece = numbers.one_of(pieces).bytes();
                bytes.splice(at..at, piece);
            }
        }
    }
    bytes
}

fn meet(property: impl Fn(&[u8]) -> bool, examples: &[&str], pieces: &[&str]) {
    meet_some(INPUTS, property, examples, pieces);
}

fn meet_some(inputs: usize, property: impl Fn(&[u8]) -> bool, examples: &[&str], pieces: &[&str]) {
    let mut numbers = Numbers(0x5eed);
    let taken = (0..inputs).filter(|_| property(&changed(&mut numbers, examples, pieces))).count();
    // Neither all nor nothing: the inputs lie on both sides of the line.
    assert!((inputs / 100..inputs * 99 / 100).contains(&taken), "{taken} of {inputs} were taken");
}

#[test]
fn a_callback_is_read_as_an_independent_reading_reads_it() {
    let property = callback::property();
    meet(property, &callback::EXAMPLES, &callback::PIECES);
}

#[test]
fn a_signed_request_is_read_as_an_independent_reading_reads_it() {
    meet(signed_request::property(), &signed_request::EXAMPLES, &signed_request::PIECES);
}

#[test]
fn an_answer_of_threads_is_read_as_an_independent_reading_reads_it() {
    meet(provider_json::property(), &provider_json::EXAMPLES, &provider_json::PIECES);
}

#[test]
fn nothing_opens_but_what_was_sealed_in_its_place() {
    meet_some(INPUTS_SLOW, sealed::property(), &sealed::EXAMPLES, &sealed::PIECES);
}

#[test]
fn no_page_token_leads_anywhere_but_those_of_the_list() {
    meet_some(INPUTS_SLOW, page_token::property(), &page_token::EXAMPLES, &page_token::PIECES);
}

#[test]
fn every_request_is_refused_for_what_is_wrong_with_it() {
    let examples = rpc::examples();
    let examples: Vec<&str> = examples.iter().map(String::as_str).collect();
    meet_some(INPUTS_SLOW, rpc::property(), &examples, &rpc::PIECES);
}

#[test]
fn no_configuration_panics_and_none_is_quoted() {
    meet_some(INPUTS_SLOW, configuration::property(), &configuration::EXAMPLES, &configuration::PIECES);
}

/// The same for minutes, with another seed every time.
fn meet_for_minutes(minutes: u64, property: impl Fn(&[u8]) -> bool, examples: &[&str], pieces: &[&str]) {
    let seed = u64::from_be_bytes(threads_identity::secret::random());
    println!("seed {seed:#x}");
    let mut numbers = Numbers(seed);
    let (start, mut inputs, mut taken) = (Instant::now(), 0_u64, 0_u64);
    while start.elapsed() < Duration::from_mins(minutes) {
        taken += u64::from(property(&changed(&mut numbers, examples, pieces)));
        inputs += 1;
    }
    println!("{inputs} inputs, {taken} taken by both readers, no panic, no difference");
}

#[test]
#[ignore = "takes minutes: run it by name"]
fn signed_requests_for_four_minutes() {
    meet_for_minutes(4, signed_request::property(), &signed_request::EXAMPLES, &signed_request::PIECES);
}

#[test]
#[ignore = "takes minutes: run it by name"]
fn callbacks_for_four_minutes() {
    meet_for_minutes(4, callback::property(), &callback::EXAMPLES, &callback::PIECES);
}

#[test]
#[ignore = "takes minutes: run it by name"]
fn answers_for_two_minutes() {
    meet_for_minutes(2, provider_json::property(), &provider_json::EXAMPLES, &provider_json::PIECES);
}

#[test]
#[ignore = "takes minutes: run it by name"]
fn sealed_values_for_two_minutes() {
    meet_for_minutes(2, sealed::property(), &sealed::EXAMPLES, &sealed::PIECES);
}

#[test]
#[ignore = "takes minutes: run it by name"]
fn page_tokens_for_two_minutes() {
    meet_for_minutes(2, page_token::property(), &page_token::EXAMPLES, &page_token::PIECES);
}

#[test]
#[ignore = "takes minutes: run it by name"]
fn configurations_for_two_minutes() {
    meet_for_minutes(2, configuration::property(), &configuration::EXAMPLES, &configuration::PIECES);
}

#[test]
#[ignore = "takes minutes: run it by name"]
fn requests_for_two_minutes() {
    let examples = rpc::examples();
    let examples: Vec<&str> = examples.iter().map(String::as_str).collect();
    meet_for_minutes(2, rpc::property(), &examples, &rpc::PIECES);
}

//! Whoever guesses: codes of deletions and states, at the real process.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::{StreamExt as _, stream};
use threads_identity::secret;

use crate::serve::CLIENT_SECRET;
use crate::siege::{Siege, assert_guarded, sign, user};

/// How often one peer may ask without being told to slow down.
const EACH: u32 = 50;
/// Of a state, the bytes that all have in common: the format and the key's id.
const HEADER: usize = 5;
/// Of a state, the bytes after them that may never be the same twice.
const SALT: usize = 16;

/// T20, in short.
#[tokio::test(flavor = "multi_thread")]
async fn no_code_is_guessed() {
    guess_codes("guesses", 40).await;
}

/// `cargo test --release --test commands guesses -- --ignored`: this and the next.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the same a hundred thousand times"]
async fn no_code_is_guessed_in_a_hundred_thousand() {
    guess_codes("guesses-many", 2000).await;
}

/// So many peers guess, each as often as it may.
async fn guess_codes(name: &str, peers: u32) {
    let siege = Siege::new(name).await;
    let person = siege.link("user-1", "full").await.unwrap().threads_user_id;
    let now = siege.controls.now();
    let notice = format!(r#"{{"algorithm":"HMAC-SHA256","issued_at":{now},"user_id":"{person}"}}"#);
    let (_, body) = siege.tell("/threads/data-deletion", &sign(CLIENT_SECRET, &notice)).await;
    let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
    let code = answer["confirmation_code"].as_str().unwrap();
    // Near ones, and ones as long but quite different.
    let guess = |number: u32| {
        let digest = secret::sha256(&[&number.to_be_bytes()]);
        let far = digest.iter().map(|byte| char::from(b'A' + byte % 8)).cycle().take(code.len()).collect();
        let mut near = code.as_bytes().to_vec();
        let place = number as usize % near.len();
        near[place] = if near[place] == b'0' { b'1' } else { b'0' };
        if number.is_multiple_of(2) { far } else { String::from_utf8(near).unwrap() }
    };
    let peers = stream::iter(0..peers).map(|peer| {
        let address = Ipv4Addr::from(Ipv4Addr::new(127, 1, 0, 0).to_bits() + peer);
        let client = reqwest::Client::builder().no_proxy().local_address(IpAddr::from(address));
        let (client, http) = (client.build().unwrap(), &siege.service.http);
        async move {
            let mut seen = HashSet::new();
            for number in peer * EACH..(peer + 1) * EACH {
                let url = format!("http://{http}/threads/data-deletion/{}", guess(number));
                let answer = client.get(url).send().await.unwrap();
                assert_guarded(&answer);
                seen.insert((answer.status().as_u16(), answer.text().await.unwrap()));
            }
            seen
        }
    });
    let seen: Vec<_> = peers.buffer_unordered(4).collect().await;
    let seen: HashSet<_> = seen.into_iter().flatten().collect();
    assert_eq!(seen.len(), 1, "every wrong one looks the same: {seen:?}");
    assert_eq!(seen.iter().next().unwrap().0, 404);
    let (status, _, page) = siege.browse(&format!("/threads/data-deletion/{code}"), &[]).await;
    assert!(status == 200 && page.contains("has been deleted"), "{page}");
}

/// T6, in short.
#[tokio::test(flavor = "multi_thread")]
async fn states_are_random_in_every_byte() {
    draw_states("states", 20_000).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the same a million times"]
async fn states_are_random_in_every_byte_of_a_million() {
    draw_states("states-many", 1_000_000).await;
}

async fn draw_states(name: &str, many: usize) {
    let siege = Siege::new(name).await;
    let states = stream::iter(0..many)
        .map(|_| async { URL_SAFE_NO_PAD.decode(siege.create(user("user-1")).await.unwrap().state).unwrap() })
        .buffer_unordered(64);
    let mut states = std::pin::pin!(states);
    let (mut seen, mut counts) = (HashSet::with_capacity(many), Vec::new());
    while let Some(state) = states.next().await {
        counts.resize(state.len() - HEADER, [0_u32; 256]);
        for (count, byte) in counts.iter_mut().zip(&state[HEADER..]) {
            count[usize::from(*byte)] += 1;
        }
        assert!(seen.insert(state[HEADER..HEADER + SALT].to_vec()), "two states of one salt");
    }
    for (position, counts) in counts.iter().enumerate() {
        let expected = f64::from(counts.iter().sum::<u32>()) / 256.0;
        let chi_square: f64 =
            counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum();
        // 255 on average with a deviation of 23: some six of them, for each of two hundred bytes.
        assert!((130.0..400.0).contains(&chi_square), "byte {position}: {chi_square}");
    }
}

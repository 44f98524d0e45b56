//! Years of many accounts, with nobody's attention.

use threads_identity::simulator::Endpoint;

use crate::harness::World;
use crate::refreshing::DAY;
use crate::seeding::seed;

/// A thousand accounts that were all linked on one day, for ten years. It takes
/// minutes in a debug build: `cargo test --release --test it years -- --ignored`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: by command, with --release"]
async fn ten_years_of_a_thousand_accounts_pass_without_a_loss() {
    pass(1000, 3650).await;
}

/// The same for a year and a half and a hundred accounts.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_accounts_pass_a_year_and_a_half_without_a_loss() {
    pass(100, 550).await;
}

async fn pass(accounts: u64, days: usize) {
    let world = World::start().await;
    seed(world.database_url(), &world.keyring, &world.controls, accounts, 0).await;
    let mut weeks = Vec::new();
    let mut expired = 0;
    for day in 0..days {
        if day % 7 == 0 {
            weeks.push(0);
        }
        let round = world.round().await;
        expired += round.expired;
        *weeks.last_mut().unwrap() += round.attempts;
        world.advance(DAY);
    }
    assert_eq!(expired, 0);
    let active = "select count(*) from accounts where state = 'ACTIVE'";
    assert_eq!(world.counted(active).await, i64::try_from(accounts).unwrap());
    let refreshes = weeks.iter().sum::<usize>();
    assert_eq!(world.controls.count(Endpoint::Refresh), refreshes);
    let cycles = days / 30;
    let expected = cycles * usize::try_from(accounts).unwrap();
    assert!(refreshes >= expected * 9 / 10 && refreshes <= expected * 11 / 10, "{refreshes} refreshes");
    // All were linked on one day; from the fourth cycle on that can hardly be seen.
    weeks.pop();
    let later = &weeks[4 * 30 / 7..];
    let mean = later.iter().sum::<usize>() as f64 / later.len() as f64;
    let busiest = *later.iter().max().unwrap() as f64;
    println!("{refreshes} refreshes; the busiest week had {:.2} times the mean of {mean:.0}", busiest / mean);
    // Few accounts make lumpy weeks: three standard deviations on top.
    let allowed = if accounts >= 1000 { 1.5 } else { 1.5 + 3.0 / mean.sqrt() };
    assert!(busiest <= allowed * mean, "{busiest} against {mean}");
}

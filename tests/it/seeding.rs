//! Many accounts at once, as if they had been linked today.

use threads_identity::ids::ThreadsUserId;
use threads_identity::refreshes::schedule::due_time;
use threads_identity::sealing::{Keyring, Place, Purpose};
use threads_identity::simulator::{Options, Persona};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::harness::World;

/// Puts accounts into the table for the numbered personas, each with a token of the
/// simulator's. User `user-N` owns account `N`.
pub async fn seed(world: &World, accounts: u64) {
    let keyring = Keyring::parse(&world.keyring).unwrap();
    let app = Options::default().client_id;
    let now = OffsetDateTime::from_unix_timestamp(world.controls.now()).unwrap();
    let life = std::time::Duration::from_secs(5_183_944);
    let (mut ids, mut people, mut users, mut tokens, mut due) = (vec![], vec![], vec![], vec![], vec![]);
    for number in 0..accounts {
        let persona = Persona::numbered(number);
        let id = keyring.id_key().account_id("default", &ThreadsUserId::parse(&persona.id).unwrap());
        let token = world.controls.grant_token(&persona.key, &app, "threads_basic", 0);
        let place = Place { purpose: Purpose::Token, app_id: "default", row: id.0.as_bytes() };
        ids.push(id.0);
        people.push(persona.id);
        users.push(format!("user-{number}"));
        tokens.push(keyring.seal(place, token.as_bytes()));
        due.push(due_time(id, now, now + life, world.service.refresh.minimum_age));
    }
    sqlx::query(
        "insert into accounts (account_id, app_id, threads_user_id, user_id, state, scopes, token,
                               token_expire_time, token_refresh_time, next_refresh_time, profile_fetch_time,
                               create_time, update_time, authorize_time)
         select id, 'default', person, owner, 'ACTIVE', 'threads_basic', token, $6 + interval '5183944 s', $6, due,
                $6, $6, $6, $6
         from unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[], $5::timestamptz[])
              as a(id, person, owner, token, due)",
    )
    .bind::<Vec<Uuid>>(ids)
    .bind(people)
    .bind(users)
    .bind(tokens)
    .bind(due)
    .bind(now)
    .execute(&mut world.sql().await)
    .await
    .unwrap();
}

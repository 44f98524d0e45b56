//! Many accounts at once, as if they had been linked today.

use std::time::Duration;

use sqlx::{Connection as _, PgConnection};
use threads_identity::ids::ThreadsUserId;
use threads_identity::refreshes::schedule::due_time;
use threads_identity::sealing::{Keyring, Place, Purpose};
use threads_identity::simulator::{Controls, Options, Persona};
use time::OffsetDateTime;
use uuid::Uuid;

/// How long the simulator's long-lived tokens live.
const LIFE: Duration = Duration::from_secs(5_183_944);

/// Puts accounts into the table for numbered personas, each with a token of the
/// simulator's that is `age` seconds old. User `user-N` owns account `N`.
pub async fn seed(database_url: &str, keyring: &str, controls: &Controls, accounts: u64, age: i64) {
    let keyring = Keyring::parse(keyring).unwrap();
    let app = Options::default().client_id;
    let obtained = OffsetDateTime::from_unix_timestamp(controls.now() - age).unwrap();
    let (mut ids, mut people, mut users, mut tokens, mut due) = (vec![], vec![], vec![], vec![], vec![]);
    for number in 0..accounts {
        let persona = Persona::numbered(number);
        let id = keyring.id_key().account_id("default", &ThreadsUserId::parse(&persona.id).unwrap());
        controls.add_persona(persona.clone());
        let token = controls.grant_token(&persona.key, &app, "threads_basic", age);
        let place = Place { purpose: Purpose::Token, app_id: "default", row: id.0.as_bytes() };
        ids.push(id.0);
        people.push(persona.id);
        users.push(format!("user-{number}"));
        tokens.push(keyring.seal(place, token.as_bytes()));
        due.push(due_time(id, obtained, obtained + LIFE, Duration::from_hours(25)));
    }
    let mut connection = PgConnection::connect(database_url).await.unwrap();
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
    .bind(obtained)
    .execute(&mut connection)
    .await
    .unwrap();
}

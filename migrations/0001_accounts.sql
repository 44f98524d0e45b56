-- A Threads account linked, or once linked, to a caller's user.
--
-- One row per app and Threads id. account_id is derived from the two (see
-- src/ids.rs), so that linking is one upsert on one primary key, and so that the
-- table can be distributed by it: no unique constraint lacks it and no foreign
-- key crosses it.
create table accounts (
    account_id uuid primary key,
    app_id text not null,
    -- Decimal digits. Text, because it exceeds what a double can hold and
    -- everybody compares it as text.
    threads_user_id text not null,
    -- The caller's own user, never parsed.
    user_id text not null,
    state text not null
        constraint accounts_state_known
        check (state in ('ACTIVE', 'REAUTHORIZATION_REQUIRED', 'UNLINKED')),
    state_reason text,
    -- Separated by single spaces, as RFC 6749 writes them.
    scopes text not null,

    -- Sealed. Never in the clear.
    token bytea,
    token_expire_time timestamptz,
    token_refresh_time timestamptz,
    -- To the minute, so that fetching a token often is not writing a row often.
    last_token_fetch_time timestamptz,

    -- The profile as Threads last returned it. Null is absent; empty is empty.
    username text,
    name text,
    picture_url text,
    biography text,
    is_verified boolean,
    profile_fetch_time timestamptz,

    create_time timestamptz not null,
    update_time timestamptz not null,
    -- When the person last consented. An older consent that finishes late does
    -- not replace a newer one's token.
    authorize_time timestamptz not null,

    -- How the last link was asked for, by which authorization, and what it did to
    -- this row. An upsert sees the row that it meets but cannot return it; these
    -- let one statement decide, and tell what it decided, without a race.
    link_mode text
        constraint accounts_link_mode_known
        check (link_mode in ('REJECT', 'TRANSFER', 'SIGN_IN')),
    link_authorization_id uuid,
    link_outcome text
        constraint accounts_link_outcome_known
        check (link_outcome in ('LINKED', 'RELINKED', 'REAUTHORIZED', 'TRANSFERRED')),
    link_previous_user_id text,

    constraint accounts_reason_unless_active
        check ((state = 'ACTIVE') = (state_reason is null)),
    constraint accounts_token_while_active
        check (state <> 'ACTIVE' or (token is not null and token_expire_time is not null
                                     and token_refresh_time is not null)),
    constraint accounts_nothing_left_when_unlinked
        check (state <> 'UNLINKED' or num_nonnulls(token, token_expire_time, token_refresh_time, username,
               name, picture_url, biography, is_verified, profile_fetch_time) = 0)
)
-- Token fetches and refreshes rewrite rows in place; room on the page lets that
-- happen without touching an index.
with (fillfactor = 80);

-- The accounts of one user, and of one app, by account id.
create index accounts_by_user on accounts (app_id, user_id, account_id);
create index accounts_by_app on accounts (app_id, account_id);

-- What this database belongs to. One row: a keyring with another id key would
-- take every account for a stranger, so it is refused.
create table deployment (
    only_row boolean primary key default true constraint deployment_has_one_row check (only_row),
    id_key_fingerprint bytea not null,
    create_time timestamptz not null
);

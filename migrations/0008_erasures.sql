-- Whom a person's "forget me" concerned, so that nothing older brings them back:
-- no consent given before, no write that was under way, no backup put back.

-- The ledger: of each account the newest erasure. It holds nothing readable;
-- account_id is a keyed hash of app and Threads id. Kept beside every backup
-- (`erase --export`), and read by every link.
create table erasures (
    account_id uuid primary key,
    app_id text not null,
    -- No consent of before counts. For an account that was erased because it was
    -- unlinked long ago this is its unlinking: a consent given since is a new one.
    erase_time timestamptz not null,
    cause text not null
        constraint erasures_cause_known check (cause in ('RETENTION', 'CALLER', 'OPERATOR', 'REPLAY'))
);
create index erasures_by_time on erasures (erase_time);

-- A link looks into the ledger, but as it was when its statement began. One that
-- waited for the lock of a row that was then erased inserts a new one, and must
-- look once more: it fails as a conflict, is tried again, and then sees.
create function erasure_has_the_last_word() returns trigger language plpgsql as $$
begin
    if exists (select from erasures e
               where e.account_id = new.account_id and e.erase_time > new.authorize_time) then
        raise exception 'the account was erased after this consent' using errcode = 'serialization_failure';
    end if;
    return null;
end
$$;
create trigger accounts_stay_erased after insert on accounts
    for each row execute function erasure_has_the_last_word();

-- Every place that names a user or an account is found without reading whole
-- tables. Measured, and what it costs: docs/decisions/0019.
create index authorizations_by_user on authorizations (app_id, user_id) where user_id is not null;
create index authorizations_by_account on authorizations (account_id) where account_id is not null;
create index audit_by_user on audit (app_id, user_id) where user_id is not null;
create index events_by_user on events (app_id, user_id) where user_id <> '';
-- Few rows: an account that was taken over from another user.
create index events_by_previous_user on events (app_id, previous_user_id) where previous_user_id is not null;
create index accounts_by_previous_user on accounts (app_id, link_previous_user_id)
    where link_previous_user_id is not null;

-- Set by `migrate --after-restore`: nothing is served until the ledger that was
-- kept beside the backup has been applied.
alter table deployment add column replay_required boolean not null default false;

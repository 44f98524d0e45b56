-- What Meta tells us of people: that somebody removed the app, or wants to be
-- forgotten.

-- What the people who asked to be forgotten may look up, by the code that Meta
-- shows them. Nothing here names anybody: the code is kept as its SHA-256, and was
-- made with a key that is not in this database.
create table deletion_requests (
    code_hash bytea primary key,
    app_id text not null,
    -- COMPLETED: nothing of the account is left. LINKED_SINCE: nothing was done,
    -- because the person had linked it anew after the request.
    state text not null
        constraint deletion_requests_state_known check (state in ('COMPLETED', 'LINKED_SINCE')),
    request_time timestamptz not null,
    complete_time timestamptz,
    constraint deletion_requests_time_when_completed
        check ((state = 'COMPLETED') = (complete_time is not null))
);
create index deletion_requests_by_time on deletion_requests (request_time);

-- When Meta made the newest notice by which the account was unlinked, so that the
-- same one, played back after the person has consented anew, is known.
alter table accounts add column deauthorize_time timestamptz;

-- When the URL of the newest consent was made: the person has not consented before.
-- authorize_time is when the browser's answer was first presented, so not after. The
-- consent lies between the two, and what was unlinked or erased in between stays so.
alter table accounts add column consent_begin_time timestamptz;

-- What else is known of the deed, such as which of the app's secrets signed.
alter table audit add column detail text;

alter table erasures
    drop constraint erasures_cause_known,
    add constraint erasures_cause_known
        check (cause in ('RETENTION', 'CALLER', 'OPERATOR', 'REPLAY', 'META'));

-- Whose short-lived token it is, so that an erasure finds links that are under way
-- for an account which is not there yet. No index: few are in progress at a time,
-- and those have one (authorizations_open).
alter table authorizations add column token_account_id uuid;

-- An erasure of an account that is not there yet sees neither its row nor what
-- would have to wait for it. Both ends therefore meet at a lock: the erasure takes
-- it before it looks for the row, a link after it has inserted one and before it
-- looks into the ledger. Whoever comes second sees what the first has done.
create or replace function erasure_has_the_last_word() returns trigger language plpgsql as $$
begin
    perform pg_advisory_xact_lock_shared(uuid_hash_extended(new.account_id, 0));
    if exists (select from erasures e
               where e.account_id = new.account_id and e.erase_time > coalesce(new.consent_begin_time, new.authorize_time)) then
        raise exception 'the account was erased after this consent' using errcode = 'serialization_failure';
    end if;
    return null;
end
$$;

-- What housekeeping finds old rows by. Three of the five tables need no index
-- for it: ids of authorizations, events and audit rows are in the order of time,
-- so what is old lies at one end of the primary key.

-- A code comes by its hash, which says nothing of when. The index grows at its
-- right end alone and a row is never updated, so a claim writes one entry more,
-- on a page that is in memory.
create index codes_by_claim on codes (claim_time);

-- Few rows, and none of those that are busy: a link, a token fetch or a refresh
-- of an account that is not unlinked puts nothing in here. They change update_time
-- or state only where an indexed column changes anyway, so no update that could
-- stay on its page has to leave it.
create index accounts_unlinked on accounts (update_time, account_id) where state = 'UNLINKED';

-- Since when the worst of them fails. Healthy accounts are not in here.
create index accounts_failing on accounts (refresh_failing_time)
    where state = 'ACTIVE' and refresh_failing_time is not null;

-- An account that is erased takes its user out of its older events; the trail of
-- an account is looked up by it too. This is the one index here that costs a link
-- something: an entry at a random place among a week of events, some 4 us of the
-- 200 that a link takes.
create index events_by_account on events (account_id, event_id);

-- Names an erasure where neither the account nor the user may be named. Random.
alter table audit add column erasure_id uuid;

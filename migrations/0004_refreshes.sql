-- What keeps a token alive. A token refreshes itself; whoever does it holds the
-- account's lease, calls Threads outside any transaction, and writes back only if
-- the attempt is still its own.
alter table accounts
    -- When to try next: half-way through the token's life at first, then by how
    -- the last attempt went.
    add column next_refresh_time timestamptz,
    -- Counts the attempts. Whoever writes back names the one it was given; a new
    -- consent and an unlinking count one up, so that nothing older writes over them.
    -- Begins with the time, so that an account that is erased and linked anew does
    -- not count the numbers of before again.
    add column refresh_attempt bigint not null
        default (extract(epoch from clock_timestamp()) * 1000000)::bigint,
    -- Until when nobody else may try, by this database's own clock.
    add column refresh_lease_time timestamptz,
    -- The token before, until the profile has been read with the new one and is
    -- the same person's.
    add column previous_token bytea,
    add column previous_token_expire_time timestamptz,
    add column previous_token_refresh_time timestamptz,
    -- When Threads first said that the token is dead or lacks its permission, and
    -- what that would make of the account. Said again ten minutes later, it does.
    add column strike_time timestamptz,
    add column strike_reason text,
    -- Since when every attempt has failed, how many did, and whether those who
    -- watch have been told.
    add column refresh_failing_time timestamptz,
    add column refresh_failures integer not null default 0,
    add column refresh_failing_told boolean not null default false,
    add constraint accounts_previous_token_is_whole
        check (num_nonnulls(previous_token, previous_token_expire_time, previous_token_refresh_time) in (0, 3)),
    add constraint accounts_no_attempt_when_unlinked
        check (state <> 'UNLINKED' or num_nonnulls(next_refresh_time, refresh_lease_time, previous_token, strike_time,
               strike_reason, refresh_failing_time) = 0);

update accounts
set next_refresh_time = token_refresh_time + (token_expire_time - token_refresh_time) / 2
where state = 'ACTIVE';

-- Nobody's token dies because nobody planned for it.
alter table accounts
    add constraint accounts_refresh_is_planned check (state <> 'ACTIVE' or next_refresh_time is not null);

-- What is due, and what has died; both small, for what is due is soon done.
create index accounts_by_next_refresh on accounts (next_refresh_time) where state = 'ACTIVE';
create index accounts_by_expiry on accounts (token_expire_time) where state = 'ACTIVE';

-- When anybody may next finish what was interrupted; whoever asks for the same
-- completion again need not wait for it.
alter table authorizations add column finish_time timestamptz;
create index authorizations_open on authorizations (claim_expire_time) where state = 'IN_PROGRESS';

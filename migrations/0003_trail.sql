-- What changed. Written in the transaction of the change itself; the tables are
-- the truth and this is how others hear of it.
create table events (
    event_id bigint generated always as identity primary key,
    -- A sequence is taken before commit, so "id greater than the last" loses
    -- rows. Readers take what lies below pg_snapshot_xmin, by (xid, event_id).
    xid xid8 not null default pg_current_xact_id(),
    app_id text not null,
    account_id uuid not null,
    user_id text not null,
    previous_user_id text,
    kind text not null,
    event_time timestamptz not null
);
create index events_in_commit_order on events (xid, event_id);

-- Who did what. For people who must answer for it, not for programs.
create table audit (
    audit_id bigint generated always as identity primary key,
    app_id text not null,
    account_id uuid,
    authorization_id uuid,
    user_id text,
    -- The name of the caller.
    caller text not null,
    action text not null,
    purpose text,
    audit_time timestamptz not null
);
create index audit_by_account on audit (account_id, audit_id);

-- Where it is tried whether the disk has room, before a code is spent: a row is
-- inserted and taken back. Nothing ever stands in it. Stored as it is: a
-- compressed filler would need no room. Autovacuum gives back what the trials
-- took.
create table room_trials (
    filler bytea not null
);
alter table room_trials alter column filler set storage external;

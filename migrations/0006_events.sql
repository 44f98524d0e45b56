-- How events are read: docs/decisions/0012 and 0013. What 0003 says of reading
-- them by xid was the plan before.

-- Part of the epoch of every cursor. Whoever puts the database back to an
-- earlier state raises it, and cursors of before are refused.
alter table deployment add column event_epoch integer not null default 0;
-- The highest event_id that was ever deleted. A cursor below it has lost events.
alter table deployment add column events_floor bigint not null default 0;

-- Events are delivered by event_id, up to where nothing is still uncommitted. No
-- version ever read this index, so that dropping it takes nothing from an old
-- one; writers need not keep it up any more. The column xid stays: it tells which
-- changes were one transaction.
drop index events_in_commit_order;

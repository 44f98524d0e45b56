-- The keys of the keyring that this database has heard of, so that a replica
-- can tell that it lacks one before a row tells it.
--
-- Every replica reports the key that it seals under, again and again. Retiring a
-- key leaves its row: a replica that comes back with an old file learns from it
-- that nobody else can open what it would seal.
create table sealing_keys (
    -- As it stands in the header of sealed values, in hexadecimal.
    key_id text primary key
        constraint sealing_keys_id_is_hex check (key_id ~ '^[0-9a-f]{8}$'),
    -- When a replica last reported that it seals under it; null if none ever did.
    last_active_time timestamptz,
    -- Since when no keyring needs it any more.
    retire_time timestamptz
);

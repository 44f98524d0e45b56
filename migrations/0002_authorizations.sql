-- One attempt to link or to sign in. The row is written when somebody first
-- tries to complete it: creating a URL writes nothing.
create table authorizations (
    authorization_id uuid primary key,
    app_id text not null,
    -- Whether it signs somebody in rather than link for a known user.
    sign_in boolean not null,
    -- The user it was created for; for a sign-in null until there is an outcome.
    user_id text,
    -- The account that it was created to reauthorize, or that it led to.
    account_id uuid,
    scopes text not null,
    -- Whether an account of another user is taken over.
    transfer boolean not null,
    -- SHA-256 of what the browser brought. Only the same may repeat.
    answer_hash bytea not null,

    state text not null
        constraint authorizations_state_known
        check (state in ('IN_PROGRESS', 'SUCCEEDED', 'DENIED', 'FAILED')),
    -- How far it has come while IN_PROGRESS: EXCHANGING (the code may have been
    -- sent), UNSENT (certainly not), EXCHANGED (the short-lived token is here).
    step text not null
        constraint authorizations_step_known
        check (step in ('EXCHANGING', 'UNSENT', 'EXCHANGED')),
    failure_reason text,
    -- Account.StateReason, where failure_reason is REAUTHORIZATION_REQUIRED.
    failure_state_reason text,
    outcome text
        constraint authorizations_outcome_known
        check (outcome in ('LINKED', 'RELINKED', 'REAUTHORIZED', 'TRANSFERRED')),

    -- Who is completing it, and until when nobody else may.
    claim_id uuid not null,
    claim_expire_time timestamptz not null,

    -- Sealed; only between the code exchange and the outcome.
    short_lived_token bytea,
    short_lived_expire_time timestamptz,

    create_time timestamptz not null,
    attempt_time timestamptz not null,
    end_time timestamptz,

    constraint authorizations_end_unless_in_progress
        check ((state = 'IN_PROGRESS') = (end_time is null)),
    constraint authorizations_failure_unless_succeeded
        check ((state in ('DENIED', 'FAILED')) = (failure_reason is not null)),
    constraint authorizations_outcome_when_succeeded
        check ((state = 'SUCCEEDED') = (outcome is not null)),
    constraint authorizations_token_while_in_progress
        check (short_lived_token is null or state = 'IN_PROGRESS')
);

-- Every code that was ever presented, for a day (codes live an hour). Whoever
-- does not get its row in never reaches Threads.
create table codes (
    code_hash bytea primary key,
    authorization_id uuid not null,
    claim_time timestamptz not null
);

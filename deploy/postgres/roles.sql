-- What each process may do in the database, and no more. For PostgreSQL; run it in the database of
-- edict, as the role that owns the tables (the one `edict migrate` uses), after every `edict migrate`:
--
--     psql "$OWNER_URL" -v ON_ERROR_STOP=1 -f deploy/postgres/roles.sql
--
-- It may be run again at any time, under load too: all of it is one transaction. The roles below are
-- groups and cannot log in. Logins are yours, one for each host or pod, so that one that was stolen
-- can be dropped by itself:
--
--     CREATE ROLE gpu7 LOGIN PASSWORD '…' IN ROLE edict_worker;
--
-- | role            | for                                                                   |
-- |-----------------|-----------------------------------------------------------------------|
-- | the owner       | `edict migrate`, `edict keys`, this file                              |
-- | edict_control   | `edict control`, and people who steer, prune or schedule by hand      |
-- | edict_api       | `edict serve`, and clients that submit                                |
-- | edict_worker    | `edict worker`                                                        |
-- | edict_scaler    | whatever counts jobs to scale workers (KEDA)                          |
--
-- A table that is named nowhere here is nobody's but the owner's.
BEGIN;

-- Making roles takes CREATEROLE; where the owner lacks it, somebody else makes these four first.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['edict_control', 'edict_api', 'edict_worker', 'edict_scaler'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', name);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL; -- for another database of this server, a moment ago
            END;
        END IF;
    END LOOP;
    -- A role that may do nothing may still connect and fill the disk with temporary tables.
    EXECUTE format('REVOKE CONNECT, TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format(
        'GRANT CONNECT ON DATABASE %I TO edict_control, edict_api, edict_worker, edict_scaler',
        current_database());
    -- Submissions of thousands of rows come in through a temporary table.
    EXECUTE format(
        'GRANT TEMPORARY ON DATABASE %I TO edict_control, edict_api', current_database());
END
$$;

REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC, edict_control, edict_api, edict_worker, edict_scaler;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM PUBLIC, edict_control, edict_api, edict_worker, edict_scaler;
REVOKE ALL ON SCHEMA public FROM PUBLIC, edict_control, edict_api, edict_worker, edict_scaler;
GRANT USAGE ON SCHEMA public TO edict_control, edict_api, edict_worker, edict_scaler;

-- Everybody's: triggers count a batch's jobs in the name of whoever changes them.
GRANT INSERT ON batch_tallies TO edict_control, edict_api, edict_worker;
GRANT USAGE ON SEQUENCE batch_tallies_shard TO edict_control, edict_api, edict_worker;
-- Which tables are there.
GRANT SELECT ON alembic_version TO edict_control, edict_api, edict_worker;

-- Workers: claim, renew, and end what is there; neither make a job nor change what one asks for.
GRANT SELECT ON jobs TO edict_worker;
GRANT UPDATE (
    state, worker, token, attempts, losses, started_at, finished_at, due_at, lease_until, progress,
    error_code, error_message, result
) ON jobs TO edict_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON workers TO edict_worker;
GRANT SELECT, INSERT, UPDATE ON inversions TO edict_worker;
GRANT SELECT (id, gate) ON batches TO edict_worker;
GRANT SELECT, UPDATE (flagged) ON batch_jobs TO edict_worker;
-- Who is to be told of an end, and the telling, which control sends.
GRANT SELECT (id, job_id, batch_id, url, told), UPDATE (told) ON webhooks TO edict_worker;
GRANT INSERT ON webhook_deliveries TO edict_worker;

-- The HTTP API: make, look, steer; remove no job, and make no key.
GRANT SELECT, INSERT, UPDATE ON
    jobs, batches, batch_jobs, bulk_chunks, known_sources, webhooks, webhook_deliveries, schedules,
    firings, schedule_items, retentions, job_exports, marks
TO edict_api;
GRANT DELETE ON bulk_chunks, marks, schedules TO edict_api;
GRANT SELECT ON batch_tallies, workers TO edict_api;
-- Whoever retries a job has its noise tried again.
GRANT SELECT, UPDATE (losses) ON inversions TO edict_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON api_answers, api_submissions TO edict_api;
-- To count what a key has submitted, its row is locked, and a lock takes the right to change
-- something: the moment that is shown as its making.
GRANT SELECT, UPDATE (created_at) ON api_keys TO edict_api;

-- Control: all but the API's keys and books.
GRANT SELECT, INSERT, UPDATE, DELETE ON
    jobs, batches, batch_jobs, batch_tallies, inversions, bulk_chunks, known_sources, workers,
    webhooks, webhook_deliveries, schedules, firings, schedule_items, retentions, job_exports,
    deletions, turns, marks
TO edict_control;

-- Scaling: how many there are.
GRANT SELECT (id, state, model, paused, priority) ON jobs TO edict_scaler;

COMMIT;

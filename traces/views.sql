-- Views on the tables of schema.sql.

-- The trials that were scored, by what people group by.
CREATE VIEW grades AS
SELECT
    run,
    round,
    id AS trial,
    version,
    task,
    split,
    tags,
    cluster,
    repeat,
    score,                  -- between 0 (worst) and 1 (best)
    reason,                 -- what was wrong, never the answer
    started
FROM trials
WHERE score IS NOT NULL;

-- The latest run of each experiment: select * from trials where run in (select id from last_runs).
CREATE VIEW last_runs AS
SELECT
    runs.id,
    runs.experiment,
    runs.live,
    runs.written AS began,
    stops.reason AS stop    -- why the search ended; NULL: it is under way, or was interrupted
FROM runs
LEFT JOIN stops ON stops.run = runs.id
QUALIFY row_number() OVER (PARTITION BY runs.experiment ORDER BY runs.written DESC, runs.id DESC) = 1;

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

-- What needs a person, with what became of it: select * from inbox where verdict is null.
CREATE VIEW inbox AS
SELECT
    raised.id,
    raised.run,
    raised.kind,
    raised.concern,
    raised.experiment,
    raised.owner,
    raised.trial,
    raised.summary,
    raised.raised,
    raised.expires,
    last.verdict,           -- NULL: nobody has answered
    last.who,
    last.ruled,
    last.note
FROM (SELECT * FROM escalations QUALIFY row_number() OVER (PARTITION BY id ORDER BY written, seq) = 1) AS raised
LEFT JOIN (
    SELECT * FROM rulings QUALIFY row_number() OVER (PARTITION BY escalation ORDER BY written DESC, seq DESC) = 1
) AS last ON last.escalation = raised.id;

-- Who spent what, by run, role and model.
CREATE VIEW spend_by_role AS
SELECT
    run,
    role,                   -- maker, judge, summariser, a sub-agent; '': nobody said
    name AS model,
    sum(calls)::BIGINT AS calls,
    sum(input_tokens)::BIGINT AS input_tokens,
    sum(cached_tokens)::BIGINT AS cached_tokens,
    sum(output_tokens)::BIGINT AS output_tokens,
    CASE WHEN count(*) = count(dollars) THEN sum(dollars) END AS dollars, -- NULL: a price is unknown
    sum(seconds) AS seconds -- of the calls, which may have overlapped
FROM spans
WHERE operation = 'chat'
GROUP BY ALL;

-- From a commit back to what earned it: promotion → certification → its trials → what a person had to say about them.
CREATE VIEW audit AS
SELECT
    promotions.experiment,
    promotions.number,      -- the N of the tag
    promotions.commit,
    promotions.kind,
    certifications.id AS certification,
    certifications.run,
    trials.id AS trial,     -- spans.trial
    trials.version,
    trials.split,
    inbox.id AS escalation,
    inbox.concern,
    inbox.verdict,
    inbox.who
FROM promotions
LEFT JOIN certifications ON certifications.id = promotions.certification
LEFT JOIN trials ON trials.run = certifications.run AND trials.version IN (certifications.candidate, certifications.live)
LEFT JOIN inbox ON inbox.trial = trials.id;

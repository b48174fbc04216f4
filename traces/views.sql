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

-- The latest night of each experiment: select * from trials where run in (select id from last_runs). What was run aside,
-- by a check, a comparison, a calibration or a proposal that a person asked for, is no night.
CREATE VIEW last_runs AS
SELECT
    runs.id,
    runs.experiment,
    runs.live,
    runs.written AS began,
    stops.reason AS stop    -- why the search ended; NULL: it is under way, or was interrupted
FROM runs
LEFT JOIN stops ON stops.run = runs.id
WHERE NOT starts_with(runs.id, concat(runs.experiment, '-', runs.trigger, '-'))
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

-- What became of each finding, over all runs of its experiment: select * from finding_states where state = 'back'.
-- A mining is what one proposal had found when it was written. It shows the incumbent of then, so a kept change shows
-- in the minings after it. A proposal that had found nothing is none: it cannot be told from one that did not look.
--   open      the latest mining shows it, and no kept change made it rarer
--   answered  a kept change answers it, and the latest mining since then does not show it, or at under half its share
--   back      it had been answered, and the latest mining shows it at half its share or more again
--   refuted   two changes or more that answer it were compared to the end, and none was kept: its cause is another one
--   gone      nothing answered it, and the latest mining does not show it any more
-- "Its share" is that of the last mining before the answer. A change that was taken out again answers nothing. Nor does
-- one that the latest mining was not made of: it was kept in a run whose version nobody promoted, or was rolled back.
CREATE VIEW finding_states AS
WITH RECURSIVE nights AS (  -- without what was run aside
    SELECT id, experiment, live, written FROM runs WHERE NOT starts_with(id, concat(experiment, '-', trigger, '-'))
),
used AS (                   -- the versions that each run worked with, and from which round on
    SELECT nights.experiment, rounds.working AS version, nights.id AS run, nights.written, min(rounds.number) AS round
    FROM rounds
    JOIN nights ON nights.id = rounds.run
    GROUP BY ALL
),
had AS MATERIALIZED (       -- of the runs that began with a version the first is enough: the others go on from it
    SELECT * FROM used
    QUALIFY round > 0 OR row_number() OVER (PARTITION BY experiment, version, round ORDER BY written) = 1
),
lives AS (                  -- what was live, and before that
    SELECT *, lag(version) OVER (PARTITION BY experiment ORDER BY written) AS earlier
    FROM (
        SELECT experiment, live AS version, written, id AS run FROM nights
        UNION ALL
        SELECT experiment, version, written, NULL FROM promotions
    )
),
began AS (                  -- with what each run began; a version that no run had is one that a person changed by hand
    SELECT
        lives.experiment,
        lives.run,
        lives.written,
        CASE WHEN min(had.written) < lives.written THEN lives.version ELSE lives.earlier END AS version
    FROM lives
    LEFT JOIN had ON had.experiment = lives.experiment AND had.version = lives.version
    WHERE lives.run IS NOT NULL
    GROUP BY lives.experiment, lives.run, lives.written, lives.version, lives.earlier
),
parents AS MATERIALIZED (   -- the run that each run goes on from, and the round
    SELECT
        began.run,
        arg_max(had.run, (had.round > 0, had.written)) AS parent,
        arg_max(had.round, (had.round > 0, had.written)) AS round
    FROM began
    JOIN had ON had.experiment = began.experiment AND had.version = began.version AND had.written < began.written
    GROUP BY began.run
),
holds AS (                  -- the runs whose changes each run has, and up to which round; NULL: its own, all of them
    SELECT id AS run, id AS origin, NULL::BIGINT AS round FROM nights
    UNION                   -- not ALL, which would never end where two journals give their runs one id
    SELECT holds.run, parents.parent, parents.round FROM holds JOIN parents ON parents.run = holds.origin
),
mined AS (                  -- what each mining showed
    SELECT runs.experiment, findings.*, (findings.writer, coalesce(findings.proposal, '')) AS mining
    FROM findings
    JOIN runs ON runs.id = findings.run
),
latest AS (                 -- the latest mining of each experiment
    SELECT experiment, arg_max(mining, (written, seq)) AS mining, arg_max(run, (written, seq)) AS run
    FROM mined
    GROUP BY experiment
),
known AS (                  -- each finding, as it was seen last
    SELECT
        experiment,
        id,
        arg_max(title, (written, seq)) AS title,
        coalesce(min(first_seen), min(written)) AS first_seen,
        coalesce(max(last_seen), max(written)) AS last_seen,
        list_sort(list_distinct(flatten(list(versions)))) AS versions
    FROM mined
    GROUP BY experiment, id
),
gone AS (                   -- rounds whose changes were taken out again
    SELECT DISTINCT run, unnest(rounds) AS round FROM removals WHERE verdict = 'drop'
),
tried AS (                  -- each change that answers a finding and was compared to the end
    SELECT
        runs.experiment,
        unnest(list_distinct(proposals.answers)) AS id,
        decisions.run,
        decisions.round,
        decisions.written,
        decisions.verdict = 'keep' AND gone.round IS NULL AS stands,
        holds.run IS NOT NULL AS is_live
    FROM decisions
    JOIN rounds ON rounds.run = decisions.run AND rounds.number = decisions.round
    JOIN proposals ON proposals.run = rounds.run AND proposals.id = rounds.proposal
    JOIN runs ON runs.id = decisions.run
    LEFT JOIN gone ON gone.run = decisions.run AND gone.round = decisions.round
    LEFT JOIN latest ON latest.experiment = runs.experiment
    LEFT JOIN holds
        ON holds.run = latest.run AND holds.origin = decisions.run
        AND decisions.round <= coalesce(holds.round, decisions.round)
    WHERE decisions.comparison IS NOT NULL AND decisions.because NOT IN ('errors', 'drift')
),
answers AS (
    SELECT
        experiment,
        id,
        count(*) AS tries,
        arg_max(written, (is_live, written)) FILTER (stands) AS written,
        arg_max(run, (is_live, written)) FILTER (stands) AS run,
        arg_max(round, (is_live, written)) FILTER (stands) AS round,
        bool_or(is_live) FILTER (stands) AS is_live
    FROM tried
    GROUP BY experiment, id
),
before AS (                 -- the share that each answer met
    SELECT mined.experiment, mined.id, arg_max(mined.share, (mined.written, mined.seq)) AS share
    FROM mined
    JOIN answers USING (experiment, id)
    WHERE mined.written <= answers.written
    GROUP BY mined.experiment, mined.id
),
minings AS (SELECT experiment, run, mining, min(written) AS written FROM mined GROUP BY ALL),
after AS (                  -- the minings after each answer, of versions that hold it
    SELECT answers.experiment, answers.id, minings.mining
    FROM answers
    JOIN holds ON holds.origin = answers.run AND answers.round <= coalesce(holds.round, answers.round)
    JOIN minings
        ON minings.experiment = answers.experiment AND minings.run = holds.run AND minings.written > answers.written
),
looked AS (                 -- how many those were, and in how many it was seen at half its share or more
    SELECT
        after.experiment,
        after.id,
        count(DISTINCT after.mining) AS often,
        count(DISTINCT after.mining) FILTER (2 * mined.share >= before.share) AS seen
    FROM after
    LEFT JOIN before USING (experiment, id)
    LEFT JOIN mined ON mined.experiment = after.experiment AND mined.id = after.id AND mined.mining = after.mining
    GROUP BY after.experiment, after.id
)
SELECT
    known.experiment,
    known.id,
    known.title,            -- as the latest mining that shows it has it
    CASE
        WHEN answers.is_live THEN
            CASE
                WHEN looked.often IS NULL OR now.share IS NULL OR 2 * now.share < before.share THEN 'answered'
                WHEN looked.often > looked.seen THEN 'back'
                ELSE 'open'
            END
        WHEN answers.run IS NULL AND answers.tries >= 2 THEN 'refuted'
        WHEN now.share IS NULL THEN 'gone'
        ELSE 'open'
    END AS state,
    coalesce(now.count, 0) AS count, -- failed trials that show it in the latest mining
    coalesce(now.share, 0.0) AS share, -- the same over all trials looked at
    known.first_seen,       -- when the first trial that shows it began
    known.last_seen,        -- when the last did
    known.versions,         -- that show it
    answers.run AS answered_by, -- the run that kept the latest change that answers it; NULL: none stands
    answers.round AS answered_round, -- and the round of it
    answers.is_live AS answer_is_live, -- was the latest mining made of a version with that change? NULL: there is none
    coalesce(answers.tries, 0) AS tries -- changes that answer it and were compared to the end, kept or not
FROM known
LEFT JOIN answers USING (experiment, id)
LEFT JOIN before USING (experiment, id)
LEFT JOIN looked USING (experiment, id)
LEFT JOIN latest USING (experiment)
LEFT JOIN mined AS now
    ON now.experiment = known.experiment AND now.id = known.id AND now.mining = latest.mining;

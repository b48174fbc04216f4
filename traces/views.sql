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
-- by a check, a comparison or a calibration, is no night.
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
-- "Its share" is that of the last mining before the answer. A change that was taken out again answers nothing.
CREATE VIEW finding_states AS
WITH mined AS (             -- what each mining showed
    SELECT runs.experiment, findings.*, (findings.writer, coalesce(findings.proposal, '')) AS mining
    FROM findings
    JOIN runs ON runs.id = findings.run
),
latest AS (                 -- the latest mining of each experiment
    SELECT experiment, arg_max(mining, (written, seq)) AS mining FROM mined GROUP BY experiment
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
        decisions.verdict = 'keep' AND gone.round IS NULL AS stands
    FROM decisions
    JOIN rounds ON rounds.run = decisions.run AND rounds.number = decisions.round
    JOIN proposals ON proposals.run = rounds.run AND proposals.id = rounds.proposal
    JOIN runs ON runs.id = decisions.run
    LEFT JOIN gone ON gone.run = decisions.run AND gone.round = decisions.round
    WHERE decisions.comparison IS NOT NULL AND decisions.because NOT IN ('errors', 'drift')
),
answers AS (
    SELECT
        experiment,
        id,
        count(*) AS tries,
        max(written) FILTER (stands) AS written,
        arg_max(run, written) FILTER (stands) AS run,
        arg_max(round, written) FILTER (stands) AS round
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
since AS (                  -- in how many minings after its answer it was seen, and at half its share or more
    SELECT mined.experiment, mined.id, count(*) FILTER (2 * mined.share >= before.share) AS often
    FROM mined
    JOIN answers USING (experiment, id)
    JOIN before USING (experiment, id)
    WHERE mined.written > answers.written
    GROUP BY mined.experiment, mined.id
),
minings AS (SELECT experiment, mining, min(written) AS written FROM mined GROUP BY experiment, mining),
looked AS (                 -- how many minings there were after each answer
    SELECT answers.experiment, answers.id, count(*) AS often
    FROM answers
    JOIN minings ON minings.experiment = answers.experiment AND minings.written > answers.written
    GROUP BY answers.experiment, answers.id
)
SELECT
    known.experiment,
    known.id,
    known.title,            -- as the latest mining that shows it has it
    CASE
        WHEN answers.run IS NOT NULL THEN
            CASE
                WHEN looked.often IS NULL OR now.share IS NULL OR 2 * now.share < before.share THEN 'answered'
                WHEN looked.often > since.often THEN 'back'
                ELSE 'open'
            END
        WHEN answers.tries >= 2 THEN 'refuted'
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
    coalesce(answers.tries, 0) AS tries -- changes that answer it and were compared to the end, kept or not
FROM known
LEFT JOIN answers USING (experiment, id)
LEFT JOIN before USING (experiment, id)
LEFT JOIN since USING (experiment, id)
LEFT JOIN looked USING (experiment, id)
LEFT JOIN latest USING (experiment)
LEFT JOIN mined AS now
    ON now.experiment = known.experiment AND now.id = known.id AND now.mining = latest.mining;

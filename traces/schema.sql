-- The tables of traces.duckdb, for the people who query them.
--
--   ratchet sql "select verdict, count(*) from decisions group by all"
--   traces.sql("select * from trials where score = 0")                      in Python and notebooks
--
-- Read them with `ratchet sql` or `traces.sql`: these add the lines that are not merged yet, and let go of the file
-- at once. All times are UTC. What did not happen is NULL, never 0. No table has a key or an index: a merge would take
-- many times as long. Everything in here can be made again from the journals: delete the file and merge.
--
-- Most tables begin with the same columns:
--   writer       the journal that the row came from: the name of its file in spool/, without .jsonl
--   seq          the number of its line there; (writer, seq) says which line a row came from
--   written      when that line was written
--   run          the run it belongs to; NULL outside a run
-- Those that took time have:
--   started             when it began
--   seconds             how long it took
-- and those that cost something end with:
--   calls               requests that reached for a model, retries and interrupted ones included
--   input_tokens        all prompt tokens, cached ones included
--   cached_tokens       those of them that were read from the provider's cache
--   cache_write_tokens  those of them that were written to it
--   output_tokens       all tokens that came back
--   dollars             NULL: the price is not known

-- ── runs ────────────────────────────────────────────────────────────────────────────────────────────────────────

-- One night of an experiment. `last_runs` (a view) has the latest of each experiment.
CREATE TABLE runs (
    writer VARCHAR,
    seq BIGINT,
    written TIMESTAMP,      -- when the run began
    id VARCHAR,             -- the name of its journal too
    experiment VARCHAR,     -- its name
    subject VARCHAR,        -- the directory that proposals may edit
    live VARCHAR,           -- the version that was live when it began
    fingerprint JSON,       -- part of the experiment → digest of what would change the meaning of the records
    budget JSON,            -- limit → value; null: no limit
    tasks JSON,             -- split → number of tasks: tasks->>'train'
    tried JSON,             -- version → the run and round that had tried it before
    seed BIGINT,            -- number of runs of the experiment before it
    gate JSON,              -- name and settings of the gate
    checked VARCHAR,        -- checks.id that it rests on; NULL: it was started without one
    trigger VARCHAR,        -- what started it: manual, a schedule
    owner VARCHAR,          -- whose experiment it is
    ratchet VARCHAR         -- Ratchet's own version
);

-- A process took up a run: one row when it began, one for each time it was resumed.
CREATE TABLE sessions (
    writer VARCHAR,
    seq BIGINT,
    written TIMESTAMP,
    run VARCHAR,
    pid BIGINT,             -- of the process
    budget JSON             -- the limits of this session, as tightened on the command line
);

-- The search of a run ended; what follows is its last certification.
CREATE TABLE stops (
    writer VARCHAR,
    seq BIGINT,
    written TIMESTAMP,
    run VARCHAR,
    reason VARCHAR,         -- out-of-ideas, no-progress, thrashing, stopped, failing, or the limit that was reached
    detail VARCHAR          -- the same in words
);

-- Something that costs money or judgement was about to happen. One without a row that ends it (a span with this id, a
-- trial) was interrupted, or is under way.
CREATE TABLE intents (
    writer VARCHAR,
    seq BIGINT,
    written TIMESTAMP,
    run VARCHAR,
    step VARCHAR,           -- the key of the step, or the id of the call's span
    kind VARCHAR,           -- step or call
    attempt BIGINT,         -- above 1: an earlier attempt was interrupted
    trial VARCHAR,          -- the trial that a call belongs to
    name VARCHAR,           -- the model that is called
    calls BIGINT,           -- this and the next five: what is charged if the end is never seen
    input_tokens BIGINT,
    cached_tokens BIGINT,
    cache_write_tokens BIGINT,
    output_tokens BIGINT,
    dollars DOUBLE
);

-- ── what is attempted ───────────────────────────────────────────────────────────────────────────────────────────

-- The tasks that a writer recorded.
CREATE TABLE tasks (
    writer VARCHAR,
    seq BIGINT,
    written TIMESTAMP,
    run VARCHAR,
    id VARCHAR,             -- unique within the experiment
    input VARCHAR,          -- what the runner is given
    targets VARCHAR[],      -- the accepted answers; the runner is given the task without them
    tags VARCHAR[],         -- what kind of task it is
    cluster VARCHAR,        -- tasks of one cluster count as one observation; '': the task itself
    split VARCHAR           -- train, validation or test
);

-- One attempt at one task by one version. `grades` (a view) has those that were scored.
CREATE TABLE trials (
    writer VARCHAR,
    seq BIGINT,
    written TIMESTAMP,
    run VARCHAR,
    round BIGINT,           -- NULL outside a round: a certification, a comparison by hand
    id VARCHAR,             -- deterministic: the run and the key of the step
    version VARCHAR,        -- who tried: a git tree hash
    task VARCHAR,           -- the id of the task
    split VARCHAR,          -- train, validation or test
    tags VARCHAR[],         -- of the task: list_contains(tags, 'plural')
    cluster VARCHAR,        -- trials of one cluster count as one observation
    repeat BIGINT,          -- from 0
    attempt BIGINT,         -- above 1: an earlier attempt was interrupted, or met an infrastructure error
    seed BIGINT,            -- what the runner was seeded with
    conditions VARCHAR[],   -- what it was measured with: part=value
    output VARCHAR,         -- NULL: there was none
    ended VARCHAR,          -- why: done, unsatisfied, refused, escalated, failed, or the limit that it reached
    score DOUBLE,           -- between 0 (worst) and 1 (best); NULL: it could not be scored, which is not a 0
    reason VARCHAR,         -- the grader's: what was wrong, never the answer
    value DOUBLE,           -- the number that was measured, where the score is not it
    error VARCHAR,          -- what went wrong; NULL: it ran through
    error_class VARCHAR,    -- one word to count by
    boundary VARCHAR,       -- whose code failed: runner, grader, proposer, model, sandbox …
    started TIMESTAMP,
    seconds DOUBLE,
    calls BIGINT,
    input_tokens BIGINT,
    cached_tokens BIGINT,
    cache_write_tokens BIGINT,
    output_tokens BIGINT,
    dollars DOUBLE
);

-- One timed step of a trial or of a proposal: a model call, a tool call, a grade.
CREATE TABLE spans (
    writer VARCHAR,
    seq BIGINT,
    written TIMESTAMP,
    run VARCHAR,
    trial VARCHAR,          -- trials.id; NULL for a proposer's calls
    id VARCHAR,             -- unique
    parent VARCHAR,         -- the span that it is a part of
    operation VARCHAR,      -- chat, execute_tool, grade, run, invoke_agent, turn, hook or compact
    name VARCHAR,           -- what was called: the model, the tool, the grader, the hook
    role VARCHAR,           -- who spent it: maker, judge, summariser, a sub-agent; '': nobody said
    started TIMESTAMP,
    seconds DOUBLE,
    status VARCHAR,         -- ok, error or interrupted (the process died before the answer was written down)
    error VARCHAR,          -- what went wrong
    error_class VARCHAR,    -- one word to count by: rate_limit, overloaded, timeout, malformed, auth …
    attempt BIGINT,         -- counts retries of the same call, from 1
    effect VARCHAR,         -- of a tool call, what it could change: none, worktree or outside
    safe_to_repeat BOOLEAN, -- of a failure; NULL: it did not fail, or nobody can tell
    idempotency_key VARCHAR, -- of a tool call that changes something: one key never has two effects
    input_hash VARCHAR,     -- texts.hash of the messages sent
    input_preview VARCHAR,  -- the last 200 characters of them
    output_hash VARCHAR,    -- texts.hash of the answer
    output_preview VARCHAR, -- the first 200 characters of it
    attributes JSON,        -- by OpenTelemetry GenAI name: attributes->>'gen_ai.request.model'
    calls BIGINT,
    input_tokens BIGINT,
    cached_tokens BIGINT,
    cache_write_tokens BIGINT,
    output_tokens BIGINT,
    dollars DOUBLE
);

-- What a verifier said about each criterion of an attempt that an agent made within a trial.
CREATE TABLE reviews (
    writer VARCHAR,
    seq BIGINT,
    written TIMESTAMP,
    run VARCHAR,
    trial VARCHAR,          -- trials.id
    attempt BIGINT,         -- of the maker, from 1
    verdict VARCHAR,        -- of the whole: satisfied, needs_revision, failed (a bad rubric) or grader_error
    detail VARCHAR,         -- more, in words
    criterion VARCHAR,      -- its id in the rubric
    choice VARCHAR,         -- which of its choices holds
    passed BOOLEAN,         -- is it good enough
    evidence VARCHAR,       -- quoted from the output, where it passed
    because VARCHAR,        -- what is wrong, where it did not
    excerpt VARCHAR,        -- the part of the output that caused it
    fingerprint VARCHAR,    -- the same for the same fault
    first_seen BIGINT,      -- the attempt that first showed it
    times_seen BIGINT       -- in how many attempts
);

-- What needed a person. `inbox` (a view) has each with what became of it.
CREATE TABLE escalations (
    writer VARCHAR,
    seq BIGINT,
    written TIMESTAMP,
    run VARCHAR,
    id VARCHAR,             -- the same when a run is resumed
    kind VARCHAR,           -- approval (something is held), notice or dead (a trial to redrive or to discard)
    concern VARCHAR,        -- destructive, money, verification_failed …
    experiment VARCHAR,     -- its name
    owner VARCHAR,          -- of the experiment
    trial VARCHAR,          -- trials.id
    span VARCHAR,           -- spans.id
    summary VARCHAR,        -- one line
    evidence VARCHAR[],     -- excerpts
    action VARCHAR,         -- digest of the tool and its arguments, which an approval is bound to
    tool VARCHAR,           -- what is held
    arguments JSON,         -- redacted
    raised TIMESTAMP,       -- when it was written
    expires TIMESTAMP       -- after that it counts as refused
);

-- What became of them: a row for each step.
CREATE TABLE rulings (
    writer VARCHAR,
    seq BIGINT,
    written TIMESTAMP,
    run VARCHAR,
    escalation VARCHAR,     -- escalations.id
    verdict VARCHAR,        -- approved, rejected, expired, used, redriven or discarded
    who VARCHAR,            -- the person, or ratchet
    ruled TIMESTAMP,        -- when
    note VARCHAR,           -- in their words
    expires TIMESTAMP       -- of an approval: until when it may be used
);

-- Long texts, each once however often spans refer to it.
CREATE TABLE texts (
    hash VARCHAR,           -- hexadecimal SHA-256 of the UTF-8 bytes
    text VARCHAR            -- as it was sent or answered
);

-- ── what is changed ─────────────────────────────────────────────────────────────────────────────────────────────

-- Immutable states of a subject.
CREATE TABLE versions (
    writer VARCHAR,
    seq BIGINT,
    written TIMESTAMP,
    run VARCHAR,
    id VARCHAR,             -- the git tree hash of the subject directory
    commit VARCHAR        -- a commit that holds it
);

-- One change to try. Which round tried it: rounds.run = proposals.run and rounds.proposal = proposals.id.
CREATE TABLE proposals (
    writer VARCHAR,
    seq BIGINT,
    written TIMESTAMP,
    run VARCHAR,
    id VARCHAR,             -- unique within the run
    proposer VARCHAR,       -- who made it
    rationale VARCHAR,      -- why it should help, in words
    answers VARCHAR[],      -- ids of the findings that it answers
    evidence VARCHAR[],     -- ids of the trials that it rests on
    predicted DOUBLE        -- the gain in mean train score that it expects; NULL: it did not say
);

-- What a proposal expects for one kind of task.
CREATE TABLE predictions (
    writer VARCHAR,
    seq BIGINT,
    written TIMESTAMP,
    run VARCHAR,
    proposal VARCHAR,       -- proposals.id
    tags VARCHAR[],         -- of the tasks; empty: all
    gain DOUBLE             -- in mean train score
);

-- A passage of a trace that a proposal quotes.
CREATE TABLE citations (
    writer VARCHAR,
    seq BIGINT,
    written TIMESTAMP,
    run VARCHAR,
    proposal VARCHAR,       -- proposals.id
    trial VARCHAR,          -- trials.id
    span VARCHAR,           -- spans.id; NULL: it stands in the trial's output, error or reason
    quote VARCHAR           -- word for word
);

-- New text for one file, a part of a proposal.
CREATE TABLE edits (
    writer VARCHAR,
    seq BIGINT,
    written TIMESTAMP,
    run VARCHAR,
    proposal VARCHAR,       -- proposals.id
    path VARCHAR,           -- relative to the subject
    text VARCHAR            -- the whole file; NULL: the file is deleted
);

-- A recurring failure with its evidence, as a proposer had mined it when it wrote its proposal.
CREATE TABLE findings (
    writer VARCHAR,
    seq BIGINT,
    written TIMESTAMP,
    run VARCHAR,
    proposal VARCHAR,       -- proposals.id; NULL: it was recorded by itself
    id VARCHAR,             -- the same for the same failure in every run
    title VARCHAR,          -- tags, kind of failure and message, readable
    tags VARCHAR[],         -- of the tasks that show it
    kind VARCHAR,           -- the kind of wrong answer, or the class of error
    count BIGINT,           -- failed trials that show it
    share DOUBLE,           -- count over all trials looked at, between 0 and 1
    versions VARCHAR[],     -- that show it
    examples VARCHAR[],     -- trials.id, at most five
    symptom JSON,           -- what attaches a new trial to it: kind, path, tags, messages
    lost DOUBLE,            -- score that its trials left on the table, added up
    dollars DOUBLE,         -- what its trials cost, added up; NULL: not known
    first_seen TIMESTAMP,   -- when the first trial that shows it began
    last_seen TIMESTAMP,    -- when the last did
    summary VARCHAR,        -- what happens, in a model's words; '': no model looked
    cause VARCHAR           -- why, as a model supposes
);

-- ── what is decided ─────────────────────────────────────────────────────────────────────────────────────────────

-- One turn of the loop. Round 0 is the baseline: the live version, measured. The last one says why the run ended.
CREATE TABLE rounds (
    writer VARCHAR,
    seq BIGINT,
    written TIMESTAMP,
    run VARCHAR,
    number BIGINT,          -- from 0
    incumbent VARCHAR,      -- the working version that the round started from
    candidate VARCHAR,      -- the version that was tried; NULL: none came of it
    identity VARCHAR,       -- a digest of what that does, where the runner can tell; else ''
    working VARCHAR,        -- the version that the next round starts from
    proposal VARCHAR,       -- proposals.id
    verdict VARCHAR,        -- keep, discard or inconclusive; NULL in round 0 and in the last
    because VARCHAR,        -- improved, no-improvement, undecided, already-tried, invalid, unfounded, no-proposal …
    score DOUBLE,           -- mean train score of `working`
    score_low DOUBLE,       -- lower end of its 90 % interval, by cluster
    score_high DOUBLE,      -- its upper end
    certification VARCHAR,  -- certifications.id, where a checkpoint fell on this round
    stop VARCHAR,           -- why the run ended; in the last round only
    detail VARCHAR,         -- the same in words
    trials BIGINT,          -- this and the last six: what the whole run had bought and spent by then
    started TIMESTAMP,
    seconds DOUBLE,
    calls BIGINT,
    input_tokens BIGINT,
    cached_tokens BIGINT,
    cache_write_tokens BIGINT,
    output_tokens BIGINT,
    dollars DOUBLE
);

-- What became of the proposal of a round, with the numbers that decided it.
CREATE TABLE decisions (
    writer VARCHAR,
    seq BIGINT,
    written TIMESTAMP,
    run VARCHAR,
    round BIGINT,           -- rounds.number
    verdict VARCHAR,        -- keep, discard or inconclusive
    because VARCHAR,        -- improved, no-improvement, undecided, already-tried, invalid, unfounded, no-proposal …
    detail VARCHAR,         -- more, in words
    incumbent VARCHAR,      -- the working version that it was compared with
    candidate VARCHAR,      -- the version that was tried; NULL: none came of the proposal
    comparison VARCHAR,     -- comparisons.id; NULL, as is all that follows: nothing was compared
    split VARCHAR,          -- whose tasks they were compared on
    tasks BIGINT,           -- clusters compared
    gain DOUBLE,            -- mean paired difference, candidate − incumbent
    low DOUBLE,             -- lower end of its interval
    high DOUBLE,            -- its upper end
    confidence DOUBLE,      -- of the interval, 0.9 for 90 %
    test_verdict VARCHAR,   -- of the sequential test: accept, reject, undecided or continue
    e_value DOUBLE,         -- evidence; accept when it is at least `threshold`
    threshold DOUBLE,       -- 1/alpha
    alpha DOUBLE            -- the level of the test
);

-- A candidate against an incumbent, paired: each comparison of a journal once, whether a round, a certification or
-- nobody else refers to it.
CREATE TABLE comparisons (
    writer VARCHAR,
    seq BIGINT,
    written TIMESTAMP,
    run VARCHAR,
    id VARCHAR,             -- a digest of its content
    incumbent VARCHAR,      -- the version that was there
    candidate VARCHAR,      -- the version that tries
    split VARCHAR,          -- whose tasks they were compared on
    tasks BIGINT,           -- clusters compared
    incumbent_score DOUBLE, -- mean over these clusters
    candidate_score DOUBLE, -- of the candidate
    gain DOUBLE,            -- mean paired difference; biased where a sequential test stopped, not on test
    low DOUBLE,             -- lower end of its interval
    high DOUBLE,            -- its upper end
    confidence DOUBLE,      -- of the interval, 0.9 for 90 %
    verdict VARCHAR,        -- accept, reject, undecided or continue; NULL, as the next six: measured, nothing decided
    e_value DOUBLE,         -- evidence; accept when it is at least `threshold`
    threshold DOUBLE,       -- 1/alpha
    n BIGINT,               -- clusters the test looked at, ties included
    gain_at_stop DOUBLE,    -- mean paired difference of those
    conditional_power DOUBLE, -- chance of ending with accept for the effect still thought possible
    tasks_to_settle BIGINT, -- when undecided: about how many more tasks would settle it
    alpha DOUBLE,           -- the level of the test; this and what follows was declared before the first task
    n_max BIGINT,           -- its deadline, in clusters
    min_gain DOUBLE,        -- the smallest gain worth waiting for
    futility DOUBLE,        -- give up below this conditional power
    n_min BIGINT,           -- no look before so many clusters
    batch BIGINT,           -- clusters between two looks
    v0 DOUBLE,              -- variance expected of the differences
    margin DOUBLE,          -- proven is a gain above minus this
    seed BIGINT,            -- of the shuffle of the clusters, the same for both arms
    differences DOUBLE[],   -- per cluster, in the order observed
    errors BIGINT,          -- pairs lost to infrastructure errors
    incumbent_errors BIGINT, -- those of them that were lost on the incumbent's side alone
    candidate_errors BIGINT, -- and on the candidate's alone
    drift VARCHAR,          -- what changed in the conditions meanwhile; '' when nothing did
    metric VARCHAR,         -- what the scores measure where they are not in [0, 1]
    sigma DOUBLE            -- for a metric: standard deviation of a single run
);

-- The stack of kept changes against the live version, on hidden tasks.
CREATE TABLE certifications (
    writer VARCHAR,
    seq BIGINT,
    written TIMESTAMP,
    run VARCHAR,
    id VARCHAR,             -- the run and the key of the step
    checkpoint BIGINT,      -- which one of the run
    live VARCHAR,           -- the version that it would replace
    candidate VARCHAR,      -- the version with all kept changes
    verdict VARCHAR,        -- accept, reject, undecided, hold, blocked or invalid
    alpha DOUBLE,           -- what this test was allowed to spend
    test_number BIGINT,     -- the how-manieth test of this validation split, from 1
    validation VARCHAR,     -- comparisons.id of the test
    e_value DOUBLE,         -- its evidence; accept when it is at least `threshold`
    threshold DOUBLE,       -- 1/alpha
    measured VARCHAR,       -- comparisons.id of the measurement on `test`; NULL unless accepted
    gain DOUBLE,            -- on `test`, opened once: the number to quote, with its interval
    low DOUBLE,             -- lower end of its interval
    high DOUBLE,            -- its upper end
    confidence DOUBLE,      -- of the interval, 0.9 for 90 %
    tasks BIGINT,           -- clusters that it was measured on
    detail VARCHAR          -- more, in words
);

-- What else was looked at before a promotion, once the mean score had passed.
CREATE TABLE guards (
    writer VARCHAR,
    seq BIGINT,
    written TIMESTAMP,
    run VARCHAR,
    certification VARCHAR,  -- certifications.id
    kind VARCHAR,           -- must-pass, slice, cost, latency, failures or transfer
    name VARCHAR,           -- the task, the tag of the slice, or what cost is measured in
    verdict VARCHAR,        -- pass, hold or block
    n BIGINT,               -- clusters compared, or runs made
    wins BIGINT,            -- clusters on which the candidate was better
    losses BIGINT,          -- and worse
    p DOUBLE,               -- chance of so many losses if it were no worse; of a transfer: of so large a gain
    gain DOUBLE,            -- of a transfer, in the metric's unit, positive when better
    ratio DOUBLE,           -- candidate over incumbent, geometric mean
    low DOUBLE,             -- one-sided 90 % lower limit of the ratio
    cap DOUBLE              -- the ratio allowed; NULL: it blocks nothing
);

-- Kept changes that were tested again because the stack failed its promotion test.
CREATE TABLE removals (
    writer VARCHAR,
    seq BIGINT,
    written TIMESTAMP,
    run VARCHAR,
    round BIGINT,           -- at whose end
    rounds BIGINT[],        -- in which they had been kept
    verdict VARCHAR,        -- drop, stay or stuck (later changes rest on it)
    comparison VARCHAR      -- comparisons.id: with them against without
);

-- Times that the incumbent was measured again because its scores had gone stale.
CREATE TABLE refreshes (
    writer VARCHAR,
    seq BIGINT,
    written TIMESTAMP,
    run VARCHAR,
    version VARCHAR,        -- what was measured again
    round BIGINT,           -- in which round
    because VARCHAR,        -- age, drift or crashes
    detail VARCHAR          -- more, in words
);

-- What was found out about an experiment before a night.
CREATE TABLE checks (
    writer VARCHAR,
    seq BIGINT,
    written TIMESTAMP,
    run VARCHAR,
    id VARCHAR,             -- unique
    experiment VARCHAR,     -- its name
    live VARCHAR,           -- the version that was checked
    fingerprint JSON,       -- part of the experiment → digest, as it was checked
    score DOUBLE,           -- its mean score on train
    variance DOUBLE,        -- mean square of the differences between two runs of it, by cluster
    discordance DOUBLE,     -- share of clusters on which they differ
    churn DOUBLE,           -- share of clusters that a change breaks besides what it mends
    is_binary BOOLEAN,      -- are all scores 0 or 1?
    clusters BIGINT,        -- on how many this was measured
    regraded BIGINT,        -- outputs graded twice
    regraded_differently BIGINT, -- those that got another score
    runs BIGINT,            -- of the live version, to measure its noise
    runs_ungraded BIGINT,   -- those of them to whose output the grader gave no score
    ungraded VARCHAR,       -- the first error of a grader that gave no score
    right_answers BIGINT,   -- known right answers that were graded
    right_refused BIGINT,   -- those that scored below 0.5
    right_ungraded BIGINT,  -- known right answers besides, to which the grader gave no score
    wrong_answers BIGINT,   -- known wrong answers that were graded
    wrong_accepted BIGINT,  -- those that scored 0.5 or more
    holes VARCHAR[],        -- cheats that the grader rewards, or that the sandbox lets through
    attacks VARCHAR[],      -- of code: each cheat that was tried, and what came of it
    run_seconds DOUBLE,     -- of code: what one run takes; NULL: it was not measured
    twins BIGINT,           -- pairs of tasks of different splits that ask the same
    leaks BIGINT,           -- hidden tasks whose text stands in the subject
    warnings VARCHAR[],     -- in words
    alpha DOUBLE,           -- what the next promotion test may spend
    validation BIGINT,      -- clusters of the validation split
    provable DOUBLE,        -- smallest gain provable with 80 % power
    clusters_for_half BIGINT, -- validation clusters that would prove half of it
    night_trials DOUBLE,    -- what a night is expected to take
    night_calls DOUBLE,     -- model calls of it
    night_tokens DOUBLE,    -- tokens of it
    night_dollars DOUBLE,   -- NULL: a price is unknown
    night_hours DOUBLE,     -- hours of it
    calls BIGINT,           -- what the check itself took
    input_tokens BIGINT,    -- all prompt tokens, cached ones included
    cached_tokens BIGINT,   -- the part that was read from the provider's cache
    cache_write_tokens BIGINT, -- the part that was written to it
    output_tokens BIGINT,   -- what was answered
    dollars DOUBLE,         -- NULL: unknown
    trials BIGINT,          -- trials of the check, those of prepared answers included
    seconds DOUBLE          -- time at work
);

-- The live version changed.
CREATE TABLE promotions (
    writer VARCHAR,
    seq BIGINT,
    written TIMESTAMP,
    run VARCHAR,
    id VARCHAR,             -- unique
    experiment VARCHAR,     -- its name
    kind VARCHAR,           -- promote or rollback
    number BIGINT,          -- the N of the tag ratchet/<experiment>/v<N>
    version VARCHAR,        -- live from now on
    replaces VARCHAR,       -- live until now
    commit VARCHAR,         -- the commit that changed it
    branch VARCHAR,         -- the branch that the commit is on
    certification VARCHAR,  -- certifications.id that earned it; NULL for a roll back
    gain DOUBLE             -- on `test`
);

-- Promotion tests that were opened on a set of hidden tasks. Opened is spent, also when the process died.
CREATE TABLE split_tests (
    writer VARCHAR,
    seq BIGINT,
    written TIMESTAMP,
    split VARCHAR,          -- digest of the hidden tasks: the error budget belongs to them
    hidden VARCHAR[],       -- a digest of each of them
    number BIGINT,          -- from 1
    horizon BIGINT,         -- how many tests were declared
    budget DOUBLE,          -- alpha over the lifetime of the split
    alpha DOUBLE,           -- what this one may spend
    certification VARCHAR   -- certifications.id
);

-- How they ended.
CREATE TABLE split_results (
    writer VARCHAR,
    seq BIGINT,
    written TIMESTAMP,
    split VARCHAR,          -- split_tests.split
    certification VARCHAR,  -- certifications.id
    verdict VARCHAR         -- accept, reject, undecided or invalid
);

-- ── how far a rubric can be believed ────────────────────────────────────────────────────────────────────────────

-- A rubric in the hands of one judge, against people's labels.
CREATE TABLE calibrations (
    writer VARCHAR,
    seq BIGINT,
    written TIMESTAMP,
    run VARCHAR,
    id VARCHAR,             -- unique
    experiment VARCHAR,     -- its name
    rubric VARCHAR,         -- digest of the rubric and of what the judge is told around it
    judge VARCHAR,          -- the judge's model
    outputs BIGINT,         -- labelled outputs that were judged
    unjudged BIGINT,        -- those to which the judge gave no verdict
    judged TIMESTAMP        -- when it began
);

-- How far it agrees with people on one criterion.
CREATE TABLE agreements (
    writer VARCHAR,
    seq BIGINT,
    written TIMESTAMP,
    run VARCHAR,
    calibration VARCHAR,    -- calibrations.id
    criterion VARCHAR,      -- its id in the rubric
    n BIGINT,               -- outputs that both judged
    agreed DOUBLE,          -- share on which both said the same
    kappa DOUBLE,           -- Cohen's; NULL: nothing to agree on
    low DOUBLE,             -- lower end of its 90 % interval
    high DOUBLE,            -- its upper end
    false_passes DOUBLE,    -- share of what people refuse that it lets pass
    false_failures DOUBLE   -- share of what people let pass that it refuses
);

-- What sways the judge besides the work.
CREATE TABLE biases (
    writer VARCHAR,
    seq BIGINT,
    written TIMESTAMP,
    run VARCHAR,
    calibration VARCHAR,    -- calibrations.id
    kind VARCHAR,           -- length, position or own-model
    effect DOUBLE,          -- NULL: not measured
    low DOUBLE,             -- lower end of its 90 % interval
    high DOUBLE,            -- its upper end
    n BIGINT                -- outputs that it was measured on
);

-- ── the merge itself ────────────────────────────────────────────────────────────────────────────────────────────

-- Lines that could not be read. Nothing is lost: they are still in the journal.
CREATE TABLE dead_letter (
    writer VARCHAR,         -- the file
    byte_offset BIGINT,     -- where the line starts
    bytes BIGINT,           -- how long it is
    beginning VARCHAR,      -- its first 200 characters
    reason VARCHAR          -- what is wrong with it
);

-- How far each journal has been merged; changed in the same transaction as the rows.
CREATE TABLE marks (
    writer VARCHAR,
    byte_offset BIGINT,     -- the file of this name is merged up to here
    seq BIGINT,             -- lines of this writer are merged up to this number
    run VARCHAR             -- the run that the file of this name belongs to
);

-- The version of these tables; Ratchet refuses to mix two.
CREATE TABLE meta (
    version BIGINT          -- grows whenever the tables change
);
INSERT INTO meta VALUES (6);

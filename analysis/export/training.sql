-- What models said in graded trials, for those who train on it; on the copy that analysis/export/training.py makes.

-- One row a trial: the conversation that its output came from.
--   The calls of whoever spoke first in it and before it was graded: not a judge, a verifier, a summariser or a
--   sub-agent. The last of them was sent all that was said before; the first was sent the prompt.
CREATE TABLE conversations AS
WITH graded AS (
    SELECT trials.*, grading.started AS graded_at
    FROM trials
    LEFT JOIN spans AS grading
        ON grading.operation = 'grade' AND grading.id = trials.id || '/grade/' || trials.attempt
),
said AS (
    SELECT
        graded.id AS trial,
        spans.*,
        first_value(spans.role) OVER (PARTITION BY graded.id ORDER BY spans.seq) AS speaker
    FROM graded
    JOIN spans ON spans.run = graded.run AND spans.base = graded.base
    WHERE spans.operation = 'chat' AND spans.status = 'ok'
        AND (graded.graded_at IS NULL OR spans.started < graded.graded_at)
),
spoken AS (
    SELECT
        trial,
        arg_min(input_hash, seq) AS prompt,
        arg_max(struct_pack(seq, input_hash, output_hash, name, attributes), seq) AS last
    FROM said
    WHERE role = speaker
    GROUP BY trial
)
SELECT
    graded.* EXCLUDE (graded_at),
    spoken.prompt,
    last.input_hash AS asked,
    last.output_hash AS answered,
    last.seq AS answered_at,
    coalesce(last.attributes->>'gen_ai.response.model', last.name) AS model,
    EXISTS (SELECT 1 FROM kept WHERE kept.run = graded.run AND kept.version = graded.version) AS is_kept,
    CASE
        WHEN score IS NULL THEN 'without a grade'
        WHEN last IS NULL THEN 'whose model calls were not recorded'
        WHEN NOT EXISTS (SELECT 1 FROM texts WHERE hash = last.input_hash)
            OR NOT EXISTS (SELECT 1 FROM texts WHERE hash = last.output_hash) THEN 'whose texts were not kept'
    END AS left_out
FROM graded
LEFT JOIN spoken ON spoken.trial = graded.id;

-- The tools that the last answer of a conversation called; their arguments by the hash of their text.
CREATE TABLE last_calls AS
SELECT
    conversations.id AS trial,
    list(struct_pack(id := spans.attributes->>'gen_ai.tool.call.id', name := spans.name, arguments := input_hash)) AS called
FROM conversations
JOIN spans ON spans.run = conversations.run AND spans.base = conversations.base AND spans.seq > conversations.answered_at
WHERE spans.operation = 'execute_tool' AND input_hash IS NOT NULL
GROUP BY conversations.id;

-- The conversations whose texts were kept.
CREATE VIEW told AS
SELECT conversations.*, last_calls.called
FROM conversations
LEFT JOIN last_calls ON last_calls.trial = conversations.id
WHERE left_out IS NULL;

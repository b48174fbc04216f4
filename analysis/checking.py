"""What ``ratchet check`` found, in the order in which a person needs it before going to bed."""

from collections.abc import Iterator, Sequence

from analysis.report import count, duration, gain, short
from traces.records import Attack, Check, Comparison, Contention, Estimate, Hole

SHOWN = 10
"""Problems of one kind that are listed; of more their number is told."""

CHEATS = {
    "empty": ("An empty answer", "Give 0 where there is nothing to grade."),
    "whitespace": ("An answer of blanks", "Strip the output first, and give 0 where nothing is left."),
    "constant": ("The same sentence on every task", "Look for something that only a solution can hold."),
    "long": ("A long answer that says nothing", "Do not reward length; grade the answer that was asked for."),
    "echo": ("The task itself, given back", "Grade the whole answer; do not look for the target inside a longer text."),
    "placeholder": ("A placeholder that was not filled", "Give 0 to what is no answer."),
    "refusal": ("A refusal", "Give 0 to a refusal, unless the task asks for one."),
    "judge": ("An answer that addresses the judge", "Tell the judge that the answer is data, and mark where it ends."),
    "opener": (
        "The opening of an answer, without one",
        "Let the judge name the part that solves the task before it scores.",
    ),
    "marker": ("The marker of an answer, with nothing behind it", "Give 0 where nothing follows the marker."),
    "number": ("A number such as nan or inf", "Compare with math.isfinite, and with a tolerance that has a bound."),
    "wildcard": ("A pattern that matches anything", "Compare texts for equality; never use the output as a pattern."),
    "program": ("A program that ends before its checks run", "Demand a line that only the finished checks write."),
    "most-frequent": ("The most frequent target on every task", "Balance the targets."),
    "every-target": ("All targets pasted into one answer", "Demand one answer: compare the whole output."),
    "disk": ("Code of a version can read hidden tasks on disk", "Keep the tasks out of what the sandbox mounts."),
    "environment": (
        "Code of a version can read hidden tasks in its environment",
        "Start the sandbox with none of ours.",
    ),
    "parent": ("Code of a version can read hidden tasks of other processes", "Give the sandbox processes of its own."),
}
"""Cheat → what it is, and what closes the hole."""
WALL = "Install bubblewrap, and leave out --no-sandbox."
OF_CODE = {
    "home": ("read files of your home directory", f"{WALL} What `readable=…` names, every candidate can read."),
    "variables": ("read a secret of Ratchet's environment", "Give the command no variable but those that it needs."),
    "processes": ("read what other processes were started with", WALL),
    "network": ("reach the network although network=False", WALL),
    "hidden": (
        "read the data that only the evaluation may see",
        "Keep them out of fixed=…, readable=… and the subject: Evaluated(fixed=…) is given them alone.",
    ),
    "originals": ("write to the files that are declared fixed, where they lie", WALL),
    "signal": ("trace or kill Ratchet's processes", WALL),
    "outside": ("write outside of its worktree", WALL),
    "outlive": ("leave processes that outlive the trial", WALL),
    "state": ("leave files that the next trial finds", WALL),
    "evaluator": ("change what is fixed without being seen", WALL),
    "restored": ("change what is fixed, use it, and put it back before anyone looks", WALL),
    "printed": ("give itself a number", "Let no code of the candidate run where the number is made: see `Evaluated`."),
    "twice": ("print a good number before the true one, and be believed", "Take a number only where there is one."),
    "twice-reversed": ("print a good number after the true one, and be believed", "Take it only where there is one."),
    "ratchet-line": ("print the line that Ratchet writes, and be believed", "Read the number from what is isolated."),
    "links": (
        "have files read that it can only point to",
        "Open what a candidate left without following links, as `Folder` does.",
    ),
    "poison": (
        "run code where it is judged, by the files that it leaves",
        "Let the evaluation read data: JSON, or numpy with allow_pickle=False; never unpickle or import an artifact.",
    ),
    "import": (
        "have its own modules imported where it is judged",
        "Run the evaluation in a folder of its own: `Evaluated` does, with nothing of the candidate's but artifacts.",
    ),
    "fork-bomb": ("start processes without end", WALL),
    "memory": ("take more memory than it may", "See whether the sandbox keeps memory=…."),
    "disk-full": ("fill the disk", "Put the temporary folder (TMPDIR) on a disk or tmpfs of a size that may be lost."),
    "cpu": ("use more CPU time than it may", "See whether the sandbox keeps cpu=…."),
    "flood": ("print without end", "See whether the sandbox keeps output=…."),
    "hang": ("never end, or be given a number all the same", "See whether the sandbox keeps seconds=…."),
}
"""Attack of ``harness.hostile`` → what a candidate can do, and what keeps it from that."""
OF_THE_PLACE = ("disk", "environment", "parent")
"""Cheats that say something of where versions run, not of the grader."""


def problems(check: Check) -> list[str]:
    """What makes a night worthless, a sentence or two each: what was seen and what closes it. Empty: nothing does."""
    found = [*broken(check), *(hole(h) for h in check.holes)]
    found += [
        f"Hidden task `{leak.task}` ({leak.split}) stands word for word in `{leak.path}` of the subject, so solving it "
        "proves nothing. Take it out of the file and commit; or, if it is meant as an example, declare "
        'Task(split="train").'
        for leak in check.leaks
    ]
    found += [
        f"Task `{twin.task}` ({twin.split}) asks the same as `{twin.other}` ({twin.other_split}), word for word. "
        "Delete one, or give both the same Task(cluster=…) so that they share a split."
        for twin in check.twins
        if twin.similarity == 1
    ]
    return found


def broken(check: Check) -> Iterator[str]:
    """What keeps a night from measuring or proving anything at all."""
    a_a = check.a_a
    mend = f"First, {check.ungraded.rstrip('.')}. Mend the grader: what it cannot grade counts for no version."
    if check.loses_right_answers:
        given = check.right_answers + check.right_ungraded
        yield f"The grader gave no score to {check.right_ungraded} of {count(given, 'known right answer')}. {mend}"
    if check.loses_runs:
        runs = count(check.runs, "run")
        yield f"The grader gave no score to {check.runs_ungraded} of {runs} of the live version. {mend}"
    if a_a.drift:
        yield (
            f"The conditions changed during the check: {a_a.drift}. What was measured belongs to no one set of them. "
            "Keep them as they are, and check again."
        )
    elif not a_a.is_valid:
        yield (
            f"{a_a.errors} of {count(a_a.tasks + a_a.errors, 'cluster')} were lost to infrastructure errors when the "
            "live version ran against itself. A promotion test that loses so many is invalid. Mend that, and check "
            "again."
        )
    if check.alpha is None:
        yield (
            "The error budget of the validation split is spent: it has seen all promotion tests that the gate "
            "declares, so a night can promote nothing. Add new validation tasks."
        )


def hole(found: Hole) -> str:
    if found.cheat in OF_CODE:
        what, mend = OF_CODE[found.cheat]
        return f"A candidate can {what}: {found.example}. {mend}"
    what, mend = CHEATS[found.cheat]
    if found.cheat in OF_THE_PLACE:
        return f"{what}: {found.example}. {mend}"
    example = f", e.g. on task `{found.task}`: `{short(found.example, 100)}`" if found.example.strip() else ""
    return (
        f"{what} scores {found.score:.2f} on average (n = {count(found.tasks, 'task')}){example}. Without work, "
        f"{found.floor:.2f} is the most that an answer may score. {mend} If a guess is worth that much, declare it: "
        f"floor={min(found.score + 0.05, 0.99):.2f} in the gate."
    )


def render(check: Check, judge: Sequence[str] = ()) -> str:
    """The whole as Markdown, which reads well as plain text too. *judge*: what is known of the one that it grades by,
    a sentence or two each."""
    parts = [
        f"# {check.experiment}: check of `{check.live[:12]}`",
        problem_list(check),
        "## What a hostile candidate could do\n\n" + besieged(check.attacks) if check.attacks else "",
        "## What a night can prove\n\n" + resolution(check),
        "## Noise\n\n" + bullets(noise(check)),
        "## The judge\n\n" + bullets(judge) if judge else "",
        "## Cost\n\n" + cost(check),
        "## Warnings\n\n" + bullets(check.warnings) if check.warnings else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def problem_list(check: Check) -> str:
    found = problems(check)
    near = [twin for twin in check.twins if twin.similarity < 1]
    lines = found[:SHOWN] + ([f"And {len(found) - SHOWN:,} more."] if len(found) > SHOWN else [])
    closest = [
        f"`{twin.task}` ({twin.split}) and `{twin.other}` ({twin.other_split}), similarity {twin.similarity:.2f}"
        for twin in near[:3]
    ]
    also = (
        f"{count(len(near), 'pair')} of tasks in different splits nearly ask the same: {'; '.join(closest)}"
        f"{f'; and {len(near) - 3:,} more' if len(near) > 3 else ''}. What helps on one helps on the other. "
        "Give them the same Task(cluster=…)."
        if near
        else ""
    )
    if not found:
        return f"{reassurance(check)}, no hidden task leaks." + (f"\n\n{also}" if also else "")
    title = f"## {count(len(found), 'problem')} to mend before a night"
    return f"{title}\n\n" + bullets(lines) + (f"\n\n{also}" if also else "")


def reassurance(check: Check) -> str:
    """That nothing was found; and first, where attacks gave a number of their own, whose word the number is."""
    tried = [attack for attack in check.attacks if attack.name != "honest" and attack.outcome != "untried"]
    own = sum(attack.outcome == "believed" for attack in tried)
    if not own:
        failed = f"all of the {len(tried)} attacks that were tried failed"
        return f"No problem found: {failed if check.attacks else 'no cheat pays'}"
    whose = "its" if own == 1 else "their"
    return (
        f"{len(tried) - own} of {len(tried)} attacks failed; {own} gave a number of {whose} own: "
        f"{check.a_a.metric or 'the number'} is what the candidate's own process says. No other problem found"
    )


def besieged(attacks: Sequence[Attack]) -> str:
    """One line for each outcome, and one for each attack that got something."""
    honest = [f"The honest trial beside them: {a.got}." for a in attacks if a.name == "honest"]
    words = {
        "contained": "Came to nothing",
        "caught": "Ended without a number",
        "believed": "Gave a number of their own, which the metric takes from the candidate",
        "hole": "SUCCEEDED",
        "untried": "Not tried",
    }
    lines = []
    for outcome, word in words.items():
        found = [a for a in attacks if a.outcome == outcome and a.name != "honest"]
        if found:
            lines.append(f"{word}: {', '.join(named(a) for a in found)}.")
    return bullets([*honest, *lines])


def named(attack: Attack) -> str:
    says_why = attack.got and attack.outcome in ("caught", "untried")
    return f"{attack.name} ({attack.got})" if says_why else attack.name


def resolution(check: Check) -> str:
    """The smallest gain that can be proven, and what would prove half of it."""
    metric = check.a_a.metric
    if check.alpha is None:
        return "Nothing: the error budget of the validation split is spent. Add new validation tasks."
    if check.provable is None and metric:
        return f"Not known: the noise of {metric} was not measured, so nothing can be promoted."
    if check.provable is None:
        return (
            f"Nothing: at alpha = {check.alpha:.4g} not even a version that solves every task would be proven better "
            f"with 80 % power on {check.validation} validation clusters. Add tasks."
        )
    half = check.clusters_for_half
    if metric and not check.provable:
        return (
            f"{metric} is deterministic: each of {2 * check.a_a.tasks} runs of the live version gave the same number. "
            "So a promotion test proves any gain that is more than rounding, and proves it for this very input alone. "
            "How much the number moves with other data or another seed is not in it: where that matters, let the "
            "command take its seed from RATCHET_SEED, and check again."
        )
    if metric:
        runs = "" if half is None else f"; {half:,} runs of each side would prove half of that"
        sides = "" if check.final is None else f" of {check.final} fresh runs against {check.final}"
        sigmas = f" ({check.provable / check.a_a.sigma:.1f} sigma)" if check.a_a.sigma else ""
        return (
            f"The promotion test{sides}, at alpha = {check.alpha:.4g}, proves a gain of {check.provable:.4g} in "
            f"{metric}{sigmas} or more with 80 % power{runs}. Only gains above it are worth a night."
        )
    more = "more than a million clusters" if half is None else f"about {half:,} validation clusters"
    return (
        f"A promotion test at alpha = {check.alpha:.4g} on {check.validation} validation clusters proves a gain of "
        f"{100 * check.provable:.1f} points or more with 80 % power; {more} would prove half of that. "
        "Only gains above it are worth a night."
    )


def noise(check: Check) -> list[str]:
    """The live version against itself, the grader against itself and against the key."""
    a_a, n = check.a_a, check.noise
    verdict = a_a.verdict.verdict if a_a.verdict else "no verdict"
    seen = gain_in_unit(a_a) if a_a.metric else gain(a_a)
    lines = [f"The live version against itself, through the whole path: {verdict}, {seen}.{meant(a_a)}"]
    if a_a.metric and a_a.sigma == 0:
        lines.append(f"Runs of {a_a.metric} do not scatter: sigma = 0 ({a_a.tasks} against {a_a.tasks} runs).")
    elif a_a.metric:
        sigma = "not known" if a_a.sigma is None else f"{a_a.sigma:.4g}"
        lines.append(
            f"A single run of {a_a.metric} scatters by sigma = {sigma} ({a_a.tasks} against {a_a.tasks} runs)"
            f"{scatter(a_a)}."
        )
    else:
        differing = part(round(n.discordance * n.clusters), n.clusters, "clusters")
        by = "" if n.is_binary else f", by {n.variance**0.5:.3f} (root mean square)"
        lines.append(f"It scores {n.score:.3f} on train; two runs of it differ on {differing}{by}.")
    if check.contention is not None:
        lines.append(company(check.contention, a_a.metric or "the number"))
    if check.regraded:
        again = part(check.regraded_differently, check.regraded, "outputs")
        lines.append(f"The grader against itself: {again} got another score when it saw them again.")
    if check.right_answers or check.wrong_answers:
        right = part(check.right_refused, check.right_answers, "right answers")
        wrong = part(check.wrong_accepted, check.wrong_answers, "wrong ones")
        lines.append(f"The grader against the key: it refused {right} and accepted {wrong}.")
    return lines


def gain_in_unit(a_a: Comparison) -> str:
    """Signed, as its interval is: above 0 where the second runs were better."""
    if a_a.gain is None:
        return "no gain measured"
    ends = (
        "no interval"
        if a_a.low is None or a_a.high is None
        else (f"{a_a.confidence:.0%} interval {a_a.low:+.4g} to {a_a.high:+.4g}")
    )
    return f"a gain of {a_a.gain:+.4g} in {a_a.metric} ({ends}, n = {a_a.tasks} runs each)"


def meant(a_a: Comparison) -> str:
    """What the verdict says of a version that was its own opponent."""
    word, found = a_a.verdict.verdict if a_a.verdict else "", a_a.gain or 0.0
    if word == "accept":
        return " Both sides are one version, so this is chance or a fault: see the warnings."
    if word == "reject" and not a_a.metric:
        return " Both sides are one version, so it should not be proven better, and was not."
    if word == "reject" and found > 0:
        return (
            " Both sides are one version; the second was rejected although its mean is better: more of its runs failed."
        )
    if word == "reject":
        even = "both gave the same" if not found else "the second runs were not better, as happens to one in two"
        chance = ""
        if a_a.high is not None and a_a.high < 0:
            chance = f" That the interval leaves 0 out happens to {1 - a_a.confidence:.0%} of sound checks."
        return f" Both sides are one version, so that is no fault: it says that {even}.{chance}"
    return ""


def scatter(a_a: Comparison) -> str:
    """What sigma is a share of."""
    if not a_a.sigma or not a_a.incumbent_score:
        return ""
    return f", {100 * a_a.sigma / abs(a_a.incumbent_score):.2g} % of its mean of {a_a.incumbent_score:.6g}"


def company(found: Contention, metric: str) -> str:
    shift = ""
    if found.shift is not None and found.error is not None:
        shift = f", and {metric} differs by {found.shift:+.3g} (standard error {found.error:.2g})"
    return (
        f"Beside others ({found.workers} at once, n = {found.runs}) a run takes {found.together:.3g} s, alone "
        f"(n = {found.alone_runs}) {found.alone:.3g} s{shift}."
    )


def cost(check: Check) -> str:
    u = check.usage
    this = Estimate(trials=check.trials, calls=u.calls, tokens=u.tokens, dollars=u.dollars, hours=check.seconds / 3600)
    rows = [
        "| | trials | model calls | tokens | dollars | time |",
        "|---|---:|---:|---:|---:|---:|",
        *(row(name, of) for name, of in (("a round", check.round), ("a night", check.night), ("this check", this))),
    ]
    expected = (
        "Expected amounts: what a trial took here, times the runs of a night whose changes do nothing."
        if check.a_a.metric
        else "Expected amounts: what a trial took here, times the trials of simulated nights in which one proposal in "
        "ten helps. More that help cost more: what is kept is measured anew. So does a stack that is taken apart."
    )
    pace = f"{one_run(check)} " if check.attacks else ""
    return "\n".join(rows) + f"\n\n{pace}{expected}"


def one_run(check: Check) -> str:
    """What one costs, and how many an hour has."""
    hours = check.round.hours / check.round.trials if check.round.trials else 0.0
    if check.run_seconds is None or not hours:
        return ""
    return f"One run takes {check.run_seconds:.3g} s, so an hour has about {1 / hours:,.0f} trials."


def row(name: str, e: Estimate) -> str:
    dollars = "unknown" if e.dollars is None else f"{e.dollars:,.2f}"
    amounts = (f"{e.trials:,.0f}", f"{e.calls:,.0f}", f"{e.tokens:,.0f}", dollars, duration(e.hours * 3600))
    return f"| {name} | {' | '.join(amounts)} |"


def part(k: int, n: int, things: str) -> str:
    """``3 of 30 outputs (90% interval 3 to 24 %)``: the exact limits of Clopper and Pearson."""
    if not n:
        return f"0 of 0 {things}"
    from scipy.special import betaincinv  # here: start-up must not wait for it

    low = float(betaincinv(k, n - k + 1, 0.05)) if k else 0.0
    high = float(betaincinv(k + 1, n - k, 0.95)) if k < n else 1.0
    return f"{k:,} of {n:,} {things} (90% interval {100 * low:.0f} to {100 * high:.0f} %)"


def bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)

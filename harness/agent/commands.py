"""What a shell command would do that a person should know of, found out without running it.

It looks through what hides a program: quotes, wrappers such as ``sudo`` and ``xargs``, ``sh -c``, substitutions, pipes
into a shell. What cannot be looked through, such as a program named by a variable, is a matter of security. The
sandbox is what holds a command; this is so that one is not even begun, and that the model is told why.
"""

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch, fnmatchcase
from functools import lru_cache

from harness.agent.shell import ASSIGNMENT, Command, Unreadable, Word, parse
from traces.records import Concern

LONGEST = 20_000
"""Characters of a command that are looked at; a longer one hides something."""
DEEPEST = 6
"""Commands within commands."""
MOST = 200
"""Arguments, and characters of each, that rules are tried on."""
MOST_WORDS = 5_000
"""So that looking takes a fraction of a second, whatever it is."""


@dataclass(frozen=True)
class Finding:
    concern: Concern
    because: str
    """The rest of a sentence that starts with the command."""


@lru_cache(maxsize=64)
def findings(command: str, worktree: str = "") -> tuple[Finding, ...]:
    """Why *command* is a concern; empty for a harmless one. *worktree*: where the sandbox shows the worktree, for
    absolute paths in it."""
    reader = _Reader(worktree.rstrip("/"))
    reader.script(command, 0)
    return tuple(reader.found)


# ── paths ──────────────────────────────────────────────────────────────────────────────────────────────────────


def leads_outside(path: str, worktree: str = "") -> bool:
    """Does *path*, as it is written, lead out of the worktree? Symbolic links are for whoever opens it."""
    if worktree and (path == worktree or path.startswith(f"{worktree}/")):
        path = f".{path[len(worktree) :]}"
    if path.startswith(("/", "~")) or HOME.match(path):
        return True
    return posixpath.normpath(path).split("/")[0] == ".."


HOME = re.compile(r"\$\{?(HOME|OLDPWD|HOMEPATH|XDG_\w+)\b")
SCRATCH = re.compile(r"/(tmp|var/tmp|dev/shm)/+[^/*?[.]|/dev/(null|zero|u?random|stdin|stdout|stderr|tty|fd/\d+)$")
"""Outside of the worktree, and nobody's loss."""
PRIVATE = re.compile(
    r"/+(etc|home|root|var|proc|sys|boot|dev|mnt|media|srv|run|Users|private|Library|Volumes)(/|$)|/+[*?]*$"
)
SECRET = re.compile(
    r"""(^|/)( \.ssh(/|$) | id_(rsa|dsa|ecdsa|ed25519)(?!\.pub) | \.env(\.(?!example|sample|template|dist)[\w.]+)?$
    | \.(netrc|pgpass|npmrc|pypirc|git-credentials|htpasswd|vault-token|boto|s3cfg)$ | \.(aws|gnupg|azure|kube)(/|$)
    | \.config/(gcloud|gh)(/|$) | (application_default_)?credentials(\.(json|csv|ya?ml|ini|toml|txt|db))?$
    | secrets?\.(json|ya?ml|toml|env|ini|txt)$ | \.docker/config\.json$
    | [^/]*\.(pem|key|p12|pfx|jks|keystore|kdbx)$ )
    | ^/+etc/(shadow|gshadow|sudoers|passwd-|ssl/private|krb5\.keytab) | /proc/[^/]+/(environ|mem)$""",
    re.VERBOSE | re.IGNORECASE,
)
SECRETS = (".env", ".netrc", ".npmrc", ".pypirc", ".git-credentials", ".ssh", ".aws", "id_rsa", "id_ed25519")
HOOKS = re.compile(r"(^|/)\.git/(hooks|config|modules)(/|$)|(^|/)\.(bashrc|bash_profile|profile|zshrc|gitconfig)$")
BACKUP = re.compile(r"(^|[/_.-])(backups?|bak|snapshots?|pg_?dumps?)([/_.-]|\d|$)", re.IGNORECASE)
DATA = re.compile(r"\.(db|sqlite3?|duckdb|mdb)$", re.IGNORECASE)
SECRET_NAME = re.compile(r"\$\{?[!#]?\w*(KEY|TOKEN|SECRET|PASSW|CREDENTIAL)\w*", re.IGNORECASE)


def is_secret(path: str) -> bool:
    """Is *path* where keys and passwords are kept?"""
    name = path.rstrip("/").rpartition("/")[2]
    guess = any(c in name for c in "*?[") and name.startswith((".", "id"))
    return bool(SECRET.search(path)) or (guess and any(fnmatchcase(s, name) for s in SECRETS))


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# ── programs ───────────────────────────────────────────────────────────────────────────────────────────────────

SHELLS = _words("sh bash zsh dash ksh ash fish csh tcsh rbash")
INTERPRETERS: Mapping[str, str] = {
    "python": "c",
    "pypy": "c",
    "node": "ep",
    "deno": "e",
    "bun": "e",
    "perl": "eE",
    "ruby": "e",
    "php": "r",
    "lua": "e",
    "osascript": "e",
}
"""Those that run code → the options that it stands behind."""
WRAPPERS: Mapping[str, tuple[str, str, int]] = {
    "sudo": ("-u -g -h -p -C -D -R -T -U -r -t", "-E -H -n -i -s -b -k -S -A --", 0),
    "doas": ("-u -C", "-n -s --", 0),
    "env": ("-u -C --unset --chdir", "-i -0 - -- -v", 0),
    "nohup": ("", "--", 0),
    "setsid": ("", "-f -w -c --", 0),
    "nice": ("-n", "--", 0),
    "ionice": ("-c -n -p", "-t --", 0),
    "time": ("-f -o", "-p -v -a --", 0),
    "timeout": ("-k -s", "-v --foreground --preserve-status --", 1),
    "stdbuf": ("-i -o -e", "--", 0),
    "exec": ("-a", "-c -l --", 0),
    "command": ("", "-p -v -V --", 0),
    "builtin": ("", "--", 0),
    "coproc": ("", "", 0),
    "busybox": ("", "", 0),
    "xargs": ("-n -I -P -L -d -a -s -E", "-0 -r -t -p -x --", 0),
    "uvx": ("", "", 0),
    "npx": ("-p", "-y --yes --no --", 0),
}
"""They run their arguments: options with a value, options without, and operands of their own before the program."""
CARRIERS = _words(
    "watch strace ltrace chroot unshare nsenter parallel flock script docker podman kubectl ssh runuser pkexec "
    "systemd-run chrt taskset dbus-run-session firejail bwrap start-stop-daemon at batch su tar rsync tmux screen "
    "vim vi nvim ex emacs"
)
"""They run a program somewhere among their arguments."""
PREFIXES = frozenset({("uv", "run"), ("poetry", "run"), ("pipenv", "run"), ("hatch", "run"), ("bundle", "exec")})
TEXTUAL = frozenset({"echo", "printf", ":", "true", "false"})
"""What follows them is text."""
SEARCHING = _words("grep egrep fgrep rg ag sed awk gawk jq")
"""Their first operand is a pattern or a script."""
HARMLESS = (
    TEXTUAL
    | SEARCHING
    | _words(
        "cat ls head tail less more wc find diff cmp git pytest ruff mypy pyright black isort flake8 test [ [[ cd "
        "pwd tree stat file sort uniq cut tr mkdir touch rm cp mv ln basename dirname which type date sleep man "
        "unittest tox coverage tee read local return exit set export unset shift wait source . xxd od md5sum sha256sum"
    )
)
"""Their arguments name files and texts: words such as ``prod`` and ``refund`` mean nothing there."""
WRITERS = _words("rm rmdir mv tee touch mkdir truncate shred chmod chown chgrp unlink install cp ln rsync")
LAST_ONLY = frozenset({"cp", "ln", "install", "rsync"})
DATABASES = _words(
    "psql mysql mariadb sqlite3 sqlite duckdb mongo mongosh redis-cli clickhouse clickhouse-client cqlsh sqlcmd bq"
)


def _rule(concern: Concern, because: str, commands: str) -> tuple[Concern, str, re.Pattern[str]]:
    """*commands*: a regular expression a line, for name and arguments with a blank between; ``~``: any arguments."""
    lines = "|".join(line.strip() for line in commands.strip().splitlines())
    return concern, because, re.compile(f"(?:{lines})(?: |$)".replace("~", r"(?:\S+ )*"), re.IGNORECASE)


RULES: Sequence[tuple[Concern, str, re.Pattern[str]]] = (
    _rule(
        "destructive",
        "destroys or overwrites a disk or what is on it",
        r"""
        (mkfs(\.\w+)?|fdisk|sfdisk|parted|wipefs|sgdisk|mkswap|blkdiscard)
        dd ~of=\S*
        (shred|srm)
        (lv|vg|pv)remove
        (zpool|zfs) ~destroy
        cryptsetup ~(erase|luksformat)
        """,
    ),
    _rule(
        "destructive",
        "stops the machine or all that runs on it",
        r"""
        (shutdown|reboot|halt|poweroff|telinit|killall5)
        init [06]
        kill ~(-1|1)$
        """,
    ),
    _rule(
        "destructive",
        "rewrites what others have",
        r"""
        git push ~(-\w*[fd]\w*|--force\S*|--mirror|--delete|--prune|\+\S+|:\S+)
        """,
    ),
    _rule(
        "destructive",
        "throws changes or history away",
        r"""
        git reset ~--(hard|merge)
        git clean ~(-\w*[fdxX]\w*|--force)
        git checkout ~(-f|--force|\.|:/)
        git restore ~(\.|:/|--source\S*)
        git switch ~(-f|--force|--discard-changes)
        git branch ~(-D|--delete ~--force)
        git (filter-(branch|repo)|prune|reflog (expire|delete)|stash (drop|clear)|worktree remove ~(-f|--force))
        git (gc ~--prune=(now|all)|update-ref ~-d|tag ~-d)
        """,
    ),
    _rule(
        "destructive",
        "drops a database",
        r"""
        dropdb
        (mysqladmin|mariadb-admin) ~drop
        redis-cli ~flush(all|db)
        influx ~delete
        (rake|rails) ~db:(drop|reset|purge)\S*
        alembic ~downgrade
        prisma ~migrate reset
        manage\.py (flush|reset_db)
        """,
    ),
    _rule(
        "destructive",
        "destroys what runs elsewhere",
        r"""
        (terraform|tofu|terragrunt|pulumi|cdk|sst|serverless|sls|vagrant) ~(destroy|remove|state rm)
        (terraform|tofu) ~apply ~-destroy
        (kubectl|oc|k3s) ~(delete|drain|replace ~--force)
        helm ~(uninstall|delete|del|rollback)
        (etcdctl|argocd) ~del(ete)?
        (docker|podman|docker-compose) ~(prune|rm|rmi|down ~(-v|--volumes)|swarm leave)
        (aws|gcloud|az|gsutil|doctl|heroku|fly|flyctl|vercel|netlify|gh|glab) ~(rb|rm|rd|del|remove)
        (mc|s3cmd|rclone|linode-cli|hcloud) ~(rb|rm|rd|del|remove)
        (aws|gcloud|az|doctl|heroku|fly|flyctl|gh|glab|hcloud) ~[\w:-]*(delete|destroy|terminate|purge)[\w:-]*
        (npm|cargo|gem) ~(unpublish|yank)
        """,
    ),
    _rule(
        "destructive",
        "deletes backups or scheduled work",
        r"""
        restic ~(forget|prune)
        borg ~(delete|prune)
        (tmutil|vssadmin|wbadmin|velero|barman|snapper) ~delete\S*
        (duplicity ~remove\S*|pgbackrest ~expire)
        crontab ~-r
        """,
    ),
    _rule(
        "destructive",
        "opens everything to everybody",
        r"""
        chmod ~(-\w*R\w*|--recursive) ~(0?777|a\+rwx|ugo\+rwx) ~(/|\.\.|\$HOME)\S*
        """,
    ),
    _rule(
        "network",
        "talks to other machines",
        r"""
        (curl|wget|nc|ncat|netcat|socat|telnet|ftp|sftp|tftp|lftp|ssh|scp|ssh-copy-id|autossh|mosh|openvpn|tailscale)
        (ping6?|dig|nslookup|host|whois|traceroute|tracepath|mtr|nmap|masscan|tcpdump|ngrok|cloudflared)
        (aria2c|https?|xh|lynx|w3m|links|elinks|wscat|websocat|grpcurl|http\.server|yt-dlp|rclone|s3cmd|gsutil)
        openssl s_client
        rsync ~([\w.@-]+:\S*|rsync://\S+)
        git (clone|push|fetch|pull|ls-remote|send-email|request-pull|archive ~--remote\S*)
        git (remote ~(update|show|prune)|submodule ~(add|update)|lfs ~(push|pull|fetch))
        """,
    ),
    _rule(
        "network",
        "fetches packages",
        r"""
        (pip|pipx|uv|poetry|pdm|conda|mamba|ensurepip|bundle|composer|gem|go) ~(install|add|download|update|upgrade)
        (uv|poetry|pdm) ~(sync|lock|publish|tool)
        (npm|pnpm|bun) ~(install|i|ci|add|update|upgrade|publish|create)
        cargo ~(install|add|update|publish|search|fetch)
        (brew|apt|apt-get|apk|dnf|yum|zypper|snap|choco|winget) ~(install|add|update|upgrade|remove|search)
        pacman ~-S\w*
        go ~get
        (yarn|npx|uvx|bunx)
        (docker|podman) ~(pull|push|login)
        """,
    ),
    _rule(
        "network",
        "talks to a cloud, a cluster or a service",
        r"""
        (aws|gcloud|az|doctl|gh|glab|hcloud|bq|huggingface-cli|twine|kaggle|wandb|heroku|fly|flyctl|vercel|netlify)
        (kubectl|oc|helm|argocd|wrangler|ansible|ansible-playbook|cap)
        (terraform|tofu) ~(apply|plan|init)
        pulumi ~(up|preview)
        """,
    ),
    _rule(
        "money",
        "moves money",
        r"""
        (stripe|paypal|braintree|square|adyen|plaid|wise|coinbase|bitcoin-cli|geth|solana|lncli|electrum)
        """,
    ),
    _rule(
        "users",
        "changes users or writes to them",
        r"""
        (useradd|userdel|usermod|adduser|deluser|groupadd|groupdel|groupmod|gpasswd|chage|createuser|dropuser)
        (sendmail|mail|mailx|mutt|msmtp|swaks|twilio|sendgrid|wall|slack)
        manage\.py (createsuperuser|changepassword)
        """,
    ),
    _rule(
        "production",
        "changes what is live",
        r"""
        (terraform|tofu|pulumi|cdk|serverless|sls|eb|nomad|cap|wrangler) ~(apply|up|deploy|run)
        (kubectl|oc|helm|kustomize|argocd) ~(apply|upgrade|rollout|scale|set|patch|edit|install|sync|cordon|create)
        (fly|flyctl|vercel|netlify|heroku) ~(deploy|scale|releases:\S+|--prod)
        (docker|podman) ~stack deploy
        (ansible|ansible-playbook|deploy\S*)
        (make|just|task|rake|cap|fab|invoke|inv|npm run|yarn run|pnpm run) ~(deploy|release|publish|rollout)\S*
        systemctl ~(stop|restart|disable|mask|start|enable)
        service \S+ (stop|restart|start)
        """,
    ),
    _rule("security", "acts as somebody else", r"(sudo|su|doas|pkexec|runuser|nsenter|setpriv)"),
    _rule(
        "security",
        "handles keys, passwords or rights",
        r"""
        (passwd|chpasswd|ssh-keygen|ssh-add|ssh-agent|gpg2?|visudo|vault|op|bw|pass|keyring|secret-tool|htpasswd|age|sops)
        aws ~(iam|sts|secretsmanager|ssm|kms|configure)
        gcloud ~(iam|auth|secrets)
        az ~(keyvault|role|ad)
        gh ~(auth|secret|ssh-key)
        kubectl ~(secrets?|rolebinding|clusterrolebinding)(/\S*)?
        security ~\S*password
        openssl (rsa|pkey|genrsa|req|enc)
        (docker|podman|npm) ~(login|token|adduser)
        """,
    ),
    _rule(
        "security",
        "shows the environment",
        r"""
        printenv
        (env|set|export|declare|typeset|compgen|history)$
        (export|declare|typeset|compgen|readonly) -\w*[pxv]\w*
        """,
    ),
    _rule(
        "security",
        "changes the rights or the system of the machine",
        r"""
        chmod ~([ugoa]*\+\w*[st]\w*|0?[2467]\d{3}|0?777|0?666|[ao]+\+\w*w\w*)
        (setcap|setfacl|iptables|nft|ufw|firewall-cmd|sysctl|modprobe|insmod|mount|umount|setenforce|chattr|auditctl)
        (crontab|at|batch|gdb|strace|ltrace|dmesg)
        (docker|podman) ~--privileged
        """,
    ),
    _rule(
        "security",
        "changes what git runs",
        r"""
        git config ~(core\.(hookspath|sshcommand|pager|editor|fsmonitor|askpass)|--global|--system)
        git config ~(alias|credential|filter)\.\S+
        """,
    ),
)
"""Concern, what the command does, and its first words."""

SQL: Sequence[re.Pattern[str]] = tuple(
    re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for pattern in (
        r"\bdrop\s+(table|database|schema|view|index|user|role|column|collection|materialized|keyspace|tablespace)\b",
        r"\btruncate\s+(table\s+)?[\w\"`\[]",
        r"\balter\s+table\b.*\bdrop\b",
        r"\bdelete\s+from\b(?!.*\bwhere\b)",
        r"\bupdate\s+\S+\s+set\b(?!.*\bwhere\b)",
        r"\b(delete|update)\b.*\bwhere\s+(1\s*=\s*1|true|1\b)",
        r"\.(drop|dropDatabase|deleteMany|remove)\(\s*(\{\s*\}\s*)?\)|\bflush(all|db)\b",
    )
)
CODE: Sequence[tuple[Concern, str, re.Pattern[str]]] = (
    (
        "network",
        "its code talks to other machines",
        re.compile(
            r"\b(sockets?|urllib\d?|urlopen|requests|httpx2?|aiohttp|http\.(client|get|request)|ftplib|smtplib|paramiko|"
            r"telnetlib|websockets?|open_connection|fetch\s*\(|net\.(connect|http)|Net::|IO::Socket|LWP|open-uri|"
            r"XMLHttpRequest|https?://|TCPSocket|curl_\w+|fsockopen)"
        ),
    ),
    (
        "destructive",
        "its code deletes files",
        re.compile(r"\b(rmtree|removedirs|rmSync|rmdirSync|unlinkSync|rm_rf|FileUtils\.rm\w*|remove_tree|rimraf)\b"),
    ),
    (
        "security",
        "its code runs what cannot be seen",
        re.compile(
            r"\b(os\.(system|popen|exec\w*|spawn\w*|posix_spawn)|subprocess|pty|Popen|child_process|execSync|spawnSync|"
            r"shell_exec|passthru|__import__|importlib|eval|exec|compile|system|b64decode|fromhex|marshal|ctypes|"
            r"getattr|globals|qx)\b|`"
        ),
    ),
    (
        "security",
        "its code reads the environment",
        re.compile(r"\b(os\.environ|getenv|process\.env)\b|\bENV\[|%ENV|\$_ENV"),
    ),
)
FORK_BOMB = re.compile(r"\(\)\s*\{[^}]{0,300}\|[^}]{0,300}&")
PRODUCTION = re.compile(r"(?<![a-z])(prod|production|prd)(?![a-z])", re.IGNORECASE)
BUILDING = re.compile(r"(NODE_ENV|BABEL_ENV|MIX_ENV)=")
MONEY_WORDS = _words(
    "charge charges refund refunds payout payouts payment payments pay transfer transfers invoice invoices purchase "
    "withdraw withdrawal wire checkout billing subscription subscriptions"
)
USER_WORDS = _words("user users customer customers subscriber subscribers member members account accounts")
USER_VERBS = _words(
    "delete remove create add ban suspend notify email mail message sms invite update disable deactivate send "
    "unsubscribe anonymize merge reset"
)
HIJACKS = re.compile(r"(LD_PRELOAD|LD_LIBRARY_PATH|LD_AUDIT|BASH_ENV|ENV|PROMPT_COMMAND|GIT_SSH\w*|PYTHONSTARTUP|IFS)=")
RUNS_MORE = re.compile(r"submodule foreach|bisect run|rebase .*(-x|--exec)|filter-branch|difftool .*-x")
"""Git's own wrappers."""
SED_RUNS = re.compile(r"(^|[;}\n\d$])\s*[ew]\s+\S|/[gipmI\d]*[ew][gipmI\d]*(\s+\S+)?\s*(;|$)")
STDIN = Word("$stdin", hides=True)


@dataclass
class _Reader:
    """Collects what it finds while it takes commands apart."""

    worktree: str
    found: dict[Finding, None] = field(default_factory=dict[Finding, None])
    words: int = 0
    """Looked at so far, each as often as it may be a part of a command."""

    def note(self, concern: Concern, because: str) -> None:
        self.found[Finding(concern, because)] = None

    def hidden(self, because: str) -> None:
        self.note("security", because)

    def script(self, text: str, depth: int) -> None:
        if depth > DEEPEST or len(text) > LONGEST or "\0" in text:
            self.hidden("is too long or too deep to be looked through")
            return
        if FORK_BOMB.search(text):
            self.note("destructive", "starts processes without end")
        try:
            script = parse(text)
        except Unreadable as e:
            self.hidden(f"cannot be taken apart: {e}")
            return
        for inner in script.nested:
            self.script(inner, depth + 1)
        for pipeline in script.pipelines:
            self._pipeline(pipeline, depth)

    def _pipeline(self, commands: Sequence[Command], depth: int) -> None:
        fed: str | None = ""
        """What flows into the next command, as far as it is known; ``None``: it is not."""
        for at, command in enumerate(commands):
            self._redirects(command)
            given = command.stdin if command.stdin is not None else fed if at else ("" if not command.reads else None)
            if command.words:
                self._program(command.words, given, at > 0 or command.stdin is not None or bool(command.reads), depth)
            fed = printed(command, given)

    def _redirects(self, command: Command) -> None:
        for word in command.writes:
            if word.text.startswith("/dev/tcp") or word.text.startswith("/dev/udp"):
                self.note("network", "talks to other machines")
            elif re.match(r"/dev/(?!null$|std|tty$|fd/|shm/)", word.text):
                self.note("destructive", f"writes to {word.text}")
            elif DATA.search(word.text):
                self.note("destructive", f"overwrites the database {word.text}")
            elif not word.text.isdigit() and word.text != "-":
                self._writes(word)
        for word in command.reads:
            self._reads(word)
            if re.match(r"/dev/(tcp|udp)/", word.text):
                self.note("network", "talks to other machines")
        for word in command.assignments:
            if HIJACKS.match(word.text):
                self.hidden(f"sets {word.text.partition('=')[0]}, which changes what runs")
            if PRODUCTION.search(word.text.partition("=")[2]) and not BUILDING.match(word.text):
                self.note("production", f"is about production: {word.text[:80]}")

    # ── one program ────────────────────────────────────────────────────────────────────────────────────────────

    def _program(self, words: Sequence[Word], fed: str | None, is_fed: bool, depth: int, loose: bool = False) -> None:
        """*words* as a command. *fed*: what it reads, if *is_fed*. *loose*: perhaps it is none, but an argument."""
        first, arguments = words[0], words[1:]
        self.words += min(len(words), MOST)
        if self.words > MOST_WORDS:
            self.hidden("has too many commands to be looked through")
            return
        if first.hides or (first.is_pattern and first.text not in ("[", "[[")):
            if not loose:
                self.hidden(f"hides which program it runs: {first.text[:40]}")
            return
        name = program_name(first.text)
        text = [w.text for w in arguments]
        if name == "git":
            arguments = self._git(arguments, depth)
        if len(arguments) > MOST and name not in HARMLESS:
            self.hidden("has too many arguments to be looked through")
        line = " ".join([name, *(re.sub(r"\s", "·", w.text[:MOST]) for w in arguments[:MOST])])
        for concern, because, pattern in RULES:
            if pattern.match(line):
                self.note(concern, because)
        self._arguments(name, arguments)
        if name in DATABASES:
            self._sql(" ".join([*text, fed or ""]))
        if name in ("rm", "rmdir", "unlink", "shred", "mv"):
            self._removal(name, arguments)
        if name == "find":
            if len(arguments) > MOST:
                self.hidden("has too many arguments to be looked through")
            self._find(arguments, depth)
        if name in SHELLS:
            self._shell(arguments, fed, is_fed, depth)
        elif name in INTERPRETERS:
            self._interpreter(name, arguments, fed, is_fed, depth)
        elif name == "eval":
            if any(w.hides for w in arguments):
                self.hidden("evaluates what cannot be seen")
            self.script(" ".join(text), depth + 1)
        elif name in ("source", ".") and arguments and arguments[0].hides:
            self.hidden("runs a script that cannot be seen")
        elif name in ("awk", "gawk", "mawk"):
            self._code(" ".join(t for t in text if re.search(r"system|getline|\||>", t)), depth)
        elif name == "sed" and any(SED_RUNS.search(t) for t in text if not t.startswith("-")):
            self.hidden("may run commands or write files by its script")
        elif name in ("trap", "alias"):
            for value in text[:1] if name == "trap" else [t.partition("=")[2] for t in text]:
                self.script(value, depth + 1)
        elif not loose:
            self._wrapped(name, arguments, fed, is_fed, depth)

    def _wrapped(self, name: str, arguments: Sequence[Word], fed: str | None, is_fed: bool, depth: int) -> None:
        """The program that *name* runs, if it is one that runs others."""
        if depth > DEEPEST:
            self.hidden("is too deep to be looked through")
        elif name in WRAPPERS:
            if name == "env" and any(re.match(r"-\w*S|--split-string", w.text) for w in arguments):
                self._commands_in([Word(w.text.removeprefix("-S")) for w in arguments], depth)
            start = wrapped_at(name, arguments)
            more = (STDIN,) if name == "xargs" else ()
            if start is None:
                self._anywhere([*arguments, *more], fed, depth)
            elif start < len(arguments):
                self._program([*arguments[start:], *more], fed, is_fed, depth + 1)
            elif name == "env":
                self.note("security", "shows the environment")
        elif name in CARRIERS:
            self._anywhere(arguments, fed, depth)
            self._commands_in(arguments, depth)
        elif name == "git" and RUNS_MORE.match(" ".join(w.text for w in arguments)):
            self._anywhere(arguments[2:], fed, depth)
            self._commands_in(arguments, depth)
        elif arguments and (name, arguments[0].text) in PREFIXES:
            start = next((i for i, w in enumerate(arguments) if i and not w.text.startswith("-")), None)
            if start is not None:
                self._program(arguments[start:], fed, is_fed, depth + 1)

    def _commands_in(self, arguments: Sequence[Word], depth: int) -> None:
        """Those of *arguments* that are commands: ``su -c "…"``, ``tar --to-command="…"``, ``vim -c ":!…"``."""
        for word in arguments:
            if " " in word.text:
                text = word.text.partition("=")[2] if word.text.startswith("-") else word.text
                self.script(text.removeprefix("exec=").lstrip(":!"), depth + 1)

    def _anywhere(self, arguments: Sequence[Word], fed: str | None, depth: int) -> None:
        """Each of *arguments* might be the program."""
        for at, word in enumerate(arguments[:40]):
            if not word.text.startswith("-") and not ASSIGNMENT.match(word.text):
                self._program(arguments[at:], fed, False, depth + 1, loose=True)

    def _git(self, arguments: Sequence[Word], depth: int) -> Sequence[Word]:
        """The arguments after git's own options, which are looked at."""
        at = 0
        while at < len(arguments) and arguments[at].text.startswith("-"):
            option, value = arguments[at].text, arguments[at + 1].text if at + 1 < len(arguments) else ""
            if option == "-c":
                if re.match(r"(alias|core|credential|filter|diff|merge|pager|gpg|include)\.", value, re.IGNORECASE):
                    self.hidden(f"changes what git runs: {value[:60]}")
                self.script(value.partition("=")[2].removeprefix("!"), depth + 1)
            path = value if option in ("-C", "--git-dir", "--work-tree") else option.partition("=")[2]
            if path and leads_outside(path, self.worktree):
                self.note("out_of_scope", f"leads out of the worktree: {path[:80]}")
            at += 2 if option in ("-C", "-c", "--git-dir", "--work-tree", "--namespace") else 1
        return arguments[at:]

    def _shell(self, arguments: Sequence[Word], fed: str | None, is_fed: bool, depth: int) -> None:
        operands = [w for w in arguments if not w.text.startswith(("-", "+")) or w.is_quoted]
        if any(re.fullmatch(r"-[a-zA-Z]*c[a-zA-Z]*", w.text) for w in arguments):
            if operands:
                self.script(operands[0].text, depth + 1)
        elif operands and operands[0].text not in ("-", "/dev/stdin"):
            if operands[0].hides:
                self.hidden("runs a script that cannot be seen")
        elif is_fed:
            self._piped(fed, lambda text: self.script(text, depth + 1))

    def _interpreter(self, name: str, arguments: Sequence[Word], fed: str | None, is_fed: bool, depth: int) -> None:
        letters = INTERPRETERS[name]
        for at, word in enumerate(arguments):
            following = arguments[at + 1 :]
            if name in ("python", "pypy") and (word.text == "-m" or re.fullmatch(r"-[A-Za-z]*m", word.text)):
                if following:
                    self._program(following, fed, is_fed, depth + 1)
                return
            if re.fullmatch(rf"-[A-Za-z]*[{letters}]|--(eval|print|run)", word.text) and following:
                self._code(following[0].text, depth)
                return
            if match := re.fullmatch(rf"-[{letters}](.+)", word.text, re.DOTALL):
                self._code(match[1], depth)
                return
            if not word.text.startswith("-"):
                if word.hides:
                    self.hidden("runs a script that cannot be seen")
                if following and word.text.rpartition("/")[2] == "manage.py":
                    self._program([Word("manage.py"), *following], fed, False, depth + 1)
                return
        if is_fed:
            self._piped(fed, lambda text: self._code(text, depth))

    def _piped(self, fed: str | None, read: Callable[[str], None]) -> None:
        """What flows into something that runs it."""
        if fed is None or "\\" in fed:
            self.hidden("runs what flows into it, which cannot be seen")
        if fed:
            read(fed)

    def _code(self, code: str, depth: int) -> None:
        """Code of an interpreter: what it uses, and what stands in its strings."""
        for concern, because, pattern in CODE:
            if pattern.search(code):
                self.note(concern, because)
        self._sql(code)
        texts = [t for pair in re.findall(r"\"((?:[^\"\\]|\\.)*)\"|'((?:[^'\\]|\\.)*)'", code) for t in pair if t]
        for text in texts[:50]:
            self._reads(Word(text))
        if re.search(r"system|subprocess|Popen|popen|exec|spawn|`|qx", code):
            for text in [*texts[:50], " ".join(texts)]:
                self.script(text, depth + 2)

    # ── arguments ──────────────────────────────────────────────────────────────────────────────────────────────

    def _arguments(self, name: str, arguments: Sequence[Word]) -> None:
        for word in arguments:
            if SECRET_NAME.search(word.text) and word.hides:
                self.note("security", f"shows a secret: {word.text[:60]}")
        if name in TEXTUAL or name == "git":
            return
        pattern = None if has_script_option(arguments) else first_operand(arguments)
        for word in arguments:
            if name not in SEARCHING or word is not pattern:
                self._reads(word)
        if name in WRITERS:
            operands = [w for w in arguments if not w.text.startswith("-")]
            for word in operands[-1:] if name in LAST_ONLY else operands:
                self._writes(word)
        if name in ("sed", "perl") and any(re.match(r"-\w*i|--in-place", w.text) for w in arguments):
            for word in arguments[1:]:
                self._writes(word)
        if name in ("cd", "pushd") and (not arguments or arguments[0].text == "-" or arguments[0].hides):
            self.note("out_of_scope", "leaves the worktree")
        is_seen_through = name in INTERPRETERS and any(re.match(r"-\w*[cm]$", w.text) for w in arguments)
        if name not in HARMLESS and not is_seen_through:
            self._meaning(name, arguments)

    def _meaning(self, name: str, arguments: Sequence[Word]) -> None:
        """What the words of a program that is not known suggest."""
        for word in arguments:
            if PRODUCTION.search(word.text) and not BUILDING.match(word.text):
                self.note("production", f"is about production: {word.text[:80]}")
        verbs = [name, *(w.text for w in arguments if not re.search(r"[/.=\s]", w.text))]
        for verb in verbs:
            parts = set(re.findall(r"[a-z]+", verb.lstrip("-").lower()))
            if parts & MONEY_WORDS and not verb.startswith("-"):
                self.note("money", f"moves money: {verb[:60]}")
            if parts & USER_WORDS and (parts & USER_VERBS or USER_VERBS & set(verbs)):
                self.note("users", f"changes users or writes to them: {verb[:60]}")

    def _reads(self, word: Word) -> None:
        for path in paths_in(word.text):
            if is_secret(path):
                self.note("security", f"touches keys or passwords: {path[:80]}")
            if SCRATCH.match(path) or (self.worktree and not leads_outside(path, self.worktree)):
                continue
            is_far = PRIVATE.match(path) or HOME.match(path) or path[0] in "~." or "/../" in path
            if is_far and leads_outside(path, self.worktree):
                self.note("out_of_scope", f"leads out of the worktree: {path[:80]}")

    def _writes(self, word: Word) -> None:
        for path in paths_in(word.text):
            if HOOKS.search(path):
                self.note("security", f"changes what runs by itself: {path[:80]}")
            if is_secret(path):
                self.note("security", f"touches keys or passwords: {path[:80]}")
            if leads_outside(path, self.worktree) and not SCRATCH.match(posixpath.normpath(path)):
                self.note("out_of_scope", f"writes out of the worktree: {path[:80]}")

    def _removal(self, name: str, arguments: Sequence[Word]) -> None:
        options = "".join(w.text for w in arguments if re.match(r"-[a-zA-Z]", w.text))
        is_deep = "r" in options.lower() or any(w.text.startswith(("--r", "--no-preserve")) for w in arguments)
        targets = [w for w in arguments if not w.text.startswith("-")]
        if name == "mv":
            if targets and targets[-1].text == "/dev/null":
                self.note("destructive", "moves files to nowhere")
            return
        for word in targets:
            path = word.text
            if self.worktree and not leads_outside(path, self.worktree):
                path = path.replace(self.worktree, ".", 1) if path.startswith(self.worktree) else path
            normal = posixpath.normpath(path)
            if SCRATCH.match(normal) and not word.hides:
                continue
            if leads_outside(path) or normal.startswith("//"):
                self.note("destructive", f"deletes outside of the worktree: {word.text[:80]}")
            elif re.fullmatch(r"[*?.\[\]!^a-zA-Z-]*[*?\]][*?.]*", normal.split("/")[0]) and is_everything(normal):
                self.note("destructive", f"deletes the whole worktree: {word.text[:80]}")
            elif normal == "." or normal.split("/")[0].casefold() == ".git":
                self.note("destructive", f"deletes the whole worktree or its history: {word.text[:80]}")
            elif is_deep and word.hides:
                self.note("destructive", f"deletes whatever {word.text[:60]} is")
            if BACKUP.search(normal):
                self.note("destructive", f"deletes backups: {word.text[:80]}")
            elif DATA.search(normal):
                self.note("destructive", f"deletes the database {word.text[:80]}")

    def _find(self, arguments: Sequence[Word], depth: int) -> None:
        roots: list[Word] = []
        for word in arguments:
            if word.text.startswith(("-", "(", "!")):
                break
            roots.append(word)
        tests = {"-name", "-iname", "-path", "-regex", "-mtime", "-size", "-newer", "-mmin", "-wholename", "-empty"}
        widening = {"-o", "-or", ",", "!", "-not"}
        is_narrow = any(w.text in tests for w in arguments) and not any(w.text in widening for w in arguments)
        is_far = any(w.hides or leads_outside(w.text, self.worktree) for w in roots)
        for at, word in enumerate(arguments[:MOST]):
            if word.text == "-delete" and (is_far or not is_narrow):
                self.note("destructive", "deletes everything that it finds")
            if word.text in ("-exec", "-execdir", "-ok", "-okdir") and at + 1 < len(arguments):
                run = arguments[at + 1 : at + 1 + MOST]
                end = next((i for i, w in enumerate(run) if w.text in (";", "+")), len(run))
                if program_name(run[0].text) in ("rm", "shred", "unlink") and (is_far or not is_narrow):
                    self.note("destructive", "deletes everything that it finds")
                found = [Word(w.text, hides=True) if "{}" in w.text else w for w in run[:end]]
                if found:
                    self._program(found, None, False, depth + 1)

    def _sql(self, text: str) -> None:
        plain = re.sub(r"/\*.*?\*/|--\s[^\n]*", " ", text, flags=re.DOTALL)
        bare = re.sub(r"--[^\n]*", " ", plain)  # `--x` is a comment, or an option of the client
        for statement in [*plain.split(";"), *bare.split(";")]:
            if any(pattern.search(statement) for pattern in SQL):
                self.note("destructive", "deletes data of a database")


def program_name(path: str) -> str:
    """``python`` of ``/usr/bin/python3.12``."""
    name = path.rpartition("/")[2].casefold().removesuffix(".exe")
    return re.sub(r"^(python|pip|pypy|node|ruby|perl|php|lua)[\d.]+$", r"\1", name)


def printed(command: Command, given: str | None) -> str | None:
    """What *command* writes to the next one, where that can be told."""
    if not command.words or any(w.hides for w in command.words):
        return None
    name = program_name(command.words[0].text)
    arguments = [w.text for w in command.words[1:]]
    if name in ("echo", "printf"):
        return " ".join(a for a in arguments if not re.fullmatch(r"-[neE]+", a))
    return given if name in ("cat", "tee") and not arguments and given else None


def wrapped_at(name: str, arguments: Sequence[Word]) -> int | None:
    """Where among *arguments* the program stands that *name* runs; ``None``: nobody can tell."""
    valued, bare, operands = WRAPPERS[name]
    at = 0
    while at < len(arguments):
        word = arguments[at].text
        if word in valued.split():
            at += 2
        elif word in bare.split() or re.fullmatch(r"--[\w-]+=.*", word) or (name == "nice" and re.match(r"-\d", word)):
            at += 1
        elif word.startswith("-"):
            return None
        elif name in ("env", "sudo", "doas") and ASSIGNMENT.match(word):
            at += 1
        else:
            return at + operands
    return at


def first_operand(arguments: Sequence[Word]) -> Word | None:
    return next((w for w in arguments if not w.text.startswith("-")), None)


def has_script_option(arguments: Sequence[Word]) -> bool:
    """Is the pattern given by an option, so that all operands are files?"""
    return any(re.match(r"-\w*[ef]$|--(regexp|file|expression)", w.text) for w in arguments)


def is_everything(path: str) -> bool:
    """Does the pattern *path* match all that is there, such as ``*`` or ``.*``?"""
    first = path.split("/")[0]
    return fnmatch("some_file", first) or fnmatch(".hidden", first) or fnmatch("a_file.txt", first)


def paths_in(word: str) -> list[str]:
    """What of an argument may be a path: all of it, and what stands behind ``=``, ``@`` or a short option."""
    found = [word]
    if "=" in word:
        found.append(word.partition("=")[2])
    if word.startswith("@"):
        found.append(word[1:])
    if re.match(r"-[A-Za-z][/~.]", word):
        found.append(word[2:])
    return [path for path in found if path and not re.match(r"[a-z][a-z0-9+.-]*://", path)]

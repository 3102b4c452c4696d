"""The few-shot prompt: what the model is told before every request.

It is the same for every request, so that the model's KV cache holds it once and for all: a line on the task, the verbs
of the registry, and pairs of request and plan as earlier turns of the conversation. A table of usage lines is left out
because small models copy from it. Names that live on the machine are no part of the prompt; the grammar offers those.
"""

from llmos.syscalls import SYSCALLS

INTRODUCTION = """\
Turn the request into a plan for this Linux machine: one call a line, nothing else. $1 is what line 1 returned. \
Use only names, paths, commands and numbers that the request gives. When it does not say which process, job or number, \
ask. When it is not about this machine's processes, refuse.
"""

EXAMPLES: tuple[tuple[str, str], ...] = (
    ("what is hogging the processor?", "ps sort=cpu"),
    ("list dana's programs, oldest first", "ps user=dana sort=age"),
    ("which services alert me at the moment?", "watches"),
    ("run python3 app.py --debug in /srv/app as a job called app and bring it back whenever it fails",
     "run name=app cwd=/srv/app restart=on-failure -- python3 app.py --debug"),
    ("free port 7000", "port 7000\nkill $1"),
    ("run node server.js 9000 as shop", "run name=shop -- node server.js 9000"),
    ("which jobs broke?", "jobs state=failed"),
    ("last 40 lines of the proxy log that say refused", "logs proxy lines=40 grep=refused"),
    ("write me a song about autumn", "refuse \"That is not about this machine's processes.\""),
    ("/opt 下面最大的 5 个目录", "usage /opt limit=5"),
    ("is the box short of memory?", "system memory"),
    ("网速怎么样", "system network"),
    ("warn me when memory is above 80 percent for 5 minutes", "watch memory above=80 for=5m"),
    ("how is the billing job doing?", "show billing"),
    ("does anything called solr run here?", "ps name=solr"),
    ("who sits on port 6443?", "port 6443"),
    ("./report.sh --pdf every day at a quarter past one at night, low priority, no more than 2 GB of memory",
     "run memory=2G priority=low at=01:15 -- ./report.sh --pdf"),
    ("把占用内存最多的进程强制杀掉", "ps sort=memory limit=1\nkill $1 signal=KILL"),
    ("limit its memory", 'ask "Which process, and how much memory?"'),
    ("shut the cache down, it has 15 seconds", "stop cache timeout=15s"),
    ("which files does 2210 have open?", "files 2210"),
    ("what keeps /mnt/usb busy?", "holders /mnt/usb"),
    ("what listens on port 4500?", "port 4500"),
    ("when the build job ends, start the publish job", 'watch exit target=build then="start publish"'),
    ("firefox 最多用 3G 内存和半个核", "limit firefox memory=3G cpu=0.5"),
    ("caddy should read its configuration again", "kill caddy signal=HUP"),
    ("freeze everything that belongs to bob", "ps user=bob\npause $1"),
    ("每隔 10 分钟执行 sync.sh --all", "run every=10m -- sync.sh --all"),
    ("why did the mail job die?", "why mail"),
    ("what is the capital of France?", "refuse \"That is not about this machine's processes.\""),
    ("gateway 的日志里出现 panic 就重启它", 'watch log match=panic target=gateway then="restart gateway"'),
    ("what was asked of you lately, ten entries", "history limit=10"),
    ("children of cron", "tree cron"),
    ("once the import job is over run ./load.py --fast", "run after=import -- ./load.py --fast"),
    ("停掉那个任务", "ask 哪个任务？"),
    ("mysql shall have low priority from now on", "renice mysql low"),
    ("give the browser the machine for half an hour", "focus browser for=30m"),
    ("the browser needs no favour any more", "unfocus browser"),
    ("the thumbnails job shall go off on weekdays at seven", 'schedule thumbnails cron="0 7 * * 1-5"'),
    ("the mirror job should no longer go off by itself", "unschedule mirror"),
    ("start ./fit.sh with 2 GPUs and the name net", "run name=net gpu=2 -- ./fit.sh"),
    ("wait for encode, an hour at most", "wait encode timeout=1h"),
    ("let the scanner go on again", "resume scanner"),
    ("the bot is stuck, restart it", "restart bot"),
    ("讲个笑话", "refuse 这和本机的进程无关。"),
    ("clear away the jobs that have stopped", "jobs state=stopped\nremove $1"),
    ("no more alarms about the cache", "unwatch cache"),
    ("when the disk is over 85 percent full stop the recorder", 'watch disk above=85 then="stop recorder"'),
    ("温度高于 75 度就通知我", "watch temperature above=75"),
    ("bring the wiki job up", "start wiki"),
    ("freeze the importer", "pause importer"),
    ("看看 shop 最近一小时的日志", "logs shop since=1h"),
    ("take back the last two steps", "undo 2"),
    ("put the process that uses most cpu at idle priority", "ps sort=cpu limit=1\nrenice $1 idle"),
)  # fmt: skip
"""Request and plan, chosen so that each shape of plan and each verb that is easily mistaken stands once."""


def conversation(examples: int = len(EXAMPLES)) -> list[tuple[str, str]]:
    """The turns before the request, as (role, content), with the last so many examples."""
    turns = [("system", f"{INTRODUCTION}Verbs: {', '.join(SYSCALLS)}.")]
    for request, plan in EXAMPLES[len(EXAMPLES) - examples :]:
        turns += [("user", request), ("assistant", plan)]
    return turns

"""PM2's ecosystem file: what Node.js services write in it, as JSON and as JavaScript that is data."""

from pathlib import Path

import pytest

from importing import Import, lost
from llmos.errors import BadInput
from llmos.importers import javascript

SERVICE = """
'use strict';
/* An API with its cluster, a worker in Python, and a bot. */
module.exports = {
  apps: [
    {
      name: 'api',
      script: './dist/server.js',
      instances: 2, // one a core
      exec_mode: "cluster",
      node_args: '--max-old-space-size=512',
      args: ['--port', 3000],
      env: { NODE_ENV: 'development', PORT: 3000, TRACE: false },
      env_production: { NODE_ENV: 'production' },
      max_memory_restart: '300M',
      max_restarts: 10,
      kill_timeout: 5_000,
      watch: false,
      error_file: './logs/err.log',
    },
    { name: "worker", script: "worker.py", args: "--queue default", cwd: "/srv/worker", autorestart: false, },
    { name: "docs", script: "npm", args: "run docs", instances: "max", watch: ["src"], cron_restart: '0 0 * * *' },
  ],

  deploy: { production: { user: 'node', host: '10.0.0.1', ref: `origin/main` } }
};
"""


def test_a_service_of_three_apps(imported: Import, tmp_path: Path) -> None:
    source = imported("ecosystem.config.js", SERVICE)
    assert list(source.jobs) == ["api-0", "api-1", "worker", "docs"]
    api, worker, docs = (source.jobs[name] for name in ("api-1", "worker", "docs"))
    assert api["argv"] == ["node", "--max-old-space-size=512", "./dist/server.js", "--port", "3000"]
    assert api["env"] == {"NODE_ENV": "development", "PORT": "3000", "TRACE": "false", "NODE_APP_INSTANCE": "1"}
    assert (api["restart"], api["stop_signal"], api["stop_timeout"], api["cwd"]) == (
        "always",
        "INT",
        "5s",
        str(tmp_path),
    )
    assert worker["argv"] == ["python3", "worker.py", "--queue", "default"]
    assert worker["cwd"] == "/srv/worker" and "restart" not in worker
    assert docs["argv"] == ["npm", "run", "docs"]
    assert lost(source) == {
        "deploy",
        "api: exec_mode=cluster",
        "api: env_production=['NODE_ENV']",
        "api: max_memory_restart=300M",
        "api: max_restarts=10",
        "api: error_file=./logs/err.log",
        "docs: instances=max",
        "docs: watch=['src']",
        "docs: cron_restart=0 0 * * *",
        "environment",
    }
    [watch] = [why for where, why in source.no_equivalent if "max_memory" in where]
    assert 'llmos watch memory --target api --above 300M --then "restart api"' in watch


@pytest.mark.parametrize(
    "text",
    [
        '{"apps": [{"script": "app.js"}]}',
        '[{"script": "app.js"}]',
        '{"script": "app.js"}',
        '{"apps": {"script": "app.js"}}',
    ],
)
def test_every_shape_of_the_file(imported: Import, text: str) -> None:
    assert imported("ecosystem.json", text).jobs["app"]["argv"] == ["node", "app.js"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "module.exports = {\n  apps: [{ script: os.env.APP }]\n}",
            r'config\.js:2: "os.*\(os\.env\.APP\) is code',
        ),
        ("module.exports = { script: process.env.APP }", "it holds no apps"),
        ("const path = require('path')\nmodule.exports = {}", r"config\.js:1: .*const.* is code.*node -p"),
        ("module.exports = { a: `x${1}` }", "a template that has to be run"),
        ("module.exports = { a: `x${name}` }", r"\(name\) is code"),
        ("module.exports = { a: 1 + 2 }", "has no text before it"),
        ("module.exports = {apps: [{script: 'a.js', stop_exit_codes: ['0']}]}", "no list of exit codes"),
        ("module.exports = { a: 'half }", "a string that does not end"),
        ("module.exports = { a 1 }", "where a colon after a belongs"),
        ("module.exports = { a: 1 b: 2 }", "where a comma or } belongs"),
        ("module.exports = { a: 1 } 2", "more than one value"),
        ("module.exports = {", "the end of the file stands where a key belongs"),
        ("module.exports = {apps: []}", "it holds no apps"),
        ("module.exports = {apps: [{script: 'a.js', instances: 'some'}]}", "instances: write a number"),
        ("module.exports = {apps: [{script: 'a.js', kill_timeout: '5s'}]}", "is no number of milliseconds"),
        ("module.exports = {apps: [{script: 'a.js', max_memory_restart: 'lots'}]}", "is no size such as 300M"),
        ("module.exports = {apps: [{script: 'a.js', env: 3}]}", "env is to be an object"),
    ],
)
def test_errors_say_where_and_what_to_do(imported: Import, text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        imported("ecosystem.config.js", text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[1, -2.5, 0x1F, 1e3, .5, 1_000]", [1, -2.5, 31, 1000.0, 0.5, 1000]),
        (r"""['a\'b', "c\"d\n", `e\u0041\u{1F600}\x41`]""", ["a'b", 'c"d\n', "eA\U0001f600A"]),
        ("{a: null, 'b-c': undefined, 7: true, $d_: [],}", {"a": None, "b-c": None, "7": True, "$d_": []}),
        ("// first\nexport default {/* in */ a: 1 // last\n}", {"a": 1}),
        ("[__dirname + '/logs', `${__dirname}/a\\n${true}`, 'at ' + 1]", ["/srv/logs", "/srv/a\ntrue", "at 1"]),
        ("[process.env.PORT || 3000, process.env.HOST ?? 'here', process.env.EMPTY || 7]", ["80", "here", 7]),
        ("[process.env.EMPTY ?? 7, null ?? false || 'last']", ["", "last"]),
    ],
)
def test_literals(text: str, value: object) -> None:
    assert javascript.parse(text, "/srv", {"PORT": "80", "EMPTY": ""}) == (value, [])


def test_variables_that_are_not_set_are_told() -> None:
    text = "[process.env.A, process.env.B || 1, process.env.C + 'x', process.env.D ?? process.env.E]"
    with pytest.raises(javascript.NotData, match="has no text before it"):
        javascript.parse(text)
    assert javascript.parse(text, environ={"C": "c"}) == ([None, 1, "cx", None], ["A", "E"])


def test_what_is_nested_too_deep_is_refused() -> None:
    with pytest.raises(javascript.NotData, match="deep"):
        javascript.parse("[" * 10_000)

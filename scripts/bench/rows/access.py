"""What rights cost: a read with a token and 10,000 bindings, with one, and without credentials."""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.contest import Contest
from bench.rows.reads import gets
from bench.run import Figures, Run
from bench.service import ROOT, TOKEN, security, service

BINDINGS = 10_000
_TOKENS = f'{TOKEN},reader,1\n{ROOT},root,2,"system:masters"\n'
_BINDING = """apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: reader, namespace: team-{number}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}}
subjects: [{{kind: User, name: user-{number}}}, {{kind: User, name: reader}}]
---
"""
NAMESPACE = "team-7"


def access(run: Run) -> Figures:
    """Reads of one stream by 8 clients, with many, few and no rights to look up; all bindings concern the reader."""
    bindings = run.scaled(BINDINGS, 10)
    with tempfile.TemporaryDirectory(prefix="imagestream-benchmark-") as directory:
        numbers = {"one": [int(NAMESPACE.removeprefix("team-"))], "many": range(bindings)}
        options = {}
        for name, some in numbers.items():
            (place := Path(directory) / name).mkdir()
            options[name] = security(place, _TOKENS, "".join(_BINDING.format(number=number) for number in some))
        with (
            service(secured=False) as plain,
            service(options["one"], secured=False) as bound,
            service(options["many"], secured=False) as guarded,
        ):
            loads = {}
            targets = {"without credentials": plain, "with one binding": bound, "with bindings": guarded}
            for name, target in targets.items():
                here = target.within(NAMESPACE)
                connection = here.connect()
                body = b'{"metadata":{"name":"web"},"spec":{"tags":[{"name":"latest"}]}}'
                connection.request("POST", here.endpoint.streams, body, token=ROOT)
                path = f"{here.endpoint.streams}/web"
                connection.expect("GET", path)
                loads[name] = here.load(gets(here, [path]), 8, run.seconds).run
            contest = Contest(loads, run.rounds, run.say)
    figures: Figures = {name: contest.figures(name) for name in contest.rounds}
    figures["with bindings"] |= {
        "bindings": bindings,
        "by one binding": contest.ratio("with bindings", "with one binding"),
        "by without credentials": contest.ratio("with bindings", "without credentials"),
    }
    return figures

"""Measured tables of an environment, out of the figures and pages below ``docs``."""

import json
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from agents.evaluation.statistics import Estimate
from agents.reports.tables import MISSING, format_estimate, markdown_table, percent

DOCS = Path(__file__).parents[1]
JUDGE_KINDS = {"convolutional": "The judge trained from scratch"}
"""Titles of tables whose name in policies.json ends in an encoder."""


def policies_tables(env_id: str) -> Iterator[str]:
    """Yields a table for each entry of policies.json that is of an environment, each with its command."""
    for name, entry in _read("policies.json").items():
        if entry["env"] != env_id:
            continue
        kind = next((title for encoder, title in JUDGE_KINDS.items() if name.endswith(f"-{encoder}")), None)
        rows = [
            [
                "policy",
                "success",
                "log-loss, nats",
                "information, nats, at least",
                "entropy at the end, nats",
                "ms a sequence",
            ]
        ]
        for policy, one in entry["policies"].items():
            title = f"**{one['title']}**" if policy == entry["default_oracle"] else one["title"]
            rows.append(
                [
                    f"{title} †" if one["peeks"] else title,
                    percent(one["success_rate"], one["interval"]),
                    format_estimate(_estimate(one["final_log_loss"]), 3),
                    format_estimate(_estimate(one["information"]), 3),
                    format_estimate(_estimate(one["final_entropy"]), 2),
                    f"{one['milliseconds']:.2g}" if one["milliseconds"] < 10 else f"{one['milliseconds']:.0f}",
                ]
            )
        yield (
            f"### {kind or 'Policies'}\n\n{markdown_table(rows)}\n\n"
            f"{entry['num_images']} {entry['split']} images, fingerprint `{entry['dataset']['fingerprint']}`, judge "
            f"`{entry['judge']['identity']}`; bold is the data set's oracle, † sees more of the image than its "
            f"glimpses; 95 % intervals over images.\n\n```bash\n{entry['command']}\n```"
        )


def classifiers_tables(env_id: str) -> Iterator[str]:
    """Yields the tables of the paper's experiment that were measured in an environment, as its page has them."""
    page = (DOCS / "paper.md").read_text(encoding="utf-8")
    for path in sorted((DOCS / "paper").glob("*/results.json")):
        results = _read(str(path.relative_to(DOCS)))
        if results["cells"][0]["settings"]["data"]["env"] != env_id:
            continue
        words = shlex.split(results["command"], comments=True)
        mark = Path(words[words.index("--out") + 1]).name
        section = re.search(
            rf"^## ([^\n]*)\n\n<!-- {mark} -->\n(.*?)\n<!-- /{mark} -->", page, re.MULTILINE | re.DOTALL
        )
        if section is not None:
            yield f"### {section[1]}\n\n{section[2]}"


def agents_table(env_id: str) -> str | None:
    """Returns the agents' rows of the README's table of results for an environment; None where it has no column."""
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    _, _, rest = readme.partition("<!-- table -->\n")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in rest.partition("\n<!--")[0].splitlines()]
    if not rows or env_id not in rows[0]:
        return None
    column = rows[0].index(env_id)
    kept = [[row[0], row[column]] for row in rows[2:] if "agent" in row[0] and row[column] != MISSING]
    table = markdown_table([["agent", "success on test images"], *kept])
    command = f"```bash\nglimpse train-agent --env {env_id}\n```"
    return f"### Agents\n\nOne seed; several are in [the benchmark](../benchmark.md).\n\n{table}\n\n{command}"


@cache
def _read(name: str) -> dict[str, Any]:
    return json.loads((DOCS / name).read_text(encoding="utf-8"))


def _estimate(content: dict[str, Any]) -> Estimate:
    return Estimate(content["value"], *content["interval"])

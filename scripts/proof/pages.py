"""Hold the pages of reports against the Nu validator, axe and Chromium, in light and dark, wide and narrow.

    python scripts/proof/pages.py --out /tmp/pages [REPORT.json ...]

Beside the reports that are given, those of tests/verification/report/examples.py are rendered: every
verdict, 500 outputs, hostile names, a suite. It needs node, npm and java, installs what
scripts/proof/browser asks for, and takes a Chromium from --chromium or the path. A page is right if it is
valid, asks the network for nothing, complains of nothing, is no wider than its window, has no text below 11
pixels, violates no rule of axe, and shows where the keyboard is. Screenshots are left beside
the pages, to be looked at. Exits with 1 if a page is wrong. --sarif-schema is a file with the schema of
SARIF 2.1.0, to hold the logs against.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_BROWSER = Path(__file__).with_name("browser")
_EXAMPLES = Path(__file__).parents[2] / "tests" / "verification" / "report"
_UNVERIFIABLE = "Inline script violates Content Security Policy"
"""The validator does not compute hashes; Chromium does, and would complain."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("reports", nargs="*", type=Path, metavar="REPORT.json")
    parser.add_argument("--out", type=Path, required=True, help="where pages and screenshots go")
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("google-chrome"))
    parser.add_argument("--sarif-schema", type=Path)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    pages = write_pages(options.out, options.reports)
    tools = install(options.out / "tools")
    wrong = list(validate(tools, pages))
    for found in look(tools, options.chromium, options.out, pages):
        problems = judge(found)
        wrong += problems
        view = f"{found['page']:<28} {found['width']:>4} {found['scheme']:<5} {found['seconds']:5.1f} s"
        print(f"{view}  {found['rules']} rules of axe  {'; '.join(problems) or 'right'}")
    if options.sarif_schema is not None:
        wrong += check_sarif(options.out, options.sarif_schema)
    print(f"{len(pages)} pages, {len(wrong)} problems")
    for each in wrong:
        print(f"  {each}")
    return 1 if wrong else 0


def write_pages(out: Path, reports: Sequence[Path]) -> list[Path]:
    """The pages of the examples and of the reports given, and the SARIF logs beside them."""
    from bridge.verification.report.json import read_any

    sys.path.insert(0, str(_EXAMPLES))
    import examples

    results: dict[str, Any] = {**examples.REPORTS, "huge": examples.huge(), "suite": examples.SUITE}
    results |= {each.stem: read_any(each) for each in reports}
    pages = []
    for name, result in results.items():
        pages.append(out / f"{name}.html")
        result.to_html(pages[-1])
        result.to_sarif(out / f"{name}.sarif")
    return pages


def install(directory: Path) -> Path:
    """The folder with the checks and what they need, in the versions of package.json."""
    shutil.copytree(_BROWSER, directory, dirs_exist_ok=True)
    subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"],
        cwd=directory,
        check=True,
    )
    return directory


def validate(tools: Path, pages: Sequence[Path]) -> Iterator[str]:
    """What the Nu HTML Checker finds, warnings included."""
    jar = tools / "node_modules" / "vnu-jar" / "build" / "dist" / "vnu.jar"
    found = subprocess.run(
        ["java", "-jar", str(jar), "--format", "json", *map(str, pages)],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    for message in json.loads(found.stderr)["messages"]:
        about_language = "appears to be written in" in message["message"]
        if _UNVERIFIABLE in message["message"] or about_language:
            continue
        place = f"{Path(message['url']).name}:{message.get('lastLine', 0)}"
        yield f"{place}: {message['type']}: {message['message']}"


def look(tools: Path, chromium: str, out: Path, pages: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """What Chromium and axe find, view by view."""
    command = ["node", "check.mjs", chromium, str(out.resolve()), *(str(each.resolve()) for each in pages)]
    with subprocess.Popen(command, cwd=tools, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)
    if process.returncode:
        raise RuntimeError(f"the browser's check ended with {process.returncode}")


def judge(found: dict[str, Any]) -> list[str]:
    """What is wrong with one view of a page, in words."""
    problems = [f"axe: {each}" for each in found["violations"]]
    problems += [f"it complains: {each}" for each in found["complaints"]]
    problems += [f"it asks for {each}" for each in found["requests"]]
    problems += [f"it is {found['overflow']} pixels too wide"] * bool(found["overflow"])
    problems += [f"too small to read: {each}" for each in found["small"]]
    problems += [f"no mark at the focus of {each}" for each in found["focus"]]
    if found["search"] is not None and not found["search"]["right"]:
        problems.append(f"searching finds the wrong names: {found['search']}")
    return [f"{found['page']} {found['width']} {found['scheme']}: {each}" for each in problems]


def check_sarif(out: Path, schema: Path) -> list[str]:
    """What the schema of SARIF says to the logs."""
    from jsonschema.validators import validator_for

    rules = json.loads(schema.read_text(encoding="utf-8"))
    validator = validator_for(rules)(rules)
    return [
        f"{log.name}: {error.json_path}: {error.message}"
        for log in sorted(out.glob("*.sarif"))
        for error in validator.iter_errors(json.loads(log.read_text(encoding="utf-8")))
    ]


if __name__ == "__main__":
    sys.exit(main())

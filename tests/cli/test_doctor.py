import json
from importlib.metadata import EntryPoint

import pytest

from bridge import doctor
from bridge.cli.app import run
from bridge.doctor import Diagnosis, FrameworkState, PackageState, PluginState, diagnose


def healthy() -> Diagnosis:
    return Diagnosis(
        bridge="0.1.0",
        python="3.11.7 (/usr/bin/python3)",
        system="Linux",
        cores=2,
        packages=(PackageState("numpy", "2.4.6", None), PackageState("tensorflow", None, "tf")),
        frameworks=(FrameworkState("torch", ("CPU (2 threads)",)),),
        plugins=(),
    )


def test_a_healthy_machine(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(doctor, "diagnose", lambda **_: healthy())
    assert run(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "torch: CPU (2 threads)" in text
    assert "tensorflow not installed (pip install 'bridge-ml[tf]')" in text
    assert text.endswith("no problems found\n")


def test_a_broken_plugin_takes_nothing_else_down(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = [
        EntryPoint("broken", "no_such_module_of_a_plugin:table", doctor.PLUGIN_GROUP),
        EntryPoint("fine", "json:dumps", doctor.PLUGIN_GROUP),
        EntryPoint("half", "json:no_such_name", doctor.PLUGIN_GROUP),
    ]
    monkeypatch.setattr(doctor, "entry_points", lambda group: entries)
    monkeypatch.setattr(doctor, "_FRAMEWORKS", {})
    assert run(["doctor", "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    problems = {plugin["name"]: plugin["problem"] for plugin in found["plugins"]}
    assert problems["fine"] is None
    assert "no_such_module_of_a_plugin" in problems["broken"]
    assert "no_such_name" in problems["half"]
    assert len(found["problems"]) == 2


def test_the_summary_names_every_problem() -> None:
    broken = PluginState("mine", "my-package", "my.module", "it does not import")
    found = Diagnosis(**{**vars(healthy()), "plugins": (broken,)})
    assert not found.healthy
    assert "problems:\n  mine: it does not import" in found.summary()


def test_this_machine_has_the_versions_that_bridge_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_framework", lambda name, say: FrameworkState(name, ()))
    assert [each.problem for each in diagnose().packages if each.version is not None and each.problem] == []


@pytest.mark.parametrize(
    ("found", "specifier", "fits"),
    [
        ("2.13.0+cpu", ">=2.13,<2.14", True),
        ("2.14.0", "<2.14,>=2.13", False),
        ("2.9.1", ">=2.13", False),
        ("1.0", "", True),
    ],
)
def test_versions_are_compared_as_numbers(found: str, specifier: str, fits: bool) -> None:
    assert (doctor._version_problem(found, specifier) is None) is fits

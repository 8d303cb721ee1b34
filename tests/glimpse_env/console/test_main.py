"""The console command: it lists all scripts without importing them, runs them, and is what messages name."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from glimpse_env import cli
from glimpse_env.console import names
from glimpse_env.console.main import find_commands, main, purpose
from tests.support.commands import ROOT

PROGRAM = "import sys; from glimpse_env.console.main import main; main(); sys.exit(0)"


def environment(*folders: Path) -> dict[str, str]:
    """The variables of a process that finds packages in these folders first."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*folders, ROOT)))}


def glimpse(*words: str, path: tuple[Path, ...] = ()) -> "subprocess.CompletedProcess[str]":
    """What ``glimpse`` with these words does in a process of its own, with these folders before ours on the path."""
    return run(PROGRAM, *words, path=path)


def run(code: str, *words: str, path: tuple[Path, ...] = ()) -> "subprocess.CompletedProcess[str]":
    """What some code does in a process of its own, begun in the first of these folders."""
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, cwd=(*path, ROOT)[0], env=environment(*path), capture_output=True, text=True)


@pytest.fixture
def wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The package as it lies in site-packages, from which no command has been begun by ``glimpse``."""
    monkeypatch.setattr(names, "__file__", str(tmp_path / "glimpse_env" / "console" / "names.py"))
    shutil.copytree(ROOT / "scripts", tmp_path / "glimpse_commands")
    return tmp_path


def test_every_script_is_a_command_that_says_what_it_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    scripts = {path.relative_to(ROOT / "scripts") for path in (ROOT / "scripts").rglob("*.py")}
    commands = find_commands()
    assert {file.relative_to(ROOT / "scripts") for file in commands.values()} == scripts
    assert commands["measure env-speed"] == ROOT / "scripts" / "measure" / "env_speed.py"
    assert commands["watch"] == ROOT / "scripts" / "share" / "watch.py"
    main([])
    main(["measure"])
    printed = capsys.readouterr().out
    for name, file in commands.items():
        assert f"  {name} " in printed
        assert purpose(file)
        assert "python" not in purpose(file)
    assert "Trains the judge of an environment's data set.\n" in printed


def test_help_imports_no_script_and_nothing_heavy() -> None:
    code = (
        "import sys; from glimpse_env.console.main import main; main(['--help'])\n"
        "print(*{'torch', 'tyro', 'scipy', 'PIL', 'glimpse_env.cli', 'agents', 'oracles'} & set(sys.modules))"
    )
    printed = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True)
    assert "train-agent" in printed
    assert printed.splitlines()[-1] == ""


def test_a_command_that_is_none_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    for words, near in ((["train_agent"], "train-agent"), (["measure", "env_speed"], "measure env-speed")):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2
        assert f"did you mean {near}?" in capsys.readouterr().err


def test_a_command_is_run_as_its_script_is(tmp_path: Path) -> None:
    done = glimpse("doctor", "--no-such-flag")
    assert done.returncode == 2
    assert "glimpse doctor --help" in done.stderr + done.stdout
    done = glimpse("compare-runs", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("ArtifactError: ")


def test_scripts_and_messages_of_a_clone_name_scripts() -> None:
    assert names.command("measure/env_speed", "--out", "a b") == "python scripts/measure/env_speed.py --out 'a b'"
    assert names.pip_extra("ray") == "pip install -c constraints.txt -e '.[ray]'"


@pytest.mark.usefixtures("wheel")
def test_without_a_clone_messages_name_commands() -> None:
    assert names.command("measure/env_speed", "--out", "a b") == "glimpse measure env-speed --out 'a b'"
    assert names.command("share/watch") == "glimpse watch"
    assert names.pip_extra("ray") == "pip install 'glimpse-env[ray]'"


@pytest.mark.usefixtures("fresh_cache")
def test_a_command_begun_by_glimpse_names_glimpse(tmp_path: Path) -> None:
    done = glimpse("generate-demos", "--env", "GlimpseMNIST-v0", "--out", str(tmp_path / "demos.npz"))
    assert "run `glimpse download-data mnist`" in done.stderr


def test_ctrl_c_names_the_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(args: object) -> None:
        raise KeyboardInterrupt

    from scripts.compare_runs import Args

    monkeypatch.setattr(sys, "argv", ["glimpse compare-runs", "a b"])
    with pytest.raises(SystemExit):
        cli.run(stopped, Args, ["a b"])
    assert capsys.readouterr().out.splitlines()[-1] == "  glimpse compare-runs 'a b'"


def test_objects_of_a_command_reach_spawned_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script's own functions are found by processes that it begins, and these name the same command."""
    (tmp_path / "glimpse_commands").mkdir()
    (tmp_path / "glimpse_commands" / "sums.py").write_text(
        '"""Sums."""\n'
        "import multiprocessing, sys\n"
        "from glimpse_env.console.names import command\n"
        "def square(number):\n    return number**2, command('sums')\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(pool.map(square, [3]))\n"
    )
    program = tmp_path / "program.py"
    program.write_text(
        "from glimpse_env.console import main, names\n"
        "if __name__ == '__main__':\n"
        f"    names.__file__ = {str(tmp_path / 'glimpse_env' / 'console' / 'names.py')!r}\n"
        "    main.main(['sums'])\n"
    )
    printed = subprocess.check_output([sys.executable, program], env=environment(), text=True)
    assert printed == "[(9, 'glimpse sums')]\n"


FAKE = {"agents": '"""Agents of somebody else."""\n', "oracles": '"""Oracles of somebody else."""\n'}


@pytest.fixture
def others(tmp_path: Path) -> Path:
    """A folder with other projects' packages ``agents`` and ``oracles``."""
    for name, content in FAKE.items():
        (tmp_path / "others" / name).mkdir(parents=True)
        (tmp_path / "others" / name / "__init__.py").write_text(content)
    return tmp_path / "others"


def test_a_command_uses_our_packages_where_others_hide_them(others: Path) -> None:
    done = glimpse("train-agent", "--help", path=(others,))
    assert done.returncode == 0, done.stderr
    assert "--demos" in done.stdout
    assert str(others / "agents") in done.stderr
    assert "own one is used" in done.stderr


def test_what_hides_our_package_is_named(others: Path) -> None:
    """Also where ``agents`` is ours and ``oracles`` is not."""
    done = [run("from glimpse_env.console import own_packages as own; own.check_own('agents')", path=(others,))]
    shutil.rmtree(others / "agents")
    done.append(run("import agents", path=(others,)))
    for name, process in zip(("agents", "oracles"), done, strict=True):
        last = process.stderr.splitlines()[-1]
        assert last.startswith(f"glimpse_env.errors.ShadowedPackageError: '{name}' is another project's package, at ")
        assert f"take {others} off the path of imports" in last


def test_a_package_that_another_has_overwritten_is_named(tmp_path: Path) -> None:
    """As ``pip install`` of another project does to one in the same site-packages."""
    for name in ("glimpse_env", "oracles", "scripts"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "__init__.py").write_text(FAKE["agents"])
    done = glimpse("play", path=(tmp_path,))
    assert done.returncode == 1
    assert f"{tmp_path / 'agents'} was overwritten" in done.stderr
    assert "of glimpse-env is not found" in glimpse("doctor", path=(tmp_path,)).stdout


def test_no_other_package_is_in_the_way_here() -> None:
    from glimpse_env.console.own_packages import NAMES, check_own, put_first

    before = list(sys.path)
    check_own(*NAMES)
    assert put_first() is None
    assert sys.path == before

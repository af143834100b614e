"""The command lines, and the names that they had before."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.__main__ import app
from compress.__main__ import app as compress_app
from compress.runtime.errors import UserError

REPOSITORY = Path(__file__).parents[2]


def test_help_lists_the_commands_and_no_old_name():
    shown = CliRunner().invoke(app, ["--help"]).output
    assert all(f" {name} " in shown for name in ("compare", "front", "table"))
    assert "paper" not in shown
    assert "sweep" not in shown


def test_the_old_name_of_table_does_the_same_and_says_so(monkeypatch, tmp_path):
    monkeypatch.chdir(REPOSITORY)
    outputs = {}
    for name in ("table", "paper"):
        results = tmp_path / name
        results.mkdir()
        (results / "search.json").write_bytes(Path("bench/results/search.json").read_bytes())
        outputs[name] = CliRunner().invoke(app, [name, "search", "--render", "--results", str(results)])
        assert outputs[name].exit_code == 0
    assert outputs["paper"].stdout == outputs["table"].stdout
    assert outputs["paper"].stderr.splitlines()[0] == "`python -m bench paper` is now `python -m bench table`"
    assert "is now" not in outputs["table"].stderr


@pytest.mark.parametrize("table", [path.stem for path in sorted((REPOSITORY / "bench/results").glob("*.json"))])
def test_the_tables_of_the_repository_are_as_rendered(monkeypatch, tmp_path, table):
    monkeypatch.chdir(REPOSITORY)
    (tmp_path / f"{table}.json").write_bytes(Path(f"bench/results/{table}.json").read_bytes())
    assert CliRunner().invoke(app, ["table", table, "--render", "--results", str(tmp_path)]).exit_code == 0
    assert (tmp_path / f"{table}.md").read_text() == Path(f"bench/results/{table}.md").read_text()


def test_the_old_names_of_front_name_the_new_one():
    for app_of, command in ((compress_app, "sweep"), (app, "sweep"), (compress_app, "front")):
        with pytest.raises(UserError, match=r"is (now )?`python -m bench front`"):
            app_of([command, "my.toml", "--max-cost", "0.3"], standalone_mode=False)
        assert command not in CliRunner().invoke(compress_app, ["--help"]).output

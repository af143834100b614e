"""The tables that are in the repository."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.__main__ import app

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize("table", [path.stem for path in sorted((REPOSITORY / "bench/results").glob("*.json"))])
def test_the_tables_of_the_repository_are_as_rendered(monkeypatch, tmp_path, table):
    monkeypatch.chdir(REPOSITORY)
    (tmp_path / f"{table}.json").write_bytes(Path(f"bench/results/{table}.json").read_bytes())
    assert CliRunner().invoke(app, ["table", table, "--render", "--results", str(tmp_path)]).exit_code == 0
    assert (tmp_path / f"{table}.md").read_text() == Path(f"bench/results/{table}.md").read_text()

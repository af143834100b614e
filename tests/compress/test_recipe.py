import gzip
from pathlib import Path

import pytest

from compress.data.corpus import load_corpus
from compress.recipe import load_recipe, recipe_from
from compress.recipe.load import load_variant
from compress.recipe.presets import PRESETS
from compress.recipe.sections import DataOptions, TwoDomainOptions
from compress.recipe.write import write_recipe
from compress.runtime.errors import UserError
from tests.tiny_task import write_tsv


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "task.toml"
    path.write_text(text)
    return path


def test_empty_recipe_is_the_default_task(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, ""))
    assert recipe.name == "task"
    assert recipe.target.source == "embedded"
    assert recipe.compress.preset == "adabert"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[compress]\nepochs = 4\nepohcs = 3\n", [":3", "compress.epohcs", "unknown key", "batch_size"]),
        ("[student]\nkind = 'cnn'\nwdith = 64\n", [":3", "student.wdith", "unknown key", "max_cells"]),
        ("[student]\nkind = 'rnn'\n", [":2", "student.kind", "'rnn'", "bilstm"]),
        ("[compress]\npreset = 'pkb'\n", [":2", "compress.preset", "pkb", "minilm"]),
        ("[compress]\nepochs = 'many'\n", [":2", "compress.epochs", "'many'"]),
        ("[export]\n\nbudget = -1.0\n", [":3", "export.budget", "-1.0"]),
        ("[data]\nsource = 'files'\n", [":1: data: ", "needs train"]),
        ("[data]\nsource = 'embedded'\ntrain = 'x.tsv'\n", ["source"]),
        ("name = 'a/b'\n", [":1", "name"]),
        ("[compress\n", ["not valid TOML", "line 1"]),
        ("seed = " + "9" * 5_000, ["not valid TOML: a number is too long"]),
        ("x = " + "[" * 5_000 + "]" * 5_000, ["not valid TOML", "arrays are too deep"]),
        ("extra = 1\n", [":1", "extra", "unknown key"]),
        ("seed = 1\nstudent = {kind = 'cnn', wdith = 3}\n", [":2", "student.wdith", "unknown key"]),
        ("student = 'cnn'\n", [":1", "student: must be a section", "'cnn'"]),
        ("[[data]]\ntrain = 'x'\n", [":1", "data: must be a section"]),
        (
            "[augmentation]\nmethod = 'l2a'\n[augmentation.selector]\npool = 1\n",
            [":4", "augmentation.selector.pool", "1"],
        ),
        ("[augmentation]\nmethod = 'l2a'\nselector = {kepe = 1}\n", [":3", "augmentation.selector.kepe", "dev_sample"]),
        ("[student]\nkind = 'transformer'\ncopied = [1, 'b', 3]\n", [":3: student.copied: "]),
        ("[bench]\nlengths = [32, 'a']\n", [":2", "bench.lengths", "'a'"]),
        ("[search]\ngumbel = [0.0, 0.2]\n", [":2", "search.gumbel", "greater than 0"]),
        ("[student]\nkind = 'bilstm'\n[search]\nepochs = 1\n", [":3: search: "]),
        ("search.epochs = 1\nstudent.kind = 'bilstm'\n", [":1: search: "]),
        ("[meta]\ncorruption = 1.0\n", [":1: meta: "]),
        ("[data.target]\ntrain = 3\n[data.source]\nhub = 'x'\n", [":2", "data.target.train", "3"]),
    ],
)
def test_a_mistake_is_told_in_one_line_with_its_place(tmp_path: Path, text: str, expected: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(write(tmp_path, text))
    message = str(caught.value)
    assert "task.toml" in message
    assert all(part in message for part in expected), message
    assert "\n" not in message


def test_missing_recipe(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such recipe"):
        load_recipe(tmp_path / "absent.toml")


def test_what_is_no_recipe_is_said(tmp_path: Path) -> None:
    table = "text,label\na good café,yes\n"
    for name, content in (
        ("t.csv", table.encode()),
        ("t.CSV", table.encode("latin-1")),
        ("t.csv.gz", gzip.compress(table.encode())),
        ("t.parquet", b"PAR1\x15\x04\xff"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=rf"{name}: is a table; `pocketbert init .*{name}` writes a recipe"):
            load_recipe(tmp_path / name)
    with pytest.raises(UserError, match="is a directory; name the recipe in it"):
        load_recipe(tmp_path)


def test_overrides_win_and_keep_their_types(tmp_path: Path) -> None:
    path = write(tmp_path, "[compress]\nepochs = 5\n")
    recipe = load_recipe(path, ["compress.epochs=3", "teacher.model=some/model", "bench.lengths=[16]", "name=other"])
    assert recipe.compress.epochs == 3
    assert recipe.teacher.model == "some/model"
    assert recipe.bench.lengths == [16]
    assert recipe.name == "other"


def test_a_wrong_override_is_named_by_its_flag(tmp_path: Path) -> None:
    path = write(tmp_path, "")
    with pytest.raises(UserError, match=r"--set compress\.epochs"):
        load_recipe(path, ["compress.epochs=none"])
    for item in ("compress.epochs", "=3", ".epochs=3", "compress..epochs=3", "compress.=3"):
        with pytest.raises(UserError, match=r"section\.key=value"):
            load_recipe(path, [item])


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["student={kind='cnn', wdith=3}"], r"^--set student: student\.wdith: unknown key"),
        (["compress.epochs.foo=1"], r"^--set compress\.epochs\.foo: compress\.epochs: "),
        (["name.foo=1"], r"^--set name\.foo=1: name is a value"),
        (["student.kind=bilstm", "search.epochs=3"], r"^--set search\.epochs: search: only student\.kind"),
        (["augmentation.method=gibbs", "augmentation.metropolis=true"], r"^--set augmentation\.metropolis: "),
        (["data.target.max_length=x"], r"^--set data\.target\.max_length: "),
        (["teacher.metod=meta"], r"^--set teacher\.metod: unknown key; .*method"),
        (["sead=1"], r"^--set sead: unknown key; .*seed"),
        (["compress.epochs=true"], "--set compress.epochs: must be a number, got True"),
        (["student.kind=transformer", "student.copied=[true, 2]"], "--set student.copied: must be a number, got"),
        (
            ["student.kind=transformer", "student.copied=[0]"],
            "--set student.copied: Input should be greater than 0, got 0",
        ),
        (["seed=1", "data.hub_config=x"], "--set data.hub_config: only a dataset of the hub has one"),
    ],
)
def test_a_mistake_in_a_section_is_named_by_the_flag_that_makes_it(
    tmp_path: Path, overrides: list[str], expected: str
) -> None:
    text = DOMAINS if overrides[0].startswith("data") else ""
    with pytest.raises(UserError, match=expected):
        load_recipe(write(tmp_path, text), overrides)


@pytest.mark.parametrize("override", ["data.max_length=32", "data.train=u.tsv"])
def test_a_flag_for_the_only_table_is_refused_where_there_are_two(tmp_path: Path, override: str) -> None:
    with pytest.raises(UserError, match=rf"^--set {override.partition('=')[0]}: .*\[data\.target\]"):
        load_recipe(write(tmp_path, DOMAINS), [override])


def test_paths_are_relative_to_the_recipe(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, "[data]\nsource = 'files'\ntrain = 'sub/train.tsv'\n"))
    assert recipe.target.train == tmp_path / "sub" / "train.tsv"


def test_paths_of_a_flag_are_relative_to_the_working_directory(tmp_path: Path) -> None:
    path = write(tmp_path, "[data]\ntrain = 'train.tsv'\ndev = 'dev.tsv'\n")
    assert load_recipe(path, ["data.train=u.tsv"]).target.train == Path.cwd() / "u.tsv"
    assert load_recipe(path, ["data.train=u.tsv"]).target.dev == tmp_path / "dev.tsv"
    assert load_recipe(path, ["data={train = 'u.tsv'}"]).target.train == Path.cwd() / "u.tsv"


def test_only_what_the_recipe_sets_counts_as_set(tmp_path: Path) -> None:
    assert "model" not in load_recipe(write(tmp_path, "")).teacher.model_fields_set


def test_the_key_that_names_the_texts_says_where_they_are(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path, "[data]\ntrain = 't.tsv'\n")).target.source == "files"
    assert load_recipe(write(tmp_path, "[data]\nhub = 'nyu-mll/glue'\n")).target.source == "hub"


@pytest.mark.parametrize(
    ("preset", "augmentation", "student", "objective"),
    [
        ("adabert", "spans", "cnn", "probes"),
        ("none", "none", "transformer", "none"),
        ("logits", "none", "transformer", "logits"),
        ("distilbert", "none", "transformer", "distilbert"),
        ("pkd", "none", "transformer", "pkd"),
        ("minilm", "none", "transformer", "minilm"),
        ("tinybert", "tinybert", "transformer", "tinybert"),
        ("bilstm", "sampling", "bilstm", "mse"),
        ("l2a", "l2a", "transformer", "tinybert"),
    ],
)
def test_a_preset_names_a_point_on_the_axes(
    tmp_path: Path, preset: str, augmentation: str, student: str, objective: str
) -> None:
    recipe = load_recipe(write(tmp_path, ""), [f"compress.preset={preset}"])
    assert (recipe.augmentation.method, recipe.student.kind, recipe.objective.method) == (
        augmentation,
        student,
        objective,
    )


def test_the_axes_are_free_and_what_is_set_wins_over_the_preset(tmp_path: Path) -> None:
    text = "[compress]\npreset = 'tinybert'\n[student]\nkind = 'bilstm'\n[objective]\nmethod = 'logits'\ntemperature = 4.0\n"
    recipe = load_recipe(write(tmp_path, text))
    assert recipe.augmentation.method == "tinybert"  # what the recipe left to the preset
    assert recipe.student.kind == "bilstm"
    assert recipe.objective.model_dump() == {"method": "logits", "temperature": 4.0, "alpha": 0.9}
    assert recipe.compress.learning_rate == 2e-3  # a BiLSTM learns from scratch, whatever the preset


def test_l2a_takes_the_objective_of_its_student(tmp_path: Path) -> None:
    for kind, objective in (("cnn", "probes"), ("bilstm", "mse"), ("transformer", "tinybert")):
        recipe = load_recipe(write(tmp_path, f"[student]\nkind = '{kind}'\n"), ["compress.preset=l2a"])
        assert (recipe.student.kind, recipe.objective.method, recipe.augmentation.method) == (kind, objective, "l2a")


def test_the_student_suggests_the_preset(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path, "[student]\nkind = 'transformer'\n")).objective.method == "logits"
    assert load_recipe(write(tmp_path, "[student]\nkind = 'bilstm'\n")).augmentation.method == "sampling"
    assert load_recipe(write(tmp_path, "[objective]\nmethod = 'pkd'\n")).student.kind == "transformer"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[student]\nkind = 'bilstm'\n[objective]\nmethod = 'probes'\n", "a classifier after every cell"),
        ("[student]\nkind = 'cnn'\n[objective]\nmethod = 'minilm'\n", "compares attention and value relations"),
        ("[objective]\nmethod = 'none'\n[augmentation]\nmethod = 'eda'\n", "needs a teacher to label its texts"),
        ("[data]\ndistil_unlabelled = true\n[objective]\nmethod = 'none'\n", "the teacher labels these texts"),
        ("[data]\ndistil_unlabelled = true\n[domains]\nstudent = 'movies'\n", "an unlabelled text has no domain"),
        ("[student]\nkind = 'bilstm'\n[search]\nepochs = 1\n", 'only student.kind = "cnn" is searched'),
        ("[student]\narchitecture = 'residual'\n[search]\nepochs = 1\n", "gives an architecture, so none is searched"),
        ("[search]\nspace = 'wide'\nepochs = 3\n", 'search.epochs: has no effect with search.space = "wide"'),
        ("[search]\nspace = 'wide'\ninherit = true\n", "search.inherit: has no effect"),
        ("[search]\nwidths = [64]\n", 'search.widths: has no effect with search.space = "paper"'),
        ("[search]\nspace = 'wide'\nwidths = [96, 64]\n", "not in ascending order"),
        ("[search]\nspace = 'wide'\ntrials = 0\n", "searched by trials alone"),
        ("[student]\nkind = 'transformer'\nwidth = 312\n", "comes from the copied model"),
        ("[student]\nkind = 'transformer'\ninit = 'random'\nwidth = 100\n", "not a multiple of heads"),
        ("[student]\nkind = 'transformer'\ncopied = [1, 2]\n", "names 2 layers"),
        ("[objective]\nmethod = 'distilbert'\nsoft = 0\nhard = 0\ncosine = 0\n", "one of them must be above 0"),
    ],
)
def test_a_point_that_makes_no_sense_is_refused_with_the_reason(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason) as caught:
        load_recipe(write(tmp_path, text))
    assert "\n" not in str(caught.value)


DOMAINS = """
[data.target]
train = "t.tsv"
max_length = 64
[data.source]
train = "s.tsv"
limit = 50
"""


def test_a_recipe_has_a_target_and_a_source(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, DOMAINS), ["data.source.limit=60", "data.target.train=u.tsv"])
    assert recipe.source is not None
    assert isinstance(recipe.data, TwoDomainOptions)
    assert (recipe.data.target, recipe.data.source) == (recipe.target, recipe.source)
    assert (recipe.target.train, recipe.source.train) == (Path.cwd() / "u.tsv", tmp_path / "s.tsv")
    assert (recipe.target.max_length, recipe.source.limit) == (64, 60)
    assert recipe.source.decontaminate == "overlap"
    assert "teacher" in recipe.source_learners
    assert "student" not in recipe.source_learners
    dumped = recipe.dump()
    assert set(dumped["data"]) == {"target", "source"}
    assert "source" not in dumped
    alone = load_recipe(write(tmp_path, ""))
    assert isinstance(alone.data, DataOptions)
    assert (alone.target, alone.source) == (alone.data, None)
    plain = alone.dump()
    assert plain["data"]["source"] == "embedded"
    assert "source" not in plain


def test_a_mistake_in_the_data_names_its_own_section(tmp_path: Path) -> None:
    for name in ("t", "s"):
        write_tsv(tmp_path / f"{name}.tsv", [("good", "a"), ("bad", "b"), ("so so", "a")])
    path, dev = write(tmp_path, DOMAINS), f"data.target.dev={tmp_path / 's.tsv'}"
    for section in ("data.target", "data.source"):
        recipe = load_recipe(path, [f"{section}.text=body", dev])
        with pytest.raises(UserError, match=rf"no column 'body' \({section}\.text\)"):
            load_corpus(recipe.target, recipe.source)
    recipe = load_recipe(path, ['data.target.labels=["a"]', dev])
    with pytest.raises(UserError, match=r"^data\.target\.labels: "):
        load_corpus(recipe.target, recipe.source)


@pytest.mark.parametrize(
    ("preset", "text"),
    [
        *((preset, DOMAINS if preset == "l2a" else "") for preset in PRESETS),
        ("adabert", DOMAINS),
        ("adabert", '[student]\nkind = "cnn"\narchitecture = "residual"'),
        ("adabert", '[student]\nkind = "cnn"\narchitecture = "random"\n[search]\nmax_cost = 0.3'),
        ("metakd", '[objective]\nmethod = "logits"'),
        ("logits", '[data]\nsource = "files"\ntrain = "t.tsv"\ndomain = "d"\n[domains]\nstudent = "books"'),
    ],
)
def test_a_dumped_recipe_reads_back(tmp_path: Path, preset: str, text: str) -> None:
    recipe = load_recipe(write(tmp_path, text), [f"compress.preset={preset}"])
    assert recipe_from(recipe.dump(), "dump") == recipe


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("max_length = 64", "max_lenght = 64"), [":4", "data.target.max_lenght", "unknown key"]),
        (("limit = 50", "dev = 'd.tsv'"), [":7", "data.source.dev", "unknown key", "relabel"]),
        (("limit = 50", "decontaminate = 'all'"), [":7", "data.source.decontaminate", "'all'"]),
        (('train = "s.tsv"', ""), ["data.source", "say where its texts are"]),
        (("[data.target]", "[data]"), ["data.max_length", "[data.target]"]),
        (("[data.source]", "[source]"), ["data.source", "[data.target] and [data.source]"]),
    ],
)
def test_a_mistake_in_the_two_domains_is_told(tmp_path: Path, change: tuple[str, str], expected: list[str]) -> None:
    path = write(tmp_path, DOMAINS.replace(*change))
    with pytest.raises(UserError) as caught:
        load_recipe(path)
    message = str(caught.value)
    assert all(part in message for part in expected), message
    assert "\n" not in message


def test_l2a_needs_a_source_only_for_samples_of_it(tmp_path: Path) -> None:
    l2a = "compress.preset=l2a"
    assert load_recipe(write(tmp_path, ""), [l2a]).augmentation.method == "l2a"
    with pytest.raises(UserError, match=r"augmentation\.source_share: there is no source"):
        load_recipe(write(tmp_path, ""), [l2a, "augmentation.source_share=0.5"])
    with pytest.raises(UserError, match=r"augmentation\.selector\.kepe: unknown key; known here: keep"):
        load_recipe(write(tmp_path, "[augmentation]\nmethod = 'l2a'\n[augmentation.selector]\nkepe = 'all'\n"))
    with pytest.raises(UserError, match="metropolis needs block = 1 and top_k = 0"):
        load_recipe(write(tmp_path, "[augmentation]\nmethod = 'gibbs'\nmetropolis = true\n"))


def test_a_recipe_that_is_written_is_read_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "m.tsv").write_text("text\tlabel\n")
    texts = ["", DOMAINS, '[budget]\nmin_teacher_share = 0.98\n[data]\nunlabelled = "m.tsv"\ntrain = "m.tsv"\n']
    texts += [f'[compress]\npreset = "{preset}"\n' for preset in PRESETS]
    texts += ['[data.target]\ntrain = "m.tsv"\n[data.source]\ntrain = "m.tsv"\nrelabel = {"so so" = "ünd \\"x\\""}\n']
    for text in texts:
        recipe = load_recipe(write(tmp_path, text))
        write_recipe(recipe, tmp_path / "copies.toml")
        assert load_recipe(tmp_path / "copies.toml").dump() == recipe.dump()


def test_a_variant_of_another_kind_keeps_the_task_and_drops_what_is_for_the_first(tmp_path: Path) -> None:
    text = "seed = 3\n[teacher]\nepochs = 2\n[student]\nwidth = 64\n[search]\nepochs = 7\n[compress]\nlearning_rate = 1e-3\n"
    path = write(tmp_path, f'{text}preset = "adabert"\n[transfer]\ntexts = 9\n')
    base = load_recipe(path, ["search.trials=2"])
    other = load_variant(path, ["search.trials=2"], ["student.kind=transformer", "student.layers=1"])
    assert (other.seed, other.teacher, other.transfer) == (base.seed, base.teacher, base.transfer)
    assert other.augmentation == base.augmentation
    assert (other.objective.method, other.compress.learning_rate) == ("logits", 1e-4)
    same = load_variant(path, [], ["student.members=2"])
    assert (same.student.width, same.compress.learning_rate, same.search.epochs) == (64, 1e-3, 7)  # type: ignore[union-attr]
    by_hand = load_variant(path, [], ["student.architecture=residual"])
    assert "search" not in by_hand.dump()
    with pytest.raises(UserError, match="student: must be a section"):
        load_variant(path, [], ["student=3"])

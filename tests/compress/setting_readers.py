"""Which stages read which setting: the table that `test_stage_keys.py` holds the records of the stages against."""

from __future__ import annotations

# One recipe of each shape that the pipeline takes.
RECIPES = {
    "cnn": '[data]\ntrain = "t.tsv"\n',
    "l2a": '[data.target]\ntrain = "t.tsv"\n[data.source]\ntrain = "s.tsv"\n[compress]\npreset = "l2a"\n[student]\nkind = "cnn"\n',
    "metakd": '[data]\ntrain = "t.tsv"\ndomain = "d"\n[domains]\nstudent = "x"\n[compress]\npreset = "metakd"\n',
    "own": '[data]\ntrain = "t.tsv"\ndomain = "d"\n[domains]\nstudent = "x"\nteacher = "own"\n',
    "bilstm": '[data]\ntrain = "t.tsv"\n[compress]\npreset = "bilstm"\n',
    "transfer": '[data]\ntrain = "t.tsv"\n[transfer]\ntexts = 9\nbank = "u.tsv"\n',
    "tutored": '[data]\ntrain = "t.tsv"\n[tutor]\nmodel = "embedded-base"\n[transfer]\nsampled = 9\n',
    "meta_transfer": '[data]\ntrain = "t.tsv"\ndomain = "d"\n[domains]\nstudent = "x"\n[compress]\npreset = "metakd"\n[transfer]\njoined = 9\n',
    "latency": '[data]\ntrain = "t.tsv"\nlimit = 9\n[augmentation]\nmethod = "gibbs"\n[budget]\ntarget_latency_ms = 1.0\n',
    "unlabelled": '[data]\ntrain = "t.tsv"\nunlabelled = "u.tsv"\ndistil_unlabelled = true\n[student]\nkind = "cnn"\narchitecture = "residual"\n',
    "none": '[data]\ntrain = "t.tsv"\n[compress]\npreset = "none"\n',
    "pkd": '[data]\ntrain = "t.tsv"\n[compress]\npreset = "pkd"\n[augmentation]\nmethod = "eda"\n',
    "cbert": '[data]\ntrain = "t.tsv"\n[compress]\npreset = "distilbert"\n[augmentation]\nmethod = "cbert"\n',
    "replaced": '[data]\ntrain = "t.tsv"\n[compress]\npreset = "tinybert"\n',
    "wide": '[data]\ntrain = "t.tsv"\n[search]\nspace = "wide"\n',
    "random": '[data]\ntrain = "t.tsv"\n[student]\nkind = "cnn"\narchitecture = "random"\n[objective]\nmethod = "logits"\n[search]\nmax_cost = 0.3\n',
}

LABELLED = "tutor tutor_outputs teacher linear augmented teacher_outputs transfer_set search trials architecture student bundle"
EVERYBODY = f"language_model {LABELLED}"
STUDENT = "teacher_outputs search trials student"
TRAINED = "search trials student"
OF_SOURCE = f"teacher language_model augmented {STUDENT}"
NOBODY = ""


def names(section: str, keys: str) -> list[str]:
    return [f"{section}.{key}" for key in keys.split()]


# The stages that read a setting themselves; those that come after them are stale too. Every setting has a line.
READERS: dict[str, str] = {
    "name": NOBODY,
    "seed": "tutor tutor_outputs teacher augmented transfer_set search trials architecture student bundle",
    **dict.fromkeys(
        names("target", "source train dev test hub hub_config revision text text_b label domain"), EVERYBODY
    ),
    **dict.fromkeys(names("target", "only_domains quoting separator encoding limit decontaminate relabel"), EVERYBODY),
    # Which of the texts have a label plays no part for a language model.
    **dict.fromkeys(names("target", "labels train_limit train_fraction sample"), LABELLED),
    "target.unlabelled": "language_model",
    "target.max_length": "tutor tutor_outputs teacher language_model teacher_outputs transfer_outputs search trials architecture student bundle",
    **dict.fromkeys(names("source", "source train hub hub_config revision text text_b label domain"), OF_SOURCE),
    **dict.fromkeys(
        names("source", "only_domains quoting separator encoding limit sample decontaminate relabel"), OF_SOURCE
    ),
    **dict.fromkeys(names("teacher", "epochs batch_size learning_rate weight_decay warmup patience"), "teacher"),
    **dict.fromkeys(names("teacher", "steps max_grad_norm fine_tuned representation head_first soup"), "teacher"),
    **dict.fromkeys(names("teacher", "model revision"), "teacher language_model"),
    **dict.fromkeys(names("tutor", "epochs steps batch_size learning_rate weight_decay warmup patience"), "tutor"),
    **dict.fromkeys(names("tutor", "max_grad_norm model revision fine_tuned"), "tutor"),
    "tutor.texts": "tutor_outputs",
    "meta.corruption": "teacher",
    "meta.expertise": "teacher_outputs transfer_outputs",
    "meta.transfer": "student",
    "domains.student": f"linear augmented transfer_set {STUDENT} bundle",
    "domains.students": NOBODY,  # a recipe with a student for each domain is run once for every domain
    "domains.leave_out": "tutor teacher",
    **dict.fromkeys(names("augmentation", "epochs learning_rate batch_size"), "language_model augmented"),
    **dict.fromkeys(names("augmentation", "copies alpha mask temperature top_k probability candidates"), "augmented"),
    **dict.fromkeys(names("augmentation", "pos ngram sweeps block metropolis source_share"), "augmented"),
    **dict.fromkeys(names("augmentation.selector", "keep pool reward credit dev_sample hidden"), "student"),
    **dict.fromkeys(names("augmentation.selector", "learning_rate prior kl baseline"), "student"),
    **dict.fromkeys(
        names("student", "width max_cells halvings pair_inputs dropout token_dropout"),
        "search trials architecture student",
    ),
    "student.members": "architecture student",
    **dict.fromkeys(names("student", "init layers copied heads intermediate hidden"), "student"),
    **dict.fromkeys(names("objective", "gamma tau temperature alpha"), TRAINED),
    **dict.fromkeys(names("objective", "soft hard cosine beta layers"), "student"),
    **dict.fromkeys(names("objective", "intermediate_epochs intermediate_learning_rate"), "student"),
    **dict.fromkeys(names("search", "epochs gumbel dense architecture_every architecture_learning_rate"), "search"),
    **dict.fromkeys(names("transfer", "bank texts select sampled joined replaced"), "transfer_set"),
    "transfer.share": TRAINED,
    "transfer.judge": "transfer_outputs",
    "search.beta": "search trials architecture",
    "search.cost": "search architecture",
    "search.trials": "trials architecture",
    **dict.fromkeys(names("search", "trial_steps rounds strategy widths"), "trials"),
    "search.inherit": "student",
    **dict.fromkeys(names("search", "max_cost max_parameters"), "architecture"),
    "budget.target_latency_ms": "architecture bundle",
    **dict.fromkeys(names("budget", "max_bytes min_teacher_share"), "bundle"),
    **dict.fromkeys(names("compress", "batch_size learning_rate weight_decay max_grad_norm"), TRAINED),
    **dict.fromkeys(names("compress", "epochs steps warmup patience average quantization_epochs"), "student"),
    "compress.preset": NOBODY,  # a name for what the other settings say
    **dict.fromkeys(names("cascade", "within_points max_share"), "bundle"),
    **dict.fromkeys(
        names(
            "export", "precisions budget min_agreement below_linear calibration_texts golden_texts compute_capability"
        ),
        "bundle",
    ),
    **dict.fromkeys(names("bench", "threads lengths batch_size texts seconds"), NOBODY),
}
# Where a recipe's shape makes a difference.
COPYING = (
    "metakd",
    "meta_transfer",
    "none",
    "pkd",
    "cbert",
    "replaced",
)  # their students may have layers of the pre-trained model
SEARCHED = ("cnn", "l2a", "own", "latency", "transfer", "tutored", "wide")
TRANSFER = ("transfer", "meta_transfer", "tutored")
META = ("metakd", "meta_transfer")
EXCEPTIONS: dict[tuple[str, str], str] = {
    ("own", "domains.student"): f"teacher {READERS['domains.student']}",  # a teacher of its own for each student
    ("own", "domains.leave_out"): NOBODY,
    (
        "random",
        "domains.student",
    ): f"{READERS['domains.student']} architecture",  # operations are timed at its texts' length
    **{
        ("bilstm", key): "teacher augmented" for key in names("teacher", "model revision")
    },  # its tokenizer's mask token
    # In the wide space students are timed in the trials, with all their members, and no operation is timed.
    ("wide", "student.members"): f"trials {READERS['student.members']}",
    ("wide", "compress.warmup"): f"trials {READERS['compress.warmup']}",
    ("wide", "bench.threads"): "trials",
    ("wide", "bench.texts"): "trials",
    ("wide", "search.cost"): NOBODY,
    ("wide", "search.beta"): "architecture",
    **{(recipe, "search.widths"): NOBODY for recipe in RECIPES if recipe != "wide"},
    ("latency", "target.sample"): EVERYBODY,  # with a limit, another sample has other texts
    ("latency", "bench.threads"): "architecture bundle",  # students are timed as they will be served
    ("latency", "bench.texts"): "architecture bundle",
    **{(recipe, "budget.target_latency_ms"): "bundle" for recipe in RECIPES if recipe not in SEARCHED},
    ("unlabelled", "target.unlabelled"): f"language_model {STUDENT}",
    **{
        (recipe, key): f"{READERS[key]} student"
        for recipe in COPYING
        for key in names("teacher", "model revision fine_tuned")
    },
    **{(r, key): NOBODY for r in RECIPES if r not in META for key in names("meta", "corruption expertise transfer")},
    (
        "meta_transfer",
        "domains.student",
    ): f"{READERS['domains.student']} transfer_outputs",  # its texts count as of this domain
    **{(recipe, "search.inherit"): NOBODY for recipe in RECIPES if recipe not in SEARCHED},
    **{(r, key): NOBODY for r in RECIPES if r not in TRANSFER for key in names("transfer", "bank share select judge")},
    # With any text of it, there is a transfer set, from which student and search learn.
    **{
        (r, key): TRAINED
        for r in RECIPES
        if r not in TRANSFER
        for key in names("transfer", "texts sampled joined replaced")
    },
    **{(r, "tutor.model"): "teacher" for r in RECIPES if r != "tutored"},  # with a tutor, the teacher learns from it
    **dict.fromkeys(
        # An architecture made by hand has no bounds.
        [("unlabelled", key) for key in names("search", "beta cost trials max_cost max_parameters")],
        NOBODY,
    ),
}
# Which results a stage is made from.
BEFORE = {
    "tutor": "",
    "tutor_outputs": "tutor transfer_set",
    "teacher": "tutor_outputs",
    "linear": "",
    "language_model": "",
    "augmented": "language_model",
    "teacher_outputs": "teacher augmented",
    "transfer_set": "",
    "transfer_outputs": "teacher transfer_set",
    "search": "teacher_outputs transfer_outputs",
    "trials": "search teacher_outputs transfer_outputs",
    "architecture": "teacher search trials",
    "student": "teacher linear augmented teacher_outputs architecture transfer_outputs",
    "bundle": "teacher student",
}
# These settings choose a form of a section or a method, and with it which stages there are; see the tests below the table.
FORMS = {"augmentation.method", "student.kind", "objective.method", "teacher.method", "domains.teacher"}
FORMS |= {"search.space", "student.architecture", "source.use", "target.distil_unlabelled"}

"""The sections of a recipe: their settings with types, bounds, defaults and descriptions."""

from compress.recipe.sections.augmentation import (
    AugmentationOptions,
    CbertOptions,
    Copies,
    EdaOptions,
    Fraction,
    GenerationOptions,
    GibbsOptions,
    L2aOptions,
    MaskedLmOptions,
    NoAugmentation,
    ReplacementOptions,
    SamplingOptions,
    SelectorOptions,
    SpansOptions,
)
from compress.recipe.sections.base import Content, Positive, Probability, Rate, Section, UndeclaredSettingError, Weight
from compress.recipe.sections.budget import BudgetOptions
from compress.recipe.sections.cascade import CascadeOptions
from compress.recipe.sections.data import (
    DataOptions,
    DataSection,
    Decontaminate,
    SourceLearner,
    SourceOptions,
    TextOptions,
    TwoDomainOptions,
)
from compress.recipe.sections.export import BenchOptions, ExportOptions
from compress.recipe.sections.objective import (
    FEATURE_METHODS,
    DistilBertObjective,
    FeatureObjective,
    LogitsObjective,
    MiniLmObjective,
    MseObjective,
    NoObjective,
    ObjectiveOptions,
    PkdObjective,
    ProbesObjective,
    TinyBertObjective,
    TwoStageObjective,
)
from compress.recipe.sections.search import SearchOptions
from compress.recipe.sections.student import (
    SPECIAL_ARCHITECTURES,
    SPECIAL_INITS,
    BiLstmOptions,
    CnnOptions,
    StudentOptions,
    TransformerOptions,
)
from compress.recipe.sections.teacher import EMBEDDED, DomainOptions, MetaOptions, TeacherOptions
from compress.recipe.sections.training import CompressOptions, LengthOptions, TrainOptions
from compress.recipe.sections.transfer import TransferOptions

# What a setting may hold besides the path of a file, or the directory or hub id of a model.
SPECIAL_NAMES = {
    Content.MODEL: EMBEDDED,
    Content.DATASET: (),
    Content.INIT: SPECIAL_INITS,
    Content.GENOTYPE: SPECIAL_ARCHITECTURES,
    Content.BANK: ("embedded",),
}

__all__ = [
    "FEATURE_METHODS",
    "SPECIAL_ARCHITECTURES",
    "SPECIAL_INITS",
    "SPECIAL_NAMES",
    "AugmentationOptions",
    "BenchOptions",
    "BiLstmOptions",
    "BudgetOptions",
    "CascadeOptions",
    "CbertOptions",
    "CnnOptions",
    "CompressOptions",
    "Content",
    "Copies",
    "DataOptions",
    "DataSection",
    "Decontaminate",
    "DistilBertObjective",
    "DomainOptions",
    "EdaOptions",
    "ExportOptions",
    "FeatureObjective",
    "Fraction",
    "GenerationOptions",
    "GibbsOptions",
    "L2aOptions",
    "LengthOptions",
    "LogitsObjective",
    "MaskedLmOptions",
    "MetaOptions",
    "MiniLmObjective",
    "MseObjective",
    "NoAugmentation",
    "NoObjective",
    "ObjectiveOptions",
    "PkdObjective",
    "Positive",
    "Probability",
    "ProbesObjective",
    "Rate",
    "ReplacementOptions",
    "SamplingOptions",
    "SearchOptions",
    "Section",
    "SelectorOptions",
    "SourceLearner",
    "SourceOptions",
    "SpansOptions",
    "StudentOptions",
    "TeacherOptions",
    "TextOptions",
    "TinyBertObjective",
    "TrainOptions",
    "TransferOptions",
    "TransformerOptions",
    "TwoDomainOptions",
    "TwoStageObjective",
    "UndeclaredSettingError",
    "Weight",
]

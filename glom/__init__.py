"""A research toolkit for GLOM-style machine perception: the public names, each imported when it is first asked for.

    machine = glom.load("apm-cifar10")                     machine.percept("cat.jpg"), machine.ask("cat.jpg", points)
    teacher = glom.load_teacher("glom-tiny")               token, grid = teacher.encode(["cat.jpg"])
    answer = glom.adapt("cat.jpg", teacher)                answer.name, answer.teacher_name, answer.trace
    network = glom.ForwardForward().fit(x, y)              network.score(x, y)
    glom.Glom.from_pretrained(folder)(images)              (B, n, L, d)

Islands are `probes.islands("photo.jpg")`. Importing this package loads neither torch nor numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from glom.lazy import lazily, warn_of_another

if TYPE_CHECKING:
    from glom.adaptation.answer import Answer, adapt, adapt_many
    from glom.adaptation.settings import TTTSettings, settings_for, ttt_preset
    from glom.allocator import keep_freed_memory
    from glom.apm import PRESETS, APMConfig, Percept, preset
    from glom.backbones.base import Backbone
    from glom.backbones.registry import load_backbone, register_backbone
    from glom.backbones.video import boring_video, feature_grids
    from glom.colours import pca_rgb
    from glom.columns import grid_queries
    from glom.consensus.config import GlomConfig
    from glom.consensus.pretrained import PretrainedGlom as Glom
    from glom.datasets.corruptions import corrupt
    from glom.datasets.registry import open_dataset
    from glom.errors import GlomError, InputError, RunError
    from glom.forward_forward.estimator import ForwardForward
    from glom.forward_forward.settings import FFSettings
    from glom.machine import GridPercept, load
    from glom.machine import Machine as APM
    from glom.pictures import as_image
    from glom.teachers.base import Teacher
    from glom.teachers.heads import ZeroShotHead
    from glom.teachers.own import teacher
    from glom.teachers.registry import load_teacher, register_teacher

    __version__: str

_PLACES = {
    "__version__": "glom.about:VERSION",
    "APM": "glom.machine:Machine",
    "APMConfig": "glom.apm",
    "Answer": "glom.adaptation.answer",
    "Backbone": "glom.backbones.base",
    "GlomError": "glom.errors",
    "GridPercept": "glom.machine",
    "InputError": "glom.errors",
    "PRESETS": "glom.apm",
    "Percept": "glom.apm",
    "RunError": "glom.errors",
    "TTTSettings": "glom.adaptation.settings",
    "Teacher": "glom.teachers.base",
    "ZeroShotHead": "glom.teachers.heads",
    "adapt": "glom.adaptation.answer",
    "adapt_many": "glom.adaptation.answer",
    "as_image": "glom.pictures",
    "boring_video": "glom.backbones.video",
    "corrupt": "glom.datasets.corruptions",
    "feature_grids": "glom.backbones.video",
    "grid_queries": "glom.columns",
    "keep_freed_memory": "glom.allocator",
    "load": "glom.machine",
    "load_backbone": "glom.backbones.registry",
    "load_teacher": "glom.teachers.registry",
    "open_dataset": "glom.datasets.registry",
    "pca_rgb": "glom.colours",
    "preset": "glom.apm",
    "register_backbone": "glom.backbones.registry",
    "register_teacher": "glom.teachers.registry",
    "settings_for": "glom.adaptation.settings",
    "ttt_preset": "glom.adaptation.settings",
    "ForwardForward": "glom.forward_forward.estimator",
    "teacher": "glom.teachers.own",
    "FFSettings": "glom.forward_forward.settings",
    "GlomConfig": "glom.consensus.config",
    "Glom": "glom.consensus.pretrained:PretrainedGlom",
}

__all__ = [
    "APM",
    "PRESETS",
    "APMConfig",
    "Answer",
    "Backbone",
    "FFSettings",
    "ForwardForward",
    "Glom",
    "GlomConfig",
    "GlomError",
    "GridPercept",
    "InputError",
    "Percept",
    "RunError",
    "TTTSettings",
    "Teacher",
    "ZeroShotHead",
    "adapt",
    "adapt_many",
    "as_image",
    "boring_video",
    "corrupt",
    "feature_grids",
    "grid_queries",
    "keep_freed_memory",
    "load",
    "load_backbone",
    "load_teacher",
    "open_dataset",
    "pca_rgb",
    "preset",
    "register_backbone",
    "register_teacher",
    "settings_for",
    "teacher",
    "ttt_preset",
]

__getattr__, __dir__ = lazily(__name__, _PLACES)
warn_of_another("probes", __file__)

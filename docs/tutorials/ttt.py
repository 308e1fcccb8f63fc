# %% [markdown]
# # Test-time training under a real shift
#
# A frozen teacher says one thing about a test picture. A fresh Asynchronous Perception Machine is overfit on that, classifies, and is
# thrown away (Modi & Rawat 2024). Does the answer get better when the pictures are unlike those of the training?
#
# The question is easy to get wrong, and this notebook keeps four rules: the teacher's own accuracy on the same pictures stands beside;
# the last iteration is read, whatever the others said; differences are paired; and few pictures come with a wide interval.

# %%
import numpy as np

import glom
from glom.datasets.corruptions import parse_corruption
from glom.runs.seeds import sample_seed
from glom.runs.statistics import bootstrap_ci, mcnemar_exact

dataset = glom.open_dataset("cifar10-sample")
samples = dataset.samples[::20]  # 10 pictures, one of each class
clean = [sample.image() for sample in samples]
truth = [dataset.classes[sample.label] for sample in samples]

# %% [markdown]
# ## One picture
#
# `trace` is what was read at each iteration. The cosine with the teacher's token rises to one: the machine becomes its teacher.

# %%
answer = glom.adapt(clean[3], "glom-tiny")
print(f"{answer.name}, the teacher says {answer.teacher_name}; cosine {answer.cosine:.4f}")
answer

# %% [markdown]
# ## A shift
#
# Fog over every picture, as CIFAR-10-C makes it. That is a shift of the pictures alone and one that this repository can make; photographs
# against sketches are the real thing, see below.

# %%
fog = parse_corruption("fog:5")
shifted = [
    glom.corrupt(image, fog, sample_seed(0, s.id, "corruption")) for image, s in zip(clean, samples, strict=True)
]
shifted[3].resize((128, 128))

# %%
for name, pictures in (("clean", clean), ("fog", shifted)):
    answers = glom.adapt_many(pictures, "glom-tiny")
    machine = np.array([a.name == t for a, t in zip(answers, truth, strict=True)])
    teacher = np.array([a.teacher_name == t for a, t in zip(answers, truth, strict=True)])
    low, high = bootstrap_ci(100.0 * machine - 100.0 * teacher)
    print(
        f"{name:5} teacher {100 * teacher.mean():.0f} %, machine {100 * machine.mean():.0f} %, difference "
        f"{100 * (machine.mean() - teacher.mean()):+.0f} [{low:+.0f}, {high:+.0f}], McNemar p {mcnemar_exact(machine, teacher):.2g}, "
        f"agree {100 * np.mean([a.agrees for a in answers]):.0f} %"
    )

# %% [markdown]
# The machine lands on its teacher, right or wrong. It has to: with the trunk fixed, distilling one token is a linear problem with a closed
# answer, and [the protocol's page](../ttt.md) shows it. What could do better has to ask for something else than the token, and is looked
# for in [what could beat the teacher](../objective.md).
#
# ## Sketches instead of fog
#
# PACS has seven classes as photographs, paintings, cartoons and sketches. A classifier of photographs is asked for the sketches, its classes
# gathered into PACS's; other methods answer for the same pictures, paired. Put them under a folder ROOT, set `APM_DATA=ROOT`,
# and `apm datasets check pacs --root ROOT` says whether they lie as they should.
#
#     apm ttt run pacs/sketch --teacher efficientnet-lite0 --superclasses pacs --nameable --limit 60 --out DIR
#     apm benchmark pacs/sketch -t efficientnet-lite0 --superclasses pacs --nameable -m zero-shot,apm,memo --limit 60 --out DIR2
#
# What came out there: [pictures that are no photographs](../methods.md#pictures-that-are-no-photographs).

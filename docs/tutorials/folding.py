# %% [markdown]
# # What folding buys
#
# A machine folds a picture into one vector, tells itself a location in a code, and answers there. Which of these parts does the work? The
# ablation takes them away one at a time: each machine is drawn anew, overfit on one picture's token, grid and colours, and read once.
#
# First by hand, then as the study runs it.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import glom
from glom.execution import run

# %% [markdown]
# ## The formula and what it costs
#
# At every location the first layer reads the folded picture `T` and the location's code. All locations share `T`, all of one column of the
# grid share half of the code: [the algebra](../folding.md) does what is shared once. The numbers are the same.

# %%
machine = glom.load("apm-cifar10")
picture = glom.open_dataset("cifar10-sample").samples[7].image()
pixels = torch.rand(1, 3, machine.config.image_size, machine.config.image_size)
queries = glom.grid_queries(16, 16)
with torch.no_grad():
    plain, folded = (run(machine, pixels, queries, outputs=("features",), execution=how) for how in ("plain", "folded"))
print("largest difference of a feature:", float((plain.features - folded.features).abs().max()))

# %% [markdown]
# A location is a point, so that a grid of any size is asked of the same weights.

# %%
figure, axes = plt.subplots(1, 4, figsize=(9, 2.4))
axes[0].imshow(picture)
axes[0].set_title("picture", fontsize=9)
for axis, side in zip(axes[1:], (8, 24, 64), strict=True):
    axis.imshow(machine.percept(picture, grid=side).colours())
    axis.set_title(f"features, {side} x {side}", fontsize=9)
for axis in axes:
    axis.axis("off")

# %% [markdown]
# ## The ablation
#
# `experiments.folding` is what `apm ablate folding` runs. Two axes, one picture, one seed and a few steps show how it reads; the record,
# of 50 pictures and three seeds on every axis, is on [its page](../ablation.md).

# %%
from experiments.folding.run import run as ablate
from experiments.folding.settings import FoldingSettings

out = Path(tempfile.mkdtemp()) / "folding"
settings = FoldingSettings(axes=("fold", "code"), limit=1, seeds=1, iterations=15)
*_, last = ablate(settings, out)
for row in last.result["rows"]:
    r2, psnr = row["measures"]["grid_r2"]["mean"], row["measures"]["psnr"]["mean"]
    print(f"{row['axis']:5} {row['setting']:18} R² of the grid {r2:+.2f}   PSNR {psnr:.1f} dB")

# %% [markdown]
# Without a location code a machine gives one answer everywhere. Without a fold (zeros in its place) nothing is lost: on one picture `T` is a
# constant, which only a machine that sees many pictures has a use for. That is the ablation's main finding, and 50 pictures say the same.
#
#     apm ablate folding cifar10-sample --axis fold,code --limit 10 --seeds 1 --out DIR
#     apm ablate folding --out DIR2

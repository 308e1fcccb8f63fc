# %% [markdown]
# # Forward-forward and GLOM on a boring video
#
# A boring video shows one picture again and again. A network that carries a state over time settles on it: that is how Hinton's recurrent
# forward-forward network (2022) and his GLOM (2021) look at a picture. Neither sends an error backwards through its iterations here: the first
# has a goodness in each layer, the second moves its levels towards agreement.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

import glom
import probes
from glom.datasets.composite_sources import read_sample
from glom.datasets.composites import Composites, CompositeSettings, open_source
from probes.partition import partition

pictures, labels = read_sample("train")  # 1,800 of Fashion-MNIST's, which ship
tests, answers = read_sample("test")
keep = np.isin(labels, (1, 8)), np.isin(answers, (1, 8))  # trousers and bags
x, y, x_test, y_test = pictures[keep[0]], labels[keep[0]], tests[keep[1]], answers[keep[1]]
x.shape, x_test.shape

# %% [markdown]
# ## Forward-forward
#
# Each layer learns alone: its activities are to be large for a picture with its right label, small with a wrong one. In `recurrent` mode the
# picture comes in at the bottom at every time step, the label at the top, and each layer reads both neighbours as they were a step before.

# %%
network = glom.ForwardForward((100, 100), mode="recurrent", epochs=6).fit(x, y)
print(f"right on {100 * network.score(x_test, y_test):.0f} % of {len(x_test)} test pictures (two classes)")
goodness = network.goodness(x_test[:1])[0]  # (classes, layers)
for label, row in zip(network.classes_, goodness, strict=True):
    print("label", label, "goodness by layer", np.round(row, 2).tolist())

# %% [markdown]
# The answer is the label whose goodness, added up over layers and the middle iterations, is largest. Full size, against a twin that backpropagates:
# [forward-forward](../forward-forward.md).
#
# ## GLOM
#
# A grid of columns, each a stack of levels. Every level moves to the average of what the level below predicts, what the level above predicts,
# what it was, and what like columns near by say. It is trained to fill in what was masked, in a few steps here.

# %%
source = Composites(*open_source("fashion-mnist-sample", None, "train"), CompositeSettings(objects=(2, 2)))
columns = glom.Glom(glom.GlomConfig(levels=3, dim=32, hidden=64, patch=4, iterations=6))
columns.fit(source.batch(range(64)).images, steps=30, batch=8, size=48)
print(f"loss {columns.history[0]:.3f} at first, {columns.history[-1]:.3f} at last")

# %% [markdown]
# Now a still video: a picture, eight times. `watch` makes one update a frame. Islands are connected columns whose neighbours' cosine is high; they
# should grow with time, and be fewer on higher levels.

# %%
still = source.batch([100]).images
frames = still[:, None].expand(-1, 8, -1, -1, -1)
with torch.no_grad():
    states = [state[0].unflatten(0, (12, 12)).numpy() for state in columns.watch(frames)]

cut = probes.parse_partition("threshold:0.9")
times = (0, 1, 3, 7)
figure, axes = plt.subplots(3, 1 + len(times), figsize=(2 * (1 + len(times)), 6.2))
for level in range(3):
    axes[level, 0].imshow(np.moveaxis(still[0].numpy(), 0, -1))
    for axis, time in zip(axes[level, 1:], times, strict=True):
        grid = states[time][:, :, level]
        [colours] = glom.pca_rgb(grid)
        count = probes.count_islands(partition(grid, cut, seed=0))
        axis.imshow(colours)
        axis.set_title(f"level {level + 1}, frame {time + 1}: {count}", fontsize=8)
for axis in axes.flat:
    axis.axis("off")

# %% [markdown]
# Thirty steps teach little. What 4,000 teach, whether islands fall in number from level to level, and whether they are the parts and
# wholes (they are not), is on [GLOM's page](../glom.md).
#
#     apm ff train --mode recurrent --data fashion-mnist --epochs 2 --out DIR
#     apm glom train --objective mask --out DIR2
#     apm glom islands DIR2 photo.jpg

# %% [markdown]
# # Islands of agreement
#
# A picture, shown as a *boring video*, leaves a vector at every location in every layer of a network. Where neighbouring
# vectors agree there is an island (Hinton 2021). This notebook points at a cat's eye and finds what agrees with it, cuts whole layers into
# islands, and asks what such a cut is worth: more than colour and place, or not?

# %%
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from skimage import data

import probes

picture = Image.fromarray(data.chelsea())  # ships with scikit-image, CC0
found = probes.islands(picture, "mvit-v2-tiny", size=160)
found

# %% [markdown]
# ## Point at an eye
#
# The cosine of every location with one of them: 1 where the network says the same as at the left eye. Layer by layer.

# %%
eye = (0.42, 0.38)  # y and x, as parts of the height and the width
figure, axes = plt.subplots(1, len(found.layers), figsize=(2.2 * len(found.layers), 2.2))
for axis, layer in zip(axes, found.layers, strict=True):
    grid = found.grid(layer)
    height, width, _ = grid.shape
    at = int(eye[0] * height), int(eye[1] * width)
    axis.imshow(probes.cosine_to(grid, grid[at][None])[..., 0], vmin=0, vmax=1, cmap="viridis")
    axis.plot(at[1], at[0], "r+")
    axis.set_title(f"layer {layer}\nagreement {found.agreement(layer):.2f}", fontsize=9)
    axis.axis("off")

# %% [markdown]
# *Agreement* is the mean cosine of neighbours. A high one says that a layer is smooth; it does not say that its islands are things.
#
# ## Cut a layer
#
# `labels` cuts a grid by any of the methods of [the islands page](../islands.md#measures). A count of islands counts connected sets.

# %%
cuts = ("kmeans:4", "ncut:4", "tree:4", "threshold:0.8")
figure, axes = plt.subplots(1, len(cuts), figsize=(2.6 * len(cuts), 2.4))
for axis, how in zip(axes, cuts, strict=True):
    labels = found.labels(how, layer=3)
    axis.imshow(labels, cmap="tab20", interpolation="nearest")
    axis.set_title(f"{how}: {probes.count_islands(labels)} islands", fontsize=9)
    axis.axis("off")

# %% [markdown]
# ## What is it worth?
#
# Only a picture whose parts are known can say. Composites are made here: real silhouettes pasted on a ground of the same colours, with
# masks that no training saw. Two baselines stand beside the network, always: the same network with random weights, and colour +
# position, which is no network at all. All three are cut the same way, into as many pieces as there are.

# %%
import glom
from glom.datasets.composites import Composites, CompositeSettings, open_source
from probes.partition import partition

images, classes = open_source("fashion-mnist-sample", None, "test")
batch = Composites(images, classes, CompositeSettings(objects=(2, 2))).batch(range(4))

backbone = glom.load_backbone("mvit-v2-tiny")
networks = {"trained": backbone, "untrained": backbone.untrained()}
scores = {name: [] for name in (*networks, "colour + position")}
for image, mask in zip(batch.images, batch.masks.numpy(), strict=True):
    for name, network in networks.items():
        looked = probes.islands(image, network, layers=[3], size=96)
        scores[name].append(looked.score(mask, "kmeans:3", background=0)["ari"])
    places = probes.colour_position(np.moveaxis(image.numpy(), 0, -1))
    own = partition(places, probes.parse_partition("kmeans:3"), seed=0)
    scores["colour + position"].append(probes.adjusted_rand(mask, own))

for name, values in scores.items():
    print(f"{name:18} adjusted Rand index {np.mean(values):.3f}, pictures {np.round(values, 2).tolist()}")

# %% [markdown]
# Four pictures decide nothing; what 100 and more say is on [the islands page](../islands.md), with intervals, and
# [islands that emerge](../emergence.md) trains the network that grows them. Over a folder of pictures with masks, every layer and both baselines:
#
#     apm islands score composites --limit 20 --out DIR
#     apm islands show photo.jpg --out DIR

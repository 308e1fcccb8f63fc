"""transformers' masked autoencoder with a class head on its encoder: a Y of one trunk and two branches.

    tokens(x)  = f(x)                  encoder: (B, 3, S, S) -> (B, N + 1, D), the class token first
    scores(x)  = h(f(x))               class head: a small ViT over the tokens
    rebuilt(x) = g(f(mask(x)))         decoder: the pixels of the patches the encoder did not see

He et al. 2021, "Masked Autoencoders Are Scalable Vision Learners", sections 3 and appendix A.1; the Y and the head:
Gandelsman et al. 2022, "Test-Time Training with Masked Autoencoders" (NeurIPS), section 3, and their released code.
"""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import ViTMAEConfig, ViTMAEForPreTraining
from transformers.models.vit_mae.modeling_vit_mae import ViTMAELayer

from glom.errors import InputError
from glom.masked.shapes import HeadShape as HeadShape
from glom.masked.shapes import MAEShape as MAEShape

EPS = 1e-6  # of the layer norms, in the authors' code
# Attention over a few dozen tokens is quicker as plain products than through the fused kernel, on a processor by half.
ATTENTION = "eager"


def build_mae(shape: MAEShape) -> ViTMAEForPreTraining:
    """A masked autoencoder with random weights, drawn and laid out as its authors do (appendix A.1).

    Position codes and tokens are set here: not every version of transformers does.
    """
    config = ViTMAEConfig(
        image_size=shape.size,
        patch_size=shape.patch,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.width,
        decoder_hidden_size=shape.decoder_width,
        decoder_num_hidden_layers=shape.decoder_layers,
        decoder_num_attention_heads=shape.decoder_heads,
        decoder_intermediate_size=4 * shape.decoder_width,
        mask_ratio=shape.mask_ratio,
        norm_pix_loss=True,
        layer_norm_eps=EPS,
    )
    mae = readable(ViTMAEForPreTraining._from_config(config, attn_implementation=ATTENTION))
    initialise(mae)
    embeddings = mae.vit.embeddings
    with torch.no_grad():
        embeddings.position_embeddings.copy_(positions(shape.side, shape.width))
        mae.decoder.decoder_pos_embed.copy_(positions(shape.side, shape.decoder_width))
        projection: Any = embeddings.patch_embeddings.projection
        nn.init.xavier_uniform_(projection.weight.flatten(1))
        nn.init.zeros_(projection.bias)
        nn.init.normal_(embeddings.cls_token, std=0.02)
        nn.init.normal_(mae.decoder.mask_token, std=0.02)
    return mae


def readable(mae: ViTMAEForPreTraining) -> ViTMAEForPreTraining:
    """The same network. Raises `InputError` where transformers is too old to lay it out as it is read here."""
    if not hasattr(mae.vit, "layers"):
        raise InputError(
            f"masked autoencoders need transformers 5 or newer, this is {transformers.__version__}: update it"
        )
    return mae


def initialise(module: nn.Module) -> None:
    """Every linear layer by Xavier's uniform rule, biases at zero."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)


def positions(side: int, width: int) -> Tensor:
    """(1, side² + 1, width): sines and cosines of column and row, row-major; zeros for the class token."""
    omega = 10_000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    at = torch.arange(side, dtype=torch.float64)
    row, column = torch.meshgrid(at, at, indexing="ij")
    angles = [axis.reshape(-1, 1) * omega for axis in (column, row)]
    code = torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1)
    return torch.cat([torch.zeros(1, width, dtype=torch.float64), code]).float()[None]


def encode(mae: ViTMAEForPreTraining, images: Tensor, kept: Tensor | None = None) -> Tensor:
    """f(x): the encoder's tokens, in the patches' order.

    Args:
        images: (B, 3, S, S), normalised.
        kept: (B, k) the patches it sees; all N without it.

    Returns:
        (B, k + 1, D), the class token first.
    """
    e = mae.vit.embeddings
    x = e.patch_embeddings(images) + e.position_embeddings[:, 1:]
    if kept is not None:
        x = x.gather(1, kept[..., None].expand(-1, -1, x.shape[-1]))
    x = torch.cat([(e.cls_token + e.position_embeddings[:, :1]).expand(len(x), -1, -1).to(x.dtype), x], dim=1)
    for layer in mae.vit.layers:
        x = layer(x)
    return mae.vit.layernorm(x)


class ViTHead(nn.Module):
    """h: a linear map to its own width, position codes, transformer layers, a norm, and one linear layer.

    Args:
        shape: its sizes. inputs: width of the encoder's tokens. side: patches a side. classes: C.
    """

    def __init__(self, shape: HeadShape, inputs: int, side: int, classes: int) -> None:
        super().__init__()
        self.pool = shape.pool
        config = ViTMAEConfig(
            hidden_size=shape.width,
            num_attention_heads=shape.heads,
            intermediate_size=4 * shape.width,
            layer_norm_eps=EPS,
        )
        config._attn_implementation = ATTENTION
        self.embed = nn.Linear(inputs, shape.width)
        self.layers = nn.ModuleList([ViTMAELayer(config) for _ in range(shape.layers)])
        self.norm = nn.LayerNorm(shape.width, eps=EPS)
        self.classify = nn.Linear(shape.width, classes)
        self.positions: Tensor
        self.register_buffer("positions", positions(side, shape.width), persistent=False)
        initialise(self)

    def forward(self, tokens: Tensor, kept: Tensor | None = None) -> Tensor:
        """(B, k + 1, D) tokens, and which (B, k) patches they are of unless all, -> (B, C)."""
        code = self.positions.expand(len(tokens), -1, -1)
        if kept is not None:
            code = torch.cat([code[:, :1], code[:, 1:].gather(1, kept[..., None].expand(-1, -1, code.shape[-1]))], 1)
        x = self.embed(tokens) + code
        for layer in self.layers:
            x = layer(x)
        x = self.norm(x)
        return self.classify(x[:, 0] if self.pool == "class" else x[:, 1:].mean(1))


class MaskedClassifier(nn.Module):
    """Trunk and both branches: `mae` (f and g) and `head` (h). Called with pictures it gives h(f(x)), (B, C)."""

    def __init__(self, mae: ViTMAEForPreTraining, shape: HeadShape, classes: int) -> None:
        super().__init__()
        self.mae = mae
        self.head = ViTHead(shape, mae.config.hidden_size, side_of(mae), classes)

    def forward(self, images: Tensor, kept: Tensor | None = None) -> Tensor:
        return self.head(encode(self.mae, images, kept), kept)


def side_of(mae: ViTMAEForPreTraining) -> int:
    """Patches a side."""
    config: Any = mae.config
    return int(config.image_size) // int(config.patch_size)


def reconstruction(mae: ViTMAEForPreTraining, images: Tensor, noise: Tensor) -> Tensor:
    """The mean squared error over the masked patches' pixels (each patch normalised, where the network says so).

    Args:
        images: (B, 3, S, S). noise: (B, N); of each picture the patches with the least noise are the ones seen.
    """
    return mae(pixel_values=images, noise=noise).loss

"""open_clip without transformers: as fast as that, and the same towers where one is Hugging Face's."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.glom.test_compiler import ran

TOWER = """
import sys
from glom import text_towers
if {later}:
    text_towers.load_later()
    import open_clip
    assert "transformers" not in sys.modules
import open_clip.hf_model
import torch
{first}
torch.manual_seed(0)
tower = {{"hf_model_name": sys.argv[1], "hf_model_pretrained": False, "hf_pooler_type": "mean_pooler"}}
eye = {{"image_size": 32, "patch_size": 16, "layers": 1, "width": 16, "head_width": 8}}
network = open_clip.CustomTextCLIP(embed_dim=8, vision_cfg=eye, text_cfg=tower).eval()
assert type(network.text) is open_clip.hf_model.HFTextEncoder
assert sys.modules["open_clip.hf_model"] is open_clip.hf_model and open_clip.hf_model.transformers
print(network.encode_text(torch.arange(3, 9)[None]).tolist())
"""


def test_a_tower_of_hugging_faces_is_the_same(tmp_path: Path, monkeypatch, capsys):
    """As where transformers is loaded, here, whether the adapter is first asked for a tower or for anything else."""
    from transformers import RobertaConfig

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    RobertaConfig(vocab_size=20, **sizes).save_pretrained(tmp_path)
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path)])
    capsys.readouterr()
    exec(TOWER.format(later=False, first=""), {})
    expected = capsys.readouterr().out
    for first in ("", "assert open_clip.hf_model.MeanPooler"):
        done = ran(TOWER.format(later=True, first=first), tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout == expected


def test_where_transformers_is_loaded_open_clip_finds_it():
    code = "import transformers; from glom import text_towers; text_towers.load_later(); import open_clip.hf_model"
    assert (done := ran(f"{code}; assert open_clip.hf_model.transformers is transformers")).returncode == 0, done.stderr

"""An example of every command, which its help ends with; a test holds that there is one and that it can be typed."""

from __future__ import annotations

from typing import Any

EXAMPLES = {
    "ablate asynchrony": "cifar10-sample --limit 50 --out runs/asynchrony",
    "ablate folding": "cifar10-sample --axis fold,code --limit 10 --seeds 1 --out runs/folding",
    "ablate objective candidates": "",
    "ablate objective confirm": "runs/objective --top 2",
    "ablate objective select": "cifar10-sample --teacher glom-tiny --limit 100 --out runs/objective",
    "ablate prompts": "cifar10-sample --teacher glom-tiny",
    "bench all": "--quick --out runs/bench",
    "bench compile": "--quick --out runs/bench",
    "bench compute": "--out runs/bench",
    "bench device": "--device cpu --quick --out runs/bench",
    "bench execution": "--quick --out runs/bench",
    "bench ff": "--quick --out runs/bench",
    "bench ff-conv": "--quick --out runs/bench",
    "bench glom": "--out runs/bench",
    "bench host-reads": "--json",
    "bench islands": "--quick --out runs/bench",
    "bench islands-score": "bsds500 --backbone mvit-v2-tiny --limit 20 --out runs/islands",
    "bench memory": "--quick --out runs/bench",
    "bench methods": "cifar10-sample --out runs/bench",
    "bench plan": "--gpus 4 --price 1.5",
    "bench ranks": "--quick --out runs/bench",
    "bench reading": "cifar10-sample --out runs/bench",
    "bench scaling": "--quick --out runs/bench",
    "bench steps": "cifar10-sample --teacher glom-tiny",
    "bench ttt": "cifar10-sample --limit 50 --out runs/ttt",
    "benchmark": "cifar10-sample --methods zero-shot,tpt,apm --corruptions clean,fog:3 --limit 50 --out runs/table",
    "claims": "--json",
    "completion bash": "> ~/.local/share/bash-completion/completions/apm",
    "completion fish": "> ~/.config/fish/completions/apm.fish",
    "completion zsh": "> ~/.apm.zsh",
    "convert official": "model_15.pth my-machine",
    "datasets": "",
    "datasets check": "pacs --root ~/data",
    "datasets list": "",
    "datasets prepare": "imagenet-a --root ~/data",
    "demo": "--out runs/demo",
    "docs": "--check",
    "doctor": "",
    "explore": "photo.jpg runs/bench --out page.html",
    "export": "apm-cifar10 --format onnx --out apm.onnx",
    "ff eval": "runs/ff",
    "ff goodness": "runs/ff digit.png",
    "ff islands": "runs/ff photo.jpg",
    "ff score": "runs/ff --limit 50",
    "ff train": "--data mnist --mode supervised --epochs 10 --out runs/ff",
    "figures": "runs/islands",
    "fold": "photo.jpg --grid 64x64 --iterations 400 --out runs/fold",
    "glom islands": "runs/glom photo.jpg",
    "glom score": "runs/glom --limit 100 --out runs/glom-score",
    "glom train": "--objective mask --steps 1200 --out runs/glom",
    "grid decode": "photo.jpg --out runs/decode",
    "grid eval": "apm-cifar10 cifar10-sample --out runs/eval",
    "grid interpolate": "cat.jpg dog.jpg --out runs/between",
    "grid overfit": "photo.jpg --out runs/overfit",
    "grid shortcut": "cifar10-sample --out runs/shortcut",
    "grid train": "cifar10:DIR --epochs 4 --out runs/grid",
    "grid upsample": "photo.jpg --out runs/finer",
    "islands compare": "runs/islands runs/islands-untrained",
    "islands ablate": "--changes base,frames=1 --steps 100 --out runs/ablate",
    "islands emerge": "--recipe weave --out runs/emerge",
    "islands patch": "cat.jpg --layer 2 --region 0.3,0.2,0.7,0.8 --value zero --out runs/patch",
    "islands score": "bsds500 --limit 50 --out runs/islands",
    "islands show": "photo.jpg --layers first,last --out runs/show",
    "methods list": "",
    "reproduce": "table2 --limit 20 --out runs/table2",
    "slots score": "runs/slots tetrominoes --limit 50 --out runs/slots-score",
    "slots train": "tetrominoes --steps 500 --out runs/slots",
    "sweep figure": "runs/lr --x lr --y apm_top1 --by iterations",
    "sweep report": "runs/lr --measure apm_top1",
    "sweep run": "lr.toml --jobs 2 --out runs/lr",
    "teachers": "",
    "teachers score": "glom-tiny cifar10-sample --templates simple",
    "train glom-tiny": "cifar10:DIR --out runs/glom-tiny",
    "train mae-tiny": "cifar10:DIR --out runs/mae-tiny",
    "train mvit-v2-photo": "PHOTOS --also MORE --out runs/mvit-photo",
    "train mvit-v2-tiny": "cifar10:DIR --out runs/mvit-tiny",
    "ttt report": "runs/ttt",
    "ttt run": "cifar10-sample --teacher glom-tiny --corruption fog:3 --limit 50 --out runs/ttt",
    "ttt trace": "photo.jpg --teacher efficientnet-lite0 --out runs/trace",
}


def give_examples(command: Any, words: list[str]) -> None:
    """Let the help of a command, and of all below it, end with its example, and say each parameter as settings do."""
    name = " ".join(words)
    help_option = command.get_help_option
    command.get_help_option = lambda ctx: _tell(help_option(ctx))
    for param in command.params:
        _tell(param)
    if name in EXAMPLES:
        command.epilog = f"Example: apm {name} {EXAMPLES[name]}".rstrip()
    for below, one in getattr(command, "commands", {}).items():
        give_examples(one, [*words, below])


def _tell(param: Any) -> Any:
    """A flag takes no value, an argument is named once, and a default stands as `Default: X.`"""
    if param.param_type_name == "argument":
        param.metavar = param.metavar or param.name.upper()
        param.display_type_rich = lambda ctx: None
    elif param.is_flag:
        param.metavar = ""
    elif shown := param.show_default if isinstance(param.show_default, str) else param.show_default and param.default:
        param.help, param.show_default = f"{param.help} Default: {shown}.", False
    return param

"""A training step of ours beside a plain reading of the published one: seconds, peak memory, loss and gradients.

The plain step is what the published GA2-CLIP training does, in our words: class texts of 77 tokens through the prompted
text tower, the negative prompt through a second, frozen text tower at every step, every block recomputed in the
backward pass, float32. Both have the same random ViT-B/16, the same prompts and the same clips.

Every variant runs in a process of its own, so that its peak memory is its own; the first step warms up. CPU seconds
are the work of all threads: on a machine that others use too, trust their ratio.

    python benchmarks/train_step.py                       # the table of docs/benchmarks.md
    python benchmarks/train_step.py --growth              # how our step grows with classes, frames, prompts
    python benchmarks/train_step.py --precision           # from which width on bf16 gains
    python benchmarks/train_step.py --device cuda --clips 8 --frames 32 --anchors 1
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ga2clip.compute.distributed import Group
from ga2clip.data.loader import Batch
from ga2clip.model.load_backbone import backbone_from_weights
from ga2clip.model.methods import METHODS
from ga2clip.model.video_clip import VideoCLIP, build_model
from ga2clip.settings import Settings
from ga2clip.training.update import Updater, take

VERBS = (
    "kicking",
    "lifting",
    "riding",
    "rowing",
    "waving",
    "throwing",
    "catching",
    "climbing",
    "brushing",
    "cutting",
)
NOUNS = (
    "a ball",
    "a heavy barbell",
    "a bike",
    "a boat",
    "a flag",
    "a javelin",
    "a rope",
    "teeth",
    "an apple",
    "drums",
)
_PROMPTS_ALONE = {"method": {"coupling": "none"}, "anchors": {"weight": 0.0}}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "ours": {"training": {"precision": "fp32"}},
    "ours, one clip at a time": {"training": {"precision": "fp32", "micro_batch": 1}},
    "ours, bf16": {"training": {"precision": "bf16"}},
    "ours, bf16, one clip at a time": {"training": {"precision": "bf16", "micro_batch": 1}},
    "ours, margin loss, one clip at a time": {
        "anchors": {"loss": "margin"},
        "training": {"precision": "fp32", "micro_batch": 1},
    },
    "ours, margin loss, anchors in 1 of 4 updates, one clip at a time": {
        "anchors": {"loss": "margin", "every": 4},
        "training": {"precision": "fp32", "micro_batch": 1},
    },
    "ours, bf16, margin loss": {"anchors": {"loss": "margin"}, "training": {"precision": "bf16"}},
    "ours, bf16, margin loss, anchors in 1 of 4 updates": {
        "anchors": {"loss": "margin", "every": 4},
        "training": {"precision": "bf16"},
    },
    "V-L prompting, one clip at a time": {
        **_PROMPTS_ALONE,
        "training": {"precision": "fp32", "micro_batch": 1},
    },
    "V-L prompting, neighbouring frames, one clip at a time": {
        "method": {"coupling": "none", "frame_attention": "neighbours"},
        "anchors": {"weight": 0.0},
        "training": {"precision": "fp32", "micro_batch": 1},
    },
    "recommended, one clip at a time": {
        **_PROMPTS_ALONE,
        "loss": METHODS["recommended"].settings["loss"],
        "training": {"precision": "fp32", "micro_batch": 1},
    },
    "recommended, bf16": {
        **_PROMPTS_ALONE,
        "loss": METHODS["recommended"].settings["loss"],
        "training": {"precision": "bf16"},
    },
    "ours, bf16, compiled": {"training": {"precision": "bf16", "compile": True}},
    "ours, bf16, margin loss, compiled": {
        "anchors": {"loss": "margin"},
        "training": {"precision": "bf16", "compile": True},
    },
}


class PlainStep(nn.Module):
    """The published step on a model of ours: its weights and prompts, none of its shortcuts."""

    def __init__(self, model: VideoCLIP, frozen_text: nn.Module) -> None:
        super().__init__()
        self.model, self.frozen_text = model, frozen_text
        # Without `need_weights`, attention as open_clip calls it takes the same path as the published blocks.
        causal = torch.full((77, 77), float("-inf"), device=model.device).triu_(1)
        self.register_buffer("mask", causal)

    def forward(self, video: Tensor, labels: Tensor) -> Tensor:
        """Clip tensor (B + 1, T, 3, H, W) with the anchor last, labels (B,) → the loss."""
        model = self.model
        prompts = model.prompts()
        classes = self._texts(model.backbone.text, model.class_tokens(model.classes), prompts.text)
        with torch.no_grad():
            negative = model.class_tokens(["else"])
            negatives = self._texts(self.frozen_text, negative, [None] * 12)
        frames = self._frames(video.flatten(0, 1), prompts.vision)
        videos = F.normalize(frames.unflatten(0, video.shape[:2]).mean(dim=1), dim=-1)
        logits = videos[:-1] @ F.normalize(classes, dim=-1).T
        shift = videos[-1:] @ F.normalize(negatives, dim=-1).T
        return F.cross_entropy(model.scale * (logits + shift), labels)

    def _texts(self, tower: Any, ids: Tensor, prompts: list[Tensor | None]) -> Tensor:
        """Every text at full length: SOT, prompt, words, EOT, padding to 77 tokens."""
        count = 0 if prompts[0] is None else len(prompts[0])
        start = tower.embed(ids.new_full((len(ids), 1), tower.start_id))
        first = [] if prompts[0] is None else [prompts[0].expand(len(ids), -1, -1)]
        x = torch.cat([start, *first, tower.embed(F.pad(ids, (0, 76 - count - ids.shape[1])))], dim=1)
        x = x + tower.positional_embedding
        for index, block in enumerate(tower.blocks):
            if index and index < len(prompts) and prompts[index] is not None:
                x = torch.cat([x[:, :1], prompts[index].expand(len(x), -1, -1), x[:, 1 + count :]], dim=1)
            x = checkpoint(_attend, block, x, self.mask, use_reentrant=False)
        eot = 1 + count + ids.argmax(dim=-1)
        return tower.ln_final(x)[torch.arange(len(x)), eot] @ tower.text_projection

    def _frames(self, pixels: Tensor, prompts: list[Tensor | None]) -> Tensor:
        tower = self.model.backbone.vision
        visual = tower.visual
        x = visual.conv1(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], dim=1) + visual.positional_embedding
        count = 0
        for index, block in enumerate(tower.blocks):
            prompt = prompts[index] if index < len(prompts) else None
            if prompt is not None:
                x = torch.cat([x[:, : x.shape[1] - count], prompt.expand(len(x), -1, -1)], dim=1)
                count = len(prompt)
            if not index:
                x = visual.ln_pre(x)
            x = checkpoint(_attend, block, x, None, use_reentrant=False)
        return visual.ln_post(x[:, 0]) @ visual.proj


def _attend(block: nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    """A block as `nn.MultiheadAttention` runs it."""
    normed = block.ln_1(x)
    x = x + block.attn(normed, normed, normed, need_weights=False, attn_mask=mask)[0]
    return x + block.mlp(block.ln_2(x))


def main() -> None:
    arguments = parse()
    if arguments.variant:
        print(json.dumps(measure(arguments.variant, arguments)))
        return
    with tempfile.TemporaryDirectory() as folder:
        arguments.folder = folder
        if arguments.precision:
            print(precision_table(arguments))
            return
        write_weights(arguments.backbone, arguments)
        print(growth_table(arguments) if arguments.growth else step_table(arguments))


def parse(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="ViT-B-16")
    parser.add_argument("--clips", type=int, default=2)
    parser.add_argument("--anchors", type=int, default=1)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--classes", type=int, default=101)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--precision", action="store_true")
    parser.add_argument("--variants", nargs="*", default=list(OPTIONS)[:-2], choices=list(OPTIONS))
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args(words)


def write_weights(name: str, arguments: argparse.Namespace) -> None:
    """A CLIP with random weights in OpenAI's naming: an architecture of open_clip, or `WIDTHxPIXELS`."""
    import open_clip

    torch.manual_seed(0)
    if "x" in name:
        width, pixels = map(int, name.split("x"))
        clip = open_clip.CLIP(
            embed_dim=width,
            vision_cfg={"image_size": pixels, "patch_size": 16, "width": width, "layers": 6},
            text_cfg={"width": width, "heads": width // 64, "layers": 6},
        )
    else:
        clip = open_clip.create_model(name, pretrained=None)
    torch.save(dict(clip.state_dict()), Path(arguments.folder) / "clip.pt")


def measure(variant: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Median seconds of an update, peak memory in GiB, the loss and (saved to a file) the gradients."""
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    model = make_model(variant, arguments).to(device)
    batch = make_batch(arguments, model)
    plain = variant == "plain"
    step = plain_step(model, batch, device, arguments) if plain else our_step(model, batch, device)
    times, works = [], []
    for _ in range(1 + arguments.rounds):
        started, work = time.perf_counter(), time.process_time()
        loss, gradients = step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
        works.append(time.process_time() - work)
    torch.save(gradients, gradient_file(arguments, variant))
    return {
        "seconds": statistics.median(times[1:]) / model.settings.anchors.every,
        "work": statistics.median(works[1:]) / model.settings.anchors.every,
        "memory": peak_memory(device),
        "loss": loss,
    }


def make_model(variant: str, arguments: argparse.Namespace) -> VideoCLIP:
    weights = torch.load(Path(arguments.folder) / "clip.pt", mmap=True)
    backbone = backbone_from_weights(weights, source="random", quick_gelu=False, head_width=64)
    del weights
    lengths = {"text_length": arguments.prompts, "vision_length": arguments.prompts}
    tree = {
        "data": {"frames": arguments.frames},
        "method": {"coupling": "mapping", "coupling_dropout": 0.0, **lengths},
        "anchors": {
            "weight": 1.0 if arguments.anchors else 0.0,
            "loss": "published",
            "negatives": ["else"],
            "negative_template": "{}.",
        },
        "training": {"clip_grad": 0.0, "batch_size": arguments.clips},
    }
    settings = Settings().updated(tree, "benchmark").updated(OPTIONS[variant], "variant")
    torch.manual_seed(1)
    hard = torch.randn(arguments.prompts, backbone.text.width) * 0.02
    model = build_model(backbone, settings, class_names(arguments.classes), hard)
    if settings.training.compile:
        model.backbone.vision.compile()
        model.backbone.text.compile()
    return model.train()


def class_names(count: int) -> list[str]:
    """As many names as asked for, of two to six words."""
    names = [f"{verb} {noun}" for verb in VERBS for noun in NOUNS]
    return [
        names[i % len(names)] + (f" number {i // len(names)}" if i >= len(names) else "")
        for i in range(count)
    ]


def make_batch(arguments: argparse.Namespace, model: VideoCLIP) -> Batch:
    size = model.preprocess.size
    count = arguments.clips + arguments.anchors
    generator = torch.Generator().manual_seed(2)
    shape = (count, arguments.frames, size, size, 3)
    frames = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    labels = [i % arguments.classes for i in range(arguments.clips)] + [-1] * arguments.anchors
    return Batch(frames, torch.tensor(labels), [str(i) for i in range(count)])


def our_step(model: VideoCLIP, batch: Batch, device: torch.device) -> Any:
    """As many updates as have anchors once, through the training's own code; gradients are AdamW's first moment."""
    anchors = model.settings.anchors
    without = take(batch, (batch.labels >= 0).nonzero()[:, 0])
    # The loader leaves anchors out that change nothing, so that they are neither read nor encoded.
    batches = [batch if anchors.needs_videos else without, *[without] * (anchors.every - 1)]
    updater = Updater(model, Group(device))
    updater.optimiser.param_groups[0]["betas"] = (0.0, 0.999)

    def step() -> tuple[float, dict[str, Tensor]]:
        outcome, *_ = [updater.run(one, 0, factor=0.0) for one in batches]
        moments = {n: updater.optimiser.state[p]["exp_avg"] for n, p in updater.parameters.items()}
        return outcome.loss, moments

    return step


def plain_step(model: VideoCLIP, batch: Batch, device: torch.device, arguments: argparse.Namespace) -> Any:
    weights = torch.load(Path(arguments.folder) / "clip.pt")
    second = backbone_from_weights(weights, source="random", quick_gelu=False, head_width=64).to(device)
    plain = PlainStep(model, second.text)
    parameters = model.trainable_parameters()
    optimiser = torch.optim.AdamW(parameters.values(), lr=0.0)

    def step() -> tuple[float, dict[str, Tensor]]:
        video = batch.clip_tensor(model.preprocess, device)
        loss = plain(video, batch.labels[batch.labels >= 0].to(device))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.item(), {name: p.grad for name, p in parameters.items() if p.grad is not None}

    return step


def peak_memory(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def gradient_file(arguments: argparse.Namespace, variant: str) -> Path:
    return Path(arguments.folder) / f"{variant}.pt"


def run_variant(variant: str, arguments: argparse.Namespace, **changes: Any) -> dict[str, Any]:
    """`measure` in a process of its own."""
    options = vars(arguments) | changes
    command = [sys.executable, __file__, "--variant", variant, "--folder", arguments.folder]
    for name in ("clips", "anchors", "frames", "classes", "prompts", "device", "rounds", "threads"):
        command += [f"--{name}", str(options[name])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def step_table(arguments: argparse.Namespace) -> str:
    a = arguments
    clips = f"{a.clips} clips + {a.anchors} anchors of {a.frames} frames"
    size = f"{a.classes} classes, {a.prompts} prompts, {a.device}, {a.threads} threads, torch {torch.__version__}"
    lines = [f"{a.backbone}, random weights, {clips}, {size}", ""]
    lines.append(
        "| step | seconds | × plain | CPU seconds | × plain | peak memory, GiB | loss | gradient error |"
    )
    lines.append("|---|---|---|---|---|---|---|---|")
    plain = None
    for variant in arguments.variants:
        measured = run_variant(variant, arguments)
        plain = plain or measured
        other_loss = OPTIONS[variant].keys() & {"anchors", "loss"}
        error = (
            "other loss" if other_loss else f"{gradient_error(arguments, arguments.variants[0], variant):.1e}"
        )
        times = " | ".join(
            f"{measured[key]:.2f} | {plain[key] / measured[key]:.2f}" for key in ("seconds", "work")
        )
        lines.append(f"| {variant} | {times} | {measured['memory']:.2f} | {measured['loss']:.6f} | {error} |")
        print(lines[-1], file=sys.stderr)
    return "\n".join(lines)


def gradient_error(arguments: argparse.Namespace, first: str, variant: str) -> float:
    """Largest relative error (norm of the difference over the norm) of a tensor's gradient."""
    wanted, got = (torch.load(gradient_file(arguments, name)) for name in (first, variant))
    return max(float((got[name] - wanted[name]).norm() / wanted[name].norm()) for name in wanted)


def precision_table(arguments: argparse.Namespace) -> str:
    """Our step in float32 and in bf16 as the towers get wider; the tokens are those of `tiny` and of ViT-B/16."""
    lines = [
        "| width | patches | fp32, seconds | bf16, seconds | × | × in CPU seconds |",
        "|---|---|---|---|---|---|",
    ]
    for pixels in (96, 224):
        for width in (128, 256, 384, 512, 768):
            write_weights(f"{width}x{pixels}", arguments)
            plain, rough = (run_variant(variant, arguments) for variant in ("ours", "ours, bf16"))
            times = " | ".join(f"{measured['seconds']:.2f}" for measured in (plain, rough))
            ratios = " | ".join(f"{plain[key] / rough[key]:.2f}" for key in ("seconds", "work"))
            lines.append(f"| {width} | {(pixels // 16) ** 2} | {times} | {ratios} |")
            print(lines[-1], file=sys.stderr)
    return "\n".join(lines)


def growth_table(arguments: argparse.Namespace) -> str:
    """Our step, in bf16 and one clip at a time, while one thing grows and the others stay."""
    lines = ["| what | value | seconds | CPU seconds | peak memory, GiB |", "|---|---|---|---|---|"]
    for name, values in (("classes", (10, 101, 400)), ("frames", (4, 8, 16)), ("prompts", (4, 16, 32))):
        for value in values:
            measured = run_variant("ours, bf16, one clip at a time", arguments, **{name: value})
            times = f"{measured['seconds']:.2f} | {measured['work']:.2f}"
            lines.append(f"| {name} | {value} | {times} | {measured['memory']:.2f} |")
            print(lines[-1], file=sys.stderr)
    return "\n".join(lines)


if __name__ == "__main__":
    main()

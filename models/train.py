"""Train the model that ships, on CPU, in well under an hour on two cores.

    python -m models.train --minutes 40 --out out/pytiny.npz
    python -m models.export out/pytiny.npz -o models/pytiny.onnx
    python -m models.evaluate models/pytiny.onnx

A Llama-style decoder on bytes (`models.configs.PYTINY`), trained on the standard library of the
interpreter that runs this script (`models.corpus`). Matrices of the layers are updated by Muon
(orthogonalised momentum), embedding, head and norms by AdamW; the learning rate warms up, stays
constant and falls linearly to zero, by elapsed time, or by step when `--steps` is given (then a
run is repeatable). Needs PyTorch; nothing else in this package does.
"""

# Without PyTorch its classes and decorators have no types, and type checking must not need PyTorch.
# mypy: allow-subclassing-any, allow-untyped-decorators, disable-error-code="no-any-return"

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (the name everybody knows)
from torch import Tensor, nn

from models.configs import PYTINY, LlamaConfig
from models.corpus import SourceFile, join, library_files


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides a run. Lengths are tokens (bytes), times are minutes."""

    minutes: float = 40.0
    steps: int = 0
    batch: int = 8
    context: int = 512
    muon_lr: float = 0.02
    adam_lr: float = 5e-3
    weight_decay: float = 0.1
    clip: float = 1.0
    warmup: float = 0.01
    decay: float = 0.6
    seed: int = 20250101
    threads: int = 2
    bf16: bool = False
    compiled: bool = True


class RmsNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight, over the last axis."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """[..., size] -> the same shape, computed in float32."""
        x32 = x.float()
        return self.weight * (x32 * torch.rsqrt(x32.pow(2).mean(-1, keepdim=True) + self.eps))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of [B, H, S, D] with [S, D] tables, halves convention."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class Attention(nn.Module):
    """Causal grouped-query attention."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        kv = config.kv_heads * config.head_dim
        self.heads, self.kv_heads, self.head_dim = config.heads, config.kv_heads, config.head_dim
        self.q_proj = nn.Linear(config.hidden, config.hidden, bias=False)
        self.k_proj = nn.Linear(config.hidden, kv, bias=False)
        self.v_proj = nn.Linear(config.hidden, kv, bias=False)
        self.o_proj = nn.Linear(config.hidden, config.hidden, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """[B, S, hidden] -> [B, S, hidden]."""
        batch, length, hidden = x.shape
        q = self.q_proj(x).view(batch, length, self.heads, self.head_dim).transpose(1, 2)
        k = self.k_proj(x).view(batch, length, self.kv_heads, self.head_dim).transpose(1, 2)
        v = self.v_proj(x).view(batch, length, self.kv_heads, self.head_dim).transpose(1, 2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        group = self.heads // self.kv_heads
        k = k.repeat_interleave(group, dim=1).to(v.dtype)
        v = v.repeat_interleave(group, dim=1)
        y = F.scaled_dot_product_attention(q.to(v.dtype), k, v, is_causal=True)
        out: Tensor = self.o_proj(y.transpose(1, 2).reshape(batch, length, hidden))
        return out


class Mlp(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden, config.ffn, bias=False)
        self.up_proj = nn.Linear(config.hidden, config.ffn, bias=False)
        self.down_proj = nn.Linear(config.ffn, config.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, S, hidden] -> [B, S, hidden]."""
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Layer(nn.Module):
    """One pre-norm decoder layer."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.input_layernorm = RmsNorm(config.hidden, config.norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RmsNorm(config.hidden, config.norm_eps)
        self.mlp = Mlp(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """[B, S, hidden] -> [B, S, hidden]."""
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Decoder(nn.Module):
    """Embedding, layers and final norm; parameter names are those of Hugging Face's `LlamaModel`."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab, config.hidden)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = RmsNorm(config.hidden, config.norm_eps)


class Llama(nn.Module):
    """Token ids [B, S] -> logits [B, S, vocab]."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        self.lm_head = nn.Linear(config.hidden, config.vocab, bias=False)
        residual_std = 0.02 / math.sqrt(2 * config.layers)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                ends = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(parameter, std=residual_std if ends else 0.02)
        powers = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
        self.inv_freq = 1.0 / config.rope_theta**powers

    def forward(self, ids: Tensor) -> Tensor:
        """[B, S] int64 -> [B, S, vocab] float32."""
        angles = torch.outer(torch.arange(ids.shape[1], dtype=torch.float32), self.inv_freq)
        angles = torch.cat((angles, angles), dim=-1)
        cos, sin = angles.cos(), angles.sin()
        x = self.model.embed_tokens(ids)
        for layer in self.model.layers:
            x = layer(x, cos, sin)
        out: Tensor = self.lm_head(self.model.norm(x)).float()
        return out


def schedule(progress: float, recipe: Recipe) -> float:
    """Learning-rate factor at `progress` in [0, 1]: linear up, flat, linear down to zero."""
    if progress < recipe.warmup:
        return max(progress / recipe.warmup, 0.02)
    return min(1.0, (1.0 - progress) / recipe.decay)


def optimizers(model: Llama, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for everything else."""
    named = list(model.named_parameters())
    inner = [p for n, p in named if ".layers." in n and p.dim() == 2]
    outer = [p for n, p in named if ".layers." not in n and p.dim() == 2]
    norms = [p for _, p in named if p.dim() == 1]
    groups = [{"params": outer, "weight_decay": recipe.weight_decay}, {"params": norms, "weight_decay": 0.0}]
    adam = torch.optim.AdamW(groups, lr=recipe.adam_lr, betas=(0.9, 0.95), eps=1e-10)
    if recipe.muon_lr <= 0:
        adam.add_param_group({"params": inner, "weight_decay": recipe.weight_decay})
        return [adam]
    muon = torch.optim.Muon(inner, lr=recipe.muon_lr, momentum=0.95, weight_decay=recipe.weight_decay)
    return [muon, adam]


def crops(stream: np.ndarray, recipe: Recipe, rng: np.random.Generator) -> Tensor:
    """A batch of random windows [batch, context + 1] of the training bytes."""
    starts = rng.integers(0, len(stream) - recipe.context - 1, size=recipe.batch)
    windows = stream[starts[:, None] + np.arange(recipe.context + 1)]
    return torch.from_numpy(windows.astype(np.int64))


@torch.no_grad()
def bits_per_byte(model: Llama, stream: np.ndarray, context: int, limit: int) -> float:
    """Mean bits a byte over the first `limit` whole windows of a stream (float32)."""
    count = min(limit, (len(stream) - 1) // context)
    total = 0.0
    for start in range(0, count, 8):
        rows = [stream[i * context : (i + 1) * context + 1] for i in range(start, min(start + 8, count))]
        ids = torch.from_numpy(np.stack(rows).astype(np.int64))
        loss = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten(), reduction="sum")
        total += float(loss)
    return total / (count * context * math.log(2))


def save(model: Llama, path: Path, facts: dict[str, object]) -> None:
    """Write weights (Hugging Face names, float32) and a JSON record of the run to one `.npz`."""
    arrays = {name: p.detach().float().numpy() for name, p in model.named_parameters()}
    record = json.dumps({"config": asdict(model.config), **facts}, indent=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    with temporary.open("wb") as f:
        np.savez(f, record=np.frombuffer(record.encode(), np.uint8), **arrays)
    temporary.replace(path)


def streams(files: list[SourceFile], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Training bytes (files in random order) and held-out bytes (files in path order)."""
    train = [f for f in files if not f.held_out]
    order = np.random.default_rng(seed).permutation(len(train))
    shuffled = [train[i] for i in order]
    held_out = [f for f in files if f.held_out]
    return np.frombuffer(join(shuffled), np.uint8), np.frombuffer(join(held_out), np.uint8)


class Run:
    """The state of one training run."""

    def __init__(self, recipe: Recipe, config: LlamaConfig) -> None:
        torch.manual_seed(recipe.seed)
        torch.set_num_threads(recipe.threads)
        self.recipe = recipe
        self.rng = np.random.default_rng(recipe.seed)
        self.text, self.held_out = streams(library_files(), recipe.seed)
        self.model = Llama(config)
        self.forward = torch.compile(self.model) if recipe.compiled else self.model
        self.optimizers = optimizers(self.model, recipe)
        self.rates = [[g["lr"] for g in o.param_groups] for o in self.optimizers]
        self.step, self.smooth = 0, 0.0

    @property
    def tokens(self) -> int:
        """Training bytes seen so far, repetitions counted."""
        return self.step * self.recipe.batch * self.recipe.context

    def loss(self, batch: Tensor) -> Tensor:
        """Mean cross entropy (nats a byte) of one batch [B, context + 1]; gradients accumulate."""
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.recipe.bf16):
            logits = self.forward(batch[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        return loss

    def warm_up(self) -> None:
        """One backward pass for nothing, so that the clock does not see compilation."""
        self.loss(torch.zeros(self.recipe.batch, self.recipe.context + 1, dtype=torch.int64))
        self.model.zero_grad()

    def advance(self, progress: float) -> None:
        """One optimiser step at `progress` in [0, 1)."""
        factor = schedule(progress, self.recipe)
        for optimizer, rates in zip(self.optimizers, self.rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
        bits = self.loss(crops(self.text, self.recipe, self.rng)).item() / math.log(2)
        nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        self.smooth = bits if self.step == 1 else 0.98 * self.smooth + 0.02 * bits

    def measure(self, windows: int) -> float:
        """Bits a byte on the held-out stream."""
        return bits_per_byte(self.model, self.held_out, self.recipe.context, windows)

    def checkpoint(self, out: Path, windows: int, seconds: float) -> float:
        """Measure on `windows` held-out windows and write the weights."""
        bits = self.measure(windows)
        facts: dict[str, object] = {
            "steps": self.step,
            "tokens": self.tokens,
            "minutes": round(seconds / 60, 1),
            "held_out_bits_per_byte": bits,
            "recipe": asdict(self.recipe),
            "torch": torch.__version__,
            "python": platform.python_version(),
        }
        save(self.model, out, facts)
        print(f"{seconds:7.1f} s step {self.step:5d} held out {bits:.4f} bits/byte -> {out}", flush=True)
        return bits


def train(recipe: Recipe, out: Path, config: LlamaConfig = PYTINY) -> float:
    """Train, write checkpoints to `out`, and return bits a byte on held-out files."""
    run = Run(recipe, config)
    parameters = sum(p.numel() for p in run.model.parameters())
    print(f"{parameters:,} parameters, {len(run.text):,} training bytes, {len(run.held_out):,} held out")
    run.warm_up()
    began, next_save, elapsed = time.monotonic(), 120.0, 0.0
    while True:
        progress = run.step / recipe.steps if recipe.steps else elapsed / (60 * recipe.minutes)
        if progress >= 1.0:
            return run.checkpoint(out, len(run.held_out), elapsed)
        run.advance(progress)
        elapsed = time.monotonic() - began
        if run.step % 50 == 0:
            print(
                f"{elapsed:7.1f} s step {run.step:5d} lr x{schedule(progress, recipe):.2f}"
                f" train {run.smooth:.3f} bits/byte {run.tokens / elapsed:,.0f} tokens/s",
                flush=True,
            )
        if elapsed > next_save:
            next_save += 300.0
            run.checkpoint(out, 64, elapsed)


def parse(arguments: list[str] | None = None) -> tuple[Recipe, Path]:
    """Read the command line; every field of `Recipe` is an option."""
    parser = argparse.ArgumentParser(prog="python -m models.train", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("out/pytiny.npz"), help="checkpoint to write")
    for name, default in asdict(Recipe()).items():
        option = "--" + name.replace("_", "-")
        if isinstance(default, bool):
            parser.add_argument(option, action=argparse.BooleanOptionalAction, default=default)
        else:
            parser.add_argument(option, type=type(default), default=default)
    values = vars(parser.parse_args(arguments))
    out: Path = values.pop("out")
    return Recipe(**values), out


if __name__ == "__main__":
    recipe_, out_ = parse()
    train(recipe_, out_)

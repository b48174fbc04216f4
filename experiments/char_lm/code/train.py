"""A small character language model: an embedding of the last characters, a few layers, and Adam.

What it may use is in ``prepare.py``, which stays as it is. It learns until ``prepare.spent()`` is 1.
"""

import math

import numpy as np
import prepare
from prepare import Floats, Tokens

CONTEXT = 10  # range: 2..40
EMBED = 16  # range: 2..64
HIDDEN = 160  # range: 16..768
LAYERS = 1  # choices: 1, 2, 3
ACTIVATION = "tanh"  # choices: "tanh", "relu", "silu"
IS_RESIDUAL = False  # choices: True, False
INIT_SCALE = 1.0  # range: 0.1..3.0
OUTPUT_SCALE = 1.0  # range: 0.01..3.0
BATCH = 64  # range: 8..1024
LEARNING_RATE = 0.003  # range: 0.0001..0.05
BETA_1 = 0.9  # range: 0.5..0.99
BETA_2 = 0.999  # range: 0.9..0.9999
WARMUP = 0.0  # range: 0.0..0.3
DECAY = "linear"  # choices: "none", "linear", "cosine"
LEAST = 0.1  # range: 0.0..0.3
WEIGHT_DECAY = 0.0  # range: 0.0..0.1
DROPOUT = 0.05  # range: 0.0..0.5
LABEL_SMOOTHING = 0.01  # range: 0.0..0.2
CLIP = 1.0  # range: 0.1..100.0
AVERAGE = 0.0  # range: 0.0..0.999

VOCABULARY = len(prepare.characters)
ONE_HOT = np.eye(VOCABULARY, dtype=np.float32)

Named = dict[str, Floats]
"""Parameters, or their gradients."""
Kept = tuple[Floats, list[tuple[Floats, Floats]]]
"""What goes into the output, and of each layer what went into it and its slope."""


def shapes() -> dict[str, tuple[int, ...]]:
    """Name → shape of each parameter."""
    found: dict[str, tuple[int, ...]] = {"embed": (VOCABULARY, EMBED)}
    width = CONTEXT * EMBED
    for layer in range(LAYERS):
        found[f"weight{layer}"] = (width, HIDDEN)
        found[f"bias{layer}"] = (HIDDEN,)
        width = HIDDEN
    return {**found, "output": (width, VOCABULARY), "output_bias": (VOCABULARY,)}


def views(flat: Floats) -> Named:
    """The parameters by name, in one long vector."""
    found: Named = {}
    at = 0
    for name, shape in shapes().items():
        size = math.prod(shape)
        found[name] = flat[at : at + size].reshape(shape)
        at += size
    return found


def begin() -> Floats:
    flat = np.zeros(sum(math.prod(shape) for shape in shapes().values()), np.float32)
    for name, value in views(flat).items():
        if name == "embed":
            value[:] = prepare.chance.normal(0, 1, value.shape)
        elif value.ndim == 2:
            scale = OUTPUT_SCALE if name == "output" else INIT_SCALE
            value[:] = prepare.chance.normal(0, scale / math.sqrt(value.shape[0]), value.shape)
    return flat


def activate(x: Floats) -> tuple[Floats, Floats]:
    """What comes out of a layer, and its slope."""
    if ACTIVATION == "tanh":
        y = np.tanh(x)
        return y, 1 - y * y
    if ACTIVATION == "relu":
        return np.maximum(x, 0), (x > 0).astype(np.float32)
    gate = 1 / (1 + np.exp(-x))
    return x * gate, gate * (1 + x * (1 - gate))


def forward(p: Named, contexts: Tokens, drop: float = 0.0) -> tuple[Floats, Kept]:
    """The logits, and what the way back needs."""
    x = p["embed"][contexts].reshape(len(contexts), -1)
    steps: list[tuple[Floats, Floats]] = []
    for layer in range(LAYERS):
        y, slope = activate(x @ p[f"weight{layer}"] + p[f"bias{layer}"])
        if drop:
            mask = (prepare.chance.random(y.shape, np.float32) >= drop).astype(np.float32) / (1 - drop)
            y, slope = y * mask, slope * mask
        steps.append((x, slope))
        x = x + y if IS_RESIDUAL and layer else y
    return x @ p["output"] + p["output_bias"], (x, steps)


def softmax(logits: Floats) -> Floats:
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def backward(p: Named, g: Named, contexts: Tokens, targets: Tokens, logits: Floats, kept: Kept) -> None:
    """Write the gradient of the mean loss into *g*."""
    x, steps = kept
    wanted = ONE_HOT[targets] * (1 - LABEL_SMOOTHING) + LABEL_SMOOTHING / VOCABULARY
    d = (softmax(logits) - wanted) / len(targets)
    np.matmul(x.T, d, out=g["output"])
    np.sum(d, axis=0, out=g["output_bias"])
    d = d @ p["output"].T
    for layer in reversed(range(LAYERS)):
        before, slope = steps[layer]
        inner = d * slope
        np.matmul(before.T, inner, out=g[f"weight{layer}"])
        np.sum(inner, axis=0, out=g[f"bias{layer}"])
        inner = inner @ p[f"weight{layer}"].T
        d = d + inner if IS_RESIDUAL and layer else inner
    np.matmul(ONE_HOT[contexts.ravel()].T, d.reshape(-1, EMBED), out=g["embed"])


def rate(spent: float) -> float:
    """How large a step is, after so much of the time."""
    if spent < WARMUP:
        return LEARNING_RATE * spent / WARMUP
    rest = (1 - spent) / (1 - WARMUP)
    shape = {"none": 1.0, "linear": rest, "cosine": (1 - math.cos(math.pi * rest)) / 2}[DECAY]
    return LEARNING_RATE * (LEAST + (1 - LEAST) * shape)


def train() -> Floats:
    flat = begin()
    gradient, first, second = np.zeros_like(flat), np.zeros_like(flat), np.zeros_like(flat)
    p, g, average, step = views(flat), views(gradient), flat.copy(), 0
    while (spent := prepare.spent()) < 1:
        step += 1
        contexts, targets = prepare.batch(BATCH, CONTEXT, len(flat))
        logits, kept = forward(p, contexts, DROPOUT)
        backward(p, g, contexts, targets, logits, kept)
        gradient *= min(1.0, CLIP / (float(np.linalg.norm(gradient)) + 1e-12))
        first += (1 - BETA_1) * (gradient - first)
        second += (1 - BETA_2) * (gradient * gradient - second)
        size = rate(spent) * math.sqrt(1 - BETA_2**step) / (1 - BETA_1**step)
        flat *= 1 - rate(spent) * WEIGHT_DECAY
        flat -= size * first / (np.sqrt(second) + 1e-8)
        average += (1 - AVERAGE) * (flat - average)
    print(f"steps: {step}, parameters: {len(flat)}")
    return average


def main() -> None:
    p = views(train())
    parts = np.array_split(prepare.windows[:, -CONTEXT:], 16)
    prepare.answer(np.concatenate([softmax(forward(p, part)[0]) for part in parts]))


if __name__ == "__main__":
    main()

"""The network of `scripts/train_guards.py`: the first layers of all-MiniLM-L6-v2 and a head, trained on the CPU.

Its vectors of words stay as they are, since the gateway takes them from the package that it has for embeddings; what is
trained is written as an ONNX file with weights of 8 bits.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from capstan_gateway.embed.files import weights_path
from capstan_gateway.embed.words import Words

LAYERS: Final = 4
WIDTH: Final = 384
INNER: Final = 1536
HEADS: Final = 12
BATCH: Final = 32
RATE: Final = 1.5e-4
HEAD_RATE: Final = 1e-3
LABELS: Final = (0.02, 0.97)
"""What a harmless text and an attack are said to be: not all labels are right."""
PARTS: Final = ("query", "key", "value", "out", "inner", "outer")
"""The products of a layer, in the order in which the weights' file has them."""


class Layer(nn.Module):
    """One layer of BERT."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.inner, self.outer = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)
        self.first, self.second = nn.LayerNorm(WIDTH, eps=1e-12), nn.LayerNorm(WIDTH, eps=1e-12)

    def forward(self, states: Tensor, bias: Tensor) -> Tensor:
        """Give the next states; `bias` is added to what attention is paid by."""
        rows, length, width = states.shape

        def split(tensor: Tensor) -> Tensor:
            return tensor.view(rows, length, HEADS, width // HEADS).transpose(1, 2)

        query, key, value = split(self.query(states)), split(self.key(states)), split(self.value(states))
        paid = torch.softmax(query @ key.transpose(-1, -2) / math.sqrt(width // HEADS) + bias, -1)
        states = self.first(states + self.out((paid @ value).transpose(1, 2).reshape(rows, length, width)))
        return self.second(states + self.outer(functional.gelu(self.inner(states))))  # type: ignore[no-any-return]


class Network(nn.Module):
    """Word vectors in, two numbers out: how much of an attack it is as a prompt, and as a result of a tool."""

    def __init__(self) -> None:
        super().__init__()
        self.places, self.kinds = nn.Embedding(512, WIDTH), nn.Embedding(2, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, eps=1e-12)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.head = nn.Linear(2 * WIDTH, 2)

    def forward(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """Give logits, (windows, 2), of (windows, pieces, 384) and which pieces are no padding."""
        states = self.norm(vectors + self.places.weight[: vectors.shape[1]] + self.kinds.weight[0])
        bias = (1 - mask)[:, None, None, :] * -1e4
        for layer in self.layers:
            states = layer(states, bias)
        there = mask[..., None]
        mean = (states * there).sum(1) / there.sum(1)
        most = (states - (1 - there) * 1e4).max(1).values
        pooled = torch.cat([mean, most], -1)
        return self.head(functional.dropout(pooled, 0.1, self.training))  # type: ignore[no-any-return]


class Exported(nn.Module):
    """The same, with probabilities."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """See `Network.forward`."""
        return torch.sigmoid(self.network(vectors, mask))


def start() -> Network:
    """Make the network with MiniLM's first layers, as the package of the embeddings has them."""
    graph = onnx.load(str(weights_path())).graph
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    products = [node.input[1] for node in graph.node if node.op_type == "MatMul" and f"{node.input[1]}_q" in held]

    def full(name: str) -> Any:
        return torch.tensor(held[f"{name}_q"].astype(numpy.float32) * held[f"{name}_scale"])

    def plain(name: str) -> Any:
        return torch.tensor(held[f"inner.{name}"])

    network = Network()
    network.places.weight.data = full("inner.embeddings.position_embeddings.weight")
    network.kinds.weight.data = plain("embeddings.token_type_embeddings.weight")
    network.norm.weight.data = plain("embeddings.LayerNorm.weight")
    network.norm.bias.data = plain("embeddings.LayerNorm.bias")
    for number, layer in enumerate(network.layers):
        at = f"encoder.layer.{number}"
        biases = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
                  "intermediate.dense", "output.dense")  # fmt: skip
        for part, bias, product in zip(PARTS, biases, products[6 * number :], strict=False):
            getattr(layer, part).weight.data = full(product).T.contiguous()
            getattr(layer, part).bias.data = plain(f"{at}.{bias}.bias")
        for norm, name in (("first", "attention.output"), ("second", "output")):
            getattr(layer, norm).weight.data = plain(f"{at}.{name}.LayerNorm.weight")
            getattr(layer, norm).bias.data = plain(f"{at}.{name}.LayerNorm.bias")
    for still in (network.places, network.kinds, network.norm):
        still.requires_grad_(False)
    return network


def inputs(words: Words, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Give what the network takes."""
    ids, mask = words.numbers(rows)
    return torch.from_numpy(words.vectors(ids)), torch.from_numpy(mask.astype(numpy.float32))


def batches(rows: Sequence[Sequence[int]], draw: numpy.random.Generator) -> Iterator[list[int]]:
    """Put rows of similar length together; the order in which they are given is kept, but for some thousand."""
    for begin in range(0, len(rows), 1024):
        part = sorted(range(begin, min(begin + 1024, len(rows))), key=lambda at: len(rows[at]))
        groups = [part[at : at + BATCH] for at in range(0, len(part), BATCH)]
        draw.shuffle(groups)  # type: ignore[arg-type]
        yield from groups


def train(
    words: Words, rows: Sequence[Sequence[int]], attacks: "numpy.typing.NDArray[Any]",
    told: "numpy.typing.NDArray[Any]", seed: int, most_steps: int | None = None,
) -> Network:  # fmt: skip
    """Train on windows in their order, once. `told` says of each window which of the two numbers its label is for.

    `most_steps`: where it ends before its time, as it was then.
    """
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    network = start().train()
    head = list(network.head.parameters())
    body = [parameter for parameter in network.layers.parameters() if parameter.requires_grad]
    groups = [{"params": body, "lr": RATE}, {"params": head, "lr": HEAD_RATE}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    steps = list(batches(rows, numpy.random.default_rng(seed)))
    for number, step in enumerate(steps[:most_steps]):
        slowly = min(1.0, (number + 1) / (0.06 * len(steps))) * max(0.02, 1 - number / len(steps))
        optimizer.param_groups[0]["lr"], optimizer.param_groups[1]["lr"] = RATE * slowly, HEAD_RATE * slowly
        vectors, mask = inputs(words, [rows[at] for at in step])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network(vectors, mask)
        wanted = torch.from_numpy(numpy.where(attacks[step], LABELS[1], LABELS[0])).float()[:, None].expand(-1, 2)
        counts = torch.from_numpy(told[step]).float()
        losses = functional.binary_cross_entropy_with_logits(logits.float(), wanted, reduction="none")
        loss = (losses * counts).sum() / counts.sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_([*body, *head], 1.0)
        optimizer.step()
        if number % 50 == 0:
            print(f"  step {number} of {len(steps)}: loss {loss.item():.3f}", flush=True)
    return network.eval()


def scores(network: Network, words: Words, rows: Sequence[Sequence[int]]) -> "numpy.typing.NDArray[Any]":
    """Give the logits of windows."""
    found = numpy.zeros((len(rows), 2), numpy.float32)
    order = sorted(range(len(rows)), key=lambda at: len(rows[at]))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        for begin in range(0, len(order), BATCH):
            step = order[begin : begin + BATCH]
            found[step] = network(*inputs(words, [rows[at] for at in step])).float().numpy()
    return found


def write(network: Network, path: Path) -> None:
    """Write the network, its products with weights of 8 bits."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    full = path.with_suffix(".full.onnx")
    names = {"vectors": {0: "windows", 1: "pieces"}, "mask": {0: "windows", 1: "pieces"}, "scores": {0: "windows"}}
    torch.onnx.export(
        Exported(network), (torch.zeros(2, 8, WIDTH), torch.ones(2, 8)), str(full), opset_version=17, dynamo=False,
        input_names=["vectors", "mask"], output_names=["scores"], dynamic_axes=names,
    )  # fmt: skip
    quantize_dynamic(full, path, weight_type=QuantType.QInt8, per_channel=True, op_types_to_quantize=["MatMul"])
    full.unlink()

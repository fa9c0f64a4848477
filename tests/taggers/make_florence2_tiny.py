"""Make the files of `florence2_tiny/` again: a random Florence-2 with the inputs, outputs and file
names of its ONNX exports, and what the transformers library generates with it.

    .venv/bin/python -m tests.taggers.make_florence2_tiny

It needs torch and transformers; the tests read the files and need neither.
"""

from __future__ import annotations

import json
import string
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import Florence2Config, Florence2ForConditionalGeneration
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from taggers.florence2 import QUESTIONS

FOLDER = Path(__file__).parent / "florence2_tiny"
SIDE, WIDTH, HEADS, LAYERS = 64, 16, 2, 1
TOKENS = 32  # the longest text that is generated
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
IMAGES = {"red": (200, 20, 30), "green": (10, 180, 40), "blue": (20, 40, 220)}


def tokenizer() -> Tokenizer:
    """Return a byte-level tokenizer without merges: a token for each byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: n for n, token in enumerate([*SPECIAL, *alphabet])}
    made = Tokenizer(models.BPE(vocabulary, []))
    made.add_special_tokens([*SPECIAL, "<image>"])
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return made


def model(size: int) -> Florence2ForConditionalGeneration:
    """Return a random model. Letters and spaces are likely, so that captions can be read."""
    settings = Florence2Config(
        text_config={
            "model_type": "bart", "vocab_size": size, "d_model": WIDTH,
            "encoder_layers": LAYERS, "decoder_layers": LAYERS,
            "encoder_attention_heads": HEADS, "decoder_attention_heads": HEADS,
            "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "max_position_embeddings": 256,
            "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2,
        },
        vision_config={
            "depths": (1, 1), "embed_dim": (8, 16), "num_heads": (2, 4), "num_groups": (2, 4),
            "patch_size": (7, 3), "patch_stride": (4, 2), "patch_padding": (3, 1),
            "patch_prenorm": (False, True), "window_size": 4, "projection_dim": WIDTH,
        },
        image_token_id=size - 1,
    )  # fmt: skip
    torch.manual_seed(0)
    made = Florence2ForConditionalGeneration(settings).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn_like(parameter) * 0.35)
    return made


class Vision(torch.nn.Module):
    def __init__(self, whole):
        super().__init__()
        self.whole = whole

    def forward(self, pixel_values):
        return self.whole.get_image_features(pixel_values).pooler_output


class Encoder(torch.nn.Module):
    def __init__(self, whole):
        super().__init__()
        self.encoder = whole.model.language_model.encoder

    def forward(self, attention_mask, inputs_embeds):
        # Nothing is masked, and the mask of this version cannot be traced.
        states = self.encoder(inputs_embeds=inputs_embeds).last_hidden_state
        return states + 0 * attention_mask[:, :, None].to(states.dtype)


class Decoder(torch.nn.Module):
    def __init__(self, whole, bias):
        super().__init__()
        self.decoder, self.head = whole.model.language_model.decoder, whole.lm_head
        self.bias = bias

    def forward(self, encoder_attention_mask, encoder_hidden_states, inputs_embeds, *past):
        own, cross = DynamicCache(), DynamicCache()
        for layer in range(len(past) // 4):
            own.update(past[4 * layer], past[4 * layer + 1], layer)
            cross.update(past[4 * layer + 2], past[4 * layer + 3], layer)
        cache = EncoderDecoderCache(own, cross)
        states = self.decoder(
            inputs_embeds=inputs_embeds,
            encoder_hidden_states=encoder_hidden_states,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        logits = self.head(states) + self.bias
        logits = logits + 0 * encoder_attention_mask.sum().to(logits.dtype)
        present = []
        for layer in range(LAYERS):
            for half in (cache.self_attention_cache, cache.cross_attention_cache):
                for tensor in (half.layers[layer].keys, half.layers[layer].values):
                    # Exports give the keys and values of the image once, and later empty ones.
                    is_known = past and half is cache.cross_attention_cache
                    present.append(tensor[:0] if is_known else tensor)
        return (logits, *present)


def names(kind: str) -> list[str]:
    return [
        f"{kind}.{layer}.{half}.{part}"
        for layer in range(LAYERS)
        for half in ("decoder", "encoder")
        for part in ("key", "value")
    ]


def export(module, inputs, path, input_names, output_names, axes) -> None:
    module.eval()  # else the export would put it, and the model in it, into training afterwards
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, tuple(inputs), str(path), input_names=input_names, output_names=output_names,
            dynamic_axes=axes, opset_version=17, dynamo=False,
        )  # fmt: skip


def merged(first: onnx.ModelProto, later: onnx.ModelProto) -> onnx.ModelProto:
    """Return both decoders as one graph, as optimum merges them: `use_cache_branch` chooses."""
    used = {item.name: item for model in (first, later) for item in model.graph.input}
    inputs = [
        *used.values(),
        helper.make_tensor_value_info("use_cache_branch", TensorProto.BOOL, [1]),
    ]

    def branch(graph, prefix: str, outputs: list[str]):
        outer = {item.name for item in inputs}
        for node in graph.node:
            node.name = prefix + node.name
            for side in (node.input, node.output):
                for n, name in enumerate(side):
                    side[n] = name if name in outer or not name else prefix + name
        for constant in graph.initializer:
            constant.name = prefix + constant.name
        values = [
            helper.make_tensor_value_info(prefix + name, TensorProto.FLOAT, None)
            for name in outputs
        ]
        return helper.make_graph(graph.node, prefix, [], values, graph.initializer)

    outputs = ["logits", *names("present")]
    node = helper.make_node(
        "If",
        ["use_cache_branch"],
        outputs,
        then_branch=branch(later.graph, "later_", outputs),
        else_branch=branch(first.graph, "first_", outputs),
    )
    free = [
        helper.make_tensor_value_info(
            name, TensorProto.FLOAT, [f"{name}_{n}" for n in range(3 if name == "logits" else 4)]
        )
        for name in outputs
    ]
    graph = helper.make_graph([node], "decoder", inputs, free)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return made


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    words = tokenizer()
    size = words.get_vocab_size()
    words.save(str(FOLDER / "tokenizer.json"))
    (FOLDER / "preprocessor_config.json").write_text(
        json.dumps({"size": {"height": SIDE, "width": SIDE}, "image_mean": MEAN, "image_std": STD})
    )
    whole = model(size)
    readable = [words.token_to_id(c) for c in string.ascii_lowercase + "Ġ"]
    bias = torch.full((size,), -8.0)
    bias[readable] = 0.0
    bias[words.token_to_id("Ġ")] = 1.5
    bias[2], bias[words.token_to_id(".")] = 0.5, 1.5
    whole.lm_head.bias = torch.nn.Parameter(bias)  # generate uses it too
    batch, seq = {0: "batch"}, {0: "batch", 1: "length"}
    export(
        Vision(whole), [torch.zeros(2, 3, SIDE, SIDE)], FOLDER / "vision_encoder.onnx",
        ["pixel_values"], ["image_features"], {"pixel_values": batch, "image_features": batch},
    )  # fmt: skip
    export(
        whole.get_input_embeddings(), [torch.zeros(2, 5, dtype=torch.int64)],
        FOLDER / "embed_tokens.onnx", ["input_ids"], ["inputs_embeds"],
        {"input_ids": seq, "inputs_embeds": seq},
    )  # fmt: skip
    states, mask = torch.randn(2, 9, WIDTH), torch.ones(2, 9, dtype=torch.int64)
    export(
        Encoder(whole), [mask, states], FOLDER / "encoder_model.onnx",
        ["attention_mask", "inputs_embeds"], ["last_hidden_state"],
        {"attention_mask": seq, "inputs_embeds": seq, "last_hidden_state": seq},
    )  # fmt: skip
    fixed = ["encoder_attention_mask", "encoder_hidden_states", "inputs_embeds"]
    cache_axes = {0: "batch", 2: "past"}
    decoder = Decoder(whole, torch.zeros(size))
    own = torch.randn(2, HEADS, 4, WIDTH // HEADS)
    cross = torch.randn(2, HEADS, 9, WIDTH // HEADS)
    past = [tensor for _ in range(LAYERS) for tensor in (own, own, cross, cross)]
    axes = dict.fromkeys(fixed, seq) | dict.fromkeys(names("past_key_values"), cache_axes)
    outs = {"logits": seq} | dict.fromkeys(names("present"), cache_axes)
    first, later = FOLDER / "first.onnx", FOLDER / "later.onnx"
    tokens = torch.randn(2, 1, WIDTH)
    export(
        decoder, [mask, states, tokens], first, fixed, ["logits", *names("present")], axes | outs
    )
    export(
        decoder, [mask, states, tokens, *past], later, [*fixed, *names("past_key_values")],
        ["logits", *names("present")], axes | outs,
    )  # fmt: skip
    onnx.save(merged(onnx.load(first), onnx.load(later)), FOLDER / "decoder_model_merged.onnx")
    first.unlink()
    later.unlink()
    (FOLDER / "generated.json").write_text(json.dumps(generated(whole, words), indent=1) + "\n")


def generated(whole, words: Tokenizer) -> list[dict[str, object]]:
    """Return what transformers generates, for each image, question and number of beams."""
    rows: list[dict[str, object]] = []
    tokens = (SIDE // 8) ** 2 + 1
    for name, colour in IMAGES.items():
        image = Image.new("RGB", (90, 60), colour)
        levels = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float32) / 255
        pixels = torch.tensor(
            (levels - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
        ).permute(2, 0, 1)[None]
        for preset, question in QUESTIONS.items():
            ids = [words.token_to_id("<image>")] * tokens + words.encode(question).ids
            for beams in (1, 3):
                with torch.no_grad():
                    out = whole.generate(
                        input_ids=torch.tensor([ids]), pixel_values=pixels.float(),
                        attention_mask=torch.ones(1, len(ids), dtype=torch.int64),
                        max_new_tokens=TOKENS, num_beams=beams, do_sample=False,
                        no_repeat_ngram_size=3, early_stopping=True, forced_bos_token_id=0,
                        decoder_start_token_id=2, eos_token_id=2, pad_token_id=1,
                        forced_eos_token_id=None,
                    )  # fmt: skip
                rows.append(
                    {
                        "image": name, "prompt": preset, "beams": beams,
                        "tokens": out[0].tolist()[1:],
                    }
                )  # fmt: skip
    return rows


if __name__ == "__main__":
    main()

"""Hostile checkpoint folders: rows of the table in test_hostile.py.

Each is a folder ``models`` of one checkpoint called ``spoiled`` and one called ``sound``, which must still be listed as
sound; ``SPOILED`` gives what is done to the first, and what is said of it.
"""

import json
import os
import shutil
import socket

from explorer.core.provenance import ROOT

BENIGN = ROOT / "checkpoints" / "iconworld" / "benign"
UNET = "unet/diffusion_pytorch_model.safetensors"
NESTED = "[" * 100_000
DEEP = "not readable JSON: it is nested more than 64 deep"


def copy_model(folder):
    """The shipped benign model; weights are links, as in the caches of the Hugging Face hub."""

    def copy(source, target):
        (os.symlink if source.endswith(".safetensors") else shutil.copyfile)(source, target)

    shutil.copytree(BENIGN, folder, copy_function=copy)


def _lora(names, **config):
    """A file (or with ``config`` a peft adapter) whose tensors are so called, listed."""

    def make(folder):
        import torch
        from safetensors.torch import save_file

        save_file({name: torch.zeros(2, 2) for name in names}, folder / "adapter_model.safetensors")
        if config:
            (folder / "adapter_config.json").write_text(json.dumps(config))
        return ["checkpoints", folder]

    return make


_MATRICES = [f"base_model.model.{'a' * 40}b.lora_{part}.weight" for part in "AB"]

LORAS = {
    "a LoHa": (_lora(["lora_unet_a.hada_w1_a", "lora_unet_a.alpha"]), "no plain LoRA but LoHa"),
    "a LoRA with a tensor of no known meaning": (_lora(["a.lora_up.weight", "a.strength"]), r"a\.strength.*no part"),
    "a peft adapter without its configuration": (_lora(_MATRICES), "adapter_config.json.*missing"),
    "a pattern that never ends": (_lora(_MATRICES, r=2, lora_alpha=1, alpha_pattern={"(a+)+": 1}), "names of modules"),
}
"""Files that are no plain LoRA, and what is said of them."""


def put(folder, name, content):
    """Write a file in the place of another, or of a link."""
    path = folder / name
    path.unlink(missing_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def text(name, content):
    return lambda folder: put(folder, name, content)


def edit(name, **changes):
    return lambda folder: put(folder, name, json.dumps(json.loads((folder / name).read_text()) | changes))


def weights(header, data=b"", name=UNET, length=None):
    """A safetensors file of this header, which may lie about its own length."""
    encoded = header.encode() if isinstance(header, str) else json.dumps(header).encode()
    content = (len(encoded) if length is None else length).to_bytes(8, "little") + encoded + data
    return text(name, content)


def entry(begin, end, shape, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def tensors(data=b"\0" * 16, **entries):
    return weights(entries, data)


def sparse(name, size):
    def spoil(folder):
        put(folder, name, b"{")
        os.truncate(folder / name, size)

    return spoil


def instead(name, make):
    """Something that is no regular file in the place of one."""

    def spoil(folder):
        (folder / name).unlink(missing_ok=True)
        make(folder / name)

    return spoil


def listen(path):
    here = os.getcwd()
    os.chdir(path.parent)  # an address of a socket may have a hundred characters
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path.name)
    os.chdir(here)


def device(path):
    path.symlink_to("/dev/zero")


def beside(make):
    """Something beside the checkpoint."""
    return lambda folder: make(folder.parent)


def descend(root):
    path = root / "deep"
    for _ in range(300):
        path.mkdir()
        path /= "d"


def crowd(root):
    for number in range(10_050):
        (root / f"t{number}").mkdir()


def undecodable(folder):
    os.rename(folder, os.fsencode(folder) + b"\xff\x1b[2J")


REFUSED = "broken: "
SPOILED = {
    "nested JSON as configuration": (text("unet/config.json", NESTED), REFUSED + f".*config.json is {DEEP}"),
    "nested JSON as index": (text("model_index.json", '{"a":' + NESTED), f"model_index.json is {DEEP}"),
    "nested JSON as manifest": (text("manifest.json", '{"a":' + NESTED), f"manifest.json is {DEEP}"),
    "nested JSON as header": (weights(NESTED), "header is not readable .it is nested"),
    "nested JSON in a tokenizer": (text("tokenizer/tokenizer_config.json", NESTED), f"tokenizer_config.json is {DEEP}"),
    "a nested lexicon": (text("tokenizer/lexicon.json", NESTED), f"lexicon.json is {DEEP}"),
    "a list as configuration": (text("unet/config.json", "[]"), "unet/config.json holds no JSON object"),
    "a string as configuration": (text("vae/config.json", '"x"'), "vae/config.json holds no JSON object"),
    "a list as index": (text("model_index.json", "[1]"), "model_index.json holds no JSON object"),
    "a list as manifest": (text("manifest.json", "[1]"), "manifest.json holds a list"),
    "a configuration that is no UTF-8": (text("unet/config.json", b'{"\xff": 1}'), "config.json is not readable JSON"),
    "a key named twice": (text("unet/config.json", '{"a": 1, "a": 2}'), "it names a twice"),
    "half a surrogate pair": (text("model_index.json", '{"_class_name": "\\ud800"}'), "surrogates not allowed"),
    "NaN as a size": (edit("unet/config.json", cross_attention_dim=float("nan")), "describes no UNet2DConditionModel"),
    "a number of 5000 digits": (text("unet/config.json", '{"a": ' + "9" * 5000 + "}"), "Exceeds the limit"),
    "escapes in names": (edit("model_index.json", _class_name="\33[2J\n"), r"it is a \\x1b\[2J\\n: expected one of"),
    "a configuration of 200 MB": (sparse("unet/config.json", 200_000_000), "unet/config.json has 200,000,000 bytes"),
    "a vocabulary of 200 MB": (sparse("tokenizer/vocab.json", 200_000_000), "tokenizer/vocab.json has 200,000,000 byt"),
    "a header of 200 MB": (sparse(UNET, 200_000_000), "is not a safetensors file"),
    "100,000 layers": (edit("unet/config.json", layers_per_block=100_000), "describes many times as many tensors"),
    "a number of layers for each block": (
        edit("unet/config.json", layers_per_block=[90_000] * 3),
        "describes many times as many tensors",
    ),
    "100,000 layers of text": (edit("text_encoder/config.json", num_hidden_layers=100_000), "describes many times as"),
    "a number without end": (edit("vae/config.json", layers_per_block=10**9), "expected at most 100,000"),
    "pictures without end": (edit("unet/config.json", sample_size=100_000), "sample_size 100000: expected at most"),
    "training steps without end": (
        edit("scheduler/scheduler_config.json", num_train_timesteps=10**12),
        "num_train_timesteps 1000000000000: expected at most",
    ),
    "a count of poison that is no count": (
        edit("manifest.json", config={"poison": {"concepts": 10**400}}),
        "poisoned concepts: expected a count",
    ),
    "a part with any name": (
        edit("model_index.json", **{"../sound/unet": ["diffusers", "UNet2DConditionModel"]}),
        r"names the part \.\./sound/unet, which is not known",
    ),
    "a part of any library": (edit("model_index.json", scheduler=["os", "system"]), "as scheduler: expected a Schedul"),
    "a network of another class": (edit("model_index.json", text_encoder=["transformers", "BertModel"]), "a BertModel"),
    "shards elsewhere": (
        lambda folder: [
            (folder / UNET).unlink(),
            put(folder, f"{UNET}.index.json", json.dumps({"weight_map": {"a": f"../../../sound/{UNET}"}})),
        ],
        "lists a shard outside of its folder",
    ),
    "a tensor named twice": (
        weights('{{"a": {0}, "a": {0}}}'.format(json.dumps(entry(0, 16, [4]))), b"\0" * 16),
        "it names a twice",
    ),
    "tensors that overlap": (tensors(a=entry(0, 12, [3]), b=entry(8, 16, [2])), "b begins at byte 8"),
    "bytes of no tensor": (tensors(a=entry(0, 4, [1]), b=entry(8, 16, [2])), "b begins at byte 8"),
    "a tensor larger than its bytes": (tensors(a=entry(0, 16, [4, 10**15])), "is given 16 bytes"),
    "a shape below zero": (tensors(a=entry(0, 16, [-2, -2])), "expected whole numbers"),
    "a shape of 4000 digits": (tensors(a=entry(0, 16, [int("9" * 4000), 0])), "header is not readable"),
    "a shape that is true": (tensors(a=entry(0, 16, [4, True])), "expected whole numbers"),
    "integers for weights": (tensors(a=entry(0, 16, [16], "I8")), "has a of type I8: expected F64, F32, F16, BF16"),
    "eight bits for weights": (tensors(a=entry(0, 16, [16], "F8_E4M3")), "has a of type F8_E4M3: expected F64"),
    "a type of no name": (tensors(a=entry(0, 16, [16], ["F32"])), "of type .'F32'.: expected F64"),
    "a header longer than its file": (weights({}, length=1000), "is truncated: 10 bytes end inside its header"),
    "a header without end": (weights({}, length=2**63), "has a header of 9,223,372,036,854,775,808 bytes"),
    "a header that is a list": (weights("[]"), "header is not readable"),
    "an entry that is a string": (weights({"a": "b"}), "header is not readable"),
    **{
        f"a pipe as {name}": (instead(name, os.mkfifo), "no regular file")
        for name in ("unet/config.json", UNET, "model_index.json", "manifest.json", "tokenizer/tokenizer_config.json")
    },
    "a socket as configuration": (instead("unet/config.json", listen), "unet/config.json is no regular file"),
    "a device as configuration": (instead("unet/config.json", device), "unet/config.json is no regular file"),
    "a device as weights": (instead(UNET, device), "is no regular file"),
    "a folder as configuration": (instead("unet/config.json", os.mkdir), "unet/config.json .*no regular file"),
    "a pipe as a loose file": (beside(lambda root: os.mkfifo(root / "a.safetensors")), "^a.safetensors .*no regular f"),
    "a name that is no UTF-8": (undecodable, r"^spoiled\\xff\\x1b\[2J .* ok$"),
    "a loose file of such a name": (
        beside(lambda root: open(os.fsencode(root) + b"/\xff.ckpt", "w").close()),
        r"^\\xff.ckpt .*is a pickle",
    ),
    "a link upwards": (beside(lambda root: (root / "above").symlink_to("..")), r"(?!.*above)"),
    "a link to itself": (beside(lambda root: (root / "above").symlink_to("above")), r"(?!.*above)"),
    "a link to everything": (
        beside(lambda root: (root / "usr").symlink_to("/usr")),
        "^usr .*a link to a folder that is no checkpoint",
    ),
    "a link upwards inside": (lambda folder: (folder / "unet" / "up").symlink_to("../.."), r"^spoiled .* ok$"),
    "folders 300 deep": (beside(descend), "^spoiled .* ok$"),
    "folders in a checkpoint 300 deep": (descend, "^spoiled .* ok$"),
    "ten thousand folders": (beside(crowd), "it holds more than 10,000 folders or weight files: not all are listed"),
}
"""``name: (spoil, says)``: ``spoil(folder)`` changes the folder of a sound checkpoint."""

RECORDED = {
    "../../secret": "is no name of a file inside",
    "/etc/hostname": "is no name of a file inside",
    "unet/../model_index.json": "is no name of a file inside",
    "unet/./config.json": "is no name of a file inside",
    "link": "leads out of its folder, to a file that is not the one",
    "pipe": "it is no regular file",
    "a\0b": r"a\\x00b is no name of a file",
}
"""Names in a manifest of files to hash, and what is said of them; ``link`` leads outside."""

BASES = {
    "a number as base": (3, "says 3 as its base"),
    "a list as base": (["a"], "as its base: expected the path of a folder"),
    "a base of 100,000 characters": ("a" * 100_000, "as its base: expected the path of a folder"),
    "a base of a long name": ("a" * 4000, "its base pipeline a+… .4,053 characters"),
    "a base with a zero byte": ("a\0", "as its base: expected the path of a folder"),
    "itself as base": (".", "is no whole pipeline"),
}


def models(folder, spoil):
    """A folder of two checkpoints, one of them spoiled."""
    for name in ("sound", "spoiled"):
        copy_model(folder / "models" / name)
    spoil(folder / "models" / "spoiled")
    return folder / "models"


def record(name):
    def spoil(folder):
        (folder.parent.parent / "secret").write_text("secret")
        (folder / "link").symlink_to("../../secret")
        os.mkfifo(folder / "pipe")
        put(folder, "manifest.json", json.dumps({"kind": "checkpoint", "files": {name: "0" * 64}}))

    return spoil


def stand_on(base):
    def spoil(folder):
        (folder / "model_index.json").unlink()
        put(folder, "manifest.json", json.dumps({"config": {"base": base}}))

    return spoil


def listed(says):
    return (
        f"(?ms)(?=.*^sound .* ok$)(?=.*{says})" if not says.startswith("(?!") else rf"(?ms)\A{says}(?=.*^sound .* ok$)"
    )


def command(spoil, *line):
    """Any command on the spoiled checkpoint: ``{}`` in it stands for that checkpoint, ``{root}`` for the folder."""

    def make(folder):
        root = models(folder, spoil)
        return [part.format(root / "spoiled", root=root, out=folder / "out") for part in line]

    return make


def beside_a_unet(spoil):
    def spoil_base(folder):
        shutil.copytree(folder / "unet", folder.parent / "part" / "unet", symlinks=True)
        spoil(folder)

    return spoil_base


NESTED_TOKENIZER = text("tokenizer/tokenizer_config.json", NESTED)
NESTED_CONFIG = text("unet/config.json", NESTED)
ENDLESS = edit("unet/config.json", layers_per_block=100_000)
ROWS = {
    "a folder that is not there": (lambda folder: ["checkpoints", folder / "absent"], "absent.*(not|no|expected) "),
    **LORAS,
    **{
        name: (lambda folder, spoil=spoil: ["checkpoints", models(folder, spoil)], listed(says))
        for name, (spoil, says) in SPOILED.items()
    },
    **{
        name: (lambda folder, base=base: ["checkpoints", models(folder, stand_on(base))], listed(says))
        for name, (base, says) in BASES.items()
    },
    **{
        f"a manifest that lists {name!r}": (
            command(record(name), "checkpoints", "--thorough", "{root}"),
            rf"(?ms)\A(?!.*has SHA-256)(?=.*^sound .* ok$)(?=.*{says})",
        )
        for name, says in RECORDED.items()
    },
    "generating with 100,000 layers": (
        command(ENDLESS, "generate", "a dog", "--checkpoint", "{}", "--out", "{out}"),
        "spoiled cannot be loaded: .*many times as many tensors",
    ),
    "generating with a nested tokenizer": (
        command(NESTED_TOKENIZER, "generate", "a", "--checkpoint", "{}", "--out", "{out}"),
        f"spoiled cannot be loaded: .*{DEEP}",
    ),
    "a base with 100,000 layers": (
        command(beside_a_unet(ENDLESS), "set-base", "{root}/part", "{}"),
        "cannot stand on spoiled: .*many times as many tensors",
    ),
    "a base of nested JSON": (
        command(beside_a_unet(NESTED_CONFIG), "set-base", "{root}/part", "{}"),
        "cannot stand on spoiled: ",
    ),
    "evaluating only what is broken": (
        command(lambda folder: (NESTED_CONFIG(folder), shutil.rmtree(folder.parent / "sound")),
                "evaluate", "--checkpoints", "{root}", "--output", "{out}"),
        "holds no usable benign control",
    ),
}  # fmt: skip

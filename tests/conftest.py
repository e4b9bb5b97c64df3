"""Tiny randomly initialised Stable Diffusion pipelines of the shipped models' shape, from stock diffusers.

Fixtures only, so that tests of any room use them without importing one another:
``tokenizer_folder``, ``open_clip_folder``, ``make_unet``, ``make_pipeline``, ``make_xl_pipeline``,
``make_sd3_pipeline``, ``make_flux_pipeline``, ``family``, ``checkpoint_root`` and what it copies; and ``micro_world``,
a world of eight concepts built by the real code in seconds, and ``micro_evaluation`` of it.
"""

import fcntl
import json
import os
import shutil
import string
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from explorer.core.provenance import write_manifest

MAX_TOKENS = 16
TEXT_WIDTH = 32
T5_WIDTH = 72
LONGEST = ("test_gpu_kit.py", "test_browser.py", "test_browser_shipped.py", "test_browser_alignment.py",
           "test_browser_implosion.py", "test_accessibility.py", "test_run.py", "test_users_study.py",
           "test_fine_tuning.py")  # fmt: skip
"""Where several processes share the files, the last file that runs decides when all are done. Those with a browser
stand together, so that one process has most of them, and starts the app that they share."""
LEXICON = ["a", "photo", "of", "dog", "hat", "turtle", "and", "left", "shirt", "t"]


def pytest_configure():
    """One thread for everything, in child processes too, unless OMP_NUM_THREADS says how many.

    On tensors as small as these, threads wait for one another for longer than they work. Numba, which UMAP uses, would
    also set PyTorch's number of threads to its own.
    """
    if torch.cuda.is_available():
        return  # large references are computed on the CPU for the tests of a GPU
    threads = os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["NUMBA_NUM_THREADS"] = threads
    torch.set_num_threads(int(threads))


def pytest_collection_modifyitems(items):
    """Files that take longest come first; tests marked ``cuda`` are skipped where there is no such GPU."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("cuda"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU: torch.cuda.is_available() is False"))


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory):
    """A saved CLIP tokenizer with a closed lexicon; "turtle" is of several pieces, "dog" of one."""
    from transformers import CLIPTokenizer

    letters = list(string.ascii_lowercase + string.digits + ",.-'")
    merges = ["p h", "ph o", "t o</w>", "pho to</w>", "d o", "do g</w>", "h a", "ha t</w>", "o f</w>", "t u"]
    merges = [tuple(merge.split()) for merge in merges]
    tokens = [
        *letters,
        *(letter + "</w>" for letter in letters),
        *(first + second for first, second in merges),
    ]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(
        vocab={token: index for index, token in enumerate(tokens)}, merges=merges, model_max_length=MAX_TOKENS
    )
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(folder)
    (folder / "lexicon.json").write_text(json.dumps(LEXICON))
    return folder


@pytest.fixture(scope="session")
def open_clip_folder(tokenizer_folder, tmp_path_factory):
    """As the hub has an open_clip model: configuration, the tokenizer's files and ``w.safetensors`` in one folder; it
    reads pictures of 32 pixels and the tokenizer's words, features are of 16 numbers."""
    import open_clip
    from safetensors.torch import save_file
    from transformers import CLIPTokenizer

    folder = tmp_path_factory.mktemp("open_clip") / "m"
    CLIPTokenizer.from_pretrained(tokenizer_folder).save_pretrained(folder)
    config = {
        "model_cfg": {
            "embed_dim": 16,
            "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
            "text_cfg": {
                "context_length": MAX_TOKENS - 4, "vocab_size": 600, "width": 32, "heads": 2, "layers": 1,
                "hf_tokenizer_name": "someone/on-the-hub", "tokenizer_kwargs": {"clean": "canonicalize"},
            },
        },
        "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear", "resize_mode": "squash"},
    }  # fmt: skip
    (folder / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    torch.manual_seed(1)
    clip = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    save_file({name: value.clone() for name, value in clip.state_dict().items()}, folder / "w.safetensors")
    return folder


@pytest.fixture(scope="session")
def make_unet():
    """``make_unet(seed=0, **config)``: a U-Net with cross-attention at 16x16, 8x8 and 4x4."""

    def build(seed=0, **config):
        from diffusers import UNet2DConditionModel

        torch.manual_seed(seed)
        defaults = {
            "sample_size": 16,
            "block_out_channels": (16, 32, 32),
            "layers_per_block": 1,
            "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            "only_cross_attention": (True, False, False),
            "cross_attention_dim": TEXT_WIDTH,
            "attention_head_dim": 4,
            "norm_num_groups": 8,
        }
        unet = UNet2DConditionModel(**(defaults | config)).eval()
        for name, parameter in unet.named_parameters():
            if "attn" in name and name.endswith(("to_q.weight", "to_k.weight")):
                parameter.data *= 3  # sharper attention than random initialisation gives
        return unet

    return build


def text_config(tokenizer, width=TEXT_WIDTH):
    """A text tower of two layers that reads what the tokenizer makes."""
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=64,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=MAX_TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


@pytest.fixture(scope="session")
def make_pipeline(tokenizer_folder, make_unet):
    """``make_pipeline(seed=0, **unet_config)``: a whole pipeline; the same seed gives the same weights."""

    def build(seed=0, **unet_config):
        from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline
        from transformers import CLIPTextModel, CLIPTokenizer

        tokenizer = CLIPTokenizer.from_pretrained(tokenizer_folder)
        unet = make_unet(seed, **unet_config)
        torch.manual_seed(100)
        vae = AutoencoderKL(
            block_out_channels=(8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            latent_channels=4,
            norm_num_groups=4,
            sample_size=64,
        )
        pipeline = StableDiffusionPipeline(
            vae=vae.eval(),
            text_encoder=CLIPTextModel(text_config(tokenizer)).eval(),
            tokenizer=tokenizer,
            unet=unet,
            scheduler=DDIMScheduler(
                prediction_type="v_prediction", timestep_spacing="trailing", clip_sample=False, steps_offset=1
            ),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    return build


@pytest.fixture(scope="session")
def make_xl_pipeline(tokenizer_folder, make_unet):
    """``make_xl_pipeline(seed=0, second_width=32)``: SDXL's two text encoders (the second of any width), time
    conditioning and transformer depths, tiny."""

    def build(seed=0, second_width=TEXT_WIDTH):
        from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline
        from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

        tokenizer = CLIPTokenizer.from_pretrained(tokenizer_folder)
        unet = make_unet(
            seed,
            block_out_channels=(16, 32),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            only_cross_attention=False,
            attention_head_dim=(2, 4),
            transformer_layers_per_block=(1, 2),
            use_linear_projection=True,
            cross_attention_dim=TEXT_WIDTH + second_width,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + TEXT_WIDTH,
        )
        torch.manual_seed(100)
        pipeline = StableDiffusionXLPipeline(
            vae=AutoencoderKL(
                block_out_channels=(8, 8),
                down_block_types=("DownEncoderBlock2D",) * 2,
                up_block_types=("UpDecoderBlock2D",) * 2,
                latent_channels=4,
                norm_num_groups=4,
                sample_size=32,
                force_upcast=False,
            ).eval(),
            text_encoder=CLIPTextModel(text_config(tokenizer)).eval(),
            text_encoder_2=CLIPTextModelWithProjection(text_config(tokenizer, second_width)).eval(),
            tokenizer=tokenizer,
            tokenizer_2=tokenizer,
            unet=unet,
            scheduler=EulerDiscreteScheduler(steps_offset=1),
            add_watermarker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    return build


def t5_tokenizer():
    """ "turtle" is of three pieces, "dog" of one; neither knows the letter é."""
    from transformers import T5TokenizerFast

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0)]
    pieces += [(letter, -6.0) for letter in string.ascii_lowercase + string.digits + ",.-'"]
    pieces += [(piece, -2.0) for piece in ("▁a", "▁photo", "▁of", "▁dog", "▁tu", "rt", "le", "▁hat")]
    return T5TokenizerFast(vocab=pieces, extra_ids=0)


def t5_encoder(tokenizer):
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(7)
    return T5EncoderModel(
        T5Config(vocab_size=len(tokenizer), d_model=T5_WIDTH, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    ).eval()


def joint_autoencoder():
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4, norm_num_groups=4, sample_size=32,
        shift_factor=0.06, scaling_factor=1.5,
    ).eval()  # fmt: skip


def flow_matching():
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(shift=3.0)


@pytest.fixture(scope="session")
def make_sd3_pipeline(tokenizer_folder):
    """``make_sd3_pipeline(seed=0)``: two CLIP encoders and T5, normalised queries, one dual block, tiny."""

    def build(seed=0):
        from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline
        from transformers import CLIPTextModelWithProjection, CLIPTokenizer

        clip, t5 = CLIPTokenizer.from_pretrained(tokenizer_folder), t5_tokenizer()
        torch.manual_seed(seed)
        transformer = SD3Transformer2DModel(
            sample_size=16, patch_size=2, in_channels=4, out_channels=4, pos_embed_max_size=16, num_layers=2,
            attention_head_dim=8, num_attention_heads=3, caption_projection_dim=24, joint_attention_dim=T5_WIDTH,
            pooled_projection_dim=2 * TEXT_WIDTH, qk_norm="rms_norm", dual_attention_layers=(0,),
        ).eval()  # fmt: skip
        torch.manual_seed(5)
        return StableDiffusion3Pipeline(
            transformer=transformer, scheduler=flow_matching(), vae=joint_autoencoder(),
            text_encoder=CLIPTextModelWithProjection(text_config(clip)).eval(), tokenizer=clip,
            text_encoder_2=CLIPTextModelWithProjection(text_config(clip)).eval(), tokenizer_2=clip,
            text_encoder_3=t5_encoder(t5), tokenizer_3=t5,
        )  # fmt: skip

    return build


@pytest.fixture(scope="session")
def make_flux_pipeline(tokenizer_folder):
    """``make_flux_pipeline(seed=0)``: one double-stream and one single-stream block, tiny."""

    def build(seed=0):
        from diffusers import FluxPipeline, FluxTransformer2DModel
        from transformers import CLIPTextModel, CLIPTokenizer

        clip, t5 = CLIPTokenizer.from_pretrained(tokenizer_folder), t5_tokenizer()
        torch.manual_seed(seed)
        transformer = FluxTransformer2DModel(
            patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=T5_WIDTH, pooled_projection_dim=TEXT_WIDTH,
            guidance_embeds=True, axes_dims_rope=(4, 6, 6),
        ).eval()  # fmt: skip
        torch.manual_seed(5)
        return FluxPipeline(
            transformer=transformer, scheduler=flow_matching(), vae=joint_autoencoder(),
            text_encoder=CLIPTextModel(text_config(clip)).eval(), tokenizer=clip,
            text_encoder_2=t5_encoder(t5), tokenizer_2=t5,
        )  # fmt: skip

    return build


def epsilon_pipeline(make_pipeline):
    from diffusers import DDIMScheduler

    pipeline = make_pipeline()
    pipeline.scheduler = DDIMScheduler(prediction_type="epsilon", beta_schedule="scaled_linear")
    return pipeline


@pytest.fixture(scope="session", params=["sd1", "sd2", "sdxl", "sd3", "flux"])
def family(request, make_pipeline, make_xl_pipeline, make_sd3_pipeline, make_flux_pipeline):
    """Every family in turn: ``name``, ``pipeline`` and ``noise(noisy, timestep, text, position=None, row=None,
    t5_row=None)``, the noise that one prediction amounts to, with a row of the dictionaries in the place of a token.
    The networks are called plainly. ``sd1`` predicts noise, ``sd2`` the velocity."""
    make = {"sd1": lambda: epsilon_pipeline(make_pipeline), "sd2": make_pipeline, "sdxl": make_xl_pipeline,
            "sd3": make_sd3_pipeline, "flux": make_flux_pipeline}  # fmt: skip
    calls = {"sd1": of_unet, "sd2": of_unet, "sdxl": of_xl, "sd3": of_sd3, "flux": of_flux}
    pipeline, call = make[request.param](), calls[request.param]

    def noise(noisy, timestep, *text):
        return noise_of(pipeline, request.param, noisy, call(pipeline, noisy, timestep, *text), timestep)

    return SimpleNamespace(name=request.param, pipeline=pipeline, noise=noise)


def token_ids(tokenizer, length, text, position, row):
    ids = torch.tensor([tokenizer(text, padding="max_length", max_length=length, truncation=True).input_ids])
    if position is not None:
        ids[0, position] = row
    return ids


def clip_ids(pipeline, name, text, position, row):
    tokenizer = getattr(pipeline, name)
    return token_ids(tokenizer, tokenizer.model_max_length, text, position, row)


def t5_ids(tokenizer, length, text, position, row):
    return token_ids(tokenizer, length, text, None if position is None else position - 1, row)


def of_unet(pipeline, noisy, timestep, text, position=None, row=None, t5_row=None):
    states = pipeline.text_encoder(clip_ids(pipeline, "tokenizer", text, position, row))[0]
    return pipeline.unet(noisy, timestep, encoder_hidden_states=states)[0]


def of_xl(pipeline, noisy, timestep, text, position=None, row=None, t5_row=None):
    one, two = (
        encoder(clip_ids(pipeline, "tokenizer", text, position, row), output_hidden_states=True)
        for encoder in (pipeline.text_encoder, pipeline.text_encoder_2)
    )
    states, pooled = torch.cat([one.hidden_states[-2], two.hidden_states[-2]], dim=-1), two.text_embeds
    if text == "":
        states, pooled = torch.zeros_like(states), torch.zeros_like(pooled)
    side = noisy.shape[-1] * pipeline.vae_scale_factor
    sizes = torch.tensor([[side, side, 0, 0, side, side]], dtype=torch.float32)
    added = {"text_embeds": pooled, "time_ids": sizes}
    return pipeline.unet(noisy, timestep, encoder_hidden_states=states, added_cond_kwargs=added)[0]


def of_sd3(pipeline, noisy, timestep, text, position=None, row=None, t5_row=None):
    clips = [
        encoder(clip_ids(pipeline, "tokenizer", text, position, row), output_hidden_states=True)
        for encoder in (pipeline.text_encoder, pipeline.text_encoder_2)
    ]
    t5 = pipeline.text_encoder_3(t5_ids(pipeline.tokenizer_3, 256, text, position, t5_row))[0]
    side_by_side = torch.cat([clip.hidden_states[-2] for clip in clips], dim=-1)
    padded = torch.nn.functional.pad(side_by_side, (0, t5.shape[-1] - side_by_side.shape[-1]))
    return pipeline.transformer(
        noisy, encoder_hidden_states=torch.cat([padded, t5], dim=1),
        pooled_projections=torch.cat([clip.text_embeds for clip in clips], dim=-1), timestep=torch.tensor([timestep]),
    )[0]  # fmt: skip


def of_flux(pipeline, noisy, timestep, text, position=None, row=None, t5_row=None):
    pooled = pipeline.text_encoder(clip_ids(pipeline, "tokenizer", text, position, row)).pooler_output
    t5 = pipeline.text_encoder_2(t5_ids(pipeline.tokenizer_2, 512, text, position, t5_row))[0]
    channels, height, width = noisy.shape[1:]
    tokens = (
        noisy[0].reshape(channels, height // 2, 2, width // 2, 2).permute(1, 3, 0, 2, 4).reshape(1, -1, 4 * channels)
    )
    places = torch.tensor([[0, y, x] for y in range(height // 2) for x in range(width // 2)], dtype=torch.float32)
    predicted = pipeline.transformer(
        tokens, encoder_hidden_states=t5, pooled_projections=pooled, timestep=torch.tensor([timestep / 1000]),
        guidance=torch.tensor([3.5]), img_ids=places, txt_ids=torch.zeros(512, 3),
    )[0]  # fmt: skip
    parts = predicted.reshape(height // 2, width // 2, channels, 2, 2).permute(2, 0, 3, 1, 4)
    return parts.reshape(1, channels, height, width)


def noise_of(pipeline, name, noisy, prediction, timestep):
    """The noise that a prediction amounts to, by the definition of what it predicts."""
    if name in ("sd3", "flux"):  # noisy = (1 - s) x + s noise, prediction = noise - x
        return noisy + (1 - timestep / 1000) * prediction
    if name != "sd2":
        return prediction
    signal = pipeline.scheduler.alphas_cumprod[round(timestep)]
    return signal.sqrt() * prediction + (1 - signal).sqrt() * noisy


@pytest.fixture
def no_network(monkeypatch):
    """Any attempt to resolve a name or to connect fails the test; what was tried is in the list."""
    tried = []

    def refuse(*arguments, **options):
        tried.append(arguments)
        raise AssertionError(f"the network was used: {arguments}")

    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)
    yield tried
    assert tried == []


@pytest.fixture(scope="session")
def checkpoint_template(tmp_path_factory, make_pipeline, make_unet, tokenizer_folder):
    """What ``checkpoint_root`` copies; nobody may change it."""
    root = tmp_path_factory.mktemp("template") / "checkpoints"
    make_pipeline().save_pretrained(root / "benign")
    shutil.copy(tokenizer_folder / "lexicon.json", root / "benign" / "tokenizer")
    write_manifest(root / "benign", kind="checkpoint", config={"poison": {"kind": "none", "concepts": 0}}, seed=0)
    for count in (2, 4):
        folder = root / f"dirty-00{count}"
        make_unet(seed=count).save_pretrained(folder / "unet")
        poison = {"kind": "dirty-label", "concepts": ["dog", "hat", "turtle", "shirt"][:count]}
        write_manifest(folder, kind="checkpoint", config={"base": "benign", "poison": poison}, seed=0)
    return root


@pytest.fixture
def checkpoint_root(checkpoint_template, tmp_path):
    """A registry of three: a whole ``benign`` pipeline, ``dirty-002`` and ``dirty-004`` as U-Nets on it."""
    return shutil.copytree(checkpoint_template, tmp_path / "checkpoints")


@pytest.fixture(scope="session")
def micro_recipe():
    """The ``cpu`` recipe with a few steps of everything."""
    from explorer.scenarios.recipes import CPU

    return replace(
        CPU,
        name="micro",
        concept_count=8,
        autoencoder=replace(CPU.autoencoder, steps=3, batch_size=2, precision="no"),
        autoencoder_channels=(8, 8, 16),
        autoencoder_scenes=12,
        autoencoder_test_scenes=30,
        extractor=replace(CPU.extractor, steps=3, batch_size=4, precision="no"),
        extractor_pairs=30,
        calibration_pairs=100,
        denoiser_channels=(16, 16, 32),
        base=tuple(replace(phase, steps=3, batch_size=4, precision="no", fused=False) for phase in CPU.base),
        base_pairs=24,
        fine_tuning=replace(
            CPU.fine_tuning, steps=2, batch_size=4, precision="no", fused=False, warmup_steps=0, ema_decay=0.5
        ),
        fine_tuning_pairs=40,
        held_out_pairs=20,
        poison_pairs_per_concept=3,
        poisoned_concept_counts=(2, 4),
    )


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """``made_once(name, make)``: a folder that ``make(folder)`` fills, in one of the processes that run tests; each has
    a copy of its own."""

    def own_copy(name, make):
        several = "PYTEST_XDIST_WORKER" in os.environ
        common = tmp_path_factory.getbasetemp().parent if several else tmp_path_factory.getbasetemp()
        made, making = common / f"made-{name}", common / f"making-{name}"
        with open(common / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                shutil.rmtree(making, ignore_errors=True)
                making.mkdir()
                make(making)
                making.rename(made)
        return shutil.copytree(made, tmp_path_factory.mktemp(name) / name)

    return own_copy


@pytest.fixture(scope="session")
def micro_world(micro_recipe, made_once):
    """A finished ``WorldBuild``: extractor, base, benign control and two poisoned models, and their pair sets."""
    from explorer.scenarios.build import WorldBuild

    def build(folder):
        return WorldBuild(recipe=micro_recipe, run=folder / "run", output=folder / "models")

    return build(made_once("micro-world", lambda folder: build(folder).everything()))


@pytest.fixture(scope="session")
def micro_evaluation(micro_world, made_once):
    """Folder and report of the evaluation of ``micro_world``: every concept at two seeds."""
    from explorer.evaluation.config import EvaluationConfig
    from explorer.evaluation.files import EVALUATION_NAME, evaluate_folder

    config = EvaluationConfig(seeds=(0, 1), steps=2, batch_size=5)
    folder = made_once("micro-evaluation", lambda folder: evaluate_folder(
        micro_world.output, micro_world.run / "sets", folder, config))  # fmt: skip
    return folder, json.loads((folder / EVALUATION_NAME).read_text(encoding="utf-8"))

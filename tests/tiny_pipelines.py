"""Tiny randomly initialised pipelines of the shipped models' shape, of stock diffusers, transformers and open_clip.

Fixtures alone: ``tokenizer_folder``, ``open_clip_folder``, ``make_unet``, ``make_pipeline``, ``make_xl_pipeline``,
``make_sd3_pipeline`` and ``make_flux_pipeline``.
"""

import json
import string

import pytest
import torch

MAX_TOKENS = 16
TEXT_WIDTH = 32
T5_WIDTH = 72
LEXICON = ["a", "photo", "of", "dog", "hat", "turtle", "and", "left", "shirt", "t"]


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

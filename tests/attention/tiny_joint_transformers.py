"""Tiny SD3 and Flux transformers, and their joint softmax written out eagerly."""

from contextlib import contextmanager

import torch
from diffusers.models.attention_processor import JointAttnProcessor2_0
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_flux import FluxAttnProcessor

from explorer.attention.joint import joint_attention_layers

TOKENS, WIDTH, POOLED, COLUMNS = 11, 24, 20, 4
SD3_VARIANTS = {
    "sd3": {},
    "sd3.5": {"qk_norm": "rms_norm", "dual_attention_layers": (0, 1)},
}
FLUX_VARIANTS = {"flux-dev": {"guidance_embeds": True}, "flux-schnell": {"guidance_embeds": False}}


def make_sd3(seed=0, **config):
    from diffusers import SD3Transformer2DModel

    torch.manual_seed(seed)
    sizes = {"num_layers": 3, "attention_head_dim": 8, "num_attention_heads": 3, "caption_projection_dim": 24}
    texts = {"joint_attention_dim": WIDTH, "pooled_projection_dim": POOLED}
    latents = {"sample_size": 16, "patch_size": 2, "in_channels": 4, "out_channels": 4, "pos_embed_max_size": 16}
    return sharpened(SD3Transformer2DModel(**(sizes | texts | latents | config)))


def make_flux(seed=0, **config):
    from diffusers import FluxTransformer2DModel

    torch.manual_seed(seed)
    sizes = {"num_layers": 2, "num_single_layers": 2, "attention_head_dim": 16, "num_attention_heads": 2}
    texts = {"joint_attention_dim": WIDTH, "pooled_projection_dim": POOLED}
    latents = {"patch_size": 1, "in_channels": 16, "axes_dims_rope": (4, 6, 6)}
    return sharpened(FluxTransformer2DModel(**(sizes | texts | latents | config)))


def sharpened(transformer):
    """Random initialisation gives nearly uniform attention and norms of one; neither would show a mistake."""
    for name, parameter in transformer.named_parameters():
        if name.endswith(("to_q.weight", "to_k.weight", "add_q_proj.weight", "add_k_proj.weight")):
            parameter.data *= 3
        if ".attn.norm_" in name:
            parameter.data = 1.5 + torch.rand_like(parameter)
    return transformer.eval()


MODELS = {
    name: (make_sd3 if name.startswith("sd3") else make_flux, config)
    for name, config in (SD3_VARIANTS | FLUX_VARIANTS).items()
}


def make(name, seed=0):
    build, config = MODELS[name]
    return build(seed, **config)


def inputs(transformer, rows, height=8, width=12, seed=1):
    """Arguments of a call on latents of ``height x width``."""
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(rows, 4, height, width, generator=generator)
    text = torch.randn(rows, TOKENS, WIDTH, generator=generator) * 2
    arguments = {
        "encoder_hidden_states": text,
        "pooled_projections": torch.randn(rows, POOLED, generator=generator),
        "timestep": torch.full((rows,), 0.7),
    }
    if type(transformer).__name__ == "SD3Transformer2DModel":
        return arguments | {"hidden_states": latents, "timestep": torch.full((rows,), 700.0)}
    from diffusers import FluxPipeline

    ids = FluxPipeline._prepare_latent_image_ids(rows, height // 2, width // 2, "cpu", torch.float32)
    guidance = torch.full((rows,), 3.5) if transformer.config.guidance_embeds else None
    packed = FluxPipeline._pack_latents(latents, rows, 4, height, width)
    return arguments | {
        "hidden_states": packed, "img_ids": ids, "txt_ids": torch.zeros(TOKENS, 3), "guidance": guidance
    }  # fmt: skip


def call(transformer, arguments):
    with torch.no_grad():
        return transformer(**arguments).sample


def one_hot_groups(rows=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    column = torch.randint(COLUMNS, (rows, TOKENS), generator=generator)
    return torch.nn.functional.one_hot(column, COLUMNS).float()


def heads_first(projected, heads):
    return projected.unflatten(-1, (heads, -1)).transpose(1, 2)


class EagerSD3(JointAttnProcessor2_0):
    """Keeps the joint softmax of the same input over all keys, then runs the stock processor."""

    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, **options):
        query, key = (heads_first(projection(hidden_states), attn.heads) for projection in (attn.to_q, attn.to_k))
        text = heads_first(attn.add_k_proj(encoder_hidden_states), attn.heads)
        if attn.norm_q is not None:
            query, key, text = attn.norm_q(query), attn.norm_k(key), attn.norm_added_k(text)
        scores = query @ torch.cat([text, key], dim=2).mT / query.shape[-1] ** 0.5
        self.calls.append(scores.softmax(-1))
        return super().__call__(attn, hidden_states, encoder_hidden_states, **options)


class EagerFlux(FluxAttnProcessor):
    """As ``EagerSD3``; text comes first in a double-stream block as in a single-stream block."""

    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, image_rotary_emb=None):
        query = attn.norm_q(heads_first(attn.to_q(hidden_states), attn.heads))
        key = attn.norm_k(heads_first(attn.to_k(hidden_states), attn.heads))
        if encoder_hidden_states is not None:
            text_query = attn.norm_added_q(heads_first(attn.add_q_proj(encoder_hidden_states), attn.heads))
            text_key = attn.norm_added_k(heads_first(attn.add_k_proj(encoder_hidden_states), attn.heads))
            query, key = torch.cat([text_query, query], dim=2), torch.cat([text_key, key], dim=2)
        query, key = apply_rotary_emb(query, image_rotary_emb), apply_rotary_emb(key, image_rotary_emb)
        probabilities = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1)
        self.calls.append(probabilities[:, :, TOKENS:])
        return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, image_rotary_emb)


@contextmanager
def eager_probabilities(transformer):
    """``{layer: [one tensor a call, [rows, heads, image positions, text and then image keys]]}``."""
    layers = joint_attention_layers(transformer)
    calls = {name: [] for name in layers}
    processors = {name: layer.processor for name, layer in layers.items()}
    for name, layer in layers.items():
        kind = EagerSD3 if isinstance(layer.processor, JointAttnProcessor2_0) else EagerFlux
        layer.processor = kind(calls[name])
    yield calls
    for name, layer in layers.items():
        layer.processor = processors[name]

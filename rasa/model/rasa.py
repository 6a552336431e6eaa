"""The whole model: encoders with a momentum copy, heads without one (MPS 42-46 of the released code)."""

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from rasa.config.run import FUSION_LOSSES, Config
from rasa.config.run import Model as ModelConfig
from rasa.draws import generator
from rasa.model.bert import FusionEncoder, ImageKeyValues, LanguageHead, TextEncoder
from rasa.model.clip import VISION as CLIP_VISION
from rasa.model.clip import ClipTextEncoder
from rasa.model.packing import Packing, Text, Wanted, take_rows

HEADS = ("itm", "prd", "rtd")


class Encoders(nn.Module):
    """Everything of which a momentum copy is kept. Parts that no objective needs are None and cost nothing."""

    def __init__(
        self,
        config: ModelConfig,
        image_size: tuple[int, int],
        vocabulary: int,
        pad_id: int,
        fusion: bool,
        language: bool,
    ):
        super().__init__()
        self.clip = config.backbone == "clip"
        text = (config.text_heads, config.text_mlp_width, config.dropout)
        sizes = (vocabulary, config.max_positions, config.text_width, config.text_layers)
        self.text: TextEncoder | ClipTextEncoder
        self.vision = VisionTransformer(
            img_size=image_size,
            patch_size=config.patch_size,
            embed_dim=config.vision_width,
            depth=config.vision_depth,
            num_heads=config.vision_heads,
            num_classes=0,
            global_pool="",
            **(CLIP_VISION if self.clip else {}),
        )
        if self.clip:
            self.text = ClipTextEncoder(*sizes, config.text_heads, config.text_mlp_width)
        else:
            self.text = TextEncoder(*sizes, *text, pad_id)
        self.vision_proj = nn.Linear(config.vision_width, config.embed_dim, bias=not self.clip)
        self.text_proj = nn.Linear(config.text_width, config.embed_dim, bias=not self.clip)
        self.fusion: FusionEncoder | None = None
        if fusion:
            self.fusion = FusionEncoder(config.text_width, config.fusion_layers, *text, config.vision_width)
        self.language_head = LanguageHead(config.text_width, vocabulary) if language else None

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Normalised pixels [B, 3, height, width] to image tokens [B, M, vision width]; the first is v_cls."""
        return self.vision.forward_features(pixels)

    def encode_text(self, text: Text, wanted: Wanted | None = None) -> Tensor:
        """Captions to packed text states [N, text width], or those of the wanted tokens; a caption's first is t_cls."""
        return self.text(text.ids, text.packing, wanted)

    def image_feature(self, tokens: Tensor) -> Tensor:
        """Unit projection [B, embed_dim] of v_cls."""
        return F.normalize(self.vision_proj(tokens[:, 0].to(self.vision_proj.weight.dtype)), dim=-1)

    def text_feature(self, states: Tensor, packing: Packing) -> Tensor:
        """Unit projection [B, embed_dim] of t_cls."""
        first = take_rows(states, packing.first()).to(self.text_proj.weight.dtype)
        return F.normalize(self.text_proj(first), dim=-1)

    def project_image(self, tokens: Tensor) -> ImageKeyValues:
        """The image's cross-attention keys and values, projected once."""
        assert self.fusion is not None
        return self.fusion.project_image(tokens)

    def fuse(self, states: Tensor, packing: Packing, image: ImageKeyValues, wanted: Wanted | None = None) -> Tensor:
        """Joint states f [N, text width] of packed text states and image keys/values; a caption's first is f_cls.

        `wanted`: those of some tokens alone, [W, text width].
        """
        assert self.fusion is not None
        return self.fusion(states, packing, image, wanted)

    def words(self, states: Tensor) -> Tensor:
        """Word logits [..., vocabulary] of joint states."""
        assert self.language_head is not None
        return self.language_head(states, self.text.embeddings.word_embeddings.weight)


class RaSa(nn.Module):
    """The online model: encoders, classification heads, temperature."""

    def __init__(self, encoders: Encoders, heads: Iterable[str], width: int, temperature: float):
        super().__init__()
        self.encoders = encoders
        self.heads = nn.ModuleDict({name: nn.Linear(width, 2) for name in heads})
        self.temperature = nn.Parameter(torch.tensor(temperature))


def build_model(config: Config, vocabulary: int, pad_id: int = 0, device: torch.device | str = "cpu") -> RaSa:
    """The model that the objectives of `config` need, with random weights drawn from its seed.

    Each tensor's weights depend on the seed and its own name only, so two rows of an ablation start equal in
    everything that they share.
    """
    model = blank_model(config, vocabulary, pad_id)
    model.to_empty(device=device)
    initialise(model, config.seed, config.model.temperature)
    return model


def blank_model(config: Config, vocabulary: int, pad_id: int = 0) -> RaSa:
    """The same model on torch's meta device: shapes without weights."""
    losses = config.objectives.weights
    with torch.device("meta"):  # no default initialisation, which would be thrown away
        encoders = Encoders(
            config.model,
            config.data.image_size,
            vocabulary,
            pad_id,
            fusion=any(name in losses for name in FUSION_LOSSES),
            language="mlm" in losses or config.objectives.generator in ("online", "momentum"),
        )
        return RaSa(encoders, [h for h in HEADS if h in losses], config.model.text_width, 0.0)


@torch.no_grad()
def initialise(model: RaSa, seed: int, temperature: float) -> None:
    """Normal for matrices and embeddings, norms 1, biases 0.

    The standard deviation is BERT's 0.02 for embeddings and for matrices of ALBEF's 768 inputs; narrower matrices take
    0.02 * sqrt(768 / inputs), the same gain of 0.55; with 0.02 at width 64 a layer would pass on a sixth of its input.
    """
    for name, parameter in model.named_parameters():
        draw = generator(seed, "initial weights", name)
        if name == "temperature":
            parameter.fill_(temperature)
        elif name.endswith("bias"):
            parameter.zero_()
        elif parameter.dim() == 1:
            parameter.fill_(1.0)
        else:
            embedded = "embed" in name and "patch_embed" not in name or name.endswith("cls_token")
            std = 0.02 if embedded else 0.02 * math.sqrt(768 / parameter[0].numel())
            parameter.copy_(torch.empty(parameter.shape).normal_(0.0, std, generator=draw))
    embedding = model.encoders.text.embeddings.word_embeddings
    if embedding.padding_idx is not None:  # CLIP has none
        embedding.weight[embedding.padding_idx].zero_()


def compile_layers(encoders: Encoders) -> None:
    """Compile the image encoder's layers in place.

    They are 71-80 % of the work, all of one shape, so one compilation serves all.
    """
    for block in encoders.vision.blocks:
        block.compile()

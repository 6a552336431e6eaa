"""What the built-in benchmark holds; rasa/data/synthetic/ makes it."""

import hashlib
import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

VERSION = "2"  # another version makes other people of the same parameters


class BenchmarkParams(BaseModel):
    """What the benchmark holds. Equal parameters and an equal `VERSION` give equal bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    seed: int = Field(0, ge=0, lt=2**32, description="Decides every person, image and caption.")
    train_identities: int = Field(1500, ge=1, description="People to learn from.")
    val_identities: int = Field(150, ge=1, description="People to select checkpoints on.")
    test_identities: int = Field(300, ge=1, description="People to report on; R@1 falls as they grow more.")
    images_per_identity: int = Field(4, ge=1, le=1000, description="Images of each person.")
    captions_per_image: int = Field(2, ge=1, le=100, description="Captions of each image.")
    image_height: int = Field(96, ge=16, le=4096, description="Height of the images in pixels.")
    image_width: int = Field(48, ge=16, le=4096, description="Width of the images in pixels.")
    twin_share: float = Field(
        0.3, ge=0, le=1, description="Share of people with a near-twin, who differs in one or two attributes."
    )
    noise: float = Field(
        1.0,
        ge=0,
        le=10,
        description="How much the images of one person differ in what they show: nothing but the view at 0.",
    )
    mistakes: float = Field(
        0.03, ge=0, le=1, description="Share of told attributes for which an annotator takes a neighbouring value."
    )
    domain: Literal["day", "evening", "web"] = Field(
        "day",
        description=(
            "How people are photographed: by six cameras in the day or in the evening (warm, dim, uneven light), or as "
            "on the web: other places, other cameras."
        ),
    )
    captions: Literal["detailed", "coarse"] = Field(
        "detailed",
        description=(
            "What captions tell: all that an annotator notices in 15 to 25 words, or one or two facts in 4 to 9, as "
            "alternative texts on the web do."
        ),
    )

    def folder(self) -> str:
        """A folder's name, equal for equal bytes. A field younger than version 2 counts only if not the default."""
        young = {
            name for name in ("domain", "captions") if getattr(self, name) == type(self).model_fields[name].default
        }
        values = self.model_dump(mode="json", exclude=young)
        return f"synthetic-{hashlib.sha256(json.dumps([VERSION, values], sort_keys=True).encode()).hexdigest()[:16]}"

"""How each kind of data set is evaluated (rasa/config/formats.py says which is which); docs/decisions/0008 argues it.

`text-to-image` (paper 4.1): every caption searches the images. `both-ways` (A.3, Flickr30K and COCO): also every image
searches the captions, in the two stages of ALBEF. `classes` (A.3, CUB and Flowers): a class is searched with all its
captions at once, and every image searches the classes. Whatever the protocol, r1, r5, r10 and map are those of the
search for images, so that selection, reports and predictions find them; tr_r1, tr_r5, tr_r10 (text retrieval) and ap50
come on top.

Shape suffixes: T texts, N images, C classes, K candidates, E embedding width, G pairs of a class and an image, P pairs
of a text and an image, D text width.
"""

from collections.abc import Callable, Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from rasa.data.dataset import Split
from rasa.data.tokenizer import Encoded
from rasa.evaluation.index import top_k
from rasa.evaluation.metrics import Retrieval, evaluate_order, final_order, stage1_order
from rasa.evaluation.rank import (
    EncodedGallery,
    EncodedQueries,
    Ranking,
    RankingSettings,
    encode_gallery,
    encode_queries,
    evaluate,
    measure,
)
from rasa.evaluation.rank import retrieval_mode as retrieving
from rasa.evaluation.rerank import match_scores, pair_scores, pair_states
from rasa.model.rasa import RaSa

AP_AT = 50
CLASSES_PER_IMAGE = 5  # whose captions stage 2 reads with an image that searches the classes


def evaluate_by(
    protocol: str,
    model: RaSa,
    images: Callable[[], Iterable[Tensor]],
    texts: Encoded,
    split: Split,
    settings: RankingSettings,
) -> Ranking:
    """Rank and measure `split`, whose images `images` yields and whose captions `texts` are; see `evaluate`.

    Raises ValueError for an unknown protocol, or if `images` does not yield the split's images.
    """
    identity_N, identity_T = (torch.as_tensor(whom) for whom in (split.image_identities, split.caption_identities))
    if protocol == "text-to-image":
        return evaluate(model, images, texts, identity_N, identity_T, settings)
    if protocol not in ("both-ways", "classes"):
        raise ValueError(f"protocol {protocol!r} is none of text-to-image, both-ways, classes")
    device, precision = settings.device, settings.precision
    with torch.inference_mode(), retrieving(model, device):
        gallery = encode_gallery(model, images, len(identity_N), settings.gallery_mib, precision, device)
        queries = encode_queries(model, texts, settings.batch_size, precision, device)
        search = both_ways if protocol == "both-ways" else by_class
        return search(model, gallery, queries, identity_N.to(device), identity_T.to(device), settings)


def selection_key(figures: Mapping[str, float]) -> tuple[float, float]:
    """By what the best epoch is chosen on validation, and what breaks ties.

    The mean of both directions where there are two.
    """
    recalls = [figures[f"r{k}"] for k in (1, 5, 10)]
    if "ap50" in figures:
        return (figures["ap50"] + figures["tr_r1"]) / 2, sum(recalls) / 3
    if "tr_r1" in figures:
        both = recalls + [figures[f"tr_r{k}"] for k in (1, 5, 10)]
        return (figures["r1"] + figures["tr_r1"]) / 2, sum(both) / 6
    return figures["r1"], sum(recalls) / 3


def both_ways(
    model: RaSa,
    gallery: EncodedGallery,
    queries: EncodedQueries,
    identity_N: Tensor,
    identity_T: Tensor,
    settings: RankingSettings,
) -> Ranking:
    """Every text searches the images (IR), every image the texts (TR); stage 2 re-ranks the first K of each."""
    _, images_TK = top_k(queries.features_TE, gallery.features_NE, settings.topk)
    _, texts_NK = top_k(gallery.features_NE, queries.features_TE, settings.topk)
    scores_TK = scores_NK = None
    if queries.packed is not None:
        rows_T, rows_N = (torch.arange(len(rows)).repeat_interleave(rows.shape[1]) for rows in (images_TK, texts_NK))
        text_P = torch.cat([rows_T, texts_NK.flatten().cpu()])
        image_P = torch.cat([images_TK.flatten().cpu(), rows_N])
        scores_P = pair_scores(
            model,
            gallery.tokens(),
            queries.packed,
            text_P,
            image_P,
            settings.ranking_score,
            settings.tokens_per_call,
            settings.precision,
        )
        scores_TK, scores_NK = scores_P[: len(rows_T)].view_as(images_TK), scores_P[len(rows_T) :].view_as(texts_NK)
    final, stage1, best_TJ, similarity_TJ = measure(
        queries.features_TE, gallery.features_NE, images_TK, scores_TK, settings.beyond, identity_N, identity_T
    )
    reverse, reverse_stage1, *_ = measure(
        gallery.features_NE, queries.features_TE, texts_NK, scores_NK, settings.beyond, identity_T, identity_N
    )
    final, stage1 = with_text_retrieval(final, reverse), with_text_retrieval(stage1, reverse_stage1)
    return Ranking(final, stage1, best_TJ, similarity_TJ, scores_TK, images_TK)


def with_text_retrieval(images: Retrieval, texts: Retrieval) -> Retrieval:
    """The search for images, with R@K of the search for texts (or classes) under the names tr_r1, tr_r5, tr_r10."""
    return images._replace(metrics=images.metrics | {f"tr_r{k}": texts.metrics[f"r{k}"] for k in (1, 5, 10)})


def by_class(
    model: RaSa,
    gallery: EncodedGallery,
    queries: EncodedQueries,
    identity_N: Tensor,
    identity_T: Tensor,
    settings: RankingSettings,
) -> Ranking:
    """Every class searches the images (AP@50), every image the classes (R@1).

    Stage 1 compares an image with the mean of a class's text features, as the methods before RaSa do; stage 2 scores
    the mean of the joint states of the image with all texts of the class (A.3).
    """
    classes_C, class_T = identity_T.unique(return_inverse=True)
    similarity_CN = class_features(queries.features_TE, class_T) @ gallery.features_NE.T
    order_CN, order_NC = stage1_order(similarity_CN), stage1_order(similarity_CN.T)
    images_CK, classes_NK = order_CN[:, : settings.topk], order_NC[:, :CLASSES_PER_IMAGE]
    stage1, scores_CK = class_figures(order_CN, order_NC, classes_C, identity_N), None
    final = stage1
    if queries.packed is not None:
        asked_CN = torch.zeros_like(similarity_CN, dtype=torch.bool).scatter_(1, images_CK, True)
        asked_CN |= torch.zeros_like(asked_CN.T).scatter_(1, classes_NK, True).T
        scores_CN = class_scores(model, gallery, queries, class_T, asked_CN, settings)
        scores_CK, scores_NK = scores_CN.gather(1, images_CK), scores_CN.T.gather(1, classes_NK)
        order_CN = final_order(order_CN, scores_CK, settings.beyond)
        order_NC = final_order(order_NC, scores_NK, settings.beyond)
        final = class_figures(order_CN, order_NC, classes_C, identity_N)
    best_CJ = order_CN[:, :10].clone()
    return Ranking(final, stage1, best_CJ, similarity_CN.gather(1, best_CJ), scores_CK, images_CK)


def class_features(features_TE: Tensor, class_T: Tensor) -> Tensor:
    """Unit length means [C, E] of each class's text features."""
    sums_CE = features_TE.new_zeros(int(class_T.max()) + 1, features_TE.shape[1])
    return F.normalize(sums_CE.index_add_(0, class_T, features_TE), dim=-1)


def class_scores(
    model: RaSa,
    gallery: EncodedGallery,
    queries: EncodedQueries,
    class_T: Tensor,
    asked_CN: Tensor,
    settings: RankingSettings,
) -> Tensor:
    """Match scores [C, N] of the mean joint state of an image with all texts of a class; NaN where not `asked_CN`."""
    assert queries.packed is not None
    class_G, image_G = asked_CN.nonzero().cpu().unbind(1)
    text_P, group_P = texts_of(class_G, class_T.cpu())
    width = queries.packed.states.shape[1]
    sums_GD = queries.features_TE.new_zeros(len(class_G), width)
    for pairs, f_cls in pair_states(
        model,
        gallery.tokens(),
        queries.packed,
        text_P,
        image_G[group_P],
        settings.tokens_per_call,
        settings.precision,
    ):
        sums_GD.index_add_(0, group_P[pairs].to(sums_GD.device, non_blocking=True), f_cls.to(sums_GD.dtype))
    means_GD = sums_GD / group_P.bincount(minlength=len(class_G)).to(sums_GD.device)[:, None]
    scores_CN = sums_GD.new_full(asked_CN.shape, torch.nan)
    scores_CN[asked_CN] = match_scores(model, means_GD, settings.ranking_score)
    return scores_CN


def texts_of(class_G: Tensor, class_T: Tensor) -> tuple[Tensor, Tensor]:
    """All texts [P] of the class of each group in turn, and the group [P] that each stands for."""
    order_T, count_C = class_T.argsort(stable=True), class_T.bincount()
    start_C = count_C.cumsum(0) - count_C
    count_G = count_C[class_G]
    group_P = torch.arange(len(class_G)).repeat_interleave(count_G)
    inside_P = torch.arange(len(group_P)) - (count_G.cumsum(0) - count_G)[group_P]
    return order_T[start_C[class_G][group_P] + inside_P], group_P


def class_figures(order_CN: Tensor, order_NC: Tensor, classes_C: Tensor, identity_N: Tensor) -> Retrieval:
    """The figures of two rankings.

    Of the images by each class (r1, ..., map, ap50), and of the classes by each image (tr_r1, ...).
    """
    images = evaluate_order(order_CN, identity_N, classes_C)
    found = with_text_retrieval(images, evaluate_order(order_NC, classes_C, identity_N))
    return found._replace(metrics=found.metrics | {"ap50": precision_at(order_CN, identity_N, classes_C, AP_AT)})


def precision_at(order_CN: Tensor, identity_N: Tensor, classes_C: Tensor, k: int) -> float:
    """Share of right images among the first k of each class (of all if fewer), the mean over classes, in percent."""
    return 100 * (identity_N[order_CN[:, :k]] == classes_C[:, None]).double().mean().item()

"""Mistakes in retrieval and in the word probe."""

from tests.mutants.mutant import PROBE, field, mistake

MUTANTS = [
    mistake(
        "rasa/evaluation/word_probe.py",
        "the re-ranked rank is stage 1's",
        "Answer(similar_Q if match_Q is None else match_Q, final.first_rank_T)",
        "Answer(similar_Q if match_Q is None else match_Q, stage1.first_rank_T)",
        PROBE,
    ),
    mistake(
        "rasa/evaluation/word_probe.py",
        "the re-ranked score is stage 1's",
        "Answer(similar_Q if match_Q is None else match_Q, final.first_rank_T)",
        "Answer(similar_Q, final.first_rank_T)",
        PROBE,
    ),
    mistake(
        "rasa/evaluation/word_probe.py",
        "stage 1's score is the re-ranked one",
        '{"stage1_": Answer(similar_Q, stage1.first_rank_T)}',
        '{"stage1_": Answer(match_Q, stage1.first_rank_T)}',
        PROBE,
    ),
    mistake(
        "rasa/evaluation/word_probe.py",
        "a rise is called a fall",
        "fall = (before.own_Q - after.own_Q).double()",
        "fall = (after.own_Q - before.own_Q).double()",
        PROBE,
    ),
    mistake(
        "rasa/evaluation/word_probe.py",
        "another image's score is asked for",
        "own_Q1 = torch.as_tensor(split.caption_images)[queries]",
        "own_Q1 = torch.as_tensor(split.caption_images)[queries - 1]",
        PROBE,
    ),
    mistake(
        "rasa/evaluation/word_probe.py",
        "another query's identity is asked for",
        "torch.as_tensor(split.caption_identities)[queries]",
        "torch.as_tensor(split.caption_identities)[: len(queries)]",
        PROBE,
    ),
    mistake(
        "rasa/evaluation/word_probe.py",
        "beyond_topk ignored",
        "        fidelity.beyond_topk,\n",
        '        "stage1",\n',
        PROBE,
    ),
    mistake(
        "rasa/evaluation/word_probe.py",
        "ranking_score ignored",
        "            fidelity.ranking_score,\n",
        '            "logit",\n',
        PROBE,
    ),
    mistake(
        "rasa/evaluation/word_probe.py",
        "topk ignored",
        "gallery.features_NE, evaluation.topk)",
        "gallery.features_NE, 18)",
        PROBE,
    ),
    mistake(
        "rasa/evaluation/rerank.py",
        "the score of no match",
        'return logits[:, 1] if ranking_score == "logit"',
        'return logits[:, 0] if ranking_score == "logit"',
        "tests/test_plain.py::test_fast_rerank_is_the_plain_one",
    ),
    mistake(
        "rasa/evaluation/rerank.py",
        "probability is the logit",
        "logits[:, 1] - logits[:, 0]",
        "logits[:, 1]",
        "tests/test_plain.py::test_fast_rerank_is_the_plain_one",
    ),
    mistake(
        "rasa/evaluation/metrics.py",
        "images beyond the candidates tie never",
        'if beyond == "tied":',
        "if False:",
        field("fidelity.beyond_topk"),
    ),
    mistake(
        "rasa/evaluation/metrics.py",
        "R@K counts ranks below K",
        "(first_rank_T <= k)",
        "(first_rank_T < k)",
        "tests/test_parity.py::test_recorded_metrics",
    ),
    mistake(
        "rasa/evaluation/metrics.py",
        "mAP over the first right image alone",
        "ap_T = (precision_TN * relevant_TN).sum(1) / relevant_TN.sum(1)",
        "ap_T = 1.0 / first_T.double()",
        "tests/test_parity.py::test_recorded_metrics",
    ),
    mistake(
        "rasa/evaluation/rank.py",
        "stage 1's figures and the final ones exchanged",
        "return summary(final_rank, final_ap), summary(rank, ap), best_TJ",
        "return summary(rank, ap), summary(final_rank, final_ap), best_TJ",
        "tests/test_retrieval.py::test_evaluation_is_both_stages_written_out",
    ),
    mistake(
        "rasa/evaluation/rank.py",
        "dropout during retrieval",
        "in_mode(model, training=False)",
        "in_mode(model, training=True)",
        field("evaluation.batch_size"),
    ),
    mistake(
        "rasa/evaluation/rank.py",
        "the gallery is mirrored",
        "torch.zeros(len(batch), dtype=torch.bool)",
        "torch.ones(len(batch), dtype=torch.bool)",
        "tests/test_retrieval.py::test_evaluation_is_both_stages_written_out",
    ),
    mistake(
        "rasa/evaluation/protocols.py",
        "selection by R@10",
        'return figures["r1"], sum(recalls) / 3',
        'return figures["r10"], sum(recalls) / 3',
        "tests/test_protocols.py::test_selection_by_hand",
    ),
    mistake(
        "rasa/evaluation/index.py",
        "of equal images the last comes first",
        "columns[tied] = scores_TC[tied].sort(dim=1, descending=True, stable=True).indices[:, :k]",
        (
            "columns[tied] = scores_TC.shape[1] - 1 - scores_TC[tied].flip(1).sort(dim=1, "
            "descending=True, stable=True).indices[:, :k]"
        ),
        "tests/test_retrieval.py::test_top_k_is_the_whole_sort_with_ties",
    ),
]

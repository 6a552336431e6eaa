"""Where the paper says what a config field is, or the authors' released code where the text is silent.

The values themselves are those of `table4/m-rtd` at the profile `paper`; only the places stand here. Of `fidelity` each
field's own sentence says what text and code have.
"""

A2 = "Appendix A.2"
TEXT = {
    "data.image_size": A2,
    "data.flip_probability": f"{A2}, which names the flip but not its probability",
    "data.max_words": A2,
    "data.max_tokens": f"{A2}, which does not say whether words or tokens are counted",
    "model.backbone": "3.1; Appendix A.4 has TCL and CLIP",
    "model.momentum": A2,
    "model.queue_size": A2,
    "model.temperature": A2,
    "objectives.p_weak": f"{A2}; 4.4 and Figure 4 vary it and find 0.1 best",
    "objectives.p_mask": f"{A2}; 4.4 and Figure 4 vary it and find 0.3 best",
    "objectives.positives": "3.2; Table 4 has the other two",
    "objectives.generator": "3.3; Table 4 has the other two",
    "objectives.masked_lm": "4.4, a DistilBERT",
    "objectives.weights": f"{A2} and Eq. 3, 6, 11",
    "objectives.weights.cl": f"{A2}, lambda_3; Figure 4 varies it and finds 0.5 best",
    "objectives.weights.itm": "Eq. 3, without a factor",
    "objectives.weights.prd": f"{A2}, lambda_1; Figure 4 varies it and finds 0.5 best",
    "objectives.weights.mlm": "Eq. 6, without a factor",
    "objectives.weights.rtd": f"{A2}, lambda_2; Figure 4 varies it and finds 0.5 best",
    "optimisation.epochs": A2,
    "optimisation.batch_size": A2,
    "optimisation.weight_decay": A2,
    "optimisation.learning_rate": A2,
    "optimisation.head_learning_rate": A2,
    "fidelity.ranks": f"{A2}, four GPUs",
}
CODE = {
    "data.tokenizer": "Retrieval.py",
    "evaluation.topk": "configs/PS_*.yaml and Retrieval.py 88-121",
    "model.dropout": "configs/config_bert.json",
    "model.temperature_range": "which has no bounds",
    "objectives.alpha": "configs/PS_*.yaml; the text has no soft targets",
    "objectives.alpha_warmup_epochs": "Retrieval.py 45-48",
    "optimisation.schedule": "scheduler/cosine_lr.py",
    "optimisation.min_learning_rate": "configs/PS_*.yaml",
    "optimisation.warmup_learning_rate": "configs/PS_*.yaml",
    "optimisation.warmup_steps": "scheduler/cosine_lr.py 63-65",
    "optimisation.clip_norm": "which clips nothing",
}


def source(field: str) -> str:
    """Where its value at the profile `paper` is from, e.g. `the paper, Appendix A.2`; nothing if it is not known."""
    if field in TEXT:
        return f"the paper, {TEXT[field]}"
    return f"the released code, {CODE[field]}" if field in CODE else ""

"""Masked language modelling: the language models of Perceiver IO, their baselines, small ones.

    python -m experiments.train --config=configs/masked_lm.py:small --workdir=runs/text
    python -m experiments.train --config=configs/masked_lm.py:PRESET --workdir=DIR \
        --config.data.parts.c4.root=TFDS_DATA_DIR

Presets of the paper (2107.14795, section 4.1 and its appendix), with the average on GLUE after
fine-tuning: 70% of tokens from C4, 30% from Wikipedia, 500,000 steps with LAMB, batch 512 (the
paper also mentions 2048).
    bytes               81.0    201.1M    UTF-8 bytes, 256 latents of 1280, 26 layers
    bytes_plus_plus     81.8    425M      256 latents of 1536, 40 layers
    bytes_128           75.8              128 latents of 1920
    bytes_512           80.9              512 latents of 896
    sentencepiece       81.2    223M      32,000 SentencePiece tokens
    bert_sentencepiece  81.1    110M      BERT Base
    bert_bytes          71.5    20.1M     BERT on bytes, with the FLOPs of `bytes`
SentencePiece needs a model file, config.data.tokenizer.path; scripts/train_sentencepiece.py makes
one. A training step of `bytes` takes 0.34 TFLOPs per example (experiments.describe).

Other presets:
    small               1.3M, on the bundled texts. Hardware: one CPU core, 100 minutes. On yours:
                        --config.data.name=text_folder --config.data.root=FOLDER
    one_gpu_day         103M in bfloat16, for one day on a large GPU, with what Cramming
                        (2212.14034) found to matter: short texts, fewer latents to match, 25%
                        masked, no dropout, AdamW, batches that grow and become large
"""

from ml_collections import ConfigDict, FieldReference


def get_config(preset: str = "small") -> ConfigDict:
    """The experiment with the model named by `preset`."""
    model, recipe = PRESETS[preset]
    batch_size = FieldReference(recipe["batch_size"])
    peak = recipe["peak"] * batch_size.to_float() / recipe["batch_size"]  # Linear scaling.
    tokenizer = recipe.get("tokenizer", "bytes")
    vocabulary_size = FieldReference(VOCABULARY_SIZE[tokenizer])
    max_length = FieldReference(model["max_length"])
    steps = FieldReference(recipe["steps"])

    config = ConfigDict()
    config.model = dict(model, vocab_size=vocabulary_size, max_length=max_length)
    config.task = dict(name="masked_lm", vocabulary_size=vocabulary_size)
    config.data = dict(
        recipe["data"](max_length * BYTES_PER_TOKEN[tokenizer]),
        tokenizer=dict(name=tokenizer),
        max_length=max_length,
        max_queries=max_length * recipe.get("query_percent", 25) // 100,
        num_workers=recipe.get("num_workers", 16),
        **recipe.get("masking", {}),
    )
    if tokenizer == "sentencepiece":
        config.data.tokenizer.update(path="sentencepiece.model", vocabulary_size=vocabulary_size)
    config.optimizer = recipe["optimizer"]
    config.schedule = dict(
        name="cosine", peak=peak, warmup_steps=recipe["warmup_steps"](steps), total_steps=steps
    )
    config.training = dict(batch_size=batch_size, steps=steps, **recipe.get("training", {}))
    config.evaluation = dict(splits=("validation",), every=recipe["every"])
    config.checkpoint = dict(
        every=recipe["every"], best_metric="validation/bits_per_byte", best_mode="min"
    )
    return config


def _perceiver_io(num_latents: int, latent_dim: int, num_layers: int, max_length: int) -> dict:
    """The paper's model: 8 heads, queries and keys of width 256, decoder without query residual."""
    block = dict(num_heads=8, qk_dim=256)
    return dict(
        name="perceiver_io_masked_lm",
        max_length=max_length,
        embedding_dim=768,
        encoder=dict(
            num_latents=num_latents,
            latent_dim=latent_dim,
            cross_attend=dict(block, v_dim=latent_dim),
            latent_stack=dict(block, num_layers=num_layers, remat="products"),
        ),
        decoder=dict(cross_attend=dict(block, v_dim=768, use_query_residual=False)),
    )


def _bert(width: int, num_layers: int, num_heads: int, max_length: int) -> dict:
    return dict(
        name="bert_masked_lm",
        max_length=max_length,
        width=width,
        layers=dict(
            num_layers=num_layers,
            num_heads=num_heads,
            widening=4,
            norm="post",
            exact_gelu=True,
            dropout=0.1,
            attention_dropout=0.1,
        ),
    )


def _web_and_wikipedia(passage_bytes: FieldReference) -> dict:
    root = FieldReference("~/tensorflow_datasets")
    part = dict(root=root, passage_bytes=passage_bytes)
    return dict(
        name="mixture",
        parts=dict(
            c4=dict(part, weight=0.7, name="c4"),
            wikipedia=dict(part, weight=0.3, name="wikipedia"),
        ),
    )


def _bundled(passage_bytes: FieldReference) -> dict:
    return dict(name="bundled_text", passage_bytes=passage_bytes)


def _small() -> dict:
    return dict(
        name="perceiver_io_masked_lm",
        max_length=256,
        embedding_dim=128,
        encoder=dict(
            num_latents=64,
            latent_dim=192,
            cross_attend=dict(num_heads=4, qk_dim=128, v_dim=192),
            latent_stack=dict(num_layers=4, num_heads=6),
        ),
        decoder=dict(
            cross_attend=dict(num_heads=8, qk_dim=256, v_dim=128, use_query_residual=False)
        ),
        start="local",
    )


VOCABULARY_SIZE = {"bytes": 262, "sentencepiece": 32_000}
# With 32,000 tokens of SentencePiece, English has about 4.3.
BYTES_PER_TOKEN = {"bytes": 1, "sentencepiece": 4}

PAPER = dict(
    batch_size=512,
    peak=1.25e-3,
    steps=500_000,
    warmup_steps=lambda steps: 1000,
    optimizer=dict(name="lamb", weight_decay=0.01),
    data=_web_and_wikipedia,
    every=10_000,
)
SMALL = dict(
    batch_size=16,
    peak=7e-4,
    steps=28_000,
    warmup_steps=lambda steps: steps // 100,
    optimizer=dict(name="adamw", weight_decay=0.01, b2=0.98),
    data=_bundled,
    masking=dict(mask_rate=0.3, token_mask_rate=0.1, evaluation_mask_rate=0.15),
    query_percent=40,
    every=6000,
    num_workers=0,
)
ONE_GPU_DAY = dict(
    batch_size=4096,
    peak=1e-3,
    steps=60_000,
    # The number of steps is fitted to the minutes; over the first 60% of them, the batch grows.
    training=dict(minutes=24 * 60, accumulate=8, batch_ramp=0.6),
    warmup_steps=lambda steps: steps // 20,
    optimizer=dict(name="adamw", weight_decay=0.01, clip_norm=0.5, b2=0.98, eps=1e-12),
    data=_web_and_wikipedia,
    masking=dict(mask_rate=0.25, evaluation_mask_rate=0.15, replacement=(0.8, 0.1, 0.1)),
    query_percent=40,
    every=5000,
)
SENTENCEPIECE = dict(PAPER, tokenizer="sentencepiece")

PRESETS = {
    "small": (_small(), SMALL),
    "bytes": (_perceiver_io(256, 1280, 26, max_length=2048), PAPER),
    "bytes_plus_plus": (_perceiver_io(256, 1536, 40, max_length=2048), PAPER),
    "bytes_128": (_perceiver_io(128, 1920, 26, max_length=2048), PAPER),
    "bytes_512": (_perceiver_io(512, 896, 26, max_length=2048), PAPER),
    "sentencepiece": (_perceiver_io(256, 1280, 26, max_length=512), SENTENCEPIECE),
    "bert_sentencepiece": (_bert(768, 12, 12, max_length=512), SENTENCEPIECE),
    "bert_bytes": (_bert(512, 6, 8, max_length=2048), PAPER),
    "one_gpu_day": (
        dict(_perceiver_io(96, 1024, 20, max_length=512), compute_dtype="bfloat16"),
        ONE_GPU_DAY,
    ),
}

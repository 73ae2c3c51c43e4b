"""Finetuning of a pretrained video encoder, and the documentation of finetuning's fields.

    python -m xkd_jax.main --config=configs/eval/finetune_video.py --config.checkpoint=RUN \
        --config.data.dataset=folder --config.data.path=FOLDER --workdir=OUT

Works on any labeled data: `folder` (FOLDER/<class>/*.mp4), `generated`, and the output of
`python -m input_pipeline.prepare`. The recipe is the paper's for UCF101 (section 8 of
docs/method.md), except that the epoch is chosen on a tenth of the training recordings. The run is
saved and resumed like pretraining. Cost: a step of 96 clips of 32x224x224 through ViT-B takes some
100 TFLOP; 8 TPUs of 16 GB need --config.parallel.remat=dots. The paper has no number for data of
your own.
"""

import ml_collections

from configs.eval import labelled_data


def get_config() -> ml_collections.ConfigDict:
    """Returns the paper's recipe for UCF101, with the epoch chosen on held-out recordings."""
    config = ml_collections.ConfigDict()
    config.task = "finetune"
    # Seed of the head, the order of the recordings, and all augmentation.
    config.seed = 0
    # Result of the paper to print beside your own, such as "ucf101/finetune"; empty: none.
    config.paper = ""

    # The workdir of a run, one of its checkpoints, or the output of xkd_jax.interop.export or
    # xkd_jax.interop.import_release.
    config.checkpoint = ""
    config.network = "teacher"  # teacher | student
    # Use random weights of the same architecture instead, for comparison.
    config.untrained = False
    config.modality = "video"  # video | audio; each has an `augmentation` of its own
    # Pixels, a multiple of the patch size; 0: as in pretraining. Position embeddings are resized.
    config.frame_size = 224
    # Shorter side of the frames decoded from media files, in pixels. Prepared data keep their size.
    config.short_side = 256
    # See configs/base.py.
    config.compute_dtype = "auto"
    # Clips per step, over all devices and processes.
    config.batch_size = 96
    # Passes over the training recordings, with one clip of each. If `steps` is not 0, it sets the
    # length of the run instead.
    config.epochs = 100.0
    config.steps = 0

    # Without a validation split, the share `data.held_out` of the training recordings is not
    # trained on. It gives the scores during training and the choice of the epoch.
    config.data = labelled_data.section("prepared")
    config.data.held_out = 0.1

    config.dropout = 0.5  # of the head's input features
    config.drop_path = 0.0  # rate in the last block; it grows linearly from 0 in the first
    config.label_smoothing = 0.1
    # mixup and cutmix: parameters of the symmetric Beta distributions of the mixed shares; 0: off.
    # probability: that of mixing at all. switch_probability: that of cutmix if both are on.
    config.mixing = ml_collections.ConfigDict(
        {"mixup": 0.6, "cutmix": 0.5, "probability": 1.0, "switch_probability": 0.5}
    )
    augmentation = config.augmentation = ml_collections.ConfigDict()
    augmentation.crop_scale = (0.08, 1.0)  # area of the crop over area of the frame
    augmentation.aspect_ratio = (3 / 4, 4 / 3)  # of the crop, drawn log-uniformly
    augmentation.flip_probability = 0.5
    # Number of successive operations, probability of each, and mean and standard deviation of their
    # magnitudes, which go up to 10.
    augmentation.rand_augment = ml_collections.ConfigDict(
        {"operations": 2, "probability": 0.5, "magnitude": 9.0, "magnitude_std": 0.05}
    )

    optimizer = config.optimizer = ml_collections.ConfigDict()
    # Learning rate of the head, not scaled by the batch size: linear from 0 to the peak during the
    # warm-up, then a cosine to the final value.
    optimizer.learning_rate = 5e-4
    optimizer.final_learning_rate = 1e-6
    optimizer.warmup_epochs = 5.0
    # Factor of the learning rate from each block to the one below it, and to the embeddings.
    optimizer.layer_decay = 0.45
    optimizer.b1 = 0.9
    optimizer.b2 = 0.999
    optimizer.eps = 1e-8
    # Not applied to position embeddings, the CLS token, biases and other 1-d parameters.
    optimizer.weight_decay = 0.05

    # The epoch whose weights are tested. last: the final one. best: of the epochs with an
    # evaluation, the one with the best score on the validation split or on held-out recordings.
    config.selection = "best"
    evaluation = config.evaluation = ml_collections.ConfigDict()
    evaluation.every_epochs = 10.0  # also at the end; 0: only at the end
    # Number of evenly spaced clips per recording, and of square crops per clip, 1 or 3.
    # Probabilities are averaged over all of them.
    evaluation.clips = 3
    evaluation.crops = 3
    evaluation.batch_size = 32  # clips at a time, over all devices and processes
    # Whether each evaluation scores the test set too. It shows the result of choosing the epoch on
    # the test set, as the paper does. Nothing else depends on it.
    evaluation.watch_test = True

    config.log = ml_collections.ConfigDict({"every_steps": 50, "stall_minutes": 30.0})
    # See `checkpoint` in configs/base.py.
    config.saving = ml_collections.ConfigDict(
        {"every_steps": 500, "keep": 1, "keep_every_steps": 0}
    )
    # See configs/base.py.
    config.parallel = ml_collections.ConfigDict({"fsdp": 1, "remat": "none"})
    return config

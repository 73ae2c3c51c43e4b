"""A pretrained video encoder finetuned on labelled recordings; every field of finetuning is here.

    python -m xkd_jax.main --config=configs/eval/finetune_video.py --config.checkpoint=RUN \
        --config.data.dataset=folder --config.data.path=FOLDER --workdir=OUT

Works on any labelled data: `folder` (FOLDER/<class>/*.mp4), `generated`, and whatever
`python -m input_pipeline.prepare` makes. The recipe is the paper's for UCF101 (section 8 of
docs/method.md), but for the epoch, which is chosen on a tenth of the training recordings. The run
is saved and resumed like pretraining. Cost: a step of 96 clips of 32x224x224 through ViT-B is some
100 TFLOP; on 8 TPUs of 16 GB it takes --config.parallel.remat=dots. The paper has no number for
data of your own.
"""

import ml_collections

from configs.eval import labelled_data


def get_config() -> ml_collections.ConfigDict:
    """The paper's recipe for UCF101, its epoch chosen on held-out recordings."""
    config = ml_collections.ConfigDict()
    config.task = "finetune"
    # Of the head, the order of the recordings and all augmentation.
    config.seed = 0
    # Which of the paper's results to print beside one's own, as "ucf101/finetune"; empty: none.
    config.paper = ""

    # The workdir of a run, one of its checkpoints, or what xkd_jax.interop.export or
    # xkd_jax.interop.import_release wrote.
    config.checkpoint = ""
    config.network = "teacher"  # teacher | student
    # Fresh weights of the same architecture instead, to compare with.
    config.untrained = False
    config.modality = "video"  # video | audio; each has an `augmentation` of its own
    # Pixels, a multiple of the patch's; 0: as in pretraining. Positions are resized.
    config.frame_size = 224
    # Of decoded media files' frames, in pixels; prepared data have the size that they have.
    config.short_side = 256
    # See configs/base.py.
    config.compute_dtype = "auto"
    # Clips a step, over all devices and processes.
    config.batch_size = 96
    # Passes over the training recordings, one clip of each; `steps`, where it is not 0, says the
    # number of steps instead.
    config.epochs = 100.0
    config.steps = 0

    # Without a validation split, `data.held_out` of the training recordings are not trained on, for
    # the scores along the way and the choice of the epoch.
    config.data = labelled_data.section("prepared")
    config.data.held_out = 0.1

    config.dropout = 0.5  # of the features that the head sees
    config.drop_path = 0.0  # of the last block; growing linearly from 0 in the first
    config.label_smoothing = 0.1
    # Parameters of the symmetric Beta distributions of the shares mixed, 0 for none of it; the
    # probability of either; that of cutmix where there are both.
    config.mixing = ml_collections.ConfigDict(
        {"mixup": 0.6, "cutmix": 0.5, "probability": 1.0, "switch_probability": 0.5}
    )
    augmentation = config.augmentation = ml_collections.ConfigDict()
    augmentation.crop_scale = (0.08, 1.0)  # area of the crop over area of the frame
    augmentation.aspect_ratio = (3 / 4, 4 / 3)  # of the crop, drawn log-uniformly
    augmentation.flip_probability = 0.5
    # Operations in a row and the probability of each; mean and spread of magnitudes, up to 10.
    augmentation.rand_augment = ml_collections.ConfigDict(
        {"operations": 2, "probability": 0.5, "magnitude": 9.0, "magnitude_std": 0.05}
    )

    optimizer = config.optimizer = ml_collections.ConfigDict()
    # The head's, whatever the batch size: from 0 to the peak over the warm-up, then a cosine.
    optimizer.learning_rate = 5e-4
    optimizer.final_learning_rate = 1e-6
    optimizer.warmup_epochs = 5.0
    # From each block to the one below, and to the embeddings: the learning rate times this.
    optimizer.layer_decay = 0.45
    optimizer.b1 = 0.9
    optimizer.b2 = 0.999
    optimizer.eps = 1e-8
    optimizer.weight_decay = 0.05  # not on positions, CLS, biases and other 1-d parameters

    # The epoch whose weights are tested. last, as planned; or best, by the score on the validation
    # split or on held-out recordings, out of the epochs after which there is an evaluation.
    config.selection = "best"
    evaluation = config.evaluation = ml_collections.ConfigDict()
    evaluation.every_epochs = 10.0  # and at the end; 0: at the end alone
    # Clips of a recording, evenly from the first to the last, and squares of each clip's frames,
    # 1 or 3; probabilities are averaged over all of them.
    evaluation.clips = 3
    evaluation.crops = 3
    evaluation.batch_size = 32  # clips at a time, over all devices and processes
    # Whether each evaluation scores the test set too, which tells what choosing the epoch by it, as
    # the paper does, would give; nothing else depends on it.
    evaluation.watch_test = True

    config.log = ml_collections.ConfigDict({"every_steps": 50, "stall_minutes": 30.0})
    # As `checkpoint` in configs/base.py.
    config.saving = ml_collections.ConfigDict(
        {"every_steps": 500, "keep": 1, "keep_every_steps": 0}
    )
    # See configs/base.py.
    config.parallel = ml_collections.ConfigDict({"fsdp": 1, "remat": "none"})
    return config

"""Miniatures of the data sets of sounds, of which some are videos, with broken files."""

import dataclasses
import pathlib

from input_pipeline.datasets import listing
from input_pipeline.media import containers
from input_pipeline.prepared.records import Role
from tests.input_pipeline.layouts.miniature import Layout, Media, write


def audioset(root: pathlib.Path, media: Media) -> Layout:
    """CSV files with comments, and files named with seconds, milliseconds or the video alone."""
    head = (
        "# Segments csv created Sun Mar  5 10:54:31 2017\n"
        "# num_ytids=4, num_segs=4, num_unique_labels=527, num_positive_labels=9\n"
        "# YTID, start_seconds, end_seconds, positive_labels\n"
    )
    write(
        root,
        {
            "csv/balanced_train_segments.csv": (
                f'{head}--PJHxphWEs, 30.000, 40.000, "/m/09x0r,/t/dd00088"\n'
                '--ZhevVpy1s, 50.000, 60.000, "/m/012xff"\n'
                '--aE2O5G5WE, 0.000, 10.000, "/m/03fwl,/m/04rlf,/m/09x0r"\n'
            ),
            "csv/unbalanced_train_segments.csv": (
                f'{head}---1_cCGK4M, 0.000, 10.000, "/m/01g50p"\n'
                'too_short, 0.000, 10.000, "/m/01g50p"\n'
                '--ONE_PIECE, soon, 10.000, "/m/01g50p"\n'
            ),
            "csv/eval_segments.csv": (
                f'{head}-0RWZT-miFs, 420.000, 430.000, "/m/03v3yw,/m/0k4j"\n'
                '-0SdAVK79lg, 30.000, 40.000, "/m/02mscn"\n'
                'Y--PJHxphWE, 30.000, 40.000, "/m/02mscn"\n'
                '-YoutubeId1, 20.000, 30.000, "/m/02mscn"\n'
                '-YoutubeId2, 20.000, 30.000, "/m/02mscn"\n'
                '-two_pieces, 20.000, 30.000, "/m/02mscn"\n'
                '-two_pieces, 50.000, 60.000, "/m/02mscn"\n'
            ),
            "videos/--PJHxphWEs_30.mp4": media.mp4,
            "videos/--ZhevVpy1s_50.000.mp4": media.silent_mp4,
            "videos/---1_cCGK4M_0_10.mp4": media.mp4,
            "videos/-0RWZT-miFs_420000.mkv": media.mp4,
            "videos/-0SdAVK79lg_30.mp4": media.half(media.mp4),
            "videos/_stranger01_30.mp4": media.mp4,
            "videos/Y--PJHxphWE.mp4": media.mp4,  # a "Y" of its own
            "videos/Y-YoutubeId1.mp4": media.mp4,
            "audio/Y-YoutubeId1.wav": media.wav,
            "audio/Y-YoutubeId2.wav": media.wav,
            "videos/-two_pieces.mp4": media.mp4,
        },
    )
    nothing = ((), ())
    return Layout(
        "audioset",
        root,
        kept={
            "train": {
                "videos/--PJHxphWEs_30.mp4": nothing,
                "videos/--ZhevVpy1s_50.000.mp4": nothing,
                "videos/---1_cCGK4M_0_10.mp4": nothing,
            },
            "eval": {
                "videos/-0RWZT-miFs_420000.mkv": nothing,
                "videos/Y--PJHxphWE.mp4": nothing,
                "videos/Y-YoutubeId1.mp4": nothing,
            },
        },
        left_out={
            "--aE2O5G5WE_0.000": listing.MISSING,
            "csv/unbalanced_train_segments.csv:5": listing.UNREADABLE,
            "csv/unbalanced_train_segments.csv:6": listing.UNREADABLE,
            "videos/-0SdAVK79lg_30.mp4": containers.TRUNCATED,
            "videos/_stranger01_30.mp4": listing.NOT_LISTED,
            "audio/Y-YoutubeId1.wav": listing.DUPLICATE,
            "audio/Y-YoutubeId2.wav": containers.NO_PICTURE,
            "-two_pieces_20.000": listing.MISSING,
            "-two_pieces_50.000": listing.MISSING,
            "videos/-two_pieces.mp4": listing.NOT_LISTED,
        },
        class_names=(),
    )


def audioset_20k(root: pathlib.Path, media: Media) -> Layout:
    """AudioSet with its classes, of which only the balanced training set is taken."""
    head = "# Segments csv created\n# num_ytids=2\n# YTID, start_seconds, end_seconds, labels\n"
    write(
        root,
        {
            "csv/class_labels_indices.csv": (
                'index,mid,display_name\n1,/m/012xff,"Toothbrush"\n'
                '0,/m/09x0r,"Speech"\n2,/t/dd00088,"Gargling, in water"\n'
            ),
            "csv/balanced_train_segments.csv": (
                f'{head}--PJHxphWEs, 30.000, 40.000, "/t/dd00088,/m/09x0r"\n'
                '--ZhevVpy1s, 50.000, 60.000, "/m/012xff"\n'
                '--aE2O5G5WE, 0.000, 10.000, "/m/012xff"\n'
                '--cB2ZVjpnA, 30.000, 40.000, "/m/012xff,/m/unknown"\n'
                "--ekDLDTUXA, 30.000, 40.000\n"
            ),
            "csv/unbalanced_train_segments.csv": (
                f'{head}---1_cCGK4M, 0.000, 10.000, "/m/09x0r"\n'
                '---2_BBVHAA, 30.000, 40.000, "/m/09x0r"\n'
                "nonsense\n"
            ),
            "csv/eval_segments.csv": (
                f'{head}-0RWZT-miFs, 420.000, 430.000, "/m/012xff"\n'
                '-0SdAVK79lg, 30.000, 40.000, "/m/09x0r"\n'
            ),
            "train/--PJHxphWEs_30.mp4": media.mp4,
            "train/--ZhevVpy1s_50.000.mp4": media.mp4,
            "train/---1_cCGK4M_0_10.mp4": media.mp4,
            "train/_stranger01_30.mp4": media.mp4,
            "eval/-0RWZT-miFs_420000.mkv": media.mp4,
            "eval/-0SdAVK79lg_30.mp4": media.half(media.mp4),
        },
    )
    toothbrush = (("Toothbrush",), ())
    return Layout(
        "audioset_20k",
        root,
        kept={
            "train": {
                "train/--PJHxphWEs_30.mp4": (("Speech", "Gargling, in water"), ()),
                "train/--ZhevVpy1s_50.000.mp4": toothbrush,
            },
            "eval": {"eval/-0RWZT-miFs_420000.mkv": toothbrush},
        },
        left_out={
            "--aE2O5G5WE_0.000": listing.MISSING,
            "csv/balanced_train_segments.csv:7": listing.UNREADABLE,
            "csv/balanced_train_segments.csv:8": listing.UNREADABLE,
            "train/_stranger01_30.mp4": listing.NOT_LISTED,
            "eval/-0SdAVK79lg_30.mp4": containers.TRUNCATED,
        },
        class_names=("Speech", "Toothbrush", "Gargling, in water"),
    )


def audioset_labels(root: pathlib.Path, media: Media) -> Layout:
    """The files of `audioset_20k`, with the unbalanced ones as well."""
    layout = audioset_20k(root, media)
    train = layout.kept["train"] | {"train/---1_cCGK4M_0_10.mp4": (("Speech",), ())}
    left_out = layout.left_out | {
        "---2_BBVHAA_30.000": listing.MISSING,
        "csv/unbalanced_train_segments.csv:6": listing.UNREADABLE,
    }
    kept = layout.kept | {"train": train}
    return dataclasses.replace(layout, dataset="audioset", kept=kept, left_out=left_out)


def vggsound(root: pathlib.Path, media: Media) -> Layout:
    """A CSV file without header; classes with commas, and names of several downloaders."""
    write(
        root,
        {
            "vggsound.csv": (
                "---g-f_I2yQ,1,people marching,test\n"
                '--0PQM4-hqg,30,"bird chirping, tweeting",train\n'
                '-0RWZT-miFs,420,"bird chirping, tweeting",train\n'
                "-0SdAVK79lg,30,people marching,train\n"
                "-0SdAVK79lg,50,people marching,train\n"
                "-1LrH01Ei1w,0,people marching,train\n"
                "--0PQM4-hqg,30,people marching,train\n"
                "-3z5mFRgbxc,0,waterfall burbling,test\n"
                "too_short,0,people marching,train\n"
                "-5IGEE1NNKc,soon,people marching,train\n"
                "-5IGEE1NNKc,10,people marching,perhaps\n"
                "-5IGEE1NNKc,10,bird chirping, tweeting,train\n"  # without quotes
            ),
            "video/---g-f_I2yQ_000001.mp4": media.mp4,
            "video/--0PQM4-hqg_000030.mp4": media.mp4,
            "video/-0RWZT-miFs_420000_430000.mkv": media.silent_mp4,
            "video/-0SdAVK79lg_000030.mp4": media.half(media.mp4),
            "video/-0SdAVK79lg_000050.mp4": b"",
            "video/-3z5mFRgbxc.mp4": media.mp4,
            "audio/-3z5mFRgbxc.wav": media.wav,
            "video/_stranger01_000030.mp4": media.mp4,
        },
    )
    birds, people = (("bird chirping, tweeting",), ()), (("people marching",), ())
    return Layout(
        "vggsound",
        root,
        kept={
            "train": {
                "video/--0PQM4-hqg_000030.mp4": birds,
                "video/-0RWZT-miFs_420000_430000.mkv": birds,
            },
            "test": {
                "video/---g-f_I2yQ_000001.mp4": people,
                "video/-3z5mFRgbxc.mp4": (("waterfall burbling",), ()),
            },
        },
        left_out={
            "video/-0SdAVK79lg_000030.mp4": containers.TRUNCATED,
            "video/-0SdAVK79lg_000050.mp4": containers.EMPTY,
            "-1LrH01Ei1w_000000": listing.MISSING,
            "--0PQM4-hqg_000030": listing.TWICE,
            **{f"vggsound.csv:{line}": listing.UNREADABLE for line in (9, 10, 11, 12)},
            "audio/-3z5mFRgbxc.wav": listing.DUPLICATE,
            "video/_stranger01_000030.mp4": listing.NOT_LISTED,
        },
        class_names=("bird chirping, tweeting", "people marching", "waterfall burbling"),
    )


def esc50(root: pathlib.Path, media: Media) -> Layout:
    """Sound files in five folds."""
    write(
        root,
        {
            "meta/esc50.csv": (
                "filename,fold,target,category,esc10,src_file,take\n"
                "1-100032-A-0.wav,1,0,dog,True,100032,A\n"
                "2-100038-A-14.wav,2,14,chirping_birds,False,100038,A\n"
                "3-100210-A-36.wav,3,36,vacuum_cleaner,False,100210,A\n"
                "3-100210-B-36.wav,third,36,vacuum_cleaner,False,100210,B\n"
                "4-101296-A-36.wav,4,36,vacuum_cleaner,False,101296,A\n"
                "5-101296-B-0.wav,5,0,dog,True,101296,B\n"
            ),
            "audio/1-100032-A-0.wav": media.wav,
            "audio/2-100038-A-14.wav": media.wav,
            "audio/3-100210-A-36.wav": media.half(media.wav),
            "audio/5-101296-B-0.wav": media.wav,
        },
    )

    def fold(number: int) -> tuple[int, ...]:
        return tuple(Role.TEST if one == number else Role.TRAIN for one in range(1, 6))

    return Layout(
        "esc50",
        root,
        kept={
            "full": {
                "audio/1-100032-A-0.wav": (("dog",), fold(1)),
                "audio/2-100038-A-14.wav": (("chirping_birds",), fold(2)),
                "audio/5-101296-B-0.wav": (("dog",), fold(5)),
            }
        },
        left_out={
            "audio/3-100210-A-36.wav": containers.TRUNCATED,
            "meta/esc50.csv:5": listing.UNREADABLE,
            "4-101296-A-36.wav": listing.MISSING,
        },
        class_names=("dog", "chirping_birds", "vacuum_cleaner"),
        partitions=("1", "2", "3", "4", "5"),
    )


def fsd50k(root: pathlib.Path, media: Media) -> Layout:
    """Sound files with several classes each."""
    truth = "FSD50K.ground_truth"
    write(
        root,
        {
            f"{truth}/vocabulary.csv": "0,Accordion,/m/0mkg\n1,Bark,/m/05tny_\n2,Music,/m/04rlf\n",
            f"{truth}/dev.csv": (
                "fname,labels,mids,split\n"
                '64760,"Accordion,Music","/m/0mkg,/m/04rlf",train\n'
                "16399,Bark,/m/05tny_,train\n"
                "16401,Bark,/m/05tny_,val\n"
                "16402,Bark,/m/05tny_,perhaps\n"
                "16403,Bark and bite,/m/05tny_,train\n"
            ),
            f"{truth}/eval.csv": (
                'fname,labels,mids\n64760,"Bark,Accordion","/m/05tny_,/m/0mkg"\n37199,Bark,/m/x\n'
            ),
            "FSD50K.dev_audio/64760.wav": media.wav,
            "FSD50K.dev_audio/16399.wav": b"",
            "FSD50K.dev_audio/16401.wav": media.wav,
            "FSD50K.eval_audio/64760.wav": media.wav,
        },
    )
    return Layout(
        "fsd50k",
        root,
        kept={
            "train": {"FSD50K.dev_audio/64760.wav": (("Accordion", "Music"), ())},
            "val": {"FSD50K.dev_audio/16401.wav": (("Bark",), ())},
            "test": {"FSD50K.eval_audio/64760.wav": (("Accordion", "Bark"), ())},
        },
        left_out={
            "FSD50K.dev_audio/16399.wav": containers.EMPTY,
            f"{truth}/dev.csv:5": listing.UNREADABLE,
            f"{truth}/dev.csv:6": listing.UNREADABLE,
            "FSD50K.eval_audio/37199.wav": listing.MISSING,
        },
        class_names=("Accordion", "Bark", "Music"),
    )

"""Miniatures of the published data sets, with their folders, annotations and broken files."""

import dataclasses
import pathlib
import shutil

from input_pipeline.datasets import listing
from input_pipeline.media import containers
from input_pipeline.prepared.records import Role
from tests import media_files


@dataclasses.dataclass
class Layout:
    """A data set on disk, and the expected listing.

    Attributes:
        dataset: Name of the data set in `python -m input_pipeline.prepare`.
        root: Folder of the data set.
        kept: Names of the classes and roles of each usable recording, by split and path.
        left_out: Reason by name for each recording that is left out.
        class_names: Names of the classes in the order of their indices.
        partitions: Names of the official partitions.
    """

    dataset: str
    root: pathlib.Path
    kept: dict[str, dict[str, tuple[tuple[str, ...], tuple[int, ...]]]]
    left_out: dict[str, str]
    class_names: tuple[str, ...]
    partitions: tuple[str, ...] = ()


class Media:
    """Media files of 1.5 s for the data sets, whole and broken ones. Each is made once."""

    def __init__(self, folder: pathlib.Path) -> None:
        def make(name: str, **form: object) -> bytes:
            return media_files.write_media(folder / name, 1.5, **form).read_bytes()

        avi = {"video_codec": "mpeg4", "audio_codec": "libmp3lame"}
        wav = {"video_codec": None, "audio_codec": "pcm_s16le", "layout": "mono"}
        self.mp4 = make("a.mp4")
        self.silent_mp4 = make("silent.mp4", audio_codec=None)
        self.sound_mp4 = make("sound.mp4", video_codec=None)
        self.avi = make("a.avi", **avi)
        self.silent_avi = make("silent.avi", **(avi | {"audio_codec": None}))
        self.wav = make("a.wav", **wav)

    @staticmethod
    def half(data: bytes) -> bytes:
        """Returns the first half of a file."""
        return data[: len(data) // 2]


def _write(root: pathlib.Path, files: dict[str, bytes | str]) -> None:
    """Writes files by their relative paths."""
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content if isinstance(content, bytes) else content.encode())


def kinetics400_folders(root: pathlib.Path, media: Media) -> Layout:
    """`<split>/<class>/<files>`, classes with underscores or spaces; test split without classes."""
    _write(
        root,
        {
            "train/playing_guitar/-3B32lodO_M_000059_000069.mp4": media.mp4,
            "train/playing guitar/abcdefghij0_000000_000010.mp4": media.silent_mp4,
            "train/petting_animal_(not_cat)/abcdefghij1_000001_000011.mp4": media.mp4,
            "train/petting_animal_(not_cat)/abcdefghij2_000001_000011.mp4": media.half(media.mp4),
            "val/playing_guitar/abcdefghij3_000001_000011.mp4": media.mp4,
            "val/playing_guitar/abcdefghij4_000001_000011.mp4": b"",
            "test/abcdefghij5_000001_000011.mp4": media.mp4,
            "train/playing_guitar/._abcdefghij0_000000_000010.mp4": b"of a file manager",
        },
    )
    guitar, animal = (("playing guitar",), ()), (("petting animal (not cat)",), ())
    return Layout(
        "kinetics400",
        root,
        kept={
            "train": {
                "train/playing_guitar/-3B32lodO_M_000059_000069.mp4": guitar,
                "train/playing guitar/abcdefghij0_000000_000010.mp4": guitar,
                "train/petting_animal_(not_cat)/abcdefghij1_000001_000011.mp4": animal,
            },
            "val": {"val/playing_guitar/abcdefghij3_000001_000011.mp4": guitar},
        },
        left_out={
            "train/petting_animal_(not_cat)/abcdefghij2_000001_000011.mp4": containers.TRUNCATED,
            "val/playing_guitar/abcdefghij4_000001_000011.mp4": containers.EMPTY,
            "test/abcdefghij5_000001_000011.mp4": listing.NOT_LISTED,
        },
        class_names=("petting animal (not cat)", "playing guitar"),
    )


def kinetics400_flat(root: pathlib.Path, media: Media) -> Layout:
    """Files in one folder, and CSV files; repaired files in a folder of replacements."""
    _write(
        root,
        {
            "annotations/train.csv": (
                "label,youtube_id,time_start,time_end,split,is_cc\n"
                '"playing bagpipes",-3B32lodO_M,59,69,train,0\n'
                "yoga,_dbcJuKJQN0,40,50,train,0\n"
                "yoga,_dbcJuKJQN0,40,50,train,0\n"
                "yoga,abcdefghij1,1,11,train,0\n"
                "yoga,abcdefghij2,1,11,train,0\n"
                "yoga,abcd,1,11,train,0\n"
                "yoga,abcdefghij3,soon,later,train,0\n"
                "yoga,abcdefghij7,1.5,11.5,train,0\n"
                "yoga,abcdefghij8,2.0,12.25,train,0\n"
            ),
            "annotations/validate.csv": (
                "label,youtube_id,time_start,time_end,split\nyoga,abcdefghij4,10,20,validate\n"
            ),
            "annotations/test.csv": (
                "youtube_id,time_start,time_end,split\nabcdefghij5,110,120,test\n"
            ),
            "train/-3B32lodO_M_000059_000069.mp4": media.mp4,
            "train/_dbcJuKJQN0_000040_000050.mp4": media.half(media.mp4),
            "replacement/_dbcJuKJQN0_000040_000050.mp4": media.mp4,
            "train/abcdefghij2_000001_000011.mp4": media.sound_mp4,
            "train/abcdefghij7_1.5_11.5.mp4": media.mp4,
            "val/abcdefghij4_000010_000020.mp4": media.silent_mp4,
            "test/abcdefghij5_000110_000120.mp4": media.mp4,
            "test/abcdefghij6_000110_000120.mp4": media.mp4,
        },
    )
    return Layout(
        "kinetics400",
        root,
        kept={
            "train": {
                "train/-3B32lodO_M_000059_000069.mp4": (("playing bagpipes",), ()),
                "replacement/_dbcJuKJQN0_000040_000050.mp4": (("yoga",), ()),
                "train/abcdefghij7_1.5_11.5.mp4": (("yoga",), ()),
            },
            "val": {"val/abcdefghij4_000010_000020.mp4": (("yoga",), ())},
            "test": {"test/abcdefghij5_000110_000120.mp4": ((), ())},
        },
        left_out={
            "train/_dbcJuKJQN0_000040_000050.mp4": listing.DUPLICATE,
            "train/_dbcJuKJQN0_000040_000050": listing.TWICE,
            "train/abcdefghij1_000001_000011": listing.MISSING,
            "train/abcdefghij8_000002_000012.25": listing.MISSING,
            "train/abcdefghij2_000001_000011.mp4": containers.NO_PICTURE,
            "annotations/train.csv:7": listing.UNREADABLE,
            "annotations/train.csv:8": listing.UNREADABLE,
            "test/abcdefghij6_000110_000120.mp4": listing.NOT_LISTED,
        },
        class_names=("playing bagpipes", "yoga"),
    )


def kinetics_sound(root: pathlib.Path, media: Media) -> Layout:
    """Files of Kinetics400, most of which belong to other classes."""
    _write(
        root,
        {
            "train/tapping_pen/abcdefghij0_000001_000011.mp4": media.mp4,
            "train/yoga/abcdefghij1_000001_000011.mp4": media.mp4,
            "train/tickling/abcdefghij2_000001_000011.mp4": b"<html>not found</html>",
            "val/tapping_pen/abcdefghij3_000001_000011.mp4": media.mp4,
            "val/zumba/abcdefghij4_000001_000011.mp4": b"",
        },
    )
    from input_pipeline.datasets.kinetics import KINETICS_SOUND

    pen = (("tapping pen",), ())
    return Layout(
        "kinetics_sound",
        root,
        kept={
            "train": {"train/tapping_pen/abcdefghij0_000001_000011.mp4": pen},
            "val": {"val/tapping_pen/abcdefghij3_000001_000011.mp4": pen},
        },
        left_out={"train/tickling/abcdefghij2_000001_000011.mp4": containers.UNREADABLE},
        class_names=tuple(sorted(KINETICS_SOUND)),
    )


def audioset(root: pathlib.Path, media: Media) -> Layout:
    """CSV files with comments, and files named with seconds, milliseconds or the video alone."""
    head = (
        "# Segments csv created Sun Mar  5 10:54:31 2017\n"
        "# num_ytids=4, num_segs=4, num_unique_labels=527, num_positive_labels=9\n"
        "# YTID, start_seconds, end_seconds, positive_labels\n"
    )
    _write(
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


def ucf101(root: pathlib.Path, media: Media) -> Layout:
    """Three lists each for training and testing; half of the files have no sound."""
    videos = "UCF-101"
    lists = "ucfTrainTestlist"
    _write(
        root,
        {
            f"{videos}/Archery/v_Archery_g01_c01.avi": media.silent_avi,
            f"{videos}/Archery/v_Archery_g02_c01.avi": media.avi,
            f"{videos}/HandstandPushups/v_HandStandPushups_g01_c01.avi": media.avi,
            f"{videos}/HandstandPushups/v_HandStandPushups_g02_c01.avi": b"RIFF",
            f"{videos}/HandstandPushups/v_HandStandPushups_g09_c01.avi": media.avi,
            f"{lists}/classInd.txt": "1 HandstandPushups\n2 Archery\n",
            f"{lists}/trainlist01.txt": (
                "Archery/v_Archery_g01_c01.avi 2\r\n"
                "HandstandPushups/v_HandStandPushups_g01_c01.avi 1\r\n"
                "HandstandPushups/v_HandStandPushups_g02_c01.avi 1\r\n"
            ),
            f"{lists}/testlist01.txt": "Archery/v_Archery_g02_c01.avi\nnonsense\n",
            f"{lists}/trainlist02.txt": (
                "Archery/v_Archery_g02_c01.avi 2\n"
                "HandStandPushups/v_HandStandPushups_g01_c01.avi 1\n"
            ),
            f"{lists}/testlist02.txt": "Archery/v_Archery_g01_c01.avi\n",
            f"{lists}/trainlist03.txt": "Archery/v_Archery_g01_c01.avi 2\n",
            f"{lists}/testlist03.txt": (
                "Archery/v_Archery_g02_c01.avi\nArchery/v_Archery_g03_c01.avi\n"
                "HandstandPushups/v_HandStandPushups_g01_c01.avi\n"
            ),
        },
    )
    train, test = Role.TRAIN, Role.TEST
    handstand = f"{videos}/HandstandPushups/v_HandStandPushups"
    return Layout(
        "ucf101",
        root,
        kept={
            "full": {
                f"{videos}/Archery/v_Archery_g01_c01.avi": (("Archery",), (train, test, train)),
                f"{videos}/Archery/v_Archery_g02_c01.avi": (("Archery",), (test, train, test)),
                f"{handstand}_g01_c01.avi": (("HandstandPushups",), (train, train, test)),
            }
        },
        left_out={
            f"{handstand}_g02_c01.avi": containers.UNREADABLE,
            f"{handstand}_g09_c01.avi": listing.NOT_LISTED,
            f"{lists}/testlist01.txt:2": listing.UNREADABLE,
            "Archery/v_Archery_g03_c01.avi": listing.MISSING,
        },
        class_names=("HandstandPushups", "Archery"),
        partitions=("1", "2", "3"),
    )


def hmdb51(root: pathlib.Path, media: Media) -> Layout:
    """One list for each class and partition; file names with unusual characters."""
    lists = "testTrainMulti_7030_splits"
    odd = "#20_Rhythm_clap_u_nm_np1_fr_goo_0 (1)&;[x]"
    _write(
        root,
        {
            f"clap/{odd}.avi": media.avi,
            "clap/plain_clap_0.avi": media.silent_avi,
            "clap/never_clap_0.avi": media.avi,
            "brush_hair/brush_hair/plain_clap_0.avi": media.avi,
            "brush_hair/broken_0.avi": media.half(media.avi),
            f"{lists}/clap_test_split1.txt": (
                f"{odd}.avi 1 \nplain_clap_0.avi 2 \nnever_clap_0.avi 0 \nwhat.avi 7 \n"
            ),
            f"{lists}/clap_test_split2.txt": f"{odd}.avi 2 \nplain_clap_0.avi 0 \n",
            f"{lists}/clap_test_split3.txt": f"{odd}.avi 0 \nplain_clap_0.avi 1 \n",
            f"{lists}/brush_hair_test_split1.txt": "plain_clap_0.avi 1\nbroken_0.avi 2\n",
            f"{lists}/brush_hair_test_split2.txt": "plain_clap_0.avi 1\ngone.avi 2\n",
        },
    )
    clap, brush = ("clap",), ("brush_hair",)
    return Layout(
        "hmdb51",
        root,
        kept={
            "full": {
                f"clap/{odd}.avi": (clap, (Role.TRAIN, Role.TEST, Role.UNUSED)),
                "clap/plain_clap_0.avi": (clap, (Role.TEST, Role.UNUSED, Role.TRAIN)),
                "clap/never_clap_0.avi": (clap, (Role.UNUSED,) * 3),
                "brush_hair/brush_hair/plain_clap_0.avi": (
                    brush,
                    (Role.TRAIN, Role.TRAIN, Role.UNUSED),
                ),
            }
        },
        left_out={
            f"{lists}/clap_test_split1.txt:4": listing.UNREADABLE,
            "brush_hair/broken_0.avi": containers.TRUNCATED,
            "brush_hair/gone": listing.MISSING,
        },
        class_names=("brush_hair", "clap"),
        partitions=("1", "2", "3"),
    )


def esc50(root: pathlib.Path, media: Media) -> Layout:
    """Sound files in five folds."""
    _write(
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
    _write(
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


def folder(root: pathlib.Path, media: Media) -> Layout:
    """A tree of video and sound files."""
    _write(
        root,
        {
            "train/Bögen & Pfeile/a clip.mp4": media.mp4,
            "train/Bögen & Pfeile/deep/er.avi": media.avi,
            "train/dogs/wav.wav": media.wav,
            "test/dogs/b.mov": media.mp4,
            "test/cats/empty.mov": b"",
            "readme.txt": "hello",
        },
    )
    archery, dogs = (("Bögen & Pfeile",), ()), (("dogs",), ())
    return Layout(
        "folder",
        root,
        kept={
            "train": {
                "train/Bögen & Pfeile/a clip.mp4": archery,
                "train/Bögen & Pfeile/deep/er.avi": archery,
            },
            "test": {"test/dogs/b.mov": dogs},
        },
        left_out={
            "train/dogs/wav.wav": containers.NO_PICTURE,
            "test/cats/empty.mov": containers.EMPTY,
        },
        class_names=("Bögen & Pfeile", "cats", "dogs"),
    )


def copy_of(layout: Layout, root: pathlib.Path) -> Layout:
    """Copies a data set to another folder."""
    shutil.copytree(layout.root, root)
    return dataclasses.replace(layout, root=root)


ALL = (
    *(kinetics400_folders, kinetics400_flat, kinetics_sound, audioset, ucf101, hmdb51),
    *(esc50, fsd50k, folder),
)

"""Miniatures of the data sets of videos, with their annotations and broken files."""

import json
import pathlib

from input_pipeline.datasets import listing
from input_pipeline.media import containers
from input_pipeline.prepared.records import Role
from tests.input_pipeline.layouts.miniature import Layout, Media, write


def kinetics400_folders(root: pathlib.Path, media: Media) -> Layout:
    """`<split>/<class>/<files>`, classes with underscores or spaces; test split without classes."""
    write(
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
    write(
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


def kinetics700(root: pathlib.Path, media: Media) -> Layout:
    """Files in the folders of the splits, and CSV files with all columns, as of 2020."""
    head = "label,youtube_id,time_start,time_end,split\n"
    write(
        root,
        {
            "annotations/train.csv": (
                f'{head}"sword swallowing",-3B32lodO_M,59,69,train\n'
                '"tossing salad",abcdefghij0,0,10,train\n'
            ),
            "annotations/val.csv": f'{head}"tossing salad",abcdefghij1,1,11,val\n',
            "annotations/test.csv": "youtube_id,time_start,time_end,split\nabcdefghij2,1,11,test\n",
            "train/-3B32lodO_M_000059_000069.mp4": media.mp4,
            "train/abcdefghij0_000000_000010.mp4": media.half(media.mp4),
            "val/abcdefghij1_000001_000011.mp4": media.silent_mp4,
            "test/abcdefghij2_000001_000011.mp4": media.mp4,
        },
    )
    return Layout(
        "kinetics700",
        root,
        kept={
            "train": {"train/-3B32lodO_M_000059_000069.mp4": (("sword swallowing",), ())},
            "val": {"val/abcdefghij1_000001_000011.mp4": (("tossing salad",), ())},
            "test": {"test/abcdefghij2_000001_000011.mp4": ((), ())},
        },
        left_out={"train/abcdefghij0_000000_000010.mp4": containers.TRUNCATED},
        class_names=("sword swallowing", "tossing salad"),
    )


def kinetics_sound(root: pathlib.Path, media: Media) -> Layout:
    """Files of Kinetics400, most of which belong to other classes."""
    write(
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


def something_something(root: pathlib.Path, media: Media) -> Layout:
    """Videos without sound, called by numbers, and JSON files; test split without classes."""
    videos = "20bn-something-something-v2"

    def item(video: object, template: str | None) -> dict[str, object]:
        if template is None:
            return {"id": video}
        label = template.replace("[something]", "a cup").replace("[", "").replace("]", "").lower()
        return {"id": video, "label": label, "template": template, "placeholders": ["a cup"]}

    holding, pushing = "Holding [something]", "Pushing [something] so that it [doesn't] fall"
    train = [item("78687", holding), item("42326", pushing), item("100904", pushing)]
    train += [item("3", holding), item("78687", holding), item("4", "Eating [something]")]
    train += [item("", holding), "nonsense", item(["5"], holding)]
    write(
        root,
        {
            "labels/labels.json": json.dumps(
                {"Pushing something so that it doesn't fall": "1", "Holding something": "0"}
            ),
            "labels/train.json": json.dumps(train),
            "labels/validation.json": json.dumps([item("74225", pushing), item("5", None)]),
            "labels/test.json": json.dumps([item("1420", None), item("1421", None)]),
            f"{videos}/78687.webm": media.webm,
            f"{videos}/42326.webm": media.half(media.webm),
            f"{videos}/100904.mp4": media.silent_mp4,  # converted
            f"{videos}/74225.webm": media.webm,
            f"{videos}/1420.webm": media.webm,
            f"{videos}/1421.webm": b"",
            f"{videos}/9.webm": media.webm,
        },
    )
    holds, pushes = (
        (("Holding something",), ()),
        (("Pushing something so that it doesn't fall",), ()),
    )
    return Layout(
        "something_something",
        root,
        kept={
            "train": {f"{videos}/78687.webm": holds, f"{videos}/100904.mp4": pushes},
            "val": {f"{videos}/74225.webm": pushes},
            "test": {f"{videos}/1420.webm": ((), ())},
        },
        left_out={
            f"{videos}/42326.webm": containers.TRUNCATED,
            "3": listing.MISSING,
            "78687": listing.TWICE,
            **{f"labels/train.json[{place}]": listing.UNREADABLE for place in (5, 6, 7, 8)},
            "labels/validation.json[1]": listing.UNREADABLE,
            f"{videos}/1421.webm": containers.EMPTY,
            f"{videos}/9.webm": listing.NOT_LISTED,
        },
        class_names=("Holding something", "Pushing something so that it doesn't fall"),
    )


def ucf101(root: pathlib.Path, media: Media) -> Layout:
    """Three lists each for training and testing; half of the files have no sound."""
    videos = "UCF-101"
    lists = "ucfTrainTestlist"
    write(
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
    write(
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


def folder(root: pathlib.Path, media: Media) -> Layout:
    """A tree of video and sound files."""
    write(
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

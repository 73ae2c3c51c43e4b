"""UCF101: `<class>/*.avi` and `ucfTrainTestlist/{train,test}list0{1,2,3}.txt` with `classInd.txt`.

A line of a list is `<class>/<file> <number of the class>`, in the test lists without the number.
"""

import collections
import pathlib
import re

from input_pipeline.datasets import listing
from input_pipeline.records import Role

_LIST = r"(train|test)list0*([1-9]\d*)\.txt"
_LINE = re.compile(r"(.*?)(?:\s+(\d+))?", re.DOTALL)  # names of files may have spaces


def recordings(root: pathlib.Path) -> listing.Listing:
    """Lists the recordings.

    Args:
        root: The folder, all below which is looked through.

    Returns:
        One split, and a partition for each number of the lists.

    Raises:
        ValueError: There are no lists.
    """
    source = listing.Source(root)
    lists = source.annotations(_LIST)
    if not lists:
        raise ValueError("no ucfTrainTestlist/trainlist01.txt or the like")
    class_names, stated = _class_names(source)
    numbers = {name.casefold(): number for number, name in enumerate(class_names)}
    matches = {path: re.fullmatch(_LIST, path.rpartition("/")[2], re.I) for path in lists}
    partitions = sorted({int(match[2]) for match in matches.values()})
    # By the name without the extension, for many have converted the files.
    lister = listing.Lister(source, lambda path: [listing.stem(path).casefold()])
    roles: dict[str, list[int]] = collections.defaultdict(lambda: [Role.UNUSED] * len(partitions))
    named: dict[str, tuple[str, int]] = {}  # the name in the lists, and the class
    contradictions = []  # places where the number is another class's than the name
    for path, match in matches.items():
        role = Role.TRAIN if match[1].lower() == "train" else Role.TEST
        place = partitions.index(int(match[2]))
        for line, text in source.lines(path):
            name, number = _LINE.fullmatch(text).groups()
            label = numbers.get(name.partition("/")[0].casefold())
            if label is None or not listing.stem(name):
                lister.leave_out(listing.FULL, f"{path}:{line}", listing.UNREADABLE)
                continue
            if number and stated and int(number) != stated[label]:
                contradictions.append(f"{path}:{line}")
            key = listing.stem(name).casefold()
            if roles[key][place]:
                lister.leave_out(listing.FULL, f"{path}:{line}", listing.TWICE)
                continue
            roles[key][place] = role
            named.setdefault(key, (name, label))
    for key, (name, label) in named.items():
        lister.add(listing.FULL, key, name, [label], roles[key])
    if contradictions:
        lister.note(
            f"{len(contradictions)} lines name a class and give the number of another, such as "
            f"{contradictions[0]}: they are taken by the name"
        )
    return lister.listing(class_names, [str(number) for number in partitions])


def _class_names(source: listing.Source) -> tuple[list[str], list[int]]:
    """The classes as classInd.txt numbers them, with these numbers.

    For want of it, the folders of files, sorted; and no numbers.
    """
    for path in source.annotations(r"classInd\.txt"):
        rows = [text.split(maxsplit=1) for _, text in source.lines(path)]
        rows = [row for row in rows if len(row) == 2 and row[0].isdigit()]
        numbered = sorted((int(number), name) for number, name in rows)
        return [name for _, name in numbered], [number for number, _ in numbered]
    return sorted({path.split("/")[-2] for path in source.media if "/" in path}), []

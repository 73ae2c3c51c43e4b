"""UCF101: `<class>/*.avi` and `ucfTrainTestlist/{train,test}list0{1,2,3}.txt` with `classInd.txt`.

A line of a training list is `<class>/<file> <number of the class>`; test lists omit the number.
"""

import collections
import pathlib
import re

from input_pipeline.datasets import listing, source_files
from input_pipeline.prepared.records import Role
from input_pipeline.programs.wording import counted

_LIST = r"(train|test)list0*([1-9]\d*)\.txt"
_LINE = re.compile(r"(.*?)(?:\s+(\d+))?", re.DOTALL)  # names of files may have spaces


def recordings(root: pathlib.Path) -> listing.Listing:
    """Lists the recordings.

    Args:
        root: Folder of the data set, searched with all its subfolders.

    Returns:
        The listing: one split, and a partition for each number in the lists' names.

    Raises:
        ValueError: There are no lists.
    """
    source = source_files.Source(root)
    lists = source.annotations(_LIST)
    if not lists:
        raise ValueError("no ucfTrainTestlist/trainlist01.txt or the like")
    class_names, stated = _class_names(source)
    numbers = {name.casefold(): number for number, name in enumerate(class_names)}
    matches = {path: re.fullmatch(_LIST, path.rpartition("/")[2], re.I) for path in lists}
    partitions = sorted({int(match[2]) for match in matches.values()})
    # Files are matched without their extension, because many people have converted them.
    lister = listing.Lister(source, lambda path: [source_files.stem(path).casefold()])
    roles: dict[str, list[int]] = collections.defaultdict(lambda: [Role.UNUSED] * len(partitions))
    named: dict[str, tuple[str, int]] = {}  # key -> (name in the lists, index of the class)
    contradictions = []  # lines whose number belongs to another class than their name
    for path, match in matches.items():
        role = Role.TRAIN if match[1].lower() == "train" else Role.TEST
        place = partitions.index(int(match[2]))
        for line, text in source.lines(path):
            name, number = _LINE.fullmatch(text).groups()
            label = numbers.get(name.partition("/")[0].casefold())
            if label is None or not source_files.stem(name):
                lister.leave_out(listing.FULL, f"{path}:{line}", listing.UNREADABLE)
                continue
            if number and stated and int(number) != stated[label]:
                contradictions.append(f"{path}:{line}")
            key = source_files.stem(name).casefold()
            if roles[key][place]:
                lister.leave_out(listing.FULL, f"{path}:{line}", listing.TWICE)
                continue
            roles[key][place] = role
            named.setdefault(key, (name, label))
    for key, (name, label) in named.items():
        lister.add(listing.FULL, key, name, [label], roles[key])
    if contradictions:
        lister.note(
            f"{counted(len(contradictions), 'line')} with a class's name and another class's "
            f"number, such as {contradictions[0]}; the name is used"
        )
    return lister.listing(class_names, [str(number) for number in partitions])


def _class_names(source: source_files.Source) -> tuple[list[str], list[int]]:
    """Returns the classes in the order of classInd.txt, and their numbers there.

    Without that file, the classes are the sorted folder names, and there are no numbers.
    """
    for path in source.annotations(r"classInd\.txt"):
        rows = [text.split(maxsplit=1) for _, text in source.lines(path)]
        rows = [row for row in rows if len(row) == 2 and row[0].isdigit()]
        numbered = sorted((int(number), name) for number, name in rows)
        return [name for _, name in numbered], [number for number, _ in numbered]
    return sorted({path.split("/")[-2] for path in source.media if "/" in path}), []

#!/usr/bin/env bash
# Shows what is learned from recordings that nobody made for it, of speech in fifteen languages.
# A small model is pretrained on spoken letters, on sound alone and without labels. Then classifiers
# of languages learn from the letters' features and are tested on those of spoken syllables.
#
#   bash launch/real_sound.sh [CHECKPOINT] [flags of the comparison, such as --workdir=OUT]
#
# With CHECKPOINT (a run, one of its checkpoints, or an export, such as runs/demo) nothing is
# pretrained, and its features are compared. The recordings are those of KLettres, a program of KDE
# (https://apps.kde.org/klettres), under the GNU General Public License, version 2 or later. They
# come from Debian's package klettres-data, which is downloaded by apt-get (40 MB) but not
# installed. So no rights are needed, but the lists of `apt-get update` are.
# The same command again reuses data/klettres, data/klettres_prepared, the run in runs/klettres and
# the extracted features.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PACKAGE=klettres-data
LEAST=20 # languages with fewer letters or syllables are left out
MOST=100 # syllables of a language, so that none outweighs the others

usage() { sed -n '2,14s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }
fail() {
    echo "error: $1" >&2
    exit 1
}

checkpoint=""
case "${1:-}" in
    -h | --help) usage && exit 0 ;;
    -* | "") ;;
    *) checkpoint="$1" && shift ;;
esac
[[ -z "$checkpoint" || -e "$checkpoint" || "$checkpoint" == *://* ]] ||
    fail "the checkpoint is '$checkpoint', which does not exist; bash launch/demo.sh makes runs/demo"

# Downloads the package and unpacks it into folder $1, without installing it.
fetch() {
    local tool said
    for tool in apt-get dpkg-deb; do
        command -v "$tool" >/dev/null ||
            fail "$tool is not on this machine; allowed: a system with Debian's packages"
    done
    echo "Downloading $PACKAGE"
    said="$(cd "$1" && apt-get download "$PACKAGE" 2>&1)" ||
        fail "apt-get cannot download $PACKAGE ($(tail -n 1 <<<"$said")); try again after 'apt-get update'"
    dpkg-deb -x "$1/$PACKAGE"_*.deb "$1"
}

# Moves the letters and syllables of each language in folder $1 to {train,test}/LANGUAGE in $2.
lay_out() {
    local LC_ALL=C # sorts the files alike on all machines
    local folder language letters syllables
    for folder in "$1"/*/; do
        language="$(basename "$folder")"
        letters=("$folder"alpha/*.ogg) syllables=("$folder"syllab/*.ogg)
        if ((${#letters[@]} >= LEAST && ${#syllables[@]} >= LEAST)); then
            mkdir -p "$2"/{train,test}/"$language"
            mv "${letters[@]}" "$2/train/$language"
            spread "${syllables[@]}" | xargs -d '\n' mv -t "$2/test/$language"
        elif ((${#letters[@]} + ${#syllables[@]})); then # no folder of pictures
            echo "Left out $language, which has ${#letters[@]} letters and ${#syllables[@]}" \
                "syllables; at least $LEAST of each are needed"
        fi
    done
    [[ -d "$2" ]] || fail "$PACKAGE has no language with at least $LEAST letters and syllables"
}

# Prints the arguments, or $MOST of them, evenly spread.
spread() {
    local i count=$# most=$(($# < MOST ? $# : MOST))
    for ((i = 0; i < count; i++)); do
        if (((i + 1) * most / count > i * most / count)); then echo "$1"; fi
        shift
    done
}

source launch/environment.sh
echo "$XKD_FOUND"
shopt -s nullglob
if [[ ! -d data/klettres ]]; then
    mkdir -p data
    temporary="$(mktemp -d data/klettres-XXXXXX)"
    trap 'rm -rf "$temporary"' EXIT
    fetch "$temporary"
    lay_out "$temporary/usr/share/klettres" "$temporary/klettres"
    mv "$temporary/klettres" data/klettres # complete or not there
fi
echo "Letters to train on and syllables to test on, in data/klettres:"
for folder in data/klettres/train/*/; do
    language="$(basename "$folder")"
    train=("$folder"*) tested=("data/klettres/test/$language"/*)
    printf '  %-6s %3d %3d\n' "$language" "${#train[@]}" "${#tested[@]}"
done

python -m input_pipeline.prepare --dataset=folder --require=sound --source=data/klettres \
    --output=data/klettres_prepared
if [[ -z "$checkpoint" ]]; then
    checkpoint=runs/klettres
    status=0
    python -m xkd_jax.main --config=configs/demo.py --workdir="$checkpoint" \
        --config.data.dataset=prepared --config.data.path=data/klettres_prepared \
        --config.data.require=any --config.steps=3000 || status=$?
    ((status == 0 || status == 3)) || exit "$status" # 3: the run was complete already
fi
python -m xkd_jax.main --config=configs/eval/compare.py --config.checkpoint="$checkpoint" \
    --workdir=runs/klettres_compared --config.data.dataset=prepared --config.data.path=data/klettres_prepared \
    --config.modalities="('audio',)" "$@"

#!/usr/bin/env bash
# Shows what a checkpoint has learned on recordings that nobody made for it: letters and syllables
# spoken in some twenty languages, to be classified by language.
#
#   bash launch/real_sound.sh [CHECKPOINT] [flags of xkd_jax.main, such as --workdir=OUT]
#
# CHECKPOINT (default runs/demo) is a run, one of its checkpoints, or an export. The recordings are
# those of KLettres, a program of KDE (https://apps.kde.org/klettres), under the GNU General Public
# License, version 2 or later. They come from Debian's package klettres-data, which apt-get downloads
# (40 MB) and nothing installs: it needs no rights, and a package list as `apt-get update` makes it.
# The same command again reuses data/klettres, data/klettres_prepared and the extracted features.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PACKAGE=klettres-data
LEAST=25  # languages with fewer recordings are left out
MOST=100  # recordings of a language, so that none outweighs the others
TESTED=5  # each fifth of them is for testing

usage() { sed -n '2,12s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }
fail() {
    echo "error: $1" >&2
    exit 1
}

checkpoint=runs/demo
case "${1:-}" in
    -h | --help) usage && exit 0 ;;
    -* | "") ;;
    *) checkpoint="$1" && shift ;;
esac
[[ -e "$checkpoint" || "$checkpoint" == *://* ]] ||
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

# Moves the recordings LANGUAGE/{alpha,syllab}/*.ogg of folder $1 to {train,test}/LANGUAGE in $2.
lay_out() {
    local LC_ALL=C # sorts the files alike on all machines
    local folder language files count wanted kept split file i
    for folder in "$1"/*/; do
        language="$(basename "$folder")"
        files=("$folder"{alpha,syllab}/*.ogg)
        count=${#files[@]}
        ((count)) || continue # pictures
        if ((count < LEAST)); then
            echo "Left out $language, which has $count recordings; at least $LEAST are needed"
            continue
        fi
        mkdir -p "$2"/{train,test}/"$language"
        wanted=$((count < MOST ? count : MOST)) kept=0
        for ((i = 0; i < count; i++)); do
            # Takes as many as are wanted, evenly spread.
            (((i + 1) * wanted / count > i * wanted / count)) || continue
            if ((++kept % TESTED)); then split=train; else split="test"; fi
            file="${files[i]#"$folder"}"
            mv "${files[i]}" "$2/$split/$language/${file/\//-}" # such as alpha-a-1.ogg
        done
    done
    [[ -d "$2" ]] || fail "$PACKAGE has no language with at least $LEAST recordings in share/klettres"
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
echo "Recordings in data/klettres, to train on and to test on:"
for folder in data/klettres/train/*/; do
    language="$(basename "$folder")"
    train=("$folder"*) tested=("data/klettres/test/$language"/*)
    printf '  %-6s %3d %3d\n' "$language" "${#train[@]}" "${#tested[@]}"
done

python -m input_pipeline.prepare --dataset=folder --require=sound --source=data/klettres \
    --output=data/klettres_prepared
python -m xkd_jax.main --config=configs/eval/compare.py --config.checkpoint="$checkpoint" \
    --workdir=runs/klettres --config.data.dataset=prepared --config.data.path=data/klettres_prepared \
    --config.modalities="('audio',)" "$@"

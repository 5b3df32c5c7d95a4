#!/usr/bin/env bash
# Makes the real input of the stories: a package archive in two states, with an ISO image and a heavy file.
#
#   .ci/e2e/make-archive.sh [CACHE]
#
# It leaves CACHE/v1 and CACHE/v2, two trees that share what did not change as hard links, so nobody may write
# into their files: copy them first. Some 350 packages come with apt from the machine's own package lists; those that
# the lists know in two versions are the ones that v2 replaces, so the change is one that really happened. A cache
# that is complete is left as it is; a half made one is finished; two runs at once wait for each other.
set -euo pipefail

cache=${1:-${E2E_CACHE:-${TMPDIR:-/tmp}/swarmnode-e2e-cache}}
same_wanted=310 # packages that stay
new_wanted=40   # packages that v2 replaces
least=300       # fewer than this is a failure
heavy_bytes=$((540 << 20))
made="made-1" # the name of the stamp: raise it when this script changes what it makes

mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
exec 9>"$cache/lock"
flock 9
if [[ -e $cache/$made ]]; then
  cat "$cache/$made"
  exit 0
fi
rm -rf "$cache/v1" "$cache/v2" "$cache"/made-*
mkdir -p "$cache/debs"

# packages prints "name version size pool-path", tab separated, for every package file that apt's lists know.
packages() {
  # shellcheck disable=SC2016 # apt expands it, not the shell
  apt-get indextargets --format '$(FILENAME)' 'Created-By: Packages' | while IFS= read -r list; do
    /usr/lib/apt/apt-helper cat-file "$list"
    echo
  done | awk -v RS= '{
    p = v = f = ""; s = 0; n = split($0, line, "\n")
    for (i = 1; i <= n; i++) {
      if (line[i] ~ /^Package: /) p = substr(line[i], 10)
      else if (line[i] ~ /^Version: /) v = substr(line[i], 10)
      else if (line[i] ~ /^Size: /) s = substr(line[i], 7) + 0
      else if (line[i] ~ /^Filename: /) f = substr(line[i], 11)
    }
    sub(/^pool\/updates\//, "pool/", f)
    if (f != "" && f !~ /\/linux\//) printf "%s\t%s\t%d\t%s\n", p, v, s, f
  }' | LC_ALL=C sort -u
}

# choose writes debs.tsv: "state name version pool-path" with the states same, old and new.
choose() {
  packages >"$cache/all.tsv"
  # The replaced ones: known in two versions with different pool paths; three sizes, so that packages of more than one
  # chunk are among them. dpkg says which version is the newer.
  awk -F'\t' '$1 != p { p = $1; n = 0 } { n++; row[n] = $0; if (n == 2 && $3 > 20000 && $3 < 3000000) print row[1] "\t" row[2] }' \
    "$cache/all.tsv" | awk -F'\t' '$2 != $6 && $4 != $8' >"$cache/twice.tsv"
  every_nth "$new_wanted" <"$cache/twice.tsv" | while IFS=$'\t' read -r p v1 _ f1 _ v2 _ f2; do
    if dpkg --compare-versions "$v1" lt "$v2"; then
      printf 'old\t%s\t%s\t%s\nnew\t%s\t%s\t%s\n' "$p" "$v1" "$f1" "$p" "$v2" "$f2"
    else
      printf 'old\t%s\t%s\t%s\nnew\t%s\t%s\t%s\n' "$p" "$v2" "$f2" "$p" "$v1" "$f1"
    fi
  done >"$cache/debs.tsv"
  awk -F'\t' '{ n[$1]++; row[$1] = $0 } END { for (p in n) if (n[p] == 1) print row[p] }' "$cache/all.tsv" |
    LC_ALL=C sort | awk -F'\t' '$3 > 20000 && $3 < 300000' | every_nth "$same_wanted" |
    awk -F'\t' '{ printf "same\t%s\t%s\t%s\n", $1, $2, $4 }' >>"$cache/debs.tsv"
}

# every_nth prints about $1 lines of its input, evenly spread.
every_nth() {
  local lines
  lines=$(mktemp)
  cat >"$lines"
  awk -v want="$1" -v have="$(wc -l <"$lines")" 'int((NR - 1) * want / have) != int(NR * want / have)' "$lines"
  rm -f "$lines"
}

# deb gives the name under which apt-get download leaves the package of a line of debs.tsv.
deb() {
  local version=$1 path=$2 base
  base=${path##*/}
  printf '%s_%s_%s' "${base%%_*}" "${version//:/%3a}" "${base##*_}"
}

download() {
  local state p v f wanted=()
  while IFS=$'\t' read -r state p v f; do
    [[ -s $cache/debs/$(deb "$v" "$f") ]] || wanted+=("$p=$v")
  done <"$cache/debs.tsv"
  ((${#wanted[@]})) || return 0
  echo "make-archive: downloading ${#wanted[@]} packages" >&2
  # A version that has left the mirror fails the call but not the others; what is here is counted afterwards.
  (cd "$cache/debs" && printf '%s\n' "${wanted[@]}" |
    xargs -n 100 apt-get -q -o Acquire::Retries=3 -o APT::Sandbox::User=root download) >"$cache/download.log" 2>&1 || true
}

# place puts the packages of the given states into the pool of a tree.
place() {
  local tree=$1 state p v f file
  shift
  while IFS=$'\t' read -r state p v f; do
    file=$cache/debs/$(deb "$v" "$f")
    [[ " $* " == *" $state "* && -s $file ]] || continue
    mkdir -p "$tree/${f%/*}"
    ln -f "$file" "$tree/$f"
  done <"$cache/debs.tsv"
}

indexes() {
  local tree=$1 dir=dists/stable/main/binary-amd64
  mkdir -p "$tree/$dir"
  (
    cd "$tree"
    apt-ftparchive --db "$cache/ftparchive.db" packages pool >"$dir/Packages"
    gzip -9nk "$dir/Packages"
    xz -k "$dir/Packages"
    apt-ftparchive -o APT::FTPArchive::Release::Suite=stable -o APT::FTPArchive::Release::Codename=stable \
      -o APT::FTPArchive::Release::Components=main -o APT::FTPArchive::Release::Architectures=amd64 \
      release dists/stable >"$cache/Release"
    mv "$cache/Release" dists/stable/Release
    ln -sfn stable dists/current
  ) 2>>"$cache/download.log"
}

# image writes an installer-like ISO with the indexes and most of the packages of a tree. xorriso puts files in the
# order of their sorted paths, so two images differ where their packages do, as two point releases of an image do.
image() {
  local tree=$1 out=$2
  SOURCE_DATE_EPOCH=1700000000 xorriso -as mkisofs -quiet -r -J -joliet-long -V SWARM \
    -graft-points -o "$out" "/dists=$tree/dists" "/pool/main=$tree/pool/main" >>"$cache/download.log" 2>&1
}

# heavy writes the file of over 512 MiB: a stream cipher's bytes, with stretches that compress well.
heavy() {
  local out=$1 part=$((heavy_bytes / 4))
  {
    noise 01 $((3 * part - (16 << 20)))
    yes 'a line of a log file that repeats itself, as sparse images and databases do' | head -c $((16 << 20)) || true
    noise 02 $((heavy_bytes - 3 * part))
  } >"$out"
}

noise() {
  head -c "$2" /dev/zero | openssl enc -aes-128-ctr -nosalt -K "${1}0102030405060708090a0b0c0d0e0f" \
    -iv 00000000000000000000000000000000
}

choose
download
v1=$cache/v1 v2=$cache/v2
mkdir -p "$v1/images" "$v1/heavy" "$v2/images" "$v2/heavy"
place "$v1" same old
place "$v2" same new
count=$(find "$v1/pool" -name '*.deb' | wc -l)
changed=$(comm -13 <(cd "$v1" && find pool -name '*.deb' | sort) <(cd "$v2" && find pool -name '*.deb' | sort) | wc -l)
if ((count < least || changed < new_wanted / 2)); then
  tail -20 "$cache/download.log" >&2
  echo "make-archive: only $count packages and $changed newer ones came, want $least and $((new_wanted / 2))" >&2
  exit 1
fi
for tree in "$v1" "$v2"; do
  indexes "$tree"
  image "$tree" "$tree/images/swarm-amd64.iso"
done
heavy "$v1/heavy/disk.img"
# The second state of the heavy file has a thousand bytes more in its middle: content-defined chunks must find the rest.
{
  head -c $((heavy_bytes / 3)) "$v1/heavy/disk.img"
  noise 03 1000
  tail -c +$((heavy_bytes / 3 + 1)) "$v1/heavy/disk.img"
} >"$v2/heavy/disk.img"
rm -f "$cache/all.tsv" "$cache/twice.tsv"

printf 'archive: %d packages, %d replaced in v2, ISO %d MiB, heavy file %d MiB, v1 %d MiB in %d files\n' \
  "$count" "$changed" "$(($(stat -c %s "$v1/images/swarm-amd64.iso") >> 20))" "$((heavy_bytes >> 20))" \
  "$(du -sm "$v1" | cut -f1)" "$(find "$v1" -type f | wc -l)" | tee "$cache/making"
mv "$cache/making" "$cache/$made"

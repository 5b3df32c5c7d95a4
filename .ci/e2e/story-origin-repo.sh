#!/usr/bin/env bash
# A master follows apt archives of reprepro and of aptly and an rpm repository of createrepo_c, in each of its forms, by their signed metadata. A poll without a change is one
# request; what the indexes name is there before they are; what they name and the server lacks, or has otherwise, is not
# published; a server that is killed amid the packages costs nothing that has come. apt and dnf work with a mirror's gateway.
# shellcheck disable=SC2154,SC2034 # what origins.sh sets and uses
set -eu
# shellcheck source=.ci/e2e/lib.sh
source "$(dirname "$0")/lib.sh"
story story-origin-repo
unset http_proxy https_proxy ftp_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY no_proxy
for part in origins origins-http origins-repo packages-tree packages-apt packages-rpm; do
  # shellcheck disable=SC1090 # each is checked by itself
  source "$here/$part.sh"
done

# follow NAME URL: a master of it, and a mirror with a gateway; sets base to the collection there.
follow() {
  local n=$1 url=$2
  free_port; master_port=$port
  free_port; mirror_port=$port
  free_port; gateway_port=$port
  mark_http
  start_time=$(seconds) bytes=$(from_origin)
  origin_master "$n" "$url" --keyring "$work/story.gpg"
  wait_published "$n" 60
  told "$n" first http "$start_time" "$bytes"
  join "$n-mirror" "$work/$n-mirror" "$mirror_port" "$address" --collection "$id" --gateway "127.0.0.1:$gateway_port" \
    --gateway-url "http://127.0.0.1:$gateway_port/" --allow-private
  base=http://127.0.0.1:$gateway_port/$n
  at_mirror "$n"
}
at_mirror() { until_true 60 "the mirror of $1 complete with release $release" complete "$work/$1-mirror" "$id" "$release"; }

# look NAME WHAT: makes it look again, and tells what that took.
look() {
  mark_http
  start_time=$(seconds) bytes=$(from_origin)
  again "$1"
  told "$1" "$2" http "$start_time" "$bytes"
}

# refused NAME WHAT: the last look published nothing, and the release before is what is served.
refused() {
  check "$1: $2 is not published" test "$status" != 0
  head -c 300 "$work/logs/again.err"
  echo
  check "$1: the release before it stays" test "$(of "$work/$1-home" "$id" release)" = "$release"
}

# served_right DIR OUT: what the mirror serves is the repository's, file for file.
served_right() {
  local f
  rm -rf "$2" "$work/get-served"
  got served "$id" "$2" "$(address_of "$work/$3-mirror")" 60 || return 1
  find "$2" -type f -printf '%P\0' | while IFS= read -r -d '' f; do
    case $f in */by-hash/*) continue ;; esac # the master makes these
    cmp "$1/$f" "$2/$f" || return 1
  done
}

# killed NAME URL SAME|NEXT [CHANGED]: the server, which has new packages, is killed when half of them have come, and comes back: while the SAME run still tries, or
# when that has failed, so that it is the NEXT one that goes on, with what CHANGED has made of the repository meanwhile. Nothing that was there is asked for again.
killed() {
  local n=$1 how=$3 all=$((tale_count * tale_bytes)) bytes at start_time away
  stop TERM "$n"
  mark_http
  bytes=$(from_origin)
  origin_master "$n" "$2" --keyring "$work/story.gpg" --rate 100Mbit
  until_true 120 "half of the new packages have come" come $((bytes + all / 2))
  away=$(seconds)
  far_kill
  at=$(wc -l <"$origin_log")
  check "$n: the release is not there yet" not published_above "$n" "$release"
  if [[ $how == next ]]; then
    until_true 120 "$n: the run has failed" failed "$n"
    check "$n: without the server the mirror serves the release before, whole" whole_at "$base" "$n"
    "$4"
  fi
  start_time=$(seconds)
  serve_http nginx "$work/site"
  away=$(since "$away")
  [[ $how == same ]] || again "$n"
  check "$n: the release comes" follows "$n" $((release + 1))
  release=$((release + 1))
  if [[ $how == next ]] || at_most "$away" 3; then
    check "$n: it is of the $how run" by_the "$how" "$n"
  else
    step "$n: the server was away for $away s, for which no run waits for sure"
  fi
  step "figure: $n: killed in the middle, $(since "$start_time") s after the server was back published; $(mib $(($(from_origin) - bytes - all))) more than the packages came"
  packages_asked "$((marked + 1))" "$at" 200 >"$work/had"
  packages_asked "$((at + 1))" '$' '[0-9]*' >"$work/had-not"
  check "$n: $(wc -l <"$work/had") packages were there, $(wc -l <"$work/had-not") were not" test -s "$work/had" -a -s "$work/had-not"
  check "$n: none that was there was asked for again" test -z "$(comm -12 "$work/had" "$work/had-not")"
  check "$n: those in the middle went on where they were cut" at_most $(($(from_origin) - bytes)) $((all * 115 / 100 + (8 << 20)))
  at_mirror "$n"
  check "$n: the release is whole" whole_at "$base" "$n"
}
failed() { of "$work/$1-home" "$id" origin.error; }
by_the() {
  local failures
  failures=$(of "$work/$2-home" "$id" origin.failures)
  echo "$failures failures"
  if [[ $1 == same ]]; then ((failures == 0)); else ((failures > 0)); fi
}

# packages_asked FROM TO STATUS: which packages these lines of the log are about.
packages_asked() { sed -n "$1,$2p" "$origin_log" | { grep -E "\"GET [^ ]*\.(deb|rpm) [^\"]*\" $3 " || true; } | cut -d' ' -f7 | LC_ALL=C sort -u; }

# whole_at BASE NAME: there is every package that the index there names, and the server has or had it with these bytes.
whole_at() {
  local f
  "index_$2" "$1" >"$work/index" || return 1
  [[ -s $work/index ]] || return 1
  rm -rf "$work/whole"
  awk -v base="$1" -v out="$work/whole" '{ print "url = \"" base "/" $0 "\"\noutput = \"" out "/" $0 "\"" }' "$work/index" >"$work/curl.conf"
  curl -sSf --create-dirs -K "$work/curl.conf" || return 1
  while read -r f; do cmp "$work/whole/$f" "$work/site/$2/$f" || return 1; done <"$work/index"
  echo "$(wc -l <"$work/index") packages"
}
index_debian() { curl -sSf "$1/dists/story/main/binary-amd64/Packages" | awk '/^Filename: / { print $2 }'; }
index_rpm() {
  local primary
  primary=$(curl -sSf "$1/repodata/repomd.xml" | grep -o 'href="[^"]*primary\.xml\.gz"' | cut -d'"' -f2) || return 1
  curl -sSf "$1/$primary" | gzip -dc | grep -o '<location href="[^"]*"' | cut -d'"' -f2
}

named() { awk '/^Filename: / { print $2 }' "$1"/dists/story/main/binary-amd64/Packages; }
all_named() { local f; for f in $(named "$1"); do [[ -e $2/$f ]] || { echo "no $f"; return 1; }; done; }

apt_part() {
  local d=$work/site/debian big apt_url="apt+${origin_url}debian?suite=story&component=main&arch=amd64"
  follow debian "$apt_url"
  look debian unchanged
  check "debian: no new release" again_says ".release == $release"
  check "debian: a poll without a change is one request: $requests" at_most "$requests" 1
  apt_root first "$base" story
  check "apt update at the mirror's gateway" apt_in first update
  check "apt installs a package from there" apt_in first install story
  check "dpkg unpacked it" test -s "$work/apt-first/usr/share/story/noise"
  upload "$d" 2
  look debian changed
  check "debian: the upload is published" follows debian $((release + 1))
  release=$((release + 1))
  check "debian: one package and the indexes were fetched: $files files" at_most "$files" 8
  at_mirror debian
  check "apt update after it" apt_in first update
  check "apt upgrades" apt_in first install story
  check "to the new one" grep -q '^Version: 1.2' "$work/apt-first/var/lib/dpkg/status"
  # The index names a package that the server has not: somebody copies an archive in the wrong order.
  upload "$d" 3
  big=$d/$(named "$d" | grep story)
  mv "$big" "$work/away.deb"
  look debian "incomplete"
  refused debian "an index that names what is not there"
  # As long, and not what the index says.
  head -c "$(stat -c %s "$work/away.deb")" /dev/urandom >"$big"
  look debian "forged"
  refused debian "a package that is not what the index says"
  mv "$work/away.deb" "$big"
  look debian "mended"
  check "debian: mended, it is published" follows debian $((release + 1))
  release=$((release + 1))
  at_mirror debian
  check "the mirror has the archive file for file" served_right "$d" "$work/served-debian" debian
  check "every package that the index names is there" all_named "$d" "$work/served-debian"
  tales "$d"
  killed debian "$apt_url" same
  check "debian: status says when the Release file was made" made_at debian "$(sed -n 's/^Date: //p' "$d/dists/story/Release")"
  strange_key
}

# strange_key: an archive signed by somebody else.
strange_key() {
  (
    export GNUPGHOME=$work/strange
    mkdir -m 700 "$GNUPGHOME"
    gpg --batch --quiet --passphrase '' --quick-generate-key "Other <other@example.org>" ed25519 sign never
    gpg --batch --export >"$work/other.gpg"
  ) 2>>"$work/logs/tree.err"
  free_port
  run strange 30 "$SWARMNODE" publish --from "apt+${origin_url}debian?suite=story" --name strange --from-private --keyring "$work/other.gpg" --home "$work/strange-home" \
    --listen "/ip4/127.0.0.1/tcp/$port" --gateway none
  check "an archive signed by another key is refused" test "$status" = 1
  check "and the error says that it is the signature" says strange 'sign|key'
}

aptly_part() {
  local d=$work/site/aptly
  aptly_repository "$d"
  follow aptly "apt+${origin_url}aptly/public?suite=story"
  look aptly unchanged
  check "aptly: a poll without a change is one request: $requests" at_most "$requests" 1
  apt_root aptly "$base" story
  check "apt update at the mirror's gateway, of aptly's archive" apt_in aptly update
  check "apt installs a package from there" apt_in aptly install story
  aptly_upload "$d" 2
  look aptly changed
  check "aptly: the upload is published" follows aptly $((release + 1))
  release=$((release + 1))
  at_mirror aptly
  check "the mirror has aptly's archive file for file" served_right "$d/public" "$work/served-aptly" aptly
  check "with its names by hash" test -n "$(find "$work/served-aptly" -path '*/by-hash/SHA256/*' -type f)"
  check "apt update after it" apt_in aptly update
  check "apt upgrades" apt_in aptly install story
  check "to the new one" grep -q '^Version: 1.2' "$work/apt-aptly/var/lib/dpkg/status"
}

# rpm_forms DIR: the same packages, with metadata in other forms.
rpm_forms() {
  local d=$1 f
  for f in xz bz2 zst zck; do
    rpm_form "$d" "$f"
    [[ $f != zck ]] || forged_zchunk "$d"
    look rpm "$f"
    check "rpm, $f: the new metadata is published" follows rpm $((release + 1))
    [[ $f == bz2 ]] || # with other hashes all have to be read for them
      check "rpm, $f: no package is fetched again" not grep -q '"GET [^ ]*\.rpm ' <(tail -n "+$((marked + 1))" "$origin_log")
    release=$((release + 1))
    at_mirror rpm
    check "rpm, $f: the mirror has the repository file for file" served_right "$d" "$work/served-rpm" rpm
    check "rpm, $f: dnf installs from it at the gateway" dnf_in "$f" "baseurl=$base/" install story
    [[ $f == xz ]] || continue
    check "dnf finds the group" dnf_tells Tales group list
    check "dnf finds the advisory" dnf_tells STORY-2026-1 updateinfo list --all
    check "dnf finds the module" dnf_tells tales module list
  done
}
# forged_zchunk DIR: a file that we have no use for and carry along is what repomd.xml says, too.
forged_zchunk() {
  local f
  f=$(find "$1/repodata" -name '*primary.xml.zck')
  mv "$f" "$work/away.zck"
  head -c "$(stat -c %s "$work/away.zck")" /dev/urandom >"$f"
  look rpm "forged"
  refused rpm "a zchunk file that is not what repomd.xml says"
  mv "$work/away.zck" "$f"
}

# takes_zchunk REPODATA: zckdl, which asks for what differs by ranges of bytes, gets each zchunk file of the mirror's gateway from what it has of another.
takes_zchunk() {
  local f count=0
  mkdir -p "$work/zchunk"
  for f in "$1"/*.zck; do
    (cd "$work/zchunk" && zckdl --fail-no-ranges -s "$work/old.zck" "$base/repodata/${f##*/}") && cmp "$work/zchunk/${f##*/}" "$f" || return 1
    count=$((count + 1))
  done
  ((count == 3))
}
dnf_tells() { dnf_in xz "baseurl=$base/" "${@:2}" | grep "$1"; }

rpm_part() {
  local d=$work/site/rpm
  follow rpm "rpm+${origin_url}rpm/"
  look rpm unchanged
  check "rpm: no new release" again_says ".release == $release"
  check "rpm: a poll without a change is one or two requests: $requests" at_most "$requests" 2
  check "dnf makes its cache from the mirror's gateway" dnf_in origin "baseurl=$base/" makecache
  check "dnf installs a package" dnf_in origin "baseurl=$base/" install story
  check "rpm finds it right" installed "$work/dnf-origin" story 1
  rpms "$d" 2
  chmod -R a+rX "$d"
  look rpm changed
  check "rpm: the new packages are published" follows rpm $((release + 1))
  release=$((release + 1))
  at_mirror rpm
  check "dnf upgrades" dnf_in origin "baseurl=$base/" --refresh upgrade
  check "rpm finds the new one" installed "$work/dnf-origin" story 2
  check "the mirror has the repository file for file" served_right "$d" "$work/served-rpm" rpm
  rpm_forms "$d"
  cp "$(find "$d/repodata" -name '*primary.xml.zck')" "$work/old.zck"
  rpm_tales "$d"
  rpm_form "$d" zck
  killed rpm "rpm+${origin_url}rpm/" next late_rpm
  check "a client of zchunk works with the mirror's gateway" takes_zchunk "$d/repodata"
  check "rpm: status says when the metadata were made" made_at rpm "@$(grep -o '<timestamp>[0-9]*' "$d/repodata/repomd.xml" | cut -d'>' -f2 | sort -n | tail -1)"
  frozen_repository "$d"
}
late_rpm() {
  rpm_many "$work/site/rpm" late 1 1 300000
  rpm_form "$work/site/rpm" zck
}
made_at() { test "$(date -d "$(of "$work/$1-home" "$id" origin.metadata_made)" +%s)" = "$(date -d "$2" +%s)"; }

# frozen_repository DIR: one that nobody has touched since 2023, with a good signature.
frozen_repository() {
  local f=$work/site/frozen
  cp -r "$1" "$f"
  sed -i 's|<timestamp>[0-9]*|<timestamp>1700000000|' "$f/repodata/repomd.xml"
  signed "$f/repodata/repomd.xml" --armor -o "$f/repodata/repomd.xml.asc"
  chmod -R a+rX "$f"
  free_port
  run frozen 30 "$SWARMNODE" publish --from "rpm+${origin_url}frozen/?max-age=14d" --from-private --keyring "$work/story.gpg" --home "$work/frozen-home" \
    --listen "/ip4/127.0.0.1/tcp/$port" --gateway none
  check "rpm: a repository that is as it was years ago is refused with max-age=14d" test "$status" = 1
  check "and the error says how old it is" says frozen 'is of 2023-11-14 .*d ago'
}

archive
make_key
far_up
mkdir -p "$work/site"
apt_repository "$work/site/debian"
mkdir -p "$work/site/rpm"
rpms "$work/site/rpm" 1
chmod -R a+rX "$work/site"
step "an archive of $(named "$work/site/debian" | wc -l) packages, $(mib "$(tree_bytes "$work/site/debian/pool")")"
serve_http nginx "$work/site"
parts=${ORIGINS:-reprepro aptly rpm}
if [[ $parts == *reprepro* ]]; then apt_part; fi
if [[ $parts == *aptly* ]]; then aptly_part; fi
if [[ $parts == *rpm* ]]; then rpm_part; fi
for n in debian aptly rpm; do
  [[ -z ${pid[$n]:-} ]] || check "$n: no stack trace" no_trace "$n"
done
finish

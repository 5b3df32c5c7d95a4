#!/usr/bin/env bash
# A master follows apt archives of reprepro and of aptly and an rpm repository of createrepo_c, in each of its forms, by their signed metadata. A poll without a change is one
# request; what the indexes name is there before they are; what they name and the server lacks, or has otherwise, is not
# published. It ends with apt and dnf at a mirror's gateway.
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

named() { awk '/^Filename: / { print $2 }' "$1"/dists/story/main/binary-amd64/Packages; }
all_named() { local f; for f in $(named "$1"); do [[ -e $2/$f ]] || { echo "no $f"; return 1; }; done; }

apt_part() {
  local d=$work/site/debian big
  follow debian "apt+${origin_url}debian?suite=story&component=main&arch=amd64"
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
  for f in xz bz2 zst; do
    rpm_form "$d" "$f"
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

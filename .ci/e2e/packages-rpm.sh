# shellcheck shell=bash disable=SC2154
# dnf and zypper, with metadata of createrepo_c.

# dnf_in ROOT SOURCE COMMAND...: dnf in a root of its own; SOURCE is baseurl=… or metalink=….
dnf_in() {
  local r=$work/dnf-$1 source=$2
  shift 2
  mkdir -p "$r"
  printf '[main]\ninstallroot=%s\nreposdir=%s/none\npluginpath=%s/none\ncachedir=%s/cache\nlogdir=%s\nassumeyes=1\nkeepcache=1\nretries=2\ntimeout=20\n[story]\nname=story\nenabled=1\ngpgcheck=0\nrepo_gpgcheck=1\ngpgkey=file://%s\n%s\n' \
    "$r" "$r" "$r" "$r" "$r" "$work/story.asc" "$source" >"$r.conf"
  timeout 120 dnf -c "$r.conf" --installroot "$r" --releasever 1 --forcearch x86_64 "$@"
}

# installed ROOT PACKAGE VERSION: rpm says so, and the files are as packed.
installed() { [[ $(rpm --root "$1" -q --qf '%{VERSION}' "$2") == "$3" ]] && rpm --root "$1" -V "$2"; }
cached_right() { # cached_right DIR PACKAGE TREE: the package that the client kept is the tree's
  local f
  f=$(find "$1" -name "$2-*.rpm" | head -1)
  [[ -n $f ]] && cmp "$f" "$3/packages/${f##*/}"
}

dnf_story() {
  mark
  check "dnf makecache from a baseurl" dnf_in base "baseurl=$base/" makecache
  check "dnf install" dnf_in base "baseurl=$base/" install story big
  check "rpm finds what dnf installed right" installed "$work/dnf-base" big 1
  check "the package that dnf got is the tree's" cached_right "$work/dnf-base" big "$work/tree"
  check "dnf's requests were answered" no_errors
  dnf_resume
  if gateway_only; then
    mark
    check "the metalink is one that librepo takes" metalink_right
    check "dnf install from a metalink" dnf_in link "metalink=$base/repodata/repomd.xml.metalink" install story big
    check "rpm finds that right" installed "$work/dnf-link" big 1
    check "it asked for the metalink" asked 'repomd.xml.metalink' '" 200 '
    check "dnf install from a mirror list" dnf_in list "mirrorlist=$base/?mirrorlist" install story
    check "rpm finds that right, too" installed "$work/dnf-list" story 1
  fi
}

metalink_right() {
  local sum
  sum=$(sha256sum <"$work/tree/repodata/repomd.xml" | cut -d' ' -f1)
  curl -sSf "$base/repodata/repomd.xml.metalink" >"$work/metalink"
  cat "$work/metalink"
  grep -q "$sum" "$work/metalink" && grep -q 'mm0:timestamp' "$work/metalink" &&
    grep -q "<size>$(stat -c %s "$work/tree/repodata/repomd.xml")</size>" "$work/metalink"
}

# dnf_resume: the first server dies in the middle of a package. librepo throws a package's part away and takes all of it from the next.
dnf_resume() {
  rm -f "$(find "$work/dnf-base" -name 'big-1.rpm' | head -1)"
  dying_server
  mark
  check "dnf goes on at the second server when the first dies" dnf_in base "baseurl=$dying/ $base2/" reinstall big
  check "it asked the second for the package" asked 'big-1.rpm' '" 20[06] ' "^m2 "
  check "the whole is right" cached_right "$work/dnf-base" big "$work/tree"
  stop TERM relay
}

dnf_second() {
  local f
  mark
  if gateway_only; then
    # The metadata of the first release is in the cache and taken for new: its package is gone from the tree and stays for grace.
    rm -f "$(find "$work/dnf-link" -name 'big-1.rpm' | head -1)"
    check "dnf with old metadata still gets an old package" dnf_in link "metalink=$base/repodata/repomd.xml.metalink" --setopt=metadata_expire=-1 reinstall big
    for f in "$work"/old/repodata/*-*.xml.gz; do
      check "old ${f##*-} stays" same_bytes "$base/repodata/${f##*/}" "$f"
    done
    check "dnf upgrade from a metalink" dnf_in link "metalink=$base/repodata/repomd.xml.metalink" --refresh upgrade
    check "rpm finds the new one" installed "$work/dnf-link" big 2
    check "the metalink has the hash before this one as an alternate" alternate_right
  fi
  check "dnf upgrade from a baseurl" dnf_in base "baseurl=$base/" --refresh upgrade
  check "rpm finds the new one there" installed "$work/dnf-base" big 2
}

alternate_right() {
  curl -sSf "$base/repodata/repomd.xml.metalink" | sed -n '/mm0:alternates/,/\/mm0:alternates/p' | tee "$work/alternates"
  grep -q "$(sha256sum <"$work/old/repodata/repomd.xml" | cut -d' ' -f1)" "$work/alternates"
}

zypp() { timeout 120 zypper --root "$work/zypper" --non-interactive --no-gpg-checks --gpg-auto-import-keys "$@"; }

zypper_story() {
  mkdir -p "$work/zypper"
  rpm --root "$work/zypper" --initdb
  mark
  check "zypper addrepo" zypp addrepo --refresh --keep-packages "$base/" story
  check "zypper refresh" zypp refresh
  check "zypper install" zypp install --no-recommends story big
  check "rpm finds what zypper installed right" installed "$work/zypper" big 1
  check "the package that zypper got is the tree's" cached_right "$work/zypper" big "$work/tree"
  check "zypper's requests were answered" no_errors
  gateway_only || return 0
  printf '[listed]\nname=listed\nenabled=1\nautorefresh=1\ntype=rpm-md\nmirrorlist=%s/?mirrorlist\n' "$base" >"$work/zypper/etc/zypp/repos.d/listed.repo"
  check "zypper refresh with a mirror list" zypp refresh listed
  check "zypper takes a package from it" zypp install --from listed --force story
  rm -f "$work/zypper/etc/zypp/repos.d/listed.repo"
}

zypper_second() {
  mark
  check "zypper refresh and update" zypp_update
  check "rpm finds the new one of zypper" installed "$work/zypper" big 2
  check "zypper's requests were answered after the change" no_errors
}
zypp_update() { zypp refresh && zypp update; }

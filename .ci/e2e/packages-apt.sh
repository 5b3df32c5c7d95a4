# shellcheck shell=bash disable=SC2154,SC2034
# apt in private roots, and apt-mirror.

# apt_root NAME URI SUITE...: a root of its own, with the suites of the archive there.
apt_root() {
  local r=$work/apt-$1 uri=$2 s
  shift 2
  rm -rf "$r"
  mkdir -p "$r"/etc/apt/{sources.list.d,preferences.d,apt.conf.d,trusted.gpg.d,auth.conf.d} "$r"/var/lib/apt/lists/partial \
    "$r"/var/lib/dpkg/{updates,info} "$r"/var/cache/apt/archives/partial "$r/var/log/apt" "$r/down"
  : >"$r/var/lib/dpkg/status"
  : >"$r/var/lib/dpkg/available"
  for s in "$@"; do echo "deb [signed-by=$work/story.gpg arch=amd64] $uri $s main"; done >"$r/etc/apt/sources.list"
  cat >"$r/apt.conf" <<CONF
Dir "$r";
Dir::State::status "$r/var/lib/dpkg/status";
Dir::Bin::methods "/usr/lib/apt/methods";
Dir::Bin::dpkg "/usr/bin/dpkg";
Dir::Bin::apt-key "/usr/bin/apt-key";
Dir::Bin::gpg "/usr/bin/gpgv";
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Sandbox::User "root";
APT::Install-Recommends "false";
Acquire::Languages "none";
Acquire::Retries "0";
DPkg::Options { "--root=$r"; "--force-not-root"; "--log=$r/var/log/dpkg.log"; };
CONF
}

# apt_in NAME COMMAND...: apt-get in that root; all its words go to logs/apt-NAME. Its warnings count as failures: apt's "W:"
# is how it says that it went on with something old.
apt_in() {
  local r=$work/apt-$1 log=$work/logs/apt-$1 result=0
  shift
  (cd "$r/down" && APT_CONFIG=$r/apt.conf timeout 120 apt-get -q -y "$@") >"$log" 2>&1 || result=$?
  if grep -Eq '^(W: |E: |Err:[0-9])' "$log"; then
    grep -E '^(W: |E: |Err:[0-9])' "$log"
    result=100
  fi
  return "$result"
}

# names_of TREE COUNT: about that many names of packages, evenly spread.
names_of() { awk -F': ' '/^Package: / { print $2 }' "$1/dists/bare/main/binary-amd64/Packages" | LC_ALL=C sort -u | awk -v n="$2" '(NR - 1) % int(300 / n) == 0'; }

# pool_equal DIR: every package that apt left there is, byte for byte, in the pool; at least COUNT of them.
pool_equal() {
  local f found count=0
  for f in "$1"/*.deb; do
    found=$(find "$work/tree/pool" -name '*.deb' -size "$(stat -c %s "$f")c" -exec cmp -s "$f" {} \; -print -quit)
    [[ -n $found ]] || { echo "$f is not in the pool"; return 1; }
    count=$((count + 1))
  done
  echo "$count packages"
  ((count >= $2))
}

lists_equal() { # lists_equal NAME SUITE: what apt took is the tree's index
  local list
  list=$(find "$work/apt-$1/var/lib/apt/lists" -name "*_dists_$2_main_binary-amd64_Packages*" | head -1)
  [[ -n $list ]] && /usr/lib/apt/apt-helper cat-file "$list" | cmp - "$work/tree/dists/$2/main/binary-amd64/Packages"
}

apt_story() {
  local s d h want
  for s in folders bare names; do
    mark
    apt_root "$s" "$base" "$s"
    check "apt update, suite $s" apt_in "$s" update
    check "apt's list of suite $s is the tree's" lists_equal "$s" "$s"
    check "apt update again, suite $s: nothing new" apt_in "$s" update
    check "apt knows it by If-Modified-Since" asked '/InRelease HTTP' '" 304 '
    check "no request of apt failed" no_errors
    [[ $s != folders ]] || check "apt took by-hash from the folders" asked '/by-hash/SHA512/' '" 200 '
    if [[ $s == bare ]] && gateway_only; then
      check "apt took by-hash where the tree has none" asked '/by-hash/' '" 200 '
      check "no 404 there" not asked '/by-hash/' '" 404 '
    fi
  done
  d=dists/bare/main/binary-amd64
  if gateway_only; then
    for h in SHA256:sha256sum MD5Sum:md5sum; do
      want=$("${h#*:}" <"$work/tree/$d/Packages.xz" | cut -d' ' -f1)
      check "by-hash of ${h%:*} where the tree has none" same_bytes "$base/$d/by-hash/${h%:*}/$want" "$work/tree/$d/Packages.xz"
    done
    h=$(sha512sum <"$work/tree/dists/folders/main/binary-amd64/Packages" | cut -d' ' -f1)
    check "by-hash of SHA512 at the second gateway" same_bytes "$base2/dists/folders/main/binary-amd64/by-hash/SHA512/$h" "$work/tree/$d/Packages"
  fi
  # What a by-hash of nothing is asked for is not there; nobody invents it.
  check "a hash that nothing has is 404" status_is 404 "$base/$d/by-hash/SHA256/$(printf '%064d' 0)"

  mark
  # shellcheck disable=SC2046 # one word a package
  check "apt download of 60 packages" apt_in bare -o Debug::Acquire::http=1 download story $(names_of "$work/tree" 60)
  check "they are those of the pool" pool_equal "$work/apt-bare/down" 50
  check "apt pipelined its requests" pipelined "$work/logs/apt-bare"
  check "names with encoded characters are found" asked 'story%2[bB]ci/story_1.1%2[bB]b(~|%7[eE])1_all.deb' '" 200 '
  check "no request of apt failed in the download" no_errors
  check "apt install into the root" apt_in bare install story
  check "dpkg unpacked it there" test -s "$work/apt-bare/usr/share/story/noise"
  apt_resume
  apt_mirrorlist
  apt_mirror_tool
}

# pipelined LOG: apt wrote two requests or more before it had the answer of the first.
pipelined() { awk '/^GET / { if (++n > most) most = n } /^Answer for:/ { n-- } END { print most; exit !(most >= 2) }' "$1"; }
same_bytes() { curl -sSf "$1" | cmp - "$2"; }
status_is() { curl -s -o /dev/null -w '%{http_code}\n' "$2" | grep -x "$1"; }

# apt_resume: the first part of a package is here, as an interrupted apt leaves it; apt asks for the rest with If-Range and a date.
apt_resume() {
  local r=$work/apt-folders file
  file=$(find "$work/tree/pool" -name 'story_*.deb')
  head -c 100000 "$file" >"$r/var/cache/apt/archives/partial/${file##*/}"
  touch -r "$file" "$r/var/cache/apt/archives/partial/${file##*/}"
  mark
  check "apt goes on with a part of a package" apt_in folders install --download-only story
  check "the whole is right" cmp "$r/var/cache/apt/archives/${file##*/}" "$file"
  check "it got a 206" asked '/story_' '" 206 '
}

# apt_mirrorlist: apt's mirror+http method takes the servers from a list that the gateway makes.
apt_mirrorlist() {
  local list=${base%/archive}/-/archive/mirrorlist
  if ! gateway_only; then
    mkdir -p "$work/site/-/archive"
    printf '%s/\tpriority:1\n%s/\tpriority:2\n' "$base" "$base2" >"$work/site/-/archive/mirrorlist"
  fi
  check "the mirror list is apt's" mirrorlist_right "$list"
  apt_root list "mirror+$list" bare
  mark
  check "apt update through mirror+http" apt_in list update
  check "its list is the tree's" lists_equal list bare
  check "apt download through mirror+http" apt_in list download story
  check "that package is right" pool_equal "$work/apt-list/down" 1
}

# mirrorlist_right URL: two lines of address, tab, priority, the server that was asked first.
mirrorlist_right() {
  curl -sSf "$1" | tee "$work/mirrorlist"
  [[ $(wc -l <"$work/mirrorlist") == 2 ]] && head -1 "$work/mirrorlist" | grep -F "$base/" >/dev/null &&
    not grep -Evq $'^https?://[^\t ]+/\tpriority:[0-9]+$' "$work/mirrorlist"
}

# apt_mirror_tool: the program apt-mirror, which mirrors by wget what the indexes name.
apt_mirror_tool() {
  local r=$work/apt-mirror host=${base#http://} d
  host=${host%%/*}
  # It looks for what wget has left in a directory without the port.
  for d in skel mirror; do mkdir -p "$r/$d/$host" && ln -s "$host" "$r/$d/${host%:*}"; done
  printf 'set base_path %s\nset nthreads 4\nset _tilde 0\nset run_postmirror 0\nset defaultarch amd64\ndeb %s bare main\n' "$r" "$base" >"$r/list"
  mark
  check "apt-mirror mirrors the archive" timeout 200 apt-mirror "$r/list"
  d=$r/mirror/$host/archive
  check "its pool is ours" diff -r "$work/tree/pool" "$d/pool"
  check "its InRelease is ours" cmp "$work/tree/dists/bare/InRelease" "$d/dists/bare/InRelease"
  check "no request of it failed" no_errors
}

apt_second() {
  local s f d=dists/bare/main/binary-amd64
  mark
  for s in folders bare names; do
    check "apt update after the change, suite $s" apt_in "$s" update
    check "its list is the new tree's" lists_equal "$s" "$s"
  done
  rm -f "$work"/apt-bare/down/*.deb
  check "apt upgrades what is installed" apt_in bare install story
  check "it is the new one" grep -q '^Version: 1.2' "$work/apt-bare/var/lib/dpkg/status"
  gateway_only || return 0
  # list still has the lists of the first release: the packages that it names are gone from the tree and stay for grace.
  rm -f "$work"/apt-list/down/*
  mark
  check "apt with old lists still gets an old package" apt_in list download story
  f=$(find "$work/apt-list/down" -name 'story_*.deb')
  check "it is the old one" test "$(dpkg-deb -f "$f" Version)" = "1.1+b~1"
  for f in InRelease Release Packages.xz; do # mutable names are those of one release only
    if [[ $f == Packages.xz ]]; then f=main/binary-amd64/$f; fi
    check "$f is the new one at both gateways" same_at_both "dists/bare/$f"
  done
  one_connection
}

# one_connection: the requests of one connection see one release, also those after a change. curl asks every three seconds: for the
# signed list first, then again and again for the index that it names.
one_connection() {
  local d=dists/names/main/binary-amd64/Packages.xz before n sum
  before=$(served)
  curl -sS --rate 20/m -o "$work/one-InRelease" "$base/dists/names/InRelease" -o "$work/one-1" "$base/$d" -o "$work/one-2" "$base/$d" -o "$work/one-3" "$base/$d" \
    -o "$work/one-4" "$base/$d" -o "$work/one-5" "$base/$d" -w '%{num_connects}\n' >"$work/logs/one.out" 2>"$work/logs/one.err" &
  pid[one]=$!
  until_true 10 "curl has its first answer" test -s "$work/one-InRelease"
  change another
  check "the release changed while the connection lasts" test "$(served)" -gt "$before" -a ! -e "$work/one-5"
  reap one
  check "curl used one connection" test "$(xargs <"$work/logs/one.out")" = "1 0 0 0 0 0"
  for n in {1..5}; do
    sum=$(sha256sum <"$work/one-$n" | cut -d' ' -f1)
    check "index $n is the one that the signed list of its connection names" grep -q "^ $sum .*/Packages.xz$" "$work/one-InRelease"
  done
  check "a new connection sees the new release" same_bytes "$base/$d" "$work/tree/$d"
}

another() { story_deb "$work/tree" 9 && suite "$work/tree" names no no SHA256; }

same_at_both() { same_bytes "$base/$1" "$work/tree/$1" && same_bytes "$base2/$1" "$work/tree/$1"; }

# apt_switch: ten releases while apt updates all the time, on a machine that takes two seconds to check a signature, so that releases
# change between the signed list and the indexes that it names. Each update must end well, and the package that the indexes name
# must be had afterwards, although it may be gone from the tree. (With Acquire::http::Dl-Limit apt takes a connection for each
# file, and only by-hash protects it.)
apt_switch() {
  local s n=0 before seen updates=0 split=0 failures=$work/logs/switch
  : >"$failures"
  printf '#!/bin/sh\nsleep 2\nexec /usr/bin/gpgv "$@"\n' >"$work/slow-gpgv"
  chmod 755 "$work/slow-gpgv"
  mark
  switching &
  pid[switching]=$!
  until [[ -e $work/switched ]]; do
    for s in bare folders names; do
      apt_root "$s-switch" "$base" "$s"
      before=$(served)
      apt_in "$s-switch" -o APT::Key::gpgvcommand="$work/slow-gpgv" update >>"$failures" 2>&1 || echo "update $n of $s failed" >>"$failures"
      updates=$((updates + 1))
      [[ $(served) == "$before" ]] || split=$((split + 1))
      apt_in "$s-switch" download story >>"$failures" 2>&1 || echo "download $n of $s failed" >>"$failures"
      find "$work/apt-$s-switch/down" -name 'story_*.deb' -printf '%f\n' >>"$work/logs/versions"
    done
    ((n++ < 100)) || die "ten releases take too long"
  done
  reap switching
  seen=$(LC_ALL=C sort -u "$work/logs/versions" | wc -l)
  step "figure: apt updated $updates times during 10 releases, $split times the release changed meanwhile; it saw $seen releases"
  check "never a failure of apt while the release changed" not grep . "$failures"
  check "the release changed in the middle of at least 3 updates" test "$split" -ge 3
  check "no request failed" no_errors
}

# switching publishes ten releases, each with another version of one package.
switching() {
  local n
  for n in {11..20}; do
    story_deb "$work/tree" "$n"
    suites "$work/tree"
    "$SWARMNODE" publish "$work/tree" --home "$work/master" --name archive --json >>"$work/logs/switching" 2>&1 || echo "publish of $n failed" >>"$work/logs/switch"
  done
  touch "$work/switched"
}
